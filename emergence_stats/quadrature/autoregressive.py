"""Noise that remembers: every correlation at once, several to an instruction.

What lives here: the compiled sum over the correlation rho, and over the noise scale sigma at each,
for shapes with an amplitude, at even gaps and, of so few points that whitening by every rho is
cheap, at uneven ones. What does not: the model, stated in `likelihood`; longer curves at uneven
gaps and curves without an amplitude (both `likelihood.over_rho`).

The whole lattice of correlations is evaluated without branches, so that the compiler takes four or
eight of them together, and the likelihood's power (n - 2)/2 is taken by repeated squaring. This is
several times quicker than climbing to the highest term and adding others outwards one by one, and
misses no second mode.
"""

from __future__ import annotations

import numba
import numpy as np

from emergence_stats.noise.whitening import (
    FAST,
    MAX_RHO,
    ODDS_REACH,
    curve_sums,
    odds_spacing,
    shape_sums,
    uneven_products,
    whiten,
)
from emergence_stats.quadrature.likelihood import (
    AMPLITUDE_SD,
    BASELINE_SD,
    NOISE_SCALE,
    QUICK_REACH,
    RESOLUTION,
    constant_term,
    log_given_products,
)

Array = np.ndarray

# Up to so many points at uneven gaps, whitening by every correlation costs less than climbing.
MAX_UNEVEN = 64
# Rows of the table of correlations, made once for a number of points.
RHO, PRIOR, DETERMINANT = 0, 1, 2
# Rows of what is worked out for each shape.
LEFT, TERM, REACH, BASE = 0, 1, 2, 3


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def correlation_table(n: int, table: Array) -> tuple[int, float]:
    """Fills rho, its prior times d rho / d odds, and (1 - rho^2)^((n - 1) / (n - 2)).

    Evenly spaced in log odds, as in `correlation.odds_lattice`. Returns how many, made up to a
    multiple of eight by others of no weight, and the spacing.
    """
    spacing = odds_spacing(n)
    top = min(int(ODDS_REACH / spacing), (MAX_RHO - 1) // 2)
    count = (2 * top + 8) // 8 * 8
    for j in range(count):
        rho = 1.0 / (1.0 + np.exp(-(j - top) * spacing))
        left = 1.0 - rho * rho
        table[RHO, j] = rho
        table[PRIOR, j] = 2.0 / np.pi * rho * (1.0 - rho) / np.sqrt(left) if j <= 2 * top else 0.0
        table[DETERMINANT, j] = left ** ((n - 1.0) / (n - 2.0))
    return count, spacing


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def uneven_table(
    n: int, y: Array, gap: Array, table: Array, kept: Array
) -> tuple[int, float, Array]:
    """The same for uneven gaps, and the curve whitened by every rho (`correlation.whiten`)."""
    count, spacing = correlation_table(n, table)
    if kept.shape[0] < count or kept.shape[2] < n:
        kept = np.zeros((count, 4, n))
    for j in range(count):
        log_rho = np.log(table[RHO, j])
        total = 0.0
        for i in range(1, n):
            total += np.log(-np.expm1(2.0 * log_rho * gap[i]))
        table[DETERMINANT, j] = np.exp(total / (n - 2.0))
        whiten(y, gap, n, table[RHO, j], kept[j])
    return count, spacing, kept


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _even_products(sums: Array, table: Array, count: int, white: Array) -> None:
    """Whitened products of one shape at every rho, from its sums; shape (6, rho)."""
    for row in range(6):
        own, ends, beside = sums[row, 0], sums[row, 1], sums[row, 2]
        for j in range(count):
            rho = table[RHO, j]
            inverse = 1.0 / (1.0 - rho * rho)
            white[row, j] = inverse * ((1.0 + rho * rho) * own - rho * rho * ends - rho * beside)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _uneven_products(f: Array, n: int, count: int, kept: Array, white: Array) -> None:
    """The same for uneven gaps, on a curve already whitened."""
    products = np.zeros(6)
    for j in range(count):
        uneven_products(f, n, 2, kept[j], products)
        for row in range(6):
            white[row, j] = products[row]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def _products(
    white: Array, j: int, n: int
) -> tuple[float, float, float, float, float, float, float, float]:
    """Whitened products at one rho, and what is left of y'R^-1 y at sigma's conjugate estimate,
    with the determinant there (`likelihood.conjugate_left`).
    """
    g11, g12, g22 = white[0, j], white[1, j], white[2, j]
    h1, h2, yy = white[3, j], white[4, j], white[5, j]
    floor = n * RESOLUTION * RESOLUTION
    # From no noise upwards: what the priors of a and b add is then nearly linear in the variance.
    variance, left, det = 1e-12, 0.0, 1.0
    for _ in range(4):
        one = g11 + variance / (BASELINE_SD * BASELINE_SD)
        two = g22 + variance / (AMPLITUDE_SD * AMPLITUDE_SD)
        det = one * two - g12 * g12
        left = yy - (two * h1 * h1 - 2.0 * g12 * h1 * h2 + one * h2 * h2) / det
        left = 0.5 * (left + abs(left)) + floor
        variance = left / n
    return g11, g12, g22, h1, h2, yy, left, det


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def _point(
    node: float,
    weight: float,
    centre: float,
    floor: float,
    g11: float,
    g12: float,
    g22: float,
    h1: float,
    h2: float,
    yy: float,
    left: float,
) -> tuple[float, float]:
    """One point of the Gauss rule over sigma, and the square of the exponent in it.

    In the precision p = 1/sigma^2, in which it takes few divisions: `det` is the determinant times
    p^2, and the prior of sigma is sqrt(s p) / (s + p), with s the precision at its centre.
    """
    p = 2.0 * node / left
    one = g11 * p + 1.0 / (BASELINE_SD * BASELINE_SD)
    two = g22 * p + 1.0 / (AMPLITUDE_SD * AMPLITUDE_SD)
    det = one * two - g12 * g12 * p * p
    beside = centre + p
    inverse = 1.0 / (det * beside)
    explained = (two * h1 * h1 - 2.0 * g12 * h1 * h2 * p + one * h2 * h2) * p
    quad = yy - explained * (inverse * beside)
    quad = 0.5 * (quad + abs(quad)) + floor
    exponent = node * (1.0 - quad / left)
    # As in `likelihood.log_given_products`: exact to 1e-7 within QUICK_REACH.
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
    return weight * power * p * np.sqrt(centre * p * det) * inverse, exponent * exponent


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _rough(white: Array, table: Array, count: int, n: int, room: Array) -> None:
    """What is left, and the term with sigma its conjugate estimate, at every correlation."""
    for j in range(count):
        rho = table[RHO, j]
        _, _, _, _, _, _, left, det = _products(white, j, n)
        square = left / n * (1.0 - rho * rho) / (NOISE_SCALE * NOISE_SCALE)
        room[LEFT, j] = left
        room[TERM, j] = np.sqrt(square / det) / (square + 1.0)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _five_points(
    white: Array,
    table: Array,
    count: int,
    n: int,
    nodes: Array,
    weights: Array,
    first: int,
    room: Array,
) -> None:
    """What is left, and five points of the Gauss rule added up, at every correlation."""
    floor = n * RESOLUTION * RESOLUTION
    # The rule's points are padded to eight with others of no weight, and here to ten.
    n0, n1, n2 = nodes[first], nodes[first + 1], nodes[first + 2]
    w0, w1, w2 = weights[first], weights[first + 1], weights[first + 2]
    n3, n4, w3, w4 = n2, n2, 0.0, 0.0
    if first == 0:
        n3, n4, w3, w4 = nodes[3], nodes[4], weights[3], weights[4]
    for j in range(count):
        rho = table[RHO, j]
        s = (1.0 - rho * rho) / (NOISE_SCALE * NOISE_SCALE)
        g11, g12, g22, h1, h2, yy, left, _ = _products(white, j, n)
        t0, e0 = _point(n0, w0, s, floor, g11, g12, g22, h1, h2, yy, left)
        t1, e1 = _point(n1, w1, s, floor, g11, g12, g22, h1, h2, yy, left)
        t2, e2 = _point(n2, w2, s, floor, g11, g12, g22, h1, h2, yy, left)
        t3, e3 = _point(n3, w3, s, floor, g11, g12, g22, h1, h2, yy, left)
        t4, e4 = _point(n4, w4, s, floor, g11, g12, g22, h1, h2, yy, left)
        total, reach = t0 + t1 + t2 + t3 + t4, e0 + e1 + e2 + e3 + e4
        if first == 0:
            room[LEFT, j], room[TERM, j], room[REACH, j] = left, total, reach
        else:
            room[TERM, j] += total
            room[REACH, j] += reach


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _over_rho(
    white: Array,
    n: int,
    nodes: Array,
    weights: Array,
    table: Array,
    count: int,
    spacing: float,
    rough: bool,
    room: Array,
) -> float:
    """Log integral over rho and sigma, without its constants (`likelihood.constant_term`).

    Leaves each correlation's share, up to a common factor, in `room[TERM]`.
    """
    if rough:
        _rough(white, table, count, n, room)
    else:
        _five_points(white, table, count, n, nodes, weights, 0, room)
        if n < 12:
            _five_points(white, table, count, n, nodes, weights, 5, room)
        for j in range(count):
            if not room[REACH, j] < QUICK_REACH * QUICK_REACH:
                products = white[:, j].copy()
                value = log_given_products(
                    products, table[RHO, j], n, 2, False, nodes, weights, False
                )
                room[TERM, j] = 0.5 * np.exp(value + 0.5 * (n - 2) * np.log(room[LEFT, j]))
    smallest = np.inf
    for j in range(count):
        room[BASE, j] = room[LEFT, j] * table[DETERMINANT, j]
        smallest = min(smallest, room[BASE, j])
    for j in range(count):
        room[BASE, j] = smallest / room[BASE, j]
        room[TERM, j] *= table[PRIOR, j]
    # Times base^((n - 2) / 2).
    if n % 2 == 1:
        for j in range(count):
            room[TERM, j] *= np.sqrt(room[BASE, j])
    exponent = (n - 2) // 2
    while exponent > 0:
        if exponent % 2 == 1:
            for j in range(count):
                room[TERM, j] *= room[BASE, j]
        exponent //= 2
        if exponent > 0:
            for j in range(count):
                room[BASE, j] *= room[BASE, j]
    total, highest = 0.0, 0.0
    for j in range(count):
        total += room[TERM, j]
        highest = max(highest, room[TERM, j])
    if rough:
        # As `likelihood.over_rho`, which looks for the highest term only.
        total = 2.0 * highest
    return np.log(2.0 * total * spacing) - 0.5 * (n - 2) * np.log(smallest)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def over_even_rho(
    sums: Array,
    n: int,
    nodes: Array,
    weights: Array,
    table: Array,
    count: int,
    spacing: float,
    rough: bool,
    white: Array,
    room: Array,
) -> float:
    """`_over_rho` of one shape at even gaps, from its sums."""
    _even_products(sums, table, count, white)
    return _over_rho(white, n, nodes, weights, table, count, spacing, rough, room)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_likelihood(
    shape: Array,
    curve: Array,
    y: Array,
    gap: Array,
    even: bool,
    num_points: Array,
    log_unit: Array,
    nodes: Array,
    weights: Array,
    log_constant: Array,
    hopeless: Array,
    out: Array,
) -> None:
    """Log marginal likelihood of each shape; arguments as in `likelihood.log_likelihood`.

    A rough value is taken only where it is all that is asked for (`hopeless` infinite).
    """
    sums, kept = np.zeros((6, 3)), np.zeros((1, 4, 1))
    table, room, white = np.zeros((3, MAX_RHO)), np.zeros((4, MAX_RHO)), np.zeros((6, MAX_RHO))
    last_n, last_curve, count, spacing = -1, -1, 0, 1.0
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        if even and n != last_n:
            count, spacing = correlation_table(n, table)
        if c != last_curve:
            if even:
                curve_sums(y[c], n, sums)
            else:
                count, spacing, kept = uneven_table(n, y[c], gap[c], table, kept)
        last_n, last_curve = n, c
        if even:
            shape_sums(shape[m], y[c], n, sums)
            _even_products(sums, table, count, white)
        else:
            _uneven_products(shape[m], n, count, kept, white)
        rough = hopeless[m] == np.inf
        value = _over_rho(white, n, nodes[c], weights[c], table, count, spacing, rough, room)
        out[m] = value + constant_term(n, 2, False, log_constant[c]) - log_unit[c]
