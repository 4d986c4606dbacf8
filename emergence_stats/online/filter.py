"""Online changepoints of many curves at once: one more point, in constant time and memory.

What lives here: the step of the filter, a compiled kernel on plain arrays. What does not: what it
keeps of a curve and its settings (`state`), labels and what a user calls (`online`), all
segmentations of a curve that is complete (`segmentation.sums`).

The model is that of `segments`: levels (or lines) that change, about a common range, and
stationary noise that begins anew with each segment; or else lines that meet, the first of them
level, under noise that goes on. As a curve goes on, what is believed of it is a
mixture over where its last segment began, and over noise scale and correlation, which are on a
fixed grid (Adams and MacKay 2007). Given those, one more point multiplies the weight of each by a
normal density and moves the mean and variance of the segment's level, by a Kalman filter. So that
memory stays constant, the least probable of more than a given number of beginnings is added to its
neighbour. That nothing has changed yet is one of them and is never merged with others, nor is any
noise dropped under it: a curve that is quiet at first may be noisy later.

A line is given by its value at the segment's first point and its slope; before the data the former
is as a level is, the latter has sd `SLOPE_SD` ranges over the gap that follows. Lines that meet are
given by their value at the last point and their slope, and a new one begins where the one before
it is. After the first change that is a mixture, of which mean and variance are kept.

References
----------
Adams and MacKay (2007), Bayesian online changepoint detection, arXiv:0710.3742.
"""

from __future__ import annotations

import numba
import numpy as np

from emergence_stats.noise.beliefs import JOINED_SLOPE_SD, LEVEL_SD, SLOPE_SD
from emergence_stats.noise.compiling import kernel
from emergence_stats.online.state import (
    CONSTANT,
    JOINED,
    LINEAR,
    OnlineSettings,
    OnlineState,
)

Array = np.ndarray

# Beginnings whose weight at a noise is this far (nats) below the largest are forgotten there.
FORGOTTEN = 40.0
UNCHANGED = 0


def step(
    state: OnlineState, settings: OnlineSettings, y: Array, place: float, line_place: float
) -> tuple[OnlineState, Array]:
    """One more point of every curve.

    Parameters
    ----------
    state : OnlineState
        Its arrays are changed in place: of two states one at a time is of use.
    settings : OnlineSettings
    y : ndarray, shape (curve,)
        Values in ranges of the curve, 0 in its middle; curves where it is NaN are left as they are.
    place, line_place : float
        Where the point is on the axis on which changes are uniform, 0 to 1 over the whole of
        training, and on that along which segments are lines.

    Returns
    -------
    state : OnlineState
    found : ndarray, shape (curve, 7)
        Probability that a change has begun and lasted `min_points` points; mean and standard
        deviation of the place of the first change, given that there is one; and of the curve
        without noise, now and, if its present segment goes on, at place 1.
    """
    found = np.empty((y.size, 7))
    _step(state, settings, y, place, line_place, found)
    return state, found


@kernel(inline="always")
def _begin(moments: Array, model: int, y: float, stationary: float) -> float:
    """A segment's first point: fills its moments, returns the log density."""
    prior = LEVEL_SD * LEVEL_SD
    total = prior + stationary
    gain = prior / total
    if model == CONSTANT:
        moments[0], moments[1] = gain * y, prior * (1.0 - gain)
    else:
        moments[0], moments[1] = gain * y, 0.0
        # Of lines that meet the first is level.
        slope = SLOPE_SD * SLOPE_SD if model == LINEAR else 0.0
        moments[2], moments[3], moments[4] = prior * (1.0 - gain), 0.0, slope
    return -0.5 * (np.log(total) + y * y / total)


@kernel(inline="always")
def _go_on(
    moments: Array, model: int, z: float, one: float, slope: float, gap: float, variance: float
) -> float:
    """One more point: z is what is new of it, `one` and `slope` what level and slope add to it."""
    if model == CONSTANT:
        m, p = moments[0], moments[1]
        total = one * one * p + variance
        miss = z - one * m
        gain = one * p / total
        moments[0] = m + gain * miss
        moments[1] = p * variance / total
        return -0.5 * (np.log(total) + miss * miss / total)
    a, b = moments[0], moments[1]
    aa, ab, bb = moments[2], moments[3], moments[4]
    pa = one * aa + slope * ab
    pb = one * ab + slope * bb
    total = one * pa + slope * pb + variance
    miss = z - one * a - slope * b
    ga, gb = pa / total, pb / total
    moments[0], moments[1] = a + ga * miss, b + gb * miss
    aa, ab, bb = aa - ga * pa, ab - ga * pb, bb - gb * pb
    if model == JOINED:
        # The value moves along the line to the point.
        moments[0] += gap * moments[1]
        aa += gap * (2.0 * ab + gap * bb)
        ab += gap * bb
    moments[2], moments[3], moments[4] = aa, ab, bb
    return -0.5 * (np.log(total) + miss * miss / total)


@kernel(parallel=True)
def _step(
    state: OnlineState,
    settings: OnlineSettings,
    values: Array,
    place: float,
    line_place: float,
    found: Array,
) -> None:
    for c in numba.prange(values.size):
        if np.isnan(values[c]):
            _report(state, settings, c, found)
        else:
            _one(state, settings, c, values[c], place, line_place)
            _report(state, settings, c, found)


@kernel()
def _one(
    state: OnlineState,
    settings: OnlineSettings,
    c: int,
    y: float,
    place: float,
    line_place: float,
) -> None:
    log_weight, earlier, moments = state.log_weight[c], state.earlier[c], state.moments[c]
    points = state.points[c]
    slots, nodes = log_weight.shape
    model = settings.model
    if state.seen[c] == 0:
        for g in range(nodes):
            rho = settings.rho[g]
            stationary = settings.variance[g] / (1.0 - rho * rho)
            value = _begin(moments[UNCHANGED, g], model, y, stationary)
            log_weight[UNCHANGED, g] = settings.log_prior[g] + value
        points[UNCHANGED] = 1
        state.start[c, UNCHANGED] = line_place
    else:
        width = max(place - state.place[c], 0.0)
        # Of the first change, uniform on the axis and as likely beyond its end as at it; of
        # further ones, at an even rate.
        behind = min(state.place[c], 1.0)
        alone = 1.0 - settings.onset_probability * behind
        hazard = min(settings.onset_probability * width / alone, 0.99)
        if place > 1.0:
            rate = settings.onset_probability / (1.0 - settings.onset_probability)
            hazard = -np.expm1(-rate * width)
        further = -np.expm1(-settings.further_changes * width)
        slot = _free_slot(log_weight, earlier, points, state.start[c])
        _enter(state, settings, c, slot, hazard, further, place, width)
        points[slot] = 0
        gap = max(line_place - state.line_place[c], 1e-12)
        # A new line that meets the old one is on its way already; others begin here.
        state.start[c, slot] = state.line_place[c] if model == JOINED else line_place
        state.unit[c, slot] = gap if model == JOINED else 0.0
        for h in range(slots):
            if h == slot and model != JOINED:
                for g in range(nodes):
                    if log_weight[h, g] > -np.inf:
                        rho = settings.rho[g]
                        stationary = settings.variance[g] / (1.0 - rho * rho)
                        log_weight[h, g] += _begin(moments[h, g], model, y, stationary)
                points[h] = 1
                continue
            if points[h] == 0 and h != slot:
                continue
            if state.unit[c, h] == 0.0:
                state.unit[c, h] = max(line_place - state.start[c, h], 1e-12)
            unit = state.unit[c, h]
            here = (line_place - state.start[c, h]) / unit
            there = (state.line_place[c] - state.start[c, h]) / unit
            for g in range(nodes):
                if log_weight[h, g] == -np.inf:
                    continue
                rho = settings.rho[g]
                log_weight[h, g] += _go_on(
                    moments[h, g],
                    model,
                    y - rho * state.previous[c],
                    1.0 - rho,
                    gap / unit if model == JOINED else here - rho * there,
                    gap / unit,
                    settings.variance[g],
                )
            points[h] += 1
    largest = log_weight.max()
    for h in range(slots):
        if points[h] == 0:
            continue
        best = -np.inf
        for g in range(nodes):
            value = log_weight[h, g] - largest
            if h != UNCHANGED and value < -FORGOTTEN:
                value = -np.inf
            log_weight[h, g] = value
            best = max(best, value)
        if best == -np.inf:
            points[h] = 0
    state.previous[c] = y
    state.place[c] = place
    state.line_place[c] = line_place
    state.seen[c] += 1


@kernel()
def _free_slot(log_weight: Array, earlier: Array, points: Array, start: Array) -> int:
    """A slot for a new beginning; the least probable is added to its neighbour for it if need be.

    The newest is spared: nothing is known of it yet.
    """
    slots, nodes = log_weight.shape
    for h in range(1, slots):
        if points[h] == 0:
            return h
    least, smallest, newest = -1, np.inf, -1
    for h in range(1, slots):
        if newest < 0 or start[h] > start[newest]:
            newest = h
    for h in range(1, slots):
        if h == newest:
            continue
        total = 0.0
        for g in range(nodes):
            total += np.exp(log_weight[h, g])
        if total < smallest:
            least, smallest = h, total
    beside = -1
    for h in range(1, slots):
        if h != least and (
            beside < 0 or abs(start[h] - start[least]) < abs(start[beside] - start[least])
        ):
            beside = h
    for g in range(nodes):
        gone = np.exp(log_weight[least, g])
        if gone > 0.0 and log_weight[beside, g] > -np.inf:
            kept = np.exp(log_weight[beside, g])
            both = gone + kept
            share = gone * earlier[least, g] + kept * earlier[beside, g]
            earlier[beside, g] = share / both
            log_weight[beside, g] = np.log(both)
        log_weight[least, g] = -np.inf
    points[least] = 0
    return least


@kernel()
def _enter(
    state: OnlineState,
    settings: OnlineSettings,
    c: int,
    slot: int,
    hazard: float,
    further: float,
    place: float,
    width: float,
) -> None:
    """Moves to the new beginning its share of all that may end, before the point's own density."""
    log_weight, earlier, points = state.log_weight[c], state.earlier[c], state.points[c]
    slots, nodes = log_weight.shape
    middle = place - 0.5 * width
    total = first = square = 0.0
    for g in range(nodes):
        fresh = again = value = spread = 0.0
        for h in range(slots):
            if points[h] < settings.min_points or log_weight[h, g] == -np.inf or h == slot:
                continue
            weight = np.exp(log_weight[h, g])
            if settings.model == JOINED:
                share = weight * (hazard if h == UNCHANGED else further)
                at = state.moments[c, h, g, 0]
                value += share * at
                spread += share * (at * at + state.moments[c, h, g, 2])
            if h == UNCHANGED:
                fresh += weight * hazard
                log_weight[h, g] += np.log1p(-hazard)
                first += weight * hazard * middle
                square += weight * hazard * (middle * middle + width * width / 12.0)
            else:
                again += weight * further
                log_weight[h, g] += np.log1p(-further)
                first += weight * further * state.first[c, h]
                square += weight * further * state.first_square[c, h]
        both = fresh + again
        total += both
        log_weight[slot, g] = np.log(both) if both > 0.0 else -np.inf
        earlier[slot, g] = again / both if both > 0.0 else 0.0
        if settings.model == JOINED and both > 0.0:
            moments = state.moments[c, slot, g]
            mean = value / both
            moments[0], moments[1] = mean, 0.0
            moments[2] = max(spread / both - mean * mean, 0.0)
            moments[3], moments[4] = 0.0, JOINED_SLOPE_SD * JOINED_SLOPE_SD
    if total > 0.0:
        state.first[c, slot] = first / total
        state.first_square[c, slot] = square / total


@kernel()
def _report(state: OnlineState, settings: OnlineSettings, c: int, found: Array) -> None:
    log_weight, points = state.log_weight[c], state.points[c]
    slots, nodes = log_weight.shape
    total = begun = any_change = first = square = 0.0
    now = now_square = then = then_square = 0.0
    for h in range(slots):
        if points[h] == 0:
            continue
        weight = lasted = 0.0
        # Distances, in the segment's own unit, over which its slope counts.
        unit = max(state.unit[c, h], 1e-12)
        reach = elapsed = 0.0
        if settings.model == JOINED:
            reach = max(1.0 - state.place[c], 0.0) / unit
        elif settings.model == LINEAR:
            elapsed = (state.line_place[c] - state.start[c, h]) / unit
            reach = max(settings.line_end - state.line_place[c], 0.0) / unit
        for g in range(nodes):
            if log_weight[h, g] > -np.inf:
                one = np.exp(log_weight[h, g])
                weight += one
                lasted += one if points[h] >= settings.min_points else one * state.earlier[c, h, g]
                moments = state.moments[c, h, g]
                mean, variance = _line_at(moments, settings.model, elapsed)
                now += one * mean
                now_square += one * (mean * mean + variance)
                mean, variance = _line_at(moments, settings.model, elapsed + reach)
                then += one * mean
                then_square += one * (mean * mean + variance)
        total += weight
        if h != UNCHANGED:
            begun += lasted
            any_change += weight
            first += weight * state.first[c, h]
            square += weight * state.first_square[c, h]
    found[c, :] = np.nan
    found[c, 0] = 0.0
    if total > 0.0:
        found[c, 0] = begun / total
        found[c, 3], found[c, 5] = now / total, then / total
        found[c, 4] = np.sqrt(max(now_square / total - found[c, 3] ** 2, 0.0))
        found[c, 6] = np.sqrt(max(then_square / total - found[c, 5] ** 2, 0.0))
    if any_change > 0.0:
        mean = first / any_change
        found[c, 1] = mean
        found[c, 2] = np.sqrt(max(square / any_change - mean * mean, 0.0))


@kernel(inline="always")
def _line_at(moments: Array, model: int, distance: float) -> tuple[float, float]:
    """Mean and variance of the segment so far from where its value is kept."""
    if model == CONSTANT:
        return moments[0], moments[1]
    mean = moments[0] + distance * moments[1]
    return mean, moments[2] + distance * (2.0 * moments[3] + distance * moments[4])
