"""The learning coefficient from the slope of the mean loss against temperature.

What lives here: `llc_by_temperature`. What does not: what the chains come to (`judgement.slope`),
the estimate at one temperature (`llc`) and the convention on scaling (`posterior`).

The whole localised posterior is tempered: at inverse temperature beta the localisation is
proportional to beta, so that all temperatures sample ``exp(-(beta / beta_0) U(w))`` for one U. Near
a quadratic minimum of U, wherever it lies, the mean loss is then exactly a straight line in the
temperature T = 1 / (n*beta),

    E[L_n(w)] = L_n(minimum of U) + lambda_gamma T,

and its slope needs neither L_n(w*) nor w* to be a minimum. Elsewhere the free energy's expansion
``lambda log n - (m - 1) log log n`` bends it by the multiplicity m.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.default import (
    LARGEST_BATCH,
    plan_by_default,
    settle_chains,
)
from emergence_stats.degeneracy.judgement.fitting_step import run_at_fitting_step
from emergence_stats.degeneracy.judgement.refinements import judge_localisation, tell_largest_step
from emergence_stats.degeneracy.judgement.results import LLCByTemperature
from emergence_stats.degeneracy.judgement.runs import Plan, run_until_finite, tune_to_plan
from emergence_stats.degeneracy.judgement.slope import (
    AtTemperature,
    assess_slope,
    record_temperature,
)
from emergence_stats.degeneracy.judgement.verdicts import Check
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.landscape.objective import with_plain_kernels
from emergence_stats.degeneracy.posterior import LocalisedPosterior, default_inverse_temperature
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.settings import check_number, check_settings
from emergence_stats.degeneracy.tuning.burnin import SAMPLER
from emergence_stats.degeneracy.tuning.kernels import PRECONDITIONED
from emergence_stats.errors import InputError

_DRAWS = 300  # of a sampler that was named
_STEPS = (1.0, 0.75, 0.5)  # inverse temperatures left to us, in units of 1 / log n
# Chains hotter by more than this see other curvatures, and their step is tuned anew.
_ALIKE = 2.0
_SAMPLES = 256  # of which the singular fluctuation is taken


@with_plain_kernels
def llc_by_temperature(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor] | None,
    data: Any,
    *,
    inverse_temperatures: Sequence[float] | None = None,
    sampler: str | None = None,
    num_chains: int = 4,
    num_draws: int | None = None,
    num_burnin: int | None = None,
    batch_size: int | None = None,
    step_size: float | None = None,
    localisation: float | Literal["wide", "near"] | None = None,
    parts: Sequence[str] | Mapping[str, Tensor] | None = None,
    max_chains_at_once: int | None = None,
    watch_samples: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> LLCByTemperature:
    """How degenerate is the landscape here, whether or not this is a minimum?

    ``lambda = d E[L_n] / d T``, ``T = 1 / (n*beta)``, by least squares over temperatures at which
    chains see the same random numbers. One slope through each draw gives a trace, from which the
    standard error follows as for `estimate_llc`.

    Parameters
    ----------
    model, loss_fn, data, sampler, num_chains, num_draws, num_burnin, batch_size, parts
        As in `estimate_llc`.
    inverse_temperatures : sequence of float, optional
        At least two different betas; (1, 0.75, 0.5) / log n when left out.
    step_size : float, optional
        At the coldest temperature (the largest beta), chosen when left out; elsewhere it grows so
        that the chains move alike, in proportion to 1 / beta in the plain metric. Chosen anew where
        that is more than twice as hot, or the sampler has a metric of its own.
    localisation : float, optional
        gamma at the coldest temperature; elsewhere in proportion to beta. By how much the slope
        would move at half of it is in ``.diagnostics["change_if_localisation_halved"]``; where that
        matters a reason says so, and where the localisation was chosen here it is the verdict.
    watch_samples : bool
        Run the coldest chains on to watch the losses of single samples, from which the singular
        fluctuation is had; without, it is NaN and as long a run as at one temperature is saved.
    max_chains_at_once, seed, device, progress
        As in `estimate_llc`.

    Returns
    -------
    LLCByTemperature

    Raises
    ------
    InputError
        As `estimate_llc`, and if there are not two different inverse temperatures.

    References
    ----------
    Watanabe (2013), A widely applicable Bayesian information criterion, arXiv:1208.6338, theorem 4
    and section 6: the learning coefficient from two temperatures.

    Examples
    --------
    >>> inputs = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> _ = torch.nn.init.constant_(model.weight, 0.5)
    >>> targets = inputs @ model.weight.detach().T + 0.2     # w* is near the minimum, not at it
    >>> def loss(model, batch):
    ...     return 0.5 * (model(batch[0]) - batch[1]).square().mean()
    >>> result = llc_by_temperature(model, loss, (inputs, targets), num_draws=600, progress=False)
    >>> abs(result.llc - 1.5) < 0.4
    True
    """
    by_default = sampler is None and step_size is None
    (
        num_chains, num_draws, num_burnin, batch_size, step_size, localisation,
        max_chains_at_once, seed,
    ) = check_settings(
        sampler or SAMPLER, by_default=by_default,
        num_chains=num_chains, num_draws=num_draws, num_burnin=num_burnin,
        batch_size=batch_size, step_size=step_size, localisation=localisation,
        max_chains_at_once=max_chains_at_once, seed=seed,
    )  # fmt: skip
    landscape = LossLandscape(
        model, loss_fn, data, parts=parts, device=device, max_chains_at_once=max_chains_at_once,
        batch_size=batch_size or (LARGEST_BATCH if by_default else None),
    )  # fmt: skip
    betas = _temperatures(inverse_temperatures, landscape.num_samples)
    watched = _SampleLosses(landscape, seed)
    watching = watch_samples and watched.possible
    given, held = step_size is not None, localisation is not None
    if by_default:
        plan = Plan(SAMPLER, num_chains, num_draws or 0, num_burnin, batch_size or 0, seed)
        plan, draws, _ = plan_by_default(landscape, plan)
        plan = plan._replace(num_draws=num_draws or draws)
        with Progress(len(betas) * plan.length + watching * plan.num_draws, progress) as bar:
            plan, coldest, records = _run_at_rest(landscape, plan, betas, localisation, bar)
            if watching and coldest.finite:
                coldest.run(plan.num_draws, progress=bar, observe=watched)
    else:
        assert not isinstance(localisation, str)
        sampler = sampler or "sgld"
        batch = landscape.num_samples if sampler == "mala" else landscape.batch_size
        plan = Plan(sampler, num_chains, num_draws or _DRAWS, num_burnin, batch, seed)
        with Progress(len(betas) * plan.length + watching * plan.num_draws, progress) as bar:
            plan, coldest, records = _run_tuned(
                landscape, plan, betas, step_size, localisation, watching, bar
            )
            if watching and coldest.finite:
                # The losses of single samples cost more than a step, so they are taken afterwards,
                # now and then, from chains that have come to rest.
                coldest.run(plan.num_draws, progress=bar, observe=watched)
    coldest.release()
    outcome = assess_slope(plan, coldest, records, watched.fluctuation(betas[0]))
    if coldest.finite:
        outcome = judge_localisation(
            outcome,
            plan,
            coldest,
            given=held,
            check=Check.HALF_THE_LOCALISATION_OF_SLOPE,
            # A sweep gives one for all, and would pay for Hessians in every estimate.
            curved=not held,
        )
    elif given:
        outcome = tell_largest_step(outcome, plan, coldest)
    return LLCByTemperature.from_outcome(outcome)


def _run_at_rest(
    landscape: LossLandscape,
    plan: Plan,
    betas: Sequence[float],
    localisation: float | Literal["wide", "near"] | None,
    progress: Progress,
) -> tuple[Plan, Chains, list[AtTemperature]]:
    """Chains that burned in at each temperature; the coldest are kept to be run on."""
    every: list[Chains] = []
    for beta in betas:
        if every:
            first = every[0].tuning.posterior
            localisation = first.localisation * beta / first.inverse_temperature
        chains = settle_chains(landscape, plan, beta, localisation, progress)
        chains.run(plan.num_draws, progress=progress)
        every.append(chains if not every else chains.release())
    return plan, every[0], [record_temperature(chains) for chains in every]


def _run_tuned(
    landscape: LossLandscape,
    plan: Plan,
    betas: Sequence[float],
    step_size: float | None,
    localisation: float | None,
    watching: bool,
    progress: Progress,
) -> tuple[Plan, Chains, list[AtTemperature]]:
    """Chains of a sampler that was named, from w* at each temperature, with the same draws."""
    first, sampler, given = betas[0], plan.sampler, step_size is not None
    tuning = tune_to_plan(landscape, plan, first, step_size=step_size, localisation=localisation)
    strength = tuning.posterior.localisation
    growth = 0.5 if sampler in PRECONDITIONED else 1.0  # the metric grows by the other half
    # Temperatures whose settings are those of the coldest, but for the scale.
    alike = {beta: sampler not in PRECONDITIONED and first / beta <= _ALIKE for beta in betas[1:]}
    fitting, coldest = run_at_fitting_step(
        tuning, plan, progress, step_given=given, localisation_given=localisation is not None
    )
    following = sum(alike.values()) * plan.length + watching * plan.num_draws
    progress.add((fitting.steps_per_draw - 1) * following)
    records = [record_temperature(coldest)]
    for beta in betas[1:]:
        ratio = first / beta
        if alike[beta]:
            posterior = LocalisedPosterior(landscape, beta, strength / ratio)
            size = coldest.step_size * ratio
            heated = coldest.tuning._replace(posterior=posterior, step_size=size)
            chains = run_until_finite(heated, fitting, progress, given=given)
        else:
            heated = tune_to_plan(
                landscape,
                plan,
                beta,
                step_size=None if step_size is None else step_size * ratio**growth,
                localisation=strength / ratio,
            )
            _, chains = run_at_fitting_step(
                heated, plan, progress, step_given=given, localisation_given=True
            )
        records.append(record_temperature(chains))
        chains.release()
    return fitting, coldest, records


class _SampleLosses:
    """Losses of single samples along the chains."""

    def __init__(self, landscape: LossLandscape, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(landscape.num_samples, generator=generator)[:_SAMPLES]
        self._landscape, self._rows = landscape, rows.to(landscape.device)
        self.possible = landscape.is_mean_over_samples
        self._seen: list[Tensor] = []

    def __call__(self, positions: Tensor) -> None:
        self._seen.append(self._landscape.sample_losses(positions, self._rows))

    def fluctuation(self, beta: float) -> float:
        """``beta / 2 * sum_i Var_w[loss of sample i]``, from the samples watched."""
        if len(self._seen) < 2:
            return math.nan
        losses = torch.stack(self._seen).double().flatten(0, 1)  # (draw and chain, sample)
        return 0.5 * beta * self._landscape.num_samples * float(losses.var(dim=0).mean())


def _temperatures(given: Sequence[float] | None, num_samples: int) -> list[float]:
    if given is None:
        return [step * default_inverse_temperature(num_samples) for step in _STEPS]
    if isinstance(given, str | int | float) or not isinstance(given, Sequence | np.ndarray):
        raise InputError(f"inverse_temperatures must be a list of at least two, got {given!r}")
    for beta in given:
        check_number("inverse_temperatures", beta, positive=True)
    betas = sorted({float(beta) for beta in given}, reverse=True)
    if len(betas) < 2:
        raise InputError(
            f"inverse_temperatures must hold at least two different values, got {list(given)}"
        )
    return betas
