"""Noise of one part: every correlation at once, several to an instruction.

What lives here: the compiled sum over the correlation rho, and over the noise scale sigma at each,
at even gaps, at uneven ones of so few points that whitening by every rho is cheap, and without
correlation. What does not: integration at one rho (`likelihood`), longer curves at uneven gaps
(`climbing`), noise of which a part is measured (`measured`).

The whole grid of correlations, evenly spaced in log odds, is evaluated without branches, so that
the compiler takes four or eight of them together, and the likelihood's power (n - k)/2 is taken by
repeated squaring. No second mode is missed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emergence_stats.noise.beliefs import LARGEST_ODDS, RESOLUTION, log_prior_odds
from emergence_stats.noise.compiling import kernel
from emergence_stats.noise.whitening import (
    curve_sums,
    even_product,
    log_determinant,
    odds_spacing,
    shape_sums,
    uneven_products,
    whiten,
)
from emergence_stats.quadrature.likelihood import (
    QUICK_REACH,
    Curve,
    Curves,
    Products,
    Rule,
    amplitude_precision,
    conjugate_left,
    gauss_point,
    log_given_products,
    scale_precision,
    take_curve,
)

Array = np.ndarray

# Up to so many points at uneven gaps, whitening by every correlation costs less than climbing.
MAX_UNEVEN = 64
MAX_RHO = 8192
# Rows of the table of correlations.
RHO, PRIOR, DETERMINANT = 0, 1, 2
# Rows of what each shape has at every correlation, after its six products.
LEFT, SHARE, REACH, BASE = 6, 7, 8, 9
ROWS = 10


class Correlations(NamedTuple):
    """The grid of correlations of one curve, and what they make of it whatever its shape.

    Attributes
    ----------
    middle : int
        Where log odds are 0.
    spacing : float
        In log odds.
    table : ndarray, shape (3, rho)
        Correlation; its prior times d rho / d odds; the determinant of the correlation matrix to
        the power 1 / (n - k). Made up to a multiple of eight by others of no weight.
    sums : ndarray, shape (6, 3)
        See `whitening.curve_sums`.
    white : ndarray, shape (rho, 4, point)
        The curve whitened, at uneven gaps.
    """

    middle: int
    spacing: float
    table: Array
    sums: Array
    white: Array


@kernel()
def correlations_of(curve: Curve) -> Correlations:
    """The grid for one curve; a single correlation of 0 where there is none.

    At even gaps it serves all curves of as many points, once `sums` are theirs.
    """
    n, free, spacing, sums = (
        curve.n,
        curve.n - curve.rule.linear,
        odds_spacing(curve.n),
        np.zeros((6, 3)),
    )
    if not curve.correlated:
        return Correlations(0, spacing, np.zeros((3, 1)), sums, np.zeros((1, 4, 1)))
    middle = min(int(LARGEST_ODDS / spacing), (MAX_RHO - 1) // 2)
    count = (2 * middle + 8) // 8 * 8
    table = np.zeros((3, count))
    white = np.zeros((1, 4, 1)) if curve.even else np.zeros((count, 4, n))
    for j in range(count):
        odds = (j - middle) * spacing
        rho = 1.0 / (1.0 + np.exp(-odds))
        table[RHO, j] = rho
        table[PRIOR, j] = np.exp(log_prior_odds(odds)) if j <= 2 * middle else 0.0
        if curve.even:
            table[DETERMINANT, j] = (1.0 - rho * rho) ** ((n - 1.0) / free)
        else:
            table[DETERMINANT, j] = np.exp(log_determinant(curve.gap, n, rho) / free)
            whiten(curve.y, curve.gap, n, rho, white[j])
    return Correlations(middle, spacing, table, sums, white)


@kernel()
def _even_products(sums: Array, table: Array, out: Array) -> None:
    """Inner products at every correlation, at even gaps."""
    for row in range(6):
        for j in range(table.shape[1]):
            out[row, j] = even_product(sums, row, table[RHO, j])


@kernel()
def _uneven_products(f: Array, n: int, white: Array, out: Array) -> None:
    """The same for a shape on a curve already whitened."""
    one = np.empty(6)
    for j in range(len(white)):
        uneven_products(f, n, white[j], one)
        for row in range(6):
            out[row, j] = one[row]


@kernel(inline="always")
def _products(terms: Array, j: int, precision: float) -> Products:
    return (
        terms[0, j],
        terms[1, j],
        terms[2, j],
        terms[3, j],
        terms[4, j],
        terms[5, j],
        precision,
    )


@kernel()
def _estimate(rule: Rule, table: Array, terms: Array) -> None:
    """What is left, and the term with sigma its conjugate estimate, at every correlation."""
    n, linear, precision = rule.n, rule.linear, amplitude_precision(rule.linear)
    for j in range(table.shape[1]):
        left, det = conjugate_left(_products(terms, j, precision), n, linear)
        square = left / n * scale_precision(table[RHO, j], False)
        terms[LEFT, j] = left
        terms[SHARE, j] = np.sqrt(square / det) / (square + 1.0)


@kernel()
def _add_points(rule: Rule, first: int, table: Array, terms: Array) -> None:
    """What is left, and five points of the Gauss rule added up, at every correlation."""
    n, linear, precision = rule.n, rule.linear, amplitude_precision(rule.linear)
    floor = n * RESOLUTION * RESOLUTION
    x, w = rule.points[0, first:], rule.points[1, first:]
    x0, x1, x2, x3, x4 = x[0], x[1], x[2], x[3], x[4]
    w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
    for j in range(table.shape[1]):
        s = scale_precision(table[RHO, j], False)
        g = _products(terms, j, precision)
        left, _ = conjugate_left(g, n, linear)
        t0, e0 = gauss_point(x0, w0, g, left, s, floor, linear, False, False)
        t1, e1 = gauss_point(x1, w1, g, left, s, floor, linear, False, False)
        t2, e2 = gauss_point(x2, w2, g, left, s, floor, linear, False, False)
        t3, e3 = gauss_point(x3, w3, g, left, s, floor, linear, False, False)
        t4, e4 = gauss_point(x4, w4, g, left, s, floor, linear, False, False)
        total, reach = t0 + t1 + t2 + t3 + t4, e0 + e1 + e2 + e3 + e4
        if first == 0:
            terms[LEFT, j], terms[SHARE, j], terms[REACH, j] = left, total, reach
        else:
            terms[SHARE, j] += total
            terms[REACH, j] += reach


@kernel()
def _sum_terms(rule: Rule, spacing: float, table: Array, rough: bool, terms: Array) -> float:
    """Log integral over rho and sigma given the products, without `Curve.constant`."""
    n, free, count = rule.n, rule.n - rule.linear, table.shape[1]
    if rough:
        _estimate(rule, table, terms)
    else:
        _add_points(rule, 0, table, terms)
        if n < 12:
            _add_points(rule, 5, table, terms)
        for j in range(count):
            if not terms[REACH, j] < QUICK_REACH * QUICK_REACH:
                value = log_given_products(terms[:6, j].copy(), table[RHO, j], rule, False)
                terms[SHARE, j] = 0.5 * np.exp(value + 0.5 * free * np.log(terms[LEFT, j]))
    smallest = np.inf
    for j in range(count):
        terms[BASE, j] = terms[LEFT, j] * table[DETERMINANT, j]
        smallest = min(smallest, terms[BASE, j])
    for j in range(count):
        terms[BASE, j] = smallest / terms[BASE, j]
        terms[SHARE, j] *= table[PRIOR, j]
    # Times base^((n - k) / 2).
    if free % 2 == 1:
        for j in range(count):
            terms[SHARE, j] *= np.sqrt(terms[BASE, j])
    exponent = free // 2
    while exponent > 0:
        if exponent % 2 == 1:
            for j in range(count):
                terms[SHARE, j] *= terms[BASE, j]
        exponent //= 2
        if exponent > 0:
            for j in range(count):
                terms[BASE, j] *= terms[BASE, j]
    total, highest = 0.0, 0.0
    for j in range(count):
        total += terms[SHARE, j]
        highest = max(highest, terms[SHARE, j])
    if rough:
        # As `climbing`, which looks for the highest term only.
        total = 2.0 * highest
    return np.log(2.0 * total * spacing) - 0.5 * free * np.log(smallest)


@kernel()
def sum_over_rho(
    shape: Array, curve: Curve, at: Correlations, rough: Array, terms: Array, out: Array
) -> None:
    """Log integral over rho and sigma of each shape on one curve, roughly where that is enough.

    Fills `out`, and the row SHARE of `terms`, (ROWS, MAX_RHO), with each correlation's share of the
    last integral, up to a common factor.
    """
    # Taken out of their tuples once, so that no reference is counted for every shape.
    y, n, rule, constant = curve.y, curve.n, curve.rule, curve.constant
    table, sums, white, spacing = at.table, at.sums, at.white, at.spacing
    correlated, one = curve.correlated, np.empty(6)
    for m in range(len(shape)):
        if white.shape[2] == n:
            _uneven_products(shape[m], n, white, terms)
        else:
            shape_sums(shape[m], y, n, sums)
            if not correlated:
                for row in range(6):
                    one[row] = even_product(sums, row, 0.0)
                out[m] = constant + log_given_products(one, 0.0, rule, False)
                continue
            _even_products(sums, table, terms)
        out[m] = constant + _sum_terms(rule, spacing, table, rough[m], terms)


@kernel()
def log_likelihood(shape: Array, which: Array, curves: Curves, cutoff: Array, out: Array) -> None:
    """Log marginal likelihood of each shape; everything but the shape is integrated out.

    Parameters
    ----------
    shape : ndarray, shape (node, point)
        Fraction completed; 0 where there is no amplitude.
    which : ndarray of int, shape (node,)
        The curve each shape is tried on; quickest where equal ones stand together.
    curves : Curves
    cutoff : ndarray, shape (node,)
        A rough value is enough below this; here it is taken where this is infinite.
    out : ndarray, shape (node,)
        Filled.
    """
    terms = np.zeros((ROWS, MAX_RHO))
    curve = take_curve(curves, which[0])
    at = correlations_of(curve)
    low = 0
    while low < which.size:
        high = low + 1
        while high < which.size and which[high] == which[low]:
            high += 1
        n = curve.n
        curve = take_curve(curves, which[low])
        if curve.n != n or not curve.even:
            at = correlations_of(curve)
        curve_sums(curve.y, curve.n, at.sums)
        rough = cutoff[low:high] == np.inf
        sum_over_rho(shape[low:high], curve, at, rough, terms, out[low:high])
        low = high
