"""Chains of a sampler on a landscape: run them, record losses, run them on.

What lives here: the loop over steps and what it records. What does not: which
settings it is given (`tuning`), and what follows from the traces (`estimator`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emergence_stats.degeneracy.freed import give_back
from emergence_stats.degeneracy.lanes import Lanes, Stepped, Wanted
from emergence_stats.degeneracy.looks import Look, work_done
from emergence_stats.degeneracy.minibatch_noise import hessian_rows, unreported_bias
from emergence_stats.degeneracy.progress import Progress
from emergence_stats.degeneracy.samplers import Streams
from emergence_stats.degeneracy.tuning import Tuning

_CHAIN_PURPOSE = 0
_CHECK_EVERY = 20  # steps between looks at whether the loss is still finite
_PROBES = 24  # draws at which a second batch measures the minibatch noise
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
        batches are looked at.
    steps_per_draw : int
        Steps taken for each that is recorded.
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
    ) -> None:
        self.tuning, self.step_size = tuning, step_size
        self._steps_per_draw = steps_per_draw
        posterior = tuning.posterior
        give_back(posterior.landscape.num_parameters)
        self._unreported = unreported_bias(sampler, posterior.localisation, step_size)
        self._squared_noise: list[Tensor] = []
        self._noise_bias = self._noise_bias_error = 0.0
        device = posterior.landscape.device
        streams = Streams(seed, num_chains, device, purpose=_CHAIN_PURPOSE)
        looks = Streams(seed, num_chains, device, purpose=_CHAIN_PURPOSE + 7)
        self._lanes = Lanes(
            tuning, sampler, step_size, streams, looks, batch_size,
            measures_noise=self._unreported is not None,
        )  # fmt: skip
        self._landscape = self._lanes.landscape
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
        self._probe_from, self._probe_every = num_draws // 2, max(num_draws // _PROBES, 1)
        self.finite = True

    @property
    def num_draws(self) -> int:
        """Draws recorded so far."""
        return len(self._excess)

    @property
    def positions(self) -> Tensor:
        """Where the chains stand, shape (chain, parameter)."""
        self._check_held()
        return torch.cat([state.position for state in self._lanes.states])

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
        self._lanes.release()
        return self

    def run(
        self,
        num_draws: int,
        *,
        num_burnin: int = 0,
        progress: Progress | None = None,
        observe: Callable[[Tensor], None] | None = None,
    ) -> Chains:
        """Take `num_burnin` draws without and `num_draws` with a record; stop where not finite.

        `observe` is called with the positions at the draws at which other batches are looked at.
        """
        self._check_held()
        give_back(self._landscape.num_parameters)
        with self._lanes.running():
            self._run(num_draws, num_burnin, progress or Progress(), observe)
        give_back(self._landscape.num_parameters)
        if self._squared_noise and self.finite:
            self._noise_bias, self._noise_bias_error = self._measured_noise_bias()
        return self

    def _check_held(self) -> None:
        if not self._lanes.every:
            raise RuntimeError("these chains gave up where they stood and cannot be run on")

    def _run(
        self,
        num_draws: int,
        num_burnin: int,
        progress: Progress,
        observe: Callable[[Tensor], None] | None,
    ) -> None:
        count = told = -num_burnin
        progress.begin((num_draws + num_burnin) * self._steps_per_draw)
        while count < num_draws:
            wanted = self._stretch(count, num_draws, observe is not None)
            for stepped in self._lanes.steps(wanted):
                if count >= 0:
                    self._record(stepped, observe)
                count += 1
            last = count - 1
            if last % _CHECK_EVERY == 0 or last == num_draws - 1:
                progress.advance((count - told) * self._steps_per_draw)
                told = count
                excess = _joined([one.info.excess_loss for one in stepped])
                if not bool((self.tuning.posterior.scale * excess < self._out).all()):
                    self.finite = False
                    missing = num_draws - max(count, 0)
                    blank = torch.full_like(excess, math.nan)
                    self._excess += [blank] * missing
                    self._bias += [blank] * missing
                    break

    def _stretch(self, count: int, num_draws: int, observed: bool) -> list[Wanted]:
        """What is wanted of each step up to the next after which there is something to do."""
        wanted: list[Wanted] = []
        for step in range(count, num_draws):
            drawn = self.num_draws + step - max(count, 0)
            looked_at = step >= 0 and drawn >= self._probe_from and drawn % self._probe_every == 0
            measured = step >= 0 and drawn % self._distance_every == 0 and not self._adjusted
            # An adjusted chain over all samples has nothing else to tell.
            told = looked_at and not self._adjusted
            watched = looked_at and observed
            wanted.append(Wanted(told, watched, measured, self._steps_per_draw))
            if looked_at or self._adjusted or step % _CHECK_EVERY == 0:
                break
        return wanted

    def _record(self, stepped: list[Stepped], observe: Callable[[Tensor], None] | None) -> None:
        if self._adjusted:  # the loss recorded is that after the step
            posterior = self.tuning.posterior
            work = [work_done(posterior, one.position, one.gradient) for one in self._lanes.states]
            self._virial.append(torch.cat(work))
            if self.num_draws % self._distance_every == 0:
                self._distance.append(self._lanes.squared_distances())
        distances = [one.squared_distance for one in stepped if one.squared_distance is not None]
        if distances:
            self._distance.append(_joined(distances))
        infos = [one.info for one in stepped]
        excess = _joined([info.excess_loss for info in infos])
        self._excess.append(excess)
        self._bias.append(_joined([info.discretisation_bias for info in infos]))
        accepted = [info.acceptance for info in infos if info.acceptance is not None]
        if accepted:
            self._acceptance.append(torch.cat(accepted))
        looks = [one.look for one in stepped if one.look is not None]
        if looks:
            self._take_in(looks, excess)
        places = [one.before for one in stepped if one.before is not None]
        if places and observe is not None:
            observe(_joined(places))

    def _take_in(self, looks: list[Look], excess: Tensor) -> None:
        """What was looked at where the chains stood when their losses were this high."""
        work = torch.cat([look.work for look in looks], dim=-1)  # (set, chain)
        again = torch.cat([look.excess for look in looks], dim=-1)
        self._work += list(torch.stack([work, again], dim=1))
        if len(work) == 1:  # all samples, without noise
            self._departures.append((work[0] - 2.0 * again[0]).square())
            return
        # Half the squared difference from the step's own batch is the variance that minibatches
        # alone contribute, and in the product of two their noise is not.
        self._probes += [0.5 * (one - excess).square() for one in again]
        self._departures.append((work[0] - 2.0 * again[0]) * (work[1] - 2.0 * again[1]))
        squared = [look.squared_noise for look in looks if look.squared_noise is not None]
        if squared:
            self._squared_noise.append(torch.cat(squared))

    def _squared_distances(self, shape: tuple[int, ...]) -> np.ndarray:
        seen = torch.stack(self._distance, dim=1).cpu().numpy()
        filled = np.full(shape, math.nan)
        filled[:, : seen.shape[1] * self._distance_every : self._distance_every] = seen
        return filled

    def _measured_noise_bias(self) -> tuple[float, float]:
        # The size of the noise along the chains times the share that counts, where they now stand.
        assert self._unreported is not None
        rows = hessian_rows(self.tuning.posterior, self._batch_size, self._seed)
        largest = 4.0 / self.step_size  # half of what is stable
        found = self._lanes.noise_shares(self._unreported, rows, largest)
        share, squared = (torch.cat(one) for one in zip(*found, strict=True))
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
        seen = torch.stack(self._work)  # (look, work or excess, chain)
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


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
