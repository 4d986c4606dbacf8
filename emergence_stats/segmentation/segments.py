"""How probable is a stretch of a curve as one segment, its level or line integrated out?

What lives here: the compiled kernel that finds this for all segments with one start, in one sweep.
Plain arrays only. What does not: where segments end (`changepoints`), what is believed of the noise
(`noise`), labels (`segmentation`).

Model, in units where the expected range of the curve is 1 and its middle 0. Within a segment

    y_i = m_i + sd_i e_i + x_i,   x stationary, variance t^2, correlation r_i from i - 1 to i
    m_i = a                               a ~ Normal(0, 1/2)       (constant)
    m_i = a (1 - u_i) + b u_i             a, b ~ Normal(0, 1/2)    (linear)

u runs from 0 to 1 between the segment's first and last point, in steps or log steps: a line is
thus given by its values at its ends, so that short and long segments are treated alike, and
whichever way round. The noise begins anew with each segment. Where no sd are known the first kind
is absent. A Kalman filter makes the points independent; sums of products of 1, u and y then give
each further point's segment in a few operations.

Where every segment has a noise scale of its own, that is integrated here, too: its logarithm, about
5% of the range, by the trapezoidal rule.

References
----------
Kalman (1960), A new approach to linear filtering and prediction problems, Journal of Basic
Engineering 82, 35-45.
"""

from __future__ import annotations

import numba
import numpy as np

from emergence_stats.noise.whitening import FAST
from emergence_stats.quadrature.likelihood import NOISE_SCALE, RESOLUTION

Array = np.ndarray

# Of a segment's level, or its values at both ends, in ranges of the curve.
LEVEL_SD = 0.5
# Sums kept of each segment where its line is wanted afterwards.
SUMS = 6


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def at_ends(
    linear: bool, span: float, s11: float, s1x: float, sxx: float, h1: float, hx: float
) -> tuple[float, float, float, float, float]:
    """Sums of products of 1 and x as those of the two ends' shares, 1 - u and u."""
    if not linear:
        return s11, 0.0, 0.0, h1, 0.0
    inverse = 1.0 / span
    cross, square = s1x * inverse, sxx * inverse * inverse
    other = hx * inverse
    return s11 - 2.0 * cross + square, cross - square, square, h1 - other, other


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def left_and_determinant(
    linear: bool,
    penalty: float,
    gaa: float,
    gab: float,
    gbb: float,
    ha: float,
    hb: float,
    yy: float,
) -> tuple[float, float]:
    """What the best penalised line leaves of y'y, and the determinant that goes with it."""
    a = gaa + penalty
    if not linear:
        return yy - ha * ha / a, a / penalty
    b = gbb + penalty
    det = a * b - gab * gab
    left = yy - (b * ha * ha - 2.0 * gab * ha * hb + a * hb * hb) / det
    return left, det / (penalty * penalty)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def own_variance(
    points: int,
    linear: bool,
    gaa: float,
    gab: float,
    gbb: float,
    ha: float,
    hb: float,
    yy: float,
) -> float:
    """A segment's noise by its own residuals, as a multiple of the unit noise of the products."""
    free = max(points - (2 if linear else 1), 1)
    variance = 1e-12
    for _ in range(3):
        left, _ = left_and_determinant(
            linear, variance / (LEVEL_SD * LEVEL_SD), gaa, gab, gbb, ha, hb, yy
        )
        variance = (max(left, 0.0) + points * RESOLUTION * RESOLUTION) / free
    return variance


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_over_own_scale(
    points: int,
    linear: bool,
    innovation: float,
    gaa: float,
    gab: float,
    gbb: float,
    ha: float,
    hb: float,
    yy: float,
) -> float:
    """Log density of a segment, noise scale integrated; products are those for unit noise.

    `innovation` is what is new from point to point at unit noise, whose prior is half-Cauchy.
    """
    free = max(points - (2 if linear else 1), 1)
    floor = points * RESOLUTION * RESOLUTION
    variance = own_variance(points, linear, gaa, gab, gbb, ha, hb, yy)
    # To the right the integrand falls only as a power.
    spacing = 0.8 / np.sqrt(2.0 * free)
    above = max(8, int(10.0 / (max(free - 1, 1) * spacing)) + 1)
    middle = 0.5 * np.log(variance)
    best, total = -np.inf, 0.0
    for j in range(-8, above + 1):
        log_scale = middle + j * spacing
        square = np.exp(2.0 * log_scale)
        left, det = left_and_determinant(
            linear, square / (LEVEL_SD * LEVEL_SD), gaa, gab, gbb, ha, hb, yy
        )
        ratio = np.exp(log_scale) * innovation / NOISE_SCALE
        value = (
            -0.5 * ((max(left, 0.0) + floor) / square + np.log(det))
            - points * log_scale
            + np.log(2.0 / np.pi * ratio / (1.0 + ratio * ratio))
        )
        if value > best:
            total = total * np.exp(best - value) + 1.0
            best = value
        else:
            total += np.exp(value - best)
    return best + np.log(total * spacing)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def segments_from(
    start: int,
    y: Array,
    x: Array,
    variance: Array,
    decay: Array,
    fresh: Array,
    stationary: float,
    linear: bool,
    own_scale: bool,
    min_points: int,
    log_next: Array,
    margin: float,
    log_weight: Array,
    keep: bool,
    sums: Array,
) -> tuple[int, float]:
    """Log density of each segment that begins at `start`, without the factor (2 pi)^(-points/2).

    Parameters
    ----------
    y, x, variance : ndarray, shape (point,)
        Values, where they are, and the square of their known sd (0 where there is none).
    decay, fresh : ndarray, shape (point,)
        Correlation with the point before, and 1 minus its square.
    stationary : float
        Variance t^2 of the noise besides what was measured.
    log_next : ndarray, shape (point + 1,)
        Log of all that may follow if the next segment begins here; -inf where none may.
    margin : float
        Ends are no longer tried once several in a row fall this far below the best one. A longer
        segment can make up only for the segments it replaces, some nats each; but where a change
        is near, no segment of `min_points` may fit for a few ends.
    log_weight : ndarray, shape (point,)
        By last point; filled where `log_next` is finite one further on.
    keep, sums : bool, ndarray of shape (point, SUMS)
        Whether to keep the sums of each segment, and where.

    Returns
    -------
    last : int
        The last point tried.
    best : float
        The largest `log_weight[t] + log_next[t + 1]`.
    """
    n = y.size
    origin = x[start]
    ones, place, curve = 0.0, 0.0, 0.0
    expected, share = stationary, 0.0
    s11, s1x, sxx, h1, hx, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    product, half_log = 1.0, 0.0
    best = -np.inf
    penalty = 1.0 / (LEVEL_SD * LEVEL_SD)
    innovation = np.sqrt(fresh[n - 1] * stationary)
    hopeless, patience = 0, 4 * min_points
    for i in range(start, n):
        distance = x[i] - origin
        if i > start:
            r = decay[i]
            # r times what the filter expects once the point before is known.
            rest, gain = r * (1.0 - share), r * share
            before = i - 1
            ones = rest * ones + gain
            place = rest * place + gain * (x[before] - origin)
            curve = rest * curve + gain * y[before]
            expected = r * rest * expected + stationary * fresh[i]
        total = expected + variance[i]
        inverse = 1.0 / total
        share = expected * inverse
        d1, dx, dy = 1.0 - ones, distance - place, y[i] - curve
        w1, wx = d1 * inverse, dx * inverse
        s11 += d1 * w1
        s1x += dx * w1
        sxx += dx * wx
        h1 += dy * w1
        hx += dy * wx
        yy += dy * dy * inverse
        product *= total
        if not 1e-100 < product < 1e100:
            half_log += np.log(product)
            product = 1.0
        if keep:
            sums[i, 0], sums[i, 1], sums[i, 2] = s11, s1x, sxx
            sums[i, 3], sums[i, 4], sums[i, 5] = h1, hx, yy
        points = i - start + 1
        if points < min_points or log_next[i + 1] == -np.inf:
            log_weight[i] = -np.inf
            continue
        gaa, gab, gbb, ha, hb = at_ends(linear, distance, s11, s1x, sxx, h1, hx)
        if own_scale:
            value = -0.5 * (half_log + np.log(product)) + log_over_own_scale(
                points, linear, innovation, gaa, gab, gbb, ha, hb, yy
            )
        else:
            left, det = left_and_determinant(linear, penalty, gaa, gab, gbb, ha, hb, yy)
            value = -0.5 * (max(left, 0.0) + half_log + np.log(product * det))
        log_weight[i] = value
        value += log_next[i + 1]
        if value > best:
            best = value
        if value > best - margin:
            hopeless = 0
        else:
            hopeless += 1
            if hopeless > patience:
                return i, best
    return n - 1, best


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def line_of(
    linear: bool, own_scale: bool, points: int, start: float, span: float, sums: Array
) -> tuple[float, float, float, float, float]:
    """A segment's line given its noise: intercept and slope in x, and its variance in 1, x, x^2."""
    gaa, gab, gbb, ha, hb = at_ends(linear, span, sums[0], sums[1], sums[2], sums[3], sums[4])
    unit = 1.0
    if own_scale:
        unit = own_variance(points, linear, gaa, gab, gbb, ha, hb, sums[5])
    penalty = unit / (LEVEL_SD * LEVEL_SD)
    a = gaa + penalty
    if not linear:
        return ha / a, 0.0, unit / a, 0.0, 0.0
    b = gbb + penalty
    inverse = 1.0 / (a * b - gab * gab)
    first = (b * ha - gab * hb) * inverse
    last = (a * hb - gab * ha) * inverse
    va, vab, vb = unit * b * inverse, -unit * gab * inverse, unit * a * inverse
    slope = (last - first) / span
    # va (1 - u)^2 + 2 vab u (1 - u) + vb u^2, u = (x - start) / span
    one, two = 2.0 * (vab - va) / span, (va - 2.0 * vab + vb) / (span * span)
    return (
        first - slope * start,
        slope,
        va - one * start + two * start * start,
        one - 2.0 * two * start,
        two,
    )
