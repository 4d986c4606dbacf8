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


def steps_to(family: Family, parameters: list[Array], fraction: ArrayLike, span: float) -> Array:
    """First step at which each draw has done this share, or a share of its own, of its rise.

    Infinite where it never does (a decline sets in before, or the tail of a power law is longer
    than `HORIZON` spans), NaN where the family has no plateau to have a share of.
    """
    assert family.shape is not None
    onset, *others = (np.asarray(p, dtype=float)[:, None] for p in parameters)
    draw = np.arange(onset.size)
    wanted = np.broadcast_to(np.asarray(fraction, dtype=float), onset.size)[:, None]
    # The first of a row of steps at which it is there, then of finer rows before it. A rise that
    # begins gradually may be there before its onset, so the first row reaches back to step 0.
    ahead = np.geomspace(1e-9, HORIZON, ROW)
    row = np.hstack([onset * np.linspace(0.0, 1.0, ROW // 4), onset + span * ahead])
    with np.errstate(over="ignore", under="ignore"):
        last = family.shape(row[:, -1:], onset, *others)[:, 0]
        there = family.shape(row, onset, *others) >= wanted
        reached = there.any(axis=1)
        for _ in range(REFINEMENTS + 1):
            first = np.maximum(there.argmax(axis=1), 1)
            low, high = row[draw, first - 1], row[draw, first]
            row = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, ROW)
            there = family.shape(row, onset, *others) >= wanted
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
    data: xr.Dataset,
    dims: tuple[str, ...],
    fractions: ArrayLike,
    levels: ArrayLike | None,
    prob: float,
) -> xr.Dataset:
    """See `Comparison.time_to`; `data` is a comparison's dataset, `dims` those of its curves."""
    prob = check_share("prob", prob)
    name = "fraction" if levels is None else "level"
    targets = np.atleast_1d(np.asarray(fractions if levels is None else levels, dtype=float))
    if levels is not None and (targets.ndim != 1 or not np.isfinite(targets).all()):
        raise InputError(f"levels: {levels!r}; give scores, such as 0.9")
    if levels is None and (targets.ndim != 1 or not ((targets > 0) & (targets < 1)).all()):
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
    bounds = [0.5 - 0.5 * prob, 0.5, 0.5 + 0.5 * prob]
    step = np.full((len(draws), targets.size, 3), np.nan)
    chance = np.full((len(draws), targets.size), np.nan)
    passed = np.full((len(draws), targets.size), np.nan)
    for c in range(len(draws)):
        there = np.isfinite(observed[c])
        measured = all_steps[there]
        baseline, amplitude = draws[c, :, len(names) : len(names) + 2].T
        rising = bool(np.median(amplitude[owner[c] > 0]) > 0.0)
        span, last = float(np.ptp(measured)), float(measured[-1])
        for k, target in enumerate(targets):
            level = np.broadcast_to(target, baseline.shape)
            if levels is None:
                level = baseline + target * amplitude
            found = np.full(owner.shape[1], np.nan)
            for f, family in enumerate(families):
                mine = owner[c] == f
                if family.emerges and mine.any():
                    values = [draws[c, mine, names.index(p.name)] for p in family.parameters]
                    share = (level[mine] - baseline[mine]) / amplitude[mine]
                    found[mine] = steps_to(family, values, share, span)
                    # What lies before the rise has been passed, what lies beyond it never is.
                    found[mine] = np.where(share <= 0.0, measured[0], found[mine])
                    found[mine] = np.where(
                        (share >= 1.0) & ~np.isnan(found[mine]), np.inf, found[mine]
                    )
            known = np.sort(found[~np.isnan(found)])
            if known.size:
                # Of equal weight; inverted, so that infinite steps are not interpolated.
                step[c, k] = np.quantile(known, bounds, method="inverted_cdf")
                middle = float(np.median(level[owner[c] > 0]))
                passed[c, k] = crossing(measured, observed[c, there], middle, rising)
                chance[c, k] = (known <= last).mean()
        step[c][step[c] > FARTHEST * last] = np.inf
    coords = dict(data["verdict"].coords)
    return xr.Dataset(
        {
            "step_reached": (
                (*dims, name, "bound"),
                step.reshape(*shape, targets.size, 3),
                {"long_name": "step at which this is reached", "units": "steps"},
            ),
            "step_passed": (
                (*dims, name),
                passed.reshape(*shape, targets.size),
                {"long_name": "step at which the points passed it", "units": "steps"},
            ),
            "chance_reached": (
                (*dims, name),
                chance.reshape(*shape, targets.size),
                {"long_name": "probability that it is reached by the last step", "units": "1"},
            ),
        }
        | {name: data[name] for name in ("verdict", "largest_departure")},
        coords={**coords, name: targets, "bound": ["lower", "median", "upper"]},
    )
