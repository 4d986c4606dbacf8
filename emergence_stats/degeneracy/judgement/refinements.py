"""What an estimate would be elsewhere: without localisation, at half of it, and at half the step.

What lives here: the further chains that each takes, and what follows from them. What does not: the
model that extrapolates (`extrapolation`), and the change at half the localisation (`localisation`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.estimator import summarise
from emergence_stats.degeneracy.judgement.extrapolation import weights_at_zero
from emergence_stats.degeneracy.judgement.localisation import change_from_curvature
from emergence_stats.degeneracy.judgement.outcome import Outcome
from emergence_stats.degeneracy.judgement.runs import (
    Plan,
    correct_for_step,
    estimate_after_burnin,
    largest_finite_step,
    start_chains,
)
from emergence_stats.degeneracy.judgement.verdicts import Check, Finding
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.errors import InputError

SCAN = (1.0, 2.0, 4.0, 8.0)  # localisations, in units of the weakest
FAR = 0.1  # share of the estimate that is extrapolated, beyond which the verdict says so
# Half the power with which the loss has to grow. On deep linear networks the weakest chains were 9%
# low where it was 0.955, and within 0.4% at 1.02.
QUADRATIC = 0.99
BEYOND_NOISE = 1.5  # standard errors by which what is looked into differs
_BEYOND_DOUBT = 3.0  # and what the verdict tells
LARGEST_CHANGE = 0.05  # at half the localisation, as a share of the estimate
_TOLD_FROM_NONE = 2.0  # standard errors by which such a change is
_PLATEAU = 0.03  # difference between the two weakest localisations, as a share of the estimate
_LARGEST_STEP_BIAS = 0.1  # as a share of the estimate


def run_at_stronger_localisation(
    times: float, plan: Plan, weakest: Chains, progress: Progress
) -> Chains:
    """Chains like the weakest held, as long as they are, at so many times their localisation."""
    tuning = weakest.tuning
    strength = times * tuning.posterior.localisation
    stronger = tuning._replace(posterior=tuning.posterior._replace(localisation=strength))
    chains = start_chains(stronger, plan)
    return chains.run(weakest.num_draws, num_burnin=plan.num_burnin or 0, progress=progress)


def scan_localisations(
    outcome: Outcome, plan: Plan, weakest: Chains, progress: Progress
) -> Outcome:
    """Chains at stronger localisations, same random numbers, and what their model says of none."""
    if weakest.tuning.posterior.localisation == 0.0:
        raise InputError('localisation "scan" found nothing to scan: the weakest is zero')
    others = [
        run_at_stronger_localisation(times, plan, weakest, progress).release() for times in SCAN[1:]
    ]
    whole = extrapolate(outcome, plan, [weakest, *others])
    whole = judge_extrapolation(whole, whole, outcome)
    if not is_quadratic(weakest, _BEYOND_DOUBT):
        whole = whole.with_findings(slow_growth(Check.GROWTH_AT_WEAKEST, weakest))
    return whole


def extrapolate(outcome: Outcome, plan: Plan, scan: Sequence[Chains]) -> Outcome:
    """What chains at the localisations of `SCAN`, in this order, say of none."""
    discard = outcome.numbers["num_burnin"] if plan.num_burnin is None else 0
    localisation = scan[0].tuning.posterior.localisation * np.array(SCAN)
    traces = np.stack([correct_for_step(chains) for chains in scan])
    estimates = [summarise(trace[:, discard:]) for trace in traces]
    llc = np.array([estimate.llc for estimate in estimates])
    if not np.isfinite(llc).all():
        return outcome
    weights = weights_at_zero(localisation, llc)
    combined = np.einsum("k,kcd->cd", weights, traces)
    estimate = summarise(combined[:, discard:])
    of_noise = [chains.traces.noise_bias_error for chains in scan]
    error = math.hypot(estimate.standard_error, *(weights * of_noise))
    errors = [found.standard_error for found in estimates]
    close = max(_PLATEAU * abs(llc[0]), 2.0 * errors[0])
    about = {"long_name": "estimate at this localisation", "units": "1"}
    dims, _, about_trace = outcome.variables["llc_trace"]
    variables = {
        **outcome.variables,
        "llc_trace": (dims, combined, about_trace),
        "llc_by_localisation": ("localisation", llc, about),
        "standard_error_by_localisation": ("localisation", errors),
        "weight_at_zero": ("localisation", weights),
    }
    whole = outcome._replace(
        estimate=estimate._replace(standard_error=error),
        variables=variables,
        coords={**outcome.coords, "localisation": localisation},
    )
    how = "extrapolated to zero from four localisations, of which this is the weakest"
    return whole.with_reasons(localisation=how).with_numbers(
        bias_of_localisation=outcome.llc - estimate.llc, plateau=bool(abs(llc[0] - llc[1]) <= close)
    )


def extrapolated_share(whole: Outcome, weakest: Outcome) -> float:
    """How much of the estimate without localisation was not seen at the weakest."""
    return abs(whole.llc - weakest.llc) / max(abs(whole.llc), 1e-300)


def judge_extrapolation(judged: Outcome, whole: Outcome, weakest: Outcome) -> Outcome:
    """Either of the two, where it is far from the weakest localisation to none."""
    if extrapolated_share(whole, weakest) <= FAR:
        return judged
    values = whole.llc, FAR, weakest.llc
    return judged.with_findings(Finding(Check.EXTRAPOLATED_FAR, *values))


def is_quadratic(chains: Chains, errors: float = BEYOND_NOISE) -> bool:
    """Whether the loss grows no more slowly along these chains than a quadratic, but for noise.

    By so many standard errors. Chains of MALA do not tell, and count as if it did.
    """
    seen = chains.traces
    return not seen.homogeneity < QUADRATIC - errors * seen.homogeneity_error


def power_of_growth(chains: Chains) -> float:
    """The power of the distance with which the loss grows along these chains."""
    return 2.0 * chains.traces.homogeneity


def slow_growth(check: Check, weakest: Chains, times: float = 1.0) -> Finding:
    """That it grows more slowly than a quadratic, at so many times the weakest localisation."""
    power, bound = power_of_growth(weakest), 2.0 * QUADRATIC
    return Finding(check, power, bound, times, growth=power)


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
