"""How probable is a curve whose points come with measured standard deviations?

What lives here: the compiled sum over the wandering beside measured noise and its correlation, and
draws of them. What does not: the filter and its grid (`noise.kalman`), integration given whitened
products (`likelihood`), curves whose noise is of one part (`autoregressive`, `climbing`).

Measurements scatter independently, a run wanders, and only the sum is seen: a stretch measured very
finely, such as accuracies near zero, then does not have to share a scale of wandering with one
measured coarsely. The common factor of all sd is integrated as sigma is there, the correlation rho
and the size t of the wandering by the trapezoidal rule on the grid of `noise.kalman`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emergence_stats.noise.compiling import kernel
from emergence_stats.noise.kalman import (
    ROWS,
    WanderGrid,
    curve_products,
    filter_curve,
    log_prior_mass,
    noise_at,
    shape_products,
    wander_grid,
)
from emergence_stats.quadrature.conditionals import draw_given_products
from emergence_stats.quadrature.likelihood import Curve, Curves, log_given_products, take_curve

Array = np.ndarray

# Terms this small beside the largest end a sum.
CUT = 2e-4
# Neighbouring terms of a sum differ by no more than this at its peak, one and a half standard
# deviations of a normal distribution.
DROP = 1.1
# Numbers kept of one curve whitened at many grid points.
CACHE_SIZE = 12_000_000
# Grid points that a draw may fall on.
MAX_LISTED = 20_000


class Filtered(NamedTuple):
    """One curve, its grid, and what is kept of it from shape to shape.

    Attributes
    ----------
    curve : Curve
    grid : WanderGrid
    table : ndarray, shape (slot, ROWS, point)
        The curve whitened at some grid points, see `kalman.ROWS`.
    fixed : ndarray, shape (slot, 7)
        Its products, and the part of the log integrand that no shape changes.
    tag : ndarray of int, shape (slot,)
        Which grid point a slot is of.
    products : ndarray, shape (6,)
        Those last asked for.
    """

    curve: Curve
    grid: WanderGrid
    table: Array
    fixed: Array
    tag: Array
    products: Array


class Peaks(NamedTuple):
    """Where each row of equal correlation peaks, for one shape.

    Attributes
    ----------
    column : ndarray of int, shape (rho,)
        -1 where nobody looked.
    height : ndarray, shape (rho,)
    """

    column: Array
    height: Array


@kernel()
def prepare(curve: Curve) -> Filtered:
    """A curve of which nothing is kept yet."""
    grid = wander_grid(curve.variance, curve.n, curve.correlated)
    slots = max(64, min(grid.num_rho * grid.num_wander, CACHE_SIZE // (ROWS * curve.n)))
    return Filtered(
        curve,
        grid,
        np.empty((slots, ROWS, curve.n)),
        np.zeros((slots, 7)),
        np.full(slots, -1),
        np.zeros(6),
    )


@kernel()
def _new_peaks(at: Filtered) -> Peaks:
    return Peaks(np.zeros(at.grid.num_rho, dtype=np.int64), np.zeros(at.grid.num_rho))


@kernel()
def _term(at: Filtered, f: Array, row: int, column: int, rough: bool) -> float:
    """Log of one grid point's share of the likelihood, without `Curve.constant`."""
    n, products = at.curve.n, at.products
    point = row * at.grid.num_wander + column
    slot = point % at.tag.size
    table, fixed = at.table[slot], at.fixed[slot]
    if at.tag[slot] != point:
        odds, wander = noise_at(at.grid, row, column)
        half = filter_curve(at.curve.y, at.curve.variance, at.curve.gap, n, odds, wander, table)
        curve_products(table, n, fixed)
        fixed[6] = log_prior_mass(at.grid, odds, wander) - half
        at.tag[slot] = point
    for k in range(6):
        products[k] = fixed[k]
    if at.curve.rule.linear == 2:
        shape_products(f, table, n, products)
    return fixed[6] + log_given_products(products, 0.0, at.curve.rule, rough)


@kernel()
def _climb(at: Filtered, f: Array, row: int, column: int, peaks: Peaks) -> float:
    """Finds where a row of equal rho peaks in t, from a start near by, s only estimated."""
    value = _term(at, f, row, column, True)
    stride = max(1, int(0.8 / at.grid.wander_spacing))
    while stride >= 1:
        moved, before = True, 0
        while moved:
            moved = False
            for sign in (-1, 1):
                trial = column + sign * stride
                if trial < 0 or trial >= at.grid.num_wander or sign == -before:
                    continue
                there = _term(at, f, row, trial, True)
                if there > value:
                    column, value, moved, before = trial, there, True, sign
                    break
        stride //= 4
    peaks.column[row], peaks.height[row] = column, value
    return value


@kernel()
def _is_peak(peaks: Peaks, row: int) -> bool:
    """Whether no row looked at next to this one, at whatever distance, is higher."""
    for sign in (-1, 1):
        beside = row + sign
        while 0 <= beside < peaks.height.size and peaks.column[beside] < 0:
            beside += sign
        if 0 <= beside < peaks.height.size and peaks.height[beside] > peaks.height[row]:
            return False
    return True


@kernel()
def _find_peaks(at: Filtered, f: Array, column: int, peaks: Peaks) -> float:
    """Climbs rows, first some that are far apart, then those near each of their peaks, so that
    several, such as no wandering and a random walk, are found. Returns the highest.
    """
    num_rho, highest = at.grid.num_rho, -np.inf
    peaks.column[:] = -1
    stride = max(1, int(1.0 / at.grid.rho_spacing))
    for row in range(0, num_rho, stride):
        highest = max(highest, _climb(at, f, row, column, peaks))
        column = peaks.column[row]
    while stride > 1:
        stride //= 2
        for row in range(num_rho):
            if peaks.column[row] >= 0 and _is_peak(peaks, row):
                for beside in (row - stride, row + stride):
                    if 0 <= beside < num_rho and peaks.column[beside] < 0:
                        highest = max(highest, _climb(at, f, beside, peaks.column[row], peaks))
    return highest


@kernel()
def _rows_apart(at: Filtered, f: Array, least: float, peaks: Peaks) -> int:
    """How many rows a sum may go forward at a time; peaks below `least` do not matter."""
    apart = 8
    for peak in range(at.grid.num_rho):
        if peaks.column[peak] < 0 or not peaks.height[peak] >= least or not _is_peak(peaks, peak):
            continue
        wide = 1
        while wide < apart and 2 * wide < at.grid.num_rho:
            steepest = 0.0
            for row in (peak - 2 * wide, peak + 2 * wide):
                if 0 <= row < at.grid.num_rho:
                    if peaks.column[row] < 0:
                        _climb(at, f, row, peaks.column[peak], peaks)
                    steepest = max(steepest, peaks.height[peak] - peaks.height[row])
            if steepest > DROP:
                break
            wide *= 2
        apart = min(apart, wide)
    return apart


@kernel()
def _columns_apart(at: Filtered, f: Array, row: int, peaks: Peaks) -> int:
    """The same of the columns of one row."""
    column, skip = peaks.column[row], 1
    while skip < 16:
        steepest = 0.0
        for beside in (column - 2 * skip, column + 2 * skip):
            if 0 <= beside < at.grid.num_wander:
                steepest = max(steepest, peaks.height[row] - _term(at, f, row, beside, True))
        if steepest > DROP:
            break
        skip *= 2
    return skip


@kernel()
def sum_over_grid(
    at: Filtered,
    f: Array,
    cutoff: float,
    start: int,
    peaks: Peaks,
    listed: Array,
    share: Array,
) -> tuple[float, int]:
    """Log of the sum over rho and t, and how many grid points were listed with their shares.

    The grid is as fine as any posterior needs, and draws are taken from all of it; where nothing
    is to be listed, a sum may do with every second row, or fewer.
    """
    num_rho, num_wander = at.grid.num_rho, at.grid.num_wander
    highest = _find_peaks(at, f, start, peaks)
    if highest + 4.5 < cutoff:
        # As if some thirty points were as high as the peak.
        return highest + 3.5, 0
    # The rough value errs by less than a nat or so.
    least = highest + np.log(CUT) - 2.0
    apart = _rows_apart(at, f, least, peaks) if share.size == 0 else 1
    total, number = 0.0, 0
    # Rows about each peak; what has been counted is marked by a top of -inf.
    for peak in range(num_rho):
        if peaks.column[peak] < 0 or not peaks.height[peak] >= least or not _is_peak(peaks, peak):
            continue
        for away in (apart, -apart):
            row = peak // apart * apart + (apart if away > 0 else 0)
            column = peaks.column[peak]
            while 0 <= row < num_rho:
                if peaks.column[row] < 0:
                    _climb(at, f, row, column, peaks)
                if not peaks.height[row] >= least:
                    break
                column = peaks.column[row]
                skip = _columns_apart(at, f, row, peaks) if share.size == 0 else 1
                peaks.height[row] = -np.inf
                for sign in (1, -1):
                    beside = column // skip * skip + (skip if sign == 1 else 0)
                    while 0 <= beside < num_wander:
                        term = skip * apart * np.exp(_term(at, f, row, beside, False) - highest)
                        total += term
                        if number < share.size:
                            listed[number], share[number] = row * num_wander + beside, term
                            number += 1
                        if term < CUT * total:
                            break
                        beside += sign * skip
                row += away
    return highest + np.log(total), number


@kernel()
def log_likelihood(shape: Array, which: Array, curves: Curves, cutoff: Array, out: Array) -> None:
    """Log marginal likelihood of each shape; arguments as in `autoregressive.log_likelihood`."""
    last = which[0]
    at = prepare(take_curve(curves, last))
    start, peaks = at.grid.num_wander // 2, _new_peaks(at)
    listed, share = np.zeros(0, dtype=np.int64), np.zeros(0)
    for m in range(which.size):
        if which[m] != last:
            last = which[m]
            at = prepare(take_curve(curves, last))
            start, peaks = at.grid.num_wander // 2, _new_peaks(at)
        constant = at.curve.constant
        value, _ = sum_over_grid(at, shape[m], cutoff[m] - constant, start, peaks, listed, share)
        start = peaks.column[0]
        out[m] = value + constant


@kernel()
def draw_conditionals(
    shape: Array, which: Array, curves: Curves, random: Array, out: Array
) -> None:
    """Draws (a, b, s t, rho, s) from their posterior given each shape.

    Parameters
    ----------
    random : ndarray, shape (node, 4)
        Two uniform numbers (a grid point, s) and two standard normal ones (a, b).
    out : ndarray, shape (node, 5)
        Filled.
    """
    last = which[0]
    at = prepare(take_curve(curves, last))
    start, peaks = at.grid.num_wander // 2, _new_peaks(at)
    listed, share = np.zeros(MAX_LISTED, dtype=np.int64), np.zeros(MAX_LISTED)
    for m in range(which.size):
        if which[m] != last:
            last = which[m]
            at = prepare(take_curve(curves, last))
            start, peaks = at.grid.num_wander // 2, _new_peaks(at)
        curve = at.curve
        _, number = sum_over_grid(at, shape[m], -np.inf, start, peaks, listed, share)
        start = peaks.column[0]
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
        row, column = listed[chosen] // at.grid.num_wander, listed[chosen] % at.grid.num_wander
        finer = rest * 1024.0
        finer -= np.floor(finer)
        odds, wander = noise_at(at.grid, row + rest - 0.5, column + finer - 0.5)
        table = at.table[0]
        filter_curve(curve.y, curve.variance, curve.gap, curve.n, odds, wander, table)
        at.tag[0] = -1
        curve_products(table, curve.n, at.products)
        if curve.rule.linear == 2:
            shape_products(shape[m], table, curve.n, at.products)
        draw_given_products(at.products, 0.0, curve.rule, random[m], out[m])
        out[m, 4] = out[m, 2]
        out[m, 2] = wander * out[m, 4]
        out[m, 3] = 1.0 / (1.0 + np.exp(-odds)) if curve.correlated else 0.0
