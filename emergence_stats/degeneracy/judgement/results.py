"""The result of an estimate: the coefficient, its error, and how far to trust it.

What lives here: `LLC` and `LLCByTemperature`, and how an outcome becomes one. What does not: how
that is obtained and judged (`outcome`, `verdicts`), and the pictures (`degeneracy.plots`).
"""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import pandas as pd
import xarray as xr

from emergence_stats.checks import PROB, check_prob
from emergence_stats.degeneracy.judgement.outcome import Outcome
from emergence_stats.degeneracy.judgement.sentences import sentence
from emergence_stats.degeneracy.judgement.verdicts import Finding, Verdict, verdict_of
from emergence_stats.errors import InputError
from emergence_stats.results import BOUNDS, Result, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LLC(Result):
    """A local learning coefficient, its error, and how far to trust it.

    Attributes
    ----------
    dataset : xarray.Dataset
        `llc_trace(chain, draw)`, `loss(chain, draw)`, `kept(draw)`, and the scalars `llc` and
        `standard_error`; diagnostics are an attribute, as JSON.
    """

    kind: ClassVar[str] = "local learning coefficient"
    _by_curve: ClassVar[str] = "llc"
    _needed: ClassVar[set[str]] = {"llc", "standard_error", "llc_trace", "kept"}

    def __init__(self, dataset: xr.Dataset) -> None:
        missing = self._needed - set(dataset.variables)
        if missing or "diagnostics" not in dataset.attrs:
            raise InputError(f"dataset is not an LLC result: it lacks {sorted(missing)}")
        super().__init__(dataset)

    @classmethod
    def from_outcome(cls, outcome: Outcome) -> Self:
        """The result of an outcome: here what was found is put in words."""
        estimate = outcome.estimate
        about = {"long_name": "local learning coefficient", "units": "1"}
        about_error = {"long_name": "Monte Carlo standard error of llc", "units": "1"}
        variables = {
            **outcome.variables,
            "llc": ((), estimate.llc, about),
            "standard_error": ((), estimate.standard_error, about_error),
        }
        diagnostics = {
            "verdict": verdict_of(outcome.findings),
            "reasons": [sentence(found) for found in outcome.findings],
            "findings": [_record(found) for found in outcome.findings],
            "effective_draws": estimate.effective_draws,
            "rhat": estimate.rhat,
            **outcome.numbers,
            "chosen": outcome.chosen,
        }
        attrs = {"diagnostics": json.dumps(_finite(diagnostics))}
        return cls(xr.Dataset(variables, coords=outcome.coords, attrs=attrs))

    @classmethod
    def from_netcdf(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what `to_netcdf` wrote; `LLC` reads an `LLCByTemperature` as one."""
        dataset = load(path, cls.kind)
        if cls is LLC and "wbic" in dataset:
            return cast("Self", LLCByTemperature(dataset))
        return cls(dataset)

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
        """The verdict and what led to it, settings and why they were chosen, measurements.

        `verdict` is one of `Verdict`; `findings` are the checks that led to it, each with what was
        measured and the bound, and `reasons` the same in sentences.
        """
        return json.loads(self.dataset.attrs["diagnostics"])

    @property
    def judgement(self) -> str:
        """The verdict, and what it speaks of where the localisation makes a difference."""
        found = self.diagnostics
        held = found["verdict"] == Verdict.RELIABLE and found.get("localisation_matters", False)
        return f"{found['verdict']} at this localisation" if held else found["verdict"]

    def interval(self, prob: float = PROB) -> xr.DataArray:
        """Between which values does the expectation lie, with this probability?

        Student's t with one degree of freedom less than the effective number of draws. It covers
        Monte Carlo error: the value is that of the localised posterior at this temperature.

        Parameters
        ----------
        prob : float

        Returns
        -------
        xarray.DataArray
            Dimension `bound` ("lower", "upper"); NaN where the error is not known.
        """
        from scipy.stats import t as student

        effective = self.diagnostics["effective_draws"]
        degrees = math.nan if effective is None else max(effective - 1.0, 1.0)
        reach = student.ppf(check_prob(prob), degrees) * self.standard_error
        return xr.DataArray(
            self.llc + reach, {"bound": list(BOUNDS)}, name="llc", attrs=self.dataset["llc"].attrs
        )

    def summary(self) -> pd.DataFrame:
        """One row: the estimate, its error and interval, the verdict, and what it rests on."""
        low, high = self.interval().values
        names = "rhat", "effective_draws", "num_chains", "num_draws", "localisation", "step_size"
        columns = {
            "llc": self.llc,
            "standard_error": self.standard_error,
            "llc_lower": low,
            "llc_upper": high,
            "verdict": self.judgement,
            **{name: self.diagnostics[name] for name in names},
        }
        return pd.DataFrame([columns])

    def plot(self) -> Figure:
        """The trace of every chain with the burn-in shaded, and the estimate as draws accrue."""
        from emergence_stats.degeneracy.plots import plot_llc

        low, high = self.interval().values
        return plot_llc(self.dataset, low, high, self.judgement)

    def __str__(self) -> str:
        found = self.diagnostics
        lines = [
            *self._opening(),
            f"{found['num_chains']} chains of {found['num_draws']} draws ({found['sampler']}), "
            f"{found['num_burnin']} discarded; R-hat {_shown(found['rhat'])}, "
            f"effective draws {_shown(found['effective_draws'])}",
            f"{found['num_parameters']} parameters moved over {found['num_samples']} samples; "
            f"loss at w* {found['initial_loss']:.6g}",
            f"step size {found['step_size']:.3g} ({found['chosen']['step_size']})",
            f"localisation {found['localisation']:.3g} ({found['chosen']['localisation']})",
        ]
        return "\n".join(lines)

    def _opening(self, how: str = "") -> list[str]:
        """The estimate and the verdict, a line each, and a line for each reason."""
        low, high = self.interval().values
        return [
            f"local learning coefficient {self.llc:.4g} (standard error {self.standard_error:.2g}, "
            f"{PROB:.0%} interval {low:.4g} to {high:.4g}){how}",
            f"verdict: {self.judgement}",
            *(f"  - {reason}" for reason in self.diagnostics["reasons"]),
        ]

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} {self.llc:.4g} ± {self.standard_error:.2g}, {self.judgement}>"


class LLCByTemperature(LLC):
    """A learning coefficient from several temperatures, with WBIC and singular fluctuation.

    Attributes
    ----------
    dataset : xarray.Dataset
        As of `LLC`, where `llc_trace(chain, draw)` is the slope through each draw of all chains;
        also `mean_loss(inverse_temperature)`, `mean_loss_standard_error(inverse_temperature)`,
        `temperature(inverse_temperature)` and the scalars `wbic` and `singular_fluctuation`.
    """

    _needed: ClassVar[set[str]] = {*LLC._needed, "wbic", "singular_fluctuation"}

    @property
    def wbic(self) -> float:
        """N times the mean loss at beta = 1 / log n, on the fitted line (in the loss's units).

        References
        ----------
        Watanabe (2013), A widely applicable Bayesian information criterion, arXiv:1208.6338.
        """
        return float(self.dataset["wbic"])

    @property
    def singular_fluctuation(self) -> float:
        """``nu = beta/2 sum_i Var_w[loss of sample i]`` at the coldest temperature.

        At beta = 1 it equals the learning coefficient in a regular model that holds the truth. NaN
        where the loss of a batch is not the mean of its samples' losses.

        References
        ----------
        Watanabe (2010), Asymptotic equivalence of Bayes cross validation and widely applicable
        information criterion in singular learning theory, JMLR 11, 3571-3594.
        """
        return float(self.dataset["singular_fluctuation"])

    def summary(self) -> pd.DataFrame:
        """One row: as of `LLC`, with WBIC and the singular fluctuation."""
        return (
            super().summary().assign(wbic=self.wbic, singular_fluctuation=self.singular_fluctuation)
        )

    def plot(self) -> Figure:
        """The mean loss against temperature, with the line whose slope is the coefficient."""
        from emergence_stats.degeneracy.plots import plot_slope

        return plot_slope(self.dataset, self.judgement)

    def __str__(self) -> str:
        found = self.diagnostics
        betas = ", ".join(f"{beta:.3g}" for beta in self.dataset["inverse_temperature"].values)
        how = f", the slope of the mean loss over inverse temperatures {betas}"
        lines = [
            *self._opening(how),
            f"WBIC {self.wbic:.6g}; singular fluctuation {self.singular_fluctuation:.4g}",
            f"{found['num_chains']} chains of {found['num_draws']} draws ({found['sampler']}) at "
            f"each; {found['num_burnin']} discarded",
        ]
        return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _record(found: Finding) -> dict[str, Any]:
    """What is known of a finding."""
    named = {"check": found.check.value[0], "verdict": found.verdict}
    known = _finite({**found._asdict(), **named})
    return {name: value for name, value in known.items() if value is not None}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN; what is not finite becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
