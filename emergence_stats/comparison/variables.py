"""From summaries to the labelled variables of a `Comparison`: names, units, and the verdict.

What lives here: what is said of each curve, and in which words. What does not: the numbers behind
it (`summaries`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from emergence_stats.checks import QUANTILES
from emergence_stats.comparison.analysis import STEPS, Analysis, onset_quantiles
from emergence_stats.comparison.misfit import is_misfit
from emergence_stats.comparison.summaries import QUANTITIES
from emergence_stats.curves.families import LAWS, nonlinear_names
from emergence_stats.quadrature.evidence import LINEAR_PARAMETERS

_LONG_NAMES = {
    "half_time": ("from the onset to half of the amplitude", "steps"),
    "timescale": ("timescale tau: the initial rate of relaxation is 1/tau", "steps"),
    "time_to_99_percent": ("step at which 99% of the amplitude is reached", "steps"),
    "fraction_complete": ("share of the amplitude reached at the last step", "1"),
    "amplitude": ("amplitude b, negative where the score falls", "score"),
    "baseline": ("baseline a, before the onset", "score"),
    "plateau": ("plateau a + b, where the score is heading", "score"),
}


def label_summaries(analysis: Analysis, threshold: float, misfit_threshold: float) -> xr.Dataset:
    """Everything that is said of the curves, with its labels."""
    found, labels = analysis.summaries, analysis.request.labels
    families = analysis.request.families
    names = [family.name for family in families]
    onset = analysis.onset_variables()
    dataset = onset[["onset_step", "density", "cumulative"]].assign_coords(
        family=names,
        quantile=list(QUANTILES),
        parameter=[*nonlinear_names(families), *LINEAR_PARAMETERS],
    )
    for name in ("log_evidence", "log_evidence_error", "probability", "num_nodes"):
        dataset[name] = labels.fold(getattr(found, name), ("family",))
    dataset["probability_of_onset"] = onset["probability"]
    dataset["log_bayes_factor"] = labels.fold(
        _log_bayes_factor(found.log_evidence, names),
        attrs={"long_name": "log Bayes factor, power law over exponential", "units": "nats"},
    )
    emergence = 1.0 - found.probability[:, 0]
    misfit = is_misfit(found.misfit_p_value, found.residual, emergence, misfit_threshold)
    verdicts = _verdicts(found.probability, misfit, names, threshold)
    averaged = bool(analysis.request.attrs["averaged_over"])
    for name, values in (
        ("verdict", verdicts),
        ("misfit_p_value", found.misfit_p_value),
        ("residual_share", found.residual[:, 0]),
        ("largest_departure", found.residual[:, 1]),
        ("probability_rising", found.rising),
        ("direction", np.where(found.rising >= 0.5, "rising", "falling")),
        ("averaged", np.full(len(verdicts), averaged)),
    ):
        dataset[name] = labels.fold(values)
    dataset["onset"] = onset_quantiles(dataset, QUANTILES, "quantile")
    for k, name in enumerate(QUANTITIES):
        long_name, units = _LONG_NAMES[name]
        dataset[name] = labels.fold(
            found.quantity[:, k], ("quantile",), {"long_name": long_name, "units": units}
        )
    kappa = found.kappa
    # 1/kappa decreases, so its quantiles are those of kappa from the other end.
    for name, values in (
        ("kappa", kappa),
        ("order", kappa + 2.0),
        ("exponent", 1.0 / kappa[:, ::-1]),
    ):
        dataset[name] = labels.fold(values, ("quantile",), {"units": "1"})
    dataset["draw_value"] = labels.fold(found.draw, ("draw", "parameter"))
    dataset["draw_family"] = labels.fold(found.draw_family, ("draw",))
    dataset["draw_weight"] = labels.fold(found.draw_weight, ("draw",))
    for name in ("onset", "onset_step"):
        dataset[name].attrs.update(STEPS)
    analysis.add_noise(dataset)
    if analysis.problems is not None:
        dataset["sampling_problems"] = labels.fold(analysis.problems, ("family",))
    labels.add_observed(dataset)
    dataset.attrs = {
        **analysis.request.attrs,
        "threshold": threshold,
        "misfit_threshold": misfit_threshold,
    }
    return dataset


def _log_bayes_factor(log_evidence: np.ndarray, names: Sequence[str]) -> np.ndarray:
    for exponential, power_law in LAWS:
        if {exponential, power_law} <= set(names):
            return (
                log_evidence[:, names.index(power_law)] - log_evidence[:, names.index(exponential)]
            )
    return np.full(len(log_evidence), np.nan)


def _verdicts(
    probability: np.ndarray,
    misfit: np.ndarray,
    names: Sequence[str],
    threshold: float,
) -> np.ndarray:
    labels = np.array(["no_emergence" if name == "flat" else name for name in names])
    best = probability.argmax(axis=1)
    verdict = np.where(probability.max(axis=1) >= threshold, labels[best], "undecided")
    return np.where(misfit, "misfit", verdict)
