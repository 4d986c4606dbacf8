"""Noise that remembers: whitened inner products under one correlation.

What lives here: how far points are apart, and compiled kernels for a stationary Markov process,
first-order autoregressive, AR(1), where neighbours are equally far apart, Ornstein-Uhlenbeck where
they are not. What does not: likelihoods (`quadrature`), noise of two parts (`kalman`).

The correlation rho is that of two points one typical gap apart; over g such gaps it is rho^g. At
even gaps every inner product follows, for any rho, from three sums, so that trying another rho
costs next to nothing. At uneven ones a curve whitened by a rho is kept for the next shape.
"""

from __future__ import annotations

import numpy as np

from emergence_stats.noise.compiling import kernel

Array = np.ndarray

# Gaps that differ by less than this share are equal but for rounding.
EVEN = 1e-9


def typical_gaps(step: Array, num_points: Array, noise: str, offset: Array) -> Array:
    """Distance of each point from the one before in median gaps of its curve, 1 where none counts.

    Shape (curve, point), as that of `step`; `num_points` and `offset`, added to a step before its
    logarithm is taken, have shape (curve,).

    Examples
    --------
    >>> typical_gaps(np.array([[0.0, 1.0, 2.0, 4.0]]), np.array([4]), "ou", np.zeros(1))
    array([[1., 1., 1., 2.]])
    """
    if noise not in ("ou", "ou_log"):
        return np.ones(step.shape)
    place = step if noise == "ou" else np.log(step + offset[:, None])
    gap = np.diff(place, axis=1, prepend=0.0)
    gap[:, 0] = np.nan
    gap[np.arange(gap.shape[1])[None] >= num_points[:, None]] = np.nan
    gap = np.nan_to_num(gap / np.nanmedian(gap, axis=1, keepdims=True), nan=1.0)
    return np.where((abs(gap - 1.0) < EVEN).all(axis=1, keepdims=True), 1.0, gap)


@kernel()
def odds_spacing(n: int) -> float:
    """Spacing of a grid in log odds of rho: about 1.2 of the narrowest posterior sd."""
    return min(1.0, 5.0 / np.sqrt(n))


@kernel()
def curve_sums(y: Array, n: int, sums: Array) -> None:
    """Sum, ends and neighbour products of 11, 1y, yy: what no shape changes."""
    one, two, beside = 0.0, 0.0, 0.0
    for i in range(n):
        one += y[i]
        two += y[i] * y[i]
    for i in range(1, n):
        beside += y[i - 1] * y[i]
    first, last = y[0], y[n - 1]
    sums[0, 0], sums[0, 1], sums[0, 2] = n, 2.0, 2.0 * (n - 1)
    sums[3, 0], sums[3, 1], sums[3, 2] = one, first + last, 2.0 * one - first - last
    sums[5, 0], sums[5, 1], sums[5, 2] = two, first * first + last * last, 2.0 * beside


@kernel()
def shape_sums(f: Array, y: Array, n: int, sums: Array) -> None:
    """The same of 1f, ff, fy."""
    first, last = f[0], f[n - 1]
    one, two, three = 0.0, 0.0, 0.0
    for i in range(n):
        one += f[i]
        two += f[i] * f[i]
        three += f[i] * y[i]
    sums[1, 0], sums[1, 1], sums[1, 2] = one, first + last, 2.0 * one - first - last
    sums[2, 0], sums[4, 0] = two, three
    two, three = 0.0, 0.0
    for i in range(1, n):
        two += f[i - 1] * f[i]
        three += f[i - 1] * y[i] + f[i] * y[i - 1]
    sums[2, 1], sums[2, 2] = first * first + last * last, 2.0 * two
    sums[4, 1], sums[4, 2] = y[0] * first + y[n - 1] * last, three


@kernel(inline="always")
def even_product(sums: Array, row: int, rho: float) -> float:
    """x'R^-1 z under AR(1) from its three sums; rows are 11, 1f, ff, 1y, fy, yy."""
    square = rho * rho
    total = (1.0 + square) * sums[row, 0] - square * sums[row, 1] - rho * sums[row, 2]
    return total / (1.0 - square)


@kernel()
def whiten(y: Array, gap: Array, n: int, rho: float, white: Array) -> None:
    """Fills `white` (4, point): decay over the gap before, 1/sd of what is new, 1 and y whitened.

    R^-1 = A'A, with (A x)_i = (x_i - r_i x_(i-1)) / sqrt(1 - r_i^2), r_i = rho^gap_i.
    """
    log_rho = np.log(rho)
    white[0, 0], white[1, 0], white[2, 0], white[3, 0] = 0.0, 1.0, 1.0, y[0]
    for i in range(1, n):
        decay = np.exp(log_rho * gap[i])
        inverse = 1.0 / np.sqrt(-np.expm1(2.0 * log_rho * gap[i]))
        white[0, i], white[1, i] = decay, inverse
        white[2, i] = (1.0 - decay) * inverse
        white[3, i] = (y[i] - decay * y[i - 1]) * inverse


@kernel()
def log_determinant(gap: Array, n: int, rho: float) -> float:
    """Of the correlation matrix."""
    log_rho, total = np.log(rho), 0.0
    for i in range(1, n):
        total += np.log(-np.expm1(2.0 * log_rho * gap[i]))
    return total


@kernel()
def uneven_products(f: Array, n: int, white: Array, out: Array) -> None:
    """The six inner products, in the order of `even_product`, for a shape on a whitened curve."""
    p11, p1f, pff, p1y, pfy, pyy = 1.0, f[0], f[0] * f[0], white[3, 0], white[3, 0] * f[0], 0.0
    pyy = white[3, 0] * white[3, 0]
    for i in range(1, n):
        fresh = (f[i] - white[0, i] * f[i - 1]) * white[1, i]
        p1f += white[2, i] * fresh
        pff += fresh * fresh
        pfy += white[3, i] * fresh
        p11 += white[2, i] * white[2, i]
        p1y += white[2, i] * white[3, i]
        pyy += white[3, i] * white[3, i]
    out[0], out[1], out[2], out[3], out[4], out[5] = p11, p1f, pff, p1y, pfy, pyy
