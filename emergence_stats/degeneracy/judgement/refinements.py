"""What an estimate would be elsewhere, at half the localisation and at half the step.

What lives here: what follows from that, and the further chains that it takes. What does not: how
the change at half the localisation is had from chains (`localisation`).
"""

from __future__ import annotations

import math

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.localisation import change_from_curvature
from emergence_stats.degeneracy.judgement.outcome import Outcome
from emergence_stats.degeneracy.judgement.runs import (
    Plan,
    estimate_after_burnin,
    largest_finite_step,
    start_chains,
)
from emergence_stats.degeneracy.judgement.verdicts import (
    FEWEST_EFFECTIVE_DRAWS,
    Check,
    Finding,
)
from emergence_stats.degeneracy.progress import Progress

# Half the power with which the loss has to grow. On deep linear networks, chains that had found a
# more singular point were 9% low where it was 0.955, and others within 0.4% at 1.02.
QUADRATIC = 0.99
_BEYOND_DOUBT = 3.0  # standard errors
LARGEST_CHANGE = 0.05  # at half the localisation, as a share of the estimate
_TOLD_FROM_NONE = 2.0  # standard errors by which such a change is
_LARGEST_STEP_BIAS = 0.1  # as a share of the estimate


def tell_slow_growth(outcome: Outcome, chains: Chains) -> Outcome:
    """Told where the loss grows more slowly than a quadratic, beyond doubt.

    Chains of MALA do not tell, and count as if it did not.
    """
    seen, bound = chains.traces, 2.0 * QUADRATIC
    power = 2.0 * seen.homogeneity
    if not power < bound - 2.0 * _BEYOND_DOUBT * seen.homogeneity_error:
        return outcome
    return outcome.with_findings(Finding(Check.SLOW_GROWTH, power, bound, growth=power))


def judge_localisation(
    outcome: Outcome,
    plan: Plan,
    chains: Chains,
    *,
    given: bool,
    check: Check = Check.HALF_THE_LOCALISATION,
    curved: bool = True,
) -> Outcome:
    """The verdict where the estimate would be another at half the localisation.

    Where the localisation was given, what was asked for is the coefficient of that posterior, which
    may well be reliable: the verdict stands, and a reason says how far it depends on it. Where it
    was chosen here, it is no part of the question. The Hessian is asked where the draws are too few
    to tell, if `curved`.
    """
    change = outcome.numbers["change_if_localisation_halved"]
    error = outcome.numbers["change_if_localisation_halved_standard_error"]
    if not math.isfinite(change + error) or chains.tuning.posterior.localisation == 0.0:
        return outcome
    if outcome.estimate.effective_draws < FEWEST_EFFECTIVE_DRAWS:
        return outcome  # of which a covariance tells nothing
    bound = LARGEST_CHANGE * abs(outcome.llc)
    tells = bound / _TOLD_FROM_NONE
    if error > tells and curved:
        other = change_from_curvature(
            chains, batch_size=plan.batch_size, seed=plan.seed, error=tells
        )
        if other[1] < error:
            change, error = other
            outcome = outcome.with_numbers(
                change_if_localisation_halved=change,
                change_if_localisation_halved_standard_error=error,
                change_if_localisation_halved_from="curvature",
            )
    bound = max(bound, _TOLD_FROM_NONE * error, outcome.estimate.standard_error)
    outcome = outcome.with_numbers(localisation_matters=change > bound)
    if not change > bound:
        return outcome
    return outcome.with_findings(Finding(check, change, bound, error, decides=not given))


def judge_step(outcome: Outcome, plan: Plan, chains: Chains, progress: Progress) -> Outcome:
    """The same chains at half the step: what the correction of the step has left uncorrected.

    An error of first order in the step halves with it, so twice the difference is the error of the
    whole step. Longer chains of shorter steps cover the same time.
    """
    shorter = chains.tuning._replace(step_size=0.5 * chains.step_size)
    half = start_chains(shorter, plan._replace(num_draws=2 * plan.num_draws))
    half.run(2 * chains.num_draws, num_burnin=2 * (plan.num_burnin or 0), progress=progress)
    half.release()
    first, second = (estimate_after_burnin(plan, one)[0] for one in (chains, half))
    bias = 2.0 * (first.llc - second.llc)
    error = 2.0 * math.hypot(first.standard_error, second.standard_error)
    outcome = outcome.with_numbers(
        step_bias=bias, step_bias_standard_error=error, llc_at_half_step=second.llc
    )
    bound = max(2.0 * error, _LARGEST_STEP_BIAS * abs(first.llc))
    if abs(bias) > bound:
        moved = second.llc - first.llc
        outcome = outcome.with_findings(Finding(Check.HALF_THE_STEP, moved, 0.5 * bound))
    return outcome


def judge_target(outcome: Outcome, target: float | None) -> Outcome:
    """The verdict where a standard error was asked for and not met."""
    error, draws = outcome.estimate.standard_error, outcome.numbers["num_draws"]
    if target is None or not error > target:
        return outcome
    return outcome.with_findings(Finding(Check.TARGET, error, target, draws))


def tell_largest_step(outcome: Outcome, plan: Plan, chains: Chains) -> Outcome:
    """The largest step that works, where chains of the one that was given left."""
    worked = largest_finite_step(chains.tuning, plan)
    outcome = outcome.with_numbers(largest_step_size_that_worked=worked)
    if worked is None:
        return outcome
    return outcome.with_findings(Finding(Check.LARGEST_STEP, worked, beside=chains.step_size))
