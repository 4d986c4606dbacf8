"""How onsets lie to one another: which came first, by how much, and whether they are one.

What lives here: these answers with their labels, from the onsets of single curves. What does not:
what they are computed by (`posteriors`), those onsets (`onset`), pictures (`plots`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from emergence_stats.checks import PROB, check_prob
from emergence_stats.curves.priors import StepAxis
from emergence_stats.errors import InputError
from emergence_stats.onset.plots import plot_common_onset
from emergence_stats.onset.posteriors import (
    Posteriors,
    before_probability,
    common_onset,
    cut_up,
    lag_distribution,
    log_same_onset,
)
from emergence_stats.results import BOUNDS, Result, as_table, select_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


def axis_of(dataset: xr.Dataset, *others: xr.Dataset) -> StepAxis:
    """The axis on which onsets of these results are uniform, over the steps of them all."""
    step = np.unique(np.concatenate([each["step"].values for each in (dataset, *others)]))
    return StepAxis.along(step.astype(float), dataset.attrs["step_prior"] == "log")


def posteriors_of(dataset: xr.Dataset, axis: StepAxis) -> Posteriors:
    """From an `Onset`'s dataset, its curves flattened."""
    step, cumulative = (
        np.array(dataset[name].values, dtype=float).reshape(-1, dataset.sizes["onset_point"])
        for name in ("onset_step", "cumulative")
    )
    probability = np.array(dataset["probability"].values, dtype=float).ravel()
    return cut_up(step, cumulative, probability, axis)


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
    axis = axis_of(first, second)
    ours, theirs = (posteriors_of(part, axis) for part in (one, two))
    shape = one["probability"].shape
    shares = [low_share, 0.5, high_share]
    found = np.empty((ours.probability.size, 5))
    for k in range(len(found)):
        lags, below = lag_distribution(ours, theirs, k, k)
        found[k, :3] = np.interp(shares, below, lags)
        found[k, 3] = before_probability(ours, theirs, k, k)
        pair = Posteriors(*(np.stack([a[k], b[k]]) for a, b in zip(ours, theirs, strict=True)))
        found[k, 4] = log_same_onset(pair._replace(probability=np.ones(2)))
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


def _along(dataset: xr.Dataset, dim: str) -> tuple[xr.Dataset, list[str]]:
    """An `Onset`'s dataset with this dimension the last of the curves', and the others."""
    dims = [str(d) for d in dataset["probability"].dims]
    if dim not in dims:
        raise InputError(f"dim: {dim!r} is not a dimension of these curves, which have {dims}")
    rest = [d for d in dims if d != dim]
    inner = dataset[["onset_step", "cumulative", "probability"]]
    return inner.transpose(*rest, dim, "onset_point"), rest


def order(dataset: xr.Dataset, dim: str) -> xr.DataArray:
    """See `Onset.order`."""
    inner, rest = _along(dataset, dim)
    size = inner.sizes[dim]
    curves = posteriors_of(inner, axis_of(dataset))
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


def common(dataset: xr.Dataset, dim: str, prob: float) -> CommonOnset:
    """See `Onset.common`."""
    low_share, high_share = check_prob(prob)
    inner, rest = _along(dataset, dim)
    axis, size = axis_of(dataset), inner.sizes[dim]
    every = posteriors_of(inner, axis)
    shares = np.array([low_share, 0.5, high_share])
    groups = [
        common_onset(every.take(slice(k, k + size)), axis, shares)
        for k in range(0, every.probability.size, size)
    ]
    shape = tuple(inner.sizes[d] for d in rest)
    spread_units = "log10 step" if axis.logarithmic else "steps"
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
    values = np.array(
        [
            [g.number, *g.common[[1, 0, 2]], *g.spread[[1, 0, 2]], g.log_shared, g.log_common]
            for g in groups
        ]
    )
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
    for name, units in (("location", "steps"), ("density", "1/steps"), ("cumulative", "1")):
        stacked = np.stack([getattr(group, name) for group in groups])
        dims = (*rest, "location_point")
        found[name] = (dims, stacked.reshape(*shape, stacked.shape[-1]), {"units": units})
    return CommonOnset(found)
