"""The local learning coefficient of a checkpoint: run the chains and judge them.

What lives here: `estimate_llc`. What does not: the scaling convention, explained on one page in
`posterior`; kernels (`samplers`); the choice of settings (`tuning`); the chains (`chains`);
burn-in, error, verdict and result (`judgement`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from emergence_stats.degeneracy.judgement.default import (
    FIRST_DRAWS,
    LARGEST_BATCH,
    estimate_by_default,
)
from emergence_stats.degeneracy.judgement.fitting_step import run_at_fitting_step
from emergence_stats.degeneracy.judgement.outcome import assess
from emergence_stats.degeneracy.judgement.refinements import (
    SCAN,
    judge_localisation,
    judge_step,
    judge_target,
    scan_localisations,
    tell_largest_step,
)
from emergence_stats.degeneracy.judgement.results import LLC
from emergence_stats.degeneracy.judgement.runs import (
    MOST_DRAWS,
    Plan,
    estimate_after_burnin,
    tune_to_plan,
)
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.landscape.objective import with_plain_kernels
from emergence_stats.degeneracy.posterior import default_inverse_temperature
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.settings import check_settings

_DRAWS = 300


@with_plain_kernels
def estimate_llc(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    data: Any,
    *,
    sampler: str | None = None,
    num_chains: int = 4,
    num_draws: int | None = None,
    num_burnin: int | None = None,
    batch_size: int | None = None,
    step_size: float | None = None,
    localisation: float | Literal["scan"] | None = None,
    inverse_temperature: float | None = None,
    parts: Sequence[str] | Mapping[str, Tensor] | None = None,
    target_standard_error: float | None = None,
    check_step: bool = False,
    max_chains_at_once: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> LLC:
    """How degenerate is the loss landscape at this checkpoint?

    ``lambda = n*beta * (E[L_n(w)] - L_n(w*))``, the expectation under the localised tempered
    posterior; `emergence_stats.degeneracy.posterior` is the page on scaling. From it the known
    effect of the finite step and of minibatch noise near a quadratic minimum is subtracted
    (`samplers.sgld_step`); the subtracted amount is in the diagnostics.

    With sampler, step size and localisation left out, all are chosen, and so are batch and draws
    unless given (`judgement.default`): the BAOAB sampler, whose step needs no correction near a
    minimum; a batch large enough that its noise hardly heats; two localisations, a factor of four
    apart, and where they differ a weaker one or four of them, extrapolated to none; draws until the
    standard error is 2.5% of the estimate. What was chosen, and why, is in
    ``.diagnostics["chosen"]``. With any of the three given the sampler is SGLD unless named, at one
    localisation, 300 draws a chain. The verdict is "depends on localisation" where more than a
    tenth of the estimate would be extrapolated; beyond a fifth the estimate is that of the
    localisation reported.

    At one localisation the estimate is the coefficient of the posterior so localised. How much it
    would move at half of it is in ``.diagnostics["change_if_localisation_halved"]``, from the same
    chains (`judgement.localisation`). Where that is more than 5% and more than chance, the verdict
    is "depends on localisation" if the localisation was chosen here. If it was given, the verdict
    speaks of the coefficient at this localisation and stands; a reason says how far it depends.

    Parameters
    ----------
    model : nn.Module
        The checkpoint w*. It is copied and never changed. The copy is in evaluation mode (dropout
        off) and in single precision where it has less, tied weights move as one, and parameters
        with ``requires_grad=False`` stay.
    loss_fn : callable
        ``loss_fn(model, batch)``: the mean loss over the samples of the batch, a scalar tensor; the
        same number whenever it is asked. A module is copied like the model.
    data : tuple of tensors, Dataset or DataLoader
        All samples, held in memory; a batch has the same structure.
    sampler : {"sgld", "psgld", "adam_sgld", "sghmc", "sgnht", "baoab", "mala"}, optional
        Stochastic-gradient Langevin dynamics, the same in an RMSprop metric or with Adam's drift,
        Hamiltonian dynamics with friction or with a thermostat, Langevin dynamics by the BAOAB
        splitting, or the Metropolis-adjusted reference over the full data.
    num_chains : int
        Independent chains; each has random numbers of its own.
    num_draws : int, optional
        Draws recorded in each; exactly so many where given, unless a target asks for more. A draw
        is one step, or up to sixteen where a step chosen here had to be shortened that often
        (``steps_per_draw`` in the diagnostics).
    num_burnin : int, optional
        Draws taken before the recorded ones. When left out, none are, and the start of the recorded
        draws is discarded instead, by the trace's own stationarity (`stationary_from`).
    batch_size : int, optional
        Samples in a minibatch, or all if there are fewer. When left out 64, or what the default
        chooses, but no more than keep two gigabytes for their gradient; ignored by MALA, which
        takes all.
    step_size, localisation : float, optional
        Chosen by the rules in `tuning` when left out. To compare checkpoints, take the localisation
        from one of them and give it to all. With ``localisation="scan"`` chains are run at four,
        the chosen one and up to eight times as strong, and the estimate is what their common model
        says about none (`judgement.extrapolation`), with the verdict "depends on localisation"
        where that is more than a tenth of it from the weakest, or the loss is seen to grow more
        slowly than a quadratic (MALA does not look).
    inverse_temperature : float, optional
        beta; 1 / log n when left out.
    parts : sequence of str, or mapping of str to bool tensor, optional
        Names or glob patterns of the parameters that move, or for each a mask of the entries that
        do (the weight-refined coefficient; `parts.attention_head` makes masks for one head).
    target_standard_error : float, optional
        Draws are added, up to sixteen times `num_draws`, until the standard error is at most this.
    check_step : bool
        Also run chains of half the step, and report what the finite step does to the estimate after
        correction (``step_bias`` in the diagnostics).
    max_chains_at_once : int, optional
        Evaluate at most so many chains together, which bounds memory and changes no
        result; with 1 a single chain's forward and backward pass is held.
    seed : int
        The same seed gives the same result.
    device : torch.device or str, optional
        Where to compute; by default where the model is.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    LLC

    Raises
    ------
    InputError
        If an argument cannot be used: a loss that is not a scalar, has no gradient, is not finite
        at w* or draws random numbers, data that are empty or of changing length, unknown parameter
        names.

    References
    ----------
    Lau, Furman, Wang, Murfet and Wei (2023), The local learning coefficient, arXiv:2308.12108.
    Leimkuhler and Matthews (2013), Rational construction of stochastic numerical methods for
    molecular sampling, Applied Mathematics Research eXpress 2013, 34-56.

    Examples
    --------
    >>> inputs = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> _ = torch.nn.init.constant_(model.weight, 0.5)
    >>> targets = inputs @ model.weight.detach().T
    >>> def loss(model, batch):
    ...     return 0.5 * (model(batch[0]) - batch[1]).square().mean()
    >>> result = estimate_llc(model, loss, (inputs, targets), num_draws=500, progress=False)
    >>> abs(result.llc - 1.5) < 0.3   # three parameters, each counting one half
    True
    """
    (
        num_chains, num_draws, num_burnin, batch_size, step_size, localisation,
        inverse_temperature, target_standard_error, max_chains_at_once, seed,
    ) = check_settings(
        sampler or "sgld", num_chains=num_chains, num_draws=num_draws, num_burnin=num_burnin,
        batch_size=batch_size, step_size=step_size, localisation=localisation,
        inverse_temperature=inverse_temperature, target_standard_error=target_standard_error,
        max_chains_at_once=max_chains_at_once, seed=seed,
    )  # fmt: skip
    by_default = sampler is None and localisation is None and step_size is None
    landscape = LossLandscape(
        model, loss_fn, data, parts=parts, device=device, max_chains_at_once=max_chains_at_once,
        batch_size=batch_size or (LARGEST_BATCH if by_default else None),
    )  # fmt: skip
    beta = float(inverse_temperature or default_inverse_temperature(landscape.num_samples))
    if by_default:
        plan = Plan(
            "baoab", num_chains, num_draws or FIRST_DRAWS, num_burnin, batch_size or 0, seed
        )
        outcome = estimate_by_default(
            landscape,
            plan,
            inverse_temperature=beta,
            target=target_standard_error,
            fixed_draws=num_draws is not None,
            check_step=check_step,
            progress=progress,
        )
        return LLC.from_outcome(outcome)
    sampler = sampler or "sgld"
    batch = landscape.num_samples if sampler == "mala" else landscape.batch_size
    plan = Plan(sampler, num_chains, num_draws or _DRAWS, num_burnin, batch, seed)
    scan = localisation == "scan"
    held = None if scan or localisation is None else float(localisation)
    tuning = tune_to_plan(landscape, plan, beta, step_size=step_size, localisation=held)
    runs = (len(SCAN) if scan else 1) + 2 * check_step
    with Progress(runs * plan.length, progress) as bar:
        plan, chains = run_at_fitting_step(
            tuning,
            plan,
            bar,
            step_given=step_size is not None,
            localisation_given=held is not None,
        )
        bar.expect(plan.steps_per_draw * bar.left)
        while (
            target_standard_error is not None
            and chains.finite
            and chains.num_draws < MOST_DRAWS * plan.num_draws
            and not estimate_after_burnin(plan, chains)[0].standard_error <= target_standard_error
        ):
            bar.add(runs * plan.num_draws * plan.steps_per_draw)  # later ones are as long
            chains.run(plan.num_draws, progress=bar)
        chains.release()
        outcome = assess(plan, chains)
        if chains.finite:
            if scan:
                outcome = scan_localisations(outcome, plan, chains, bar)
            else:
                outcome = judge_localisation(outcome, plan, chains, given=held is not None)
            if check_step:
                outcome = judge_step(outcome, plan, chains, bar)
        elif step_size is not None:
            outcome = tell_largest_step(outcome, plan, chains)
    return LLC.from_outcome(judge_target(outcome, target_standard_error))
