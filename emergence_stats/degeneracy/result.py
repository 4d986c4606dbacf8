"""The result of an estimate: the coefficient, its error, and how far to trust it.

What lives here: `LLC`, which shows, saves and reads a result. What does not: how one is obtained
(`llc`) and judged (`estimator`).
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import xarray as xr

from emergence_stats.checks import PROB
from emergence_stats.errors import InputError, StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LLC:
    """A local learning coefficient, its error, and how far to trust it.

    Parameters
    ----------
    dataset : xarray.Dataset
        `llc_trace(chain, draw)`, `loss(chain, draw)`, `kept(draw)`, and the scalars `llc` and
        `standard_error`; diagnostics are an attribute, as JSON.

    Attributes
    ----------
    dataset : xarray.Dataset
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        missing = {"llc", "standard_error", "llc_trace", "kept"} - set(dataset.variables)
        if missing or "diagnostics" not in dataset.attrs:
            raise InputError(f"dataset is not an LLC result: it lacks {sorted(missing)}")
        self.dataset = dataset

    @property
    def llc(self) -> float:
        """The estimate, lambda (dimensionless)."""
        return float(self.dataset["llc"])

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of `llc`; it does not cover the bias of localisation."""
        return float(self.dataset["standard_error"])

    @property
    def diagnostics(self) -> dict[str, Any]:
        """The verdict in words, the settings and why they were chosen, and what was measured."""
        return json.loads(self.dataset.attrs["diagnostics"])

    @property
    def judgement(self) -> str:
        """The verdict, and what it speaks of where the localisation makes a difference."""
        found = self.diagnostics
        held = found["verdict"] == "reliable" and found.get("localisation_matters", False)
        return "reliable at this localisation" if held else found["verdict"]

    def with_diagnostics(self, found: Mapping[str, Any]) -> Self:
        """The same result with further diagnostics."""
        merged = json.dumps(jsonable({**self.diagnostics, **found}))
        return type(self)(self.dataset.assign_attrs(diagnostics=merged))

    def with_verdict(self, verdict: str, why: str) -> Self:
        """The same result with one more reason; a verdict found earlier stands."""
        known = self.diagnostics
        first = verdict if known["verdict"] == "reliable" else known["verdict"]
        reasons = [*known["reasons"], f"{verdict}: {why}"]
        return self.with_diagnostics({"verdict": first, "reasons": reasons})

    def interval(self, prob: float = PROB) -> tuple[float, float]:
        """Between which values does the expectation lie, with this probability?

        Student's t with one degree of freedom less than the effective number of draws. It covers
        Monte Carlo error: the value is that of the localised posterior at this temperature.
        """
        if not 0.0 < prob < 1.0:
            raise InputError(f"prob must lie between 0 and 1, got {prob}")
        from scipy.stats import t as student

        effective = self.diagnostics["effective_draws"]
        if effective is None or not math.isfinite(self.llc):
            return math.nan, math.nan
        reach = float(student.ppf(0.5 + 0.5 * prob, max(effective - 1.0, 1.0)))
        return self.llc - reach * self.standard_error, self.llc + reach * self.standard_error

    def summary(self) -> str:
        """What was found, in a few lines."""
        found = self.diagnostics
        low, high = self.interval()
        lines = [
            f"local learning coefficient {self.llc:.4g} (standard error {self.standard_error:.2g}, "
            f"89% interval {low:.4g} to {high:.4g})",
            f"verdict: {self.judgement}",
            *(f"  - {reason}" for reason in found["reasons"]),
            f"{found['num_chains']} chains of {found['num_draws']} draws ({found['sampler']}), "
            f"{found['num_burnin']} discarded; R-hat {_shown(found['rhat'])}, "
            f"effective draws {_shown(found['effective_draws'])}",
            f"{found['num_parameters']} parameters moved over {found['num_samples']} samples; "
            f"loss at w* {found['initial_loss']:.6g}",
            f"step size {found['step_size']:.3g} ({found['chosen']['step_size']})",
            f"localisation {found['localisation']:.3g} ({found['chosen']['localisation']})",
        ]
        return "\n".join(lines)

    def plot(self) -> Figure:
        """The trace of every chain with the burn-in shaded, and the estimate as draws accrue.

        After a scan also the estimate at each localisation, and at none.
        """
        from matplotlib.figure import Figure

        scanned = "llc_by_localisation" in self.dataset
        figure = Figure(figsize=(12 if scanned else 9, 3.4), layout="constrained")
        traces, running, *others = figure.subplots(1, 2 + scanned)
        if scanned:
            curve = self.dataset["llc_by_localisation"]
            errors = self.dataset["standard_error_by_localisation"].to_numpy()
            strength = curve["localisation"].to_numpy()
            others[0].errorbar(strength, curve.to_numpy(), errors, fmt="o", ms=4)
            others[0].errorbar([0.0], [self.llc], [self.standard_error], fmt="s", color="black")
            others[0].set(xlabel="localisation", ylabel="estimate", xlim=(-0.4 * strength[0], None))
        draw = self.dataset["draw"].to_numpy()
        trace = self.dataset["llc_trace"].to_numpy()
        kept = self.dataset["kept"].to_numpy()
        for number, values in enumerate(trace):
            traces.plot(draw, values, lw=0.7, label=f"chain {number}")
        if not kept.all():
            traces.axvspan(
                draw[0], draw[kept][0] if kept.any() else draw[-1], color="0.9", zorder=0
            )
        traces.axhline(self.llc, color="black", lw=1)
        traces.set(xlabel="step of the chain", ylabel="n β (loss − loss at w*)")
        traces.legend(fontsize="small", frameon=False)
        for values in trace[:, kept]:
            running.plot(draw[kept], np.cumsum(values) / np.arange(1, len(values) + 1), lw=0.9)
        low, high = self.interval()
        if math.isfinite(low):
            running.axhspan(low, high, color="0.85", zorder=0, label="89% interval")
            running.legend(fontsize="small", frameon=False)
        running.axhline(self.llc, color="black", lw=1)
        running.set(xlabel="step of the chain", ylabel="running estimate")
        figure.suptitle(
            f"local learning coefficient {self.llc:.4g} ± {self.standard_error:.2g}: "
            f"{self.judgement}",
            fontsize="medium",
        )
        return figure

    def to_netcdf(self, path: str | PathLike[str]) -> None:
        """Write the result, traces and diagnostics included, to a netCDF file."""
        try:
            self.dataset.to_netcdf(path, engine="h5netcdf")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}; choose another place") from error

    @classmethod
    def from_netcdf(cls, path: str | PathLike[str]) -> Self:
        """Read what `to_netcdf` wrote."""
        try:
            dataset = xr.load_dataset(path, engine="h5netcdf")
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error}; check the path") from error
        if cls is LLC and "wbic" in dataset:
            from emergence_stats.degeneracy.temperature_result import LLCByTemperature

            return cast("Self", LLCByTemperature(dataset))
        return cls(dataset)

    def __repr__(self) -> str:
        return f"<LLC {self.llc:.4g} ± {self.standard_error:.2g}, {self.judgement}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN; what is not finite becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
