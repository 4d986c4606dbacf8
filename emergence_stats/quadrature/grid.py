"""Growing grids of points, many side by side.

What lives here: which points of each problem's grid have been evaluated, growing them outwards,
halving an axis, and comparing half grids. What does not: where a grid is put and how it is
turned (`integrate`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

Array = np.ndarray
# (problem index, coordinates, below which value a rough one is enough) -> log likelihood, one a row
LogLikelihood = Callable[[Array, Array, Array], Array]
LogPrior = Callable[[Array], Array]

MAX_REFINEMENTS = 12
# Share of the posterior that may be lost with points too light to keep.
DROPPED = 1e-4


@dataclass(frozen=True)
class Integrals:
    """Integrals of a batch of problems, and weighted points for each.

    Attributes
    ----------
    log_integral : ndarray, shape (problem,)
    error : ndarray, shape (problem,)
        Relative difference of half grids.
    problem : ndarray of int, shape (node,)
    z : ndarray, shape (node, coordinate)
    weight : ndarray, shape (node,)
        Sums to 1 for every problem that has points; those left at a rough value have none.
    mode : ndarray, shape (problem, coordinate)
        Where the mass is highest, as far as is known; NaN where nobody looked.
    factor : ndarray, shape (problem, coordinate, coordinate)
        Cholesky factor of the spread there.
    count : ndarray of int, shape (problem,)
        Grid points evaluated.
    marginal : tuple of ndarray, optional
        Of the first coordinate: problem, coordinate and log density with the integral as its mass.
    """

    log_integral: Array
    error: Array
    problem: Array
    z: Array
    weight: Array
    mode: Array
    factor: Array
    count: Array
    marginal: tuple[Array, Array, Array] | None = None


# Four points in a cell, evenly spread along each of up to four axes, the first two uncorrelated.
_SPREAD = np.array([[-3, -1, -1, 1], [-1, 3, -3, -3], [1, -3, 3, -1], [3, 1, 1, 3]]) / 8.0


def ball(dim: int, radius: float) -> Array:
    """Whole-number points within a radius.

    Examples
    --------
    >>> len(ball(2, 1.0))
    5
    """
    side = np.arange(-int(radius), int(radius) + 1)
    points = np.array(list(itertools.product(side, repeat=dim)), dtype=float)
    return points[(points**2).sum(axis=1) <= radius**2]


@numba.njit(cache=True, nogil=True)
def _insert(table: Array, keys: Array, fresh: Array) -> None:
    """Open-addressing hash set: notes the keys and says which were not there before."""
    mask = np.uint64(table.size - 1)
    for i in range(keys.size):
        key = keys[i]
        mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
        slot = (mixed ^ (mixed >> np.uint64(29))) & mask
        while table[slot] != -1 and table[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        fresh[i] = table[slot] == -1
        table[slot] = key


@numba.njit(cache=True, nogil=True)
def _propose(
    front: Array,
    steps: Array,
    problem: Array,
    index: Array,
    bits: int,
    table: Array,
    full: Array,
    new_problem: Array,
    new_index: Array,
) -> int:
    """Neighbours of `front` by `steps` that are within bounds and not there yet; how many.

    Notes them in the table. GrowingGrids in `full` take no more points.
    """
    mask = np.uint64(table.size - 1)
    half = 1 << (bits - 1)
    dim = index.shape[1]
    number = 0
    for i in range(front.size):
        who = problem[front[i]]
        if full[who]:
            continue
        for s in range(steps.shape[0]):
            key = who
            inside = True
            for axis in range(dim):
                at = index[front[i], axis] + steps[s, axis]
                inside = inside and abs(at) < half - 1
                key = (key << bits) | (at + half)
                new_index[number, axis] = at
            if not inside:
                continue
            mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
            slot = (mixed ^ (mixed >> np.uint64(29))) & mask
            while table[slot] != -1 and table[slot] != key:
                slot = (slot + np.uint64(1)) & mask
            if table[slot] == -1:
                table[slot] = key
                new_problem[number] = who
                number += 1
    return number


@numba.njit(cache=True, nogil=True)
def _coordinates(problem: Array, index: Array, origin: Array, generator: Array) -> Array:
    z = np.empty(index.shape)
    dim = index.shape[1]
    for i in range(problem.size):
        who = problem[i]
        for row in range(dim):
            value = origin[who, row]
            for axis in range(dim):
                value += generator[who, row, axis] * index[i, axis]
            z[i, row] = value
    return z


@numba.njit(cache=True, nogil=True)
def _highest(problem: Array, value: Array, number: int) -> Array:
    """Row of the highest value of each problem."""
    rows = np.full(number, -1, dtype=np.int64)
    for i in range(problem.size):
        if rows[problem[i]] < 0 or value[i] > value[rows[problem[i]]]:
            rows[problem[i]] = i
    return rows


@numba.njit(cache=True, nogil=True)
def _spread_out(
    problem: Array, z: Array, weight: Array, generator: Array, cells: Array
) -> tuple[Array, Array, Array]:
    """Each point as several in its cell (`cells` in units of its sides), drawn towards the mean."""
    number, dim = z.shape
    num_problems = generator.shape[0]
    sums = np.zeros(num_problems)
    mean = np.zeros((num_problems, dim))
    variance = np.zeros((num_problems, dim))
    for i in range(number):
        who = problem[i]
        sums[who] += weight[i]
        for axis in range(dim):
            mean[who, axis] += weight[i] * z[i, axis]
    for who in range(num_problems):
        for axis in range(dim):
            mean[who, axis] /= max(sums[who], 1e-300)
    for i in range(number):
        who = problem[i]
        for axis in range(dim):
            away = z[i, axis] - mean[who, axis]
            variance[who, axis] += weight[i] * away * away
    # All columns of `cells` have one variance.
    cell_variance = cells[:, 0].var()
    for who in range(num_problems):
        for axis in range(dim):
            own = variance[who, axis] / max(sums[who], 1e-300)
            added = 0.0
            for side in range(dim):
                added += generator[who, axis, side] ** 2 * cell_variance
            variance[who, axis] = np.sqrt(own / (own + added))
    parts = cells.shape[0]
    out_problem = np.empty(number * parts, dtype=np.int64)
    out_z = np.empty((number * parts, dim))
    out_weight = np.empty(number * parts)
    for i in range(number):
        who = problem[i]
        for part in range(parts):
            at = i * parts + part
            out_problem[at] = who
            out_weight[at] = weight[i] / parts
            for axis in range(dim):
                value = z[i, axis] - mean[who, axis]
                for side in range(dim):
                    value += generator[who, axis, side] * cells[part, side]
                out_z[at, axis] = mean[who, axis] + variance[who, axis] * value
    return out_problem, out_z, out_weight


class GrowingGrids:
    """A batch of growing grids; a point's key packs its problem and whole-number coordinates."""

    def __init__(
        self,
        log_likelihood: LogLikelihood,
        log_prior: LogPrior,
        origin: Array,
        generator: Array,
        floor: Array,
        cut: float,
        max_nodes: int,
    ) -> None:
        self.log_likelihood, self.log_prior = log_likelihood, log_prior
        self.num_problems, self.dim = origin.shape
        self.origin, self.generator = origin, generator
        # How far (in nats) below its highest point an integrand is followed.
        self.cut = cut
        self.max_nodes = max_nodes
        self.bits = min(16, 40 // self.dim)
        self.half = 1 << (self.bits - 1)
        # Points far below the best of the whole group are not followed: `best` starts there.
        self.best = floor.copy()
        self.count = np.zeros(self.num_problems, dtype=np.int64)
        self.problem = np.zeros(0, dtype=np.int64)
        self.index = np.zeros((0, self.dim), dtype=np.int64)
        self.value = np.zeros(0)
        self.table = np.full(1 << 12, -1, dtype=np.int64)

    def run(
        self, seeds: tuple[Array, Array], group: Array, best_of_group: Array, tolerance: float
    ) -> Integrals:
        """Grows, checks and refines all grids from points near their modes."""
        self._start(seeds)
        error, axis = self._half_differences()
        for _ in range(MAX_REFINEMENTS):
            value = self._log_integral()
            best = best_of_group.copy()
            np.maximum.at(best, group, value)
            share = np.exp(np.minimum(value - best[group], 0.0))
            reach = np.zeros(self.num_problems, dtype=np.int64)
            np.maximum.at(reach, self.problem, np.abs(self.index).max(axis=1))
            room = (self.count < self.max_nodes) & (reach < self.half // 4)
            refine = (error * share > tolerance) & room
            if not refine.any():
                break
            self._halve(refine, axis)
            error, axis = self._half_differences()
        problem, z, weight = self._smooth()
        return Integrals(
            self._log_integral(),
            error,
            problem,
            z,
            weight,
            self._modes(),
            self.generator,
            self.count,
        )

    def _start(self, seeds: tuple[Array, Array]) -> None:
        """Grows all grids from points near their modes."""
        who, where = seeds
        solved = np.linalg.solve(self.generator[who], (where - self.origin[who])[:, :, None])
        limit = self.half // 4
        nearest = np.clip(np.rint(solved[:, :, 0]), -limit, limit).astype(np.int64)
        around = ball(self.dim, 1.5).astype(np.int64)
        index = (nearest[:, None] + around).reshape(-1, self.dim)
        self._grow(self._add(np.repeat(who, len(around)), index))

    def _smooth(self) -> tuple[Array, Array, Array]:
        """Weighted points whose shares below a value are good to a percent or so.

        The grid is too wide for that: each point is spread over its cell by four, and all drawn
        towards the mean so that the variances stay what they were.
        """
        mass, total = self._mass()
        weight = mass / total[self.problem]
        # Relative to the number of points, so that what is dropped is bounded in sum: with a fixed
        # share a finer grid, whose points each weigh less, would lose more of its tails.
        rows = np.flatnonzero(weight > DROPPED / self.count[self.problem])
        problem = self.problem[rows]
        z = self._coordinates(problem, self.index[rows])
        return _spread_out(problem, z, weight[rows], self.generator, _SPREAD)

    def _modes(self) -> Array:
        rows = _highest(self.problem, self.value, self.num_problems)
        return self._coordinates(self.problem[rows], self.index[rows])

    def _coordinates(self, problem: Array, index: Array) -> Array:
        return _coordinates(problem, index, self.origin, self.generator)

    def _keys(self, problem: Array, index: Array) -> Array:
        key = problem.astype(np.int64)
        for axis in range(self.dim):
            key = (key << self.bits) | (index[:, axis] + self.half)
        return key

    def _make_room(self, number: int) -> None:
        """A table of keys that `number` more still leave half empty."""
        needed = 2 * (self.value.size + number)
        if needed > self.table.size:
            self.table = np.full(1 << int(2 * needed - 1).bit_length(), -1, dtype=np.int64)
            old = self._keys(self.problem, self.index)
            _insert(self.table, old, np.empty(old.size, dtype=bool))

    def _add(self, problem: Array, index: Array) -> Array:
        """Evaluates the points not there yet; returns their rows."""
        inside = (np.abs(index) < self.half - 1).all(axis=1) & (
            self.count[problem] < self.max_nodes
        )
        problem, index = problem[inside], index[inside]
        self._make_room(problem.size)
        fresh = np.empty(problem.size, dtype=bool)
        _insert(self.table, self._keys(problem, index), fresh)
        return self._evaluate(problem[fresh], index[fresh])

    def _evaluate(self, problem: Array, index: Array) -> Array:
        rows = self.value.size + np.arange(problem.size)
        if not problem.size:
            return rows
        z = self._coordinates(problem, index)
        cutoff = self.best[problem] - self.cut
        value = self.log_likelihood(problem, z, cutoff) + self.log_prior(z)
        np.maximum.at(self.best, problem, value)
        self.count += np.bincount(problem, minlength=self.num_problems)
        self.problem = np.concatenate([self.problem, problem])
        self.index = np.concatenate([self.index, index])
        self.value = np.concatenate([self.value, value])
        return rows

    def _grow(self, front: Array) -> None:
        """Adds the neighbours of every point that counts until the rim is negligible."""
        steps = np.concatenate([np.eye(self.dim), -np.eye(self.dim)]).astype(np.int64)
        while front.size:
            front = front[self.value[front] > self.best[self.problem[front]] - self.cut]
            number = front.size * len(steps)
            self._make_room(number)
            problem = np.empty(number + 1, dtype=np.int64)
            index = np.empty((number + 1, self.dim), dtype=np.int64)
            full = self.count >= self.max_nodes
            number = _propose(
                front, steps, self.problem, self.index, self.bits, self.table, full, problem, index
            )
            front = self._evaluate(problem[:number], index[:number])

    def _mass(self) -> tuple[Array, Array]:
        mass = np.exp(self.value - self.best[self.problem])
        return mass, np.bincount(self.problem, weights=mass, minlength=self.num_problems)

    def _log_integral(self) -> Array:
        _, total = self._mass()
        return self.best + np.log(total) + np.log(np.abs(np.linalg.det(self.generator)))

    def _half_differences(self) -> tuple[Array, Array]:
        """Largest relative difference of half grids, and the axis to halve for it."""
        mass, total = self._mass()
        odd = self.index & 1
        worst = np.zeros(self.num_problems)
        axis = np.zeros(self.num_problems, dtype=np.int64)
        single = np.zeros((self.dim, self.num_problems))
        # Single axes first: a diagonal is charged to the worse of its axes.
        for picked in sorted(itertools.product((0, 1), repeat=self.dim), key=sum)[1:]:
            sign = 1.0 - 2.0 * (odd @ np.array(picked) & 1)
            signed = np.bincount(self.problem, weights=mass * sign, minlength=self.num_problems)
            error = np.abs(signed) / total
            if sum(picked) == 1:
                single[picked.index(1)] = error
                to_halve = np.full(self.num_problems, picked.index(1))
            else:
                among = np.flatnonzero(picked)
                to_halve = among[single[among].argmax(axis=0)]
            axis = np.where(error > worst, to_halve, axis)
            worst = np.maximum(worst, error)
        return worst, axis

    def _halve(self, refine: Array, axis: Array) -> None:
        rows = np.flatnonzero(refine[self.problem])
        self.index[rows, axis[self.problem[rows]]] *= 2
        problems = np.flatnonzero(refine)
        self.generator[problems, :, axis[problems]] *= 0.5
        self.table = np.full(1, -1, dtype=np.int64)  # the keys have changed
        front = rows[self.value[rows] > self.best[self.problem[rows]] - self.cut]
        problem = np.repeat(self.problem[front], 2)
        index = np.repeat(self.index[front], 2, axis=0)
        twice = np.arange(problem.size)
        index[twice, axis[problem]] += np.where(twice % 2 == 0, 1, -1)
        self._grow(self._add(problem, index))
