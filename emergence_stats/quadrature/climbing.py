"""Many points at uneven gaps: climbing to the most probable correlation, and summing about it.

What lives here: the compiled sum over the correlation rho where whitening a curve by every rho
would cost more than by the few that matter. What does not: integration at one rho (`likelihood`),
curves for which all of them are taken (`autoregressive`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emergence_stats.noise.beliefs import LARGEST_ODDS, log_prior_odds
from emergence_stats.noise.compiling import kernel
from emergence_stats.noise.whitening import (
    log_determinant,
    odds_spacing,
    uneven_products,
    whiten,
)
from emergence_stats.quadrature.likelihood import Curve, Curves, log_given_products, take_curve

Array = np.ndarray

# Sums end at terms this small.
LEAST_TERM = 1e-8
# Numbers kept of one curve whitened by many rho.
CACHE_SIZE = 4_000_000


class Climb(NamedTuple):
    """The grid of correlations of one curve, and the curve whitened by some of them.

    Attributes
    ----------
    middle : int
        Where log odds are 0.
    spacing : float
        In log odds.
    rho, offset : ndarray, shape (rho,)
        Correlation, and the part of the log integrand that no shape changes.
    white : ndarray, shape (slot, 4, point)
    tag : ndarray of int, shape (slot,)
        Of which rho a slot is.
    products : ndarray, shape (6,)
        Those last asked for.
    """

    middle: int
    spacing: float
    rho: Array
    offset: Array
    white: Array
    tag: Array
    products: Array


@kernel()
def climb_of(curve: Curve) -> Climb:
    """The grid, nothing whitened yet."""
    n = curve.n
    spacing = odds_spacing(n)
    middle = int(LARGEST_ODDS / spacing)
    count = 2 * middle + 1
    rho, offset = np.zeros(count), np.zeros(count)
    for j in range(count):
        odds = (j - middle) * spacing
        rho[j] = 1.0 / (1.0 + np.exp(-odds))
        offset[j] = log_prior_odds(odds) - 0.5 * log_determinant(curve.gap, n, rho[j])
    slots = max(16, min(count, CACHE_SIZE // (4 * n)))
    white = np.empty((slots, 4, n))
    return Climb(middle, spacing, rho, offset, white, np.full(slots, -1), np.zeros(6))


@kernel()
def fill_products(j: int, f: Array, curve: Curve, at: Climb) -> None:
    """Whitened products of one shape at one correlation, whitening the curve if need be."""
    slot = j % at.tag.size
    if at.tag[slot] != j:
        whiten(curve.y, curve.gap, curve.n, at.rho[j], at.white[slot])
        at.tag[slot] = j
    uneven_products(f, curve.n, at.white[slot], at.products)


@kernel()
def _term(j: int, f: Array, curve: Curve, at: Climb, rough: bool) -> float:
    """Log of one correlation's share of the integral."""
    fill_products(j, f, curve, at)
    return at.offset[j] + log_given_products(at.products, at.rho[j], curve.rule, rough)


@kernel()
def sum_over_rho(
    f: Array, curve: Curve, at: Climb, rough: bool, share: Array
) -> tuple[float, int, int]:
    """Log integral over rho and sigma, without `Curve.constant`.

    `share` gets each term relative to the first evaluated; also between which places it has some.
    """
    last = at.rho.size - 1
    # With shrinking strides, sigma only estimated; the grid does not depend on the way.
    best = at.middle - int(0.5 / at.spacing)
    stride = max(1, int(2.0 / at.spacing))
    value = _term(best, f, curve, at, True)
    while stride >= 1:
        moved, before = True, 0
        while moved:
            moved = False
            for sign in (-1, 1):
                trial = best + sign * stride
                if trial < 0 or trial > last or (before != 0 and sign == -before):
                    continue
                there = _term(trial, f, curve, at, True)
                if there > value:
                    best, value, moved, before = trial, there, True, sign
                    break
        stride //= 2
    if rough:
        return value + np.log(2.0 * at.spacing), best, best
    value = _term(best, f, curve, at, False)
    share[best] = total = 1.0
    low = high = best
    for sign in (1, -1):
        j, here = best, 1.0
        while here > LEAST_TERM and 0 <= j + sign <= last:
            j += sign
            here = np.exp(_term(j, f, curve, at, False) - value)
            share[j] = here
            total += here
        low, high = min(low, j), max(high, j)
    return value + np.log(total * at.spacing), low, high


@kernel()
def log_likelihood(shape: Array, which: Array, curves: Curves, cutoff: Array, out: Array) -> None:
    """Log marginal likelihood of each shape; arguments as in `autoregressive.log_likelihood`."""
    last = which[0]
    curve = take_curve(curves, last)
    at = climb_of(curve)
    share = np.zeros(at.rho.size)
    for m in range(which.size):
        if which[m] != last:
            last = which[m]
            curve = take_curve(curves, last)
            at = climb_of(curve)
            share = np.zeros(at.rho.size)
        value, _, _ = sum_over_rho(shape[m], curve, at, cutoff[m] == np.inf, share)
        out[m] = value + curve.constant
