"""An estimate for which sampler, localisation and step were left open.

What lives here: the order in which chains are run, and when to stop. What does not: the rules for
one setting (`tuning`), and the model that extrapolates (`extrapolation`).

1. The sampler is BAOAB: near a quadratic minimum its step needs no correction, and soft directions
   relax ten times as fast as SGLD's.
2. The batch is 64 samples (256 where parameters are so few that a step costs the same), or more, to
   `LARGEST_BATCH`, where minibatch noise would heat by more than `HEATING` or set the step.
3. Chains at the localisation of `tuning`, and others at four times that. If the two agree, the
   localisation does not matter and the first is the estimate, with draws added until the standard
   error meets its target.
4. If they differ, and flat directions would still relax often enough under a weaker localisation,
   both are run again there: a regular model counts all its directions then.
5. If they differ still, the landscape is degenerate. Chains at twice and eight times join them, and
   the estimate is extrapolated to none. Where that goes `FAR` beyond what was seen, the verdict
   says so; where it goes `TOO_FAR`, the estimate is that of the weakest localisation.
6. Extrapolation takes the loss to be quadratic about w*. Where it grows more slowly along the
   weakest chains (`is_quadratic`), they have found directions that a more singular point nearby
   leaves flat, and see a coefficient between that point's and the one of w*; the scan then begins
   at twice or four times their localisation, where chains stay by w*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.estimator import Estimate
from emergence_stats.degeneracy.judgement.outcome import Outcome, assess
from emergence_stats.degeneracy.judgement.refinements import (
    BEYOND_NOISE,
    SCAN,
    extrapolate,
    extrapolated_share,
    is_quadratic,
    judge_extrapolation,
    judge_step,
    judge_target,
    power_of_growth,
    run_at_stronger_localisation,
    slow_growth,
)
from emergence_stats.degeneracy.judgement.runs import (
    MOST_DRAWS,
    Plan,
    estimate_after_burnin,
    halve_step,
    run_until_finite,
    tune_to_plan,
)
from emergence_stats.degeneracy.judgement.verdicts import LARGEST_RHAT, Check, Finding
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.tuning import RELAXATIONS, Tuning
from emergence_stats.degeneracy.tuning.kernels import CHARACTER
from emergence_stats.degeneracy.tuning.pilots import STIFFNESS

FIRST_DRAWS = 500
MOST_BY_DEFAULT = 8  # times the first draws
TARGET = 0.025  # standard error, as a share of the estimate
LARGEST_BATCH = 512
FEW = 4096  # parameters
VERY_FEW = 256  # with these, a batch may be four times as large
HEATING = 0.1  # of the stiffest direction, by minibatch noise
SECOND = 4.0  # the localisation compared with the weakest, in its units
TELLS = 0.05  # error of the difference, as a share of the estimate, that tells anything
PLATEAU = 0.01  # a difference, as a share of the estimate, that never matters
WEAKER = 64.0  # by which the localisation is lowered at most
TOO_FAR = 0.2  # share of the estimate that is extrapolated, beyond which it is not
_HALVINGS = 12


class _Goal(NamedTuple):
    """When draws suffice: the standard error asked for, and the most draws for it."""

    target: float | None
    most: int

    def error(self, llc: float) -> float:
        return TARGET * abs(llc) if self.target is None else self.target

    def is_met(self, estimate: Estimate) -> bool:
        known = estimate.standard_error <= self.error(estimate.llc)
        return known and not estimate.rhat > LARGEST_RHAT


class _Pair(NamedTuple):
    """Chains at a localisation and at `SECOND` times that, and whether the two differ."""

    weakest: Chains
    stronger: Chains
    estimate: Estimate  # at the stronger
    differ: bool


def estimate_by_default(
    landscape: LossLandscape,
    plan: Plan,
    *,
    inverse_temperature: float,
    target: float | None,
    fixed_draws: bool,
    check_step: bool,
    progress: bool,
) -> Outcome:
    """Tune, run, compare two localisations, and go on as they ask; see the module's page."""
    tuning, plan, why_batch = _tune_with_batch(landscape, plan, inverse_temperature)
    times = MOST_DRAWS if target is not None else 1 if fixed_draws else MOST_BY_DEFAULT
    goal = _Goal(target, times * plan.num_draws)
    total = (2 + 2 * check_step) * plan.length
    with Progress(total, progress) as bar:
        for _ in range(_HALVINGS):
            done = _estimate_at_one_step(tuning, plan, goal, bar)
            if done is not None:
                outcome, chains = done
                break
            # The steepest parts of a degenerate potential are met late.
            bar.expect(total)
            tuning = halve_step(tuning)
        else:
            chains = run_until_finite(tuning, plan, bar, given=False)
            outcome = assess(plan, chains)
        if check_step and chains.finite:
            outcome = judge_step(outcome, plan, chains, bar)
    why_draws = "as given"
    if times > 1:
        wished = f"{TARGET:.1%} of the estimate" if target is None else f"{target:.3g}"
        why_draws = f"until the standard error is {wished}, or {goal.most} draws"
        if target is None and outcome.estimate.standard_error > goal.error(outcome.llc):
            share = outcome.estimate.standard_error / max(abs(outcome.llc), 1e-300)
            missed = Finding(Check.DEFAULT_TARGET, share, TARGET, chains.num_draws)
            outcome = outcome.with_findings(missed)
    why_sampler = "BAOAB: no bias of the step near a quadratic minimum"
    outcome = outcome.with_reasons(sampler=why_sampler, batch_size=why_batch, num_draws=why_draws)
    return judge_target(outcome, target)


def _tune_with_batch(
    landscape: LossLandscape, plan: Plan, inverse_temperature: float
) -> tuple[Tuning, Plan, str]:
    """Settings for one localisation, and the batch that suits them."""

    def attempt(batch_size: int) -> tuple[Tuning, Plan]:
        own = plan._replace(batch_size=batch_size)
        return tune_to_plan(landscape, own, inverse_temperature), own

    if plan.batch_size:
        return *attempt(min(plan.batch_size, landscape.num_samples)), "as given"
    few = landscape.num_parameters <= FEW
    affordable = landscape.affordable_batch
    size = min(256 if few else 64, affordable)
    why = "few parameters, so that a step costs the same" if few else "as small as is usual"
    if size == affordable < landscape.num_samples:
        why = "as many as keep two gigabytes for their gradient"
    tuning, own = attempt(size)
    stiffest = STIFFNESS * CHARACTER[plan.sampler].stability
    free = stiffest / tuning.measured["largest_potential_curvature_in_metric"]
    shortened = max(free / tuning.step_size, 1.0)
    heating = max(tuning.measured["heating_by_minibatch_noise"], 0.0) * shortened
    larger = size * 2 ** math.ceil(math.log2(max(heating / HEATING, 1.0)))
    largest = LARGEST_BATCH * (4 if landscape.num_parameters <= VERY_FEW else 1)
    larger = min(larger, largest, affordable)
    if larger > size:
        return *attempt(larger), "raised, against the noise of minibatches"
    return tuning, own, why


def _estimate_at_one_step(
    tuning: Tuning, plan: Plan, goal: _Goal, progress: Progress
) -> tuple[Outcome, Chains] | None:
    """The outcome and its weakest chains; None where a chain stopped being finite."""
    pair = _run_pair(tuning, plan, goal, progress)
    if pair is not None and pair.differ:
        weaker = _weaken_localisation(pair.weakest.tuning, plan)
        if weaker is not None:
            pair = None  # or its chains would be held beside the new ones
            progress.add(2 * plan.length)
            pair = _run_pair(weaker, plan, goal, progress)
    if pair is None:
        return None
    done = (_scan if pair.differ else _draw_on)(pair, plan, goal, progress)
    if done is None:
        return None
    outcome, weakest = done
    outcome = outcome.with_numbers(
        llc_at_stronger_localisation=pair.estimate.llc,
        standard_error_at_stronger_localisation=pair.estimate.standard_error,
    )
    return outcome, weakest


def _weaken_localisation(tuning: Tuning, plan: Plan) -> Tuning | None:
    """The weakest localisation under which flat directions relax; None where that is this."""
    held = tuning.posterior.localisation
    least = RELAXATIONS / (plan.length * tuning.step_size * CHARACTER[plan.sampler].speed)
    weaker = max(least, held / WEAKER)
    if weaker > 0.5 * held:
        return None
    why = (
        f"lowered from {held:.3g}, where the estimate depended on it; flat directions relax "
        f"{RELAXATIONS * weaker / least:.0f} times in {plan.length} steps"
    )
    posterior = tuning.posterior._replace(localisation=weaker)
    return tuning._replace(posterior=posterior, reasons={**tuning.reasons, "localisation": why})


def _draw_on(
    pair: _Pair, plan: Plan, goal: _Goal, progress: Progress
) -> tuple[Outcome, Chains] | None:
    """The estimate of the weakest chains where the stronger agree, with draws as the goal asks."""
    weakest = pair.weakest
    while weakest.finite and weakest.num_draws < goal.most:
        if goal.is_met(estimate_after_burnin(plan, weakest)[0]):
            break
        _run_on([weakest], plan, progress)
    if not weakest.finite:
        return None
    outcome = assess(plan, weakest).with_numbers(plateau=True)
    why = outcome.chosen["localisation"]
    why = f"{why}; at {SECOND:g} times it the estimate is the same"
    return outcome.with_reasons(localisation=why), weakest


def _run_pair(tuning: Tuning, plan: Plan, goal: _Goal, progress: Progress) -> _Pair | None:
    """Chains at this localisation and a stronger one, until they tell whether the two differ."""
    weakest = run_until_finite(tuning, plan, progress, given=False)
    stronger = run_at_stronger_localisation(SECOND, plan, weakest, progress)
    while weakest.finite and stronger.finite:
        first, second = (estimate_after_burnin(plan, one)[0] for one in (weakest, stronger))
        noise = math.hypot(first.standard_error, second.standard_error)
        if noise <= TELLS * abs(first.llc) or weakest.num_draws >= goal.most:
            break
        _run_on([weakest, stronger], plan, progress)
    else:
        return None
    allowed = max(BEYOND_NOISE * noise, PLATEAU * abs(first.llc))
    # Localisation lowers the estimate, so only a difference of that sign counts.
    held = weakest.tuning.posterior.localisation > 0.0
    return _Pair(weakest, stronger, second, held and first.llc - second.llc > allowed)


def _run_on(every: Sequence[Chains], plan: Plan, progress: Progress) -> None:
    """As many draws again as were planned."""
    progress.add(len(every) * plan.num_draws)
    for chains in every:
        chains.run(plan.num_draws, progress=progress)


def _scan(
    pair: _Pair, plan: Plan, goal: _Goal, progress: Progress
) -> tuple[Outcome, Chains] | None:
    """The estimate extrapolated to no localisation, as far as that may be, and its weakest chains.

    None where a chain stopped being finite.
    """
    weakest = pair.weakest
    scan = {1.0: weakest, SECOND: pair.stronger}
    _complete(scan, plan, progress)
    begin = next((times for times in SCAN if is_quadratic(scan[times])), math.inf)
    power = power_of_growth(weakest)
    slow = slow_growth(Check.GROWTH_AT_STRONGER, weakest, SECOND)
    if 1.0 < begin <= SECOND:
        scan = {times / begin: chains for times, chains in scan.items() if times >= begin}
        weakest = scan[1.0]
        _complete(scan, plan, progress)
    every = [scan[times] for times in SCAN]
    while all(chains.finite for chains in every):
        alone = assess(plan, weakest)
        whole = extrapolate(alone, plan, every)
        if goal.is_met(whole.estimate) or weakest.num_draws >= goal.most:
            break
        _run_on(every, plan, progress)
    else:
        return None
    if 1.0 < begin <= SECOND:
        why = (
            f"{whole.chosen['localisation']}; at 1/{begin:g} of it the loss grows like the power "
            f"{power:.3g} of the distance, with a more singular point nearby"
        )
        whole = whole.with_reasons(localisation=why)
    elif begin > SECOND:
        whole, alone = whole.with_findings(slow), alone.with_findings(slow)
    if extrapolated_share(whole, alone) > TOO_FAR:
        alone = alone.with_numbers(llc_extrapolated=whole.llc)
        return judge_extrapolation(alone, whole, alone), weakest
    return judge_extrapolation(whole, whole, alone), weakest


def _complete(scan: dict[float, Chains], plan: Plan, progress: Progress) -> None:
    """Chains at those localisations of `SCAN` that are missing."""
    missing = [times for times in SCAN if times not in scan]
    progress.add(len(missing) * (scan[1.0].num_draws + (plan.num_burnin or 0)))
    for times in missing:
        scan[times] = run_at_stronger_localisation(times, plan, scan[1.0], progress)
