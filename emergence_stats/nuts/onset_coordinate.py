"""The onset's coordinate in the PyMC model: a staircase along the axis, a stair at each checkpoint.

What lives here: the smooth bijection from a coordinate on the whole real line to the onset, written
for NumPy arrays and PyTensor variables alike. What does not: what the onset is
(`curves.families.ONSET`), which checkpoints have a stair (`stairs.with_stairs`), the density
(`models`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emergence_stats.curves.families import Family
from emergence_stats.nuts.data import CurveData
from emergence_stats.nuts.universal import sigmoid, total_over_points

# NumPy arrays or PyTensor variables.
Tensor = Any


def extent_of(family: Family, others: list[Tensor], data: CurveData) -> Tensor:
    """How many steps the shape takes to change: its first parameter in steps after the onset."""
    for parameter, value in zip(family.parameters[1:], others, strict=True):
        if parameter.units == "steps" and parameter.prior.free:
            return value
    return data.shortest_gap


def stairs(data: CurveData, extent: Tensor) -> Tensor:
    """Where on the onset's coordinate each stair stands, shape (..., stair).

    The onset's position on its axis is sum_g w_g S(x - c_g), S the logistic function and w_g the
    widths of the intervals between chosen checkpoints. Where T, in which the shape changes, is
    short beside these, the likelihood has a cliff at each checkpoint and, with one point within
    the rise, a ridge along which T shrinks with the distance to it. Stairs placed

        c_(g+1) - c_g = 2 log(1 + w / (s T))

    apart magnify a checkpoint's neighbourhood so that x is the logarithm of the distance to it:
    cliffs turn gentle and ridges straight. Where T is long the stairs merge into an even slope.
    It is a smooth bijection whatever the widths, so they are chosen as serves the sampler best.
    """
    apart = 2.0 * np.log1p(data.stair_reach / (data.sharpness * extent * data.stair_rate))
    centre = apart.cumsum(axis=-1)
    # The stair called home stays put as T changes.
    return centre - (centre * data.stair_home).sum(axis=-1, keepdims=True)


def onset_position(x: Tensor, centre: Tensor, data: CurveData) -> tuple[Tensor, Tensor]:
    """Position on the axis at coordinate x, and the log of its derivative."""
    away = x - centre
    slope = np.exp(-abs(away)) / (1.0 + np.exp(-abs(away))) ** 2
    position = total_over_points(data.stair_width * sigmoid(away))
    return position, np.log(total_over_points(data.stair_width * slope))


def onset_at(position: Tensor, data: CurveData, logarithmic: bool) -> Tensor:
    """The step at a share of the onset's axis, as `priors.StepAxis` has it."""
    if not logarithmic:
        return data.first + position * (data.last - data.first)
    low, high = np.log(data.first + data.offset), np.log(data.last + data.offset)
    return np.exp(low + position * (high - low)) - data.offset
