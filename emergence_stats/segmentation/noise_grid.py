"""The noise of a segmented curve, and the sum over what it may be.

What lives here: the grid of noise parameters of one curve, finding where on it the posterior is,
and summing over that. What does not: the density of a curve given its noise (`sums`), labels
(`segmentation`).

The noise is that of `noise.beliefs`, one for all segments, stationary within each. The grid is in
the logarithm of its size or of the factor of all sd, the log odds of rho, and, for the wandering t,
in arsinh(t / c), c being about the least that the curve can show. It is spaced one and a half of
the narrowest standard deviation the posterior can have along each, where the trapezoidal rule errs
by a few parts in ten thousand. Which part of it matters is found on a coarse part, with changes
allowed at some points only, then by climbing and flooding on the true one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from scipy import integrate, ndimage

from emergence_stats.noise.beliefs import (
    LARGEST_FACTOR,
    LARGEST_SIZE,
    LEAST_ODDS,
    LEAST_SIZE,
    log_correlation,
    log_prior_factor,
    log_prior_odds,
    log_prior_size,
    log_prior_wander,
)
from emergence_stats.noise.kalman import wander_grid
from emergence_stats.segmentation.segments import SegmentedCurve
from emergence_stats.segmentation.sums import fill_evidence, log_prior_total

Array = np.ndarray
Index = tuple[int, ...]

# Points this far (nats) below the largest are left out.
CUT = 9.0
# Places at which a segment may begin while the coarse part is looked over.
COARSE_STARTS = 96
# Maxima of the coarse part this far below the largest are climbed from.
WORTH_CLIMBING = 30.0
# Segments are shorter than curves, and tell less of correlations near 1.
LARGEST_ODDS = 10.0


@dataclass(frozen=True)
class Axis:
    """One parameter of the noise: a coordinate's values, one unit of the grid apart.

    Attributes
    ----------
    value : ndarray
        Of the coordinate.
    log_spacing : ndarray
        Log of the distance in the coordinate that one unit is.
    coarse : ndarray of int
        Which points the coarse part has.
    """

    value: Array
    log_spacing: Array
    coarse: Array


def even_axis(spacing: float, low: float, high: float, coarse: float) -> Axis:
    """Whole multiples of the spacing from `low` to `high`."""
    value = spacing * np.arange(np.ceil(low / spacing), np.floor(high / spacing) + 1)
    stride = max(1, round(coarse / spacing))
    start = (value.size - 1) % stride // 2
    return Axis(value, np.full(value.size, np.log(spacing)), np.arange(start, value.size, stride))


def odds_axis(num_points: int) -> Axis:
    """Log odds of rho, about one and a half of the posterior's narrowest sd apart everywhere.

    The information on rho is n / (1 - rho^2) (that of a long AR(1) series); where it tells little,
    near 0, the prior alone sets the distance.
    """
    fine = np.linspace(LEAST_ODDS, LARGEST_ODDS, 20_001)
    rho = 1.0 / (1.0 + np.exp(-fine))
    information = num_points * rho**2 * (1.0 - rho) / (1.0 + rho)
    density = np.sqrt(information / 1.5**2 + 1.0 / 1.1**2)
    unit = integrate.cumulative_trapezoid(density, fine, initial=0.0)
    value = np.interp(np.arange(int(unit[-1]) + 1), unit, fine)
    spacing = -np.log(np.interp(value, fine, density))
    wanted = np.arange(LEAST_ODDS + 2.0, LARGEST_ODDS, 2.2)
    coarse = np.unique(np.abs(value[:, None] - wanted).argmin(axis=0))
    return Axis(value, spacing, coarse)


class NoiseGrid:
    """The noise parameters of one curve on a grid; a point is a tuple of whole numbers."""

    def __init__(self, curve: SegmentedCurve) -> None:
        self.curve = curve
        n = curve.y.size
        width = 1.06 / np.sqrt(n)
        self.axes: list[Axis] = []
        self.least = self.prior_scale = 0.0
        if curve.measured:
            reach = np.log(LARGEST_FACTOR)
            self.axes.append(even_axis(min(0.3, width), -reach, reach, 0.5))
            grid = wander_grid(curve.variance, n, curve.correlated)
            self.least, self.prior_scale = grid.least, grid.scale
            reach = (grid.num_wander - 1) * grid.wander_spacing
            self.axes.append(even_axis(grid.wander_spacing, 0.0, reach, 1.2))
        elif not curve.own_scale:
            low, high = np.log([LEAST_SIZE, LARGEST_SIZE])
            self.axes.append(even_axis(min(0.5, width), low, high, 1.2))
        if curve.correlated:
            self.axes.append(odds_axis(n))

    def noise(self, points: Array) -> tuple[Array, Array]:
        """Nodes as `segments.noise_at` takes them, one a row, and their log prior mass."""
        column = iter([axis.value[i] for axis, i in zip(self.axes, points.T, strict=True)])
        count = len(points)
        factor, log_rho, left = np.ones(count), np.full(count, -np.inf), np.ones(count)
        log_mass = np.zeros(count)
        for axis, i in zip(self.axes, points.T, strict=True):
            log_mass += axis.log_spacing[i]
        scale = wander = np.ones(count)
        if self.curve.measured:
            log_factor, x = next(column), next(column)
            factor = np.exp(log_factor)
            wander = self.least * np.sinh(x)
            log_mass += log_prior_factor(log_factor)
            log_mass += np.where(x == 0.0, np.log(0.5), 0.0)
        elif not self.curve.own_scale:
            log_scale = next(column)
            scale = np.exp(log_scale)
            log_mass += log_prior_size(log_scale)
        if self.curve.correlated:
            odds = next(column)
            log_rho, log_left = log_correlation(odds)
            left = np.exp(log_left)
            log_mass += log_prior_odds(odds)
        if self.curve.measured:
            log_mass += log_prior_wander(wander * np.sqrt(left), self.prior_scale)
            log_mass += np.log(np.sqrt(left) * self.least * np.cosh(x))
            stationary = (factor * wander) ** 2
        else:
            stationary = scale**2 / left
        return np.column_stack([factor, stationary, log_rho]), log_mass


@dataclass(frozen=True)
class NoisePosterior:
    """Where the posterior of the noise is.

    Attributes
    ----------
    nodes : ndarray, shape (node, 3)
        Factor of known sd, variance of the other noise, log of its correlation.
    weight : ndarray, shape (node,)
        Posterior mass.
    log_evidence : ndarray, shape (number,)
        Of the curve in the kernels' units, given each number of changes.
    log_prior_total : ndarray, shape (number,)
        Log E_k of `sums`.
    """

    nodes: Array
    weight: Array
    log_evidence: Array
    log_prior_total: Array


class GridSearch:
    """Points of the grid whose density is known; others are found a batch at a time."""

    def __init__(self, curve: SegmentedCurve, grid: NoiseGrid, log_prior_number: Array) -> None:
        self.curve, self.grid = curve, grid
        self.max_changes = log_prior_number.size - 1
        self.log_total = log_prior_total(curve.log_share, curve.min_points, self.max_changes)
        self.possible = self.log_total > -np.inf
        if not self.possible.all():
            log_prior_number = np.where(self.possible, log_prior_number, -np.inf)
        self.log_prior_number = log_prior_number - np.logaddexp.reduce(log_prior_number)
        self.numbers: dict[Index, Array] = {}
        self.value: dict[Index, float] = {}

    def evaluate(self, points: Iterable[Index]) -> None:
        """Finds the density of the points not yet known."""
        new = sorted({point for point in points if point not in self.value})
        if not new:
            return
        nodes, log_mass = self.grid.noise(np.array(new, dtype=int).reshape(len(new), -1))
        found = np.empty((len(new), self.max_changes + 1))
        in_threads(
            lambda part: fill_evidence(self.curve, nodes[part], found[part]),
            len(new),
            self.curve.y.size**2 * len(new),
        )
        with np.errstate(invalid="ignore"):
            found = np.where(self.possible, found - self.log_total, -np.inf) + log_mass[:, None]
        for point, row in zip(new, found, strict=True):
            self.numbers[point] = row
            self.value[point] = float(np.logaddexp.reduce(row + self.log_prior_number))

    def climb(self, point: Index, strides: Iterable[int]) -> Index:
        """Uphill along the axes, in ever smaller strides."""
        self.evaluate([point])
        for stride in strides:
            while True:
                beside = self.neighbours(point, stride)
                self.evaluate(beside)
                best = max(beside, key=self.value.__getitem__, default=point)
                if self.value.get(best, -np.inf) <= self.value[point]:
                    break
                point = best
        return point

    def neighbours(self, point: Index, stride: int = 1) -> list[Index]:
        """Neighbours along the axes."""
        return [
            (*point[:k], point[k] + move, *point[k + 1 :])
            for k, axis in enumerate(self.grid.axes)
            for move in (-stride, stride)
            if 0 <= point[k] + move < axis.value.size
        ]

    def flood(self, starts: Iterable[Index]) -> None:
        """Evaluates everything connected to the starts that is not negligible."""
        edge = list(starts)
        self.evaluate(edge)
        seen: set[Index] = set(edge)
        while edge:
            least = max(self.value.values()) - CUT
            edge = [p for p in edge if self.value[p] > least]
            edge = list({q for p in edge for q in self.neighbours(p)} - seen)
            seen.update(edge)
            self.evaluate(edge)


def in_threads(work: Callable[[slice], None], count: int, cost: float) -> None:
    """Runs `work` on slices of `count` items, in threads where that is worth it."""
    threads = min(count, os.cpu_count() or 1)
    if threads < 2 or cost < 3e5:
        work(slice(0, count))
        return
    edges = np.linspace(0, count, 2 * threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [slice(a, b) for a, b in pairwise(edges)]))


def thin_starts(curve: SegmentedCurve) -> SegmentedCurve:
    """The same with segments allowed to begin at some points only, best where y jumps."""
    n = curve.y.size
    if n <= 2 * COARSE_STARTS:
        return curve
    allowed = np.zeros(n, dtype=bool)
    allowed[np.linspace(1, n - 1, COARSE_STARTS // 2).astype(int)] = True
    jumps = np.argsort(-np.abs(np.diff(curve.y)))[: COARSE_STARTS // 2]
    allowed[jumps + 1] = True
    group = np.cumsum(allowed[::-1])[::-1]
    total = np.bincount(group, weights=np.exp(curve.log_share))
    with np.errstate(divide="ignore"):
        return curve._replace(log_share=np.log(np.where(allowed, total[group], 0.0)))


def noise_posterior(curve: SegmentedCurve, log_prior_number: Array) -> NoisePosterior:
    """Sums a curve's density over its noise, for every number of changes.

    Parameters
    ----------
    curve : SegmentedCurve
    log_prior_number : ndarray, shape (number,)
        Log prior probability of 0, 1, 2 ... changes.
    """
    grid = NoiseGrid(curve)
    coarse = [axis.coarse for axis in grid.axes]
    rough = GridSearch(thin_starts(curve), grid, log_prior_number)
    rough.evaluate(_tuples(product(*coarse)))
    table = np.array([rough.value[p] for p in _tuples(product(*coarse))])
    table = table.reshape([c.size for c in coarse])
    starts = [
        tuple(int(c[i]) for c, i in zip(coarse, where, strict=True))
        for where in _maxima(table, WORTH_CLIMBING)
    ]
    strides = [2**k for k in range(max(_log_stride(c) for c in coarse), -1, -1)] if coarse else []
    starts = list(dict.fromkeys(rough.climb(start, strides) for start in starts))
    top = max((rough.value[p] for p in starts), default=0.0)
    starts = [p for p in starts if rough.value[p] > top - WORTH_CLIMBING]
    full = GridSearch(curve, grid, log_prior_number)
    starts = [full.climb(start, (4, 1)) for start in starts]
    full.flood(dict.fromkeys(starts))
    points = sorted(full.value)
    value = np.array([full.value[p] for p in points])
    kept = value > value.max() - CUT
    weight = np.exp(value[kept] - np.logaddexp.reduce(value[kept]))
    numbers = np.array([full.numbers[p] for p in points])
    nodes, _ = grid.noise(np.array(points, dtype=int).reshape(len(points), -1))
    return NoisePosterior(nodes[kept], weight, np.logaddexp.reduce(numbers, axis=0), full.log_total)


def _tuples(points: Iterable[Iterable[int]]) -> list[Index]:
    return [tuple(int(i) for i in point) for point in points]


def _log_stride(values: Array) -> int:
    stride = int(np.diff(values).max()) if values.size > 1 else 1
    return max(0, int(np.ceil(np.log2(stride))) - 1)


def _maxima(table: Array, below: float) -> list[Index]:
    """Places no lower than their neighbours along the axes, and not far below the highest."""
    if table.ndim == 0:
        return [()]
    cross = ndimage.generate_binary_structure(table.ndim, 1)
    highest = ndimage.maximum_filter(table, footprint=cross, mode="nearest")
    return _tuples(np.argwhere((table >= highest) & (table > table.max() - below)))
