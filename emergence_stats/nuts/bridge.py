"""Log evidence from posterior draws, by bridge sampling.

What lives here: the estimate and its Monte Carlo error, on plain arrays. What does not: the draws
(`sampling`) and the density they are from (`models`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from emergence_stats.errors import InputError

Array = np.ndarray

MAX_ITERATIONS = 1000
COMPONENTS = (1, 3, 6)
_RIDGE = 1e-9


@dataclass(frozen=True)
class Bridge:
    """What bridge sampling says.

    Attributes
    ----------
    log_evidence : float
    error : float
        Standard error of the log evidence, the draws' autocorrelation taken into account.
    half_difference : float
        How far the estimates from the two halves of the draws lie apart.
    """

    log_evidence: float
    error: float
    half_difference: float


def bridge_sample(draws: Array, log_density: Callable[[Array], Array], *, seed: int = 0) -> Bridge:
    """What is the integral of this density, given draws from it?

    Meng and Wong's optimal bridge, iterated. The proposal is a mixture of normal distributions
    fitted to one half of the draws and evaluated on the other, so that skew, ridges and several
    modes are met; then the halves change places and the two estimates are averaged.

    Parameters
    ----------
    draws : ndarray, shape (chain, draw, coordinate)
        At least 50 draws a chain, on the whole real space.
    log_density : callable
        (point, coordinate) to (point,), not normalised.
    seed : int

    Returns
    -------
    Bridge

    Raises
    ------
    InputError
        If there are too few draws, or some are not finite.

    References
    ----------
    Meng and Wong (1996), Statistica Sinica 6, 831. Fruehwirth-Schnatter (2004), Econometrics
    Journal 7, 143 (error). Gronau et al. (2017), Journal of Mathematical Psychology 81, 80.

    Examples
    --------
    >>> draws = np.random.default_rng(0).normal(size=(4, 500, 1))
    >>> result = bridge_sample(draws, lambda x: -0.5 * x[:, 0] ** 2)
    >>> bool(abs(result.log_evidence - 0.5 * np.log(2 * np.pi)) < 4 * result.error)
    True
    """
    draws = np.asarray(draws, dtype=float)
    if draws.ndim != 3 or draws.shape[1] < 50 or draws.shape[2] < 1:
        raise InputError(
            f"draws: shape {draws.shape}; give (chain, draw, coordinate) with 50 draws or more"
        )
    if not np.isfinite(draws).all():
        raise InputError("draws: some are not finite; leave those chains out")
    generator = np.random.default_rng(seed)
    half = draws.shape[1] // 2
    first, second = draws[:, :half], draws[:, half:]
    one = _one_way(first, second, log_density, generator)
    two = _one_way(second, first, log_density, generator)
    return Bridge(
        0.5 * (one[0] + two[0]), 0.5 * float(np.sqrt(one[1] + two[1])), abs(one[0] - two[0])
    )


def _one_way(
    fitted: Array,
    used: Array,
    log_density: Callable[[Array], Array],
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Log evidence and its relative variance, the proposal from one part and the rest the other."""
    dimension = used.shape[2]
    proposal = _fit_mixture(fitted.reshape(-1, dimension), generator)
    points = used.reshape(-1, dimension)
    proposed = proposal.draw(len(points), generator)
    target_here, target_there = log_density(points), log_density(proposed)
    if not np.isfinite(target_here).all():
        raise InputError("log_density: not finite at some of the draws it is said to be of")
    here = target_here - proposal.log_density(points)
    there = target_there - proposal.log_density(proposed)
    num_proposed = len(proposed)
    effective = _effective(used, here)
    log_s1 = np.log(effective / (effective + num_proposed))
    log_s2 = np.log(num_proposed / (effective + num_proposed))
    value = float(np.median(here))
    for _ in range(MAX_ITERATIONS):
        top = logsumexp(there - np.logaddexp(log_s1 + there, log_s2 + value)) - np.log(num_proposed)
        bottom = logsumexp(-np.logaddexp(log_s1 + here, log_s2 + value)) - np.log(len(points))
        new = float(top - bottom)
        if abs(new - value) < 1e-10:
            break
        value = new
    # Both ratios relative to their means; the first of independent points, the second of draws.
    f1 = np.exp(there - np.logaddexp(log_s1 + there, log_s2 + value))
    f2 = np.exp(-np.logaddexp(log_s1 + here, log_s2 + value) + value)
    if f1.mean() == 0.0 or f2.mean() == 0.0:
        # Not one proposal where the density is: nothing was learnt.
        return value, float("inf")
    variance = f1.var() / f1.mean() ** 2 / num_proposed
    variance += f2.var() / f2.mean() ** 2 / _effective(used, f2)
    return value, float(variance)


def _effective(used: Array, values: Array) -> float:
    """Effective number of these values, one for each draw."""
    import arviz as az

    folded = values.reshape(used.shape[:2])
    if np.ptp(folded) < 1e-12 * max(1.0, float(np.abs(folded).max())):
        return float(folded.size)
    tree = az.from_dict({"posterior": {"value": folded}})
    return float(np.clip(az.ess(tree, method="mean")["value"].item(), 4.0, folded.size))


@dataclass(frozen=True)
class _Mixture:
    log_share: Array
    mean: Array
    root: Array

    def log_density(self, x: Array) -> Array:
        return logsumexp(self.each(x), axis=1)

    def each(self, x: Array) -> Array:
        out = np.empty((len(x), self.log_share.size))
        for k, (mean, root) in enumerate(zip(self.mean, self.root, strict=True)):
            away = np.linalg.solve(root, (x - mean).T)
            out[:, k] = -0.5 * (away**2).sum(axis=0) - np.log(np.diag(root)).sum()
        return out + self.log_share - 0.5 * x.shape[1] * np.log(2.0 * np.pi)

    def draw(self, number: int, generator: np.random.Generator) -> Array:
        which = generator.choice(self.log_share.size, number, p=np.exp(self.log_share))
        noise = generator.normal(size=(number, self.mean.shape[1]))
        return self.mean[which] + np.einsum("nij,nj->ni", self.root[which], noise)


def _fit_mixture(x: Array, generator: np.random.Generator) -> _Mixture:
    """By expectation maximisation on two thirds; the number of components by the last third."""
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-12
    scaled = (x - centre) / spread
    order = generator.permutation(len(x))
    fitted, held = scaled[order[: 2 * len(x) // 3]], scaled[order[2 * len(x) // 3 :]]
    best, best_score = None, -np.inf
    for number in COMPONENTS:
        if len(fitted) < 20 * number * x.shape[1]:
            continue
        mixture = _expectation_maximisation(fitted, number, generator)
        score = float(mixture.log_density(held).mean())
        if best is None or score > best_score + 0.005:
            best, best_score = mixture, score
    if best is None:
        best = _expectation_maximisation(fitted, 1, generator)
    return _Mixture(best.log_share, centre + spread * best.mean, spread[:, None] * best.root)


def _expectation_maximisation(x: Array, number: int, generator: np.random.Generator) -> _Mixture:
    dimension = x.shape[1]
    mean = x[generator.choice(len(x), number, replace=False)] if number > 1 else x.mean(0)[None]
    whole = np.cov(x.T).reshape(dimension, -1)
    mixture = _Mixture(
        np.full(number, -np.log(number)),
        mean,
        np.repeat(np.linalg.cholesky(whole + _RIDGE * np.eye(dimension))[None], number, axis=0),
    )
    for _ in range(1 if number == 1 else 60):
        each = mixture.each(x)
        share = np.exp(each - logsumexp(each, axis=1, keepdims=True))
        total = share.sum(axis=0) + 1e-6
        mean = share.T @ x / total[:, None]
        root = np.empty((number, dimension, dimension))
        for k in range(number):
            away = x - mean[k]
            # A few draws' worth of the whole keeps a component from collapsing.
            covariance = ((share[:, k, None] * away).T @ away + 2.0 * np.eye(dimension) * 0.05) / (
                total[k] + 2.0
            )
            root[k] = np.linalg.cholesky(covariance + _RIDGE * np.eye(dimension))
        mixture = _Mixture(np.log(total / total.sum()), mean, root)
    return mixture
