"""How probable is a curve given its shape, with level, amplitude and noise integrated out?

What lives here: the compiled kernel that integrates over baseline, amplitude, noise scale and noise
correlation for many shapes at once. Plain arrays only. What does not: the correlation matrix
(`whitening`), drawing them (`conditionals`), the shapes and their priors (`families`), the
integration over onset, timescale and kappa (`over_onset`), noise of which a part is measured
(`measured`), labels.

Model, in units where the expected range of the curve is 1 and its middle 0:

    y_i = a + b f_i + e_i,     a ~ Normal(0, 1),  b ~ Normal(0, 2),
    e stationary, sd sigma, correlation rho over a typical gap
    rho with density proportional to (1 - rho^2)^(-1/2) on (0, 1)  (or rho = 0)
    log(sigma sqrt(1 - rho^2) / 0.05) ~ hyperbolic secant

What is new from point to point is thus half-Cauchy of scale 0.05, whatever the correlation, and
correlations near 1 are not rare, so that a random walk is recognised for what it is. Where standard
deviations of the measurement are known the noise has two parts, see `measured`.

The prior on b is in units of the range and not of sigma: with the fully conjugate choice, which
would integrate sigma in closed form, a curve measured a thousand times more finely than its rise
would be punished for its amplitude. So a and b are integrated in closed form and sigma by a short
Gauss rule made for the number of points (generalised Laguerre in 1/sigma^2), whose weight is the
conjugate posterior; rho by the trapezoidal rule in its log odds.
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma

import numba
import numpy as np

from emergence_stats.noise.whitening import (
    FAST,
    MAX_RHO,
    curve_sums,
    even_products,
    kept_rows,
    odds_lattice,
    shape_sums,
    uneven_products,
    whiten,
)

Array = np.ndarray

BASELINE_SD = 1.0
AMPLITUDE_SD = 2.0
NOISE_SCALE = 0.05
# Width of the prior of the log of one factor common to all measured standard deviations.
FACTOR_WIDTH = 0.25
# Nothing is taken to be measured more finely than this share of its range: noiseless and
# constant curves then have finite evidence.
RESOLUTION = 1e-6
LAGUERRE_POINTS = 8
# Sums over rho end at terms this small.
RHO_CUT = 1e-8
# Beyond this the quick exponential is not used; it is exact to 1e-7 below.
QUICK_REACH = 20.0


@lru_cache(maxsize=4096)
def _laguerre(num_points: int, num_linear: int) -> tuple[Array, Array, float]:
    """Gauss rule for x^alpha exp(-x), normalised, with alpha = (n - k)/2 - 1; its log constant."""
    alpha = 0.5 * (num_points - num_linear) - 1.0
    size = laguerre_size(num_points)
    order = np.arange(size)
    diagonal = 2.0 * order + alpha + 1.0
    beside = np.sqrt(order[1:] * (order[1:] + alpha))
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    # Padded to one length with points of no weight.
    pad = (0, LAGUERRE_POINTS - size)
    padded = np.pad(nodes, pad, constant_values=nodes[-1])
    return padded, np.pad(vectors[0] ** 2, pad), lgamma(alpha + 1.0)


def laguerre_size(num_points: int) -> int:
    """Gauss points for a log likelihood good to about 1e-3 (8 points) or 1e-4 (from 12 on)."""
    return 8 if num_points < 12 else 5 if num_points < 24 else 4


def noise_tables(num_points: Array, num_linear: int) -> tuple[Array, Array, Array]:
    """Gauss nodes, weights and log constants, one row a curve."""
    rules = {int(n): _laguerre(int(n), num_linear) for n in np.unique(num_points)}
    rows = [rules[int(n)] for n in num_points]
    return (
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
    )


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def left_over(
    g11: float,
    g12: float,
    g22: float,
    h1: float,
    h2: float,
    yy: float,
    variance: float,
    linear: int,
) -> tuple[float, float]:
    """What is left of y'R^-1 y after the best (penalised) a and b, and the determinant."""
    g11 += variance / (BASELINE_SD * BASELINE_SD)
    if linear == 1:
        return yy - h1 * h1 / g11, g11
    g22 += variance / (AMPLITUDE_SD * AMPLITUDE_SD)
    det = g11 * g22 - g12 * g12
    return yy - (g22 * h1 * h1 - 2.0 * g12 * h1 * h2 + g11 * h2 * h2) / det, det


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def noise_prior(rho: float, measured: bool) -> tuple[float, float]:
    """Centre and width of the prior of log sigma; of a common factor where sd are measured."""
    if measured:
        return 1.0, FACTOR_WIDTH
    return NOISE_SCALE / np.sqrt(1.0 - rho * rho), 1.0


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def conjugate_left(products: Array, n: int, linear: int) -> tuple[float, float]:
    """What is left where sigma is its own conjugate estimate, and the determinant there."""
    g11, g12, g22 = products[0], products[1], products[2]
    h1, h2, yy = products[3], products[4], products[5]
    floor = n * RESOLUTION * RESOLUTION
    # From no noise upwards: what the priors of a and b add is then nearly linear in the variance.
    left, det = left_over(g11, g12, g22, h1, h2, yy, 1e-12, linear)
    for _ in range(3):
        left = max(left, 0.0) + floor
        left, det = left_over(g11, g12, g22, h1, h2, yy, left / n, linear)
    return max(left, 0.0) + floor, det


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_given_products(
    products: Array,
    rho: float,
    n: int,
    linear: int,
    measured: bool,
    nodes: Array,
    weights: Array,
    rough: bool,
) -> float:
    """Log likelihood with a, b and sigma integrated out, without its constants (`constant_term`).

    Where `rough`, sigma takes its conjugate estimate instead.
    """
    scale, width = noise_prior(rho, measured)
    left, det = conjugate_left(products, n, linear)
    if rough:
        square = left / (n * scale * scale)
        if measured:
            # 1 / FACTOR_WIDTH
            square *= square
            square *= square
        square = square / ((square + 1.0) * (square + 1.0) * det)
        return 0.5 * np.log(4.0 * square) - 0.5 * (n - linear) * np.log(left)
    size = 8 if n < 12 else 5 if n < 24 else 4
    g11, h1, yy = products[0], products[3], products[5]
    floor = n * RESOLUTION * RESOLUTION
    # Without an amplitude: one that is uncorrelated with everything.
    g12, g22, h2, amplitude_weight = 0.0, 1.0, 0.0, 0.0
    if linear == 2:
        g12, g22, h2 = products[1], products[2], products[4]
        amplitude_weight = 1.0 / (AMPLITUDE_SD * AMPLITUDE_SD)
    baseline_weight = 1.0 / (BASELINE_SD * BASELINE_SD)
    inverse_left, inverse_scale = 1.0 / left, 1.0 / (scale * scale)
    total, reach = 0.0, 0.0
    # A fixed number of points, neither branch nor call inside, and NumPy's rule for division by
    # zero, so that the compiler works on several points at once.
    for k in range(LAGUERRE_POINTS):
        variance = 0.5 * left / nodes[k]
        one = g11 + baseline_weight * variance
        two = g22 + amplitude_weight * variance
        det = one * two - g12 * g12
        quad = yy - (two * h1 * h1 - 2.0 * g12 * h1 * h2 + one * h2 * h2) / det
        quad = 0.5 * (quad + abs(quad)) + floor
        exponent = nodes[k] * (1.0 - quad * inverse_left)
        reach += exponent * exponent
        x = exponent * (1.0 / 64.0)
        power = 1.0 + x * (1.0 / 6.0) * (1.0 + x * (1.0 / 7.0))
        power = 1.0 + x * 0.25 * (1.0 + x * 0.2 * power)
        power = 1.0 + x * (1.0 + x * 0.5 * (1.0 + x * (1.0 / 3.0) * power))
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        square = variance * inverse_scale
        fourth = square * square
        # The hyperbolic secant of log sigma, of width 1 or, for a common factor, FACTOR_WIDTH.
        prior = fourth / (fourth * fourth + 1.0) if measured else np.sqrt(square) / (square + 1.0)
        total += weights[k] * power * prior / np.sqrt(det)
    if not reach < QUICK_REACH * QUICK_REACH:
        total = 0.0
        for k in range(size):
            variance = 0.5 * left / nodes[k]
            quad, det = left_over(g11, g12, products[2], h1, h2, yy, variance, linear)
            quad = max(quad, 0.0) + floor
            exponent = nodes[k] * (1.0 - quad / left)
            ratio = (np.sqrt(variance) / scale) ** (1.0 / width)
            total += weights[k] * np.exp(exponent) * ratio / ((ratio * ratio + 1.0) * np.sqrt(det))
    return np.log(2.0 * total) - 0.5 * (n - linear) * np.log(left)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def constant_term(n: int, linear: int, measured: bool, log_gamma: float) -> float:
    """What every correlation and shape have in common."""
    prior = -np.log(BASELINE_SD) - (np.log(AMPLITUDE_SD) if linear == 2 else 0.0)
    return (
        log_gamma
        + prior
        + 0.5 * (n - linear) * np.log(2.0)
        - np.log(2.0 * np.pi * (FACTOR_WIDTH if measured else 1.0))
        - 0.5 * n * np.log(2.0 * np.pi)
    )


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def products_at(
    j: int,
    rho: Array,
    even: bool,
    sums: Array,
    f: Array,
    y: Array,
    gap: Array,
    n: int,
    linear: int,
    kept: Array,
    tag: Array,
    products: Array,
) -> None:
    """Whitened products of one shape at lattice point j, whitening the curve if need be."""
    if even:
        even_products(sums, rho[j], products)
        return
    row = j % tag.size
    if tag[row] != j:
        whiten(y, gap, n, rho[j], kept[row])
        tag[row] = j
    uneven_products(f, n, linear, kept[row], products)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def over_rho(
    sums: Array,
    f: Array,
    y: Array,
    gap: Array,
    even: bool,
    n: int,
    linear: int,
    nodes: Array,
    weights: Array,
    rho: Array,
    offset: Array,
    top: int,
    spacing: float,
    hopeless: float,
    kept: Array,
    tag: Array,
    share: Array,
) -> tuple[float, int, int]:
    """Trapezoidal rule over rho; `share` gets each term relative to the first evaluated.

    Returns the log integral and between which lattice indices terms were summed.
    """
    products = np.zeros(6)
    # Climb with shrinking strides, sigma only estimated; the lattice does not depend on the way.
    best = top - int(0.5 / spacing)
    stride = max(1, int(2.0 / spacing))
    products_at(best, rho, even, sums, f, y, gap, n, linear, kept, tag, products)
    value = offset[best] + log_given_products(
        products, rho[best], n, linear, False, nodes, weights, True
    )
    before = 0
    while stride >= 1:
        moved = True
        while moved:
            moved = False
            for sign in (-1, 1):
                trial = best + sign * stride
                if trial < 0 or trial > 2 * top or (before != 0 and sign == -before):
                    continue
                products_at(trial, rho, even, sums, f, y, gap, n, linear, kept, tag, products)
                there = offset[trial] + log_given_products(
                    products, rho[trial], n, linear, False, nodes, weights, True
                )
                if there > value:
                    best, value, moved, before = trial, there, True, sign
                    break
        stride //= 2
        before = 0
    if hopeless == np.inf:
        return value + np.log(2.0 * spacing), best, best
    products_at(best, rho, even, sums, f, y, gap, n, linear, kept, tag, products)
    value = offset[best] + log_given_products(
        products, rho[best], n, linear, False, nodes, weights, False
    )
    share[best] = 1.0
    total = 1.0
    low = high = best
    last = 1.0
    while high < 2 * top and last > RHO_CUT:
        high += 1
        products_at(high, rho, even, sums, f, y, gap, n, linear, kept, tag, products)
        there = np.exp(
            offset[high]
            + log_given_products(products, rho[high], n, linear, False, nodes, weights, False)
            - value
        )
        share[high] = there
        total += there
        last = there
    last = 1.0
    while low > 0 and last > RHO_CUT:
        low -= 1
        products_at(low, rho, even, sums, f, y, gap, n, linear, kept, tag, products)
        there = np.exp(
            offset[low]
            + log_given_products(products, rho[low], n, linear, False, nodes, weights, False)
            - value
        )
        share[low] = there
        total += there
        last = there
    return value + np.log(total * spacing), low, high


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_likelihood(
    shape: Array,
    curve: Array,
    y: Array,
    gap: Array,
    even: bool,
    num_points: Array,
    log_unit: Array,
    linear: int,
    correlated: bool,
    nodes: Array,
    weights: Array,
    log_constant: Array,
    hopeless: Array,
    out: Array,
) -> None:
    """Log marginal likelihood of each shape; everything but the shape is integrated out.

    Parameters
    ----------
    shape : ndarray, shape (node, point)
        Fraction completed; ignored where `linear` is 1.
    curve : ndarray of int, shape (node,)
        Which curve each shape is tried on; quickest where equal ones stand together.
    y : ndarray, shape (curve, point)
        Values.
    gap : ndarray, shape (curve, point)
        Distance to the point before, in typical gaps; ignored where `even`.
    even : bool
        Whether all gaps count the same.
    num_points, log_unit, log_constant : ndarray, shape (curve,)
        Points used; what the change of units adds; Gauss constants.
    linear : int
        1 for a baseline only, 2 with an amplitude.
    nodes, weights : ndarray, shape (curve, 8)
        Gauss rules of `noise_tables`.
    hopeless : ndarray, shape (node,)
        A rough value is enough where this is infinite.
    out : ndarray, shape (node,)
        Filled.
    """
    sums, products = np.zeros((6, 3)), np.zeros(6)
    rho, offset, share = np.zeros(MAX_RHO), np.zeros(MAX_RHO), np.zeros(MAX_RHO)
    kept, tag = np.zeros((1, 4, 1)), np.full(1, -1)
    last_n, last_curve, top, spacing = -1, -1, 0, 1.0
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        if c != last_curve:
            curve_sums(y[c], n, sums)
            if correlated and (n != last_n or not even):
                top, spacing = odds_lattice(n, gap[c], even, rho, offset)
            if correlated and not even:
                if n != last_n:
                    kept = np.zeros((kept_rows(n, 2 * top + 1), 4, n))
                    tag = np.zeros(kept.shape[0], dtype=np.int64)
                tag[:] = -1
            last_n, last_curve = n, c
        if linear == 2:
            shape_sums(shape[m], y[c], n, sums)
        constant = constant_term(n, linear, False, log_constant[c]) - log_unit[c]
        if not correlated:
            even_products(sums, 0.0, products)
            value = log_given_products(products, 0.0, n, linear, False, nodes[c], weights[c], False)
        else:
            value, _, _ = over_rho(
                sums,
                shape[m],
                y[c],
                gap[c],
                even,
                n,
                linear,
                nodes[c],
                weights[c],
                rho,
                offset,
                top,
                spacing,
                hopeless[m] - constant,
                kept,
                tag,
                share,
            )
        out[m] = value + constant
