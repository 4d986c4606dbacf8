"""Chains of a sampler on a landscape: run them, record losses, run them on.

What lives here: the loop over steps and what it records. What does not: which
settings it is given (`tuning`), and what follows from the traces (`estimator`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emergence_stats.degeneracy.chains.minibatch_noise import (
    hessian_rows,
    quadratic_form,
    unreported_bias,
)
from emergence_stats.degeneracy.chains.probes import Probe, probe, work_done
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.samplers import StepInfo, Streams
from emergence_stats.degeneracy.tuning import Tuning

_CHAIN_PURPOSE, _PROBE_PURPOSE = 0, 7
_FEWEST = 4  # draws that are taken whatever the time
_CHECK_EVERY = 20  # draws after which it is seen whether the loss is still finite
_PROBES = 24  # of so many draws each, a second batch measures the minibatch noise
_LATER = 1.15  # by which the draw of the next probe is later where chains began at rest
_NOISY_CHAINS = 2  # of which it is asked in what directions the noise lies
_MANY = 2**16  # parameters, beyond which the distance from w* is taken only now and then
_NOW_AND_THEN = 8  # draws
# n*beta*(L - L*) is of the order of the number of parameters, and minibatch noise adds thousands at
# most; beyond this a chain is on its way out, though its loss be finite where its run ends.
_OUT, _FEW = 1e6, 100


class Traces(NamedTuple):
    """What chains recorded.

    Attributes
    ----------
    excess, bias : ndarray, shape (chain, draw)
        Loss less that of w* on the same batch; what the finite step adds to n*beta times it.
    batch_variance : float
        Variance of the excess loss that minibatches alone contribute.
    acceptance : float
        Mean acceptance; NaN where every step is accepted.
    finite : bool
        Whether the loss was finite throughout.
    homogeneity, homogeneity_error : float
        ``E[(w - w*) . grad L] / (2 E[L - L*])``: 1 where the loss is quadratic, k / 2 where it
        grows like the k-th power; NaN where not measured. And its standard error.
    departure : float
        By how much ``(w - w*) . grad L`` departs from ``2 (L - L*)``, its value where the loss is
        quadratic, draw by draw: root mean square, less a standard error, as a share of
        ``2 E[L - L*]``. It tells where the departures of different draws cancel. NaN where not
        measured.
    noise_bias_error : float
        Standard error of what `bias` holds of measured minibatch noise.
    virial : ndarray or None, shape (chain, draw)
        ``(w - w*) . grad U`` along MALA's chains, whose expectation is the number of parameters.
    squared_distance : ndarray or None, shape (chain, draw)
        ``|w - w*|^2`` where the loss was recorded; NaN at draws at which it was not taken.
    """

    excess: np.ndarray
    bias: np.ndarray
    batch_variance: float
    acceptance: float
    finite: bool
    homogeneity: float = math.nan
    departure: float = math.nan
    virial: np.ndarray | None = None
    noise_bias_error: float = 0.0
    squared_distance: np.ndarray | None = None
    homogeneity_error: float = math.nan


class Chains:
    """Chains that can be run on from where they stand.

    Parameters
    ----------
    tuning : Tuning
    sampler : str
    step_size : float
    num_chains, batch_size : int
    seed : int
        Chains of the same seed see the same random numbers whatever the other settings.
    num_draws : int
        How many are meant to be recorded at first; from half of them on, now and then, other
        batches are probed.
    steps_per_draw : int
        Steps taken for each that is recorded.
    start : Tensor, shape (chain, parameter), optional
        Where they begin, having come to rest there; w* when left out.
    """

    def __init__(
        self,
        tuning: Tuning,
        sampler: str,
        step_size: float,
        *,
        num_chains: int,
        batch_size: int,
        seed: int,
        num_draws: int,
        steps_per_draw: int = 1,
        start: Tensor | None = None,
    ) -> None:
        self.tuning, self.step_size = tuning, step_size
        self.began_at_rest = start is not None
        self._steps_per_draw = steps_per_draw
        posterior = tuning.posterior
        self._landscape = posterior.landscape
        self._unreported = unreported_bias(
            sampler, posterior.localisation, step_size, tuning.friction
        )
        self._squared_noise: list[Tensor] = []
        self._noise_bias = self._noise_bias_error = 0.0
        device = self._landscape.device
        self._streams = Streams(seed, num_chains, device, purpose=_CHAIN_PURPOSE)
        self._probe_streams = Streams(seed, num_chains, device, purpose=_PROBE_PURPOSE)
        self._kernel = tuning.kernel(sampler, step_size)
        begin = self._landscape.centre.expand(num_chains, -1) if start is None else start
        self._state: Any = self._kernel.init(begin)
        self._batch_size, self._seed = batch_size, seed
        self._excess: list[Tensor] = []
        self._bias: list[Tensor] = []
        self._acceptance: list[Tensor] = []
        self._probes: list[Tensor] = []
        self._work: list[Tensor] = []
        self._departures: list[Tensor] = []
        self._virial: list[Tensor] = []
        self._distance: list[Tensor] = []
        many = self._landscape.num_parameters > _MANY
        self._distance_every = _NOW_AND_THEN if many else 1
        self._out = _OUT * max(self._landscape.num_parameters, _FEW)
        self._adjusted = sampler == "mala"
        every = max(num_draws // _PROBES, 1)
        # Chains at rest are probed from the first, since a few draws may already do.
        self._next_probe, self._probe_every = (
            (0, 6) if self.began_at_rest else (num_draws // 2, every)
        )
        self.finite = True

    @property
    def num_draws(self) -> int:
        """Draws recorded so far."""
        return len(self._excess)

    @property
    def positions(self) -> Tensor:
        """Where the chains stand, shape (chain, parameter)."""
        self._check_held()
        position: Tensor = self._state.position
        return position

    @property
    def traces(self) -> Traces:
        """What was recorded so far."""
        excess = torch.stack(self._excess, dim=1).double().cpu().numpy()
        bias = torch.stack(self._bias, dim=1).double().cpu().numpy() + self._noise_bias
        homogeneity, departure, error = self._growth()
        return Traces(
            excess,
            bias,
            float(torch.stack(self._probes).mean()) if self._probes else 0.0,
            float(torch.stack(self._acceptance).mean()) if self._acceptance else math.nan,
            self.finite and bool(np.isfinite(excess).all()),
            homogeneity,
            departure,
            torch.stack(self._virial, dim=1).cpu().numpy() if self._virial else None,
            self._noise_bias_error,
            self._squared_distances(excess.shape) if self._distance else None,
            error,
        )

    def release(self) -> Chains:
        """Give up where the chains stand, for which there is no use but to run on."""
        self._state = None
        return self

    def run(
        self,
        num_draws: int,
        *,
        num_burnin: int = 0,
        progress: Progress | None = None,
        observe: Callable[[Tensor], None] | None = None,
        until: float = math.inf,
    ) -> Chains:
        """Take `num_burnin` draws without and `num_draws` with a record; stop where not finite.

        `observe` is called with the positions at the draws at which other batches are probed. No
        draw but the first few is begun after `until` (of `time.monotonic`).
        """
        self._check_held()
        with torch.no_grad():
            self._run(num_draws, num_burnin, progress or Progress(), observe, until)
        if self._squared_noise and self.finite:
            self._noise_bias, self._noise_bias_error = self._measured_noise_bias()
        return self

    def _check_held(self) -> None:
        if self._state is None:
            raise RuntimeError("these chains gave up where they stood and cannot be run on")

    def _run(
        self,
        num_draws: int,
        num_burnin: int,
        progress: Progress,
        observe: Callable[[Tensor], None] | None,
        until: float,
    ) -> None:
        told = -num_burnin
        progress.begin((num_draws + num_burnin) * self._steps_per_draw)
        for count in range(-num_burnin, num_draws):
            for _ in range(self._steps_per_draw - 1):
                self._step()
            info = self._recorded_step(observe) if count >= 0 else self._step()
            if count % _CHECK_EVERY == 0 or count == num_draws - 1:
                progress.advance((count + 1 - told) * self._steps_per_draw)
                told = count + 1
                if not bool((self.tuning.posterior.scale * info.excess_loss < self._out).all()):
                    self.finite = False
                    blank = torch.full_like(info.excess_loss, math.nan)
                    missing = num_draws - max(count + 1, 0)
                    self._excess += [blank] * missing
                    self._bias += [blank] * missing
                    break
            if time.monotonic() > until and self.num_draws >= _FEWEST:
                break

    def _step(self) -> StepInfo:
        index = self._streams.batch(self._landscape.num_samples, self._batch_size)
        self._state, info = self._kernel.step(self._state, index, self._streams)
        return info

    def _recorded_step(self, observe: Callable[[Tensor], None] | None) -> StepInfo:
        """A step, of which the loss before it and what else is wanted there are recorded."""
        posterior, before = self.tuning.posterior, self._state.position
        probed = self.num_draws >= self._next_probe
        if probed:
            later = int(_LATER * self.num_draws) if self.began_at_rest else 0
            self._next_probe = max(self._next_probe + self._probe_every, later)
        seen: Probe | None = None
        # An adjusted chain over all samples has nothing else to tell.
        if probed and not self._adjusted:
            noise = self._unreported is not None
            seen = probe(posterior, before, self._probe_streams, self._batch_size, noise=noise)
        info = self._step()
        # The loss recorded of an adjusted chain is that after the step.
        place = self._state.position if self._adjusted else before
        if self.num_draws % self._distance_every == 0:
            away = place - self._landscape.centre
            self._distance.append(away.square().sum(dim=-1, dtype=torch.float64))
        if self._adjusted:
            self._virial.append(work_done(posterior, place, self._state.gradient))
        if seen is not None:
            self._take_in(seen, info.excess_loss)
        self._excess.append(info.excess_loss)
        self._bias.append(info.discretisation_bias)
        if info.acceptance is not None:
            self._acceptance.append(info.acceptance)
        if probed and observe is not None:
            observe(before)
        return info

    def _take_in(self, seen: Probe, excess: Tensor) -> None:
        """What other batches told of the place where losses were this high."""
        work, again = seen.work, seen.excess  # (set, chain)
        self._work += list(torch.stack([work, again], dim=1))
        if len(work) == 1:  # all samples, without noise
            self._departures.append((work[0] - 2.0 * again[0]).square())
            return
        # Half the squared difference from the step's own batch is the variance that minibatches
        # alone contribute, and in the product of two their noise is not.
        self._probes += [0.5 * (one - excess).square() for one in again]
        self._departures.append((work[0] - 2.0 * again[0]) * (work[1] - 2.0 * again[1]))
        if seen.squared_noise is not None:
            self._squared_noise.append(seen.squared_noise)

    def _squared_distances(self, shape: tuple[int, ...]) -> np.ndarray:
        seen = torch.stack(self._distance, dim=1).cpu().numpy()
        filled = np.full(shape, math.nan)
        filled[:, : seen.shape[1] * self._distance_every : self._distance_every] = seen
        return filled

    def _measured_noise_bias(self) -> tuple[float, float]:
        # The size of the noise along the chains times the share that counts, where they now stand.
        assert self._unreported is not None
        posterior, position = self.tuning.posterior, self._state.position[:_NOISY_CHAINS]
        rows = hessian_rows(posterior, self._batch_size, self._seed)
        largest = 4.0 / self.step_size  # half of what is stable
        here = probe(posterior, position, self._probe_streams, self._batch_size, noise=True)
        assert here.noise is not None
        assert here.squared_noise is not None
        share = quadratic_form(posterior, position, here.noise, self._unreported, rows, largest)
        squared = here.squared_noise
        if not float(squared.sum()) > 0.0:
            return 0.0, 0.0
        mean_share = float((share.to(squared) * squared).sum() / squared.sum())
        seen = torch.stack(self._squared_noise)  # (probe, chain)
        # Neighbouring probes are alike and chains are not, so these tell the error.
        alone = seen.mean(dim=0) if seen.shape[1] > 1 else seen[:, 0]
        error = float(alone.std()) / len(alone) ** 0.5 if len(alone) > 1 else 0.0
        return mean_share * float(seen.mean()), abs(mean_share) * error

    def _growth(self) -> tuple[float, float, float]:
        """Homogeneity, departure, and the error of the former."""
        if not self._work:
            return math.nan, math.nan, math.nan
        seen = torch.stack(self._work)  # (probe, work or excess, chain)
        work, excess = seen.mean(dim=(0, 2)).tolist()
        if not excess > 0.0:
            return math.nan, math.nan, math.nan
        homogeneity = 0.5 * work / excess
        rest = (seen[:, 0] - 2.0 * homogeneity * seen[:, 1]).flatten()
        error = float(rest.std()) / (2.0 * excess * max(len(rest), 1) ** 0.5)
        squares = torch.stack(self._departures)
        # Less one error of its mean. Less two, half of SGHMC's low estimates beside a crossing
        # pass; less one, a fifth, and 2 of 160 of regular models, where it is zero, do not.
        known = float(squares.mean()) - float(squares.std()) / squares.numel() ** 0.5
        return homogeneity, math.sqrt(max(known, 0.0)) / (2.0 * excess), error
