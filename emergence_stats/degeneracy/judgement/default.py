"""An estimate for which sampler and step were left open.

What lives here: how many draws of how large batches, and when to stop. What does not: the way to
where the posterior lives, with localisation and step (`tuning.burnin`).

1. The sampler is BAOAB: near a quadratic minimum its step needs no correction, and soft directions
   relax ten times as fast as SGLD's. What minibatch noise adds is measured and subtracted.
2. Chains burn in on small batches while localisation and step are found.
3. Draws are added until the standard error meets its target, or until `STEPS` plain gradient steps
   of one chain at a batch of `USUAL_BATCH` would have cost as much, by a count of operations: the
   same on every machine. With a budget in seconds it is the clock that ends them.
"""

from __future__ import annotations

import math
import time
from typing import Literal

import numpy as np

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.estimator import Estimate
from emergence_stats.degeneracy.judgement.outcome import Outcome, assess
from emergence_stats.degeneracy.judgement.refinements import (
    judge_localisation,
    judge_step,
    judge_target,
    tell_slow_growth,
)
from emergence_stats.degeneracy.judgement.runs import (
    MOST_DRAWS,
    Plan,
    estimate_after_burnin,
    start_chains,
)
from emergence_stats.degeneracy.judgement.verdicts import Check, Finding
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.tuning.burnin import burn_in, is_wide

STEPS, USUAL_BATCH = 4500, 64
TARGET = 0.025  # standard error, as a share of the estimate
BATCH, LARGEST_BATCH = 256, 1024
BURN_IN = 60  # steps at least, and a quarter as many as there are draws
_LONGEST_BURN_IN = 1500
MOST = 12_000  # draws
_TINY = 0.1  # share of a step's cost that is arithmetic
WIDE_FROM = 1000  # affordable draws
_OPERATIONS_OF_A_CALL = 3e7  # as many as a core does while it launches a model's operators
_FIRST = 50  # draws, after which the error is first looked at
_MOST_RHAT = 1.1  # above which draws are added though the error just meets its target
_SHORTENINGS = 4  # of the step, each by a half
_SPIKE, _SPIKE_AT_LEAST = 10.0, 100.0


def estimate_by_default(
    landscape: LossLandscape,
    plan: Plan,
    *,
    inverse_temperature: float,
    localisation: float | Literal["wide", "near"] | None,
    target: float | None,
    fixed_draws: bool,
    check_step: bool,
    max_seconds: float | None,
    progress: bool,
) -> Outcome:
    """Burn in, and draw until the error is small or the budget spent; see the module's page."""
    begun = time.monotonic()
    until = math.inf if max_seconds is None else begun + 0.85 * max_seconds
    plan, draws, why_batch = plan_by_default(landscape, plan)
    most, why_draws = plan.num_draws, "as given"
    if not fixed_draws:
        most = draws * (MOST_DRAWS if target is not None or max_seconds is not None else 1)
        plan = plan._replace(num_draws=draws)
        wished = f"{TARGET:.1%} of the estimate" if target is None else f"{target:.3g}"
        why_draws = f"until the standard error is {wished}, or {most} draws"
    with Progress(most, progress) as bar:
        for shorter in range(_SHORTENINGS):
            chains = settle_chains(
                landscape,
                plan,
                inverse_temperature,
                localisation,
                bar,
                shorter=2.0**shorter,
                until=begun + 0.25 * (until - begun),
            )
            # Slow directions, which a short trace does not show, are a wide localisation's.
            first = min(draws // 4, 2000) if is_wide(chains.tuning.posterior) else _FIRST
            chains.run(most if fixed_draws else min(first, most), progress=bar, until=until)
            while (
                chains.finite
                and not _has_spikes(chains)
                and chains.num_draws < most
                and time.monotonic() < until
            ):
                estimate = estimate_after_burnin(plan, chains)[0]
                bar.tell(estimate.llc, estimate.standard_error)
                if _is_met(estimate, target) and max_seconds is None:
                    break
                more = min(chains.num_draws, most - chains.num_draws)
                bar.expect(more)
                chains.run(more, progress=bar, until=until)
            if chains.finite and not _has_spikes(chains):
                break
        outcome = assess(plan, chains)
        if chains.finite:
            outcome = judge_localisation(outcome, plan, chains, given=True, curved=False)
            if not is_wide(chains.tuning.posterior):
                outcome = outcome.with_numbers(localisation_matters=True)
            outcome = tell_slow_growth(outcome, chains)
            if check_step:
                bar.add(2 * chains.num_draws)
                outcome = judge_step(outcome, plan, chains, bar)
    error = outcome.estimate.standard_error
    if target is None and not fixed_draws and error > TARGET * abs(outcome.llc):
        share = error / max(abs(outcome.llc), 1e-300)
        missed = Finding(Check.DEFAULT_TARGET, share, TARGET, chains.num_draws)
        outcome = outcome.with_findings(missed)
    why_sampler = "BAOAB: no bias of the step near a quadratic minimum"
    outcome = outcome.with_reasons(sampler=why_sampler, batch_size=why_batch, num_draws=why_draws)
    return judge_target(outcome, target)


def plan_by_default(landscape: LossLandscape, plan: Plan) -> tuple[Plan, int, str]:
    """The plan with a batch, how many draws it can afford, and why so large a batch."""
    size, why = plan.batch_size, "as given"
    if not size:
        size, why = choose_batch(landscape, plan.num_chains)
    plan = plan._replace(batch_size=min(size, landscape.num_samples))
    return plan, affordable_draws(landscape, plan.num_chains, plan.batch_size), why


def settle_chains(
    landscape: LossLandscape,
    plan: Plan,
    inverse_temperature: float,
    localisation: float | Literal["wide", "near"] | None,
    progress: Progress,
    *,
    shorter: float = 1.0,
    until: float = math.inf,
) -> Chains:
    """Chains that have burned in and recorded nothing yet."""
    num_steps = plan.num_burnin or max(BURN_IN, min(plan.num_draws // 4, _LONGEST_BURN_IN))
    progress.add(num_steps)
    cheap = affordable_draws(landscape, plan.num_chains, BATCH) >= WIDE_FROM
    settled = burn_in(
        landscape,
        inverse_temperature=inverse_temperature,
        localisation=localisation,
        num_chains=plan.num_chains,
        batch_size=plan.batch_size if cheap else min(USUAL_BATCH, plan.batch_size),
        num_steps=num_steps,
        affordable=cheap,
        seed=plan.seed,
        shorter=shorter,
        until=until,
    )
    progress.advance(num_steps)
    return start_chains(settled.tuning, plan, start=settled.positions)


def choose_batch(landscape: LossLandscape, num_chains: int) -> tuple[int, str]:
    """Samples in a minibatch, and why so many."""
    affordable = landscape.affordable_batch
    if affordable < min(BATCH, landscape.num_samples):
        return affordable, "as many as keep two gigabytes for their gradient"
    size = BATCH
    while size < LARGEST_BATCH and (
        cost_of_a_step(landscape, num_chains, 2 * size)
        < 1.3 * cost_of_a_step(landscape, num_chains, size)
    ):
        size *= 2
    why = "a compromise between minibatch noise and the cost of a step"
    if size > BATCH:
        why = "operations are so few that a step of a smaller one costs as much"
    return min(size, affordable), why


def cost_of_a_step(landscape: LossLandscape, num_chains: int, batch_size: int) -> float:
    """Of all chains, beside a plain gradient step of one at the usual batch."""
    of_a_sample = 3.0 * landscape.operations_per_sample
    calls = math.ceil(num_chains / landscape.chains_at_once(num_chains))
    whole = num_chains * batch_size * of_a_sample + calls * _OPERATIONS_OF_A_CALL
    return whole / (USUAL_BATCH * of_a_sample + _OPERATIONS_OF_A_CALL)


def affordable_draws(landscape: LossLandscape, num_chains: int, batch_size: int) -> int:
    """How many draws of each chain cost what the defaults may."""
    number = STEPS / cost_of_a_step(landscape, num_chains, batch_size)
    if 3.0 * USUAL_BATCH * landscape.operations_per_sample < _TINY * _OPERATIONS_OF_A_CALL:
        number *= 3.0  # a few seconds at most, and such models are singular as often as not
    return min(max(int(number), 2 * _FIRST), MOST)


def _is_met(estimate: Estimate, target: float | None) -> bool:
    wished = TARGET * abs(estimate.llc) if target is None else target
    error = estimate.standard_error
    # Few draws tell little of R-hat, and the error holds how far chains are apart.
    return error <= 0.5 * wished or (error <= wished and not estimate.rhat > _MOST_RHAT)


def _has_spikes(chains: Chains) -> bool:
    """Whether some draw has more loss than any posterior has, as where a step met a steep part."""
    excess = chains.tuning.posterior.scale * chains.traces.excess
    return bool(excess.max() > _SPIKE * max(float(np.median(excess)), 0.0) + _SPIKE_AT_LEAST)
