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

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.compiled import squared_distances
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.samplers import Kernel, Streams
from emergence_stats.degeneracy.samplers.base import StepInfo
from emergence_stats.degeneracy.tuning import Tuning

# A step costs about as much as the parameters times the batch and a few dozen more, and of it the
# operators of two threads wait for one another for 0.4 ms. Two threads took steps of 4 chains 0.3
# to 0.9 times as fast at 1,000 to 5,000 parameters; at 20,000 0.7, 0.9 and 1.5 times at batch 32,
# 128 and 512; at 50,000 1.1, 1.5 and 1.6; at 100,000 1.5, 1.7 and 1.8; at a million 2.0.
_THREADS_PAY_FROM = 2**22
_BESIDE_THE_BATCH = 64
# Below so many numbers a state more is nothing, and a few calls less are a tenth of a step.
_MEMORY_COUNTS_FROM = 2**16


class Wanted(NamedTuple):
    """What is to be kept of a step beside what it reports.

    Attributes
    ----------
    position : bool
        Where the chains stood before it.
    distance : bool
        How far that was from w*.
    """

    position: bool
    distance: bool


class Stepped(NamedTuple):
    """What one step of a lane left behind.

    Attributes
    ----------
    info : StepInfo
    before : Tensor or None, shape (chain, parameter)
        Where the chains stood before it, where that was wanted.
    squared_distance : Tensor or None, shape (chain,)
        ``|w - w*|^2`` there, where that was wanted.
    """

    info: StepInfo
    before: Tensor | None
    squared_distance: Tensor | None


class _Lane:
    """Chains that are evaluated together."""

    def __init__(
        self, landscape: LossLandscape, kernel: Kernel, streams: Streams, batch_size: int
    ) -> None:
        self._landscape, self._kernel, self._streams = landscape, kernel, streams
        self._batch_size = batch_size
        self.state = kernel.init(landscape.centre.expand(len(streams.draws), -1))

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

    def step(self, wanted: Wanted) -> Stepped:
        distance = self.squared_distance() if wanted.distance else None
        index = self._streams.batch(self._landscape.num_samples, self._batch_size)
        before = self.state
        if wanted.position:
            self.state, info = self._kernel.step(before, index, self._streams)
            return Stepped(info, before.position, distance)
        read = before
        if before.position.numel() >= _MEMORY_COUNTS_FROM:
            copy = self._landscape.copied_position(before.position, index)
            if copy is not None:  # then the step may write over what it was copied from
                read = before._replace(position=copy)
                self._kernel.lend(before.position)
        self.state, info = self._kernel.step(read, index, self._streams)
        self._kernel.forget(before, self.state)
        return Stepped(info, None, distance)


class Lanes:
    """All chains, at w* to begin with.

    Parameters
    ----------
    tuning : Tuning
    sampler : str
    step_size : float
    streams : Streams
        The random numbers of each chain, which do not depend on the lane it is in.
    batch_size : int

    Attributes
    ----------
    landscape : LossLandscape
        The tuning's, or with several threads that of the first of them: it evaluates as many chains
        together as are in a lane.
    """

    def __init__(
        self, tuning: Tuning, sampler: str, step_size: float, streams: Streams, batch_size: int
    ) -> None:
        posterior = tuning.posterior
        landscape = posterior.landscape
        num_chains = len(streams.draws)
        most = landscape.max_chains_at_once or num_chains  # on all threads together
        threads = min(_threads(landscape, batch_size), num_chains, most)
        size = min(landscape.chains_at_once(num_chains), -(-num_chains // threads), most // threads)
        parts = streams.split(size)
        each = -(-len(parts) // threads)
        self._shares: list[list[_Lane]] = []
        for number, first in enumerate(range(0, len(parts), each)):
            # Of each thread its own memory for gradients, and for states that are overwritten.
            own = landscape if threads == 1 else landscape.beside(number, size)
            tuned = tuning._replace(posterior=posterior._replace(landscape=own))
            kernel = tuned.kernel(sampler, step_size)
            lanes = [_Lane(own, kernel, part, batch_size) for part in parts[first : first + each]]
            self._shares.append(lanes)
            if number == 0:
                self.landscape = own
        self._pools: list[ThreadPoolExecutor] = []
        self._all_traced = False

    @property
    def states(self) -> list[Any]:
        """The sampler's state of each lane, in the order of the chains."""
        return [lane.state for share in self._shares for lane in share]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Holds the threads, where there are several, for as long as steps are taken."""
        if len(self._shares) == 1:
            yield
            return
        before = torch.get_num_threads()

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
        return torch.cat([lane.squared_distance() for share in self._shares for lane in share])

    def steps(self, wanted: Sequence[Wanted]) -> list[list[Stepped]]:
        """As many steps of every chain as there is something wanted of, each by lane.

        Threads take them all before they are waited for: handing over costs as much as a short
        step.
        """
        every = [lane for share in self._shares for lane in share]
        if not self._pools:
            return _steps(every, wanted)
        done: list[list[Stepped]] = []
        for one in wanted:
            if self._traced():
                break
            done += _steps(every, [one])
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
            self._all_traced = all(lane.traced for share in self._shares for lane in share)
        return self._all_traced


def _steps(share: list[_Lane], wanted: Sequence[Wanted]) -> list[list[Stepped]]:
    with torch.no_grad():
        return [[lane.step(one) for lane in share] for one in wanted]


def _threads(landscape: LossLandscape, batch_size: int) -> int:
    """How many threads may share the chains?"""
    alone = (
        landscape.device.type != "cpu"
        or landscape.num_parameters * (batch_size + _BESIDE_THE_BATCH) < _THREADS_PAY_FROM
        or batch_size >= landscape.num_samples
    )
    return 1 if alone else torch.get_num_threads()
