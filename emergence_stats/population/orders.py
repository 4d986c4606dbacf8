"""The sum over kappa: one for all members, or one each, from a population with centre and spread.

What lives here: the grids of kappa, mu and s, interpolation of members' likelihoods between the
kappas at which they are known, and drawing from the grids. Plain arrays only. What does not: the
model (`population`), the integral over the population's onset and half-time
(`importance`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp, ndtr

from emergence_stats.curves.families import KAPPA_SCALE
from emergence_stats.population.population import (
    KAPPA_OFFSET,
    MU_MEAN,
    MU_SD,
    ORDER_SPREAD,
    spread_of,
)

Array = np.ndarray

# Below this an order is not told from 2 by any curve.
SMALLEST_KAPPA = 0.005
NUM_FINE, NUM_MU, NUM_SPREAD = 321, 33, 13
# Standard normal coordinates beyond this hold 1e-6 of the prior.
REACH = 4.75


class Orders:
    """From likelihoods at the kappas of the grid to the three hypotheses, kappa integrated out."""

    def __init__(self, kappa: Array, likelihood: Array) -> None:
        """Sets the grids of kappa, mu and s by some log likelihoods (draw, member, grid)."""
        from scipy.interpolate import CubicSpline

        place = np.log(kappa + KAPPA_OFFSET)
        spline = CubicSpline(place, np.eye(kappa.size), bc_type="natural")
        low, high = np.log(SMALLEST_KAPPA), np.log(kappa[-1])
        wide = np.linspace(low, high, 2 * NUM_FINE)
        self._set_interpolation(spline, place, wide)
        at = np.stack([self.interpolate(one) for one in likelihood])
        matters = (at > at.max(axis=2, keepdims=True) - 25.0).any(axis=(0, 1))
        ends = np.flatnonzero(matters)[[0, -1]] + [-8, 8]
        low, high = wide[np.clip(ends, 0, wide.size - 1)]
        self.log_kappa = np.linspace(low, high, NUM_FINE)
        self.width = self.log_kappa[1] - self.log_kappa[0]
        self._set_interpolation(spline, place, self.log_kappa)
        # Half-normal mass of each point's cell; what lies beyond the ends goes to the ends.
        edge = np.exp(self.log_kappa[:-1] + 0.5 * self.width) / KAPPA_SCALE
        above = np.concatenate([[1.0], 2.0 * ndtr(-edge), [0.0]])
        self.log_prior = np.log(np.maximum(-np.diff(above), 1e-300))
        self._set_population((-REACH, REACH), (-REACH, REACH))
        for _ in range(6):
            share = self._population_share(likelihood)
            ranges = []
            for axis, coordinate in ((1, self._mu_axis), (0, self._spread_axis)):
                marginal = share.sum(axis=axis)
                kept = np.flatnonzero(marginal > 1e-6 * marginal.max())[[0, -1]] + [-1, 1]
                ranges.append(tuple(coordinate[np.clip(kept, 0, coordinate.size - 1)]))
            before = (self._mu_axis[-1] - self._mu_axis[0], np.ptp(self._spread_axis))
            after = [pair[1] - pair[0] for pair in ranges]
            self._set_population(*ranges)
            if all(new > 0.8 * old for new, old in zip(after, before, strict=True)):
                break

    def _set_interpolation(
        self, spline: Callable[[Array], Array], place: Array, log_kappa: Array
    ) -> None:
        at = np.log(np.exp(log_kappa) + KAPPA_OFFSET)
        self._operator = spline(at).T
        self._left = np.clip(np.searchsorted(place, at) - 1, 0, place.size - 2)

    def interpolate(self, likelihood: Array) -> Array:
        """(member, grid) to (member, fine kappa).

        A spline overshoots where the population asked about is absurd and log likelihoods differ
        by hundreds from one kappa to the next. Between points that are dense enough it rises above
        both neighbours by an eighth of their second difference, one nat at most; it may do so by
        little more.
        """
        bound = np.maximum(likelihood[:, self._left], likelihood[:, self._left + 1])
        return np.asarray(np.minimum(likelihood @ self._operator, bound + 1.5))

    def _set_population(self, mu_range: tuple[float, float], spread: tuple[float, float]) -> None:
        self._mu_axis = np.linspace(*mu_range, NUM_MU)
        self._spread_axis = np.linspace(*spread, NUM_SPREAD)
        z_mu, z_s = np.meshgrid(self._mu_axis, self._spread_axis, indexing="ij")
        cell = np.log(np.diff(self._mu_axis)[0] * np.diff(self._spread_axis)[0])
        self.log_prior_population = (-0.5 * (z_mu**2 + z_s**2) - np.log(2.0 * np.pi) + cell).ravel()
        self.mu = (MU_MEAN + MU_SD * z_mu).ravel()
        self.spread = np.maximum(spread_of(z_s, ORDER_SPREAD).ravel(), 1e-6)
        # Weights of linear interpolation under Normal(mu, s): second differences of the integral
        # of its distribution function; what lies beyond the ends goes to the ends.
        edge = np.concatenate(
            [[self.log_kappa[0] - self.width], self.log_kappa, [self.log_kappa[-1] + self.width]]
        )
        z = (edge - self.mu[:, None]) / self.spread[:, None]
        integral = self.spread[:, None] * (
            z * ndtr(z) + np.exp(-0.5 * np.square(z)) / np.sqrt(2.0 * np.pi)
        )
        slope = np.diff(integral, axis=1) / self.width
        slope[:, 0], slope[:, -1] = 0.0, 1.0
        weights = np.diff(slope, axis=1)
        self.weights = np.where(weights > 1e-30, weights, 0.0)

    def _population_share(self, likelihood: Array) -> Array:
        log_share = np.stack([self._varying(self.interpolate(one))[0] for one in likelihood])
        log_share += self.log_prior_population
        share = np.exp(log_share - log_share.max(axis=1, keepdims=True)).sum(axis=0)
        return share.reshape(NUM_MU, NUM_SPREAD)

    def _varying(self, fine: Array) -> tuple[Array, Array]:
        """Log likelihood of all members for each (mu, s), and that of each, for one draw."""
        top = fine.max(axis=1)
        # Bounded, for products of denormal numbers take a hundred times as long.
        relative = np.exp(np.maximum(fine - top[:, None], -100.0))
        each = np.log(self.weights @ relative.T + 1e-300) + top
        return each.sum(axis=1), each

    def log_likelihood(self, likelihood: Array) -> Array:
        """(draw, member, grid) to (draw, hypothesis)."""
        out = np.empty((len(likelihood), 3))
        out[:, 0] = likelihood[:, :, 0].sum(axis=1)
        for e, one in enumerate(likelihood):
            fine = self.interpolate(one)
            out[e, 1] = logsumexp(fine.sum(axis=0) + self.log_prior)
            out[e, 2] = logsumexp(self._varying(fine)[0] + self.log_prior_population)
        return out

    def draw(
        self, hypothesis: int, likelihood: Array, generator: np.random.Generator
    ) -> tuple[float, float, Array]:
        """One draw of mu, s and every member's kappa, from one row (member, grid)."""
        num = len(likelihood)
        if hypothesis == 0:
            return np.nan, np.nan, np.zeros(num)
        fine = self.interpolate(likelihood)
        if hypothesis == 1:
            at = _choose(fine.sum(axis=0) + self.log_prior, generator)
            mu = self.log_kappa[at] + self.width * (generator.random() - 0.5)
            return mu, 0.0, np.full(num, np.exp(mu))
        total, _ = self._varying(fine)
        at = _choose(total + self.log_prior_population, generator)
        # Within its cell of the grid a draw may fall anywhere: the grid resolves the posterior.
        step = MU_SD * (self._mu_axis[1] - self._mu_axis[0])
        mu = self.mu[at] + step * (generator.random() - 0.5)
        z_s = np.tile(self._spread_axis, NUM_MU)[at]
        z_s += (self._spread_axis[1] - self._spread_axis[0]) * (generator.random() - 0.5)
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weights[at])
        chosen = np.array([_choose(row + log_weight, generator) for row in fine])
        shift = self.width * (generator.random(num) + generator.random(num) - 1.0)
        return mu, float(spread_of(z_s, ORDER_SPREAD)), np.exp(self.log_kappa[chosen] + shift)


def _choose(log_weight: Array, generator: np.random.Generator) -> int:
    cumulative = np.cumsum(np.exp(log_weight - log_weight.max()))
    return int(np.searchsorted(cumulative, generator.random() * cumulative[-1]))
