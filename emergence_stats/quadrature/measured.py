"""How probable is a curve whose points come with measured standard deviations?

What lives here: the compiled kernels for noise of two parts, what the measurement adds and what the
training run adds, integrated over and drawn. What does not: the likelihood of a curve whose noise
is of one part (`likelihood`), and the steps both have in common, which are there.

    y_i = a + b f_i + s (m_i + x_i),    m_i ~ Normal(0, sd_i), independent
    x stationary, sd t, correlation rho over a typical gap: the excess
    sqrt(1 - rho^2) t half-Cauchy of scale the root mean square of sd
    log s ~ hyperbolic secant of width 0.25: all sd misstated by one factor near 1

rho as in `likelihood`. Measurements scatter independently, a run wanders, and only the sum is seen:
a stretch measured very finely, such as accuracies near zero, then does not have to share a scale of
wandering with one measured coarsely. The sum is no Markov process, but x is, so that a Kalman
filter makes any row v independent, of unit variance under the model: with p the expected x and P
its variance before point i, gap g_i after the one before, r = rho^g,

    S_i = P_i + sd_i^2,  k_i = P_i / S_i,  u_i = (v_i - p_i) / sqrt(S_i)
    p_(i+1) = r (p_i + k_i (v_i - p_i)),  P_(i+1) = r^2 P_i (1 - k_i) + t^2 (1 - r^2).

s is then integrated as sigma is there; rho and t by the trapezoidal rule, rho in its log odds, t in
arsinh(t / c), where c is about the least excess that n points can show: the integrand is an even,
smooth function of that, so that no excess at all needs no case of its own.

References
----------
Kalman (1960), A new approach to linear filtering and prediction problems, Journal of Basic
Engineering 82, 35-45.
"""

from __future__ import annotations

import numba
import numpy as np

from emergence_stats.noise.kalman import (
    LEAST_ODDS,
    ROWS,
    curve_products,
    filter_tables,
    lattice,
    log_prior,
    shape_products,
)
from emergence_stats.noise.whitening import FAST
from emergence_stats.quadrature.conditionals import draw_given_products
from emergence_stats.quadrature.likelihood import constant_term, log_given_products

Array = np.ndarray

# Terms this small beside the largest end a sum.
CUT = 2e-4
# Neighbouring terms of a sum differ by no more than this at its peak, one and a half standard
# deviations of a normal distribution.
DROP = 1.1
# Numbers kept for one curve.
MAX_KEPT = 12_000_000


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _term(
    row: int,
    column: int,
    f: Array,
    y: Array,
    variance: Array,
    gap: Array,
    n: int,
    linear: int,
    correlated: bool,
    grid: tuple[int, float, int, float, float, float],
    nodes: Array,
    weights: Array,
    rough: bool,
    kept: Array,
    held: Array,
    tag: Array,
    products: Array,
) -> float:
    """Log of one lattice point's share of the likelihood, up to the common constant."""
    _, rho_spacing, num_excess, spacing, least, scale = grid
    point = row * num_excess + column
    slot = point % tag.size
    if tag[slot] != point:
        log_mass, odds, excess = log_prior(
            row, column, rho_spacing, spacing, least, scale, correlated
        )
        half = filter_tables(y, variance, gap, n, odds, excess, kept[slot])
        curve_products(kept[slot], n, held[slot])
        held[slot, 6] = log_mass - half
        tag[slot] = point
    for k in range(6):
        products[k] = held[slot, k]
    if linear == 2:
        shape_products(f, kept[slot], n, products)
    value = log_given_products(products, 0.0, n, linear, True, nodes, weights, rough)
    return held[slot, 6] + value


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _climb(
    row: int,
    column: int,
    f: Array,
    y: Array,
    variance: Array,
    gap: Array,
    n: int,
    linear: int,
    correlated: bool,
    grid: tuple[int, float, int, float, float, float],
    nodes: Array,
    weights: Array,
    kept: Array,
    held: Array,
    tag: Array,
    products: Array,
) -> tuple[int, float]:
    """Where a row of equal rho peaks in t, from a start near by, s only estimated."""
    value = _term(
        row, column, f, y, variance, gap, n, linear, correlated, grid, nodes, weights, True,
        kept, held, tag, products,
    )  # fmt: skip
    stride = max(1, int(0.8 / grid[3]))
    while stride >= 1:
        moved, before = True, 0
        while moved:
            moved = False
            for sign in (-1, 1):
                trial = column + sign * stride
                if trial < 0 or trial >= grid[2] or sign == -before:
                    continue
                there = _term(
                    row, trial, f, y, variance, gap, n, linear, correlated, grid, nodes, weights,
                    True, kept, held, tag, products,
                )  # fmt: skip
                if there > value:
                    column, value, moved, before = trial, there, True, sign
                    break
        stride //= 4
    return column, value


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _is_peak(row: int, column: Array, top: Array) -> bool:
    """Whether no row looked at next to this one, at whatever distance, is higher."""
    for sign in (-1, 1):
        beside = row + sign
        while 0 <= beside < top.size and column[beside] < 0:
            beside += sign
        if 0 <= beside < top.size and top[beside] > top[row]:
            return False
    return True


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def over_lattice(
    f: Array,
    y: Array,
    variance: Array,
    gap: Array,
    n: int,
    linear: int,
    correlated: bool,
    grid: tuple[int, float, int, float, float, float],
    nodes: Array,
    weights: Array,
    hopeless: float,
    kept: Array,
    held: Array,
    tag: Array,
    best: Array,
    top: Array,
    start: int,
    listed: Array,
    share: Array,
) -> tuple[float, int, int]:
    """Log of the sum over rho and t; how many points were listed with their shares; a new start.

    Rows of equal rho are climbed from where a neighbour peaked, first some that are far apart, then
    those near each of their peaks, so that several, such as no excess and a random walk, are found.
    """
    num_rho, rho_spacing, num_excess, _, _, _ = grid
    products = np.zeros(6)
    best[:], highest, column = -1, -np.inf, start
    stride = max(1, int(1.0 / rho_spacing))
    for row in range(0, num_rho, stride):
        column, top[row] = _climb(
            row, column, f, y, variance, gap, n, linear, correlated, grid, nodes, weights, kept,
            held, tag, products,
        )  # fmt: skip
        best[row] = column
        highest = max(highest, top[row])
    while stride > 1:
        stride //= 2
        for row in range(num_rho):
            if best[row] >= 0 and _is_peak(row, best, top):
                for beside in (row - stride, row + stride):
                    if 0 <= beside < num_rho and best[beside] < 0:
                        best[beside], top[beside] = _climb(
                            beside, best[row], f, y, variance, gap, n, linear, correlated, grid,
                            nodes, weights, kept, held, tag, products,
                        )  # fmt: skip
                        highest = max(highest, top[beside])
    if highest + 4.5 < hopeless:
        # As if some thirty points were as high as the peak.
        return highest + 3.5, 0, best[0]
    # The rough value errs by less than a nat or so.
    least = highest + np.log(CUT) - 2.0
    # The lattice is as fine as any posterior needs, and draws are taken from all of it; a sum may
    # do with every second row, or fewer.
    apart = 8 if share.size == 0 else 1
    for peak in range(num_rho):
        if best[peak] < 0 or not top[peak] >= least or not _is_peak(peak, best, top):
            continue
        wide = 1
        while wide < apart and 2 * wide < num_rho:
            steepest = 0.0
            for row in (peak - 2 * wide, peak + 2 * wide):
                if 0 <= row < num_rho:
                    if best[row] < 0:
                        best[row], top[row] = _climb(
                            row, best[peak], f, y, variance, gap, n, linear, correlated, grid,
                            nodes, weights, kept, held, tag, products,
                        )  # fmt: skip
                    steepest = max(steepest, top[peak] - top[row])
            if steepest > DROP:
                break
            wide *= 2
        apart = min(apart, wide)
    total, number, skip = 0.0, 0, 1
    # Rows about each peak; what has been counted is marked by a top of -inf.
    for peak in range(num_rho):
        if best[peak] < 0 or not top[peak] >= least or not _is_peak(peak, best, top):
            continue
        for away in (apart, -apart):
            row = peak // apart * apart + (apart if away > 0 else 0)
            column = best[peak]
            while 0 <= row < num_rho:
                if best[row] < 0:
                    best[row], top[row] = _climb(
                        row, column, f, y, variance, gap, n, linear, correlated, grid, nodes,
                        weights, kept, held, tag, products,
                    )  # fmt: skip
                if not top[row] >= least:
                    break
                column = best[row]
                skip = 1
                while skip < 16 and share.size == 0:
                    steepest = 0.0
                    for at in (column - 2 * skip, column + 2 * skip):
                        if 0 <= at < num_excess:
                            there = _term(
                                row, at, f, y, variance, gap, n, linear, correlated, grid, nodes,
                                weights, True, kept, held, tag, products,
                            )  # fmt: skip
                            steepest = max(steepest, top[row] - there)
                    if steepest > DROP:
                        break
                    skip *= 2
                top[row] = -np.inf
                for sign in (1, -1):
                    at = column // skip * skip + (skip if sign == 1 else 0)
                    while 0 <= at < num_excess:
                        term = skip * apart * np.exp(
                            _term(
                                row, at, f, y, variance, gap, n, linear, correlated, grid, nodes,
                                weights, False, kept, held, tag, products,
                            )
                            - highest
                        )  # fmt: skip
                        total += term
                        if number < share.size:
                            listed[number], share[number] = row * num_excess + at, term
                            number += 1
                        if term < CUT * total:
                            break
                        at += sign * skip
                row += away
    return highest + np.log(total), number, best[0]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def kept_points(n: int, points: int) -> int:
    """How many lattice points a curve is kept for."""
    return max(64, min(points, MAX_KEPT // (ROWS * n)))


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_likelihood(
    shape: Array,
    curve: Array,
    y: Array,
    variance: Array,
    gap: Array,
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
    y, variance : ndarray, shape (curve, point)
        Values, and the squares of their standard deviations.
    gap : ndarray, shape (curve, point)
        Distance to the point before, in typical gaps.
    num_points, log_unit, log_constant : ndarray, shape (curve,)
        Points used; what the change of units adds; Gauss constants.
    linear : int
        1 for a baseline only, 2 with an amplitude.
    nodes, weights : ndarray, shape (curve, 8)
        Gauss rules of `likelihood.noise_tables`.
    hopeless : ndarray, shape (node,)
        A rough value is enough below this.
    out : ndarray, shape (node,)
        Filled.
    """
    last, start = -1, 0
    grid = (1, 1.0, 1, 1.0, 1.0, 1.0)
    kept, held, tag = np.zeros((1, ROWS, 1)), np.zeros((1, 7)), np.full(1, -1)
    best, top = np.zeros(1, dtype=np.int64), np.zeros(1)
    listed, share = np.zeros(0, dtype=np.int64), np.zeros(0)
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        if c != last:
            grid = lattice(variance[c], n, correlated)
            slots = kept_points(n, grid[0] * grid[2])
            kept, held = np.zeros((slots, ROWS, n)), np.zeros((slots, 7))
            tag = np.full(slots, -1)
            best, top = np.zeros(grid[0], dtype=np.int64), np.zeros(grid[0])
            last, start = c, grid[2] // 2
        constant = constant_term(n, linear, True, log_constant[c]) - log_unit[c]
        value, _, start = over_lattice(
            shape[m], y[c], variance[c], gap[c], n, linear, correlated, grid, nodes[c], weights[c],
            hopeless[m] - constant, kept, held, tag, best, top, start, listed, share,
        )  # fmt: skip
        out[m] = value + constant


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def draw_conditionals(
    shape: Array,
    curve: Array,
    y: Array,
    variance: Array,
    gap: Array,
    num_points: Array,
    linear: int,
    correlated: bool,
    nodes: Array,
    weights: Array,
    random: Array,
    out: Array,
) -> None:
    """Draws (a, b, s t, rho, s) from their posterior given each shape.

    Parameters
    ----------
    random : ndarray, shape (node, 4)
        Two uniform numbers (a lattice point, s) and two standard normal ones (a, b).
    out : ndarray, shape (node, 5)
        Filled.
    """
    last, start = -1, 0
    grid = (1, 1.0, 1, 1.0, 1.0, 1.0)
    kept, held, tag = np.zeros((1, ROWS, 1)), np.zeros((1, 7)), np.full(1, -1)
    best, top = np.zeros(1, dtype=np.int64), np.zeros(1)
    listed, share = np.zeros(20_000, dtype=np.int64), np.zeros(20_000)
    fine = 61
    log_sd, mass = np.zeros(fine), np.zeros(fine)
    products = np.zeros(6)
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        if c != last:
            grid = lattice(variance[c], n, correlated)
            slots = kept_points(n, grid[0] * grid[2])
            kept, held = np.zeros((slots, ROWS, n)), np.zeros((slots, 7))
            tag = np.full(slots, -1)
            best, top = np.zeros(grid[0], dtype=np.int64), np.zeros(grid[0])
            last, start = c, grid[2] // 2
        _, number, start = over_lattice(
            shape[m], y[c], variance[c], gap[c], n, linear, correlated, grid, nodes[c], weights[c],
            -np.inf, kept, held, tag, best, top, start, listed, share,
        )  # fmt: skip
        target = random[m, 0] * share[:number].sum()
        running, chosen = 0.0, number - 1
        for k in range(number):
            running += share[k]
            if running >= target:
                chosen = k
                break
        # Where in its cell the draw falls is free: the rest of the number says it for rho, and
        # its next digits for t.
        rest = min(max((running - target) / share[chosen], 0.0), 1.0 - 1e-9)
        row, column = listed[chosen] // grid[2], listed[chosen] % grid[2]
        finer = rest * 1024.0
        finer -= np.floor(finer)
        x = abs(column + finer - 0.5) * grid[3]
        excess = grid[4] * np.sinh(x)
        odds = LEAST_ODDS + (row + rest - 0.5) * grid[1] if correlated else -np.inf
        filter_tables(y[c], variance[c], gap[c], n, odds, excess, kept[0])
        tag[0] = -1
        curve_products(kept[0], n, products)
        if linear == 2:
            shape_products(shape[m], kept[0], n, products)
        draw_given_products(products, 0.0, n, linear, True, random[m], log_sd, mass, out[m])
        out[m, 4] = out[m, 2]
        out[m, 2] = excess * out[m, 4]
        out[m, 3] = 1.0 / (1.0 + np.exp(-odds)) if correlated else 0.0
