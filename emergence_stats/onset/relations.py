"""How onsets lie to one another: which came first, by how much, and whether they are one.

What lives here: lags between two onsets, their order, one onset shared by several curves, and
onsets that scatter about a common one; all from the posteriors of single curves. What does not:
those posteriors (`onset`), pictures (`plots`).

Given their onsets, curves are taken to be independent. So a curve's posterior over its prior, as a
function of the onset, is all the curve has to say, whatever is asked of several together: with x
the place on the axis on which onsets are uniform (log step by default), and

    l_k(x) = posterior_k(x) / prior_k(x)      given that curve k has an onset
    m_k    = p_k E[l_k] + 1 - p_k             E over what is believed of its onset, p_k that it is

the curves are prod_k m_k times as probable as if each had an onset anywhere, independently. Curves
without an onset thus say nothing, and no threshold decides which those are. Posteriors are stored
as masses of intervals; within an interval they are taken to be even, and everything here is exact
for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import ndtr

from emergence_stats.checks import PROB, check_prob
from emergence_stats.errors import InputError
from emergence_stats.onset.plots import plot_common_onset
from emergence_stats.results import BOUNDS, Result, as_table, select_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

# What is believed of the spread about a common onset: half-normal, this share of the axis.
SPREAD_SD = 0.2
# Spreads looked at, as shares of the axis, and places of the common onset besides those at which
# single curves have theirs.
SPREADS = np.geomspace(1e-4, 1.2, 40)
EVEN_PLACES = 65
MOST_PLACES = 250
LAG_POINTS = 513


@dataclass(frozen=True)
class Posteriors:
    """The onsets of several curves as masses of intervals.

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


def posteriors_of(dataset: xr.Dataset, step: Array, logarithmic: bool) -> Posteriors:
    """From an `Onset`'s dataset, its curves flattened."""
    edges = np.array(dataset["onset_step"].values, dtype=float).reshape(
        -1, dataset.sizes["onset_point"]
    )
    cumulative = np.array(dataset["cumulative"].values, dtype=float).reshape(edges.shape)
    edges = _apart(edges)
    place = edges
    ends = np.array([step[0], step[-1]], dtype=float)
    if logarithmic:
        offset = step[1] if step[0] == 0 else 0.0
        place, ends = np.log(place + offset), np.log(ends + offset)
    place = (place - ends[0]) / (ends[1] - ends[0])
    mass = np.diff(cumulative, axis=1)
    return Posteriors(
        edges,
        place,
        mass / mass.sum(axis=1, keepdims=True),
        np.array(dataset["probability"].values, dtype=float).ravel(),
    )


def _apart(edges: Array) -> Array:
    """Edges that rounding made equal are put apart by less than matters."""
    span = edges[:, -1:] - edges[:, :1]
    least = 1e-12 * span * np.arange(edges.shape[1])
    return np.maximum.accumulate(edges, axis=1) + least


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


class CommonOnset(Result):
    """Where onsets of several curves lie together, and how far they scatter.

    Attributes
    ----------
    dataset : xarray.Dataset
        For every group of curves `number` (expected number that have an onset), `median`, `lower`
        and `upper` of the common onset in steps, `spread`, `spread_lower` and `spread_upper`
        (standard deviation of single onsets about it: in units of log10 step, or in steps where
        onsets are uniform in step), `log_bayes_factor_shared` (one onset for all over one each,
        independently) and `log_bayes_factor_common` (scattered about a common one, over the same);
        `location`, its `density` and `cumulative` by `location_point`.
    """

    kind = "common onset"
    _by_curve = "median"

    def summary(self) -> pd.DataFrame:
        """One row a group: the common onset, the spread about it, both Bayes factors."""
        return as_table(self.dataset.drop_dims("location_point").data_vars)

    def interval(self, prob: float = PROB) -> xr.DataArray:
        """Between which steps does the common onset lie? See `Result.interval`."""
        found = xr.apply_ufunc(
            lambda below, at: np.interp(check_prob(prob), below, at),
            self.dataset["cumulative"],
            self.dataset["location"],
            input_core_dims=[["location_point"]] * 2,
            output_core_dims=[["bound"]],
            vectorize=True,
        )
        return found.assign_coords(bound=list(BOUNDS)).assign_attrs(units="steps").rename("onset")

    def plot(self, **selection: object) -> Figure:
        """The density of the common onset, with the spread in the title."""
        return plot_common_onset(select_one(self.dataset, self._dims, selection))

    def _note(self) -> str:
        return f"over {self.dataset.attrs['over']}"


def lag(first: xr.Dataset, second: xr.Dataset, prob: float) -> xr.Dataset:
    """See `Onset.lag`."""
    low_share, high_share = check_prob(prob)
    if first.attrs["step_prior"] != second.attrs["step_prior"]:
        raise InputError(
            f"other: its onsets are uniform in {second.attrs['step_prior']} step, these in "
            f"{first.attrs['step_prior']} step; detect both with the same step_prior"
        )
    inner = ["onset_step", "cumulative", "probability"]
    coords = [str(name) for name in first["probability"].coords]
    one, two = first[inner], second[inner]
    clash = [d for d in one["probability"].dims if d in two["probability"].dims]
    for dim in clash:
        if one.sizes[dim] != two.sizes[dim] or (
            dim in one.coords and dim in two.coords and not one[dim].equals(two[dim])
        ):
            raise InputError(
                f"other: its {dim!r} has other labels than this one's; select the same curves, or "
                "rename the dimension to compare all with all"
            )
    one, two = xr.broadcast(one, two, exclude=["onset_point"])
    dims = one["probability"].dims
    one, two = one.transpose(*dims, "onset_point"), two.transpose(*dims, "onset_point")
    logarithmic = first.attrs["step_prior"] == "log"
    steps = np.union1d(first["step"].values, second["step"].values).astype(float)
    ours, theirs = (posteriors_of(part, steps, logarithmic) for part in (one, two))
    shape = one["probability"].shape
    shares = [low_share, 0.5, high_share]
    found = np.empty((ours.probability.size, 5))
    for k in range(len(found)):
        lags, below = lag_distribution(ours, theirs, k, k)
        found[k, :3] = np.interp(shares, below, lags)
        found[k, 3] = before_probability(ours, theirs, k, k)
        pair = Posteriors(
            np.stack([ours.edges[k], theirs.edges[k]]),
            np.stack([ours.place[k], theirs.place[k]]),
            np.stack([ours.mass[k], theirs.mass[k]]),
            np.ones(2),
        )
        found[k, 4] = log_same_onset(pair)
    names = {
        "lower": ("lower bound of the lag", "steps"),
        "median": ("steps by which the second onset follows the first", "steps"),
        "upper": ("upper bound of the lag", "steps"),
        "probability_before": ("probability that the first onset came first", "1"),
        "log_bayes_factor_same": ("log Bayes factor of one onset over two", "1"),
    }
    both = one["probability"] * two["probability"]
    dataset = xr.Dataset(
        {
            name: (dims, found[:, k].reshape(shape), {"long_name": long_name, "units": units})
            for k, (name, (long_name, units)) in enumerate(names.items())
        },
        coords={name: both.coords[name] for name in both.coords if name in coords or name in dims},
        attrs={"kind": "lag", "prob": prob},
    )
    dataset["probability_both"] = both.assign_attrs(
        long_name="probability that both have an onset", units="1"
    )
    return dataset


def order(dataset: xr.Dataset, dim: str) -> xr.DataArray:
    """See `Onset.order`."""
    _check_dim(dataset, dim)
    logarithmic = dataset.attrs["step_prior"] == "log"
    step = dataset["step"].values
    inner = dataset[["onset_step", "cumulative", "probability"]]
    rest = [str(d) for d in inner["probability"].dims if d != dim]
    inner = inner.transpose(*rest, dim, "onset_point")
    size = inner.sizes[dim]
    curves = posteriors_of(inner, step, logarithmic)
    groups = curves.probability.size // size
    found = np.full((groups, size, size), 0.5)
    for g in range(groups):
        for a in range(size):
            for b in range(a):
                value = before_probability(curves, curves, g * size + a, g * size + b)
                found[g, a, b], found[g, b, a] = value, 1.0 - value
    other = f"{dim}_other"
    coords = {name: c for name, c in inner["probability"].coords.items() if name != dim}
    if dim in inner.coords:
        coords |= {dim: inner[dim].values, other: inner[dim].values}
    return xr.DataArray(
        found.reshape([inner.sizes[d] for d in rest] + [size, size]),
        dims=(*rest, dim, other),
        coords=coords,
        name="probability_before",
        attrs={"long_name": f"probability that the {dim} began before the other", "units": "1"},
    )


def _check_dim(dataset: xr.Dataset, dim: str) -> None:
    dims = [str(d) for d in dataset["probability"].dims]
    if dim not in dims:
        raise InputError(f"dim: {dim!r} is not a dimension of these curves, which have {dims}")


def common(dataset: xr.Dataset, dim: str, prob: float) -> CommonOnset:
    """See `Onset.common`."""
    check_prob(prob)
    _check_dim(dataset, dim)
    logarithmic = dataset.attrs["step_prior"] == "log"
    step = dataset["step"].values.astype(float)
    inner = dataset[["onset_step", "cumulative", "probability"]]
    rest = [str(d) for d in inner["probability"].dims if d != dim]
    inner = inner.transpose(*rest, dim, "onset_point")
    size = inner.sizes[dim]
    every = posteriors_of(inner, step, logarithmic)
    rows = []
    for g in range(every.probability.size // size):
        part = slice(g * size, (g + 1) * size)
        group = Posteriors(
            every.edges[part], every.place[part], every.mass[part], every.probability[part]
        )
        rows.append(_common(group, step, logarithmic, prob))
    shape = tuple(inner.sizes[d] for d in rest)
    spread_units = "log10 step" if logarithmic else "steps"
    about = {
        "number": ("expected number of curves with an onset", "1"),
        "median": ("posterior median of the common onset", "steps"),
        "lower": ("lower bound of the common onset", "steps"),
        "upper": ("upper bound of the common onset", "steps"),
        "spread": ("standard deviation of onsets about it, posterior median", spread_units),
        "spread_lower": ("its lower bound", spread_units),
        "spread_upper": ("its upper bound", spread_units),
        "log_bayes_factor_shared": ("one onset for all, over one each", "1"),
        "log_bayes_factor_common": ("scattered about a common onset, over one each", "1"),
    }
    values = np.array([row[0] for row in rows])
    found = xr.Dataset(
        {
            name: (rest, values[:, k].reshape(shape), {"long_name": text, "units": units})
            for k, (name, (text, units)) in enumerate(about.items())
        },
        coords={name: c for name, c in inner["probability"].coords.items() if dim not in c.dims},
        attrs={
            "over": dim,
            "prob": prob,
            "step_prior": dataset.attrs["step_prior"],
        },
    )
    inner_names = (("location", "steps"), ("density", "1/steps"), ("cumulative", "1"))
    for k, (name, units) in enumerate(inner_names, start=1):
        stacked = np.stack([row[k] for row in rows]).reshape(*shape, LAG_POINTS)
        found[name] = ((*rest, "location_point"), stacked, {"units": units})
    return CommonOnset(found)


def _common(
    curves: Posteriors, step: Array, logarithmic: bool, prob: float
) -> tuple[list[float], Array, Array, Array]:
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
    low_share, high_share = check_prob(prob)
    shares = np.array([low_share, 0.5, high_share])
    at = np.interp(shares, location, place)
    of_spread = mass.sum(axis=0)
    spread = np.exp(np.interp(shares, np.cumsum(of_spread) - 0.5 * of_spread, np.log(SPREADS)))
    ends = step[[0, -1]]
    offset = step[1] if logarithmic and step[0] == 0 else 0.0
    if logarithmic:
        ends = np.log(ends + offset)
    span = ends[1] - ends[0]

    def in_steps(x: Array) -> Array:
        y = ends[0] + np.asarray(x) * span
        return np.exp(y) - offset if logarithmic else y

    unit = span / np.log(10.0) if logarithmic else span
    low, mid, high = in_steps(at)
    blend = np.interp(np.linspace(0.0, 1.0, LAG_POINTS), 0.5 * location + 0.5 * place, place)
    shown = in_steps(blend)
    per_place = np.interp(blend, place, mass.sum(axis=1) / weight)
    slope = span * (shown + offset) if logarithmic else np.full(shown.size, span)
    values = [
        float(curves.probability.sum()),
        float(mid),
        float(low),
        float(high),
        float(spread[1] * unit),
        float(spread[0] * unit),
        float(spread[2] * unit),
        log_same_onset(curves),
        log_common,
    ]
    return values, shown, per_place / slope, np.interp(blend, place, location)


def _places(curves: Posteriors) -> Array:
    """Where the common onset may be: evenly, and where single onsets are."""
    own = np.unique(np.clip(curves.place[curves.probability > 1e-3], 0.0, 1.0))
    if own.size > MOST_PLACES:
        own = np.quantile(own, np.linspace(0.0, 1.0, MOST_PLACES))
    return np.unique(np.r_[np.linspace(0.0, 1.0, EVEN_PLACES), own])
