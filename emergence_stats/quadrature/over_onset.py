"""Integration over the onset, in which a posterior has kinks, with everything else inside.

What lives here: adaptive Simpson integration over the onset's position for a batch of curves, whose
integrand is the grid integral of `integrate` over the family's other parameters. What does not:
what the parameters mean, or the likelihood.

As the onset passes a checkpoint, one more point joins the rise, and the likelihood has a kink
there: so the panels of the Simpson rule end at checkpoints. Panels are bisected where the
five-point estimate differs from the three-point one, and are left alone where nothing in them can
matter. The result holds the onset's marginal density at every position tried, each an integral over
all other parameters, and weighted points of the joint posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from emergence_stats.quadrature.grid import DROPPED, Integrals, LogPrior
from emergence_stats.quadrature.integrate import CoarseGrid, integrate

Array = np.ndarray
# (curve index, onset position, coordinates, cutoff as in `grid`) -> log likelihood, one a row
OnsetLogLikelihood = Callable[[Array, Array, Array, Array], Array]

MAX_LEVEL = 13
# What the half-grid and panel differences do not see: tails beyond the cut, and the short
# rules for the noise.
CUT_AWAY = 0.005
_PANEL = 1 << MAX_LEVEL
NARROWEST_PANEL = 1.0 / 20.0
# Nats by which the log density may bend down from point to point and still count as resolved.
UNRESOLVED_BEND = 3.0
# Shares of a panel's width: Simpson's rule, and Boole's, which is Simpson's extrapolated.
_THREE = (1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0)
_NULL = (
    (-1.0 / 12.0, 4.0 / 12.0, -6.0 / 12.0, 4.0 / 12.0, -1.0 / 12.0),
    (-0.22048, 0.44096, 0.0, -0.44096, 0.22048),
)
_FIVE = (7.0 / 90.0, 32.0 / 90.0, 12.0 / 90.0, 32.0 / 90.0, 7.0 / 90.0)


@dataclass(frozen=True)
class Posterior:
    """One family's posteriors on a batch of curves, as weighted points.

    Attributes
    ----------
    log_integral : ndarray, shape (curve,)
        Log evidence.
    error : ndarray, shape (curve,)
        Estimate of its absolute error: half of all half-grid and panel differences, added up
        regardless of sign, and a constant for what is cut away. Usually several times too large.
    curve : ndarray of int, shape (node,)
        Which curve a point belongs to; sorted.
    z : ndarray, shape (node, coordinate)
        The first is the onset's position on its axis, 0 to 1.
    weight : ndarray, shape (node,)
        Posterior mass; sums to 1 for every curve.
    start : ndarray of int, shape (curve + 1,)
        Points of curve c are `start[c]` to `start[c + 1]`.
    onset_curve, onset_position, onset_log_density : ndarray, shape (position,)
        The onset's marginal density, per unit of position and with the evidence as its integral,
        sorted by curve and position.
    num_evaluated : ndarray of int, shape (curve,)
        Coarse and grid points behind the answer.
    """

    log_integral: Array
    error: Array
    curve: Array
    z: Array
    weight: Array
    start: Array
    onset_curve: Array
    onset_position: Array
    onset_log_density: Array
    num_evaluated: Array

    def onset_marginal(self, curve: int) -> tuple[Array, Array]:
        """Positions at which one curve's onset was tried, and the log density there."""
        low, high = np.searchsorted(self.onset_curve, [curve, curve + 1])
        return self.onset_position[low:high], self.onset_log_density[low:high]


def integrate_over_onset(
    log_likelihood: OnsetLogLikelihood,
    log_prior: LogPrior,
    coarse: CoarseGrid,
    checkpoints: list[Array],
    *,
    tolerance: float = 0.03,
) -> Posterior:
    """What is each curve's evidence, with the onset uniform on its axis, and where is its mass?

    Parameters
    ----------
    log_likelihood : callable
    log_prior : callable
        Log density of the other parameters' coordinates.
    coarse : CoarseGrid
        For those.
    checkpoints : list of ndarray
        For each curve the positions of its points on the onset axis, from 0 to 1.
    tolerance : float
        Relative error at which refinement stops.

    Returns
    -------
    Posterior
    """
    return _Simpson(log_likelihood, log_prior, coarse, checkpoints, tolerance).run()


def _edges(positions: Array) -> Array:
    """Panel ends: checkpoints, those that follow within a twentieth of the axis left out."""
    chosen = [0.0]
    for position in positions[1:-1]:
        if position - chosen[-1] >= NARROWEST_PANEL and 1.0 - position >= 0.5 * NARROWEST_PANEL:
            chosen.append(float(position))
    return np.array([*chosen, 1.0])


@numba.njit(cache=True, nogil=True)
def _sort_points(
    place: Array,
    inner: Array,
    weight: Array,
    mass: Array,
    curve: Array,
    position: Array,
    least: Array,
) -> tuple[Array, Array, Array]:
    """Points worth keeping sorted by place, and so by curve: curve, coordinates, mass.

    `mass`, `curve` and `position` are by place; `least`, by curve, what is not worth keeping.
    """
    number = np.zeros(mass.size + 1, dtype=np.int64)
    for i in range(place.size):
        at = place[i]
        if mass[at] * weight[i] > least[curve[at]]:
            number[at + 1] += 1
    slot = np.cumsum(number)
    kept = slot[-1]
    dim = inner.shape[1]
    out_curve = np.empty(kept, dtype=np.int64)
    z, out = np.empty((kept, dim + 1)), np.empty(kept)
    for i in range(place.size):
        at = place[i]
        here = mass[at] * weight[i]
        if here > least[curve[at]]:
            to = slot[at]
            slot[at] += 1
            out_curve[to], out[to], z[to, 0] = curve[at], here, position[at]
            for k in range(dim):
                z[to, k + 1] = inner[i, k]
    return out_curve, z, out


class _Simpson:
    """Panels and positions of all curves; a position is a whole number, _PANEL to a panel."""

    def __init__(
        self,
        log_likelihood: OnsetLogLikelihood,
        log_prior: LogPrior,
        coarse: CoarseGrid,
        checkpoints: list[Array],
        tolerance: float,
    ) -> None:
        self.log_likelihood, self.log_prior, self.coarse = log_likelihood, log_prior, coarse
        self.tolerance = tolerance
        # What is left out is then below the tolerance squared at every point.
        self.cut = -2.0 * np.log(tolerance)
        edges = [_edges(positions) for positions in checkpoints]
        self.num_curves = len(edges)
        self.num_panels = np.array([e.size - 1 for e in edges])
        self.edges = np.zeros((self.num_curves, self.num_panels.max() + 2))
        for c, e in enumerate(edges):
            self.edges[c, : e.size] = e
            self.edges[c, e.size :] = 1.0
        self.best = np.full(self.num_curves, -np.inf)
        # More points make likelihoods steeper, so a coarse look errs by more.
        self.slack = 15.0 + np.array([positions.size for positions in checkpoints], dtype=float)
        # Positions tried, sorted by key.
        self.key = np.zeros(0, dtype=np.int64)
        self.log_density = np.zeros(0)
        self.error = np.zeros(0)
        dim = coarse.points.shape[1]
        self.mode, self.factor = np.zeros((0, dim)), np.zeros((0, dim, dim))
        self.parts: list[tuple[Array, Integrals]] = []
        self.evaluated = np.zeros(self.num_curves, dtype=np.int64)

    def _position(self, curve: Array, place: Array) -> Array:
        panel, within = np.divmod(place, _PANEL)
        low = self.edges[curve, panel]
        return low + (self.edges[curve, panel + 1] - low) * (within / _PANEL)

    def _key(self, curve: Array, place: Array) -> Array:
        return (curve << 32) | place

    def _evaluate(self, curve: Array, place: Array) -> None:
        keys = np.unique(self._key(curve, place))
        if self.key.size:
            slot = np.minimum(np.searchsorted(self.key, keys), self.key.size - 1)
            keys = keys[self.key[slot] != keys]
        if not keys.size:
            return
        who, place = keys >> 32, keys & 0xFFFFFFFF
        position = self._position(who, place)

        def inner(problem: Array, z: Array, cutoff: Array) -> Array:
            return self.log_likelihood(who[problem], position[problem], z, cutoff)

        found = integrate(
            inner,
            self.log_prior,
            self.coarse,
            who,
            self.best,
            self.slack,
            self._hints(keys),
            tolerance=3.0 * self.tolerance,
            cut=self.cut,
        )
        np.maximum.at(self.best, who, found.log_integral)
        self.evaluated += np.bincount(who, weights=found.count, minlength=self.num_curves).astype(
            int
        )
        self.parts.append((keys, found))
        order = np.argsort(np.concatenate([self.key, keys]), kind="stable")
        self.key = np.concatenate([self.key, keys])[order]
        self.log_density = np.concatenate([self.log_density, found.log_integral])[order]
        self.error = np.concatenate([self.error, found.error])[order]
        self.mode = np.concatenate([self.mode, found.mode])[order]
        self.factor = np.concatenate([self.factor, found.factor])[order]

    def _hints(self, keys: Array) -> tuple[Array, Array, Array]:
        """Where the mass is at the neighbouring positions: a narrow mode moves little."""
        problem, mode, factor = [], [], []
        if self.key.size:
            right = np.searchsorted(self.key, keys)
            for slot in (right - 1, right):
                near = self.key[np.clip(slot, 0, self.key.size - 1)]
                slot = np.clip(slot, 0, self.key.size - 1)
                known = (near >> 32 == keys >> 32) & np.isfinite(self.mode[slot]).all(axis=1)
                problem.append(np.flatnonzero(known))
                mode.append(self.mode[slot[known]])
                factor.append(self.factor[slot[known]])
        dim = self.coarse.points.shape[1]
        if not problem:
            return np.zeros(0, dtype=np.int64), np.zeros((0, dim)), np.zeros((0, dim, dim))
        return np.concatenate(problem), np.concatenate(mode), np.concatenate(factor)

    def _log_value(self, curve: Array, place: Array) -> Array:
        return self.log_density[np.searchsorted(self.key, self._key(curve, place))]

    def _estimate(
        self, curve: Array, place: Array, length: Array, points: int
    ) -> tuple[Array, Array]:
        """Simpson's rule on three or Boole's on five points, relative to the best; log values."""
        quarters = np.arange(0, 5, 2 if points == 3 else 1)
        log_value = np.stack(
            [self._log_value(curve, place + length * int(k) // 4) for k in quarters]
        )
        half = self._position(curve, place + length // 2) - self._position(curve, place)
        rule = np.array(_THREE if points == 3 else _FIVE)
        value = np.exp(log_value - self.best[curve])
        return 2.0 * half * (rule @ value), log_value

    def run(self) -> Posterior:
        curve = np.repeat(np.arange(self.num_curves), self.num_panels)
        place = np.concatenate([np.arange(n) * _PANEL for n in self.num_panels])
        length = np.full(curve.size, _PANEL)
        self._evaluate(
            np.tile(curve, 3), np.concatenate([place, place + _PANEL // 2, place + _PANEL])
        )
        settled: list[tuple[Array, Array, Array, int]] = []
        for level in range(MAX_LEVEL - 1):
            _, log_value = self._estimate(curve, place, length, 3)
            total = self._total([*settled, (curve, place, length, 3)])
            # What may hide between three points: as much again as they differ by, while panels
            # are wide, and half of it later.
            top = log_value.max(axis=0)
            span = np.minimum(top - log_value.min(axis=0), 60.0)
            width = self._position(curve, place + length) - self._position(curve, place)
            hidden = top - self.best[curve] + (1.0 if level < 3 else 0.5) * span + np.log(width)
            matters = hidden > np.log(total[curve]) - self.cut
            settled.append((curve[~matters], place[~matters], length[~matters], 3))
            curve, place, length = curve[matters], place[matters], length[matters]
            if not curve.size:
                break
            self._evaluate(
                np.tile(curve, 2), np.concatenate([place + length // 4, place + 3 * length // 4])
            )
            total = self._total([*settled, (curve, place, length, 5)])
            allowed = 0.2 * self.tolerance * total[curve]
            good = self._difference(curve, place, length) <= allowed
            good &= self._hidden(curve, place, length) <= np.log(allowed)
            if level == MAX_LEVEL - 2:
                good[:] = True
            settled.append((curve[good], place[good], length[good], 5))
            curve, place, half = curve[~good], place[~good], length[~good] // 2
            place = np.concatenate([place, place + half])
            curve, length = np.tile(curve, 2), np.tile(half, 2)
            if not curve.size:
                break
        return self._result(settled)

    def _difference(self, curve: Array, place: Array, length: Array) -> Array:
        """Error estimate of a five-point panel: its third and fourth differences.

        The fourth is Simpson's rule on two half panels less that on the whole one. Alone it is
        small by accident in some panels with a kink; the third, of equal norm, rarely at the same
        time.
        Their sum is not divided as for smooth integrands.
        """
        half = self._position(curve, place + length // 2) - self._position(curve, place)
        value = np.exp(
            np.stack([self._log_value(curve, place + length * k // 4) for k in range(5)])
            - self.best[curve]
        )
        return 2.0 * half * np.hypot(*(np.array(_NULL) @ value)) / 3.0

    def _hidden(self, curve: Array, place: Array, length: Array) -> Array:
        """Log of the mass that a peak between the five points of a panel may have, if there is one.

        A rise caught half way by one checkpoint ties the onset to the half-time, and the density
        has a peak much narrower than the gap, which can lie between the points. The log density
        then bends down by nats from point to point; where it bends by less, the points resolve it.
        """
        log_value = np.stack([self._log_value(curve, place + length * k // 4) for k in range(5)])
        bend = 2.0 * log_value[1:4] - log_value[:3] - log_value[2:]
        top = np.maximum(log_value[1:4], np.maximum(log_value[:3], log_value[2:]))
        width = self._position(curve, place + length) - self._position(curve, place)
        mass = top - self.best[curve] + 0.5 * np.minimum(bend, 60.0) + np.log(0.25 * width)
        return np.where(bend > UNRESOLVED_BEND, mass, -np.inf).max(axis=0)

    def _total(self, panels: list[tuple[Array, Array, Array, int]]) -> Array:
        total = np.full(self.num_curves, 1e-300)
        for curve, place, length, points in panels:
            value, _ = self._estimate(curve, place, length, points)
            total += np.bincount(curve, weights=value, minlength=self.num_curves)
        return total

    def _places(self, keys: Array, found: Integrals) -> Array:
        """Which position each point belongs to."""
        return np.searchsorted(self.key, keys)[found.problem]

    def _result(self, settled: list[tuple[Array, Array, Array, int]]) -> Posterior:
        total = self._total(settled)
        who = self.key >> 32
        mass = np.zeros(self.key.size)
        error = np.zeros(self.num_curves)
        for curve, place, length, points in settled:
            width = self._position(curve, place + length) - self._position(curve, place)
            rule = _THREE if points == 3 else _FIVE
            step = 2 if points == 3 else 1
            for k, share in enumerate(rule):
                at = np.searchsorted(self.key, self._key(curve, place + length * k * step // 4))
                mass += np.bincount(at, weights=share * width, minlength=mass.size)
            if points == 5:
                missed = self._difference(curve, place, length)
                error += np.bincount(curve, weights=missed, minlength=self.num_curves)
        mass *= np.exp(self.log_density - self.best[who])
        error += np.bincount(who, weights=mass * self.error, minlength=self.num_curves)
        least = DROPPED * total / self.evaluated
        place_of, inner, weight = (
            np.concatenate([self._places(keys, found) for keys, found in self.parts]),
            np.concatenate([found.z for _, found in self.parts]),
            np.concatenate([found.weight for _, found in self.parts]),
        )
        curve, points_z, points_weight = _sort_points(
            place_of, inner, weight, mass, who, self._position(who, self.key & 0xFFFFFFFF), least
        )
        sums = np.bincount(curve, weights=points_weight, minlength=self.num_curves)
        return Posterior(
            log_integral=self.best + np.log(total),
            error=0.5 * error / total + CUT_AWAY,
            curve=curve,
            z=points_z,
            weight=points_weight / sums[curve],
            start=np.searchsorted(curve, np.arange(self.num_curves + 1)),
            onset_curve=who,
            onset_position=self._position(who, self.key & 0xFFFFFFFF),
            onset_log_density=self.log_density,
            num_evaluated=self.evaluated,
        )
