"""Three refinements of an estimate: at a fitting step, without localisation, and at half the step.

What lives here: the further chains that each takes, and what becomes of the result. What does not:
the model that extrapolates (`extrapolation`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.estimator import Estimate, summarise
from emergence_stats.degeneracy.extrapolation import weights_at_zero
from emergence_stats.degeneracy.kernels import CHARACTER, PRECONDITIONED, Character
from emergence_stats.degeneracy.pilots import STIFFNESS
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.result import LLC
from emergence_stats.degeneracy.runs import Plan, corrected, kept, new_chains, settled_chains
from emergence_stats.degeneracy.single_result import single_result
from emergence_stats.degeneracy.tuning import Tuning
from emergence_stats.errors import InputError

SCAN = (1.0, 2.0, 4.0, 8.0)  # localisations, in units of the weakest
FAR = 0.1  # share of the estimate that is extrapolated, beyond which the verdict says so
SHORTER, SHORTEST = 4, 16  # by which a step is shortened at once, and in all
LONGER, LONGEST = 4.0, 64.0  # by which it is lengthened at once, and in all
LITTLE = 0.05  # correction of the longer step, as a share of the estimate
FEWEST_RELAXATIONS = 2.0  # of a flat direction; with 0.1 chains seemed at rest, and were 17% low
_WORTH_A_RUN = 1.5  # a step less longer than that is left as it is
# Half the power with which the loss has to grow. On deep linear networks estimates of weakest
# chains at 0.955 and 0.965 were 9 and 7% low, and are 4 and 2% low from where it is 0.99; at 1.02
# they were within 0.4%.
QUADRATIC = 0.99
BEYOND_NOISE = 1.5  # standard errors by which what is looked into differs
_BEYOND_DOUBT = 3.0  # and what the verdict tells
_MUCH = 0.4  # correction as a share of the estimate, from which on it is the latter at once


def at_fitting_step(
    tuning: Tuning, plan: Plan, progress: Progress, *, given: bool
) -> tuple[Tuning, Plan, Chains, float | None]:
    """Chains of a step at which what is subtracted for it can be trusted, and the draws suffice.

    Unless the step was given. It is shortened where the verdict would be that it is too large, and
    it is a correction off a quadratic that says so; the chains take as many more steps to a draw,
    so that they cover the same time. The correction is of first order in the step. (Of 480
    estimates by SGLD with two parameters, with the first step, 314 had that verdict, and 64% of the
    90% intervals held the exact value; `benchmarks.accuracy.llc_accuracy`.) It is lengthened where
    chains still drift or disagree, or flat directions hardly relax at the localisation chosen, and
    both its correction and the stiffest direction leave room: the rule of `tuning` looks at the one
    direction that minibatch noise heats most, which among many parameters may have hardly any part
    in the estimate.

    Returns
    -------
    tuple of (Tuning, Plan, Chains, float or None)
        With the step and the steps to a draw that were run, and the largest step that stayed finite
        where the one given did not.
    """
    left, own = progress.left, (plan.num_draws + (plan.num_burnin or 0)) * plan.steps_per_draw
    chains, worked = settled_chains(tuning, plan, progress, given=given)
    lengthened = 1.0
    while not given and chains.finite and plan.steps_per_draw < SHORTEST:
        result = single_result(tuning, plan, chains, worked)
        longer = min(_longer(result, tuning, plan), LONGEST / lengthened)
        if longer > 1.0:
            lengthened *= longer
            tuning = _with_step(tuning, longer * chains.step_size)
            tuning.reasons["step_size"] = (
                f"lengthened {lengthened:.2g} times, as chains had not come to rest, or flat "
                "directions hardly relaxed, and what is subtracted for the step was small"
            )
            chains.release()
            progress.expect(left)
            chains, worked = settled_chains(tuning, plan, progress, given=given)
            continue
        factor = _shorter(result, plan)
        if factor == 1:
            break
        plan = plan._replace(steps_per_draw=factor * plan.steps_per_draw)
        tuning = _with_step(tuning, chains.step_size / factor)
        tuning.reasons["step_size"] = (
            f"shortened {plan.steps_per_draw} times, with so many steps to a draw, where what is "
            "subtracted for the step would have been too large a share of the estimate"
        )
        chains.release()
        progress.expect(left + own * (factor - 1))
        left, own = progress.left, own * factor
        chains, worked = settled_chains(tuning, plan, progress, given=given)
    return tuning, plan, chains, worked


def _with_step(tuning: Tuning, step_size: float) -> Tuning:
    """The same settings with another step, and what minibatch noise then heats."""
    heating = tuning.measured["heating_by_minibatch_noise"] * step_size / tuning.step_size
    measured = {**tuning.measured, "heating_by_minibatch_noise": heating}
    return tuning._replace(step_size=step_size, measured=measured)


def _shorter(result: LLC, plan: Plan) -> int:
    """By how many times the step has to be shorter; 1 where it need not be, or nothing helps."""
    reasons = result.diagnostics["reasons"]
    correction = result.diagnostics["step_correction"]
    too_long = any(reason.startswith("step too large") for reason in reasons)
    # Where even before the correction there is less loss than at w*, no step would do.
    if not too_long or not math.isfinite(result.llc) or result.llc + correction <= 0.0:
        return 1
    much = correction > _MUCH * abs(result.llc)
    return SHORTEST // plan.steps_per_draw if much else SHORTER


def _longer(result: LLC, tuning: Tuning, plan: Plan) -> float:
    """By how many times the step may be longer; 1 where it need not be, or nothing helps."""
    known = result.diagnostics
    restless = any(
        why.startswith(("still drifting", "chains disagree")) for why in known["reasons"]
    )
    character = CHARACTER.get(plan.sampler, Character())
    if plan.sampler not in PRECONDITIONED and tuning.reasons["localisation"] != "as given":
        steps = plan.num_draws + (plan.num_burnin or 0)
        quickness = character.speed * known["step_size"] * steps
        restless |= quickness * tuning.posterior.localisation < FEWEST_RELAXATIONS
    if plan.steps_per_draw > 1 or not restless:
        return 1.0
    if plan.sampler == "mala":  # whose acceptance has set its step
        return 1.0
    stiffest = tuning.measured["largest_potential_curvature_in_metric"]
    of_stiffness = STIFFNESS * character.stability / (stiffest * known["step_size"])
    # Nothing helps where there is less loss than at w*.
    of_correction = LITTLE * max(result.llc, 0.0) / max(abs(known["step_correction"]), 1e-300)
    longer = min(LONGER, of_stiffness, of_correction)
    return longer if longer >= _WORTH_A_RUN else 1.0


def scanned(result: LLC, tuning: Tuning, plan: Plan, weakest: Chains, progress: Progress) -> LLC:
    """Chains at stronger localisations, same random numbers, and what their model says of none."""
    localisation = tuning.posterior.localisation * np.array(SCAN)
    if localisation[0] == 0.0:
        raise InputError('localisation "scan" found nothing to scan: the weakest is zero')
    others = [held_firmer(times, tuning, plan, weakest, progress).release() for times in SCAN[1:]]
    whole = extrapolated(result, tuning, plan, [weakest, *others])
    if abs(whole.llc - result.llc) > FAR * abs(whole.llc):
        why = f"{result.llc:.3g} at the weakest, {whole.llc:.3g} extrapolated to none; more draws"
        whole = whole.with_verdict("depends on localisation", f"{why} allow a weaker one")
    if not is_quadratic(weakest, _BEYOND_DOUBT):
        why = f"{growth_told(weakest)} at the weakest, as with a more singular point nearby"
        whole = whole.with_verdict("depends on localisation", why)
    return whole


def is_quadratic(chains: Chains, errors: float = BEYOND_NOISE) -> bool:
    """Whether the loss grows no more slowly along these chains than a quadratic, but for noise.

    By so many standard errors. Chains of MALA do not tell, and count as if it did.
    """
    seen = chains.traces
    return not seen.homogeneity < QUADRATIC - errors * seen.homogeneity_error


def growth_told(chains: Chains) -> str:
    """How the loss grows along these chains, in words."""
    power = 2.0 * chains.traces.homogeneity
    return f"the loss grows like the power {power:.3g} of the distance"


def held_firmer(
    times: float, tuning: Tuning, plan: Plan, weakest: Chains, progress: Progress
) -> Chains:
    """Chains like the weakest held, as long as they are, at so many times their localisation."""
    strength = times * tuning.posterior.localisation
    posterior = tuning.posterior._replace(localisation=strength)
    chains = new_chains(tuning._replace(posterior=posterior), plan, weakest.step_size)
    return chains.run(weakest.num_draws, num_burnin=plan.num_burnin or 0, progress=progress)


def extrapolated(result: LLC, tuning: Tuning, plan: Plan, scan: Sequence[Chains]) -> LLC:
    """What chains at the localisations of `SCAN`, in this order, say of none."""
    discard = result.diagnostics["num_burnin"] if plan.num_burnin is None else 0
    localisation = tuning.posterior.localisation * np.array(SCAN)
    traces = [corrected(tuning, chains.traces) for chains in scan]
    estimates = [summarise(trace[:, discard:]) for trace in traces]
    llc = np.array([estimate.llc for estimate in estimates])
    if not np.isfinite(llc).all():
        return result
    weights = weights_at_zero(localisation, llc)
    combined = np.einsum("k,kcd->cd", weights, np.stack(traces))
    estimate = summarise(combined[:, discard:])
    of_noise = [chains.traces.noise_bias_error for chains in scan]
    error = math.hypot(estimate.standard_error, *(weights * of_noise))
    estimate = estimate._replace(standard_error=error)
    dataset = result.dataset.assign_coords(localisation=localisation)
    about = {"long_name": "estimate at this localisation", "units": "1"}
    dataset["llc_by_localisation"] = ("localisation", llc, about)
    errors = [found.standard_error for found in estimates]
    dataset["standard_error_by_localisation"] = ("localisation", errors)
    dataset["weight_at_zero"] = ("localisation", weights)
    dataset["llc_trace"] = (("chain", "draw"), combined, dataset["llc_trace"].attrs)
    bias = result.llc - estimate.llc
    found = {
        "bias_of_localisation": bias,
        "plateau": bool(abs(llc[0] - llc[1]) <= max(0.03 * abs(llc[0]), 2.0 * errors[0])),
    }
    how = "extrapolated to zero from four localisations, of which this is the weakest"
    chosen = {**result.diagnostics["chosen"], "localisation": how}
    return _replaced(LLC(dataset), estimate, {**found, "chosen": chosen})


def step_checked(
    result: LLC, tuning: Tuning, plan: Plan, chains: Chains, progress: Progress
) -> LLC:
    """The same chains at half the step: what the correction of the step has left uncorrected.

    An error of first order in the step halves with it, so twice the difference is the error of the
    whole step. Longer chains of shorter steps cover the same time.
    """
    half = new_chains(tuning, plan, 0.5 * chains.step_size, 2 * plan.num_draws)
    half.run(2 * chains.num_draws, num_burnin=2 * (plan.num_burnin or 0), progress=progress)
    half.release()
    first = kept(plan, tuning, chains.traces)[0]
    second = kept(plan, tuning, half.traces)[0]
    bias = 2.0 * (first.llc - second.llc)
    error = 2.0 * math.hypot(first.standard_error, second.standard_error)
    found = {"step_bias": bias, "step_bias_standard_error": error, "llc_at_half_step": second.llc}
    result = result.with_diagnostics(found)
    if abs(bias) > max(2.0 * error, 0.1 * abs(first.llc)):
        why = f"halving it moves the estimate by {second.llc - first.llc:.3g}"
        result = result.with_verdict("step too large", why)
    return result


def judged_by_target(result: LLC, target: float | None, num_draws: int) -> LLC:
    """The verdict where a standard error was asked for and not met."""
    if target is None or not result.standard_error > target:
        return result
    reason = f"standard error {result.standard_error:.3g} after {num_draws} draws"
    return result.with_verdict("too few draws", f"{reason}; asked for less")


def _replaced(result: LLC, estimate: Estimate, found: dict[str, Any]) -> LLC:
    """The same result with another estimate."""
    dataset = result.dataset.copy()
    dataset["llc"] = ((), estimate.llc, dataset["llc"].attrs)
    dataset["standard_error"] = ((), estimate.standard_error, dataset["standard_error"].attrs)
    numbers = {"effective_draws": estimate.effective_draws, "rhat": estimate.rhat}
    return LLC(dataset).with_diagnostics({**numbers, **found})
