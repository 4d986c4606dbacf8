"""What the slope of the mean loss against temperature comes to, and a result that holds it.

What lives here: `LLCByTemperature`, and how it is made of the traces of chains at several
temperatures. What does not: running the chains (`temperature`).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.degeneracy.estimator import judge, stationary_from, summarise
from emergence_stats.degeneracy.localisation import change_by_draw
from emergence_stats.degeneracy.result import LLC, jsonable
from emergence_stats.degeneracy.runs import Plan
from emergence_stats.degeneracy.tuning import Tuning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STRAIGHT = 3.0  # standard errors by which the two halves of the line may differ


class LLCByTemperature(LLC):
    """A learning coefficient from several temperatures, with WBIC and singular fluctuation.

    Attributes
    ----------
    dataset : xarray.Dataset
        As of `LLC`, where `llc_trace(chain, draw)` is the slope through each draw of all chains;
        also `mean_loss(inverse_temperature)`, `mean_loss_standard_error(inverse_temperature)`,
        `temperature(inverse_temperature)` and the scalars `wbic` and `singular_fluctuation`.
    """

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

    def summary(self) -> str:
        """What was found, in a few lines."""
        found = self.diagnostics
        low, high = self.interval()
        betas = ", ".join(f"{beta:.3g}" for beta in self.dataset["inverse_temperature"].values)
        lines = [
            f"local learning coefficient {self.llc:.4g} (standard error {self.standard_error:.2g}, "
            f"89% interval {low:.4g} to {high:.4g}), the slope of the mean loss over inverse "
            f"temperatures {betas}",
            f"verdict: {self.judgement}",
            *(f"  - {reason}" for reason in found["reasons"]),
            f"WBIC {self.wbic:.6g}; singular fluctuation {self.singular_fluctuation:.4g}",
            f"{found['num_chains']} chains of {found['num_draws']} draws ({found['sampler']}) at "
            f"each; {found['num_burnin']} discarded",
        ]
        return "\n".join(lines)

    def plot(self) -> Figure:
        """The mean loss against temperature, with the line whose slope is the coefficient."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.subplots()
        temperature = self.dataset["temperature"].to_numpy()
        loss = self.dataset["mean_loss"].to_numpy()
        axes.errorbar(
            temperature, loss, self.dataset["mean_loss_standard_error"].to_numpy(), fmt="o", ms=4
        )
        ends = np.array([0.0, 1.05 * temperature.max()])
        axes.plot(ends, float(self.dataset["loss_at_zero"]) + self.llc * ends, lw=1, color="black")
        axes.set(xlabel="temperature, 1 / (n β)", ylabel="mean loss")
        axes.set_title(
            f"slope {self.llc:.4g} ± {self.standard_error:.2g}: {self.judgement}",
            fontsize="medium",
        )
        return figure


def result_of_slopes(
    tuning: Tuning,
    plan: Plan,
    betas: list[float],
    excess: np.ndarray,
    *,
    heat: list[float],
    noise: list[float],
    distances: list[np.ndarray | None],
    singular_fluctuation: float,
    step_size: float,
    largest_that_worked: float | None,
) -> LLCByTemperature:
    """The slope of the mean loss over temperatures, with what tells whether to believe it.

    Parameters
    ----------
    tuning : Tuning
        At the coldest temperature.
    plan : Plan
    betas : list of float
        The inverse temperatures, the largest first.
    excess : ndarray, shape (temperature, chain, draw)
        L(w) - L(w*), corrected for the finite step.
    heat, noise : list of float
        At each temperature the mean of that correction, and the error of its share from minibatch
        noise.
    distances : list of ndarray, shape (chain, draw), or None
        ``|w - w*|^2`` at each, where they were measured.
    singular_fluctuation, step_size : float
        At the coldest temperature.
    largest_that_worked : float or None
        The step size, where a larger one did not.
    """
    landscape = tuning.posterior.landscape
    temperature = 1.0 / (landscape.num_samples * np.array(betas))
    offsets = temperature - temperature.mean()
    # Errors of the mean loss are in proportion to the temperature, which asks for weights 1 / T^2;
    # but the draws share their random numbers, so least squares as it stands loses little.
    weights = offsets / (offsets**2).sum()
    slopes = np.einsum("k,kcd->cd", weights, excess)
    finite = bool(np.isfinite(excess).all())
    discard, stationary = 0, True
    if plan.num_burnin is None and finite:
        found = [stationary_from(trace) for trace in excess]
        discard, stationary = max(start for start, _ in found), all(good for _, good in found)
    estimate = summarise(slopes[:, discard:])
    error = math.hypot(estimate.standard_error, *(weights * np.array(noise)))
    estimate = estimate._replace(standard_error=error)
    verdict, reasons = judge(estimate, stationary=stationary, step_correction=float(np.mean(heat)))
    if largest_that_worked is not None:
        reasons.append(f"the largest step size that worked is {largest_that_worked:.3g}")
    means = [summarise(trace[:, discard:]) for trace in excess]
    loss = landscape.initial_loss + np.array([mean.llc for mean in means])
    at_zero = float(loss.mean() - estimate.llc * temperature.mean())
    bend = math.nan
    if len(betas) > 2 and finite:
        steps = np.diff(excess, axis=0) / np.diff(temperature)[:, None, None]
        difference = summarise((steps[-1] - steps[0])[:, discard:])
        bend = difference.llc / max(difference.standard_error, 1e-300)
        if abs(bend) > _STRAIGHT and abs(difference.llc) > 0.1 * abs(estimate.llc):
            why = f"the slope changes by {difference.llc:.3g} from the coldest pair to the hottest"
            verdict = "not a straight line" if verdict == "reliable" else verdict
            reasons.append(f"not a straight line: {why}")
    change = change_error = math.nan
    measured = [one for one in distances if one is not None]
    if finite and len(measured) == len(betas):
        strengths = tuning.posterior.localisation * np.array(betas) / betas[0]
        moved = [
            change_by_draw(trace[:, discard:], distance[:, discard:], float(strength))
            for trace, distance, strength in zip(excess, measured, strengths, strict=True)
        ]
        if len({one.shape for one in moved}) == 1 and moved[0].shape[1] >= 4:
            of_slope = summarise(np.einsum("k,kcd->cd", weights, np.stack(moved)))
            change, change_error = of_slope.llc, of_slope.standard_error
    natural = 1.0 / math.log(max(landscape.num_samples, 3))
    diagnostics = {
        "verdict": verdict,
        "reasons": reasons,
        "sampler": plan.sampler,
        "num_chains": plan.num_chains,
        "num_draws": plan.num_draws,
        "num_burnin": discard if plan.num_burnin is None else plan.num_burnin,
        "batch_size": plan.batch_size,
        "step_size": step_size,
        "steps_per_draw": plan.steps_per_draw,
        "localisation": tuning.posterior.localisation,
        "inverse_temperature": betas[0],
        "seed": plan.seed,
        "chosen": {**tuning.reasons, "chains": landscape.chains_stacked_because},
        "num_samples": landscape.num_samples,
        "num_parameters": landscape.num_parameters,
        "initial_loss": landscape.initial_loss,
        "effective_draws": estimate.effective_draws,
        "rhat": estimate.rhat,
        "drift_in_standard_errors": estimate.drift_in_standard_errors,
        "step_correction": float(np.mean(heat)),
        "bend_in_standard_errors": bend,
        "change_if_localisation_halved": change,
        "change_if_localisation_halved_standard_error": change_error,
        "change_if_localisation_halved_from": "draws",
        **tuning.measured,
    }
    scalar = {"units": "1"}
    dataset = xr.Dataset(
        {
            "llc_trace": (("chain", "draw"), slopes, {"long_name": "slope of the loss", **scalar}),
            "kept": (("draw",), np.arange(plan.num_draws) >= discard),
            "llc": ((), estimate.llc, {"long_name": "local learning coefficient", **scalar}),
            "standard_error": ((), estimate.standard_error, scalar),
            "loss": (("inverse_temperature", "chain", "draw"), landscape.initial_loss + excess),
            "mean_loss": ("inverse_temperature", loss, {"units": "loss"}),
            "mean_loss_standard_error": (
                "inverse_temperature",
                [mean.standard_error for mean in means],
                {"units": "loss"},
            ),
            "temperature": ("inverse_temperature", temperature, {"long_name": "1 / (n beta)"}),
            "loss_at_zero": ((), at_zero, {"units": "loss"}),
            "wbic": (
                (),
                landscape.num_samples * at_zero + estimate.llc / natural,
                {"long_name": "n E[L] at beta = 1 / log n", "units": "loss"},
            ),
            "singular_fluctuation": ((), singular_fluctuation, scalar),
        },
        coords={
            "inverse_temperature": betas,
            "chain": np.arange(plan.num_chains),
            "draw": np.arange(plan.num_draws),
        },
        attrs={"diagnostics": json.dumps(jsonable(diagnostics))},
    )
    return LLCByTemperature(dataset)
