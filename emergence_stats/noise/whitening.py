"""Noise that remembers: whitened inner products, and the lattice of correlations to sum over.

What lives here: compiled kernels for a stationary Markov process, first-order autoregressive,
AR(1), where neighbouring points are equally far apart, Ornstein-Uhlenbeck where they are not. What
does not: the likelihood made from the products (`likelihood`).

The correlation rho is that of two points one typical gap apart; over g such gaps it is rho^g. For
AR(1) every inner product follows, for any rho, from three sums, so that trying another rho costs
next to nothing. With uneven gaps the curve whitened by each rho is kept and used again for the next
shape.
"""

from __future__ import annotations

import numba
import numpy as np

Array = np.ndarray

# The lattice of log odds of rho reaches this far.
ODDS_REACH = 12.0
MAX_RHO = 8192
# Numbers kept for one curve whitened by many rho.
MAX_KEPT = 4_000_000

# Everything but assuming that infinities do not occur.
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
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


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
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


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def even_products(sums: Array, rho: float, out: Array) -> None:
    """Whitened products x'R^-1 z of (11, 1f, ff, 1y, fy, yy) under AR(1), from their sums."""
    inverse = 1.0 / (1.0 - rho * rho)
    for row in range(6):
        out[row] = inverse * (
            (1.0 + rho * rho) * sums[row, 0] - rho * rho * sums[row, 1] - rho * sums[row, 2]
        )


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def kept_rows(n: int, num_rho: int) -> int:
    """How many rho a curve of n points is kept whitened by, four numbers a point."""
    return max(16, min(num_rho, MAX_KEPT // (4 * n)))


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def whiten(y: Array, gap: Array, n: int, rho: float, kept: Array) -> None:
    """Fills `kept` (4, point): decay over the gap before, 1/sd of what is new, 1 and y whitened.

    R^-1 = A'A, with (A x)_i = (x_i - r_i x_(i-1)) / sqrt(1 - r_i^2), r_i = rho^gap_i.
    """
    log_rho = np.log(rho)
    kept[0, 0], kept[1, 0], kept[2, 0], kept[3, 0] = 0.0, 1.0, 1.0, y[0]
    for i in range(1, n):
        decay = np.exp(log_rho * gap[i])
        inverse = 1.0 / np.sqrt(-np.expm1(2.0 * log_rho * gap[i]))
        kept[0, i], kept[1, i] = decay, inverse
        kept[2, i] = (1.0 - decay) * inverse
        kept[3, i] = (y[i] - decay * y[i - 1]) * inverse


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def uneven_products(f: Array, n: int, linear: int, kept: Array, out: Array) -> None:
    """Whitened products as in `even_products`, for one shape on a curve already whitened."""
    p11, p1f, pff, p1y, pfy, pyy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if linear == 2:
        p1f, pff, pfy = f[0], f[0] * f[0], kept[3, 0] * f[0]
        for i in range(1, n):
            fresh = (f[i] - kept[0, i] * f[i - 1]) * kept[1, i]
            p1f += kept[2, i] * fresh
            pff += fresh * fresh
            pfy += kept[3, i] * fresh
    for i in range(n):
        p11 += kept[2, i] * kept[2, i]
        p1y += kept[2, i] * kept[3, i]
        pyy += kept[3, i] * kept[3, i]
    out[0], out[1], out[2], out[3], out[4], out[5] = p11, p1f, pff, p1y, pfy, pyy


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def odds_spacing(n: int) -> float:
    """Spacing in log odds of rho: about 1.2 of the narrowest posterior sd."""
    return min(1.1, 5.0 / np.sqrt(n))


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def odds_lattice(n: int, gap: Array, even: bool, rho: Array, offset: Array) -> tuple[int, float]:
    """Correlations evenly spaced in log odds.

    Fills `rho` and the part of the log integrand that does not depend on the data: the determinant
    of the correlation matrix, and the prior of rho on its log odds. Returns the index of log odds 0
    and the spacing.
    """
    spacing = odds_spacing(n)
    top = min(int(ODDS_REACH / spacing), (rho.size - 1) // 2)
    for j in range(-top, top + 1):
        value = 1.0 / (1.0 + np.exp(-j * spacing))
        left = 1.0 - value * value
        if even:
            determinant = (n - 1) * np.log(left)
        else:
            determinant = 0.0
            for i in range(1, n):
                determinant += np.log(-np.expm1(2.0 * np.log(value) * gap[i]))
        rho[j + top] = value
        # Density (2 / pi) (1 - rho^2)^(-1/2), times d rho / d odds = rho (1 - rho).
        offset[j + top] = (
            np.log(2.0 / np.pi * value * (1.0 - value)) - 0.5 * np.log(left) - 0.5 * determinant
        )
    return top, spacing
