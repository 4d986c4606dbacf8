"""Evidence of each hypothesis about a population, and joint draws of population and members.

What lives here: adaptive importance sampling over the population's onset and half-time, centre and
spread of each, for all hypotheses at once, and drawing every member given the population. Plain
arrays only. What does not: the model (`population`), the sum over kappa (`orders`),
labels.

The proposal is a mixture of Student distributions, one a hypothesis, fitted in a few rounds of
which the early ones are tempered. The last round draws from the whole mixture by Sobol points, and
each hypothesis weighs all of them: evidences then share what noise there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from scipy.special import gammaln, logsumexp, ndtri

from emergence_stats.population.orders import Orders
from emergence_stats.population.population import (
    HALF_TIME_SPREAD,
    HYPOTHESES,
    KAPPA_OFFSET,
    ONSET_SPREAD,
    Members,
    cell_terms,
    hyperparameters,
    member_log_likelihood,
    spread_coordinate,
)

Array = np.ndarray

DEGREES = 5.0
NUM_ADAPT, MAX_ROUNDS = 384, 20
NUM_POINTS = 1536
NUM_DRAWS = 1000
# Draws over which the cells that carry a member's likelihood are counted.
NUM_COUNTED = 64
# Rounds of adaptation stop at this share of effective draws, and from the tenth on at half of it:
# onsets that are all the same, a needle among populations, take a dozen.
GOOD_SHARE = 0.4


@dataclass(frozen=True)
class PopulationPosterior:
    """Evidence of each hypothesis and joint draws of population and members.

    Attributes
    ----------
    log_evidence, error, effective_size : ndarray, shape (hypothesis,)
        `error` is the standard error of the importance sampling, in nats.
    population : ndarray, shape (hypothesis, draw, 6)
        m_x, s_x, m_h, s_h, then mu and s of log kappa: NaN for the exponential; for the common
        exponent mu is its logarithm and s is 0.
    member : ndarray, shape (hypothesis, draw, member, 3)
        x, h, kappa.
    effective_cells : ndarray, shape (hypothesis, member)
        How many cells of a member's likelihood carry its part of the answer, on average. Near 1
        the population pulls the member to where only the tail of one cell reaches.
    """

    log_evidence: Array
    error: Array
    effective_size: Array
    population: Array
    member: Array
    effective_cells: Array


@dataclass(frozen=True)
class _Student:
    """A multivariate Student distribution."""

    mean: Array
    factor: Array

    def draw(self, uniform: Array) -> Array:
        """From uniform numbers, one column more than there are coordinates."""
        from scipy.special import gammaincinv

        dim = self.mean.size
        normal = ndtri(uniform[:, :dim])
        chi = 2.0 * gammaincinv(0.5 * DEGREES, uniform[:, dim])
        return self.mean + normal @ self.factor.T / np.sqrt(chi / DEGREES)[:, None]

    def log_density(self, point: Array) -> Array:
        dim = self.mean.size
        z = np.linalg.solve(self.factor, (point - self.mean).T)
        constant = (
            gammaln(0.5 * (DEGREES + dim))
            - gammaln(0.5 * DEGREES)
            - 0.5 * dim * np.log(DEGREES * np.pi)
            - np.log(np.abs(np.diag(self.factor))).sum()
        )
        return np.asarray(
            constant - 0.5 * (DEGREES + dim) * np.log1p((z * z).sum(axis=0) / DEGREES)
        )


def _sobol(num: int, dim: int, generator: np.random.Generator) -> Array:
    from scipy.stats import qmc

    points = qmc.Sobol(dim, rng=generator).random(num)
    return np.clip(points, 1e-12, 1.0 - 1e-12)


def _temper(log_weight: Array, least: float) -> Array:
    """Normalised weights, raised to the highest power up to 1 that leaves `least` effective."""
    power = 1.0
    while True:
        weight = np.exp(power * (log_weight - log_weight.max()))
        weight /= weight.sum()
        if 1.0 / (weight @ weight) >= least or power < 1e-6:
            return weight
        power *= 0.7


def _fit(point: Array, weight: Array) -> _Student:
    mean = weight @ point
    away = point - mean
    covariance = (away * weight[:, None]).T @ away
    # A proposal too wide costs little, one too narrow leaves a few draws with all the weight.
    covariance = 1.2 * covariance + np.diag(1e-3 * np.diag(covariance) + 1e-10)
    return _Student(mean, np.linalg.cholesky(covariance))


def _start(members: Members) -> _Student:
    """Around the spread of the members' own means, wide."""
    flat = members.log_mass.reshape(len(members.log_mass), -1)
    weight = np.exp(flat - flat.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    own = np.einsum("ij,ijd->id", weight, members.mean.reshape(*flat.shape, 2))
    centre, spread = own.mean(axis=0), own.std(axis=0) + 1e-3
    number = len(own)
    share = 1.0 / (1.0 + np.exp(-centre[0]))
    mean = [
        ndtri(share),
        spread_coordinate(spread[0], ONSET_SPREAD),
        centre[1],
        spread_coordinate(spread[1], HALF_TIME_SPREAD),
    ]
    location = 1.5 * spread / np.sqrt(number) + 0.02
    factor = np.diag([location[0], 0.7, location[1], 0.7])
    return _Student(np.clip(mean, -5.0, 5.0), factor)


def infer_population(
    members: Members, *, seed: int = 0, report: Callable[[int], None] | None = None
) -> PopulationPosterior:
    """Integrates over everything the members have in common, for each hypothesis.

    Parameters
    ----------
    members : Members
    seed : int
    report : callable, optional
        Called with the share of the work just done, in percent.

    Returns
    -------
    PopulationPosterior
    """
    generator = np.random.default_rng(seed)
    tell = report or (lambda share: None)
    start = _start(members)
    likelihood, _ = member_log_likelihood(members, hyperparameters(start.mean[None]))
    orders = Orders(members.kappa, likelihood)
    proposals = [start]
    for level in range(MAX_ROUNDS):
        point, log_proposal = _propose(proposals, NUM_ADAPT, generator)
        log_target, likelihood = _targets(members, orders, point)
        log_weight = log_target - log_proposal[:, None]
        weights = [_temper(column, NUM_ADAPT / 8) for column in log_weight.T]
        proposals = [_fit(point, weight) for weight in weights]
        if level in (1, 3, 6, 9, MAX_ROUNDS - 1):
            # The grids of mu, s and kappa follow where the mass is now known to be.
            best = np.argsort(weights[2])[-8:]
            orders = Orders(members.kappa, likelihood[best])
        plain = [_temper(column, 0.0) for column in log_weight.T]
        tell(5)
        wanted = GOOD_SHARE * NUM_ADAPT * (1.0 if level < 9 else 0.5)
        if level >= 3 and min(1.0 / (w @ w) for w in plain) > wanted:
            break
    point, log_proposal = _propose(proposals, NUM_POINTS, generator)
    log_target, likelihood = _targets(members, orders, point)
    tell(40)
    log_weight = log_target - log_proposal[:, None]
    total = logsumexp(log_weight, axis=0)
    weight = np.exp(log_weight - total)
    size = 1.0 / (weight**2).sum(axis=0)
    drawn = [
        _draws(members, orders, k, point, likelihood, weight[:, k], generator)
        for k in range(len(HYPOTHESES))
    ]
    return PopulationPosterior(
        log_evidence=total - np.log(len(point)),
        error=np.sqrt(np.maximum(1.0 / size - 1.0 / len(point), 0.0)),
        effective_size=size,
        population=np.stack([d[0] for d in drawn]),
        member=np.stack([d[1] for d in drawn]),
        effective_cells=np.stack([d[2] for d in drawn]),
    )


def _propose(
    proposals: list[_Student], num: int, generator: np.random.Generator
) -> tuple[Array, Array]:
    # Sobol points are evenly spread in powers of two.
    power = 1 << (num // len(proposals)).bit_length() - 1
    point = np.concatenate([p.draw(_sobol(power, p.mean.size + 1, generator)) for p in proposals])
    density = np.stack([p.log_density(point) for p in proposals])
    return point, logsumexp(density, axis=0) - np.log(len(proposals))


def _targets(members: Members, orders: Orders, point: Array) -> tuple[Array, Array]:
    """Log of likelihood times prior for each hypothesis, and the members' likelihoods."""
    likelihood, _ = member_log_likelihood(members, hyperparameters(point))
    prior = -0.5 * (point**2).sum(axis=1) - 0.5 * point.shape[1] * np.log(2.0 * np.pi)
    return orders.log_likelihood(likelihood) + prior[:, None], likelihood


def _draws(
    members: Members,
    orders: Orders,
    hypothesis: int,
    point: Array,
    likelihood: Array,
    weight: Array,
    generator: np.random.Generator,
) -> tuple[Array, Array, Array]:
    even = (np.arange(NUM_DRAWS) + generator.random()) / NUM_DRAWS
    chosen = np.searchsorted(np.cumsum(weight), even * weight.sum()).clip(max=weight.size - 1)
    # In random order, so that any part of the draws is like the whole.
    generator.shuffle(chosen)
    eta = hyperparameters(point[chosen])
    likelihood = likelihood[chosen]
    _, cells = member_log_likelihood(members, eta[:NUM_COUNTED])
    num_members = likelihood.shape[1]
    population = np.empty((NUM_DRAWS, 6))
    population[:, :4] = eta
    member = np.empty((NUM_DRAWS, num_members, 3))
    counted = np.zeros(num_members)
    place = np.log(members.kappa + KAPPA_OFFSET)
    for d in range(NUM_DRAWS):
        mu, spread, kappa = orders.draw(hypothesis, likelihood[d], generator)
        population[d, 4:] = mu, spread
        member[d, :, 2] = kappa
        # Of the two kappas of the grid beside this one, each by its nearness.
        between = np.interp(np.log(kappa + KAPPA_OFFSET), place, np.arange(place.size))
        low = np.minimum(np.floor(between).astype(int), place.size - 2)
        _draw_members(
            members.log_mass,
            members.mean,
            members.covariance,
            eta[d],
            low,
            between - low,
            generator.random((num_members, 2)),
            generator.standard_normal((num_members, 2)),
            member[d],
        )
        if d < NUM_COUNTED:
            counted += cells[d, np.arange(num_members), low]
    return population, member, counted / NUM_COUNTED


@numba.njit(cache=True)
def _draw_members(
    log_mass: Array,
    mean: Array,
    covariance: Array,
    eta: Array,
    low: Array,
    beyond: Array,
    uniform: Array,
    normal: Array,
    out: Array,
) -> None:
    """Draws x and h of each member given its kappa and its population.

    A kappa of the grid is taken, a cell there, and a place in the cell. The draw is then moved by
    as much as the mean moves from that kappa to the member's own, which lies `beyond` the lower
    neighbour by this share of their distance.
    """
    num_cells = log_mass.shape[2]
    scratch, part = np.zeros(num_cells), np.zeros(num_cells)
    cumulative = np.zeros(num_cells)
    centre, drawn = np.zeros((2, 2)), np.zeros((2, 2))
    for i in range(low.size):
        for side in range(2):
            g = low[i] + side
            cell_terms(log_mass[i, g], mean[i, g], covariance[i, g], eta, scratch, part)
            running = 0.0
            for k in range(num_cells):
                running += part[k]
                cumulative[k] = running
            target = uniform[i, 0] * running
            centre[side] = 0.0
            found = False
            before = 0.0
            for k in range(num_cells):
                share = (cumulative[k] - before) / running
                before = cumulative[k]
                if share == 0.0:
                    continue
                xx, xh, hh = covariance[i, g, k]
                wide_xx, wide_hh = xx + eta[1] * eta[1], hh + eta[3] * eta[3]
                det = wide_xx * wide_hh - xh * xh
                dx, dh = eta[0] - mean[i, g, k, 0], eta[2] - mean[i, g, k, 1]
                pull_x = (wide_hh * dx - xh * dh) / det
                pull_h = (wide_xx * dh - xh * dx) / det
                x = mean[i, g, k, 0] + xx * pull_x + xh * pull_h
                h = mean[i, g, k, 1] + xh * pull_x + hh * pull_h
                centre[side, 0] += share * x
                centre[side, 1] += share * h
                if not found and cumulative[k] >= target:
                    found = True
                    # Covariance of the cell times the population, as Gaussians.
                    var_x = xx - (xx * xx * wide_hh - 2 * xx * xh * xh + xh * xh * wide_xx) / det
                    cov = (
                        xh
                        - (xx * xh * wide_hh - xh * xh * xh - xx * xh * hh + xh * hh * wide_xx)
                        / det
                    )
                    var_h = hh - (xh * xh * wide_hh - 2 * xh * xh * hh + hh * hh * wide_xx) / det
                    first = np.sqrt(max(var_x, 1e-300))
                    cross = cov / first
                    second = np.sqrt(max(var_h - cross * cross, 0.0))
                    drawn[side, 0] = x + first * normal[i, 0]
                    drawn[side, 1] = h + cross * normal[i, 0] + second * normal[i, 1]
        side = 1 if uniform[i, 1] < beyond[i] else 0
        for a in range(2):
            own = centre[0, a] + beyond[i] * (centre[1, a] - centre[0, a])
            out[i, a] = drawn[side, a] - centre[side, a] + own
