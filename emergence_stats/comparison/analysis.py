"""What results on one or many curves share.

What lives here: from curves to summaries with their labels, the onset's variables, the curves kept
beside them, and tables. What does not: the integration (`summaries`), labels (`labels`), and the
results themselves (`comparison`, `onset`, `hierarchical`, `segmentation`).
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from emergence_stats.checks import check_option, check_share
from emergence_stats.comparison.noise_choice import KINDS, analyse_by_evidence
from emergence_stats.comparison.summaries import Summaries, analyse
from emergence_stats.curves.families import prior_probabilities, resolve_families
from emergence_stats.data.labels import (
    NOISES,
    STEP_PRIORS,
    Labels,
    averaged_over,
    gather,
    progress_report,
)

STEPS = {"units": "steps"}


@dataclass(frozen=True)
class Analysed:
    """What `compare` and `detect_onset` both begin with."""

    summaries: Summaries
    labels: Labels
    families: tuple[str, ...]
    averaged: str
    attrs: dict[str, Any]
    noise: np.ndarray
    noise_probability: np.ndarray | None

    def add_noise(self, dataset: xr.Dataset) -> None:
        """Which noise each curve was taken to have, and how probable each kind was if chosen."""
        dataset["noise"] = self.labels.fold(self.noise)
        if self.noise_probability is not None:
            dataset["noise_probability"] = self.labels.fold(
                self.noise_probability, ("noise_kind",), {"units": "1"}
            )
            dataset.coords["noise_kind"] = list(KINDS)


def analysed(
    curves: xr.DataArray,
    *,
    families: Sequence[str],
    noise: str,
    step_prior: str,
    prior_probability: Mapping[str, float] | None,
    value_range: tuple[float, float] | None,
    tolerance: float,
    progress: bool,
    what: str,
) -> Analysed:
    """Checks what was asked for and runs it."""
    check_option("noise", noise, (*NOISES, "auto"))
    check_option("step_prior", step_prior, STEP_PRIORS)
    tolerance = check_share("tolerance", tolerance)
    chosen = resolve_families(families)
    prior = prior_probabilities(chosen, prior_probability)
    arrays, labels = gather(curves, value_range)
    averaged = averaged_over(curves)
    count = arrays.num_points.size
    how: dict[str, Any] = {
        "prior_probability": prior,
        "step_prior": step_prior,
        "tolerance": tolerance,
    }
    noise_probability = None
    with progress_report(count, progress, what) as report:
        if noise == "auto":
            summaries, kinds, noise_probability = analyse_by_evidence(
                arrays, chosen, report=report, **how
            )
        else:
            summaries = analyse(arrays, chosen, noise=noise, report=report, **how)
            kinds = np.full(count, noise)
    attrs: dict[str, Any] = {
        "noise": noise,
        "step_prior": step_prior,
        "engine": "quadrature",
        "averaged_over": averaged,
        "known_sd": int(arrays.sd is not None),
        **{f"prior_probability_{name}": value for name, value in prior.items()},
    }
    names = tuple(f.name for f in chosen)
    return Analysed(summaries, labels, names, averaged, attrs, kinds, noise_probability)


def onset_variables(summaries: Summaries, labels: Labels) -> xr.Dataset:
    """The onset's posterior with its labels; the same for `compare` and `detect_onset`."""
    point = ("onset_point",)
    return xr.Dataset(
        {
            "probability": labels.fold(
                1.0 - summaries.probability[:, 0],
                attrs={"long_name": "probability of an onset", "units": "1"},
            ),
            "onset_step": labels.fold(summaries.onset_step, point, STEPS),
            "density": labels.fold(summaries.onset_density, point, {"units": "1/steps"}),
            "cumulative": labels.fold(summaries.onset_cumulative, point, {"units": "1"}),
        },
        coords=labels.coords,
    )


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


def add_observed(dataset: xr.Dataset, labels: Labels) -> None:
    """Keeps the curves beside what was inferred from them, so that plots need nothing else."""
    observed = labels.observed
    dataset["observed"] = xr.DataArray(
        np.array(observed.values, dtype=float),
        dims=observed.dims,
        coords={**labels.coords, "step": observed["step"]},
        attrs={
            key: value
            for key, value in observed.attrs.items()
            if isinstance(value, str | int | float) and not isinstance(value, bool)
        }
        | {"score": str(observed.name or "score")},
    )
    if "sd" in observed.coords:
        sd = observed.coords["sd"].reset_coords(drop=True)
        dataset["observed_sd"] = (sd.dims, np.array(sd.values, dtype=float))


def curve_dims(dataset: xr.Dataset) -> tuple[str, ...]:
    """The dimensions that tell curves apart."""
    name = "probability_of_onset" if "probability_of_onset" in dataset else "probability"
    return tuple(str(dim) for dim in dataset[name].dims)


def as_table(dataset: xr.Dataset) -> pd.DataFrame:
    """A dataset without inner dimensions as rows."""
    if not dataset.dims:
        return pd.DataFrame({str(name): [v.item()] for name, v in dataset.data_vars.items()})
    table = dataset.reset_coords(drop=True).to_dataframe()
    return table[[str(name) for name in dataset.data_vars]]


def table_html(title: str, table: pd.DataFrame, dataset: xr.Dataset) -> str:
    """A heading, what was assumed, and the table, cut to fifty rows."""
    noise = str(dataset.attrs["noise"])
    if noise == "auto":
        kinds, counts = np.unique(dataset["noise"].values, return_counts=True)
        shares = [f"{kind} in {count}" for kind, count in zip(kinds, counts, strict=True)]
        noise = f"chosen by evidence: {', '.join(shares)}"
    note = f"noise {noise}; onset uniform in {dataset.attrs['step_prior']} step"
    if dataset.attrs["averaged_over"]:
        note += f"; averages over {dataset.attrs['averaged_over']}: do not trust a power law"
    shown = table.to_html(max_rows=50, float_format=lambda value: f"{value:.4g}")
    return f"<div><b>{title}</b> of {len(table)} curves ({html.escape(note)}){shown}</div>"
