"""One curve's segmentations summed up, and many curves' laid side by side.

What lives here: from a curve as plain arrays to everything `segment` says of it, and into a
dataset. What does not: checks, labels and the result's methods (`segmentation`), the sums
themselves (`noise_grid`, `sums`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from emergence_stats.curves.priors import step_axis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.data.labels import Labels
from emergence_stats.quadrature.evidence import Batch
from emergence_stats.segmentation.models import VARIANCES, SegmentModel
from emergence_stats.segmentation.noise_grid import NoisePosterior, in_threads, noise_posterior
from emergence_stats.segmentation.segments import (
    SUMS,
    SegmentedCurve,
    mean_of,
    noise_at,
    segments_from,
)
from emergence_stats.segmentation.sums import MARGIN, Posterior, fill_posterior

Array = np.ndarray

# So many changes are allowed for at first, and twice as many while the data ask for more.
FIRST_LIMIT = 12
# Noise of less than this share of the most probable one's mass is left out of what is averaged.
SMALL = 2e-3


@dataclass(frozen=True)
class Options:
    """What `segment` was asked for; `prior` of 0, 1, ... changes is None where it is left open."""

    model: SegmentModel
    noise: str
    step_prior: str
    min_points: int
    prior: Array | None


@dataclass(frozen=True)
class OneCurve:
    """What is known of one curve, in its own units; attributes as in `Segmentation.dataset`."""

    number: int
    number_probability: Array | None
    log_evidence: Array | None
    log_marginal: float
    inclusion: Array
    first_change: Array
    change_probability: Array
    mean: Array
    mean_sd: Array
    segment_from: Array
    segment_to: Array
    noise_sd: float
    noise_correlation: float
    model: SegmentModel


def prepare(one: CurveArrays, options: Options) -> SegmentedCurve:
    """The curve in the kernels' units."""
    axis = step_axis(one, options.step_prior)
    batch = Batch(one, axis, options.noise)
    n = int(one.num_points[0])
    step = one.step[0, :n]
    place = axis.step_to_position(step)
    model = options.model
    with np.errstate(divide="ignore"):
        log_share = np.log(np.diff(place, prepend=place[0]))
    return SegmentedCurve(
        y=batch.y[0, :n].copy(),
        x=replace(axis, logarithmic=model.logarithmic).step_to_position(step),
        variance=batch.variance[0, :n].copy() if batch.measured else np.zeros(n),
        gap=np.broadcast_to(batch.gap[0], (n,)).copy(),
        log_share=log_share,
        basis=model.coefficients(),
        own_scale=model.own_scale,
        min_points=options.min_points,
        margin=MARGIN if options.prior is None else np.inf,
        measured=batch.measured,
        correlated=batch.correlated,
    )


def default_prior(limit: int) -> Array:
    """Half for no change, and each further one half as probable.

    Examples
    --------
    >>> default_prior(2).round(3)
    array([0.571, 0.286, 0.143])
    """
    prior = 0.5 ** (1.0 + np.arange(limit + 1))
    return prior / prior.sum()


def segment_one(one: CurveArrays, options: Options) -> OneCurve:
    """Everything about one curve, exactly."""
    curve = prepare(one, options)
    most = max(curve.y.size // curve.min_points - 1, 0)
    prior = options.prior
    limit = min(FIRST_LIMIT, most)
    while True:
        believed = default_prior(limit) if prior is None else prior[: most + 1]
        with np.errstate(divide="ignore"):
            log_prior = np.log(believed)
        noise = noise_posterior(curve, log_prior)
        log_joint = noise.log_evidence + log_prior
        probability = np.exp(log_joint - np.logaddexp.reduce(log_joint))
        if prior is not None or limit == most or probability[-2:].sum() < 1e-3:
            break
        limit = min(2 * limit, most)
    chosen = int(probability.argmax())
    n = curve.y.size
    kept = noise.weight > SMALL * noise.weight.max()
    nodes, weight = noise.nodes[kept], noise.weight[kept] / noise.weight[kept].sum()
    log_weights = log_prior - noise.log_prior_total
    shares = np.where(np.isfinite(log_weights), np.exp(log_weights - log_weights.max()), 0.0)
    parts: list[Posterior] = []

    def work(part: slice) -> None:
        found = Posterior(np.zeros(n), np.zeros(n), np.zeros((chosen, n)), np.zeros((5, n + 1)))
        fill_posterior(curve, nodes[part], weight[part], shares, found)
        parts.append(found)

    in_threads(work, len(nodes), n * n * len(nodes))
    inclusion, first, position, moments = (
        np.sum(each, axis=0) for each in zip(*parts, strict=True)
    )
    total = position.sum(axis=1, keepdims=True)
    position = np.divide(position, total, out=np.zeros_like(position), where=total > 0)
    mean, mean_sd = mean_curve(moments, curve.x)
    scale, centre = float(one.scale[0]), float(one.centre[0])
    starts = segment_starts(position, curve.min_points)
    values = _segment_values(curve, noise, starts)
    constant = -0.5 * n * np.log(2.0 * np.pi) - n * np.log(scale)
    return OneCurve(
        number=chosen,
        number_probability=probability,
        log_evidence=noise.log_evidence + constant,
        log_marginal=float(np.logaddexp.reduce(log_joint)) + constant,
        inclusion=inclusion,
        first_change=first,
        change_probability=position,
        mean=mean * scale + centre,
        mean_sd=mean_sd * scale,
        segment_from=values[0] * scale + centre,
        segment_to=values[1] * scale + centre,
        noise_sd=np.nan if curve.own_scale else float(weight @ np.sqrt(nodes[:, 1])) * scale,
        noise_correlation=float(weight @ np.exp(nodes[:, 2])),
        model=options.model,
    )


def mean_curve(moments: Array, x: Array) -> tuple[Array, Array]:
    """The curve without noise and its sd, from the steps of its coefficients."""
    terms = np.cumsum(moments[:, :-1], axis=1)
    mean = terms[0] + terms[1] * x
    square = terms[2] + terms[3] * x + terms[4] * x * x
    return mean, np.sqrt(np.maximum(square - mean * mean, 0.0))


def segment_starts(position: Array, min_points: int) -> Array:
    """First points of the segments between the changes' median gaps; -1 where none is left."""
    n = position.shape[1]
    starts = [0]
    for row in position:
        at = int(np.searchsorted(np.cumsum(row), 0.5))
        starts.append(at if at >= max(starts) + min_points and at <= n - min_points else -1)
    return np.array(starts)


def _segment_values(curve: SegmentedCurve, posterior: NoisePosterior, starts: Array) -> Array:
    """Values at the first and last point of each segment, at the most probable noise."""
    noise = noise_at(curve, posterior.nodes[int(posterior.weight.argmax())])
    n = curve.y.size
    out = np.full((2, starts.size), np.nan)
    real = np.flatnonzero(starts >= 0)
    for j, start, end in zip(real, starts[real], [*starts[real[1:]], n], strict=True):
        log_next = np.full(n + 1, -np.inf)
        log_next[end] = 0.0
        sums = np.empty((n, SUMS))
        segments_from(curve, noise, start, log_next, np.inf, np.empty(n), sums)
        ends = curve.x[[start, end - 1]]
        intercept, slope, *_ = mean_of(
            curve.basis, curve.own_scale, end - start, ends[0], ends[1] - ends[0], sums[end - 1]
        )
        out[:, j] = intercept + slope * ends
    return out


def as_dataset(found: Sequence[OneCurve], arrays: CurveArrays, labels: Labels) -> xr.Dataset:
    """Results of curves of any lengths and numbers of changes with their labels."""
    step = labels.observed["step"].values
    width = max(1, max(one.number for one in found))
    used = np.isfinite(labels.observed.transpose(..., "step").values.reshape(-1, step.size))

    def by_step(name: str, fill: float) -> Array:
        out = np.full((len(found), step.size), fill)
        for row, there, one in zip(out, used, found, strict=True):
            row[there] = getattr(one, name)
        return out

    def pad(name: str, size: int, fill: float) -> Array:
        out = np.full((len(found), size), fill)
        for row, one in zip(out, found, strict=True):
            values = getattr(one, name)
            row[: len(values)] = values
        return out

    change = np.full((len(found), width, step.size), np.nan)
    for c, (there, one) in enumerate(zip(used, found, strict=True)):
        change[c, : one.number] = 0.0
        change[c, : one.number, there] = one.change_probability.T
    units = str(labels.observed.attrs.get("units", "1"))
    share = {"units": "1"}
    score = {"units": units}
    scalars = {
        "number": ("most probable number of changes", "1"),
        "log_marginal": ("log density of the curve", "1"),
        "noise_sd": ("standard deviation of the noise", units),
        "noise_correlation": ("correlation of neighbouring points", "1"),
    }
    data = {
        name: labels.fold(
            np.array([getattr(one, name) for one in found]),
            attrs={"long_name": long_name, "units": unit},
        )
        for name, (long_name, unit) in scalars.items()
    } | {
        "model": labels.fold(np.array([one.model.name for one in found])),
        "variance": labels.fold(np.array([VARIANCES[one.model.own_scale] for one in found])),
        "inclusion": labels.fold(by_step("inclusion", 0.0), ("step",), share),
        "first_change": labels.fold(by_step("first_change", 0.0), ("step",), share),
        "mean": labels.fold(by_step("mean", np.nan), ("step",), score),
        "mean_sd": labels.fold(by_step("mean_sd", np.nan), ("step",), score),
        "change_probability": labels.fold(change, ("change", "step"), share),
        "segment_from": labels.fold(pad("segment_from", width + 1, np.nan), ("segment",), score),
        "segment_to": labels.fold(pad("segment_to", width + 1, np.nan), ("segment",), score),
    }
    coords = {**labels.coords, "step": step, "change": np.arange(1, width + 1)}
    coords["segment"] = np.arange(1, width + 2)
    if all(one.number_probability is not None for one in found):
        limit = max(len(one.number_probability) for one in found)  # type: ignore[arg-type]
        coords["num_changes"] = np.arange(limit)
        numbers = ("num_changes",)
        data["number_probability"] = labels.fold(
            pad("number_probability", limit, 0.0), numbers, share
        )
        data["log_evidence"] = labels.fold(pad("log_evidence", limit, -np.inf), numbers, share)
    return xr.Dataset(data, coords=coords)
