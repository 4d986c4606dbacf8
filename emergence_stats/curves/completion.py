"""When will a curve have done a given share of its rise, and has it already?

What lives here: the steps at which posterior draws of `compare` reach shares of their plateau. What
does not: the draws (`summaries`), predictions of the score itself (`comparison`).
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import check_share
from emergence_stats.curves.families import Family, get_family, nonlinear_names
from emergence_stats.errors import InputError

Array = np.ndarray

# A share not reached within this many spans of the steps is not reached.
HORIZON = 1e12
BISECTIONS = 100


def steps_to(family: Family, parameters: list[Array], fraction: float, span: float) -> Array:
    """First step at which each draw has done this share of its rise.

    Infinite where it never does (a decline sets in before, or the tail of a power law is longer
    than `HORIZON` spans), NaN where the family has no plateau to have a share of.
    """
    assert family.shape is not None
    onset = parameters[0]

    def done(log_elapsed: Array) -> Array:
        return family.shape(onset + span * np.exp(log_elapsed), *parameters)  # type: ignore[misc]

    # The first of a coarse row of steps at which it is there, then bisection.
    row = np.linspace(np.log(1e-9), np.log(HORIZON), 200)
    with np.errstate(over="ignore"):
        level = np.stack([done(np.full_like(onset, x)) for x in row])
        there = level >= fraction
        first = there.argmax(axis=0)
        low, high = row[np.maximum(first - 1, 0)], row[first]
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            reached = done(middle) >= fraction
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    step = np.where(there.any(axis=0), onset + span * np.exp(high), np.inf)
    return np.where(level[-1] > 1.0 + 1e-6, np.nan, step)


def completion(
    data: xr.Dataset, dims: tuple[str, ...], fractions: ArrayLike, prob: float
) -> xr.Dataset:
    """See `Comparison.time_to`; `data` is a comparison's dataset, `dims` those of its curves."""
    prob = check_share("prob", prob)
    shares = np.atleast_1d(np.asarray(fractions, dtype=float))
    if shares.ndim != 1 or not shares.size or not ((shares > 0) & (shares < 1)).all():
        raise InputError(f"fractions: {fractions!r}; give shares between 0 and 1, such as 0.9")
    families = [get_family(str(name)) for name in data["family"].values]
    names = nonlinear_names(families)
    ordered = data.transpose(*dims, ...)
    draws = ordered["draw_value"].values
    shape = draws.shape[:-2]
    draws = draws.reshape(-1, *draws.shape[-2:])
    owner = ordered["draw_family"].values.reshape(len(draws), -1)
    observed = ordered["observed"].transpose(*dims, "step").values.reshape(len(draws), -1)
    all_steps = data["step"].values.astype(float)
    levels = [0.5 - 0.5 * prob, 0.5, 0.5 + 0.5 * prob]
    step = np.full((len(draws), shares.size, 3), np.nan)
    chance = np.full((len(draws), shares.size), np.nan)
    for c in range(len(draws)):
        measured = all_steps[np.isfinite(observed[c])]
        span, last = float(np.ptp(measured)), float(measured[-1])
        for k, fraction in enumerate(shares):
            found = np.full(owner.shape[1], np.nan)
            for f, family in enumerate(families):
                mine = owner[c] == f
                if family.emerges and mine.any():
                    values = [draws[c, mine, names.index(p.name)] for p in family.parameters]
                    found[mine] = steps_to(family, values, float(fraction), span)
            known = np.sort(found[~np.isnan(found)])
            if known.size:
                # Of equal weight; inverted, so that infinite steps are not interpolated.
                step[c, k] = np.quantile(known, levels, method="inverted_cdf")
                chance[c, k] = (known <= last).mean()
    coords = dict(data["verdict"].coords)
    return xr.Dataset(
        {
            "step_reached": (
                (*dims, "fraction", "bound"),
                step.reshape(*shape, shares.size, 3),
                {"long_name": "step at which this share of the rise is done", "units": "steps"},
            ),
            "chance_reached": (
                (*dims, "fraction"),
                chance.reshape(*shape, shares.size),
                {"long_name": "probability that it is done by the last step", "units": "1"},
            ),
        },
        coords={**coords, "fraction": shares, "bound": ["lower", "median", "upper"]},
    )
