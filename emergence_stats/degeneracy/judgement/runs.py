"""From a tuning and a plan to chains, and from their traces to an estimate.

What lives here: how many chains of what and how long, starting them, finding a step at which all
stay finite, and the estimate after burn-in. What does not: the loop over steps (`chains`) and what
is made of the estimate (`outcome`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.estimator import Estimate, stationary_from, summarise
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.tuning import Tuning, still_finite, tune

MOST_DRAWS = 16  # times num_draws, in pursuit of a target standard error
_SHORTEST = 1e-6  # of the tuned step, below which no step is looked for


class Plan(NamedTuple):
    """How many chains of what, and how long; draws are `steps_per_draw` steps apart."""

    sampler: str
    num_chains: int
    num_draws: int
    num_burnin: int | None
    batch_size: int
    seed: int
    steps_per_draw: int = 1

    @property
    def length(self) -> int:
        """Draws of each chain, those before the recorded ones included."""
        return self.num_draws + (self.num_burnin or 0)


def tune_to_plan(
    landscape: LossLandscape,
    plan: Plan,
    inverse_temperature: float,
    *,
    step_size: float | None = None,
    localisation: float | None = None,
) -> Tuning:
    """Settings for chains of this plan, where they were not given."""
    return tune(
        landscape,
        plan.sampler,
        inverse_temperature=inverse_temperature,
        batch_size=plan.batch_size,
        num_steps=plan.length,
        step_size=step_size,
        localisation=localisation,
        seed=plan.seed,
    )


def start_chains(tuning: Tuning, plan: Plan, start: Tensor | None = None) -> Chains:
    """Chains at w*, or where they came to rest, with the random numbers of the plan's seed."""
    return Chains(
        tuning,
        plan.sampler,
        tuning.step_size,
        num_chains=plan.num_chains,
        batch_size=plan.batch_size,
        seed=plan.seed,
        num_draws=plan.num_draws,
        steps_per_draw=plan.steps_per_draw,
        start=start,
    )


def run_until_finite(tuning: Tuning, plan: Plan, progress: Progress, *, given: bool) -> Chains:
    """Chains of the tuned step, halved until all stay finite unless it was given."""
    shortest, before = _SHORTEST * tuning.step_size, progress.left
    while True:
        chains = start_chains(tuning, plan)
        chains.run(plan.num_draws, num_burnin=plan.num_burnin or 0, progress=progress)
        if chains.finite:
            return chains
        chains.release()
        if given or 0.5 * tuning.step_size < shortest:
            return chains
        progress.expect(before)
        tuning = halve_step(tuning)


def with_step(tuning: Tuning, step_size: float, why: str) -> Tuning:
    """The same settings with another step, and what minibatch noise then heats."""
    heating = tuning.measured.get("heating_by_minibatch_noise", math.nan)
    heating *= step_size / tuning.step_size
    return tuning._replace(
        step_size=step_size,
        measured={**tuning.measured, "heating_by_minibatch_noise": heating},
        reasons={**tuning.reasons, "step_size": why},
    )


def halve_step(tuning: Tuning) -> Tuning:
    """The same settings with half the step, as chains of the whole left for good."""
    why = "halved until every chain stayed finite"
    return with_step(tuning, 0.5 * tuning.step_size, why)


def largest_finite_step(tuning: Tuning, plan: Plan) -> float | None:
    """Which step, of halves of the tuned one, keeps the loss of a short run finite?"""
    for halvings in range(1, 41):
        size = tuning.step_size * 0.5**halvings
        if still_finite(tuning, plan.sampler, size, plan.batch_size, plan.seed):
            return size
    return None


def estimate_after_burnin(plan: Plan, chains: Chains) -> tuple[Estimate, int, bool]:
    """The estimate, the draws discarded before it, and whether the rest is stationary."""
    trace, traces = correct_for_step(chains), chains.traces
    discard, stationary = 0, True
    if (plan.num_burnin is None or chains.began_at_rest) and traces.finite:
        # Chains that burned in need not lose another quarter.
        discard, stationary = stationary_from(trace, least=0.0 if chains.began_at_rest else 0.25)
    estimate = summarise(trace[:, discard:])
    error = math.hypot(estimate.standard_error, traces.noise_bias_error)
    return estimate._replace(standard_error=error), discard, stationary


def correct_for_step(chains: Chains) -> np.ndarray:
    """n*beta times the excess loss, less what the finite step adds, shape (chain, draw)."""
    traces = chains.traces
    with np.errstate(all="ignore"):  # a chain that blew up is reported in words
        return chains.tuning.posterior.scale * traces.excess - traces.bias
