"""What the slope of the mean loss against temperature comes to.

What lives here: how chains at several temperatures become an outcome. What does not: running them
(`temperature`), and the class users hold (`results`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.estimator import stationary_from, summarise
from emergence_stats.degeneracy.judgement.localisation import change_by_draw
from emergence_stats.degeneracy.judgement.outcome import Outcome, begin_outcome
from emergence_stats.degeneracy.judgement.runs import Plan, correct_for_step
from emergence_stats.degeneracy.judgement.verdicts import Check, Finding, judge

_STRAIGHT = 3.0  # standard errors by which the two halves of the line may differ
_BENT = 0.1  # and the difference that matters, as a share of the slope


class AtTemperature(NamedTuple):
    """What chains at one temperature recorded.

    Attributes
    ----------
    inverse_temperature, localisation : float
    excess : ndarray, shape (chain, draw)
        L(w) - L(w*), corrected for the finite step.
    step_correction, noise_error : float
        The mean of that correction, times n*beta, and the error of its share from minibatch noise.
    squared_distance : ndarray, shape (chain, draw), or None
        ``|w - w*|^2``, where it was measured.
    """

    inverse_temperature: float
    localisation: float
    excess: NDArray[np.float64]
    step_correction: float
    noise_error: float
    squared_distance: NDArray[np.float64] | None


def record_temperature(chains: Chains) -> AtTemperature:
    """What these chains recorded so far."""
    posterior, traces = chains.tuning.posterior, chains.traces
    return AtTemperature(
        posterior.inverse_temperature,
        posterior.localisation,
        correct_for_step(chains) / posterior.scale,
        float(traces.bias[:, traces.bias.shape[1] // 4 :].mean()),
        traces.noise_bias_error / posterior.scale,
        traces.squared_distance,
    )


def assess_slope(
    plan: Plan,
    coldest: Chains,
    records: Sequence[AtTemperature],
    singular_fluctuation: float,
) -> Outcome:
    """The slope of the mean loss over temperatures, with what tells whether to believe it.

    Parameters
    ----------
    plan : Plan
    coldest : Chains
        The first of the records is theirs.
    records : sequence of AtTemperature
        The coldest first.
    singular_fluctuation : float
        At the coldest temperature.
    """
    landscape = coldest.tuning.posterior.landscape
    betas = np.array([one.inverse_temperature for one in records])
    temperature = 1.0 / (landscape.num_samples * betas)
    excess = np.stack([one.excess for one in records])
    offsets = temperature - temperature.mean()
    # Errors of the mean loss are in proportion to the temperature, which asks for weights 1 / T^2;
    # but the draws share their random numbers, so least squares as it stands loses little.
    weights = offsets / (offsets**2).sum()
    slopes = np.einsum("k,kcd->cd", weights, excess)
    finite = bool(np.isfinite(excess).all())
    discard, stationary = 0, True
    if plan.num_burnin is None and finite:
        starts = [stationary_from(trace) for trace in excess]
        discard, stationary = max(start for start, _ in starts), all(good for _, good in starts)
    estimate = summarise(slopes[:, discard:])
    error = math.hypot(estimate.standard_error, *(weights * [one.noise_error for one in records]))
    estimate = estimate._replace(standard_error=error)
    correction = float(np.mean([one.step_correction for one in records]))
    findings = judge(estimate, stationary=stationary, step_correction=correction)
    means = [summarise(trace[:, discard:]) for trace in excess]
    loss = landscape.initial_loss + np.array([mean.llc for mean in means])
    at_zero = float(loss.mean() - estimate.llc * temperature.mean())
    bend = math.nan
    if len(records) > 2 and finite:
        steps = np.diff(excess, axis=0) / np.diff(temperature)[:, None, None]
        difference = summarise((steps[-1] - steps[0])[:, discard:])
        bend = difference.llc / max(difference.standard_error, 1e-300)
        bound = _BENT * abs(estimate.llc)
        if abs(bend) > _STRAIGHT and abs(difference.llc) > bound:
            findings = (*findings, Finding(Check.STRAIGHT_LINE, difference.llc, bound))
    about = {"long_name": "slope of the loss"}
    outcome = begin_outcome(plan, coldest, estimate, findings, discard, slopes, about)
    change, change_error = _change_if_localisation_halved(records, weights, discard)
    outcome = outcome.with_numbers(
        step_correction=correction,
        bend_in_standard_errors=bend,
        change_if_localisation_halved=change,
        change_if_localisation_halved_standard_error=change_error,
    )
    natural = 1.0 / math.log(max(landscape.num_samples, 3))
    along, units = "inverse_temperature", {"units": "loss"}
    about_wbic = {"long_name": "n E[L] at beta = 1 / log n", **units}
    variables = {
        **outcome.variables,
        "loss": ((along, "chain", "draw"), landscape.initial_loss + excess),
        "mean_loss": (along, loss, units),
        "mean_loss_standard_error": (along, [mean.standard_error for mean in means], units),
        "temperature": (along, temperature, {"long_name": "1 / (n beta)"}),
        "loss_at_zero": ((), at_zero, units),
        "wbic": ((), landscape.num_samples * at_zero + estimate.llc / natural, about_wbic),
        "singular_fluctuation": ((), singular_fluctuation, {"units": "1"}),
    }
    return outcome._replace(variables=variables, coords={**outcome.coords, along: betas})


def _change_if_localisation_halved(
    records: Sequence[AtTemperature], weights: NDArray[np.float64], discard: int
) -> tuple[float, float]:
    """By how much the slope would move, and the standard error of that; NaN where not known."""
    moved = [
        change_by_draw(one.excess[:, discard:], one.squared_distance[:, discard:], one.localisation)
        for one in records
        if one.squared_distance is not None and np.isfinite(one.excess).all()
    ]
    if len({one.shape for one in moved}) != 1 or len(moved) < len(records):
        return math.nan, math.nan
    if moved[0].shape[1] < 4:
        return math.nan, math.nan
    of_slope = summarise(np.einsum("k,kcd->cd", weights, np.stack(moved)))
    return of_slope.llc, of_slope.standard_error
