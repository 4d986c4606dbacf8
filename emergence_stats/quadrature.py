"""Deterministic integration of many posteriors at once, each on a lattice of its own.

What lives here: finding where the mass of exp(log prior + log likelihood) lies, laying a lattice
over it, refining that, and the error estimate. Plain arrays; a few smooth coordinates on the whole
real line. What does not: what the coordinates mean (`relaxation`) or the likelihood (`likelihood`).

How it goes, for every curve of a batch side by side:

1. Coarse: the likelihood on a grid of equal prior mass. It is raised to a power small enough that
   several grid points count; their mean and covariance say where to look next.
2. Zoom: a small lattice in those whitened coordinates, again with the largest power that leaves
   several points counting, until the power is one.
3. Final: a lattice whitened by a lower-triangular Cholesky factor, filled outwards from the best
   points until the integrand has fallen by exp(-10) everywhere on its rim.
4. Check: along each axis the even and the odd half of the lattice are two independent integrations
   of twice the spacing. Where they differ by more than the tolerance that axis is halved.

The trapezoidal rule on a smooth, decaying integrand converges exponentially, so the lattice is
far better than its halves; their difference is reported as the error, which it bounds. Because the
Cholesky factor is lower triangular the first coordinate takes evenly spaced values, and summing the
others gives its marginal density there without any smoothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emergence_stats.likelihood import CUT

Array = np.ndarray
# (curve index, coordinates, hopeless below this) -> log likelihood
LogLikelihood = Callable[[Array, Array, Array], Array]
LogPrior = Callable[[Array], Array]

MAX_ZOOMS = 12
MAX_REFINEMENTS = 14


@dataclass(frozen=True)
class LatticePosterior:
    """Posteriors of a batch of curves as weighted points.

    Attributes
    ----------
    log_integral, error : ndarray, shape (curve,)
        Log evidence, and the relative difference of half lattices, which bounds its error.
    curve : ndarray of int, shape (node,)
        Which curve a point belongs to; sorted.
    z : ndarray, shape (node, coordinate)
    weight : ndarray, shape (node,)
        Posterior mass; sums to 1 for every curve.
    start : ndarray of int, shape (curve + 1,)
        Points of curve c are `start[c]` to `start[c + 1]`.
    first_index : ndarray of int, shape (node,)
        Which of the evenly spaced values the first coordinate takes.
    first_origin, first_spacing : ndarray, shape (curve,)
        Those values are origin + index * spacing.
    """

    log_integral: Array
    error: Array
    curve: Array
    z: Array
    weight: Array
    start: Array
    first_index: Array
    first_origin: Array
    first_spacing: Array

    def first_marginal(self, curve: int) -> tuple[Array, Array]:
        """The first coordinate's lattice values and its posterior density there."""
        part = slice(self.start[curve], self.start[curve + 1])
        index = self.first_index[part]
        low = index.min()
        mass = np.bincount(index - low, weights=self.weight[part])
        at = self.first_origin[curve] + self.first_spacing[curve] * (low + np.arange(mass.size))
        return at, mass / self.first_spacing[curve]


def integrate(
    log_likelihood: LogLikelihood,
    log_prior: LogPrior,
    coarse: Array,
    num_curves: int,
    *,
    tolerance: float = 0.01,
    max_nodes: int = 60_000,
) -> LatticePosterior:
    """What is the integral of prior times likelihood, curve by curve, and where is its mass?

    Parameters
    ----------
    log_likelihood, log_prior : callable
    coarse : ndarray, shape (node, coordinate)
        Points of equal prior mass that cover the prior.
    num_curves : int
    tolerance : float
        Relative difference between half lattices at which refinement stops.
    max_nodes : int
        Bound on points a curve. Beyond it the lattice is left as it is and `error` tells.

    Returns
    -------
    LatticePosterior
    """
    mean, factor, seeds = _zoom(log_likelihood, log_prior, coarse, num_curves)
    return _Lattice(log_likelihood, log_prior, mean, factor, max_nodes).run(seeds, tolerance)


def _zoom(
    log_likelihood: LogLikelihood, log_prior: LogPrior, coarse: Array, num_curves: int
) -> tuple[Array, Array, tuple[Array, Array]]:
    dim = coarse.shape[1]
    target = {1: 3.0, 2: 5.0}.get(dim, 10.0)
    rough = np.full(num_curves, np.inf)
    z = np.broadcast_to(coarse, (num_curves, *coarse.shape))
    who = np.repeat(np.arange(num_curves), len(coarse))
    value = log_likelihood(who, z.reshape(-1, dim), rough).reshape(num_curves, -1)
    log_mass = np.full(value.shape, -np.log(len(coarse)))
    # Neighbouring points of the coarse grid stand for cells of about this size.
    cell = np.broadcast_to(np.diag(np.full(dim, 0.1)), (num_curves, dim, dim))
    seeds = [_best_points(np.arange(num_curves), z, value + log_prior(coarse)[None])]

    mean = np.empty((num_curves, dim))
    factor = np.empty((num_curves, dim, dim))
    active = np.arange(num_curves)
    ball = _ball(dim, 3.5)
    for stage in range(MAX_ZOOMS):
        power, share = _temper(log_mass, value, target)
        centre = np.einsum("ck,ckd->cd", share, z)
        away = z - centre[:, None]
        spread = np.einsum("ck,cki,ckj->cij", share, away, away) + cell
        root = np.linalg.cholesky(spread)
        mean[active], factor[active] = centre, root
        going = power < 1.0
        if stage == 0:
            # The coarse grid never resolves anything; look once more even where power is one.
            going = np.ones_like(going)
        if not going.any():
            break
        active, centre, root = active[going], centre[going], root[going]
        step = 0.8 * root
        z = centre[:, None] + np.einsum("cij,kj->cki", step, ball)
        who = np.repeat(active, len(ball))
        flat = z.reshape(-1, dim)
        value = log_likelihood(who, flat, rough).reshape(active.size, -1)
        log_mass = log_prior(flat).reshape(active.size, -1) + np.log(
            np.abs(np.linalg.det(step))
        )[:, None]
        cell = step @ step.transpose(0, 2, 1) / 12.0
        seeds.append(_best_points(active, z, value + log_prior(flat).reshape(value.shape)))
    return mean, factor, (np.concatenate([s[0] for s in seeds]), np.concatenate([s[1] for s in seeds]))


def _best_points(curve: Array, z: Array, value: Array, keep: int = 12) -> tuple[Array, Array]:
    order = np.argpartition(-value, min(keep, value.shape[1] - 1), axis=1)[:, :keep]
    chosen = np.take_along_axis(value, order, axis=1)
    good = chosen > chosen.max(axis=1, keepdims=True) - 6.0
    points = np.take_along_axis(z, order[:, :, None], axis=1)
    return np.repeat(curve, order.shape[1])[good.ravel()], points.reshape(-1, z.shape[2])[
        good.ravel()
    ]


def _temper(log_mass: Array, value: Array, target: float) -> tuple[Array, Array]:
    """The largest power of the likelihood, at most 1, that leaves `target` points counting."""
    value = value - value.max(axis=1, keepdims=True)

    def weights(power: Array) -> Array:
        log_weight = log_mass + power[:, None] * value
        weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)

    low = np.full(value.shape[0], -30.0)
    high = np.zeros(value.shape[0])
    enough = 1.0 / (weights(np.exp(high)) ** 2).sum(axis=1) >= target
    for _ in range(25):
        middle = 0.5 * (low + high)
        fine = 1.0 / (weights(np.exp(middle)) ** 2).sum(axis=1) >= target
        low = np.where(fine, middle, low)
        high = np.where(fine, high, middle)
    power = np.where(enough, 1.0, np.exp(low))
    return power, weights(power)


def _ball(dim: int, radius: float) -> Array:
    side = np.arange(-int(radius), int(radius) + 1)
    points = np.array(list(itertools.product(side, repeat=dim)), dtype=float)
    return points[(points**2).sum(axis=1) <= radius**2]


class _Lattice:
    """A batch of growing lattices; integer coordinates are packed with the curve into one key."""

    def __init__(
        self,
        log_likelihood: LogLikelihood,
        log_prior: LogPrior,
        mean: Array,
        factor: Array,
        max_nodes: int,
    ) -> None:
        self.log_likelihood, self.log_prior = log_likelihood, log_prior
        self.num_curves, self.dim = mean.shape
        self.mean = mean
        # One posterior sd would do for the integral (a Gaussian to 1e-8); quantiles want finer,
        # and the first coordinate most of all, for its marginal density is shown.
        spacing = np.full(self.dim, 0.75)
        spacing[0] = 0.6
        self.generator = factor * spacing
        self.max_nodes = max_nodes
        self.bits = min(16, 46 // self.dim)
        self.half = 1 << (self.bits - 1)
        self.curve = np.zeros(0, dtype=np.int64)
        self.index = np.zeros((0, self.dim), dtype=np.int64)
        self.value = np.zeros(0)
        self.best = np.full(self.num_curves, -np.inf)
        self.count = np.zeros(self.num_curves, dtype=np.int64)

    def run(self, seeds: tuple[Array, Array], tolerance: float) -> LatticePosterior:
        ball = _ball(self.dim, 2.3).astype(np.int64)
        who, where = seeds
        solved = np.linalg.solve(self.generator[who], (where - self.mean[who])[:, :, None])
        limit = self.half // 4
        rounded = np.clip(np.rint(solved[:, :, 0]), -limit, limit).astype(np.int64)
        curve = np.concatenate([np.repeat(np.arange(self.num_curves), len(ball)), who])
        index = np.concatenate([np.tile(ball, (self.num_curves, 1)), rounded])
        self._add(curve, index)
        self._grow(np.ones(self.value.size, dtype=bool))
        error = self._parity()
        for _ in range(MAX_REFINEMENTS):
            reach = np.zeros(self.num_curves, dtype=np.int64)
            np.maximum.at(reach, self.curve, np.abs(self.index).max(axis=1))
            room = (self.count < self.max_nodes) & (reach < self.half // 4)
            refine = (error.max(axis=1) > tolerance) & room
            if not refine.any():
                break
            self._halve(refine, error.argmax(axis=1))
            error = np.where(refine[:, None], self._parity(), error)
        return self._result(error.max(axis=1))

    def _keys(self, curve: Array, index: Array) -> Array:
        key = curve.astype(np.int64)
        for axis in range(self.dim):
            key = (key << self.bits) | (index[:, axis] + self.half)
        return key

    def _add(self, curve: Array, index: Array) -> Array:
        """Evaluates the points not there yet; says which stored points are new."""
        inside = (np.abs(index) < self.half - 1).all(axis=1) & (
            self.count[curve] < self.max_nodes
        )
        keys, chosen = np.unique(self._keys(curve[inside], index[inside]), return_index=True)
        curve, index = curve[inside][chosen], index[inside][chosen]
        if self.value.size:
            old = self._keys(self.curve, self.index)
            slot = np.minimum(np.searchsorted(old, keys), old.size - 1)
            fresh = old[slot] != keys
            curve, index, keys = curve[fresh], index[fresh], keys[fresh]
        else:
            old = np.zeros(0, dtype=np.int64)
        if not keys.size:
            return np.zeros(self.value.size, dtype=bool)
        z = self.mean[curve] + np.einsum("mij,mj->mi", self.generator[curve], index.astype(float))
        value = self.log_likelihood(curve, z, self.best - CUT - 5.0) + self.log_prior(z)
        np.maximum.at(self.best, curve, value)
        self.count += np.bincount(curve, minlength=self.num_curves)
        order = np.argsort(np.concatenate([old, keys]), kind="stable")
        is_new = np.concatenate([np.zeros(old.size, bool), np.ones(keys.size, bool)])[order]
        self.curve = np.concatenate([self.curve, curve])[order]
        self.index = np.concatenate([self.index, index])[order]
        self.value = np.concatenate([self.value, value])[order]
        return is_new

    def _grow(self, front: Array) -> None:
        """Adds the neighbours of every point that counts until the rim is negligible."""
        steps = np.concatenate([np.eye(self.dim), -np.eye(self.dim)]).astype(np.int64)
        while front.any():
            front &= self.value > self.best[self.curve] - CUT
            curve = np.repeat(self.curve[front], len(steps))
            index = (self.index[front][:, None] + steps).reshape(-1, self.dim)
            front = self._add(curve, index)

    def _parity(self) -> Array:
        """Relative difference of the even and odd half lattices along each axis."""
        mass = np.exp(self.value - self.best[self.curve])
        total = np.bincount(self.curve, weights=mass, minlength=self.num_curves)
        error = np.empty((self.num_curves, self.dim))
        for axis in range(self.dim):
            sign = 1.0 - 2.0 * (self.index[:, axis] & 1)
            signed = np.bincount(self.curve, weights=mass * sign, minlength=self.num_curves)
            error[:, axis] = np.abs(signed) / total
        return error

    def _halve(self, refine: Array, axis: Array) -> None:
        chosen = refine[self.curve]
        rows = np.flatnonzero(chosen)
        along = axis[self.curve[rows]]
        self.index[rows, along] *= 2
        curves = np.flatnonzero(refine)
        self.generator[curves, :, axis[curves]] *= 0.5
        order = np.argsort(self._keys(self.curve, self.index), kind="stable")
        self.curve, self.index, self.value = self.curve[order], self.index[order], self.value[order]
        front = refine[self.curve] & (self.value > self.best[self.curve] - CUT)
        curve = np.repeat(self.curve[front], 2)
        index = np.repeat(self.index[front], 2, axis=0)
        rows = np.arange(curve.size)
        index[rows, axis[curve]] += np.where(rows % 2 == 0, 1, -1)
        self._grow(self._add(curve, index))

    def _result(self, error: Array) -> LatticePosterior:
        mass = np.exp(self.value - self.best[self.curve])
        total = np.bincount(self.curve, weights=mass, minlength=self.num_curves)
        volume = np.log(np.abs(np.linalg.det(self.generator)))
        z = self.mean[self.curve] + np.einsum(
            "mij,mj->mi", self.generator[self.curve], self.index.astype(float)
        )
        start = np.searchsorted(self.curve, np.arange(self.num_curves + 1))
        return LatticePosterior(
            log_integral=self.best + np.log(total) + volume,
            error=error,
            curve=self.curve,
            z=z,
            weight=mass / total[self.curve],
            start=start,
            first_index=self.index[:, 0],
            first_origin=self.mean[:, 0],
            first_spacing=self.generator[:, 0, 0],
        )
