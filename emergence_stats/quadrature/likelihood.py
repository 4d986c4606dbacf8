"""How probable is a curve given its shape and the correlation of its noise?

What lives here: curves as kernels take them, and the compiled kernels that integrate over baseline,
amplitude and noise scale given whitened inner products. What does not: those products
(`noise.whitening`, `noise.kalman`), the sum over correlations (`autoregressive`, `climbing`,
`measured`), drawing what is integrated out (`conditionals`).

The model is told in `noise.beliefs`. The prior on the amplitude b is in units of the range and not
of sigma: with the fully conjugate choice, which would integrate sigma in closed form, a curve
measured a thousand times more finely than its rise would be punished for its amplitude. So a and b
are integrated in closed form and sigma by a short Gauss rule made for the number of points
(generalised Laguerre in 1/sigma^2), whose weight is the conjugate posterior.
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma
from typing import NamedTuple

import numpy as np

from emergence_stats.noise.beliefs import (
    AMPLITUDE_SD,
    BASELINE_SD,
    FACTOR_WIDTH,
    NOISE_SCALE,
    RESOLUTION,
)
from emergence_stats.noise.compiling import kernel

Array = np.ndarray
# Whitened inner products of 1, shape f and curve y (11, 1f, ff, 1y, fy, yy), and the precision of
# the amplitude's prior. Without an amplitude f is 0 and the prior of variance 1, of no effect.
Products = tuple[float, float, float, float, float, float, float]

GAUSS_POINTS = 8
# Beyond this the quick exponential is not used; it is exact to 1e-7 below.
QUICK_REACH = 20.0


class Curves(NamedTuple):
    """A batch of curves in the units of `noise.beliefs`, and the noise they have.

    Attributes
    ----------
    y, variance : ndarray, shape (curve, point)
        Values, and the squares of their measured sd, of no use where these are not known.
    gap : ndarray, shape (curve, point)
        Distance to the point before, in typical gaps; of no use where `even`.
    num_points, log_unit : ndarray, shape (curve,)
        Points used; what the change of units adds to a log likelihood.
    rules : ndarray, shape (curve, 2, 10)
        Nodes and weights of a Gauss rule over sigma.
    log_constant : ndarray, shape (curve,)
        That rule's, in logarithm.
    linear : int
        1 for a baseline only, 2 with an amplitude.
    measured, correlated, even : bool
        Whether sd are known; whether noise is correlated; whether equally between all neighbours,
        as it is where it is not.
    """

    y: Array
    variance: Array
    gap: Array
    num_points: Array
    log_unit: Array
    rules: Array
    log_constant: Array
    linear: int
    measured: bool
    correlated: bool
    even: bool


class Rule(NamedTuple):
    """How sigma, or a common factor of measured sd, is integrated: nodes and weights, for whom."""

    points: Array
    n: int
    linear: int
    measured: bool


class Curve(NamedTuple):
    """One of them; `constant` is what every shape and correlation have in common."""

    y: Array
    variance: Array
    gap: Array
    n: int
    rule: Rule
    constant: float
    correlated: bool
    even: bool


@lru_cache(maxsize=4096)
def _gauss_rule(num_points: int, num_linear: int) -> tuple[Array, float]:
    """Gauss rule for x^alpha exp(-x), normalised, with alpha = (n - k)/2 - 1; its log constant."""
    alpha = 0.5 * (num_points - num_linear) - 1.0
    # For a log likelihood good to about 1e-3 (8 points) or 1e-4 (from 12 on).
    size = 8 if num_points < 12 else 5 if num_points < 24 else 4
    order = np.arange(size)
    diagonal = 2.0 * order + alpha + 1.0
    beside = np.sqrt(order[1:] * (order[1:] + alpha))
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    # Padded with points of no weight to two blocks of five.
    pad = (0, 10 - size)
    padded = np.pad(nodes, pad, constant_values=nodes[-1])
    return np.array([padded, np.pad(vectors[0] ** 2, pad)]), lgamma(alpha + 1.0)


def gauss_rules(num_points: Array, num_linear: int) -> tuple[Array, Array]:
    """Nodes and weights, shape (curve, 2, 10), and log constants, shape (curve,)."""
    rows = [_gauss_rule(int(n), num_linear) for n in num_points]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


@kernel()
def take_curve(curves: Curves, c: int) -> Curve:
    """One curve of a batch."""
    n = curves.num_points[c]
    free = n - curves.linear
    constant = curves.log_constant[c] + 0.5 * free * np.log(2.0) - 0.5 * n * np.log(2.0 * np.pi)
    constant -= np.log(BASELINE_SD) + (np.log(AMPLITUDE_SD) if curves.linear == 2 else 0.0)
    constant -= np.log(2.0 * np.pi * (FACTOR_WIDTH if curves.measured else 1.0))
    row = c if curves.variance.shape[0] > 1 else 0
    return Curve(
        curves.y[c],
        curves.variance[row],
        curves.gap[c],
        n,
        Rule(curves.rules[c], n, curves.linear, curves.measured),
        constant - curves.log_unit[c],
        curves.correlated,
        curves.even,
    )


@kernel(inline="always")
def amplitude_precision(linear: int) -> float:
    """Of the amplitude's prior; 1 where there is none, see `Products`."""
    return 1.0 / (AMPLITUDE_SD * AMPLITUDE_SD) if linear == 2 else 1.0


@kernel(inline="always")
def left_over(g: Products, variance: float) -> tuple[float, float]:
    """What is left of y'R^-1 y after the best (penalised) a and b, and the determinant."""
    g11, g12, g22, h1, h2, yy, precision = g
    one = g11 + variance / (BASELINE_SD * BASELINE_SD)
    two = g22 + variance * precision
    det = one * two - g12 * g12
    return yy - (two * h1 * h1 - 2.0 * g12 * h1 * h2 + one * h2 * h2) / det, det


@kernel(inline="always")
def conjugate_left(g: Products, n: int, linear: int) -> tuple[float, float]:
    """What is left where sigma is its own conjugate estimate, and the determinant there."""
    floor = n * RESOLUTION * RESOLUTION
    # From no noise upwards: what the priors of a and b add is then nearly linear in the variance.
    variance, used, left, det = 1e-12, 1.0, 0.0, 1.0
    for _ in range(4):
        used = variance
        left, det = left_over(g, variance)
        left = 0.5 * (left + abs(left)) + floor
        variance = left / n
    return left, det if linear == 2 else det / used


@kernel(inline="always")
def scale_precision(rho: float, measured: bool) -> float:
    """1 / scale^2 of the prior of sigma; of a common factor where sd are measured."""
    return 1.0 if measured else (1.0 - rho * rho) / (NOISE_SCALE * NOISE_SCALE)


@kernel(inline="always")
def gauss_point(
    node: float,
    weight: float,
    g: Products,
    left: float,
    centre: float,
    floor: float,
    linear: int,
    measured: bool,
    exact: bool,
) -> tuple[float, float]:
    """One point of the Gauss rule over sigma, and the square of the exponent in it.

    In the precision p = 1/sigma^2, in which it takes few divisions: `det` is the determinant times
    p^2 (p without an amplitude), and the prior of log sigma is sqrt(s p) / (s + p), with s the
    precision at its centre, or, for a factor common to all sd, the same of their fourth powers.
    """
    g11, g12, g22, h1, h2, yy, precision = g
    p = 2.0 * node / left
    one = g11 * p + 1.0 / (BASELINE_SD * BASELINE_SD)
    two = g22 * p + precision
    det = one * two - g12 * g12 * p * p
    # 1 / FACTOR_WIDTH is 4; `centre` is then 1.
    own = p * p * p * p if measured else p
    beside = centre + own
    inverse = 1.0 / (det * beside)
    explained = (two * h1 * h1 - 2.0 * g12 * h1 * h2 * p + one * h2 * h2) * p
    quad = yy - explained * (inverse * beside)
    quad = 0.5 * (quad + abs(quad)) + floor
    exponent = node * (1.0 - quad / left)
    if exact:
        power = np.exp(exponent)
    else:
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
    lift = p * p if linear == 2 else p
    return weight * power * np.sqrt(centre * own * det * lift) * inverse, exponent * exponent


@kernel()
def log_given_products(products: Array, rho: float, rule: Rule, rough: bool) -> float:
    """Log likelihood with a, b and sigma integrated out, without `Curve.constant`.

    Where `rough`, sigma takes its conjugate estimate instead.
    """
    n, linear, measured = rule.n, rule.linear, rule.measured
    g = (
        products[0],
        products[1],
        products[2],
        products[3],
        products[4],
        products[5],
        amplitude_precision(linear),
    )
    left, det = conjugate_left(g, n, linear)
    centre = scale_precision(rho, measured)
    if rough:
        square = left / n * centre
        if measured:
            # 1 / FACTOR_WIDTH
            square *= square
            square *= square
        square = square / ((square + 1.0) * (square + 1.0) * det)
        return 0.5 * np.log(4.0 * square) - 0.5 * (n - linear) * np.log(left)
    nodes, weights, floor = rule.points[0], rule.points[1], n * RESOLUTION * RESOLUTION
    total, reach = 0.0, 0.0
    # A fixed number of points, neither branch nor call inside, and NumPy's rule for division by
    # zero, so that the compiler works on several points at once.
    for k in range(GAUSS_POINTS):
        term, square = gauss_point(
            nodes[k], weights[k], g, left, centre, floor, linear, measured, False
        )
        total += term
        reach += square
    if not reach < QUICK_REACH * QUICK_REACH:
        total = 0.0
        for k in range(GAUSS_POINTS):
            total += gauss_point(
                nodes[k], weights[k], g, left, centre, floor, linear, measured, True
            )[0]
    return np.log(2.0 * total) - 0.5 * (n - linear) * np.log(left)
