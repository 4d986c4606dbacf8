"""From labelled curves to what is found in each: what `compare` and `detect_onset` both begin with.

What lives here: checking what was asked for, running it, and the onset's variables. What does not:
the integration (`summaries`), the labels (`data.labels`), and the results themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from emergence_stats.checks import check_option, check_prob, check_share
from emergence_stats.comparison.noise_choice import KINDS, analyse_by_evidence
from emergence_stats.comparison.summaries import Summaries, analyse
from emergence_stats.curves.families import Family, prior_probabilities, resolve_families
from emergence_stats.curves.priors import STEP_PRIORS
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.data.labels import Labels, averaged_over, gather, progress_report
from emergence_stats.noise.beliefs import NOISES
from emergence_stats.results import BOUNDS

Array = np.ndarray

STEPS = {"units": "steps"}


class Request(NamedTuple):
    """Curves and families to be analysed, checked; `attrs` is what the result will say of them."""

    curves: CurveArrays
    labels: Labels
    families: tuple[Family, ...]
    prior: dict[str, float]
    attrs: dict[str, Any]


@dataclass(frozen=True)
class Analysis:
    """What is found of each curve; `problems` of each family on it, where it was sampled."""

    request: Request
    summaries: Summaries
    noise: Array
    noise_probability: Array | None
    problems: Array | None = None

    def add_noise(self, dataset: xr.Dataset) -> None:
        """Which noise each curve was taken to have, and how probable each kind was if chosen."""
        labels = self.request.labels
        dataset["noise"] = labels.fold(self.noise)
        if self.noise_probability is not None:
            dataset["noise_probability"] = labels.fold(
                self.noise_probability, ("noise_kind",), {"units": "1"}
            )
            dataset.coords["noise_kind"] = list(KINDS)

    def onset_variables(self) -> xr.Dataset:
        """The onset's posterior with its labels."""
        fold, found, point = self.request.labels.fold, self.summaries, ("onset_point",)
        about = {"long_name": "probability of an onset", "units": "1"}
        return xr.Dataset(
            {
                "probability": fold(1.0 - found.probability[:, 0], attrs=about),
                "onset_step": fold(found.onset_step, point, STEPS),
                "density": fold(found.onset_density, point, {"units": "1/steps"}),
                "cumulative": fold(found.onset_cumulative, point, {"units": "1"}),
            },
            coords=self.request.labels.coords,
        )


def prepare(
    curves: xr.DataArray,
    *,
    families: Sequence[str],
    noise: str,
    noises: Sequence[str],
    step_prior: str,
    prior_probability: Mapping[str, float] | None,
    value_range: tuple[float, float] | None,
    engine: str,
) -> Request:
    """Checks what was asked for."""
    check_option("noise", noise, noises)
    check_option("step_prior", step_prior, STEP_PRIORS)
    chosen = resolve_families(families)
    prior = prior_probabilities(chosen, prior_probability)
    arrays, labels = gather(curves, value_range)
    attrs = {
        "noise": noise,
        "step_prior": step_prior,
        "engine": engine,
        "averaged_over": averaged_over(curves),
        "known_sd": int(arrays.sd is not None),
        **{f"prior_probability_{name}": value for name, value in prior.items()},
    }
    return Request(arrays, labels, tuple(chosen), prior, attrs)


def analyse_curves(
    curves: xr.DataArray, *, tolerance: float, progress: bool, what: str, **asked: Any
) -> Analysis:
    """By quadrature; `asked` is what `prepare` takes."""
    tolerance = check_share("tolerance", tolerance)
    request = prepare(curves, noises=(*NOISES, "auto"), engine="quadrature", **asked)
    arrays, noise = request.curves, request.attrs["noise"]
    count = arrays.num_points.size
    how: dict[str, Any] = {
        "prior_probability": request.prior,
        "step_prior": request.attrs["step_prior"],
        "tolerance": tolerance,
    }
    with progress_report(count, progress, what) as report:
        if noise == "auto":
            found = analyse_by_evidence(arrays, request.families, report=report, **how)
            return Analysis(request, *found)
        summaries = analyse(arrays, request.families, noise=noise, report=report, **how)
    return Analysis(request, summaries, np.full(count, noise), None)


def onset_quantiles(dataset: xr.Dataset, shares: Sequence[float], dim: str) -> xr.DataArray:
    """Quantiles of the onset from its stored cumulative distribution, along a new dimension."""
    step, cumulative = dataset["onset_step"], dataset["cumulative"]
    rows = [
        np.interp(shares, c, s)
        for c, s in zip(
            cumulative.values.reshape(-1, cumulative.shape[-1]),
            step.values.reshape(-1, step.shape[-1]),
            strict=True,
        )
    ]
    values = np.array(rows).reshape(*step.shape[:-1], len(shares))
    coords = {name: c for name, c in step.coords.items() if "onset_point" not in c.dims}
    return xr.DataArray(values, dims=(*step.dims[:-1], dim), coords=coords, attrs=dict(STEPS))


def onset_interval(dataset: xr.Dataset, prob: float) -> xr.DataArray:
    """Equal-tailed interval of the onset, given that there is one."""
    found = onset_quantiles(dataset, check_prob(prob), "bound")
    return found.assign_coords(bound=list(BOUNDS)).rename("onset")


def describe_assumptions(dataset: xr.Dataset) -> str:
    """What was assumed of the noise and the onset, and what not to trust, in a few words."""
    noise = str(dataset.attrs["noise"])
    if noise == "auto":
        kinds, counts = np.unique(dataset["noise"].values, return_counts=True)
        shares = [f"{kind} in {count}" for kind, count in zip(kinds, counts, strict=True)]
        noise = f"chosen by evidence: {', '.join(shares)}"
    note = f"noise {noise}; onset uniform in {dataset.attrs['step_prior']} step"
    if dataset.attrs["averaged_over"]:
        note += f"; averages over {dataset.attrs['averaged_over']}: do not trust a power law"
    return note
