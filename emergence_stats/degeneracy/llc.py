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

from emergence_stats.degeneracy.judgement.default import LARGEST_BATCH, estimate_by_default
from emergence_stats.degeneracy.judgement.fitting_step import run_at_fitting_step
from emergence_stats.degeneracy.judgement.outcome import assess
from emergence_stats.degeneracy.judgement.refinements import (
    judge_localisation,
    judge_step,
    judge_target,
    tell_largest_step,
    tell_slow_growth,
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
from emergence_stats.degeneracy.tuning.burnin import SAMPLER

_DRAWS = 300


@with_plain_kernels
def estimate_llc(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor] | None,
    data: Any,
    *,
    sampler: str | None = None,
    num_chains: int = 4,
    num_draws: int | None = None,
    num_burnin: int | None = None,
    batch_size: int | None = None,
    step_size: float | None = None,
    localisation: float | Literal["wide", "near"] | None = None,
    inverse_temperature: float | None = None,
    parts: Sequence[str] | Mapping[str, Tensor] | None = None,
    target_standard_error: float | None = None,
    check_step: bool = False,
    max_chains_at_once: int | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> LLC:
    """How degenerate is the loss landscape at this checkpoint?

    ``lambda = n*beta * (E[L_n(w)] - L_n(w*))``, the expectation under the localised tempered
    posterior; `emergence_stats.degeneracy.posterior` is the page on scaling. From it the known
    effect of the finite step and of minibatch noise near a quadratic minimum is subtracted
    (`samplers.sgld_step`); the subtracted amount is in the diagnostics.

    With sampler and step left out (`judgement.default`), chains of BAOAB, whose step needs no
    correction near a minimum, burn in while step and localisation are found, and draw until the
    standard error is 2.5% of the estimate or they have cost what three times 4 x 500 plain gradient
    steps at batch 64 do, by a count of operations. With either given the sampler is SGLD unless
    named, for 300 draws a chain.

    **One number.** The localisation left to us is a rule of the checkpoint and its data alone
    (`tuning.burnin`), so `estimate_llc`, `sweep_llc` and `llc_by_temperature` ask about the same
    posterior. Under the *wide* one, where data are many and steps cheap, the estimate hardly moves
    with it. Larger networks have no coefficient of their own at a few thousand samples: it grows by
    several times from one localisation to the next. There it is that of the *near* one, which keeps
    chains within a quarter of the length of w*; quote the localisation beside it, and compare like
    with like. How much the estimate would move at half of it is in
    ``.diagnostics["change_if_localisation_halved"]``, from the same chains; where that is more than
    5% and more than chance, a reason says so, and "reliable" speaks of this localisation. With a
    sampler named and no localisation given, one is chosen so that its flat directions relax, and
    such a dependence is the verdict.

    Parameters
    ----------
    model : nn.Module
        The checkpoint w*. It is copied and never changed. The copy is in evaluation mode (dropout
        off) and in single precision where it has less, tied weights move as one, and parameters
        with ``requires_grad=False`` stay.
    loss_fn : callable or None
        ``loss_fn(model, batch)``: the mean loss over the samples of the batch, a scalar tensor; the
        same number whenever it is asked. A module is copied like the model. None takes the ``loss``
        that ``model(**batch)`` returns, as models of Hugging Face do. Where the loss of a batch is
        not the mean of its samples' losses (a mean over tokens, of which samples have different
        numbers), L_n is the mean loss of batches drawn at random, which differs from that of all
        tokens together by a part in the batch size.
    data : tuple or mapping of tensors, Dataset or DataLoader
        All samples; a batch has the same structure. Held in memory, but for an indexable data set
        of more than four gigabytes, from which samples are read as needed.
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
        Samples in a minibatch, or all if there are fewer. When left out 64, or 256
        to 1,024 by default, but no more than keep two gigabytes for their gradient; ignored by
        MALA, which takes all.
    step_size, localisation : float, optional
        Chosen when left out; the latter also "wide" or "near" where sampler and step are. To
        compare checkpoints, take the localisation from one of them and give it to all.
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
    max_seconds : float, optional
        A budget of time, which decides how many draws there are where neither they nor the sampler
        are given: as many as it allows, and the verdict that they deserve.
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
    by_default = sampler is None and step_size is None
    (
        num_chains, num_draws, num_burnin, batch_size, step_size, localisation,
        inverse_temperature, target_standard_error, max_chains_at_once, max_seconds, seed,
    ) = check_settings(
        sampler or SAMPLER, by_default=by_default,
        num_chains=num_chains, num_draws=num_draws, num_burnin=num_burnin,
        batch_size=batch_size, step_size=step_size, localisation=localisation,
        inverse_temperature=inverse_temperature, target_standard_error=target_standard_error,
        max_chains_at_once=max_chains_at_once, max_seconds=max_seconds, seed=seed,
    )  # fmt: skip
    landscape = LossLandscape(
        model, loss_fn, data, parts=parts, device=device, max_chains_at_once=max_chains_at_once,
        batch_size=batch_size or (LARGEST_BATCH if by_default else None),
    )  # fmt: skip
    beta = float(inverse_temperature or default_inverse_temperature(landscape.num_samples))
    if by_default:
        plan = Plan(SAMPLER, num_chains, num_draws or 0, num_burnin, batch_size or 0, seed)
        outcome = estimate_by_default(
            landscape,
            plan,
            inverse_temperature=beta,
            localisation=localisation,
            target=target_standard_error,
            fixed_draws=num_draws is not None,
            check_step=check_step,
            max_seconds=max_seconds,
            progress=progress,
        )
        return LLC.from_outcome(outcome)
    sampler = sampler or "sgld"
    batch = landscape.num_samples if sampler == "mala" else landscape.batch_size
    plan = Plan(sampler, num_chains, num_draws or _DRAWS, num_burnin, batch, seed)
    assert not isinstance(localisation, str)
    tuning = tune_to_plan(landscape, plan, beta, step_size=step_size, localisation=localisation)
    runs = 1 + 2 * check_step
    with Progress(runs * plan.length, progress) as bar:
        plan, chains = run_at_fitting_step(
            tuning,
            plan,
            bar,
            step_given=step_size is not None,
            localisation_given=localisation is not None,
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
            outcome = judge_localisation(outcome, plan, chains, given=localisation is not None)
            outcome = tell_slow_growth(outcome, chains)
            if check_step:
                outcome = judge_step(outcome, plan, chains, bar)
        elif step_size is not None:
            outcome = tell_largest_step(outcome, plan, chains)
    return LLC.from_outcome(judge_target(outcome, target_standard_error))
