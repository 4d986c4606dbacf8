"""Which checkpoints have a stair in the onset's coordinate, from draws of a density without any.

What lives here: choosing the stairs, and bringing draws onto them. What does not: the coordinate
itself (`onset_coordinate`), the draws (`sampling`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emergence_stats.curves.families import Family
from emergence_stats.curves.priors import StepAxis
from emergence_stats.nuts.data import CurveData
from emergence_stats.nuts.linear import eliminate
from emergence_stats.nuts.models import onset_centres, pieces
from emergence_stats.nuts.onset_coordinate import onset_position

Array = np.ndarray

MAX_STAIRS = 64
SHARPNESS = (1e-3, 1.0)


def with_stairs(
    family: Family, noise: str, data: CurveData, logarithmic: bool, draws: Array
) -> CurveData:
    """The data with stairs at the checkpoints among which these draws' onsets lie.

    Draws are of a density without stairs, shape (draw, coordinate).
    """
    if not family.emerges:
        return data
    axis = StepAxis(
        np.asarray(data.first),
        np.asarray(data.last),
        np.asarray(data.shortest_gap),
        np.asarray(data.offset),
        logarithmic,
    )
    checkpoints = axis.step_to_position(data.step)[1:-1]
    onset = 0.5 + 0.5 * np.tanh(0.5 * draws[:, 0])
    inside = np.searchsorted(checkpoints, np.quantile(onset, [0.001, 0.5, 0.999]))
    low, high = max(inside[0] - 2, 0), min(inside[2] + 2, checkpoints.size)
    stride = -(-(high - low) // MAX_STAIRS)
    chosen = np.arange(low, high)[:: max(stride, 1)]
    ends = np.concatenate([[0.0], checkpoints[chosen], [1.0]])
    width = np.diff(ends)
    reach = np.concatenate([[0.0], np.minimum(width[1:], width[:-1])])
    step = data.step[1:-1][chosen]
    rate = np.concatenate([[1.0], axis.step_density(step)])
    home = np.zeros(width.size)
    home[np.searchsorted(ends[1:-1], np.median(onset))] = 1.0
    return replace(
        data,
        stair_width=width,
        stair_reach=reach,
        stair_rate=rate,
        stair_home=home,
        sharpness=_sharpness(family, data, logarithmic, noise, draws),
    )


def without_stairs(data: CurveData) -> CurveData:
    """The same data with the onset's coordinate as the population's draws have it."""
    one = np.ones(1)
    return replace(data, stair_width=one, stair_reach=0.0 * one, stair_rate=one, stair_home=one)


def _sharpness(
    family: Family, data: CurveData, logarithmic: bool, noise: str, draws: Array
) -> float:
    """Noise beside amplitude, as these draws have it."""
    with np.errstate(all="ignore"):
        at = pieces(family, noise, data, logarithmic, list(draws.T[:, :, None]))
        amplitude = eliminate(data.y, at.shape, at.noise).amplitude
        ratio = np.exp(at.noise.log_sigma) / abs(amplitude)
    return float(np.clip(np.median(ratio), *SHARPNESS))


def on_stairs(family: Family, noise: str, data: CurveData, x: Array) -> Array:
    """The same points with the onset's coordinate on the data's stairs, found by bisection."""
    if not family.emerges:
        return x
    wanted = 0.5 + 0.5 * np.tanh(0.5 * x[:, :1])
    centre = onset_centres(family, noise, data, list(x.T[:, :, None]))
    low = np.full_like(wanted, centre.min() - 40.0)
    high = np.full_like(wanted, centre.max() + 40.0)
    for _ in range(80):
        middle = 0.5 * (low + high)
        below = onset_position(middle, centre, data)[0] < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.concatenate([0.5 * (low + high), x[:, 1:]], axis=1)
