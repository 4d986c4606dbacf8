"""The engine "pymc" of `compare`: families sampled by NUTS, evidences by bridge sampling.

What lives here: draws of one curve under each family brought into the form in which `summaries`
takes the points of the quadrature (equal weights on draws instead of quadrature weights on
points), and the misfit alarms for kinds of noise that have no quadrature. What does not: the
sampler (`one_curve`), bridge sampling (`bridge`), what is said of each curve (`summaries`),
labels and verdicts (`comparison`).

The same priors and likelihood as the quadrature's; kinds of noise that have no quadrature take
known standard deviations times one common factor, without wandering of the run's own (`models`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.comparison.analysis import Analysis, prepare
from emergence_stats.comparison.noise_choice import choose_noise
from emergence_stats.comparison.summaries import (
    NUM_DRAWS,
    ONSET_POINTS,
    Summaries,
    analyse,
    join,
    log_prior_of,
    summarise,
)
from emergence_stats.curves.families import Family
from emergence_stats.curves.priors import StepAxis, step_axis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.data.labels import progress_report
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import NOISES, SAMPLED_NOISES
from emergence_stats.nuts import draws, models, sampling
from emergence_stats.nuts.bridge import bridge_sample
from emergence_stats.nuts.covariance import noise_kind
from emergence_stats.nuts.data import CurveData, curve_data
from emergence_stats.nuts.one_curve import SamplerOptions, sample_curve
from emergence_stats.nuts.sampling import CannotSampleError
from emergence_stats.quadrature.evidence import LINEAR_PARAMETERS, Batch
from emergence_stats.quadrature.over_onset import Posterior

Array = np.ndarray

# Points on each side over which the onset's density is averaged: about 3% of the draws.
SMOOTHING = 4


@dataclass(frozen=True)
class FamilyDraws:
    """One family's posterior on one curve.

    Attributes
    ----------
    posterior : over_onset.Posterior
        Draws with equal weights; the last column of `z` is the draw's number.
    linear : ndarray, shape (draw, name)
        `evidence.LINEAR_PARAMETERS` of each draw, in the curve's own units.
    exceeded : ndarray, shape (alarm,)
        Share of replicas that show as much of what each misfit alarm watches as the curve does.
    problems : list of str
    """

    posterior: Posterior
    linear: Array
    exceeded: Array
    problems: list[str]


class DrawnBatch(Batch):
    """One curve whose baseline, amplitude and noise were drawn along with everything else."""

    def __init__(
        self, curves: CurveArrays, axis: StepAxis, noise: str, linear: Mapping[str, Array]
    ) -> None:
        super().__init__(curves, axis, noise)
        self.linear = linear

    def draw_linear(self, family: Family, who: Array, z: Array, random: Array) -> Array:
        """Those that belong to the draws, by number; of "flat", which has no z, evenly spread."""
        table = self.linear[family.name]
        row = z[:, -1] if family.emerges else random[:, 0] * len(table)
        return table[row.astype(np.int64)]


def sample_curves(
    curves: xr.DataArray, *, options: SamplerOptions, progress: bool, **asked: Any
) -> Analysis:
    """What `analyse_curves` finds by quadrature, found by sampling; `asked` as in `prepare`."""
    request = prepare(curves, noises=("auto", *NOISES, *SAMPLED_NOISES), engine="pymc", **asked)
    arrays, chosen, prior = request.curves, request.families, request.prior
    noise, step_prior = request.attrs["noise"], request.attrs["step_prior"]
    count = arrays.num_points.size
    log_prior = log_prior_of(chosen, prior)
    kinds, noise_probability = np.full(count, noise), None
    if noise == "auto":
        # To sample every kind would take four times as long, and say no more.
        kinds, noise_probability = choose_noise(
            arrays, chosen, prior_probability=prior, step_prior=step_prior
        )
    # Each takes seconds, so the bar counts them.
    total = count * len(chosen)
    parts: list[Summaries] = []
    problems: list[list[str]] = []
    with progress_report(total, progress, "Sampling curves") as report:
        for c in range(count):
            one, kind = arrays.take(np.array([c])), str(kinds[c])
            try:
                found = []
                for family in chosen:
                    found.append(sample_family(family, one, kind, step_prior, options))
                    if report is not None:
                        report(1)
                parts.append(_summarise_draws(one, chosen, kind, step_prior, log_prior, found))
                problems.append(["; ".join(each.problems) for each in found])
            except CannotSampleError as error:
                if kind not in NOISES:
                    raise InputError(
                        f"curves: {request.labels.name(c)} cannot be sampled under {kind!r} noise; "
                        "leave it out, or choose another noise"
                    ) from error
                # Such as a constant one: no reason to refuse all the others.
                parts.append(
                    analyse(one, chosen, prior_probability=prior, noise=kind, step_prior=step_prior)
                )
                problems.append(["could not be sampled: by quadrature"] * len(chosen))
                if report is not None:
                    report(len(chosen) - len(found))
    summaries = join([np.array([c]) for c in range(count)], parts)
    # None, for each curve its own, has no place in a file.
    sampling_attrs = {
        f"sampling_{f.name}": getattr(options, f.name)
        for f in fields(options)
        if getattr(options, f.name) is not None
    }
    request = request._replace(attrs=request.attrs | sampling_attrs)
    return Analysis(request, summaries, kinds, noise_probability, np.array(problems))


def sample_family(
    family: Family, one: CurveArrays, noise: str, step_prior: str, options: SamplerOptions
) -> FamilyDraws:
    """One family's posterior and evidence on one curve, just as `fit` finds them.

    The seed is the same for every curve, so that none depends on those beside it.
    """
    axis = step_axis(one, step_prior)
    logarithmic = step_prior == "log"
    noise = noise_kind(noise, one.sd is not None)
    data = curve_data(one, axis, noise)
    generator = np.random.default_rng([options.seed, 1])
    data, chains = sample_curve(family, noise, data, logarithmic, options, generator)
    bridge = bridge_sample(
        chains.coordinates, sampling.density_of(family, noise, data, logarithmic), seed=0
    )
    if not (np.isfinite(bridge.log_evidence) and np.isfinite(bridge.error)):
        raise CannotSampleError("its evidence cannot be found by bridge sampling", noise)
    flat = chains.coordinates.reshape(-1, chains.coordinates.shape[2])
    named, drawn = draws.parameters(family, noise, data, logarithmic, flat, generator)
    shape = chains.coordinates.shape[:2]
    posterior = xr.Dataset({k: (("chain", "draw"), v.reshape(shape)) for k, v in named.items()})
    num_steps = int(chains.num_steps.sum())
    kept = np.linspace(0, len(flat) - 1, NUM_DRAWS).astype(np.int64)
    sign = float(np.sign(named["amplitude"].sum())) if family.emerges else 1.0
    return FamilyDraws(
        _as_posterior(family, noise, data, flat, bridge.log_evidence, bridge.error, num_steps),
        _linear(named, data, measured=one.sd is not None),
        _exceeded(data, drawn.take(kept), sign),
        draws.problems(posterior, int(chains.diverging.sum()), bridge.error),
    )


def _linear(named: Mapping[str, Array], data: CurveData, *, measured: bool) -> Array:
    """`LINEAR_PARAMETERS`; noise without a part of its own has measured sd times one factor."""
    columns = dict.fromkeys(LINEAR_PARAMETERS, np.zeros_like(named["baseline"]))
    columns |= {name: named[name] for name in LINEAR_PARAMETERS if name in named}
    if "sd_factor" not in named:
        columns["sd_factor"] = columns["sd_factor"] + 1.0
    if measured and "sd_factor" not in named:
        columns["sd_factor"] = named["noise_sd"] / (data.noise_scale * data.scale)
        columns["noise_sd"] = np.zeros_like(named["baseline"])
    return np.stack([columns[name] for name in LINEAR_PARAMETERS], axis=1)


def _as_posterior(
    family: Family,
    noise: str,
    data: CurveData,
    flat: Array,
    log_evidence: float,
    error: float,
    num_steps: int,
) -> Posterior:
    number = len(flat)
    z = np.arange(number, dtype=float)[:, None]
    place, log_density = np.zeros(0), np.zeros(0)
    if family.emerges:
        # The onset's coordinate back from its stairs to the position on the axis.
        centre = models.onset_centres(family, noise, data, list(flat.T[:, :, None]))
        position = models.onset_position(flat[:, :1], centre, data)[0]
        z = np.concatenate([position, flat[:, 1 : len(family.free)], z], axis=1)
        place, log_density = onset_density(position[:, 0])
    return Posterior(
        log_integral=np.array([log_evidence]),
        error=np.array([error]),
        curve=np.zeros(number, dtype=np.int64),
        z=z,
        weight=np.full(number, 1.0 / number),
        start=np.array([0, number]),
        onset_curve=np.zeros(place.size, dtype=np.int64),
        onset_position=place,
        onset_log_density=log_density,
        num_evaluated=np.array([num_steps]),
    )


def onset_density(position: Array) -> tuple[Array, Array]:
    """Log density of draws between 0 and 1, at points dense where the draws are.

    Its windows hold equal shares of the draws where these are dense, so that a narrow mode
    beside a wide one is not smeared out, and equal shares of the axis where there are none.

    Examples
    --------
    >>> place, log_density = onset_density(np.random.default_rng(0).beta(5, 5, size=4000))
    >>> bool(abs(np.trapezoid(np.exp(log_density), place) - 1) < 0.02)
    True
    """
    ordered = np.sort(np.clip(position, 0.0, 1.0))
    share = (np.arange(ordered.size) + 0.5) / ordered.size
    ends = np.concatenate([[0.0], ordered, [1.0]])
    blend = 0.5 * np.concatenate([[0.0], share, [1.0]]) + 0.5 * ends
    place = np.unique(np.interp(np.linspace(0.0, 1.0, ONSET_POINTS), blend, ends))
    below = np.searchsorted(ordered, place) / ordered.size
    index = np.arange(place.size)
    low = np.maximum(index - SMOOTHING, 0)
    high = np.minimum(index + SMOOTHING, place.size - 1)
    density = (below[high] - below[low]) / (place[high] - place[low])
    return place, np.log(np.maximum(density, 1e-30))


def _exceeded(data: CurveData, drawn: draws.DrawnCurves, sign: float) -> Array:
    """The alarms of `misfit`, for noise of any kind: correlated residuals, a jump, a decline."""
    # The same random numbers for every curve, so that none depends on those beside it.
    series, theirs = draws.replicas(drawn, np.random.default_rng(5))
    values = np.asarray(data.y) * data.scale + data.centre
    own = draws.innovations(data, drawn)
    # A last digit of the curve may be many sd of noise that is all but absent: squares overflow.
    own, theirs = np.clip(own, -1e100, 1e100), np.clip(theirs, -1e100, 1e100)

    def decline(x: Array) -> Array:
        smooth = (x[..., :-2] + x[..., 1:-1] + x[..., 2:]) / 3.0
        return smooth.max(axis=-1) - x[..., -max(3, values.size // 10) :].mean(axis=-1)

    def runs(x: Array) -> Array:
        # Of residuals that are all 0, as rounding leaves them, there is nothing to be said.
        return abs((x[:, 1:] * x[:, :-1]).sum(axis=1)) / np.maximum((x * x).sum(axis=1), 1e-300)

    alarms = (
        runs(theirs) >= runs(own),
        abs(theirs).max(axis=1) >= abs(own).max(axis=1),
        decline(sign * series) >= decline(sign * values),
    )
    return np.array([alarm.mean() for alarm in alarms])


def _summarise_draws(
    one: CurveArrays,
    families: Sequence[Family],
    noise: str,
    step_prior: str,
    log_prior: Array,
    found: Sequence[FamilyDraws],
) -> Summaries:
    linear = {family.name: each.linear for family, each in zip(families, found, strict=True)}
    batch = DrawnBatch(one, step_axis(one, step_prior), noise, linear)
    with np.errstate(under="ignore", over="ignore"):
        return summarise(
            batch,
            families,
            [each.posterior for each in found],
            log_prior,
            lambda probability: _p_value(probability[0], [each.exceeded for each in found]),
        )


def _p_value(probability: Array, exceeded: Sequence[Array]) -> Array:
    """As `misfit_p_values`, whose alarms know neither heavy tails nor growing noise."""
    shares = exceeded[0]
    if probability[0] <= 0.5:
        shares = probability[1:] @ np.stack(exceeded[1:]) / probability[1:].sum()
    least = shares.min() * NUM_DRAWS
    return np.array([min(1.0, 3.0 * (least + 1.0) / (NUM_DRAWS + 1.0))])
