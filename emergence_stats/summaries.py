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

import numba
import numpy as np

from emergence_stats.evidence import LINEAR_PARAMETERS, Batch, CurveArrays, posterior, step_axis
from emergence_stats.quadrature import LatticePosterior
from emergence_stats.families import Family

Array = np.ndarray

QUANTILES = (0.055, 0.5, 0.945)
ONSET_POINTS = 257
NUM_DRAWS = 256
NUM_FLAT_DRAWS = 64
BATCH_SIZE = 48
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
    misfit_p_value: Array


def nonlinear_names(families: Sequence[Family]) -> tuple[str, ...]:
    """Every nonlinear parameter of these families, once each.

    Examples
    --------
    >>> from emergence_stats.families import resolve_families
    >>> nonlinear_names(resolve_families(["exponential", "power_law"]))
    ('onset', 'half_time', 'kappa')
    """
    return tuple(dict.fromkeys(p.name for family in families for p in family.parameters))


def analyse(
    curves: CurveArrays,
    families: Sequence[Family],
    *,
    prior_probability: Mapping[str, float],
    noise: str = "ar1",
    step_prior: str = "log",
    tolerance: float = 0.01,
    report: Callable[[int], None] | None = None,
) -> Summaries:
    """Evidences and summaries of every curve, deterministic, with memory bounded by the batch.

    Parameters
    ----------
    curves : CurveArrays
    families : sequence of Family
        The first is "flat".
    prior_probability : mapping of family name to probability
    noise : {"ar1", "independent"}
    step_prior : {"log", "linear"}
    tolerance : float
        See `quadrature.integrate`.
    report : callable, optional
        Called with the number of curves just finished.

    Returns
    -------
    Summaries
    """
    with np.errstate(divide="ignore"):
        log_prior = np.log([prior_probability[family.name] for family in families])
    # Curves of like length share a batch, so that padding is short.
    order = np.argsort(curves.num_points, kind="stable")
    workers = os.cpu_count() or 1
    size = max(1, min(BATCH_SIZE, -(-order.size // workers)))
    batches = [order[low : low + size] for low in range(0, order.size, size)]

    def run(index: Array) -> Summaries:
        part = curves.take(index)
        batch = Batch(part, step_axis(part, step_prior), noise)
        # Floating-point warnings are a matter of each thread; the tails underflow by design.
        with np.errstate(under="ignore", over="ignore"):
            posteriors = [posterior(family, batch, tolerance) for family in families]
            summaries = _reduce(batch, families, posteriors, log_prior)
        if report is not None:
            report(index.size)
        return summaries

    if len(batches) > 1 and workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(run, batches))
    else:
        parts = [run(index) for index in batches]
    back = np.argsort(order, kind="stable")
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


def _reduce(
    batch: Batch,
    families: Sequence[Family],
    posteriors: Sequence[LatticePosterior],
    log_prior: Array,
) -> Summaries:
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
    kept_weight = np.where(
        is_flat[keep], flat / NUM_FLAT_DRAWS, (1.0 - flat) / NUM_DRAWS
    )
    quantity, kappa = _quantities(batch, families, posteriors, among, draw[:, ~is_flat])
    onset = [_onset(batch, families, posteriors, among[c], c) for c in range(num_curves)]
    amplitude = draw[:, ~is_flat, draw.shape[2] - 3]
    return Summaries(
        log_evidence=log_evidence,
        log_evidence_error=np.stack([p.error for p in posteriors], axis=1),
        probability=probability,
        num_nodes=np.stack([np.diff(p.start) for p in posteriors], axis=1),
        quantity=quantity,
        kappa=kappa,
        rising=(amplitude > 0).mean(axis=1),
        onset_step=np.stack([o[0] for o in onset]),
        onset_density=np.stack([o[1] for o in onset]),
        onset_cumulative=np.stack([o[2] for o in onset]),
        draw=draw[:, keep],
        draw_family=draw_family[:, keep],
        draw_weight=kept_weight,
        misfit_p_value=_misfit(batch, families, draw, draw_family, weight),
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
    posteriors: Sequence[LatticePosterior],
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
    posteriors: Sequence[LatticePosterior],
    among: Array,
    draw: Array,
) -> tuple[Array, Array]:
    num_curves = len(among)
    quantity = np.full((num_curves, len(QUANTITIES), len(QUANTILES)), np.nan)
    kappa = np.full((num_curves, len(QUANTILES)), np.nan)
    columns: list[dict[str, Array]] = []
    last = np.arange(num_curves), batch.curves.num_points - 1
    last_step = batch.curves.step[last]
    for family, lattice in zip(families, posteriors, strict=True):
        if not family.emerges:
            continue
        assert family.shape is not None
        values = batch.parameters(family, lattice.curve, lattice.z)
        named = {p.name: v for p, v in zip(family.parameters, values, strict=True)}
        if family.derived is not None:
            named |= family.derived(*values)
        named["fraction_complete"] = family.shape(last_step[lattice.curve], *values)
        columns.append(named)
        if family.name == "power_law":
            for c in range(num_curves):
                part = slice(lattice.start[c], lattice.start[c + 1])
                kappa[c] = weighted_quantile(named["kappa"][part], lattice.weight[part], QUANTILES)
    for k, name in enumerate(QUANTITIES[:4]):
        having = [f for f, named in enumerate(columns) if name in named]
        if not having:
            continue
        for c in range(num_curves):
            value, weight = [], []
            for f in having:
                lattice = posteriors[f + 1]
                part = slice(lattice.start[c], lattice.start[c + 1])
                value.append(columns[f][name][part])
                weight.append(lattice.weight[part] * among[c, f])
            total = np.concatenate(weight)
            if total.sum() > 0:
                quantity[c, k] = weighted_quantile(
                    np.concatenate(value), total / total.sum(), QUANTILES
                )
    baseline, amplitude = draw[:, :, -4], draw[:, :, -3]
    for k, linear in enumerate((amplitude, baseline, baseline + amplitude), start=4):
        quantity[:, k] = np.quantile(linear, QUANTILES, axis=1).T
    return quantity, kappa


def _onset(
    batch: Batch,
    families: Sequence[Family],
    posteriors: Sequence[LatticePosterior],
    among: Array,
    c: int,
) -> tuple[Array, Array, Array]:
    """Density of the onset on points dense where the posterior or the prior is."""
    from scipy.interpolate import PchipInterpolator

    prior = families[1].parameters[0].prior
    marginals = [lattice.first_marginal(c) for lattice in posteriors[1:]]
    relevant = [
        (*m, q) for m, q in zip(marginals, among, strict=True) if q > 1e-6 or q == among.max()
    ]
    low = min(at[0] - (at[1] - at[0] if at.size > 1 else 1.0) for at, _, _ in relevant)
    high = max(at[-1] + (at[-1] - at[-2] if at.size > 1 else 1.0) for at, _, _ in relevant)
    z = np.linspace(low, high, 1601)
    density = np.zeros(z.size)
    for at, mass, share in relevant:
        if at.size < 2:
            density += share * np.interp(z, [at[0] - 1.0, at[0], at[0] + 1.0], [0.0, 1.0, 0.0])
            continue
        with np.errstate(divide="ignore"):
            log_mass = np.maximum(np.log(mass), np.log(mass.max()) - 40.0)
        inside = (z >= at[0]) & (z <= at[-1])
        density[inside] += share * np.exp(PchipInterpolator(at, log_mass)(z[inside]))
    cumulative = np.r_[0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(z))]
    density /= cumulative[-1]
    cumulative /= cumulative[-1]
    # Half of the points follow the posterior and half the prior, out to both ends.
    wide = np.unique(np.r_[np.linspace(-14.0, 14.0, 401), z])
    posterior_share = np.interp(wide, z, cumulative)
    prior_share = 1.0 / (1.0 + np.exp(-wide))
    blend = 0.5 * posterior_share + 0.5 * prior_share
    chosen = np.interp(np.linspace(blend[0], blend[-1], ONSET_POINTS), blend, wide)
    axis = batch.axis.take(np.full(chosen.size, c))
    step = prior.value(chosen, axis)
    # Change of variable from z to step through the prior: p(step) = p(z) prior(step) / prior(z).
    per_step = np.interp(chosen, z, density, left=0.0, right=0.0) / np.exp(
        prior.log_density(chosen)
    )
    return step, per_step * axis.step_density(step), np.interp(chosen, z, cumulative)


def _misfit(
    batch: Batch,
    families: Sequence[Family],
    draw: Array,
    draw_family: Array,
    weight: Array,
) -> Array:
    """Posterior predictive p-value of the better of emergence and none, for three alarms."""
    names = nonlinear_names(families)
    out = np.empty(len(draw))
    for c in range(len(draw)):
        n = int(batch.curves.num_points[c])
        emerges = weight[c, draw_family[c] > 0].sum() >= 0.5
        rows = np.flatnonzero((draw_family[c] > 0) == emerges)
        fitted = np.empty((rows.size, n))
        for f in np.unique(draw_family[c, rows]):
            mine = draw_family[c, rows] == f
            fitted[mine] = mean_curve(
                families[f], names, draw[c, rows[mine]], batch.curves.step[c, :n]
            )
        weights = batch.unit[c, :n] / batch.curves.scale[c]
        linear = draw[c, rows, len(names) :]
        sign = np.sign(linear[:, 1].sum()) or 1.0
        out[c] = _alarms(
            batch.curves.values[c, :n],
            fitted,
            weights,
            linear[:, 2] / batch.curves.scale[c],
            linear[:, 3],
            sign,
            np.zeros(n),
            np.zeros(n),
        )
    return out


def mean_curve(family: Family, names: Sequence[str], draw: Array, step: Array) -> Array:
    """The curve without noise for each draw (row) at each step (column)."""
    baseline, amplitude = draw[:, len(names), None], draw[:, len(names) + 1, None]
    if family.shape is None:
        return np.broadcast_to(baseline, (len(draw), step.size))
    values = [draw[:, names.index(p.name), None] for p in family.parameters]
    return baseline + amplitude * family.shape(step[None], *values)


@numba.njit(cache=True, nogil=True)
def _alarms(
    y: Array,
    fitted: Array,
    weights: Array,
    sd: Array,
    correlation: Array,
    sign: float,
    observed: Array,
    replica: Array,
) -> float:
    """Residual runs, jumps and decline after the peak, against replicas from the same draw."""
    np.random.seed(5)
    n = y.size
    exceed = np.zeros(3)
    for k in range(fitted.shape[0]):
        rho, sigma = correlation[k], sd[k]
        inner = np.sqrt(1.0 - rho * rho)
        state = 0.0
        runs = np.zeros((2, 2))
        jump = np.zeros(2)
        last = np.zeros(2)
        for i in range(n):
            fresh = np.random.normal()
            state = fresh if i == 0 else rho * state + inner * fresh
            replica[i] = sign * (fitted[k, i] + sigma * state / weights[i])
            observed[i] = sign * y[i]
            e = (y[i] - fitted[k, i]) * weights[i] / sigma
            if i > 0:
                before = (y[i - 1] - fitted[k, i - 1]) * weights[i - 1] / sigma
                e = (e - rho * before) / inner
            for which in range(2):
                value = e if which == 0 else fresh
                runs[which, 0] += value * value
                if i > 0:
                    runs[which, 1] += value * last[which]
                jump[which] = max(jump[which], abs(value))
                last[which] = value
        tail = max(3, n // 10)
        drop = np.zeros(2)
        for which in range(2):
            series = observed if which == 0 else replica
            peak = -np.inf
            for i in range(1, n - 1):
                peak = max(peak, (series[i - 1] + series[i] + series[i + 1]) / 3.0)
            end = 0.0
            for i in range(n - tail, n):
                end += series[i] / tail
            drop[which] = peak - end
        if abs(runs[1, 1] / runs[1, 0]) >= abs(runs[0, 1] / runs[0, 0]):
            exceed[0] += 1.0
        if jump[1] >= jump[0]:
            exceed[1] += 1.0
        if drop[1] >= drop[0]:
            exceed[2] += 1.0
    return min(1.0, 3.0 * (exceed.min() + 1.0) / (fitted.shape[0] + 1.0))
