"""What a population of curves has in common, from each member's own likelihood.

What lives here: the array core of `compare_hierarchical`. A member is known by its likelihood of
(onset, half-time) at a few values of kappa, each kept as a mixture of Gaussian cells; given the
population's onset and half-time, kappa is summed out on a grid. Plain arrays only. What does not:
the integral over the population's onset and half-time (`population_sampling`), how a member's
likelihood is found and every label (`hierarchical`), the same by Markov chains
(`hierarchical_pymc`).

Model, with x the log odds of the onset's position on its axis and h the standardised log half-time:

    x_i ~ Normal(m_x, s_x),    m_x ~ Logistic(0, 1) (the position is uniform),  s_x ~ HalfNormal(1)
    h_i ~ Normal(m_h, s_h),    m_h ~ Normal(0, 1),                         s_h ~ HalfNormal(0.5)
    exponential         kappa_i = 0
    common_exponent     kappa_i = kappa ~ HalfNormal(2)
    varying_exponent    log kappa_i ~ Normal(mu, s),  mu ~ Normal(0.06, 0.9),  s ~ HalfNormal(0.7)

The last three numbers give a single member about the mean and spread of log kappa that it has under
HalfNormal(2) (0.06 and 1.11).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

Array = np.ndarray

HYPOTHESES = ("exponential", "common_exponent", "varying_exponent")
ONSET_SPREAD = 1.0
HALF_TIME_SPREAD = 0.5
KAPPA_SCALE = 2.0
MU_MEAN, MU_SD = 0.06, 0.9
ORDER_SPREAD = 0.7
# Cells that a member's likelihood at one kappa is kept in.
NUM_CELLS = 192
# How much a cell's mass counts beside its width when cells are cut.
TAIL = 0.25
PAIRS = ((0, 0), (0, 1), (1, 1))
# log(kappa + this) is the scale on which log likelihoods are smooth down to kappa = 0.
KAPPA_OFFSET = 0.2
# Below this an order is not told from 2 by any curve.
SMALLEST_KAPPA = 0.005
NUM_FINE, NUM_MU, NUM_SPREAD = 401, 49, 17
# Standard normal coordinates beyond this hold 1e-6 of the prior.
REACH = 4.75


@dataclass(frozen=True)
class Members:
    """Each member's likelihood of (x, h) at each kappa: sum over cells of mass times a Gaussian.

    Attributes
    ----------
    kappa : ndarray, shape (grid,)
        Increasing; the first is 0.
    log_mass : ndarray, shape (member, grid, cell)
    mean : ndarray, shape (member, grid, cell, 2)
    covariance : ndarray, shape (member, grid, cell, 3)
        Of x, of x with h, of h.
    """

    kappa: Array
    log_mass: Array
    mean: Array
    covariance: Array


@numba.njit(cache=True)
def _cells(point: Array, mass: Array, num: int) -> Array:
    """Owner cell of each point: one cell after another is cut at its median along its longer side.

    The next is the one with most of mass^TAIL times its width: with the mass alone all tails would
    lie in a few wide cells.
    """
    owner = np.zeros(mass.size, dtype=np.int64)
    priority, axes = np.zeros(num), np.zeros(num, dtype=np.int64)
    fresh = [0]
    count = 1
    while True:
        for cell in fresh:
            rows = np.flatnonzero(owner == cell)
            total = mass[rows].sum()
            widest = 0.0
            for a in range(2):
                values = point[rows, a]
                mean = (mass[rows] * values).sum() / total
                spread = (mass[rows] * (values - mean) ** 2).sum() / total
                if spread > widest:
                    axes[cell], widest = a, spread
            priority[cell] = total**TAIL * np.sqrt(widest) if rows.size > 1 else 0.0
        best = np.argmax(priority[:count])
        if count == num or priority[best] == 0.0:
            return owner
        rows = np.flatnonzero(owner == best)
        order = rows[np.argsort(point[rows, axes[best]])]
        half = 0.5 * mass[order].sum()
        running, cut = 0.0, 0
        while cut < order.size - 1 and running + 0.5 * mass[order[cut]] < half:
            running += mass[order[cut]]
            cut += 1
        cut = max(cut, 1)
        for k in range(cut, order.size):
            owner[order[k]] = count
        fresh = [best, count]
        count += 1


def gaussian_cells(
    point: Array, weight: Array, log_prior: Array, num_cells: int = NUM_CELLS
) -> tuple[Array, Array, Array]:
    """Turns weighted points of a posterior into a smooth mixture for the likelihood behind it.

    Dividing a posterior by the prior it was found under gives the likelihood, up to the evidence.
    Points are gathered into cells, smaller where there is more posterior mass; each becomes a
    Gaussian with the cell's mean, and its covariance widened by a half so that neighbours overlap,
    plus a share of the whole posterior's so that a cell of one point has a width. For a Gaussian
    member the log likelihood given the population is then good to 0.05 (sd, 2 member sd away or
    nearer) where the population is a third as wide as the member or wider, and to 0.15 where it is
    a point.

    Parameters
    ----------
    point : ndarray, shape (point, 2)
    weight : ndarray, shape (point,)
        Sums to 1.
    log_prior : ndarray, shape (point,)
    num_cells : int

    Returns
    -------
    log_mass : ndarray, shape (cell,)
        -inf for cells not needed.
    mean : ndarray, shape (cell, 2)
    covariance : ndarray, shape (cell, 3)

    Examples
    --------
    >>> point = np.random.default_rng(0).normal(size=(5000, 2))
    >>> log_mass, mean, covariance = gaussian_cells(point, np.full(5000, 2e-4), np.zeros(5000))
    >>> float(np.exp(log_mass).sum())
    1.0
    """
    centre = weight @ point
    away = point - centre
    # 1e-10 where all points agree.
    whole = (away * weight[:, None]).T @ away + np.diag([1e-10, 1e-10])
    factor = np.linalg.cholesky(whole)
    # Onset and half-time of a member hang together: cells are cut where they do not.
    unit = np.ascontiguousarray(np.linalg.solve(factor, away.T).T)
    owner = _cells(unit, weight, num_cells)
    ratio = np.where(weight > 0, weight * np.exp(log_prior.min() - log_prior), 0.0)
    mass = np.bincount(owner, ratio, num_cells)
    safe = np.where(mass > 0, mass, 1.0)
    mean = np.stack([np.bincount(owner, ratio * unit[:, a], num_cells) for a in (0, 1)], 1)
    mean /= safe[:, None]
    away = unit - mean[owner]
    inner = np.stack(
        [np.bincount(owner, ratio * away[:, a] * away[:, b], num_cells) for a, b in PAIRS], 1
    )
    inner /= safe[:, None]
    added = 0.5 * inner + np.array([1.0, 0.0, 1.0]) / num_cells
    # All drawn towards the mean, so that the variances stay what they were.
    share = np.bincount(owner, weight, num_cells) / weight.sum()
    mean *= np.sqrt(np.maximum(1.0 - share @ added[:, [0, 2]], 0.0))
    inner += added
    blocks = np.stack([inner[:, [0, 1]], inner[:, [1, 2]]], axis=1)
    back = factor @ blocks @ factor.T
    with np.errstate(divide="ignore"):
        log_mass = np.log(mass) - log_prior.min()
    covariance = np.stack([back[:, a, b] for a, b in PAIRS], axis=1)
    return log_mass, centre + mean @ factor.T, covariance


@numba.njit(cache=True, nogil=True)
def cell_terms(
    log_mass: Array, mean: Array, covariance: Array, eta: Array, out: Array
) -> tuple[float, float]:
    """Log of each cell's part of a member's likelihood given m_x, s_x, m_h, s_h; log sum; cells."""
    best = -np.inf
    for k in range(log_mass.size):
        if log_mass[k] == -np.inf:
            out[k] = -np.inf
            continue
        xx = covariance[k, 0] + eta[1] * eta[1]
        xh = covariance[k, 1]
        hh = covariance[k, 2] + eta[3] * eta[3]
        det = xx * hh - xh * xh
        dx, dh = mean[k, 0] - eta[0], mean[k, 1] - eta[2]
        quad = (hh * dx * dx - 2.0 * xh * dx * dh + xx * dh * dh) / det
        out[k] = log_mass[k] - 0.5 * (quad + np.log(det))
        best = max(best, out[k])
    total = squares = 0.0
    for k in range(log_mass.size):
        if out[k] > best - 40.0:
            term = np.exp(out[k] - best)
            total += term
            squares += term * term
    return best + np.log(total) - np.log(2.0 * np.pi), total * total / squares


@numba.njit(cache=True, nogil=True)
def _member_log_likelihood(
    log_mass: Array, mean: Array, covariance: Array, eta: Array, out: Array, cells: Array
) -> None:
    buffer = np.zeros(log_mass.shape[2])
    for e in range(eta.shape[0]):
        for i in range(log_mass.shape[0]):
            for g in range(log_mass.shape[1]):
                out[e, i, g], cells[e, i, g] = cell_terms(
                    log_mass[i, g], mean[i, g], covariance[i, g], eta[e], buffer
                )


def member_log_likelihood(members: Members, eta: Array) -> tuple[Array, Array]:
    """Log likelihood of each member given its population, and the cells that carry it.

    Parameters
    ----------
    members : Members
    eta : ndarray, shape (draw, 4)
        m_x, s_x, m_h, s_h.

    Returns
    -------
    log_likelihood, effective_cells : ndarray, shape (draw, member, grid)
    """
    shape = (len(eta), *members.log_mass.shape[:2])
    out, cells = np.empty(shape), np.empty(shape)
    _member_log_likelihood(
        members.log_mass, members.mean, members.covariance, np.ascontiguousarray(eta), out, cells
    )
    return out, cells


def spread_of(coordinate: Array, scale: float) -> Array:
    """Half-normal quantile of a standard normal coordinate: smooth down to a spread of zero."""
    # -ndtri(ndtr(-z) / 2), the accurate tail of (1 + ndtr(z)) / 2.
    return np.asarray(-scale * ndtri(0.5 * ndtr(-coordinate)))


def spread_coordinate(spread: float, scale: float) -> float:
    """The coordinate of a spread: the inverse of `spread_of`.

    Examples
    --------
    >>> round(float(spread_of(np.array(spread_coordinate(0.3, 1.0)), 1.0)), 12)
    0.3
    """
    return float(-ndtri(2.0 * ndtr(-spread / scale)))


def hyperparameters(coordinate: Array) -> Array:
    """m_x, s_x, m_h, s_h from four coordinates that are standard normal before the data."""
    z = np.clip(coordinate, -8.0, 8.0)
    return np.stack(
        [
            log_ndtr(z[:, 0]) - log_ndtr(-z[:, 0]),
            spread_of(z[:, 1], ONSET_SPREAD),
            z[:, 2],
            spread_of(z[:, 3], HALF_TIME_SPREAD),
        ],
        axis=1,
    )


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
        at = np.stack([self.interpolated(one) for one in likelihood])
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

    def interpolated(self, likelihood: Array) -> Array:
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
        log_share = np.stack([self._varying(self.interpolated(one))[0] for one in likelihood])
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
            fine = self.interpolated(one)
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
        fine = self.interpolated(likelihood)
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
