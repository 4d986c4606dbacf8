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
from collections.abc import Callable
from typing import NamedTuple

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.estimator import LARGEST_RHAT, Estimate
from emergence_stats.degeneracy.kernels import CHARACTER
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.pilots import STIFFNESS
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.refinements import (
    BEYOND_NOISE,
    FAR,
    SCAN,
    extrapolated,
    growth_told,
    held_firmer,
    is_quadratic,
    judged_by_target,
    step_checked,
)
from emergence_stats.degeneracy.result import LLC
from emergence_stats.degeneracy.runs import MOST_DRAWS, Plan, kept, settled_chains
from emergence_stats.degeneracy.single_result import single_result
from emergence_stats.degeneracy.tuning import RELAXATIONS, Tuning, tune

FIRST_DRAWS = 500
MOST_BY_DEFAULT = 8  # times the first draws
TARGET = 0.025  # standard error, as a share of the estimate
LARGEST_BATCH = 512
FEW = 4096  # parameters
VERY_FEW = 256  # with these, a batch may be four times as large
HEATING = 0.1  # of the stiffest direction, by minibatch noise
SECOND = 2  # place in SCAN of the localisation compared with the weakest
TELLS = 0.05  # error of the difference, as a share of the estimate, that tells anything
PLATEAU = 0.01  # a difference, as a share of the estimate, that never matters
WEAKER = 64.0  # by which the localisation is lowered at most
TOO_FAR = 0.2  # share of the estimate that is extrapolated, beyond which it is not
_HALVINGS = 12


class _Pair(NamedTuple):
    """Chains at a localisation and at four times that, and whether the two differ."""

    tuning: Tuning
    weakest: Chains
    second: Chains
    worked: float | None
    firmer: Estimate
    differ: bool


def automatic(
    landscape: LossLandscape,
    plan: Plan,
    *,
    inverse_temperature: float,
    target: float | None,
    fixed_draws: bool,
    check_step: bool,
    progress: bool,
) -> LLC:
    """Tune, run, compare two localisations, and go on as they ask; see the module's page."""
    tuning, plan, why_batch = _tuned(landscape, plan, inverse_temperature)
    most = plan.num_draws
    if target is not None:
        most *= MOST_DRAWS
    elif not fixed_draws:
        most *= MOST_BY_DEFAULT

    def goal(llc: float) -> float:
        return TARGET * abs(llc) if target is None else target

    total = (2 + 2 * check_step) * (plan.num_draws + (plan.num_burnin or 0))
    with Progress(total, progress) as bar:
        for _ in range(_HALVINGS):
            found = _at_one_step(tuning, plan, most, goal, bar)
            if found is not None:
                break
            # The steepest parts of a degenerate potential are met late.
            bar.expect(total)
            tuning.reasons["step_size"] = "halved until every chain stayed finite"
            tuning = tuning._replace(step_size=0.5 * tuning.step_size)
        if found is None:
            chains, worked = settled_chains(tuning, plan, bar, given=False)
            found = single_result(tuning, plan, chains, worked), tuning, chains
        result, tuning, weakest = found
        if check_step and weakest.finite:
            result = step_checked(result, tuning, plan, weakest, bar)
    why_draws, missed = "as given", None
    if most > plan.num_draws:
        wished = f"{TARGET:.1%} of the estimate" if target is None else f"{target:.3g}"
        why_draws = f"until the standard error is {wished}, or {most} draws"
        if target is None and result.standard_error > goal(result.llc):
            share = result.standard_error / max(abs(result.llc), 1e-300)
            missed = (
                f"the standard error is {share:.1%} of the estimate after {weakest.num_draws} "
                f"draws, and not {TARGET:.1%}; num_draws or target_standard_error asks for more"
            )
    chosen = {
        "sampler": "BAOAB: no bias of the step near a quadratic minimum",
        "batch_size": why_batch,
        "num_draws": why_draws,
        **result.diagnostics["chosen"],
    }
    result = result.with_diagnostics({"chosen": chosen})
    if missed is not None:
        reasons = [*result.diagnostics["reasons"], missed]
        result = result.with_diagnostics({"reasons": reasons})
    return judged_by_target(result, target, weakest.num_draws)


def _tuned(
    landscape: LossLandscape, plan: Plan, inverse_temperature: float
) -> tuple[Tuning, Plan, str]:
    """Settings for one localisation, and the batch that suits them."""

    def attempt(batch_size: int) -> Tuning:
        return tune(
            landscape,
            plan.sampler,
            inverse_temperature=inverse_temperature,
            batch_size=min(batch_size, landscape.num_samples),
            num_steps=plan.num_draws + (plan.num_burnin or 0),
            step_size=None,
            localisation=None,
            seed=plan.seed,
        )

    size = plan.batch_size
    if size:
        return attempt(size), plan._replace(batch_size=min(size, landscape.num_samples)), "as given"
    few = landscape.num_parameters <= FEW
    affordable = landscape.affordable_batch
    size = min(256 if few else 64, affordable)
    why = "few parameters, so that a step costs the same" if few else "as small as is usual"
    if size == affordable < landscape.num_samples:
        why = "as many as keep two gigabytes for their gradient"
    tuning = attempt(size)
    stiffest = STIFFNESS * CHARACTER[plan.sampler].stability
    free = stiffest / tuning.measured["largest_potential_curvature_in_metric"]
    shortened = max(free / tuning.step_size, 1.0)
    heating = max(tuning.measured["heating_by_minibatch_noise"], 0.0) * shortened
    larger = size * 2 ** math.ceil(math.log2(max(heating / HEATING, 1.0)))
    largest = LARGEST_BATCH * (4 if landscape.num_parameters <= VERY_FEW else 1)
    larger = min(larger, largest, affordable)
    if larger > size:
        size, why = larger, "raised, against the noise of minibatches"
        tuning = attempt(size)
    return tuning, plan._replace(batch_size=size), why


def _at_one_step(
    tuning: Tuning,
    plan: Plan,
    most: int,
    goal: Callable[[float], float],
    progress: Progress,
) -> tuple[LLC, Tuning, Chains] | None:
    """The result, its settings and its weakest chains; None where a chain stopped being finite."""
    pair = _pair(tuning, plan, most, progress)
    if pair is not None and pair.differ:
        speed = CHARACTER[plan.sampler].speed
        steps = plan.num_draws + (plan.num_burnin or 0)
        least = RELAXATIONS / (steps * pair.tuning.step_size * speed)
        held = tuning.posterior.localisation
        weaker = max(least, held / WEAKER)
        if weaker <= 0.5 * held:
            posterior = tuning.posterior._replace(localisation=weaker)
            tuning = pair.tuning._replace(posterior=posterior)
            tuning.reasons["localisation"] = (
                f"lowered from {held:.3g}, where the estimate depended on it; flat directions "
                f"relax {RELAXATIONS * weaker / least:.0f} times in {steps} steps"
            )
            pair = None  # or its chains would be held beside the new ones
            progress.add(2 * steps)
            pair = _pair(tuning, plan, most, progress)
    if pair is None:
        return None
    result, tuning, weakest = None, pair.tuning, pair.weakest
    if pair.differ:
        result, tuning, weakest = _scan(pair, plan, most, goal, progress)
    else:
        while weakest.finite and weakest.num_draws < most:
            estimate = kept(plan, tuning, weakest.traces)[0]
            if _enough(estimate.standard_error, estimate.rhat, goal(estimate.llc)):
                break
            progress.add(plan.num_draws)
            weakest.run(plan.num_draws, progress=progress)
        if weakest.finite:
            result = single_result(tuning, plan, weakest, pair.worked)
            why = result.diagnostics["chosen"]["localisation"]
            why = f"{why}; at {SCAN[SECOND]:g} times it the estimate is the same"
            chosen = {**result.diagnostics["chosen"], "localisation": why}
            result = result.with_diagnostics({"plateau": True, "chosen": chosen})
    if result is None:
        return None
    known = {
        "llc_at_stronger_localisation": pair.firmer.llc,
        "standard_error_at_stronger_localisation": pair.firmer.standard_error,
    }
    return result.with_diagnostics(known), tuning, weakest


def _pair(tuning: Tuning, plan: Plan, most: int, progress: Progress) -> _Pair | None:
    weakest, worked = settled_chains(tuning, plan, progress, given=False)
    tuning = tuning._replace(step_size=weakest.step_size)
    second = held_firmer(SCAN[SECOND], tuning, plan, weakest, progress)
    while weakest.finite and second.finite:
        first, firmer = (kept(plan, tuning, chains.traces)[0] for chains in (weakest, second))
        noise = math.hypot(first.standard_error, firmer.standard_error)
        if noise <= TELLS * abs(first.llc) or weakest.num_draws >= most:
            break
        progress.add(2 * plan.num_draws)
        for chains in (weakest, second):
            chains.run(plan.num_draws, progress=progress)
    else:
        return None
    allowed = max(BEYOND_NOISE * noise, PLATEAU * abs(first.llc))
    # Localisation lowers the estimate, so only a difference of that sign counts.
    differ = tuning.posterior.localisation > 0.0 and first.llc - firmer.llc > allowed
    return _Pair(tuning, weakest, second, worked, firmer, differ)


def _enough(standard_error: float, rhat: float, goal: float) -> bool:
    return standard_error <= goal and not rhat > LARGEST_RHAT


def _scan(
    pair: _Pair,
    plan: Plan,
    most: int,
    goal: Callable[[float], float],
    progress: Progress,
) -> tuple[LLC | None, Tuning, Chains]:
    """The estimate extrapolated to no localisation, as far as that may be, and its weakest chains.

    None where a chain stopped being finite.
    """
    tuning, weakest = pair.tuning, pair.weakest
    scan = {1.0: weakest, SCAN[SECOND]: pair.second}
    _complete(scan, tuning, plan, progress)
    begin = next((times for times in SCAN if is_quadratic(scan[times])), math.inf)
    slower = growth_told(weakest)
    if 1.0 < begin <= SCAN[SECOND]:
        strength = begin * tuning.posterior.localisation
        tuning = tuning._replace(posterior=tuning.posterior._replace(localisation=strength))
        scan = {times / begin: chains for times, chains in scan.items() if times >= begin}
        weakest = scan[1.0]
        _complete(scan, tuning, plan, progress)
    chains_of_all = [scan[times] for times in SCAN]
    while all(chains.finite for chains in chains_of_all):
        alone = single_result(tuning, plan, weakest, pair.worked)
        whole = extrapolated(alone, tuning, plan, chains_of_all)
        if 1.0 < begin <= SCAN[SECOND]:
            chosen = whole.diagnostics["chosen"]
            held = f"{chosen['localisation']}; at 1/{begin:g} of it {slower}, with a more singular"
            chosen = {**chosen, "localisation": f"{held} point nearby"}
            whole = whole.with_diagnostics({"chosen": chosen})
        rhat = whole.diagnostics["rhat"] or math.nan
        if _enough(whole.standard_error, rhat, goal(whole.llc)) or weakest.num_draws >= most:
            break
        progress.add(len(chains_of_all) * plan.num_draws)
        for chains in chains_of_all:
            chains.run(plan.num_draws, progress=progress)
    else:
        return None, tuning, weakest
    if begin > SCAN[SECOND]:
        why = f"{slower} even at {SCAN[SECOND]:g} times the localisation, which no model fits"
        whole, alone = (one.with_verdict("depends on localisation", why) for one in (whole, alone))
    share = (whole.llc - alone.llc) / max(abs(whole.llc), 1e-300)
    if abs(share) <= FAR:
        return whole, tuning, weakest
    why = (
        f"{alone.llc:.3g} at the weakest, {whole.llc:.3g} extrapolated to none; more draws allow a "
        "weaker one"
    )
    if abs(share) > TOO_FAR:
        known = {"llc_extrapolated": whole.llc}
        alone = alone.with_diagnostics(known)
        return alone.with_verdict("depends on localisation", why), tuning, weakest
    return whole.with_verdict("depends on localisation", why), tuning, weakest


def _complete(scan: dict[float, Chains], tuning: Tuning, plan: Plan, progress: Progress) -> None:
    """Chains at those localisations of `SCAN` that are missing."""
    missing = [times for times in SCAN if times not in scan]
    progress.add(len(missing) * (scan[1.0].num_draws + (plan.num_burnin or 0)))
    for times in missing:
        scan[times] = held_firmer(times, tuning, plan, scan[1.0], progress)
