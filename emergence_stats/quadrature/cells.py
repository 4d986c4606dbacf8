"""Integrals by points drawn in the cells of growing grids: for kinks, ridges and many coordinates.

What lives here: drawing the points, and drawing more on finer grids where they are too few. What
does not: the grids (`grid`), where they are put (`integrate`), what the coordinates are (`smooth`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from emergence_stats.quadrature.grid import GrowingGrids, Integrals

Array = np.ndarray

# Cells are drawn in proportion to this power of their mass, so that the outer ones are not missed.
CELL_POWER = 0.8


@lru_cache(maxsize=16)
def _places(dim: int, number: int) -> Array:
    """Places in a cell, evenly spread, in units of its sides."""
    from scipy.stats import qmc

    return qmc.Sobol(dim, rng=11).random(number) - 0.5


class DrawnGrids(GrowingGrids):
    """Growing grids in whose cells points are drawn."""

    def sample(self, seeds: tuple[Array, Array], number: int, tolerance: float) -> Integrals:
        """Grows all grids, then draws points in their cells: for integrands with kinks and ridges.

        A cell is chosen with probability in proportion to a power of its mass, evenly, and a place
        in it evenly spread. So the integral is a mean of ratios, whose spread says how well. Where
        its standard error exceeds the tolerance an axis is halved and twice as many drawn, up to
        `max_nodes` and once more: of a needle of no consequence a grid may never see enough.
        """
        self._start(seeds)
        owner, z, ratio = np.zeros(0, np.int64), np.zeros((0, self.dim)), np.zeros(0)
        wanted, drawn = np.arange(self.num_problems), np.zeros(self.num_problems, dtype=np.int64)
        every = np.arange(self.num_problems)
        while wanted.size:
            who, at, value = self._draw(wanted, number)
            keep = ~np.isin(owner, wanted)
            owner = np.concatenate([owner[keep], who])
            z, ratio = np.concatenate([z[keep], at]), np.concatenate([ratio[keep], value])
            drawn[wanted] = number
            top = np.full(self.num_problems, -np.inf)
            np.maximum.at(top, owner, ratio)
            weight = np.exp(ratio - top[owner])
            total = np.bincount(owner, weights=weight, minlength=self.num_problems)
            square = np.bincount(owner, weights=weight * weight, minlength=self.num_problems)
            error = np.sqrt(np.maximum(square / total**2 - 1.0 / drawn, 0.0))
            poor = np.isin(every, wanted) & (error > tolerance)
            poor &= np.maximum(self.count, drawn) < self.max_nodes
            wanted, number = np.flatnonzero(poor), 2 * number
            if wanted.size:
                self._halve(poor, self._half_differences()[1])
        return Integrals(
            top + np.log(total / drawn),
            error,
            owner,
            z,
            weight / total[owner],
            self._modes(),
            self.generator,
            self.count + drawn,
            self._marginal(),
        )

    def _draw(self, wanted: Array, number: int) -> tuple[Array, Array, Array]:
        """Points in the cells of these problems: problem, place and log of the ratio."""
        rows = np.flatnonzero(np.isin(self.problem, wanted))
        rows = rows[np.argsort(self.problem[rows], kind="stable")]
        mass = np.exp(CELL_POWER * (self.value[rows] - self.best[self.problem[rows]]))
        total = np.bincount(self.problem[rows], weights=mass, minlength=self.num_problems)
        share = mass / total[self.problem[rows]]
        aim = np.arange(wanted.size)[:, None] + (np.arange(number) + 0.5) / number
        found = np.searchsorted(np.cumsum(share), aim.ravel())
        found = np.minimum(found, rows.size - 1)
        who, node = self.problem[rows[found]], self.index[rows[found]]
        at = self._coordinates(who, node + np.tile(_places(self.dim, number), (wanted.size, 1)))
        value = self.log_likelihood(who, at, np.full(who.size, -np.inf)) + self.log_prior(at)
        volume = np.log(np.abs(np.linalg.det(self.generator)))
        return who, at, value - np.log(share[found]) + volume[who]

    def _marginal(self) -> tuple[Array, Array, Array]:
        """Of the first coordinate, which only the first index moves: generators are triangular."""
        mass, _ = self._mass()
        key = self.problem * (1 << self.bits) + self.index[:, 0]
        keys, at = np.unique(key, return_inverse=True)
        first = np.unique(at, return_index=True)[1]
        problem, coordinate = self.problem[first], self.index[first, 0]
        width = np.abs(self.generator[problem, 0, 0])
        cell = np.log(np.abs(np.linalg.det(self.generator)))[problem] - np.log(width)
        with np.errstate(divide="ignore"):
            density = np.log(np.bincount(at, weights=mass, minlength=keys.size))
        place = self.origin[problem, 0] + self.generator[problem, 0, 0] * coordinate
        return problem, place, self.best[problem] + density + cell
