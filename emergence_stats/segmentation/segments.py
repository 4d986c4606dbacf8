"""How probable is a stretch of a curve as one segment, its mean integrated out?

What lives here: the compiled kernel that finds this for all segments with one start, in one sweep,
and what it takes. Plain arrays only. What does not: what a segment may be (`models`), where
segments end (`sums`), what is believed of the noise (`noise_grid`), labels (`segmentation`).

Model, in units where the expected range of the curve is 1 and its middle 0. Within a segment

    y_i = m_i + sd_i e_i + x_i,   x stationary, variance t^2, correlation r_i from i - 1 to i

with the mean m of `models`. The noise begins anew with each segment. Where no sd are known the
first kind is absent. A Kalman filter makes the points independent; sums of products of 1, the place
and y then give each further point's segment in a few operations.

Where every segment has a noise scale of its own, that is integrated here, too: its logarithm, about
5% of the range, by the trapezoidal rule.

References
----------
Kalman (1960), A new approach to linear filtering and prediction problems, Journal of Basic
Engineering 82, 35-45.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emergence_stats.noise.beliefs import LEVEL_SD, RESOLUTION, log_prior_size
from emergence_stats.noise.compiling import kernel
from emergence_stats.segmentation.models import Basis

Array = np.ndarray

# Sums kept of each segment where its mean is wanted afterwards.
SUMS = 6


class SegmentedCurve(NamedTuple):
    """One curve in the kernels' units, and what its segments may be.

    Attributes
    ----------
    y, x, variance, gap : ndarray, shape (point,)
        Values; their places, from 0 to 1; known variances or 0; gaps in typical gaps.
    log_share : ndarray, shape (point,)
        Log prior share of the gap before each point, -inf where no segment may begin.
    basis : Basis
    own_scale : bool
    min_points : int
    margin : float
        Ends this far (nats) below the best are not visited; see `segments_from`.
    measured, correlated : bool
        Whether sd are known; whether the other noise is correlated.
    """

    y: Array
    x: Array
    variance: Array
    gap: Array
    log_share: Array
    basis: Basis
    own_scale: bool
    min_points: int
    margin: float
    measured: bool
    correlated: bool


class Noise(NamedTuple):
    """The noise of one curve.

    Attributes
    ----------
    variance : ndarray, shape (point,)
        What was measured, 0 where nothing was.
    decay, fresh : ndarray, shape (point,)
        Correlation with the point before, and 1 minus its square.
    stationary : float
        Variance t^2 of the noise besides.
    """

    variance: Array
    decay: Array
    fresh: Array
    stationary: float


class Products(NamedTuple):
    """Of the two functions a, b of the basis with each other and with y, and y'y; all whitened."""

    aa: float
    ab: float
    bb: float
    ay: float
    by: float
    yy: float


@kernel()
def noise_at(curve: SegmentedCurve, node: Array) -> Noise:
    """The noise whose factor of the known sd, other variance and log correlation these are."""
    n = curve.gap.size
    decay, fresh = np.zeros(n), np.ones(n)
    if node[2] > -np.inf:
        for i in range(n):
            decay[i] = np.exp(node[2] * curve.gap[i])
            fresh[i] = -np.expm1(2.0 * node[2] * curve.gap[i])
    return Noise(curve.variance * (node[0] * node[0]), decay, fresh, node[1])


@kernel(inline="always")
def in_basis(
    basis: Basis, span: float, s11: float, s1x: float, sxx: float, h1: float, hx: float, yy: float
) -> Products:
    """Sums of products of 1, x and y as those of the basis over a segment of this span."""
    a0, a1, b0, b1, num_terms = basis
    if num_terms == 1:
        return Products(a0 * a0 * s11, 0.0, 0.0, a0 * h1, 0.0, yy)
    inverse = 1.0 / span
    cross, square, slope = s1x * inverse, sxx * inverse * inverse, hx * inverse
    return Products(
        a0 * a0 * s11 + 2.0 * a0 * a1 * cross + a1 * a1 * square,
        a0 * b0 * s11 + (a0 * b1 + a1 * b0) * cross + a1 * b1 * square,
        b0 * b0 * s11 + 2.0 * b0 * b1 * cross + b1 * b1 * square,
        a0 * h1 + a1 * slope,
        b0 * h1 + b1 * slope,
        yy,
    )


@kernel(inline="always")
def left_and_determinant(basis: Basis, products: Products, penalty: float) -> tuple[float, float]:
    """What the best penalised mean leaves of y'y, and the determinant that goes with it."""
    aa, bb, ab = products.aa + penalty, products.bb + penalty, products.ab
    ay, by = products.ay, products.by
    if basis.num_terms == 1:
        return products.yy - ay * ay / aa, aa / penalty
    det = aa * bb - ab * ab
    left = products.yy - (bb * ay * ay - 2.0 * ab * ay * by + aa * by * by) / det
    return left, det / (penalty * penalty)


@kernel()
def own_variance(points: int, basis: Basis, products: Products) -> float:
    """A segment's noise by its own residuals, as a multiple of the unit noise of the products."""
    free = max(points - basis.num_terms, 1)
    variance = 1e-12
    for _ in range(3):
        left, _ = left_and_determinant(basis, products, variance / (LEVEL_SD * LEVEL_SD))
        variance = (max(left, 0.0) + points * RESOLUTION * RESOLUTION) / free
    return variance


@kernel()
def log_over_own_scale(points: int, basis: Basis, innovation: float, products: Products) -> float:
    """Log density of a segment, noise scale integrated; products are those for unit noise.

    `innovation` is what is new from point to point at unit noise, whose prior is half-Cauchy.
    """
    free = max(points - basis.num_terms, 1)
    floor = points * RESOLUTION * RESOLUTION
    # To the right the integrand falls only as a power.
    spacing = 0.8 / np.sqrt(2.0 * free)
    above = max(8, int(10.0 / (max(free - 1, 1) * spacing)) + 1)
    middle, log_innovation = 0.5 * np.log(own_variance(points, basis, products)), np.log(innovation)
    best, total = -np.inf, 0.0
    for j in range(-8, above + 1):
        log_scale = middle + j * spacing
        square = np.exp(2.0 * log_scale)
        left, det = left_and_determinant(basis, products, square / (LEVEL_SD * LEVEL_SD))
        value = (
            -0.5 * ((max(left, 0.0) + floor) / square + np.log(det))
            - points * log_scale
            + log_prior_size(log_scale + log_innovation)
        )
        if value > best:
            total = total * np.exp(best - value) + 1.0
            best = value
        else:
            total += np.exp(value - best)
    return best + np.log(total * spacing)


@kernel()
def segments_from(
    curve: SegmentedCurve,
    noise: Noise,
    start: int,
    log_next: Array,
    margin: float,
    log_weight: Array,
    sums: Array,
) -> tuple[int, float]:
    """Log density of each segment that begins at `start`, without the factor (2 pi)^(-points/2).

    Parameters
    ----------
    curve, noise
    start : int
    log_next : ndarray, shape (point + 1,)
        Log of all that may follow if the next segment begins here; -inf where none may.
    margin : float
        Ends are no longer tried once several in a row fall this far below the best one. A longer
        segment can make up only for the segments it replaces, some nats each; but where a change
        is near, no segment of `min_points` may fit for a few ends.
    log_weight : ndarray, shape (point,)
        By last point; filled where `log_next` is finite one further on.
    sums : ndarray, shape (point, SUMS)
        Filled with the sums of each segment; of no length where they are not wanted.

    Returns
    -------
    last : int
        The last point tried.
    best : float
        The largest `log_weight[t] + log_next[t + 1]`.
    """
    # Taken out of the tuples once: within the loop each access would count a reference.
    y, x, basis, min_points = curve.y, curve.x, curve.basis, curve.min_points
    variance, decay, fresh, stationary = noise
    n = y.size
    origin, keep = x[start], sums.shape[0] > 0
    ones, place, mean = 0.0, 0.0, 0.0
    expected, share = stationary, 0.0
    s11, s1x, sxx, h1, hx, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    product, half_log = 1.0, 0.0
    best = -np.inf
    penalty = 1.0 / (LEVEL_SD * LEVEL_SD)
    innovation = np.sqrt(fresh[n - 1] * stationary)
    below, most_below = 0, 4 * min_points
    for i in range(start, n):
        distance = x[i] - origin
        if i > start:
            r = decay[i]
            # r times what the filter expects once the point before is known.
            rest, gain = r * (1.0 - share), r * share
            before = i - 1
            ones = rest * ones + gain
            place = rest * place + gain * (x[before] - origin)
            mean = rest * mean + gain * y[before]
            expected = r * rest * expected + stationary * fresh[i]
        total = expected + variance[i]
        inverse = 1.0 / total
        share = expected * inverse
        d1, dx, dy = 1.0 - ones, distance - place, y[i] - mean
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
        products = in_basis(basis, distance, s11, s1x, sxx, h1, hx, yy)
        if curve.own_scale:
            value = -0.5 * (half_log + np.log(product)) + log_over_own_scale(
                points, basis, innovation, products
            )
        else:
            left, det = left_and_determinant(basis, products, penalty)
            value = -0.5 * (max(left, 0.0) + half_log + np.log(product * det))
        log_weight[i] = value
        value += log_next[i + 1]
        if value > best:
            best = value
        if value > best - margin:
            below = 0
        else:
            below += 1
            if below > most_below:
                return i, best
    return n - 1, best


@kernel()
def mean_of(
    basis: Basis, own_scale: bool, points: int, first: float, span: float, sums: Array
) -> tuple[float, float, float, float, float]:
    """A segment's mean given its noise: intercept, slope in x, its variance in 1, x, x^2.

    Of so many points, the first at x = `first`, the last `span` further on.
    """
    products = in_basis(basis, span, sums[0], sums[1], sums[2], sums[3], sums[4], sums[5])
    unit = 1.0
    if own_scale:
        unit = own_variance(points, basis, products)
    penalty = unit / (LEVEL_SD * LEVEL_SD)
    aa, bb, ab = products.aa + penalty, products.bb + penalty, products.ab
    inverse = 1.0 / (aa * bb - ab * ab)
    a = (bb * products.ay - ab * products.by) * inverse
    b = (aa * products.by - ab * products.ay) * inverse
    va, vab, vb = unit * bb * inverse, -unit * ab * inverse, unit * aa * inverse
    # In 1 and u, then in 1 and x.
    a0, a1, b0, b1, _ = basis
    per = 1.0 / span if span > 0.0 else 0.0
    slope = (a * a1 + b * b1) * per
    none = a0 * a0 * va + 2.0 * a0 * b0 * vab + b0 * b0 * vb
    one = 2.0 * (a0 * a1 * va + (a0 * b1 + a1 * b0) * vab + b0 * b1 * vb) * per
    two = (a1 * a1 * va + 2.0 * a1 * b1 * vab + b1 * b1 * vb) * per * per
    return (
        a * a0 + b * b0 - slope * first,
        slope,
        none - one * first + two * first * first,
        one - 2.0 * two * first,
        two,
    )
