"""Power law or exponential by other means: information criteria of least squares, and LOO weights.

What lives here: the probability of the power law (against the exponential, equally likely
beforehand) that peers give the same curves. What does not: the exact classifier (`exact`), scoring
(`classification`).

- *BIC, AICc*: both curves fitted by lmfit, least squares from several starts; weights exp(-IC/2),
  normalised, the noise sd counted as a parameter in AICc's correction.
- *LOO*: Pareto-smoothed leave-one-out on 256 posterior draws of each family, independent noise
  only: pseudo-BMA weights exp(elpd), and stacking weights kept off 0 and 1 by 0.01, without which
  their log score is minus infinity. `check_loo` compares both with `arviz.compare`.
"""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

import emergence_stats as es

Array = np.ndarray

FAMILIES = ("exponential", "power_law")
STARTS = 4
CLIP = 0.01
LARGEST_KAPPA = 20.0


def _rise(step: Array, onset: Array, half_time: Array, kappa: Array) -> Array:
    """Fraction completed; kappa 0 is the exponential. Written for scalars and for columns."""
    elapsed = np.maximum(step - onset, 0.0) / half_time
    safe = np.maximum(kappa, 1e-8)
    return -np.expm1(-np.log1p(np.expm1(safe * np.log(2.0)) * elapsed) / safe)


def _starts(values: Array, step: Array, family: str) -> list[tuple[float, float, float]]:
    """The best grid point, and the best in other gaps between checkpoints, by linear regression."""
    inside = step[:-1, None] + np.diff(step)[:, None] * np.array([0.05, 0.35, 0.65, 0.95])
    onsets = inside.ravel()
    halves = np.geomspace(0.1 * np.diff(step).min(), step[-1] - step[0], 24)
    kappas = np.array([0.0]) if family == "exponential" else np.array([0.2, 1.0, 2.5, 5.0])
    onset, half, kappa = (
        x.ravel()[:, None] for x in np.meshgrid(onsets, halves, kappas, indexing="ij")
    )
    shape = _rise(step, onset, half, kappa)
    shape -= shape.mean(axis=1, keepdims=True)
    power = (shape**2).sum(axis=1)
    explained = np.where(power > 1e-12, (shape @ values) ** 2 / np.maximum(power, 1e-12), 0.0)
    chosen: list[tuple[float, float, float]] = []
    used: set[int] = set()
    for index in np.argsort(-explained):
        gap = int(np.searchsorted(step, onset[index, 0]))
        if gap not in used:
            used.add(gap)
            chosen.append((onset[index, 0], half[index, 0], kappa[index, 0]))
        if len(chosen) == STARTS:
            break
    return chosen


def least_squares(values: Array, step: Array, family: str):
    """The best of several lmfit fits of one curve: an `lmfit.minimizer.MinimizerResult`."""
    import lmfit

    def residual(parameters):
        p = parameters.valuesdict()
        shape = _rise(step, p["onset"], np.exp(p["log_half_time"]), p.get("kappa", 0.0))
        return values - p["baseline"] - p["amplitude"] * shape

    shortest, span = np.diff(step).min(), step[-1] - step[0]
    best = None
    for onset, half, kappa in _starts(values, step, family):
        shape = _rise(step, onset, half, kappa)
        amplitude, baseline = np.polyfit(shape, values, 1)
        parameters = lmfit.Parameters()
        parameters.add("onset", onset, min=step[0], max=step[-1])
        parameters.add(
            "log_half_time", np.log(half), min=np.log(1e-3 * shortest), max=np.log(100.0 * span)
        )
        if family == "power_law":
            parameters.add("kappa", kappa, min=0.0, max=LARGEST_KAPPA)
        parameters.add("baseline", baseline)
        parameters.add("amplitude", amplitude)
        with warnings.catch_warnings():
            # Parameters that do not matter (a rise between two points) have no standard error.
            warnings.simplefilter("ignore")
            result = lmfit.minimize(
                residual, parameters, method="leastsq", max_nfev=400, calc_covar=False
            )
        if best is None or result.chisqr < best.chisqr:
            best = result
    return best


def criteria(values: Array, step: Array) -> dict[str, float]:
    """Probability of the power law by BIC and AICc weights, for one curve."""
    bic, aicc = [], []
    for family in FAMILIES:
        fit = least_squares(values, step, family)
        k = fit.nvarys + 1
        bic.append(fit.bic)
        aicc.append(fit.aic + 2.0 * k * (k + 1.0) / (fit.ndata - k - 1.0))
    return {"bic": _weight(bic[1] - bic[0]), "aicc": _weight(aicc[1] - aicc[0])}


def _weight(difference: float) -> float:
    return float(0.5 * (1.0 - np.tanh(0.25 * difference)))


def log_likelihood_draws(scores: xr.DataArray, family: str) -> Array:
    """Pointwise log likelihood of posterior draws, shape (curve, step, draw); independent noise."""
    result = es.compare(scores, families=(family,), noise="independent", value_range=(0.0, 1.0))
    data = result.dataset.transpose("curve", "draw", ...)
    emerging = data["draw_family"].isel(curve=0).values == 1
    draws = data["draw_value"].values[:, emerging]
    column = {str(name): k for k, name in enumerate(data["parameter"].values)}

    def value(name: str) -> Array:
        return draws[..., column[name], None]

    kappa = value("kappa") if "kappa" in column else np.zeros((1, 1, 1))
    shape = _rise(scores["step"].values, value("onset"), value("half_time"), kappa)
    sd = value("noise_sd")
    z = (scores.values[:, None] - value("baseline") - value("amplitude") * shape) / sd
    return np.swapaxes(-0.5 * z**2 - np.log(sd) - 0.5 * np.log(2.0 * np.pi), 1, 2)


def leave_one_out(scores: xr.DataArray) -> dict[str, Array]:
    """Probability of the power law by LOO weights, one a curve, and the share of bad Pareto k."""
    from arviz_stats.base import array_stats

    pointwise, bad = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for family in FAMILIES:
            draws = log_likelihood_draws(scores, family)
            elpd, pareto_k, _ = array_stats.loo(draws[:, :, None])
            pointwise.append(np.asarray(elpd))
            bad.append(np.asarray(pareto_k) > 0.7)
    difference = pointwise[1].sum(axis=1) - pointwise[0].sum(axis=1)
    pseudo = 0.5 * (1.0 + np.tanh(0.5 * difference))
    weight = np.linspace(CLIP, 1.0 - CLIP, 491)
    top = np.maximum(*pointwise)[..., None]
    mixture = weight * np.exp(pointwise[1][..., None] - top) + (1.0 - weight) * np.exp(
        pointwise[0][..., None] - top
    )
    stacking = weight[np.log(mixture).sum(axis=1).argmax(axis=1)]
    return {
        "loo": pseudo,
        "loo_stacking": stacking,
        "share_of_pareto_k_above_0.7": np.mean(bad, axis=(0, 2)),
    }


def check_loo(scores: xr.DataArray) -> dict[str, float]:
    """How far both LOO weights are from those of `arviz.compare`, at most, on these curves."""
    import arviz as az

    ours = leave_one_out(scores)
    draws = {family: log_likelihood_draws(scores, family) for family in FAMILIES}
    worst = {"loo": 0.0, "loo_stacking": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for c in range(scores.sizes["curve"]):
            trees = {
                family: az.from_dict(
                    {
                        "posterior": {"nothing": np.zeros((1, values.shape[2]))},
                        "log_likelihood": {"y": values[c].T[None]},
                        "observed_data": {"y": scores.values[c]},
                    }
                )
                for family, values in draws.items()
            }
            for name, method in (("loo", "pseudo-BMA"), ("loo_stacking", "stacking")):
                table = az.compare(trees, method=method, round_to="none")
                theirs = float(table["weight"]["power_law"])
                if name == "loo_stacking":
                    theirs = float(np.clip(theirs, CLIP, 1.0 - CLIP))
                worst[name] = max(worst[name], abs(theirs - float(ours[name][c])))
    return worst


def criteria_of(values: Array, step: Array) -> list[dict[str, float]]:
    """The same for many curves, one after the other."""
    return [criteria(row, step) for row in values]
