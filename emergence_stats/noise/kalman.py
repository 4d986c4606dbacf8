"""Noise of two parts, measured and wandering: its lattice, and the filter that whitens a curve.

What lives here: compiled kernels for one curve and one value of the excess and its correlation.
What does not: the model they belong to and its likelihood (`measured`), noise of one part
(`whitening`).
"""

from __future__ import annotations

import numba
import numpy as np

from emergence_stats.noise.whitening import FAST, ODDS_REACH

Array = np.ndarray

# Excess up to this many ranges of the score; log odds of rho from this on.
LARGEST_EXCESS = 100.0
LEAST_ODDS = -8.0
# Rows of the table a curve is kept in: r (1 - k), r k, 1 / sqrt(S), then 1 and y made independent.
ROWS = 5


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def lattice(
    variance: Array, n: int, correlated: bool
) -> tuple[int, float, int, float, float, float]:
    """Number and spacing of rho and of t, the least excess to be seen, and the prior's scale."""
    fine, total = 0.0, 0.0
    for i in range(n):
        fine += 1.0 / (variance[i] * variance[i])
        total += variance[i]
    least = np.sqrt(np.sqrt(2.0 / fine))
    rho_spacing = min(1.1, 5.0 / np.sqrt(n))
    num_rho = int((ODDS_REACH - LEAST_ODDS) / rho_spacing) + 1 if correlated else 1
    # One and a half of the narrowest posterior sd of log t, 1 / sqrt(2 n).
    spacing = min(0.5, 1.06 / np.sqrt(n))
    num_excess = int(np.arcsinh(LARGEST_EXCESS / least) / spacing) + 1
    return num_rho, rho_spacing, num_excess, spacing, least, np.sqrt(total / n)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def log_prior(
    row: int, column: int, rho_spacing: float, spacing: float, least: float, scale: float, rho: bool
) -> tuple[float, float, float]:
    """Log mass of a lattice point, log odds of rho there, and t."""
    odds, log_mass, left = -np.inf, 0.0, 1.0
    if rho:
        odds = LEAST_ODDS + row * rho_spacing
        value = 1.0 / (1.0 + np.exp(-odds))
        left = (1.0 - value) * (1.0 + value)
        log_mass = np.log(2.0 / np.pi * value * (1.0 - value) * rho_spacing) - 0.5 * np.log(left)
    x = column * spacing
    excess = least * np.sinh(x)
    fresh = excess * np.sqrt(left) / scale
    log_mass += np.log(
        2.0 / np.pi * np.sqrt(left) / scale * least * np.cosh(x) * spacing / (1.0 + fresh * fresh)
    )
    if column == 0:
        log_mass -= np.log(2.0)
    return log_mass, odds, excess


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def filter_tables(
    y: Array, variance: Array, gap: Array, n: int, odds: float, excess: float, kept: Array
) -> float:
    """Fills `kept` (5, point), see ROWS; returns half the log determinant."""
    # log of rho without cancellation near 1.
    log_rho = -np.log1p(np.exp(-odds)) if odds > -np.inf else -np.inf
    square = excess * excess
    expected = square
    one, curve = 0.0, 0.0
    half = 0.0
    for i in range(n):
        decay = 0.0
        if i > 0:
            share = kept[1, i - 1]
            if log_rho > -np.inf:
                decay = np.exp(log_rho * gap[i])
                fresh = -np.expm1(2.0 * log_rho * gap[i])
                expected = decay * decay * expected * (1.0 - share) + square * fresh
            kept[0, i - 1], kept[1, i - 1] = decay * (1.0 - share), decay * share
            one = kept[0, i - 1] * one + kept[1, i - 1]
            curve = kept[0, i - 1] * curve + kept[1, i - 1] * y[i - 1]
        total = expected + variance[i]
        kept[0, i], kept[1, i] = 0.0, expected / total
        kept[2, i] = 1.0 / np.sqrt(total)
        kept[3, i] = (1.0 - one) * kept[2, i]
        kept[4, i] = (y[i] - curve) * kept[2, i]
        half += 0.5 * np.log(total)
    return half


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def curve_products(kept: Array, n: int, out: Array) -> None:
    """Products of 1 and y with themselves and each other, into places 0, 3 and 5."""
    p11, p1y, pyy = 0.0, 0.0, 0.0
    for i in range(n):
        p11 += kept[3, i] * kept[3, i]
        p1y += kept[3, i] * kept[4, i]
        pyy += kept[4, i] * kept[4, i]
    out[0], out[1], out[2], out[3], out[4], out[5] = p11, 0.0, 0.0, p1y, 0.0, pyy


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def shape_products(f: Array, kept: Array, n: int, out: Array) -> None:
    """Those of the shape, into places 1, 2 and 4."""
    p1f, pff, pfy, state = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        fresh = (f[i] - state) * kept[2, i]
        state = kept[0, i] * state + kept[1, i] * f[i]
        p1f += kept[3, i] * fresh
        pff += fresh * fresh
        pfy += kept[4, i] * fresh
    out[1], out[2], out[4] = p1f, pff, pfy
