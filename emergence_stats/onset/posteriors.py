"""Onsets of several curves as masses of intervals, and what follows from them, on plain arrays.

What lives here: lags, which came first, one onset for all, onsets that scatter about a common one.
What does not: the posteriors of single curves (`onset`), labels (`relations`).

Given their onsets, curves are taken to be independent. So a curve's posterior over its prior, as a
function of the onset, is all the curve has to say, whatever is asked of several together: with x
the place on the axis on which onsets are uniform (log step by default), and

    l_k(x) = posterior_k(x) / prior_k(x)      given that curve k has an onset
    m_k    = p_k E[l_k] + 1 - p_k             E over what is believed of its onset, p_k that it is

the curves are prod_k m_k times as probable as if each had an onset anywhere, independently. Curves
without an onset thus say nothing, and no threshold decides which those are. Within an interval
posteriors are taken to be even, and everything here is exact for that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from emergence_stats.curves.priors import StepAxis

Array = np.ndarray

# What is believed of the spread about a common onset: half-normal, this share of the axis.
SPREAD_SD = 0.2
# Spreads looked at, as shares of the axis, and places of the common onset besides those at which
# single curves have theirs.
SPREADS = np.geomspace(1e-4, 1.2, 40)
EVEN_PLACES = 65
MOST_PLACES = 250
LAG_POINTS = 513


class Posteriors(NamedTuple):
    """The onsets of several curves.

    Attributes
    ----------
    edges : ndarray, shape (curve, edge)
        In steps.
    place : ndarray, shape (curve, edge)
        The same on the axis on which onsets are uniform, 0 to 1 from the first step to the last.
    mass : ndarray, shape (curve, edge - 1)
        Sums to 1.
    probability : ndarray, shape (curve,)
        That there is an onset at all.
    """

    edges: Array
    place: Array
    mass: Array
    probability: Array

    @property
    def ratio(self) -> Array:
        """Posterior over prior, interval by interval."""
        return self.mass / np.diff(self.place, axis=1)

    def take(self, part: slice) -> Posteriors:
        """The same for chosen curves."""
        return Posteriors(*(values[part] for values in self))


def cut_up(step: Array, cumulative: Array, probability: Array, axis: StepAxis) -> Posteriors:
    """From cumulative distributions at steps, each of shape (curve, edge)."""
    # Edges that rounding made equal are put apart by less than matters.
    least = 1e-12 * (step[:, -1:] - step[:, :1]) * np.arange(step.shape[1])
    edges = np.maximum.accumulate(step, axis=1) + least
    mass = np.diff(cumulative, axis=1)
    return Posteriors(
        edges, axis.step_to_position(edges), mass / mass.sum(axis=1, keepdims=True), probability
    )


def _mean_below(edges: Array, mass: Array, low: Array, high: Array) -> Array:
    """Mean over t from `low` to `high` of the probability that the onset is below t."""
    cumulative = np.concatenate([[0.0], np.cumsum(mass)])
    width = np.diff(edges)
    area = np.concatenate([[0.0], np.cumsum(0.5 * (cumulative[1:] + cumulative[:-1]) * width)])

    def integral(t: Array) -> Array:
        inside = np.clip(t, edges[0], edges[-1])
        j = np.clip(np.searchsorted(edges, inside, side="right") - 1, 0, width.size - 1)
        part = inside - edges[j]
        value = area[j] + cumulative[j] * part + 0.5 * mass[j] / width[j] * part**2
        return value + np.maximum(t - edges[-1], 0.0)

    return (integral(high) - integral(low)) / (high - low)


def before_probability(one: Posteriors, other: Posteriors, a: int, b: int) -> float:
    """Probability that curve a of `one` began before curve b of `other`, given that both did."""
    later = _mean_below(one.edges[a], one.mass[a], other.edges[b, :-1], other.edges[b, 1:])
    return float(other.mass[b] @ later)


def lag_distribution(one: Posteriors, other: Posteriors, a: int, b: int) -> tuple[Array, Array]:
    """Lags (steps) of the second onset behind the first, and the probability of a smaller one."""
    share = (np.arange(96) + 0.5) / 96
    first = np.interp(share, np.r_[0.0, np.cumsum(one.mass[a])], one.edges[a])
    second = np.interp(share, np.r_[0.0, np.cumsum(other.mass[b])], other.edges[b])
    rough = np.sort((second[:, None] - first[None]).ravel())
    ends = other.edges[b, 0] - one.edges[a, -1], other.edges[b, -1] - one.edges[a, 0]
    inner = np.quantile(rough, np.linspace(0.0, 1.0, LAG_POINTS - 2))
    lag = np.unique(np.r_[ends[0], inner, ends[1]])
    low, high = one.edges[a, :-1], one.edges[a, 1:]
    below = [
        float(one.mass[a] @ _mean_below(other.edges[b], other.mass[b], low + d, high + d))
        for d in lag
    ]
    return lag, np.maximum.accumulate(np.clip(below, 0.0, 1.0))


def log_same_onset(curves: Posteriors) -> float:
    """Log Bayes factor of one onset for all curves that have one, over one each, independently."""
    place = np.unique(np.clip(curves.place, 0.0, 1.0))
    middle = 0.5 * (place[1:] + place[:-1])
    total = np.zeros(middle.size)
    for k, p in enumerate(curves.probability):
        at = np.searchsorted(curves.place[k], middle, side="right") - 1
        inside = (at >= 0) & (at < curves.mass.shape[1])
        ratio = np.where(inside, curves.ratio[k][np.clip(at, 0, curves.mass.shape[1] - 1)], 0.0)
        with np.errstate(divide="ignore"):
            total += np.log(p * ratio + (1.0 - p))
    with np.errstate(divide="ignore"):
        return float(np.logaddexp.reduce(total + np.log(np.diff(place))))


class CommonPosterior(NamedTuple):
    """Where onsets lie together, and how far they scatter.

    Attributes
    ----------
    number : float
        Expected number of curves that have an onset.
    common, spread : ndarray, shape (share,)
        Quantiles of the common onset, in steps, and of the sd of single onsets about it, in log10
        steps or in steps.
    log_shared, log_common : float
        Log Bayes factors of one onset for all, and of onsets that scatter about a common one, over
        one each, independently.
    location, density, cumulative : ndarray, shape (LAG_POINTS,)
        The common onset's posterior, by step.
    """

    number: float
    common: Array
    spread: Array
    log_shared: float
    log_common: float
    location: Array
    density: Array
    cumulative: Array


def common_onset(curves: Posteriors, axis: StepAxis, shares: Array) -> CommonPosterior:
    """Posterior of location and spread on a grid, uniform times half-normal before the data."""
    place = _places(curves)
    log_density = np.zeros((place.size, SPREADS.size))
    inside = ndtr((1.0 - place[:, None]) / SPREADS) - ndtr(-place[:, None] / SPREADS)
    for k, p in enumerate(curves.probability):
        if p < 1e-6:
            continue
        # Intervals of no weight to speak of are left out, those between them kept.
        heavy = np.flatnonzero(curves.mass[k] > 1e-10)
        part = slice(heavy[0], heavy[-1] + 2)
        edges, ratio = curves.place[k, part], curves.ratio[k, heavy[0] : heavy[-1] + 1]
        for j, spread in enumerate(SPREADS):
            below = ndtr((edges[None] - place[:, None]) / spread)
            mean = (np.diff(below, axis=1) @ ratio) / inside[:, j]
            with np.errstate(divide="ignore"):
                log_density[:, j] += np.log(p * mean + (1.0 - p))
    # Trapezoidal weights of the places; prior masses of the spreads, from the middle of one gap
    # to that of the next, all below the first with the first.
    width = np.diff(place)
    weight = np.r_[width, 0.0] * 0.5 + np.r_[0.0, width] * 0.5
    middle = np.sqrt(SPREADS[1:] * SPREADS[:-1])
    below = np.r_[0.0, 2.0 * ndtr(middle / SPREAD_SD) - 1.0, 1.0]
    with np.errstate(divide="ignore"):
        joint = log_density + np.log(weight)[:, None] + np.log(np.diff(below))[None]
    log_common = float(np.logaddexp.reduce(joint, axis=None))
    mass = np.exp(joint - log_common)
    location = np.cumsum(mass.sum(axis=1))
    location = (location - 0.5 * mass.sum(axis=1)) / location[-1]
    of_spread = mass.sum(axis=0)
    spread = np.exp(np.interp(shares, np.cumsum(of_spread) - 0.5 * of_spread, np.log(SPREADS)))
    blend = np.interp(np.linspace(0.0, 1.0, LAG_POINTS), 0.5 * location + 0.5 * place, place)
    shown = axis.position_to_step(blend)
    return CommonPosterior(
        number=float(curves.probability.sum()),
        common=axis.position_to_step(np.interp(shares, location, place)),
        spread=spread * axis.length / (np.log(10.0) if axis.logarithmic else 1.0),
        log_shared=log_same_onset(curves),
        log_common=log_common,
        location=shown,
        density=np.interp(blend, place, mass.sum(axis=1) / weight) * axis.step_density(shown),
        cumulative=np.interp(blend, place, location),
    )


def _places(curves: Posteriors) -> Array:
    """Where the common onset may be: evenly, and where single onsets are."""
    own = np.unique(np.clip(curves.place[curves.probability > 1e-3], 0.0, 1.0))
    if own.size > MOST_PLACES:
        own = np.quantile(own, np.linspace(0.0, 1.0, MOST_PLACES))
    return np.unique(np.r_[np.linspace(0.0, 1.0, EVEN_PLACES), own])
