"""Draws of level, amplitude and noise given a curve's shape.

What lives here: the compiled kernel that draws them from the distribution over which `likelihood`
integrates. What does not: that distribution itself, which is defined there.
"""

from __future__ import annotations

import numba
import numpy as np

from emergence_stats.noise.whitening import (
    FAST,
    MAX_RHO,
    curve_sums,
    even_products,
    kept_rows,
    odds_lattice,
    shape_sums,
)
from emergence_stats.quadrature.autoregressive import TERM, correlation_table, over_even_rho
from emergence_stats.quadrature.likelihood import (
    AMPLITUDE_SD,
    BASELINE_SD,
    RESOLUTION,
    conjugate_left,
    left_over,
    noise_prior,
    over_rho,
    products_at,
)

Array = np.ndarray


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def draw_given_products(
    products: Array,
    rho: float,
    n: int,
    linear: int,
    measured: bool,
    random: Array,
    log_sd: Array,
    mass: Array,
    out: Array,
) -> None:
    """Draws of a, b and sigma (or the common factor) into the first three places.

    Of `random` the second place is uniform and the last two are standard normal; `log_sd` and
    `mass` are room to work in.
    """
    fine = log_sd.size
    scale, width = noise_prior(rho, measured)
    g11, g12, g22 = products[0], products[1], products[2]
    h1, h2, yy = products[3], products[4], products[5]
    floor = n * RESOLUTION * RESOLUTION
    left, det = conjugate_left(products, n, linear)
    # By its cumulative distribution on a grid of twelve posterior sd.
    centre = 0.5 * np.log(left / n)
    reach = 6.0 / np.sqrt(2.0 * max(n - linear, 1))
    highest = -np.inf
    for k in range(fine):
        log_sd[k] = centre + reach * (2.0 * k / (fine - 1) - 1.0) + reach * 0.15
        variance = np.exp(2.0 * log_sd[k])
        quad, det = left_over(g11, g12, g22, h1, h2, yy, variance, linear)
        u = (log_sd[k] - np.log(scale)) / width
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
    target = random[1] * mass.sum()
    running = 0.0
    sigma = np.exp(log_sd[fine - 1])
    for k in range(fine):
        running += mass[k]
        if running >= target:
            within = 0.5 - (running - target) / mass[k]
            sigma = np.exp(log_sd[k] + within * (log_sd[1] - log_sd[0]))
            break
    variance = sigma * sigma
    g11 += variance / (BASELINE_SD * BASELINE_SD)
    out[1] = 0.0
    if linear == 1:
        out[0] = h1 / g11 + sigma / np.sqrt(g11) * random[2]
    else:
        g22 += variance / (AMPLITUDE_SD * AMPLITUDE_SD)
        det = g11 * g22 - g12 * g12
        out[1] = (g11 * h2 - g12 * h1) / det + sigma * np.sqrt(g11 / det) * random[3]
        out[0] = (h1 - g12 * out[1]) / g11 + sigma / np.sqrt(g11) * random[2]
    out[2] = sigma


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def draw_conditionals(
    shape: Array,
    curve: Array,
    y: Array,
    gap: Array,
    even: bool,
    num_points: Array,
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
    sums, products = np.zeros((6, 3)), np.zeros(6)
    lattice, offset, share = np.zeros(MAX_RHO), np.zeros(MAX_RHO), np.zeros(MAX_RHO)
    kept, tag = np.zeros((1, 4, 1)), np.full(1, -1)
    table, room, white = np.zeros((3, MAX_RHO)), np.zeros((4, MAX_RHO)), np.zeros((6, MAX_RHO))
    count, fine = 0, 61
    log_sd, mass = np.zeros(fine), np.zeros(fine)
    last_curve, top, spacing = -1, 0, 1.0
    for m in range(curve.size):
        c = curve[m]
        n = num_points[c]
        if c != last_curve:
            curve_sums(y[c], n, sums)
            if correlated:
                top, spacing = odds_lattice(n, gap[c], even, lattice, offset)
                if even and linear == 2:
                    count, _ = correlation_table(n, table)
                if not even:
                    kept = np.zeros((kept_rows(n, 2 * top + 1), 4, n))
                    tag = np.full(kept.shape[0], -1)
            last_curve = c
        if linear == 2:
            shape_sums(shape[m], y[c], n, sums)
        rho = 0.0
        if correlated:
            low, high = 0, 2 * top
            if even and linear == 2:
                over_even_rho(
                    sums, n, nodes[c], weights[c], table, count, spacing, False, white, room
                )
                share[: high + 1] = room[TERM, : high + 1]
                while share[high] == 0.0 and high > 0:
                    high -= 1
            else:
                _, low, high = over_rho(
                    sums,
                    shape[m],
                    y[c],
                    gap[c],
                    even,
                    n,
                    linear,
                    nodes[c],
                    weights[c],
                    lattice,
                    offset,
                    top,
                    spacing,
                    -np.inf,
                    kept,
                    tag,
                    share,
                )
            target = random[m, 0] * share[low : high + 1].sum()
            running = 0.0
            nearest = high
            for j in range(low, high + 1):
                running += share[j]
                if running >= target or j == high:
                    # Where in its cell the draw falls is free: take it from the same number.
                    within = 0.5 - (running - target) / share[j]
                    odds = spacing * (j - top + min(max(within, -0.5), 0.5))
                    rho = 1.0 / (1.0 + np.exp(-odds))
                    nearest = j
                    break
        if even:
            even_products(sums, rho, products)
        else:
            # At the lattice point next to the draw, for which the curve is whitened already.
            rho = lattice[nearest] if correlated else 0.0
            products_at(
                nearest,
                lattice,
                even,
                sums,
                shape[m],
                y[c],
                gap[c],
                n,
                linear,
                kept,
                tag,
                products,
            )
        draw_given_products(products, rho, n, linear, False, random[m], log_sd, mass, out[m])
        out[m, 3] = rho
