"""The local learning coefficient of a checkpoint: run the chains and judge them.

What lives here: `estimate_llc`. What does not: its result (`result`); the scaling convention,
explained on one page in `posterior`; kernels (`samplers`); the choice of settings (`tuning`);
burn-in, error and verdict (`estimator`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from emergence_stats.degeneracy.estimator import judge, stationary_from, summarise
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import default_inverse_temperature
from emergence_stats.degeneracy.result import LLC
from emergence_stats.degeneracy.samplers import SAMPLERS, Streams
from emergence_stats.degeneracy.tuning import (
    CHARACTER,
    PRECONDITIONED,
    Character,
    Tuning,
    still_finite,
    tune,
)
from emergence_stats.errors import InputError, nearest

_CHAIN_PURPOSE = 0
_CHECK_EVERY = 20  # steps between looks at whether the loss is still finite
_PROBES = 24  # draws at which a second batch measures the minibatch noise


class _Traces(NamedTuple):
    """Excess loss and bias (chain, draw), batches repeated at some draws, mean acceptance."""

    excess: np.ndarray
    bias: np.ndarray
    batch_variance: float
    acceptance: float
    finite: bool


def estimate_llc(
    model: nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    data: Any,
    *,
    sampler: str = "sgld",
    num_chains: int = 4,
    num_draws: int = 300,
    num_burnin: int | None = None,
    batch_size: int | None = None,
    step_size: float | None = None,
    localisation: float | None = None,
    inverse_temperature: float | None = None,
    parts: Sequence[str] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> LLC:
    """How degenerate is the loss landscape at this checkpoint?

    ``lambda = n*beta * (E[L_n(w)] - L_n(w*))``, the expectation under the localised tempered
    posterior; `emergence_stats.degeneracy.posterior` is the page on scaling. From it the known
    effect of the finite step and of minibatch noise near a quadratic minimum is subtracted
    (`samplers.sgld_step`); the subtracted amount is in the diagnostics.

    Parameters
    ----------
    model : nn.Module
        The checkpoint w*. It is copied and never changed. The copy is in evaluation mode (dropout
        off), tied weights move as one, and parameters with ``requires_grad=False`` stay.
    loss_fn : callable
        ``loss_fn(model, batch)``: the mean loss over the samples of the batch, a scalar tensor.
    data : tuple of tensors, Dataset or DataLoader
        All samples, held in memory; a batch has the same structure.
    sampler : {"sgld", "psgld", "adam_sgld", "sghmc", "sgnht", "mala"}
        Stochastic-gradient Langevin dynamics, the same in an RMSprop metric or with Adam's drift,
        Hamiltonian dynamics with friction or with a thermostat, or the Metropolis-adjusted
        reference over the full data.
    num_chains, num_draws : int
        Independent chains, and steps recorded in each.
    num_burnin : int, optional
        Steps taken before the recorded ones. When left out, none are, and the start of the recorded
        draws is discarded instead, by the trace's own stationarity (`estimator.stationary_from`).
    batch_size : int, optional
        Samples in a minibatch, 64 or all if there are fewer; ignored by MALA, which takes all.
    step_size, localisation : float, optional
        Chosen by the rules in `tuning` when left out. To compare checkpoints, take the localisation
        from one of them and give it to all.
    inverse_temperature : float, optional
        beta; 1 / log n when left out.
    parts : sequence of str, optional
        Names or glob patterns of the parameters that move (the weight-refined coefficient).
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
        If an argument cannot be used: a loss that is not a scalar, has no gradient or is not finite
        at w*, data that are empty or of changing length, unknown parameter names.

    References
    ----------
    Lau, Furman, Wang, Murfet and Wei (2023), The local learning coefficient, arXiv:2308.12108.

    Examples
    --------
    >>> inputs = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> targets = inputs @ model.weight.detach().T
    >>> def loss(model, batch):
    ...     return 0.5 * (model(batch[0]) - batch[1]).square().mean()
    >>> result = estimate_llc(model, loss, (inputs, targets), num_draws=600, progress=False)
    >>> abs(result.llc - 1.5) < 0.3   # three parameters, each counting one half
    True
    """
    _check_settings(
        sampler, num_chains, num_draws, num_burnin, batch_size, step_size, localisation,
        inverse_temperature, seed,
    )  # fmt: skip
    landscape = LossLandscape(
        model, loss_fn, data, parts=parts, batch_size=batch_size or 64, device=device
    )
    beta = (
        default_inverse_temperature(landscape.num_samples)
        if inverse_temperature is None
        else float(inverse_temperature)
    )
    batch = landscape.num_samples if sampler == "mala" else landscape.batch_size
    tuning = tune(
        landscape,
        sampler,
        inverse_temperature=beta,
        batch_size=batch,
        num_steps=num_draws + (num_burnin or 0),
        step_size=step_size,
        localisation=localisation,
        seed=seed,
    )
    size = tuning.step_size
    largest_that_worked: float | None = None
    while True:
        traces = _run_chains(
            tuning, sampler, size, num_chains, num_draws, num_burnin or 0, batch, seed, progress
        )
        if traces.finite:
            break
        if step_size is not None:
            largest_that_worked = _largest_working(tuning, sampler, size, batch, seed)
            break
        size *= 0.5
        tuning.reasons["step_size"] = "halved until every chain stayed finite"
        if size < 1e-6 * tuning.step_size:
            break
    return _result(
        landscape, tuning, traces, sampler, size, beta, batch, num_burnin, seed, largest_that_worked
    )


def _run_chains(
    tuning: Tuning,
    sampler: str,
    step_size: float,
    num_chains: int,
    num_draws: int,
    num_burnin: int,
    batch_size: int,
    seed: int,
    progress: bool,
) -> _Traces:
    landscape = tuning.posterior.landscape
    kernel = tuning.kernel(sampler, step_size)
    streams = Streams(seed, num_chains, landscape.device, purpose=_CHAIN_PURPOSE)
    probe_streams = Streams(seed, num_chains, landscape.device, purpose=_CHAIN_PURPOSE + 7)
    state = kernel.init(landscape.centre.expand(num_chains, -1))
    excess = torch.full((num_draws, num_chains), math.nan, dtype=torch.float64)
    excess = excess.to(landscape.device)
    bias = torch.zeros_like(excess)
    acceptance: list[Tensor] = []
    probes: list[Tensor] = []
    probe_every = max(num_draws // _PROBES, 1)
    finite = True
    with _ProgressBar(num_burnin + num_draws, progress) as advance:
        for count in range(-num_burnin, num_draws):
            index = streams.batch(landscape.num_samples, batch_size)
            before = state.position
            state, info = kernel.step(state, index, streams)
            if count >= 0:
                excess[count] = info.excess_loss
                bias[count] = info.discretisation_bias
                if info.acceptance is not None:
                    acceptance.append(info.acceptance)
                if index is not None and count >= num_draws // 2 and count % probe_every == 0:
                    # The same positions on another batch: half the squared difference is the
                    # variance that minibatches alone contribute.
                    other = probe_streams.batch(landscape.num_samples, batch_size)
                    assert other is not None
                    again = landscape.batch_losses(before, other).double()
                    again -= landscape.centre_losses(other)
                    probes.append(0.5 * (again - info.excess_loss).square())
            if count % _CHECK_EVERY == 0 or count == num_draws - 1:
                advance(count + num_burnin + 1)
                if not bool(torch.isfinite(info.excess_loss).all()):
                    finite = False
                    break
    return _Traces(
        excess.T.cpu().numpy(),
        bias.T.cpu().numpy(),
        float(torch.stack(probes).mean()) if probes else 0.0,
        float(torch.stack(acceptance).mean()) if acceptance else math.nan,
        finite and bool(torch.isfinite(excess).all()),
    )


def _largest_working(
    tuning: Tuning, sampler: str, step_size: float, batch_size: int, seed: int
) -> float | None:
    size = step_size
    for _ in range(40):
        size *= 0.5
        if still_finite(tuning, sampler, size, batch_size, seed):
            return size
    return None


def _result(
    landscape: LossLandscape,
    tuning: Tuning,
    traces: _Traces,
    sampler: str,
    step_size: float,
    beta: float,
    batch_size: int,
    num_burnin: int | None,
    seed: int,
    largest_that_worked: float | None,
) -> LLC:
    scale = tuning.posterior.scale
    with np.errstate(all="ignore"):  # a chain that blew up is reported in words
        trace = scale * traces.excess - traces.bias
    num_chains, num_draws = trace.shape
    discard, stationary = 0, True
    if num_burnin is None and traces.finite:
        discard, stationary = stationary_from(trace)
    estimate = summarise(trace[:, discard:])
    correction = float(traces.bias[:, discard:].mean())
    verdict, reasons = judge(estimate, stationary=stationary, step_correction=correction)
    if largest_that_worked is not None:
        reasons.append(f"the largest step size that worked is {largest_that_worked:.3g}")
    spread = scale**2 * float(traces.excess[:, discard:].var()) if traces.finite else math.nan
    noise = scale**2 * traces.batch_variance
    localisation = tuning.posterior.localisation
    diagnostics: dict[str, Any] = {
        "verdict": verdict,
        "reasons": reasons,
        "sampler": sampler,
        "num_chains": num_chains,
        "num_draws": num_draws,
        "num_burnin": discard if num_burnin is None else num_burnin,
        "batch_size": batch_size,
        "step_size": step_size,
        "localisation": localisation,
        "inverse_temperature": beta,
        "seed": seed,
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
        "minibatch_noise_share_of_variance": min(noise / spread, 1.0) if spread > 0 else 0.0,
        "relaxation_steps_of_a_flat_direction": 1.0
        / (step_size * localisation * CHARACTER.get(sampler, Character()).speed)
        if sampler not in PRECONDITIONED and localisation > 0
        else math.nan,
        "acceptance": traces.acceptance,
        "largest_step_size_that_worked": largest_that_worked,
        **tuning.measured,
    }
    kept = np.arange(num_draws) >= discard
    loss = landscape.initial_loss + traces.excess
    about_trace = {"long_name": "n beta (L(w) - L(w*)), corrected for the step", "units": "1"}
    about_loss = {"long_name": "loss, minibatch noise shared with w* removed", "units": "loss"}
    dataset = xr.Dataset(
        {
            "llc_trace": (("chain", "draw"), trace, about_trace),
            "loss": (("chain", "draw"), loss, about_loss),
            "kept": (("draw",), kept, {"long_name": "draw enters the estimate"}),
            "llc": ((), estimate.llc, {"long_name": "local learning coefficient", "units": "1"}),
            "standard_error": (
                (),
                estimate.standard_error,
                {"long_name": "Monte Carlo standard error of llc", "units": "1"},
            ),
        },
        coords={"chain": np.arange(num_chains), "draw": np.arange(num_draws)},
        attrs={"diagnostics": json.dumps(_jsonable(diagnostics))},
    )
    return LLC(dataset)


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN; what is not finite becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


class _ProgressBar:
    def __init__(self, total: int, show: bool) -> None:
        self._total, self._show = total, show

    def __enter__(self) -> Callable[[int], None]:
        if not self._show:
            return lambda completed: None
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        task = self._bar.add_task("learning coefficient", total=self._total)
        self._bar.start()
        return lambda completed: self._bar.update(task, completed=completed)

    def __exit__(self, *_: object) -> None:
        if self._show:
            self._bar.stop()


def _check_settings(
    sampler: str,
    num_chains: int,
    num_draws: int,
    num_burnin: int | None,
    batch_size: int | None,
    step_size: float | None,
    localisation: float | None,
    inverse_temperature: float | None,
    seed: int,
) -> None:
    if sampler not in SAMPLERS:
        raise InputError(f"sampler {sampler!r} is unknown{nearest(str(sampler), SAMPLERS)}")
    counts = {
        "num_chains": (num_chains, 1),
        "num_draws": (num_draws, 4),
        "num_burnin": (num_burnin, 0),
        "batch_size": (batch_size, 1),
        "seed": (seed, 0),
    }
    for name, (count, least) in counts.items():
        if count is None and name in ("num_burnin", "batch_size"):
            continue
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {count!r}")
    for name, number in {
        "step_size": step_size,
        "localisation": localisation,
        "inverse_temperature": inverse_temperature,
    }.items():
        if number is None:
            continue
        least_text = "zero or more" if name == "localisation" else "above zero"
        valid = isinstance(number, int | float | np.number) and math.isfinite(number)
        if not valid or number < 0 or (number == 0 and name != "localisation"):
            raise InputError(f"{name} must be a finite number {least_text}, got {number!r}")
