"""Chains of a step at which what is subtracted for it can be trusted, and the draws suffice.

What lives here: when chains have to be run again with a shorter or a longer step. What does not:
the step they begin with (`tuning`), and halving it until chains stay finite (`runs`).
"""

from __future__ import annotations

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.outcome import Outcome, assess
from emergence_stats.degeneracy.judgement.runs import Plan, run_until_finite, with_step
from emergence_stats.degeneracy.judgement.verdicts import Verdict
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.tuning import Tuning
from emergence_stats.degeneracy.tuning.kernels import CHARACTER, PRECONDITIONED, Character
from emergence_stats.degeneracy.tuning.pilots import STIFFNESS

SHORTER, SHORTEST = 4, 16  # by which a step is shortened at once, and in all
LONGER, LONGEST = 4.0, 64.0  # by which it is lengthened at once, and in all
LITTLE = 0.05  # correction of the longer step, as a share of the estimate
FEWEST_RELAXATIONS = 2.0  # of a flat direction; with fewer, chains only seem at rest
_WORTH_A_RUN = 1.5  # a step less longer than that is left as it is
_MUCH = 0.4  # correction as a share of the estimate, from which on it is the latter at once


def run_at_fitting_step(
    tuning: Tuning, plan: Plan, progress: Progress, *, step_given: bool, localisation_given: bool
) -> tuple[Plan, Chains]:
    """Chains of a step that suits them, and a plan with the steps to a draw that were run.

    A step that was given stays. Another is shortened where the verdict would be that it is too
    large, and it is a correction off a quadratic that says so; the chains take as many more steps
    to a draw, so that they cover the same time. The correction is of first order in the step. It is
    lengthened where chains still drift or disagree, or flat directions hardly relax at the
    localisation chosen, and both its correction and the stiffest direction leave room: the rule of
    `tuning` looks at the one direction that minibatch noise heats most, which among many parameters
    may have hardly any part in the estimate.
    """
    left, own = progress.left, plan.length * plan.steps_per_draw
    chains = run_until_finite(tuning, plan, progress, given=step_given)
    lengthened = 1.0
    while not step_given and chains.finite and plan.steps_per_draw < SHORTEST:
        outcome = assess(plan, chains)
        longer = min(_times_longer(outcome, plan, chains, localisation_given), LONGEST / lengthened)
        shorter = _times_shorter(outcome, plan)
        if longer > 1.0:
            lengthened *= longer
            why = (
                f"lengthened {lengthened:.2g} times, as chains had not come to rest, or flat "
                "directions hardly relaxed, and what is subtracted for the step was small"
            )
            tuning = with_step(chains.tuning, longer * chains.step_size, why)
        elif shorter > 1:
            plan = plan._replace(steps_per_draw=shorter * plan.steps_per_draw)
            why = (
                f"shortened {plan.steps_per_draw} times, with so many steps to a draw, where what "
                "is subtracted for the step would have been too large a share of the estimate"
            )
            tuning = with_step(chains.tuning, chains.step_size / shorter, why)
            left += own * (shorter - 1)
        else:
            break
        chains.release()
        progress.expect(left)
        left, own = progress.left, plan.length * plan.steps_per_draw
        chains = run_until_finite(tuning, plan, progress, given=step_given)
    return plan, chains


def _times_shorter(outcome: Outcome, plan: Plan) -> int:
    """By how many times the step has to be shorter; 1 where it need not be, or nothing helps."""
    llc, correction = outcome.llc, outcome.numbers["step_correction"]
    # Where even before the correction there is less loss than at w*, no step would do.
    if not outcome.has(Verdict.STEP_TOO_LARGE) or not llc + correction > 0.0:
        return 1
    return SHORTEST // plan.steps_per_draw if correction > _MUCH * abs(llc) else SHORTER


def _times_longer(outcome: Outcome, plan: Plan, chains: Chains, localisation_given: bool) -> float:
    """By how many times the step may be longer; 1 where it need not be, or nothing helps."""
    tuning, step_size = chains.tuning, chains.step_size
    restless = outcome.has(Verdict.STILL_DRIFTING, Verdict.CHAINS_DISAGREE)
    character = CHARACTER.get(plan.sampler, Character())
    if plan.sampler not in PRECONDITIONED and not localisation_given:
        relaxations = character.speed * step_size * plan.length * tuning.posterior.localisation
        restless |= relaxations < FEWEST_RELAXATIONS
    # The acceptance has set the step of MALA.
    if plan.steps_per_draw > 1 or not restless or plan.sampler == "mala":
        return 1.0
    stiffest = tuning.measured["largest_potential_curvature_in_metric"]
    of_stiffness = STIFFNESS * character.stability / (stiffest * step_size)
    # Nothing helps where there is less loss than at w*.
    correction = abs(outcome.numbers["step_correction"])
    of_correction = LITTLE * max(outcome.llc, 0.0) / max(correction, 1e-300)
    longer = min(LONGER, of_stiffness, of_correction)
    return longer if longer >= _WORTH_A_RUN else 1.0
