"""Chains in lanes: those of one lane step together, the lanes one after another or side by side.

What lives here: `Lanes`, the states of all chains and steps of them. What does not: what is
recorded along the way (`chains`), and the algorithms (`samplers`).

A lane takes whole steps by itself, so that what a step needs for a while (gradient, pull, noise) is
had for the chains of one lane and not for all. Where PyTorch may use several threads, they share
the chains out between them, each taking whole steps of lanes of its own: a step is more than the
products that several threads would speed up together. That begins when the gradient has become a
list of operators; until then, and for models that cannot be traced, lanes take turns, for neither a
model nor a loss function need bear being called on two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.compiled import squared_distances
from emergence_stats.degeneracy.freed import give_back
from emergence_stats.degeneracy.gradients import PIECES_FROM
from emergence_stats.degeneracy.landscape import MEMORY_COUNTS_FROM, LossLandscape
from emergence_stats.degeneracy.looks import Look, on_all_samples, on_two_batches
from emergence_stats.degeneracy.minibatch_noise import quadratic_form
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import Kernel, Streams
from emergence_stats.degeneracy.samplers.base import StepInfo
from emergence_stats.degeneracy.tuning import Tuning

# A step costs about as much as the parameters times the batch and a few dozen more, and of it the
# operators of two threads wait for one another for 0.4 ms. Two threads took steps of 4 chains 0.3
# to 0.9 times as fast at 1,000 to 5,000 parameters; at 20,000 0.7, 0.9 and 1.5 times at batch 32,
# 128 and 512; at 50,000 1.1, 1.5 and 1.6; at 100,000 1.5, 1.7 and 1.8; at a million 2.0.
_THREADS_PAY_FROM = 2**22
_BESIDE_THE_BATCH = 64
# Products so small that two threads wait for one another for longer than they save: at 1,000
# parameters and batch 128 a step of 4 chains took 212 us on two and 186 on one, at 512 373 and 400.
_ONE_THREAD_BELOW = 2**18


class Wanted(NamedTuple):
    """What is to be kept of a step beside what it reports.

    Attributes
    ----------
    look : bool
        What other batches tell of where the chains stood before it.
    position : bool
        Where that was.
    distance : bool
        How far that was from w*.
    steps : int
        It is the last of so many, of which the others leave nothing behind.
    """

    look: bool
    position: bool
    distance: bool
    steps: int = 1


class Stepped(NamedTuple):
    """What one step of a lane left behind.

    Attributes
    ----------
    info : StepInfo
    look : Look or None
    before : Tensor or None, shape (chain, parameter)
        Where the chains stood before it, where that was wanted.
    squared_distance : Tensor or None, shape (chain,)
        ``|w - w*|^2`` there, where that was wanted.
    """

    info: StepInfo
    look: Look | None
    before: Tensor | None
    squared_distance: Tensor | None


class _Lane:
    """Chains that are evaluated together."""

    def __init__(
        self,
        posterior: LocalisedPosterior,
        kernel: Kernel,
        streams: Streams,
        look_streams: Streams,
        batch_size: int,
        measures_noise: bool,
    ) -> None:
        self.posterior, self._landscape = posterior, posterior.landscape
        self._streams, self._look_streams = streams, look_streams
        self._batch_size, self._measures_noise = batch_size, measures_noise
        self._step = kernel.step_over or kernel.step
        self.state = kernel.init(self._landscape.centre.expand(len(streams.draws), -1))
        position = self.state.position
        compiled = position.device.type == "cpu" and position.dtype == torch.float32
        stays = kernel.step_over is not None and compiled
        self._in_place = stays and position.numel() >= MEMORY_COUNTS_FROM
        if self._in_place:
            self._landscape.evaluate_in_place(position)

    @property
    def traced(self) -> bool:
        """Whether a step calls neither the model nor the loss function any more."""
        return self._landscape.is_traced(len(self._streams.draws), self._batch_size)

    def squared_distance(self) -> Tensor:
        """``|w - w*|^2``, shape (chain,)."""
        position, centre = self.state.position, self._landscape.centre
        if position.device.type != "cpu":
            return (position - centre).square_().sum(dim=-1, dtype=torch.float64)
        found = torch.empty(len(position), dtype=torch.float64)
        squared_distances(position.numpy(), centre.numpy(), found.numpy())
        return found

    def noise_share(
        self,
        posterior: LocalisedPosterior,
        function: Callable[[Tensor], Tensor],
        rows: Tensor,
        largest: float,
    ) -> tuple[Tensor, Tensor]:
        """``xi . function(Hessian of U) . xi / |xi|^2`` and ``|xi|^2``, xi the minibatch noise."""
        position = self.state.position
        noise = posterior.landscape.scratch(position)
        if self._in_place:
            posterior.landscape.evaluate_in_place(position)
        look, seen = on_two_batches(
            posterior, position, self._look_streams, self._batch_size, noise=True
        )
        assert seen is not None
        noise.copy_(seen)
        assert look.squared_noise is not None
        share = quadratic_form(posterior, position, noise, function, rows, largest)
        return share, look.squared_noise

    def _look(self) -> Look:
        position = self.state.position
        if self._batch_size >= self._landscape.num_samples:
            return on_all_samples(self.posterior, position)
        return on_two_batches(
            self.posterior,
            position,
            self._look_streams,
            self._batch_size,
            noise=self._measures_noise,
        )[0]

    def step(self, wanted: Wanted) -> Stepped:
        for _ in range(wanted.steps - 1):
            self._take_step()
        distance = self.squared_distance() if wanted.distance else None
        look = self._look() if wanted.look else None
        before = self.state.position.clone() if wanted.position else None
        return Stepped(self._take_step(), look, before, distance)

    def _take_step(self) -> StepInfo:
        index = self._streams.batch(self._landscape.num_samples, self._batch_size)
        self.state, info = self._step(self.state, index, self._streams)
        return info


class Lanes:
    """All chains, at w* to begin with.

    Parameters
    ----------
    tuning : Tuning
    sampler : str
    step_size : float
    streams, look_streams : Streams
        The random numbers of each chain, which do not depend on the lane it is in; those of the
        batches that are looked at beside its steps.
    batch_size : int
    measures_noise : bool
        Whether looks measure the noise of minibatch gradients.

    Attributes
    ----------
    landscape : LossLandscape
        The tuning's; with several threads, or where batches are gone through whole, one with the
        memory of the first lanes, which evaluates as many chains together as are in a lane.
    """

    def __init__(
        self,
        tuning: Tuning,
        sampler: str,
        step_size: float,
        streams: Streams,
        look_streams: Streams,
        batch_size: int,
        *,
        measures_noise: bool = False,
    ) -> None:
        posterior = tuning.posterior
        landscape = posterior.landscape
        num_chains = len(streams.draws)
        most = landscape.max_chains_at_once or num_chains  # on all threads together
        threads = min(_threads(landscape, batch_size), num_chains, most)
        size = min(landscape.chains_at_once(num_chains), -(-num_chains // threads), most // threads)
        parts = list(zip(streams.split(size), look_streams.split(size), strict=True))
        each = -(-len(parts) // threads)
        kernel = tuning.kernel(sampler, step_size)
        self._shares: list[list[_Lane]] = []
        for number, first in enumerate(range(0, len(parts), each)):
            # Of each thread its own memory for gradients. Chains of psgld share a metric at rest,
            # and leave room for those of whole batches, which are quicker.
            whole = sampler == "psgld" and size * landscape.num_parameters >= PIECES_FROM
            alone = threads == 1 and not whole
            own = landscape if alone else landscape.beside(number, size, whole=whole)
            there = posterior._replace(landscape=own)
            lanes = [
                _Lane(there, kernel.on(there.potential), *part, batch_size, measures_noise)
                for part in parts[first : first + each]
            ]
            self._shares.append(lanes)
            if number == 0:
                self.landscape = own
        products = landscape.num_parameters * batch_size * landscape.rows_per_sample
        self._small = landscape.device.type == "cpu" and products < _ONE_THREAD_BELOW
        self._pools: list[ThreadPoolExecutor] = []
        self._all_traced = False

    @property
    def every(self) -> list[_Lane]:
        """All lanes, in the order of the chains."""
        return [lane for share in self._shares for lane in share]

    @property
    def states(self) -> list[Any]:
        """The sampler's state of each lane, in the order of the chains."""
        return [lane.state for lane in self.every]

    def noise_shares(
        self, function: Callable[[Tensor], Tensor], rows: Tensor, largest: float
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each lane `_Lane.noise_share`, in memory for gradients of one thread."""
        first = self.every[0].posterior
        for lane in self.every:
            if lane.posterior.landscape is not first.landscape:
                lane.posterior.landscape.rest()
        give_back(first.landscape.num_parameters)
        return [lane.noise_share(first, function, rows, largest) for lane in self.every]

    def release(self) -> None:
        """Give up the states, and with them what reads positions where they are."""
        self._shares = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Holds the threads, where there are several, for as long as steps are taken."""
        before = torch.get_num_threads()
        if len(self._shares) == 1:
            torch.set_num_threads(1 if self._small else before)
            try:
                yield
            finally:
                torch.set_num_threads(before)
            return

        def begin() -> None:
            torch.get_num_threads()  # or the first operator sets it to that of the process
            torch.set_num_threads(max(1, before // len(self._shares)))

        with ExitStack() as stack:
            # A pool for each share, which thereby stays on one thread.
            pools = [
                stack.enter_context(ThreadPoolExecutor(1, initializer=begin)) for _ in self._shares
            ]
            try:
                for begun in [pool.submit(int) for pool in pools]:
                    begun.result()
            finally:
                torch.set_num_threads(before)  # what later threads of the process begin with
            self._pools = pools
            try:
                yield
            finally:
                self._pools = []

    def squared_distances(self) -> Tensor:
        """``|w - w*|^2`` of every chain where it stands, shape (chain,)."""
        return torch.cat([lane.squared_distance() for lane in self.every])

    def steps(self, wanted: Sequence[Wanted]) -> list[list[Stepped]]:
        """As many steps of every chain as there is something wanted of, each by lane.

        Threads take them all before they are waited for: handing over costs as much as a short
        step.
        """
        if not self._pools:
            return _steps(self.every, wanted)
        done: list[list[Stepped]] = []
        for one in wanted:
            if self._traced():
                break
            done += _steps(self.every, [one])
        rest = wanted[len(done) :]
        if rest:
            running = [
                pool.submit(_steps, share, rest)
                for pool, share in zip(self._pools, self._shares, strict=True)
            ]
            by_share = [share.result() for share in running]
            done += [
                [lane for share in step for lane in share] for step in zip(*by_share, strict=True)
            ]
        return done

    def _traced(self) -> bool:
        if not self._all_traced:
            self._all_traced = all(lane.traced for lane in self.every)
        return self._all_traced


def _steps(share: list[_Lane], wanted: Sequence[Wanted]) -> list[list[Stepped]]:
    with torch.no_grad():
        # One lane after another, so that a large position stays in the cache from step to step.
        by_lane = [[lane.step(one) for one in wanted] for lane in share]
    return [list(lanes) for lanes in zip(*by_lane, strict=True)]


def _threads(landscape: LossLandscape, batch_size: int) -> int:
    """How many threads may share the chains?"""
    alone = (
        landscape.device.type != "cpu"
        or landscape.num_parameters * (batch_size + _BESIDE_THE_BATCH) < _THREADS_PAY_FROM
        or batch_size >= landscape.num_samples
    )
    return 1 if alone else torch.get_num_threads()
