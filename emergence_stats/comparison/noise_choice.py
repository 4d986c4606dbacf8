"""Which kind of noise does each curve have? Chosen by evidence.

What lives here: the evidence of every kind of noise on the same curves, and keeping, for each
curve, what is found under the most probable one. What does not: what is found under one kind
(`summaries`).

    p(curve | kind) = sum over families of p(family) p(curve | family, kind), kinds equally probable

First-order autoregressive noise includes independent noise as a limit, so between these two the
evidence decides whether correlations are worth believing in, not whether they can be excluded.

Every curve is first integrated coarsely under autoregressive noise. For another kind and each
family,

    p(curve | family, kind) / p(curve | family, ar1) = mean of L_kind / L_ar1

over the posterior under ar1, whose weighted points are known: `NODES` of them are taken, evenly
through the posterior with its tails brought forward, and both likelihoods L evaluated there. Where
a few points carry the mean and the kind may yet be the most probable, it is integrated in full.
Then every curve is analysed once, under its most probable kind: an average over kinds forecasts no
better, and a summary that names one kind is easier to check. How far the approximation errs is
measured by `benchmarks.accuracy.noise_choice`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from emergence_stats.comparison.summaries import (
    Summaries,
    analyse,
    in_batches,
    join,
    log_prior_of,
)
from emergence_stats.curves.families import Family
from emergence_stats.curves.priors import step_axis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.quadrature.evidence import Batch, posterior
from emergence_stats.quadrature.over_onset import Posterior

Array = np.ndarray

KINDS = ("independent", "ar1", "ou", "ou_log")
# Its posterior holds those of the others best: independent noise is a limit of it, and correlations
# that fall with distance differ from it least.
REFERENCE = KINDS.index("ar1")
# Tolerance of the integrations by which kinds are compared: ten times the usual.
COARSE = 0.3
# Points of each family's posterior, taken with probability in proportion to this power of their
# weight, so that the tails, in which another kind may have its mass, are among them.
NODES = 256
POWER = 0.7
# A kind is integrated in full where it lies no further below the best, in nats, and the relative
# error of its evidence, taken for independent draws, is above this.
REACH, UNEVEN = 6.0, 0.35


def analyse_by_evidence(
    curves: CurveArrays,
    families: Sequence[Family],
    *,
    prior_probability: Mapping[str, float],
    step_prior: str = "log",
    tolerance: float = 0.03,
    report: Callable[[int], None] | None = None,
) -> tuple[Summaries, Array, Array]:
    """What `summaries.analyse` finds under the most probable kind of noise.

    Returns
    -------
    Summaries
    kind : ndarray of str, shape (curve,)
    probability : ndarray, shape (curve, kind)
        In the order of `KINDS`.
    """
    kinds, probability = choose_noise(
        curves, families, prior_probability=prior_probability, step_prior=step_prior
    )
    indices: list[Array] = []
    parts: list[Summaries] = []
    for kind in np.unique(kinds):
        index = np.flatnonzero(kinds == kind)
        indices.append(index)
        parts.append(
            analyse(
                curves.take(index),
                families,
                prior_probability=prior_probability,
                noise=str(kind),
                step_prior=step_prior,
                tolerance=tolerance,
                report=report,
            )
        )
    return join(indices, parts), kinds, probability


def choose_noise(
    curves: CurveArrays,
    families: Sequence[Family],
    *,
    prior_probability: Mapping[str, float],
    step_prior: str = "log",
) -> tuple[Array, Array]:
    """The most probable kind of noise of each curve, and every kind's probability.

    Returns
    -------
    kind : ndarray of str, shape (curve,)
    probability : ndarray, shape (curve, kind)
        In the order of `KINDS`.
    """
    log_prior = log_prior_of(families, prior_probability)
    score = np.empty((curves.num_points.size, len(KINDS)))
    for index, own in in_batches(
        curves, lambda part: _scored(part, families, log_prior, step_prior)
    ):
        score[index] = own
    return np.array(KINDS)[_best(score)], _probability(score)


def _best(score: Array) -> Array:
    """Of equal kinds, as two are where steps are even, the first."""
    return np.argmax(score >= score.max(axis=1, keepdims=True) - 1e-6, axis=1)


def _probability(score: Array) -> Array:
    probability = np.exp(score - score.max(axis=1, keepdims=True))
    return probability / probability.sum(axis=1, keepdims=True)


def _scored(
    part: CurveArrays,
    families: Sequence[Family],
    log_prior: Array,
    step_prior: str,
) -> Array:
    """Log evidence over all families, shape (curve, kind)."""
    axis = step_axis(part, step_prior)
    batch = Batch(part, axis, KINDS[REFERENCE])
    posteriors = [posterior(family, batch, COARSE) for family in families]
    score = np.empty((part.num_points.size, len(KINDS)))
    error = np.zeros_like(score)
    score[:, REFERENCE] = _total([p.log_integral for p in posteriors], log_prior)
    nodes = [
        _Nodes.of(batch, family, found) if family.emerges else None
        for family, found in zip(families, posteriors, strict=True)
    ]
    for k, kind in enumerate(KINDS):
        if k == REFERENCE:
            continue
        other = Batch(part, axis, kind)
        # Correlated noise on even steps is the reference itself.
        fresh = np.flatnonzero(~(other.gap == 1.0).all(axis=1) | (not other.correlated))
        score[:, k] = score[:, REFERENCE]
        if not fresh.size:
            continue
        log_evidence = np.empty((len(families), fresh.size))
        uneven = np.zeros_like(log_evidence)
        for f, (family, found) in enumerate(zip(families, posteriors, strict=True)):
            own = nodes[f]
            if own is None:
                none = np.zeros((fresh.size, 0))
                nothing = np.full(fresh.size, -np.inf)
                log_evidence[f] = other.log_likelihood(family)(fresh, none, nothing)
            else:
                ratio, uneven[f] = own.ratio(other, family, fresh)
                log_evidence[f] = found.log_integral[fresh] + ratio
        score[fresh, k] = _total(log_evidence, log_prior)
        share = np.exp(log_evidence + log_prior[:, None] - score[fresh, k])
        error[fresh, k] = np.sqrt((share**2 * uneven).sum(axis=0))
    best = score.max(axis=1, keepdims=True)
    doubtful = (error > UNEVEN) & (score > best - REACH)
    for k, kind in enumerate(KINDS):
        rows = np.flatnonzero(doubtful[:, k])
        if rows.size:
            again = Batch(part.take(rows), axis.take(rows), kind)
            full = [posterior(family, again, COARSE).log_integral for family in families]
            score[rows, k] = _total(full, log_prior)
    return score


def _total(log_evidence: Sequence[Array] | Array, log_prior: Array) -> Array:
    """Log evidence over all families, by curve; the first axis is the family."""
    return np.logaddexp.reduce(np.asarray(log_evidence) + log_prior[:, None], axis=0)


class _Nodes:
    """Some points of one family's posterior, as many for every curve.

    Attributes
    ----------
    z : ndarray, shape (curve, node, coordinate)
    log_weight : ndarray, shape (curve, node)
        What each stands for, in logarithms that add up to 0.
    log_likelihood : ndarray, shape (curve, node)
        Under the reference.
    """

    def __init__(self, z: Array, log_weight: Array, log_likelihood: Array) -> None:
        self.z, self.log_weight, self.log_likelihood = z, log_weight, log_likelihood

    @classmethod
    def of(cls, batch: Batch, family: Family, found: Posterior) -> _Nodes:
        """Evenly through the posterior, in the order of its points."""
        first, last = found.start[:-1], found.start[1:]
        cumulative = np.r_[0.0, np.cumsum(found.weight**POWER)]
        span = cumulative[last] - cumulative[first]
        wanted = cumulative[first][:, None] + (np.arange(NODES) + 0.5) / NODES * span[:, None]
        rows = np.searchsorted(cumulative, wanted.ravel(), side="right") - 1
        rows = np.clip(rows, np.repeat(first, NODES), np.repeat(last - 1, NODES))
        log_weight = (1.0 - POWER) * np.log(found.weight[rows]).reshape(-1, NODES)
        log_weight -= np.logaddexp.reduce(log_weight, axis=1)[:, None]
        z, who = found.z[rows], found.curve[rows]
        value = batch.log_likelihood(family)(who, z, np.full(who.size, -np.inf))
        return cls(z.reshape(-1, NODES, z.shape[1]), log_weight, value.reshape(-1, NODES))

    def ratio(self, other: Batch, family: Family, curves: Array) -> tuple[Array, Array]:
        """Log of the mean ratio of likelihoods on these curves, and the square of its relative
        error if the points were independent draws.
        """
        who = np.repeat(curves, NODES)
        z = self.z[curves].reshape(who.size, -1)
        value = other.log_likelihood(family)(who, z, np.full(who.size, -np.inf))
        log_term = self.log_weight[curves] + value.reshape(-1, NODES) - self.log_likelihood[curves]
        total = np.logaddexp.reduce(log_term, axis=1)
        share = np.exp(log_term - total[:, None])
        return total, (share**2).sum(axis=1)
