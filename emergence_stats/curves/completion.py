"""When will a curve have done a given share of its rise, and has it already?

What lives here: the steps at which posterior draws of `compare` reach shares of their plateau, and
where the points themselves did. What does not: the draws (`summaries`), predictions of the score
itself (`comparison`).
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
# A forecast of more than this many times the last measured step is none: no data support it.
FARTHEST = 10.0
# Steps tried in a row, and how often the last gap is divided into as many.
ROW, REFINEMENTS = 200, 5


def steps_to(family: Family, parameters: list[Array], fraction: float, span: float) -> Array:
    """First step at which each draw has done this share of its rise.

    Infinite where it never does (a decline sets in before, or the tail of a power law is longer
    than `HORIZON` spans), NaN where the family has no plateau to have a share of.
    """
    assert family.shape is not None
    onset, *others = (np.asarray(p, dtype=float)[:, None] for p in parameters)
    draw = np.arange(onset.size)
    # The first of a row of steps at which it is there, then of finer rows before it. A rise that
    # begins gradually may be there before its onset, so the first row reaches back to step 0.
    ahead = np.geomspace(1e-9, HORIZON, ROW)
    row = np.hstack([onset * np.linspace(0.0, 1.0, ROW // 4), onset + span * ahead])
    with np.errstate(over="ignore", under="ignore"):
        last = family.shape(row[:, -1:], onset, *others)[:, 0]
        there = family.shape(row, onset, *others) >= fraction
        reached = there.any(axis=1)
        for _ in range(REFINEMENTS + 1):
            first = np.maximum(there.argmax(axis=1), 1)
            low, high = row[draw, first - 1], row[draw, first]
            row = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, ROW)
            there = family.shape(row, onset, *others) >= fraction
            there[:, -1] = True  # but for rounding
    return np.where(last > 1.0 + 1e-6, np.nan, np.where(reached, high, np.inf))


def crossing(step: Array, values: Array, level: float, rising: bool) -> float:
    """Where the mean of three neighbouring points passes a level to stay beyond it; NaN if nowhere.

    Examples
    --------
    >>> crossing(np.arange(6.0), np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), 0.5, True)
    2.5
    """
    smooth = np.convolve(np.pad(values, 1, mode="edge"), np.full(3, 1.0 / 3.0), mode="valid")
    beyond = smooth >= level if rising else smooth <= level
    if beyond.all() or not beyond[-1]:
        return np.nan
    last = np.flatnonzero(~beyond)[-1]
    share = (level - smooth[last]) / (smooth[last + 1] - smooth[last])
    return float(step[last] + share * (step[last + 1] - step[last]))


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
    passed = np.full((len(draws), shares.size), np.nan)
    for c in range(len(draws)):
        there = np.isfinite(observed[c])
        measured = all_steps[there]
        linear = draws[c, owner[c] > 0, len(names) : len(names) + 2]
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
                level = np.median(linear[:, 0] + fraction * linear[:, 1])
                passed[c, k] = crossing(
                    measured, observed[c, there], level, np.median(linear[:, 1]) > 0.0
                )
                chance[c, k] = (known <= last).mean()
        step[c][step[c] > FARTHEST * last] = np.inf
    coords = dict(data["verdict"].coords)
    return xr.Dataset(
        {
            "step_reached": (
                (*dims, "fraction", "bound"),
                step.reshape(*shape, shares.size, 3),
                {"long_name": "step at which this share of the rise is done", "units": "steps"},
            ),
            "step_passed": (
                (*dims, "fraction"),
                passed.reshape(*shape, shares.size),
                {"long_name": "step at which the points passed this share", "units": "steps"},
            ),
            "chance_reached": (
                (*dims, "fraction"),
                chance.reshape(*shape, shares.size),
                {"long_name": "probability that it is done by the last step", "units": "1"},
            ),
        }
        | {name: data[name] for name in ("verdict", "largest_departure")},
        coords={**coords, "fraction": shares, "bound": ["lower", "median", "upper"]},
    )
