"""What is said of each curve once its posteriors are known: numbers of fixed size.

What lives here: running every family over many curves on the processor's cores with bounded memory,
and reducing the posteriors to probabilities, quantiles, the onset's density, draws and the misfit
alarm. `compare` and `onset` both read these numbers, so the two never disagree. What does not:
labels, verdicts, pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from emergence_stats.checks import QUANTILES
from emergence_stats.comparison.misfit import measure_residuals, misfit_p_values
from emergence_stats.curves.families import LAWS, Family, nonlinear_names
from emergence_stats.curves.priors import step_axis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.quadrature.evidence import LINEAR_PARAMETERS, Batch, posterior
from emergence_stats.quadrature.over_onset import Posterior

Array = np.ndarray

ONSET_POINTS = 257
NUM_DRAWS = 256
NUM_FLAT_DRAWS = 64
BATCH_SIZE = 96
QUANTITIES = (
    "half_time",
    "timescale",
    "time_to_99_percent",
    "fraction_complete",
    "amplitude",
    "baseline",
    "plateau",
)


@dataclass(frozen=True)
class Summaries:
    """What is kept of each curve; the first axis of every array is the curve.

    Attributes
    ----------
    log_evidence, log_evidence_error, probability, num_nodes : ndarray, shape (curve, family)
    quantity : ndarray, shape (curve, name, quantile)
        The names in `QUANTITIES`, averaged over the emerging families that define them.
    kappa : ndarray, shape (curve, quantile)
        From the power law alone; NaN where it was not asked for.
    rising : ndarray, shape (curve,)
        Probability that the amplitude is positive, given that something emerges.
    onset_step, onset_density, onset_cumulative : ndarray, shape (curve, ONSET_POINTS)
        Given that there is an onset; the density is per step.
    draw : ndarray, shape (curve, draw, parameter)
        The families' nonlinear parameters by name (NaN where a family has none of it), then
        `LINEAR_PARAMETERS`.
    draw_family : ndarray of int, shape (curve, draw)
    draw_weight : ndarray, shape (curve, draw)
        Sums to 1; the share of flat draws is the probability of no emergence.
    residual : ndarray, shape (curve, 3)
        See `misfit.measure_residuals`.
    misfit_p_value : ndarray, shape (curve,)
    """

    log_evidence: Array
    log_evidence_error: Array
    probability: Array
    num_nodes: Array
    quantity: Array
    kappa: Array
    rising: Array
    onset_step: Array
    onset_density: Array
    onset_cumulative: Array
    draw: Array
    draw_family: Array
    draw_weight: Array
    residual: Array
    misfit_p_value: Array


def analyse(
    curves: CurveArrays,
    families: Sequence[Family],
    *,
    prior_probability: Mapping[str, float],
    noise: str = "ar1",
    step_prior: str = "log",
    tolerance: float = 0.03,
    report: Callable[[int], None] | None = None,
) -> Summaries:
    """Evidences and summaries of every curve, deterministic, with memory bounded by the batch.

    Parameters
    ----------
    curves : CurveArrays
    families : sequence of Family
        The first is "flat".
    prior_probability : mapping of family name to probability
    noise : {"ar1", "independent", "ou", "ou_log"}
    step_prior : {"log", "linear"}
    tolerance : float
        See `over_onset.integrate_over_onset`.
    report : callable, optional
        Called with the number of curves just finished.

    Returns
    -------
    Summaries
    """
    log_prior = log_prior_of(families, prior_probability)

    def run(part: CurveArrays) -> Summaries:
        batch = Batch(part, step_axis(part, step_prior), noise)
        posteriors = [posterior(family, batch, tolerance) for family in families]
        found = summarise(batch, families, posteriors, log_prior)
        if report is not None:
            report(part.num_points.size)
        return found

    found = in_batches(curves, run)
    return join([index for index, _ in found], [part for _, part in found])


def log_prior_of(families: Sequence[Family], prior_probability: Mapping[str, float]) -> Array:
    """Log prior probabilities of the families, in their order."""
    with np.errstate(divide="ignore"):
        return np.log([prior_probability[family.name] for family in families])


def in_batches[Found](
    curves: CurveArrays, work: Callable[[CurveArrays], Found]
) -> list[tuple[Array, Found]]:
    """What `work` finds of curves of like length, on all cores, and which curves these are."""
    # Of like length, so that padding is short.
    order = np.argsort(curves.num_points, kind="stable")
    workers = os.cpu_count() or 1
    size = max(1, min(BATCH_SIZE, -(-order.size // workers)))
    batches = [order[low : low + size] for low in range(0, order.size, size)]

    def run(index: Array) -> tuple[Array, Found]:
        # Floating-point warnings are a matter of each thread; the tails underflow by design.
        with np.errstate(under="ignore", over="ignore"):
            return index, work(curves.take(index))

    if len(batches) > 1 and workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(run, batches))
    return [run(index) for index in batches]


def join(indices: Sequence[Array], parts: Sequence[Summaries]) -> Summaries:
    """Parts of one set of curves as one, in the order of these indices."""
    back = np.argsort(np.concatenate(indices), kind="stable")
    return Summaries(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])[back]
            for field in fields(Summaries)
        }
    )


def weighted_quantile(values: Array, weights: Array, shares: Sequence[float]) -> Array:
    """Quantiles of weighted points, each point's mass spread half way to its neighbours.

    Examples
    --------
    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.ones(3) / 3, [0.5])
    array([2.])
    """
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    return np.interp(shares, np.cumsum(weights) - 0.5 * weights, values)


def summarise(
    batch: Batch,
    families: Sequence[Family],
    posteriors: Sequence[Posterior],
    log_prior: Array,
    misfit: Callable[[Array], Array] | None = None,
) -> Summaries:
    """A batch's summaries from every family's posterior, whichever way that was found.

    `misfit` gives each curve's p-value from the families' probabilities where the alarms of
    `misfit_p_values` are not for its noise.
    """
    log_evidence = np.stack([p.log_integral for p in posteriors], axis=1)
    score = log_evidence + log_prior
    probability = np.exp(score - score.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    # Relative weights of the emerging families, also where all are hopeless beside flat.
    among = np.exp(score[:, 1:] - score[:, 1:].max(axis=1, keepdims=True))
    among /= among.sum(axis=1, keepdims=True)
    draw, draw_family = _draws(batch, families, posteriors, among)
    flat = probability[:, :1]
    num_curves = len(flat)
    is_flat = draw_family[0] == 0
    weight = np.where(is_flat, flat / is_flat.sum(), (1.0 - flat) / (~is_flat).sum())
    keep = np.r_[0:NUM_DRAWS, NUM_DRAWS : NUM_DRAWS + NUM_FLAT_DRAWS]
    kept_weight = np.where(is_flat[keep], flat / NUM_FLAT_DRAWS, (1.0 - flat) / NUM_DRAWS)
    quantity, kappa = _quantities(batch, families, posteriors, among, draw[:, ~is_flat])
    onset = [_onset(batch, posteriors, among[c], c) for c in range(num_curves)]
    amplitude = draw[:, ~is_flat, draw.shape[2] - len(LINEAR_PARAMETERS) + 1]
    return Summaries(
        log_evidence=log_evidence,
        log_evidence_error=np.stack([p.error for p in posteriors], axis=1),
        probability=probability,
        num_nodes=np.stack([p.num_evaluated for p in posteriors], axis=1),
        quantity=quantity,
        kappa=kappa,
        rising=(amplitude > 0).mean(axis=1),
        onset_step=np.stack([o[0] for o in onset]),
        onset_density=np.stack([o[1] for o in onset]),
        onset_cumulative=np.stack([o[2] for o in onset]),
        draw=draw[:, keep],
        draw_family=draw_family[:, keep],
        draw_weight=kept_weight,
        residual=measure_residuals(batch, families, draw, draw_family, weight),
        misfit_p_value=(
            misfit_p_values(batch, families, draw, draw_family, weight)
            if misfit is None
            else misfit(probability)
        ),
    )


@lru_cache(maxsize=4)
def _points(num_points: int) -> Array:
    """Evenly spread points in five dimensions; the last two made normal."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    points = qmc.Sobol(5, rng=20_230_817).random(num_points)
    points[:, 3:] = ndtri(points[:, 3:])
    return points


def _draws(
    batch: Batch,
    families: Sequence[Family],
    posteriors: Sequence[Posterior],
    among: Array,
) -> tuple[Array, Array]:
    """NUM_DRAWS of the emerging families by their weights, then as many of flat."""
    names = nonlinear_names(families)
    num_curves = len(among)
    points = _points(NUM_DRAWS)
    draw = np.full((num_curves, 2 * NUM_DRAWS, len(names) + len(LINEAR_PARAMETERS)), np.nan)
    owner = np.zeros((num_curves, 2 * NUM_DRAWS), dtype=np.int64)
    node = np.zeros((num_curves, NUM_DRAWS), dtype=np.int64)
    for c in range(num_curves):
        weights = [
            posteriors[f + 1].weight[posteriors[f + 1].start[c] : posteriors[f + 1].start[c + 1]]
            * among[c, f]
            for f in range(among.shape[1])
        ]
        cumulative = np.cumsum(np.concatenate(weights))
        chosen = np.searchsorted(cumulative, points[:, 0] * cumulative[-1])
        ends = np.cumsum([w.size for w in weights])
        family = np.searchsorted(ends, chosen, side="right")
        owner[c, :NUM_DRAWS] = family + 1
        first = np.r_[0, ends[:-1]][family]
        starts = np.array([posteriors[f + 1].start[c] for f in range(among.shape[1])])
        node[c] = chosen - first + starts[family]
    for f, family in enumerate(families):
        if family.emerges:
            who, which = np.nonzero(owner[:, :NUM_DRAWS] == f)
            z = posteriors[f].z[node[who, which]]
            for value, parameter in zip(
                batch.parameters(family, who, z), family.parameters, strict=True
            ):
                draw[who, which, names.index(parameter.name)] = value
        else:
            who, which = np.divmod(np.arange(num_curves * NUM_DRAWS), NUM_DRAWS)
            z = np.zeros((who.size, 0))
        random = np.ascontiguousarray(points[which, 1:])
        column = which + (0 if family.emerges else NUM_DRAWS)
        draw[who, column, len(names) :] = batch.draw_linear(family, who, z, random)
    return draw, owner


def _quantities(
    batch: Batch,
    families: Sequence[Family],
    posteriors: Sequence[Posterior],
    among: Array,
    draw: Array,
) -> tuple[Array, Array]:
    num_curves = len(among)
    quantity = np.full((num_curves, len(QUANTITIES), len(QUANTILES)), np.nan)
    kappa = np.full((num_curves, len(QUANTILES)), np.nan)
    columns: list[dict[str, Array]] = []
    last = np.arange(num_curves), batch.curves.num_points - 1
    last_step = batch.curves.step[last]
    for family, found in zip(families, posteriors, strict=True):
        if not family.emerges:
            continue
        assert family.shape is not None
        values = batch.parameters(family, found.curve, found.z)
        named = {p.name: v for p, v in zip(family.parameters, values, strict=True)}
        if family.derived is not None:
            named |= family.derived(*values)
        named["fraction_complete"] = family.shape(last_step[found.curve], *values)
        columns.append(named)
        if family.name in [power_law for _, power_law in LAWS]:
            for c in range(num_curves):
                part = slice(found.start[c], found.start[c + 1])
                kappa[c] = weighted_quantile(named["kappa"][part], found.weight[part], QUANTILES)
    for k, name in enumerate(QUANTITIES[:4]):
        having = [f for f, named in enumerate(columns) if name in named]
        if not having:
            continue
        for c in range(num_curves):
            value, weight = [], []
            for f in having:
                found = posteriors[f + 1]
                part = slice(found.start[c], found.start[c + 1])
                value.append(columns[f][name][part])
                weight.append(found.weight[part] * among[c, f])
            total = np.concatenate(weight)
            if total.sum() > 0:
                quantity[c, k] = weighted_quantile(
                    np.concatenate(value), total / total.sum(), QUANTILES
                )
    first = draw.shape[2] - len(LINEAR_PARAMETERS)
    baseline, amplitude = draw[:, :, first], draw[:, :, first + 1]
    for k, linear in enumerate((amplitude, baseline, baseline + amplitude), start=4):
        quantity[:, k] = np.quantile(linear, QUANTILES, axis=1).T
    return quantity, kappa


def _onset(
    batch: Batch, posteriors: Sequence[Posterior], among: Array, c: int
) -> tuple[Array, Array, Array]:
    """Density of the onset on points dense where the posterior or the prior is."""
    from scipy.interpolate import PchipInterpolator

    marginals = [
        (*p.onset_marginal(c), share)
        for p, share in zip(posteriors[1:], among, strict=True)
        if share > 1e-6
    ]
    tried = np.unique(np.concatenate([position for position, _, _ in marginals]))
    # Eight pieces between neighbouring positions tried.
    pieces = np.linspace(tried[:-1], tried[1:], 8, endpoint=False).T.ravel()
    position = np.append(pieces, tried[-1])
    density = np.zeros(position.size)
    for at, log_density, share in marginals:
        log_density = np.maximum(log_density - log_density.max(), -60.0)
        shape = np.exp(PchipInterpolator(at, log_density)(position))
        density += share * shape / np.trapezoid(shape, position)
    pieces = 0.5 * (density[1:] + density[:-1]) * np.diff(position)
    cumulative = np.concatenate([[0.0], np.cumsum(pieces)])
    density /= cumulative[-1]
    cumulative /= cumulative[-1]
    # At checkpoints the density has kinks or jumps, so the likeliest of them are among the points.
    # Of the others half follow the posterior, half the axis.
    axis = batch.axis.take(np.full(ONSET_POINTS, c))
    own = batch.curves.step[c, 1 : batch.curves.num_points[c] - 1]
    own = axis.take(np.zeros(own.size, dtype=np.int64)).step_to_position(own)
    if own.size > ONSET_POINTS // 2:
        likely = np.argsort(-np.interp(own, position, density), kind="stable")
        own = own[likely[: ONSET_POINTS // 2]]
    blend = 0.5 * cumulative + 0.5 * position
    even = np.linspace(0.0, 1.0, ONSET_POINTS - own.size)
    chosen = np.sort(np.r_[np.interp(even, blend, position), own])
    step = axis.position_to_step(chosen)
    per_step = np.interp(chosen, position, density) * axis.step_density(step)
    return step, per_step, np.interp(chosen, position, cumulative)
