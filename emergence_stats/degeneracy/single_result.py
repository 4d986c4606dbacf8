"""From the traces of one set of chains to a result with its diagnostics.

What lives here: burn-in, verdict and diagnostics put together. What does not: what several sets of
chains say together (`refinements`), and the class of the result (`result`).
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.estimator import judge, summarise
from emergence_stats.degeneracy.kernels import CHARACTER, PRECONDITIONED, Character
from emergence_stats.degeneracy.localisation import change_from_draws
from emergence_stats.degeneracy.result import LLC, jsonable
from emergence_stats.degeneracy.runs import Plan, corrected, kept
from emergence_stats.degeneracy.tuning import Tuning


def single_result(
    tuning: Tuning,
    plan: Plan,
    chains: Chains,
    largest_that_worked: float | None,
) -> LLC:
    """From the traces of one set of chains to a result."""
    landscape = tuning.posterior.landscape
    traces, step_size, scale = chains.traces, chains.step_size, tuning.posterior.scale
    sampler, num_burnin = plan.sampler, plan.num_burnin
    trace = corrected(tuning, traces)
    num_chains, num_draws = trace.shape
    estimate, discard, stationary = kept(plan, tuning, traces)
    correction = float(traces.bias[:, discard:].mean())
    spread = scale**2 * float(traces.excess[:, discard:].var()) if traces.finite else math.nan
    share = scale**2 * traces.batch_variance / spread if spread > 0 else 0.0
    verdict, reasons = judge(
        estimate,
        stationary=stationary,
        step_correction=correction,
        noise_share=min(share, 1.0),
        homogeneity=traces.homogeneity,
        departure=traces.departure,
        virial=None if traces.virial is None else summarise(traces.virial[:, discard:]),
        num_parameters=landscape.num_parameters,
    )
    if largest_that_worked is not None:
        reasons.append(f"the largest step size that worked is {largest_that_worked:.3g}")
    localisation = tuning.posterior.localisation
    change = change_error = math.nan
    if traces.squared_distance is not None and traces.finite:
        change, change_error = change_from_draws(
            trace[:, discard:], traces.squared_distance[:, discard:], localisation
        )
    diagnostics: dict[str, Any] = {
        "verdict": verdict,
        "reasons": reasons,
        "sampler": sampler,
        "num_chains": num_chains,
        "num_draws": num_draws,
        "num_burnin": discard if num_burnin is None else num_burnin,
        "batch_size": plan.batch_size,
        "step_size": step_size,
        "steps_per_draw": plan.steps_per_draw,
        "localisation": localisation,
        "inverse_temperature": tuning.posterior.inverse_temperature,
        "seed": plan.seed,
        "chosen": {
            **tuning.reasons,
            "num_burnin": "as given"
            if num_burnin is not None
            else "a quarter of the draws, or more by MSER-5",
            "chains": landscape.chains_stacked_because,
        },
        "num_samples": landscape.num_samples,
        "num_parameters": landscape.num_parameters,
        "initial_loss": landscape.initial_loss,
        "effective_draws": estimate.effective_draws,
        "rhat": estimate.rhat,
        "drift": estimate.drift,
        "drift_in_standard_errors": estimate.drift_in_standard_errors,
        "step_correction": correction,
        "change_if_localisation_halved": change,
        "change_if_localisation_halved_standard_error": change_error,
        "change_if_localisation_halved_from": "draws",
        "minibatch_noise_share_of_variance": min(share, 1.0),
        "relaxation_steps_of_a_flat_direction": 1.0
        / (step_size * localisation * CHARACTER.get(sampler, Character()).speed)
        if sampler not in PRECONDITIONED and localisation > 0
        else math.nan,
        "homogeneity": traces.homogeneity,
        "homogeneity_standard_error": traces.homogeneity_error,
        "departure_from_quadratic": traces.departure,
        "acceptance": traces.acceptance,
        "largest_step_size_that_worked": largest_that_worked,
        **tuning.measured,
    }
    entering = np.arange(num_draws) >= discard
    loss = landscape.initial_loss + traces.excess
    about_trace = {"long_name": "n beta (L(w) - L(w*)), corrected for the step", "units": "1"}
    about_loss = {"long_name": "loss, minibatch noise shared with w* removed", "units": "loss"}
    dataset = xr.Dataset(
        {
            "llc_trace": (("chain", "draw"), trace, about_trace),
            "loss": (("chain", "draw"), loss, about_loss),
            "kept": (("draw",), entering, {"long_name": "draw enters the estimate"}),
            "llc": ((), estimate.llc, {"long_name": "local learning coefficient", "units": "1"}),
            "standard_error": (
                (),
                estimate.standard_error,
                {"long_name": "Monte Carlo standard error of llc", "units": "1"},
            ),
        },
        coords={"chain": np.arange(num_chains), "draw": np.arange(num_draws)},
        attrs={"diagnostics": json.dumps(jsonable(diagnostics))},
    )
    return LLC(dataset)
