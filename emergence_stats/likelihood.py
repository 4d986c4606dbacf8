"""How probable is a curve given its shape, with level, amplitude and noise integrated out?

What lives here: the compiled kernel that integrates over baseline, amplitude, noise scale and noise
correlation for many shapes at once. Plain arrays only. What does not: drawing them
(`conditionals`), the shapes and their priors (`families`), the integration over onset, timescale
and kappa (`nested`), labels.

Model, in units where the expected range of the curve is 1 and its middle 0:

    y_i = a + b f_i + e_i,     a ~ Normal(0, 1),  b ~ Normal(0, 2),
    e_i = w_i z_i,             z stationary AR(1) in index, sd sigma, correlation rho
    rho with density proportional to (1 - rho^2)^(-1/2) on (0, 1)  (or rho = 0)
    log(sigma sqrt(1 - rho^2) / 0.05) ~ hyperbolic secant,         w = 1

where no measurement sd is known: what is new from point to point is half-Cauchy of scale 0.05,
whatever the correlation, and correlations near 1 are not rare, so that a random walk is recognised
for what it is. Where it is known, with s the geometric mean of sd,

    log(sigma / s) ~ hyperbolic secant of width 0.25,              w = sd / s

The prior on b is in units of the range and not of sigma: with the fully conjugate choice, which
would integrate sigma in closed form, a curve measured a thousand times more finely than its rise
would be punished for its amplitude. So a and b are integrated in closed form and sigma by a short
Gauss rule made for the number of points (generalised Laguerre in 1/sigma^2), whose weight is the
conjugate posterior; rho by the trapezoidal rule in its log odds. Whitening costs nothing per rho:
every inner product under AR(1) noise follows from three sums.
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma

import numba
import numpy as np

Array = np.ndarray

BASELINE_SD = 1.0
AMPLITUDE_SD = 2.0
NOISE_SCALE = 0.05
NOISE_WIDTH = 1.0
NOISE_WIDTH_KNOWN = 0.25
# Nothing is taken to be measured more finely than this share of its range: noiseless and
# constant curves then have finite evidence.
RESOLUTION = 1e-6
LAGUERRE_POINTS = 8
# The lattice of log odds of rho reaches this far, and its sum ends at terms this small.
ODDS_REACH = 12.0
MAX_RHO = 8192
RHO_CUT = 1e-3


# Everything but assuming that infinities do not occur.
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}


@lru_cache(maxsize=4096)
def _laguerre(num_points: int, num_linear: int) -> tuple[Array, Array, float]:
    """Gauss rule for x^alpha exp(-x), normalised, with alpha = (n - k)/2 - 1; its log constant."""
    alpha = 0.5 * (num_points - num_linear) - 1.0
    size = laguerre_size(num_points)
    order = np.arange(size)
    diagonal = 2.0 * order + alpha + 1.0
    beside = np.sqrt(order[1:] * (order[1:] + alpha))
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    # Padded to one length with points of no weight, which the kernel stops at.
    pad = (0, LAGUERRE_POINTS - size)
    return np.pad(nodes, pad), np.pad(vectors[0] ** 2, pad), lgamma(alpha + 1.0)


def laguerre_size(num_points: int) -> int:
    """Gauss points for a log likelihood good to about 1e-3 (8 points) or 1e-4 (from 12 on)."""
    return 8 if num_points < 12 else 5 if num_points < 24 else 4


def noise_tables(num_points: Array, num_linear: int) -> tuple[Array, Array, Array]:
    """Gauss nodes, weights and log constants, one row a curve."""
    rules = [_laguerre(int(n), num_linear) for n in num_points]
    return (
        np.array([rule[0] for rule in rules]),
        np.array([rule[1] for rule in rules]),
        np.array([rule[2] for rule in rules]),
    )


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def whitened_product(sums: Array, which: int, rho: float) -> float:
    """Whitened inner product x' R^-1 z times 1 - rho^2, from three sums."""
    return (1.0 + rho * rho) * sums[which, 0] - rho * rho * sums[which, 1] - rho * sums[which, 2]


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def inner_sums(f: Array, unit: Array, y: Array, n: int, linear: int, sums: Array) -> None:
    """Sum, ends and neighbour products of (11, 1f, ff, 1y, fy, yy)."""
    sums[:] = 0.0
    for i in range(n):
        u0, y0 = unit[i], y[i]
        f0 = f[i] * u0 if linear == 2 else 0.0
        sums[0, 0] += u0 * u0
        sums[1, 0] += u0 * f0
        sums[2, 0] += f0 * f0
        sums[3, 0] += u0 * y0
        sums[4, 0] += f0 * y0
        sums[5, 0] += y0 * y0
        if i in (0, n - 1):
            sums[0, 1] += u0 * u0
            sums[1, 1] += u0 * f0
            sums[2, 1] += f0 * f0
            sums[3, 1] += u0 * y0
            sums[4, 1] += f0 * y0
            sums[5, 1] += y0 * y0
        if i + 1 < n:
            u1, y1 = unit[i + 1], y[i + 1]
            f1 = f[i + 1] * u1 if linear == 2 else 0.0
            sums[0, 2] += 2.0 * u0 * u1
            sums[1, 2] += u0 * f1 + u1 * f0
            sums[2, 2] += 2.0 * f0 * f1
            sums[3, 2] += u0 * y1 + u1 * y0
            sums[4, 2] += f0 * y1 + f1 * y0
            sums[5, 2] += 2.0 * y0 * y1


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
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


@numba.njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def noise_prior_scale(scale: float, width: float, rho: float) -> float:
    """Centre of the prior of sigma: of its innovations' sd, or of itself where sd is known."""
    return scale / np.sqrt(1.0 - rho * rho) if width == NOISE_WIDTH else scale


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _log_given_rho(
    sums: Array,
    rho: float,
    n: int,
    linear: int,
    scale: float,
    width: float,
    nodes: Array,
    weights: Array,
    rough: bool,
) -> float:
    """Log likelihood with a, b and sigma integrated out, without its constants (`_constant`).

    Where `rough`, sigma takes its conjugate estimate instead.
    """
    inverse = 1.0 / (1.0 - rho * rho)
    scale = noise_prior_scale(scale, width, rho)
    g11 = whitened_product(sums, 0, rho) * inverse
    g12 = whitened_product(sums, 1, rho) * inverse
    g22 = whitened_product(sums, 2, rho) * inverse
    h1 = whitened_product(sums, 3, rho) * inverse
    h2 = whitened_product(sums, 4, rho) * inverse
    yy = whitened_product(sums, 5, rho) * inverse
    floor = n * RESOLUTION * RESOLUTION
    left, det = left_over(g11, g12, g22, h1, h2, yy, 0.01, linear)
    for _ in range(2):
        left = max(left, 0.0) + floor
        left, det = left_over(g11, g12, g22, h1, h2, yy, left / n, linear)
    left = max(left, 0.0) + floor
    if rough:
        ratio = (np.sqrt(left / n) / scale) ** (1.0 / width)
        total = 2.0 / ((ratio + 1.0 / ratio) * np.sqrt(det))
    else:
        total = 0.0
        for k in range(nodes.size):
            if weights[k] == 0.0:
                break
            variance = 0.5 * left / nodes[k]
            quad, det = left_over(g11, g12, g22, h1, h2, yy, variance, linear)
            quad = max(quad, 0.0) + floor
            ratio = np.sqrt(variance) / scale
            if width != NOISE_WIDTH:
                ratio = ratio ** (1.0 / width)
            exponent = 0.5 * (left - quad) / variance
            total += weights[k] * np.exp(exponent) * ratio / ((ratio * ratio + 1.0) * np.sqrt(det))
        total *= 2.0
    return np.log(total) - 0.5 * (n - linear) * np.log(left)


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def _constant(n: int, linear: int, width: float, log_gamma: float) -> float:
    """What every correlation and shape have in common."""
    prior = -np.log(BASELINE_SD) - (np.log(AMPLITUDE_SD) if linear == 2 else 0.0)
    return (
        log_gamma
        + prior
        + 0.5 * (n - linear) * np.log(2.0)
        - np.log(2.0 * np.pi * width)
        - 0.5 * n * np.log(2.0 * np.pi)
    )


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def odds_lattice(n: int, rho: Array, offset: Array) -> tuple[int, float]:
    """Correlations evenly spaced in log odds, about 1.2 of the narrowest posterior sd apart.

    Fills `rho` and the part of the log integrand that does not depend on the data: the determinant
    of the correlation matrix, and the prior of rho on its log odds. Returns the index of log odds 0
    and the spacing.
    """
    spacing = min(1.0, 5.0 / np.sqrt(n))
    top = min(int(ODDS_REACH / spacing), (rho.size - 1) // 2)
    for j in range(-top, top + 1):
        value = 1.0 / (1.0 + np.exp(-j * spacing))
        rho[j + top] = value
        # Density (2 / pi) (1 - rho^2)^(-1/2), times d rho / d odds = rho (1 - rho).
        offset[j + top] = np.log(2.0 / np.pi * value * (1.0 - value)) - 0.5 * n * np.log(
            1.0 - value * value
        )
    return top, spacing


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def over_rho(
    sums: Array,
    n: int,
    linear: int,
    scale: float,
    width: float,
    nodes: Array,
    weights: Array,
    rho: Array,
    offset: Array,
    top: int,
    spacing: float,
    hopeless: float,
    share: Array,
) -> tuple[float, int, int]:
    """Trapezoidal rule over rho; `share` gets each term relative to the first evaluated.

    Returns the log integral and between which lattice indices terms were summed.
    """
    # Climb with shrinking strides, sigma only estimated; the lattice does not depend on the way.
    best = top - int(0.5 / spacing)
    stride = max(1, int(2.0 / spacing))
    value = offset[best] + _log_given_rho(
        sums, rho[best], n, linear, scale, width, nodes, weights, True
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
                there = offset[trial] + _log_given_rho(
                    sums, rho[trial], n, linear, scale, width, nodes, weights, True
                )
                if there > value:
                    best, value, moved, before = trial, there, True, sign
                    break
        stride //= 2
        before = 0
    if value + 1.0 < hopeless:
        return value + np.log(2.0 * spacing), best, best
    value = offset[best] + _log_given_rho(
        sums, rho[best], n, linear, scale, width, nodes, weights, False
    )
    share[best] = 1.0
    total = 1.0
    low = high = best
    last = 1.0
    while high < 2 * top and last > RHO_CUT:
        high += 1
        last = np.exp(
            offset[high]
            + _log_given_rho(sums, rho[high], n, linear, scale, width, nodes, weights, False)
            - value
        )
        share[high] = last
        total += last
    last = 1.0
    while low > 0 and last > RHO_CUT:
        low -= 1
        there = np.exp(
            offset[low]
            + _log_given_rho(sums, rho[low], n, linear, scale, width, nodes, weights, False)
            - value
        )
        share[low] = there
        total += there
        ratio = there / last
        last = there
        # Towards rho = 0 the likelihood is constant and the terms fall as rho does: a geometric
        # series, closed once it is one to 1%.
        if rho[low] < 0.2 and np.abs(ratio * np.exp(spacing) - 1.0) < 0.01:
            total += there * ratio / (1.0 - ratio)
            break
    return value + np.log(total * spacing), low, high


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def log_likelihood(
    shape: Array,
    curve: Array,
    y: Array,
    unit: Array,
    num_points: Array,
    log_unit: Array,
    scale: Array,
    width: Array,
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
        Which curve each shape is tried on.
    y, unit : ndarray, shape (curve, point)
        Values over w and 1 over w (see the module).
    num_points, log_unit, scale, width, log_constant : ndarray, shape (curve,)
        Points used; sum of log w; noise prior; Gauss constants.
    linear : int
        1 for a baseline only, 2 with an amplitude.
    nodes, weights : ndarray, shape (curve, 8)
        Gauss rules of `noise_tables`.
    hopeless : ndarray, shape (node,)
        A rough value is enough below this.
    out : ndarray, shape (node,)
        Filled.
    """
    sums = np.zeros((6, 3))
    rho, offset, share = np.zeros(MAX_RHO), np.zeros(MAX_RHO), np.zeros(MAX_RHO)
    last_n, top, spacing = -1, 0, 1.0
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        inner_sums(shape[m], unit[c], y[c], n, linear, sums)
        constant = _constant(n, linear, width[c], log_constant[c]) - log_unit[c]
        if not correlated:
            value = _log_given_rho(
                sums, 0.0, n, linear, scale[c], width[c], nodes[c], weights[c], False
            )
        else:
            if n != last_n:
                top, spacing = odds_lattice(n, rho, offset)
                last_n = n
            value, _, _ = over_rho(
                sums,
                n,
                linear,
                scale[c],
                width[c],
                nodes[c],
                weights[c],
                rho,
                offset,
                top,
                spacing,
                hopeless[m] - constant,
                share,
            )
        out[m] = value + constant
