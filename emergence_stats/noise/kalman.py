"""Measured noise, which also wanders: its grid, and the filter that whitens a curve.

What lives here: compiled kernels for one curve and one value of the wandering and its correlation.
What does not: the likelihood made of them (`quadrature.measured`), noise of one part (`whitening`).

The sum of measurement and wandering is no Markov process, but the wandering x is, so that a Kalman
filter makes any row v independent, of unit variance under the model: with p the expected x and P
its variance before point i, gap g_i after the one before, r = rho^g,

    S_i = P_i + sd_i^2,  k_i = P_i / S_i,  u_i = (v_i - p_i) / sqrt(S_i)
    p_(i+1) = r (p_i + k_i (v_i - p_i)),  P_(i+1) = r^2 P_i (1 - k_i) + t^2 (1 - r^2).

References
----------
Kalman (1960), A new approach to linear filtering and prediction problems, Journal of Basic
Engineering 82, 35-45.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emergence_stats.noise.beliefs import (
    LARGEST_ODDS,
    LARGEST_WANDER,
    LEAST_ODDS,
    log_correlation,
    log_prior_odds,
    log_prior_wander,
)
from emergence_stats.noise.compiling import kernel
from emergence_stats.noise.whitening import odds_spacing

Array = np.ndarray

# Rows of the table a curve is kept in: r (1 - k), r k, 1 / sqrt(S), then 1 and y made independent.
ROWS = 5


class WanderGrid(NamedTuple):
    """Rows are correlations, evenly spaced in log odds; columns sizes t, in arsinh(t / least).

    `least` is about the least wandering that the points can show: in this coordinate an integrand
    is even and smooth, so that none at all needs no case of its own.

    Attributes
    ----------
    num_rho, num_wander : int
    rho_spacing, wander_spacing : float
    least : float
    scale : float
        Of the prior: the root mean square of the measured sd.
    correlated : bool
        Whether there is more than one row, of no correlation.
    """

    num_rho: int
    rho_spacing: float
    num_wander: int
    wander_spacing: float
    least: float
    scale: float
    correlated: bool


@kernel()
def wander_grid(variance: Array, n: int, correlated: bool) -> WanderGrid:
    """The grid for a curve with these measured variances."""
    fine, total = 0.0, 0.0
    for i in range(n):
        fine += 1.0 / (variance[i] * variance[i])
        total += variance[i]
    least = np.sqrt(np.sqrt(2.0 / fine))
    rho_spacing = odds_spacing(n)
    num_rho = int((LARGEST_ODDS - LEAST_ODDS) / rho_spacing) + 1 if correlated else 1
    # One and a half of the narrowest posterior sd of log t, 1 / sqrt(2 n).
    spacing = min(0.5, 1.06 / np.sqrt(n))
    num_wander = int(np.arcsinh(LARGEST_WANDER / least) / spacing) + 1
    return WanderGrid(
        num_rho, rho_spacing, num_wander, spacing, least, np.sqrt(total / n), correlated
    )


@kernel()
def noise_at(grid: WanderGrid, row: float, column: float) -> tuple[float, float]:
    """Log odds of rho and size t at a point of the grid, or between points."""
    odds = LEAST_ODDS + row * grid.rho_spacing if grid.correlated else -np.inf
    return odds, grid.least * np.sinh(abs(column) * grid.wander_spacing)


@kernel()
def log_prior_mass(grid: WanderGrid, odds: float, wander: float) -> float:
    """Log prior mass of the grid point with this noise."""
    log_mass, left = 0.0, 1.0
    if grid.correlated:
        left = np.exp(log_correlation(odds)[1])
        log_mass = log_prior_odds(odds) + np.log(grid.rho_spacing)
    log_mass += log_prior_wander(wander * np.sqrt(left), grid.scale)
    # What is new of the wandering, by the coordinate of the column.
    slope = np.sqrt(left * (grid.least * grid.least + wander * wander))
    log_mass += np.log(slope * grid.wander_spacing)
    return log_mass - np.log(2.0) if wander == 0.0 else log_mass


@kernel()
def filter_curve(
    y: Array, variance: Array, gap: Array, n: int, odds: float, wander: float, table: Array
) -> float:
    """Fills `table` (ROWS, point); returns half the log determinant."""
    # log of rho without cancellation near 1.
    log_rho = -np.log1p(np.exp(-odds)) if odds > -np.inf else -np.inf
    square = wander * wander
    expected = square
    one, curve = 0.0, 0.0
    half = 0.0
    for i in range(n):
        decay = 0.0
        if i > 0:
            share = table[1, i - 1]
            if log_rho > -np.inf:
                decay = np.exp(log_rho * gap[i])
                fresh = -np.expm1(2.0 * log_rho * gap[i])
                expected = decay * decay * expected * (1.0 - share) + square * fresh
            table[0, i - 1], table[1, i - 1] = decay * (1.0 - share), decay * share
            one = table[0, i - 1] * one + table[1, i - 1]
            curve = table[0, i - 1] * curve + table[1, i - 1] * y[i - 1]
        total = expected + variance[i]
        table[0, i], table[1, i] = 0.0, expected / total
        table[2, i] = 1.0 / np.sqrt(total)
        table[3, i] = (1.0 - one) * table[2, i]
        table[4, i] = (y[i] - curve) * table[2, i]
        half += 0.5 * np.log(total)
    return half


@kernel()
def curve_products(table: Array, n: int, out: Array) -> None:
    """Products of 1 and y with themselves and each other, into places 0, 3 and 5."""
    p11, p1y, pyy = 0.0, 0.0, 0.0
    for i in range(n):
        p11 += table[3, i] * table[3, i]
        p1y += table[3, i] * table[4, i]
        pyy += table[4, i] * table[4, i]
    out[0], out[1], out[2], out[3], out[4], out[5] = p11, 0.0, 0.0, p1y, 0.0, pyy


@kernel()
def shape_products(f: Array, table: Array, n: int, out: Array) -> None:
    """Those of the shape, into places 1, 2 and 4."""
    p1f, pff, pfy, state = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        fresh = (f[i] - state) * table[2, i]
        state = table[0, i] * state + table[1, i] * f[i]
        p1f += table[3, i] * fresh
        pff += fresh * fresh
        pfy += table[4, i] * fresh
    out[1], out[2], out[4] = p1f, pff, pfy
