"""Draws of level, amplitude and noise given a curve's shape.

What lives here: the compiled kernels that draw them from the distributions over which
`autoregressive` and `climbing` integrate. What does not: those distributions, and draws where sd
are measured (`measured`).
"""

from __future__ import annotations

import numpy as np

from emergence_stats.noise.beliefs import BASELINE_SD, FACTOR_WIDTH, RESOLUTION, log_sech
from emergence_stats.noise.compiling import kernel
from emergence_stats.noise.whitening import curve_sums, even_product
from emergence_stats.quadrature import autoregressive, climbing
from emergence_stats.quadrature.likelihood import (
    Curves,
    Rule,
    amplitude_precision,
    conjugate_left,
    left_over,
    scale_precision,
    take_curve,
)

Array = np.ndarray

# Points of the cumulative distribution that sigma is drawn by.
FINE = 61


@kernel()
def draw_given_products(products: Array, rho: float, rule: Rule, random: Array, out: Array) -> None:
    """Draws of a, b and sigma (or the common factor) into the first three places.

    Of `random` the second place is uniform and the last two are standard normal.
    """
    n, linear, measured = rule.n, rule.linear, rule.measured
    precision = amplitude_precision(linear)
    g11, g12, g22 = products[0], products[1], products[2]
    h1, h2, yy = products[3], products[4], products[5]
    g = (g11, g12, g22, h1, h2, yy, precision)
    floor = n * RESOLUTION * RESOLUTION
    log_scale = -0.5 * np.log(scale_precision(rho, measured))
    width = FACTOR_WIDTH if measured else 1.0
    left, _ = conjugate_left(g, n, linear)
    # On twelve posterior sd.
    reach = 6.0 / np.sqrt(2.0 * max(n - linear, 1))
    log_sd, mass = np.empty(FINE), np.empty(FINE)
    highest = -np.inf
    for k in range(FINE):
        log_sd[k] = 0.5 * np.log(left / n) + reach * (2.0 * k / (FINE - 1) - 0.85)
        variance = np.exp(2.0 * log_sd[k])
        quad, det = left_over(g, variance)
        # The determinant has one variance more than there are linear parameters.
        mass[k] = (
            -(n - 2) * log_sd[k]
            - 0.5 * (max(quad, 0.0) + floor) / variance
            - 0.5 * np.log(det)
            + log_sech((log_sd[k] - log_scale) / width)
        )
        highest = max(highest, mass[k])
    for k in range(FINE):
        mass[k] = np.exp(mass[k] - highest)
    target = random[1] * mass.sum()
    running = 0.0
    sigma = np.exp(log_sd[FINE - 1])
    for k in range(FINE):
        running += mass[k]
        if running >= target:
            within = 0.5 - (running - target) / mass[k]
            sigma = np.exp(log_sd[k] + within * (log_sd[1] - log_sd[0]))
            break
    variance = sigma * sigma
    g11 += variance / (BASELINE_SD * BASELINE_SD)
    out[1] = 0.0
    if linear == 2:
        g22 += variance * precision
        det = g11 * g22 - g12 * g12
        out[1] = (g11 * h2 - g12 * h1) / det + sigma * np.sqrt(g11 / det) * random[3]
    out[0] = (h1 - g12 * out[1]) / g11 + sigma / np.sqrt(g11) * random[2]
    out[2] = sigma


@kernel()
def _draw_place(random: float, share: Array, low: int, high: int) -> tuple[int, float]:
    """A place in proportion to its share; where in its cell is free, and told by what is left."""
    target = random * share[low : high + 1].sum()
    running = 0.0
    for j in range(low, high + 1):
        running += share[j]
        if running >= target or j == high:
            within = 0.5 - (running - target) / share[j]
            return j, min(max(within, -0.5), 0.5)
    return high, 0.0


@kernel()
def draw_conditionals(
    shape: Array, which: Array, curves: Curves, random: Array, out: Array
) -> None:
    """Draws (a, b, sigma, rho) from their posterior given each shape.

    Parameters
    ----------
    shape, which, curves
        As in `autoregressive.log_likelihood`.
    random : ndarray, shape (node, 4)
        Two uniform numbers (rho, sigma) and two standard normal ones (a, b).
    out : ndarray, shape (node, 4 or more)
        Its first four columns are filled with a, b, sigma, rho.
    """
    terms, products, last = np.zeros((autoregressive.ROWS, autoregressive.MAX_RHO)), np.zeros(6), -1
    curve = take_curve(curves, which[0])
    at = autoregressive.correlations_of(curve)
    share, rough, value = terms[autoregressive.SHARE], np.zeros(1, dtype=np.bool_), np.zeros(1)
    for m in range(which.size):
        if which[m] != last:
            last = which[m]
            curve = take_curve(curves, last)
            at = autoregressive.correlations_of(curve)
            curve_sums(curve.y, curve.n, at.sums)
        autoregressive.sum_over_rho(shape[m : m + 1], curve, at, rough, terms, value)
        j, rho = 0, 0.0
        if curve.correlated:
            high = 2 * at.middle
            while share[high] == 0.0 and high > 0:
                high -= 1
            j, within = _draw_place(random[m, 0], share, 0, high)
            rho = 1.0 / (1.0 + np.exp(-at.spacing * (j - at.middle + within)))
            if not curve.even:
                # At the grid point next to the draw, for which the curve is whitened already.
                rho = at.table[autoregressive.RHO, j]
        for row in range(6):
            products[row] = even_product(at.sums, row, rho) if curve.even else terms[row, j]
        draw_given_products(products, rho, curve.rule, random[m], out[m])
        out[m, 3] = rho


@kernel()
def draw_conditionals_by_climbing(
    shape: Array, which: Array, curves: Curves, random: Array, out: Array
) -> None:
    """The same for many points at uneven gaps; rho is drawn at a grid point."""
    last = which[0]
    curve = take_curve(curves, last)
    at = climbing.climb_of(curve)
    share = np.zeros(at.rho.size)
    for m in range(which.size):
        if which[m] != last:
            last = which[m]
            curve = take_curve(curves, last)
            at = climbing.climb_of(curve)
            share = np.zeros(at.rho.size)
        _, low, high = climbing.sum_over_rho(shape[m], curve, at, False, share)
        j, _ = _draw_place(random[m, 0], share, low, high)
        climbing.fill_products(j, shape[m], curve, at)
        draw_given_products(at.products, at.rho[j], curve.rule, random[m], out[m])
        out[m, 3] = at.rho[j]
