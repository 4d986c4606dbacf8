"""How onsets lie to one another: which came first, by how much, and whether they are one.

What lives here: lags between two onsets, their order, and onsets that scatter about a common one,
with their labels. What does not: the mathematics (`posteriors`), the posteriors of single curves
(`onset`), pictures (`plots`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from emergence_stats.checks import PROB, check_prob
from emergence_stats.errors import InputError
from emergence_stats.onset.plots import plot_common_onset
from emergence_stats.onset.posteriors import (
    LAG_POINTS,
    Posteriors,
    before_probability,
    common_posterior,
    lag_distribution,
    log_same_onset,
)
from emergence_stats.results import BOUNDS, Result, as_table, select_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


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


def posteriors_of(dataset: xr.Dataset, step: Array, logarithmic: bool) -> Posteriors:
    """From an `Onset`'s dataset, its curves flattened."""
    shape = (-1, dataset.sizes["onset_point"])
    edges, cumulative = (
        np.array(dataset[name].values, dtype=float).reshape(shape)
        for name in ("onset_step", "cumulative")
    )
    probability = np.array(dataset["probability"].values, dtype=float).ravel()
    return Posteriors.of(edges, cumulative, probability, step, logarithmic)


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
        group = every.take(slice(g * size, (g + 1) * size))
        rows.append(common_posterior(group, step, logarithmic, check_prob(prob)))
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
