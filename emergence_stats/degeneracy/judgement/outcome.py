"""What chains came to: an estimate, the numbers beside it and what was found, not yet in words.

What lives here: `Outcome`, and how it is made of the traces of one set of chains. What does not:
what several sets of chains say together (`refinements`, `slope`), and the class users hold
(`results`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.estimator import Estimate, summarise
from emergence_stats.degeneracy.judgement.localisation import change_from_draws
from emergence_stats.degeneracy.judgement.runs import Plan, correct_for_step, estimate_after_burnin
from emergence_stats.degeneracy.judgement.verdicts import Finding, Verdict, judge
from emergence_stats.degeneracy.tuning.kernels import CHARACTER, PRECONDITIONED, Character


class Outcome(NamedTuple):
    """An estimate on its way to a result; every step on it gives another.

    Attributes
    ----------
    estimate : Estimate
    findings : tuple of Finding
        The first that decides gives the verdict.
    numbers : mapping of str to number, str or None
        Settings and measurements, for the diagnostics.
    chosen : mapping of str to str
        Why settings are what they are.
    variables, coords : mapping of str to what xarray.Dataset takes
    """

    estimate: Estimate
    findings: tuple[Finding, ...]
    numbers: Mapping[str, Any]
    chosen: Mapping[str, str]
    variables: Mapping[str, Any]
    coords: Mapping[str, Any]

    @property
    def llc(self) -> float:
        """The estimate itself."""
        return self.estimate.llc

    def with_findings(self, *findings: Finding) -> Outcome:
        """The same with more found; a verdict from before stands."""
        return self._replace(findings=(*self.findings, *findings))

    def with_numbers(self, **numbers: Any) -> Outcome:
        """The same with more, or other, numbers."""
        return self._replace(numbers={**self.numbers, **numbers})

    def with_reasons(self, **chosen: str) -> Outcome:
        """The same with more, or other, reasons for its settings."""
        return self._replace(chosen={**self.chosen, **chosen})

    def has(self, *verdicts: Verdict) -> bool:
        """Whether something was found from which one of these follows."""
        return any(found.verdict in verdicts for found in self.findings)


def begin_outcome(
    plan: Plan,
    chains: Chains,
    estimate: Estimate,
    findings: tuple[Finding, ...],
    discard: int,
    trace: NDArray[np.float64],
    about_trace: Mapping[str, str],
) -> Outcome:
    """What is told of every estimate: settings, the trace (chain, draw) and what was discarded."""
    posterior, (num_chains, num_draws) = chains.tuning.posterior, trace.shape
    landscape = posterior.landscape
    numbers = {
        "sampler": plan.sampler,
        "num_chains": num_chains,
        "num_draws": num_draws,
        "num_burnin": discard if plan.num_burnin is None else plan.num_burnin,
        "batch_size": plan.batch_size,
        "step_size": chains.step_size,
        "steps_per_draw": plan.steps_per_draw,
        "localisation": posterior.localisation,
        "inverse_temperature": posterior.inverse_temperature,
        "seed": plan.seed,
        "num_samples": landscape.num_samples,
        "num_parameters": landscape.num_parameters,
        "initial_loss": landscape.initial_loss,
        "drift": estimate.drift,
        "drift_in_standard_errors": estimate.drift_in_standard_errors,
        "change_if_localisation_halved_from": "draws",
        **chains.tuning.measured,
    }
    burnin = "a quarter of the draws, or more by MSER-5" if plan.num_burnin is None else "as given"
    chosen = {
        **chains.tuning.reasons,
        "num_burnin": burnin,
        "chains": landscape.chains_stacked_because,
    }
    variables = {
        "llc_trace": (("chain", "draw"), trace, {**about_trace, "units": "1"}),
        "kept": ("draw", np.arange(num_draws) >= discard, {"long_name": "draw is counted"}),
    }
    coords = {"chain": np.arange(num_chains), "draw": np.arange(num_draws)}
    return Outcome(estimate, findings, numbers, chosen, variables, coords)


def assess(plan: Plan, chains: Chains) -> Outcome:
    """What does one set of chains come to?"""
    posterior, traces = chains.tuning.posterior, chains.traces
    trace = correct_for_step(chains)
    estimate, discard, stationary = estimate_after_burnin(plan, chains)
    correction = float(traces.bias[:, discard:].mean())
    share = 0.0
    if traces.finite and (spread := float(traces.excess[:, discard:].var())) > 0.0:
        share = min(traces.batch_variance / spread, 1.0)
    findings = judge(
        estimate,
        stationary=stationary,
        step_correction=correction,
        noise_share=share,
        homogeneity=traces.homogeneity,
        departure=traces.departure,
        virial=None if traces.virial is None else summarise(traces.virial[:, discard:]),
        num_parameters=posterior.landscape.num_parameters,
    )
    gamma = posterior.localisation
    change = change_error = relaxation = math.nan
    if traces.squared_distance is not None and traces.finite:
        distance = traces.squared_distance[:, discard:]
        change, change_error = change_from_draws(trace[:, discard:], distance, gamma)
    if plan.sampler not in PRECONDITIONED and gamma > 0:
        speed = CHARACTER.get(plan.sampler, Character()).speed
        relaxation = 1.0 / (chains.step_size * gamma * speed)
    about = {"long_name": "n beta (L(w) - L(w*)), corrected for the step"}
    outcome = begin_outcome(plan, chains, estimate, findings, discard, trace, about).with_numbers(
        step_correction=correction,
        change_if_localisation_halved=change,
        change_if_localisation_halved_standard_error=change_error,
        minibatch_noise_share_of_variance=share,
        relaxation_steps_of_a_flat_direction=relaxation,
        homogeneity=traces.homogeneity,
        homogeneity_standard_error=traces.homogeneity_error,
        departure_from_quadratic=traces.departure,
        acceptance=traces.acceptance,
        largest_step_size_that_worked=None,
    )
    about = {"long_name": "loss, minibatch noise shared with w* removed", "units": "loss"}
    loss = posterior.landscape.initial_loss + traces.excess
    return outcome._replace(
        variables={**outcome.variables, "loss": (("chain", "draw"), loss, about)}
    )
