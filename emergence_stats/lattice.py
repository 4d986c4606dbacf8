"""Growing lattices of points, many side by side.

What lives here: which points of each problem's lattice have been evaluated, growing them outwards,
halving an axis, and comparing half lattices. What does not: where a lattice is put and how it is
turned (`quadrature`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

Array = np.ndarray
# (problem index, coordinates, hopeless below this) -> log likelihood, one a row
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
        Relative difference of half lattices.
    problem : ndarray of int, shape (node,)
    z : ndarray, shape (node, coordinate)
    weight : ndarray, shape (node,)
        Sums to 1 for every problem that has points; those left at a rough value have none.
    mode : ndarray, shape (problem, coordinate)
        Where the mass is highest, as far as is known; NaN where nobody looked.
    factor : ndarray, shape (problem, coordinate, coordinate)
        Cholesky factor of the spread there.
    count : ndarray of int, shape (problem,)
        Lattice points evaluated.
    """

    log_integral: Array
    error: Array
    problem: Array
    z: Array
    weight: Array
    mode: Array
    factor: Array
    count: Array


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


class Lattices:
    """A batch of growing lattices; a point's key packs its problem and whole-number coordinates."""

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
        """Grows, checks and refines all lattices from points near their modes."""
        who, where = seeds
        solved = np.linalg.solve(self.generator[who], (where - self.origin[who])[:, :, None])
        limit = self.half // 4
        nearest = np.clip(np.rint(solved[:, :, 0]), -limit, limit).astype(np.int64)
        around = ball(self.dim, 1.5).astype(np.int64)
        index = (nearest[:, None] + around).reshape(-1, self.dim)
        self._grow(self._add(np.repeat(who, len(around)), index))
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
        problem, z, weight = self._smoothed()
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

    def _smoothed(self) -> tuple[Array, Array, Array]:
        """Weighted points whose shares below a value are good to a percent or so.

        The lattice is too wide for that: each point is spread over its cell by four, and all drawn
        towards the mean so that the variances stay what they were.
        """
        mass, total = self._mass()
        weight = mass / total[self.problem]
        # Relative to the number of points, so that what is dropped is bounded in sum: with a fixed
        # share a finer lattice, whose points each weigh less, would lose more of its tails.
        rows = np.flatnonzero(weight > DROPPED / self.count[self.problem])
        problem, weight = self.problem[rows], weight[rows]
        z = self._coordinates(problem, self.index[rows])
        cell = self.generator[problem]
        number = len(_SPREAD)
        spread = np.concatenate([z + cell @ offset[: self.dim] for offset in _SPREAD])
        for axis in range(self.dim):
            count = self.num_problems
            sums = np.bincount(problem, weights=weight, minlength=count)
            mean = np.bincount(problem, weights=weight * z[:, axis], minlength=count) / sums
            away = (z[:, axis] - mean[problem]) ** 2
            variance = np.bincount(problem, weights=weight * away, minlength=count) / sums
            added = (self.generator[:, axis] ** 2).sum(axis=1) * _SPREAD[:, 0].var()
            shrink = np.sqrt(variance / (variance + added))
            who = np.tile(problem, number)
            spread[:, axis] = mean[who] + shrink[who] * (spread[:, axis] - mean[who])
        return np.tile(problem, number), spread, np.tile(weight / number, number)

    def _modes(self) -> Array:
        order = np.lexsort((self.value, self.problem))
        last = np.searchsorted(self.problem[order], np.arange(self.num_problems), side="right") - 1
        rows = order[last]
        return self._coordinates(self.problem[rows], self.index[rows])

    def _coordinates(self, problem: Array, index: Array) -> Array:
        z = self.origin[problem]
        for axis in range(self.dim):
            z += self.generator[problem, :, axis] * index[:, axis, None]
        return z

    def _keys(self, problem: Array, index: Array) -> Array:
        key = problem.astype(np.int64)
        for axis in range(self.dim):
            key = (key << self.bits) | (index[:, axis] + self.half)
        return key

    def _note(self, keys: Array) -> Array:
        needed = 2 * (self.value.size + keys.size)
        if needed > self.table.size:
            self.table = np.full(1 << int(2 * needed - 1).bit_length(), -1, dtype=np.int64)
            old = self._keys(self.problem, self.index)
            _insert(self.table, old, np.empty(old.size, dtype=bool))
        fresh = np.empty(keys.size, dtype=bool)
        _insert(self.table, keys, fresh)
        return fresh

    def _add(self, problem: Array, index: Array) -> Array:
        """Evaluates the points not there yet; returns their rows."""
        inside = (np.abs(index) < self.half - 1).all(axis=1) & (
            self.count[problem] < self.max_nodes
        )
        problem, index = problem[inside], index[inside]
        fresh = self._note(self._keys(problem, index))
        problem, index = problem[fresh], index[fresh]
        rows = self.value.size + np.arange(problem.size)
        if not problem.size:
            return rows
        z = self._coordinates(problem, index)
        hopeless = self.best[problem] - self.cut
        value = self.log_likelihood(problem, z, hopeless) + self.log_prior(z)
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
            problem = np.repeat(self.problem[front], len(steps))
            front = self._add(problem, (self.index[front][:, None] + steps).reshape(-1, self.dim))

    def _mass(self) -> tuple[Array, Array]:
        mass = np.exp(self.value - self.best[self.problem])
        return mass, np.bincount(self.problem, weights=mass, minlength=self.num_problems)

    def _log_integral(self) -> Array:
        _, total = self._mass()
        return self.best + np.log(total) + np.log(np.abs(np.linalg.det(self.generator)))

    def _half_differences(self) -> tuple[Array, Array]:
        """Largest relative difference of half lattices, and the axis to halve for it."""
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
