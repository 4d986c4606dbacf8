"""The local learning coefficient of a checkpoint: run the chains, judge them, show the result.

What lives here: `estimate_llc` and its result. What does not: the scaling convention, explained on
one page in `posterior`; kernels (`samplers`); the choice of settings (`tuning`); burn-in, error and
verdict (`estimator`).
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from emergence_stats.degeneracy.estimator import judge, stationary_from, summarise
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import default_inverse_temperature
from emergence_stats.degeneracy.samplers import SAMPLERS, Streams
from emergence_stats.degeneracy.tuning import Tuning, still_finite, tune
from emergence_stats.errors import InputError, StorageError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CHAIN_PURPOSE = 0
_CHECK_EVERY = 20  # steps between looks at whether the loss is still finite
_PROBES = 24  # draws at which a second batch measures the minibatch noise


class LLC:
    """A local learning coefficient, its error, and how far to trust it.

    Parameters
    ----------
    dataset : xarray.Dataset
        `llc_trace(chain, draw)`, `loss(chain, draw)`, `kept(draw)`, and the scalars `llc` and
        `standard_error`; diagnostics are an attribute, as JSON.

    Attributes
    ----------
    dataset : xarray.Dataset
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        missing = {"llc", "standard_error", "llc_trace", "kept"} - set(dataset.variables)
        if missing or "diagnostics" not in dataset.attrs:
            raise InputError(f"dataset is not an LLC result: it lacks {sorted(missing)}")
        self.dataset = dataset

    @property
    def llc(self) -> float:
        """The estimate, lambda (dimensionless)."""
        return float(self.dataset["llc"])

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of `llc`; it does not cover the bias of localisation."""
        return float(self.dataset["standard_error"])

    @property
    def diagnostics(self) -> dict[str, Any]:
        """The verdict in words, the settings and why they were chosen, and what was measured."""
        return json.loads(self.dataset.attrs["diagnostics"])

    def interval(self, prob: float = 0.89) -> tuple[float, float]:
        """Between which values does the expectation lie, with this probability?

        Student's t with one degree of freedom less than the effective number of draws. It covers
        Monte Carlo error: the value is that of the localised posterior at this temperature.
        """
        if not 0.0 < prob < 1.0:
            raise InputError(f"prob must lie between 0 and 1, got {prob}")
        from scipy.stats import t as student

        effective = self.diagnostics["effective_draws"]
        if effective is None or not math.isfinite(self.llc):
            return math.nan, math.nan
        reach = float(student.ppf(0.5 + 0.5 * prob, max(effective - 1.0, 1.0)))
        return self.llc - reach * self.standard_error, self.llc + reach * self.standard_error

    def summary(self) -> str:
        """What was found, in a few lines."""
        found = self.diagnostics
        low, high = self.interval()
        lines = [
            f"local learning coefficient {self.llc:.4g} (standard error {self.standard_error:.2g}, "
            f"89% interval {low:.4g} to {high:.4g})",
            f"verdict: {found['verdict']}",
            *(f"  - {reason}" for reason in found["reasons"]),
            f"{found['num_chains']} chains of {found['num_draws']} draws ({found['sampler']}), "
            f"{found['num_burnin']} discarded; R-hat {_shown(found['rhat'])}, "
            f"effective draws {_shown(found['effective_draws'])}",
            f"{found['num_parameters']} parameters moved over {found['num_samples']} samples; "
            f"loss at w* {found['initial_loss']:.6g}",
            f"step size {found['step_size']:.3g} ({found['chosen']['step_size']})",
            f"localisation {found['localisation']:.3g} ({found['chosen']['localisation']})",
        ]
        return "\n".join(lines)

    def plot(self) -> Figure:
        """The trace of every chain with the burn-in shaded, and the estimate as draws accrue."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        traces, running = figure.subplots(1, 2)
        draw = self.dataset["draw"].to_numpy()
        trace = self.dataset["llc_trace"].to_numpy()
        kept = self.dataset["kept"].to_numpy()
        for number, values in enumerate(trace):
            traces.plot(draw, values, lw=0.7, label=f"chain {number}")
        if not kept.all():
            traces.axvspan(
                draw[0], draw[kept][0] if kept.any() else draw[-1], color="0.9", zorder=0
            )
        traces.axhline(self.llc, color="black", lw=1)
        traces.set(xlabel="step of the chain", ylabel="n β (loss − loss at w*)")
        traces.legend(fontsize="small", frameon=False)
        for values in trace[:, kept]:
            running.plot(draw[kept], np.cumsum(values) / np.arange(1, len(values) + 1), lw=0.9)
        low, high = self.interval()
        if math.isfinite(low):
            running.axhspan(low, high, color="0.85", zorder=0, label="89% interval")
            running.legend(fontsize="small", frameon=False)
        running.axhline(self.llc, color="black", lw=1)
        running.set(xlabel="step of the chain", ylabel="running estimate")
        figure.suptitle(
            f"local learning coefficient {self.llc:.4g} ± {self.standard_error:.2g}: "
            f"{self.diagnostics['verdict']}",
            fontsize="medium",
        )
        return figure

    def to_netcdf(self, path: str | PathLike[str]) -> None:
        """Write the result, traces and diagnostics included, to a netCDF file."""
        try:
            self.dataset.to_netcdf(path, engine="h5netcdf")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}; choose another place") from error

    @classmethod
    def from_netcdf(cls, path: str | PathLike[str]) -> LLC:
        """Read what `to_netcdf` wrote."""
        try:
            return cls(xr.load_dataset(path, engine="h5netcdf"))
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error}; check the path") from error

    def __repr__(self) -> str:
        verdict = self.diagnostics["verdict"]
        return f"<LLC {self.llc:.4g} ± {self.standard_error:.2g}, {verdict}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"


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
    sampler : {"sgld", "psgld", "mala"}
        Stochastic-gradient Langevin dynamics, the same in an RMSprop metric, or the
        Metropolis-adjusted reference over the full data.
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
        "relaxation_steps_of_a_flat_direction": 1.0 / (step_size * localisation)
        if sampler != "psgld" and localisation > 0
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


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


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
