"""What an online filter of changepoints keeps of each curve, and what stays the same.

What lives here: the state, the settings with their grid of the noise, and the state before the
first point. What does not: taking a point in (`filter`, where the model is told).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emergence_stats.noise.beliefs import (
    ONLINE_CORRELATIONS,
    ONLINE_SIZES,
    log_prior_size,
)

Array = np.ndarray

CONSTANT, LINEAR, JOINED = 0, 1, 2


class OnlineState(NamedTuple):
    """What the next point needs. Beginnings are those of the last segment; 0 is "no change yet".

    Attributes
    ----------
    log_weight : ndarray, shape (curve, beginning, node)
        Log of the joint density of all points so far, up to a constant of each curve.
    earlier : ndarray, shape (curve, beginning, node)
        Share of that in which an earlier change is certain to have lasted.
    moments : ndarray, shape (curve, beginning, node, 2 or 5)
        Mean and variance of the level; of a line value, slope, and their three (co)variances, the
        value at its first point, or, where lines meet, at the last.
    points : ndarray of int, shape (curve, beginning)
        Points of the segment; 0 where a slot is free.
    start, unit : ndarray, shape (curve, beginning)
        Place of the segment's first point on a line's axis, and of the gap that followed (0: none).
    first, first_square : ndarray, shape (curve, beginning)
        Mean and mean square of the place of the curve's first change.
    previous, place, line_place : ndarray, shape (curve,)
        The last value and where it was, on the axis of changes and on that of lines.
    seen : ndarray of int, shape (curve,)
        Points so far.
    """

    log_weight: Array
    earlier: Array
    moments: Array
    points: Array
    start: Array
    unit: Array
    first: Array
    first_square: Array
    previous: Array
    place: Array
    line_place: Array
    seen: Array


class OnlineSettings(NamedTuple):
    """What stays the same from point to point.

    Attributes
    ----------
    variance, rho, log_prior : ndarray, shape (node,)
        Variance of what is new from point to point, correlation, and log prior mass.
    model : int
        Levels, lines, or lines that meet.
    min_points : int
        Points after which a segment may end and counts as a change.
    onset_probability : float
        That there is any change between places 0 and 1.
    further_changes : float
        Expected number of further ones over that length.
    line_end : float
        Where place 1 is on the axis of lines.
    """

    variance: Array
    rho: Array
    log_prior: Array
    model: int
    min_points: int
    onset_probability: float
    further_changes: float
    line_end: float


def settings(
    *,
    correlated: bool,
    model: int = CONSTANT,
    min_points: int = 2,
    onset_probability: float = 0.5,
    further_changes: float = 4.0,
    line_end: float = 1.0,
) -> OnlineSettings:
    """The grid of the noise with its prior (`noise.beliefs`), and the rest as given."""
    mass = np.exp(log_prior_size(np.log(ONLINE_SIZES)))
    rho, share = np.array(ONLINE_CORRELATIONS if correlated else [(0.0, 1.0)]).T
    variance = np.repeat(ONLINE_SIZES**2, rho.size)
    log_prior = np.log(np.outer(mass / mass.sum(), share / share.sum()).ravel())
    return OnlineSettings(
        variance,
        np.tile(rho, ONLINE_SIZES.size),
        log_prior,
        model,
        min_points,
        onset_probability,
        further_changes,
        line_end,
    )


def init(num_curves: int, num_beginnings: int, settings: OnlineSettings) -> OnlineState:
    """Before the first point of every curve."""
    nodes = settings.variance.size
    shape = (num_curves, num_beginnings, nodes)
    per = (num_curves, num_beginnings)
    return OnlineState(
        np.full(shape, -np.inf, dtype=np.float32),
        np.zeros(shape, dtype=np.float32),
        np.zeros((*shape, 2 if settings.model == CONSTANT else 5), dtype=np.float32),
        np.zeros(per, dtype=np.int64),
        np.zeros(per),
        np.zeros(per),
        np.zeros(per),
        np.zeros(per),
        np.zeros(num_curves),
        np.zeros(num_curves),
        np.zeros(num_curves),
        np.zeros(num_curves, dtype=np.int64),
    )
