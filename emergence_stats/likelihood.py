"""How probable is a curve given its shape, with level, amplitude and noise integrated out?

What lives here: the compiled kernel that integrates over baseline, amplitude, noise scale and noise
correlation for many shapes at once, and the one that draws them. Plain arrays only. What does not:
the shapes and their priors (`relaxation`), the integration over onset, timescale and kappa
(`quadrature`), labels.

Model, in units where the expected range of the curve is 1 and its middle 0:

    y_i = a + b f_i + e_i,     a ~ Normal(0, 1),  b ~ Normal(0, 2),
    e_i = w_i z_i,             z stationary AR(1) in index, sd sigma, correlation rho
    log(sigma / s) ~ hyperbolic secant of width h,  rho ~ Uniform(0, 1) (or rho = 0)

with w = 1, s = 0.05, h = 1 where no measurement sd is known (sigma is then half-Cauchy of scale
0.05), and w = sd / s, s the geometric mean of sd, h = 0.25 where it is.

The prior on b is in units of the range and not of sigma: with the fully conjugate choice, which
would integrate sigma in closed form, a curve measured a thousand times more finely than its rise
would be punished for its amplitude. So a and b are integrated in closed form and sigma by an
eight-point Gauss rule made for the number of points (generalised Laguerre in 1/sigma^2), whose
weight is the conjugate posterior; rho by the trapezoidal rule in its log odds. Whitening costs
nothing per rho: every inner product under AR(1) noise follows from three sums.
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
CUT = 10.0


@lru_cache(maxsize=4096)
def _laguerre(num_points: int, num_linear: int) -> tuple[Array, Array, float, float]:
    """Gauss rule for x^alpha exp(-x), normalised, with alpha = (n - k)/2 - 1; its log constant."""
    alpha = 0.5 * (num_points - num_linear) - 1.0
    order = np.arange(LAGUERRE_POINTS)
    diagonal = 2.0 * order + alpha + 1.0
    beside = np.sqrt(order[1:] * (order[1:] + alpha))
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return nodes, vectors[0] ** 2, lgamma(alpha + 1.0), alpha


def noise_tables(num_points: Array, num_linear: int) -> tuple[Array, Array, Array]:
    """Gauss nodes, weights and log constants, one row a curve."""
    rules = [_laguerre(int(n), num_linear) for n in num_points]
    return (
        np.array([rule[0] for rule in rules]),
        np.array([rule[1] for rule in rules]),
        np.array([rule[2] for rule in rules]),
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _product(sums: Array, which: int, rho: float) -> float:
    """x' R^-1 z (times 1 - rho^2) from sum, end terms and neighbour products."""
    return (
        (1.0 + rho * rho) * sums[which, 0] - rho * rho * sums[which, 1] - rho * sums[which, 2]
    )


@numba.njit(cache=True, nogil=True)
def _sums(f: Array, unit: Array, y: Array, n: int, linear: int, sums: Array) -> None:
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


@numba.njit(cache=True, nogil=True)
def _quadratic(
    sums: Array, rho: float, variance: float, linear: int, pa: float, pb: float
) -> tuple[float, float]:
    """What is left of y'R^-1 y after the best (penalised) a and b, and the determinant."""
    scale = 1.0 / (1.0 - rho * rho)
    g11 = _product(sums, 0, rho) * scale + pa * variance
    h1 = _product(sums, 3, rho) * scale
    yy = _product(sums, 5, rho) * scale
    if linear == 1:
        return yy - h1 * h1 / g11, g11
    g12 = _product(sums, 1, rho) * scale
    g22 = _product(sums, 2, rho) * scale + pb * variance
    h2 = _product(sums, 4, rho) * scale
    det = g11 * g22 - g12 * g12
    return yy - (g22 * h1 * h1 - 2.0 * g12 * h1 * h2 + g11 * h2 * h2) / det, det


@numba.njit(cache=True, nogil=True)
def _log_given_rho(
    sums: Array,
    rho: float,
    n: int,
    linear: int,
    pa: float,
    pb: float,
    scale: float,
    width: float,
    nodes: Array,
    weights: Array,
    log_constant: float,
) -> float:
    """Log likelihood with a, b and sigma integrated out (without the curve's own constants)."""
    floor = n * RESOLUTION * RESOLUTION
    left = 0.01 * n
    for _ in range(3):
        left, det = _quadratic(sums, rho, left / n, linear, pa, pb)
        left = max(left, 0.0) + floor
    total = 0.0
    for k in range(nodes.size):
        variance = 0.5 * left / nodes[k]
        quad, det = _quadratic(sums, rho, variance, linear, pa, pb)
        quad = max(quad, 0.0) + floor
        if width == 1.0:
            ratio = np.sqrt(variance) / scale
        else:
            ratio = (np.sqrt(variance) / scale) ** (1.0 / width)
        exponent = 0.5 * (left - quad) / variance
        total += weights[k] * np.exp(exponent) * 2.0 / ((ratio + 1.0 / ratio) * np.sqrt(det))
    prior = 0.5 * np.log(pa) if linear == 1 else 0.5 * np.log(pa * pb)
    return (
        log_constant
        + 0.5 * (n - linear) * np.log(2.0 / left)
        - np.log(2.0 * np.pi * width)
        - 0.5 * n * np.log(2.0 * np.pi)
        - 0.5 * (n - 1) * np.log(1.0 - rho * rho)
        + prior
        + np.log(total)
    )


@numba.njit(cache=True, nogil=True, inline="always")
def _odds_step(n: int) -> float:
    """Spacing in log odds of rho: about 1.2 of the narrowest posterior sd with n points."""
    return min(1.0, 4.2 / np.sqrt(n))


@numba.njit(cache=True, nogil=True)
def _over_rho(
    sums: Array,
    n: int,
    linear: int,
    pa: float,
    pb: float,
    scale: float,
    width: float,
    nodes: Array,
    weights: Array,
    log_constant: float,
    hopeless: float,
    record_odds: Array,
    record_value: Array,
) -> tuple[float, int]:
    """Trapezoidal rule in the log odds of rho on the fixed lattice j * spacing."""
    spacing = _odds_step(n)
    top = int(12.0 / spacing)

    # Climb from rho = 0.38 with shrinking strides: the lattice does not depend on the way there.
    best = -int(0.5 / spacing)
    stride = max(1, int(2.0 / spacing))
    value = _at(
        best * spacing, sums, n, linear, pa, pb, scale, width, nodes, weights, log_constant
    )
    while stride >= 1:
        moved = True
        while moved:
            moved = False
            for sign in (-1, 1):
                trial = best + sign * stride
                if abs(trial) > top:
                    continue
                there = _at(
                    trial * spacing,
                    sums,
                    n,
                    linear,
                    pa,
                    pb,
                    scale,
                    width,
                    nodes,
                    weights,
                    log_constant,
                )
                if there > value:
                    best, value, moved = trial, there, True
                    break
        stride //= 2
    if value + 1.0 < hopeless:
        return value + np.log(2.0 * spacing), 0
    total = 1.0
    count = 0
    keep = record_odds.size > 0
    if keep:
        record_odds[0] = best * spacing
        record_value[0] = 1.0
        count = 1
    for sign in (-1, 1):
        j = best + sign
        while abs(j) <= top:
            there = _at(
                j * spacing, sums, n, linear, pa, pb, scale, width, nodes, weights, log_constant
            )
            share = np.exp(there - value)
            total += share
            if keep and count < record_odds.size:
                record_odds[count] = j * spacing
                record_value[count] = share
                count += 1
            if there < value - CUT:
                break
            j += sign
    return value + np.log(total * spacing), count


@numba.njit(cache=True, nogil=True)
def _at(
    odds: float,
    sums: Array,
    n: int,
    linear: int,
    pa: float,
    pb: float,
    scale: float,
    width: float,
    nodes: Array,
    weights: Array,
    log_constant: float,
) -> float:
    rho = 1.0 / (1.0 + np.exp(-odds))
    # d rho / d odds = rho (1 - rho): a uniform rho is logistic in its log odds.
    return _log_given_rho(
        sums, rho, n, linear, pa, pb, scale, width, nodes, weights, log_constant
    ) + np.log(rho * (1.0 - rho))


@numba.njit(cache=True, nogil=True)
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
    num_points, log_unit, scale, width, log_constant, hopeless : ndarray, shape (curve,)
        Points used; sum of log w; noise prior; Gauss constants; below `hopeless` a rough
        value is enough.
    linear : int
        1 for a baseline only, 2 with an amplitude.
    nodes, weights : ndarray, shape (curve, 8)
        Gauss rules of `noise_tables`.
    out : ndarray, shape (node,)
        Filled.
    """
    pa = 1.0 / (BASELINE_SD * BASELINE_SD)
    pb = 1.0 / (AMPLITUDE_SD * AMPLITUDE_SD)
    sums = np.zeros((6, 3))
    none = np.zeros(0)
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        _sums(shape[m], unit[c], y[c], n, linear, sums)
        if correlated:
            value, _ = _over_rho(
                sums,
                n,
                linear,
                pa,
                pb,
                scale[c],
                width[c],
                nodes[c],
                weights[c],
                log_constant[c],
                hopeless[c],
                none,
                none,
            )
        else:
            value = _log_given_rho(
                sums,
                0.0,
                n,
                linear,
                pa,
                pb,
                scale[c],
                width[c],
                nodes[c],
                weights[c],
                log_constant[c],
            )
        out[m] = value - log_unit[c]


@numba.njit(cache=True, nogil=True)
def draw_conditionals(
    shape: Array,
    curve: Array,
    y: Array,
    unit: Array,
    num_points: Array,
    scale: Array,
    width: Array,
    linear: int,
    correlated: bool,
    nodes: Array,
    weights: Array,
    log_constant: Array,
    random: Array,
    out: Array,
) -> None:
    """Draws (a, b, sigma, rho) from their posterior given each shape.

    Parameters
    ----------
    random : ndarray, shape (node, 4)
        Two uniform numbers (rho, sigma) and two standard normal ones (a, b).
    out : ndarray, shape (node, 4)
        Filled with a, b, sigma, rho.
    """
    pa = 1.0 / (BASELINE_SD * BASELINE_SD)
    pb = 1.0 / (AMPLITUDE_SD * AMPLITUDE_SD)
    sums = np.zeros((6, 3))
    odds = np.zeros(4096)
    share = np.zeros(4096)
    fine = 61
    log_sd = np.zeros(fine)
    mass = np.zeros(fine)
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        _sums(shape[m], unit[c], y[c], n, linear, sums)
        rho = 0.0
        if correlated:
            _, count = _over_rho(
                sums,
                n,
                linear,
                pa,
                pb,
                scale[c],
                width[c],
                nodes[c],
                weights[c],
                log_constant[c],
                -np.inf,
                odds,
                share,
            )
            target = random[m, 0] * share[:count].sum()
            running = 0.0
            for j in range(count):
                running += share[j]
                if running >= target or j == count - 1:
                    # Where in its cell the draw falls is free: take it from the same number.
                    within = 0.5 - (running - target) / share[j]
                    here = odds[j] + _odds_step(n) * min(max(within, -0.5), 0.5)
                    rho = 1.0 / (1.0 + np.exp(-here))
                    break
        floor = n * RESOLUTION * RESOLUTION
        left = 0.01 * n
        for _ in range(3):
            left, det = _quadratic(sums, rho, left / n, linear, pa, pb)
            left = max(left, 0.0) + floor
        # Sigma by its cumulative distribution on a grid of twelve posterior sd.
        centre = 0.5 * np.log(left / n)
        reach = 6.0 / np.sqrt(2.0 * max(n - linear, 1))
        highest = -np.inf
        for k in range(fine):
            log_sd[k] = centre + reach * (2.0 * k / (fine - 1) - 1.0) + reach * 0.15
            variance = np.exp(2.0 * log_sd[k])
            quad, det = _quadratic(sums, rho, variance, linear, pa, pb)
            u = (log_sd[k] - np.log(scale[c])) / width[c]
            # log det(G + P sigma^2) = log det(A) + 2 k log sigma
            mass[k] = (
                -(n - linear) * log_sd[k]
                - 0.5 * (max(quad, 0.0) + floor) / variance
                - 0.5 * np.log(det)
                - np.abs(u)
                - np.log1p(np.exp(-2.0 * np.abs(u)))
            )
            highest = max(highest, mass[k])
        for k in range(fine):
            mass[k] = np.exp(mass[k] - highest)
        target = random[m, 1] * mass.sum()
        running = 0.0
        sigma = np.exp(log_sd[fine - 1])
        for k in range(fine):
            running += mass[k]
            if running >= target:
                within = 0.5 - (running - target) / mass[k]
                sigma = np.exp(log_sd[k] + within * (log_sd[1] - log_sd[0]))
                break
        inverse = 1.0 / (1.0 - rho * rho)
        variance = sigma * sigma
        g11 = _product(sums, 0, rho) * inverse + pa * variance
        h1 = _product(sums, 3, rho) * inverse
        if linear == 1:
            out[m, 0] = h1 / g11 + sigma / np.sqrt(g11) * random[m, 2]
            out[m, 1] = 0.0
        else:
            g12 = _product(sums, 1, rho) * inverse
            g22 = _product(sums, 2, rho) * inverse + pb * variance
            h2 = _product(sums, 4, rho) * inverse
            det = g11 * g22 - g12 * g12
            b = (g11 * h2 - g12 * h1) / det + sigma * np.sqrt(g11 / det) * random[m, 3]
            out[m, 1] = b
            out[m, 0] = (h1 - g12 * b) / g11 + sigma / np.sqrt(g11) * random[m, 2]
        out[m, 2] = sigma
        out[m, 3] = rho
