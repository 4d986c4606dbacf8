"""From a tuning and a plan to chains, and from their traces to an estimate.

What lives here: how many chains of what and how long, starting them, finding a step at which all
stay finite, and the estimate after burn-in. What does not: the loop over steps (`chains`) and the
result (`result`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emergence_stats.degeneracy.chains import Chains, Traces
from emergence_stats.degeneracy.estimator import Estimate, stationary_from, summarise
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.tuning import Tuning, still_finite

MOST_DRAWS = 16  # times num_draws, in pursuit of a target standard error


class Plan(NamedTuple):
    """How many chains of what, and how long; draws are `steps_per_draw` steps apart."""

    sampler: str
    num_chains: int
    num_draws: int
    num_burnin: int | None
    batch_size: int
    seed: int
    steps_per_draw: int = 1


def settled_chains(
    tuning: Tuning, plan: Plan, progress: Progress, *, given: bool
) -> tuple[Chains, float | None]:
    """Chains of the tuned step, halved until all stay finite; and the largest given that did."""
    size, before = tuning.step_size, progress.left
    while True:
        chains = new_chains(tuning, plan, size)
        chains.run(plan.num_draws, num_burnin=plan.num_burnin or 0, progress=progress)
        if chains.finite:
            return chains, None
        chains.release()
        if given:
            return chains, _largest_working(tuning, plan, size)
        size *= 0.5
        progress.expect(before)
        tuning.reasons["step_size"] = "halved until every chain stayed finite"
        if size < 1e-6 * tuning.step_size:
            return chains, None


def new_chains(
    tuning: Tuning, plan: Plan, step_size: float, num_draws: int | None = None
) -> Chains:
    """Chains at w*, with the random numbers of the plan's seed."""
    return Chains(
        tuning,
        plan.sampler,
        step_size,
        num_chains=plan.num_chains,
        batch_size=plan.batch_size,
        seed=plan.seed,
        num_draws=num_draws or plan.num_draws,
        steps_per_draw=plan.steps_per_draw,
    )


def kept(plan: Plan, tuning: Tuning, traces: Traces) -> tuple[Estimate, int, bool]:
    """The estimate after burn-in, the draws discarded, and whether the rest is stationary."""
    trace = corrected(tuning, traces)
    discard, stationary = 0, True
    if plan.num_burnin is None and traces.finite:
        discard, stationary = stationary_from(trace)
    estimate = summarise(trace[:, discard:])
    error = math.hypot(estimate.standard_error, traces.noise_bias_error)
    return estimate._replace(standard_error=error), discard, stationary


def corrected(tuning: Tuning, traces: Traces) -> np.ndarray:
    """n*beta times the excess loss, less what the finite step adds, shape (chain, draw)."""
    with np.errstate(all="ignore"):  # a chain that blew up is reported in words
        return tuning.posterior.scale * traces.excess - traces.bias


def _largest_working(tuning: Tuning, plan: Plan, step_size: float) -> float | None:
    size = step_size
    for _ in range(40):
        size *= 0.5
        if still_finite(tuning, plan.sampler, size, plan.batch_size, plan.seed):
            return size
    return None
