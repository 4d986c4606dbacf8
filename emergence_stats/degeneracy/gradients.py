"""Losses and gradients of chains, alone or side by side, and how they are to be evaluated.

What lives here: the traced functions of one landscape on one thread and the memory they share
(`Gradients`), into how many pieces a batch is divided, and whether chains are evaluated together.
What does not: the loss as a function of a vector (`vector_loss`), and how a function is traced
(`tracing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils.flop_counter import FlopCounterMode

from emergence_stats.degeneracy.batches import SampleTree
from emergence_stats.degeneracy.replay import Room
from emergence_stats.degeneracy.sample_losses import batching_or_error
from emergence_stats.degeneracy.tracing import Run, TracedWhenRepeated

# Above this many floating-point operations in one chain's forward pass, a CPU is no longer held up
# by the cost of launching operators and stacked weights only cost memory traffic (measured on deep
# linear networks: stacked 4% faster at 2.6e7, sequence 20% faster at 6.4e7).
_STACKING_PAYS_BELOW = 4e7
# From so many numbers on, of all chains together, a batch is gone through in parts of no fewer rows
# of a matrix than these. Each passes over weights and gradient anew: at a million parameters and
# batch 512, on two threads, parts of 128 took steps to 0.70 of the matrix-multiply rate, of 256 to
# 0.85, and no parts 0.87.
PIECES_FROM, _ROWS = 2**18, 256


class Gradients:
    """Loss and gradient as lists of operators, in memory of which one is run at a time.

    Parameters
    ----------
    one : callable
        ``one(position, batch) -> (loss, gradient)`` of one chain.
    samples : SampleTree
    twin : Gradients, optional
        For another thread, of the same function: what it has traced is taken over.

    Attributes
    ----------
    of_one_chain, on_own_batches, on_shared_batch : TracedWhenRepeated
        Of a position; of several, each on a batch of its own; of several on one batch.
    """

    def __init__(self, one: Run, samples: SampleTree, twin: Gradients | None = None) -> None:
        self._one, self._samples, self._room = one, samples, Room()

        def traced(run: Run, theirs: TracedWhenRepeated | None) -> TracedWhenRepeated:
            return TracedWhenRepeated(run, samples, self._room, theirs)

        runs = (one, vmap(one), vmap(one, in_dims=(0, None)))
        known: Sequence[TracedWhenRepeated | None] = (None, None, None)
        if twin is not None:
            known = twin._all
        self._all: Sequence[TracedWhenRepeated] = [
            traced(run, theirs) for run, theirs in zip(runs, known, strict=True)
        ]
        self.of_one_chain, self.on_own_batches, self.on_shared_batch = self._all

    def beside(self) -> Gradients:
        """The same in memory of its own, for another thread."""
        return Gradients(self._one, self._samples, self)

    def rest(self) -> None:
        """Give up all memory until it is needed again; only where a twin has the traces."""
        for traced in self._all:
            traced.rest()
        self._room.clear()

    def evaluate_in_place(self, holder: Tensor) -> None:
        """Read positions (chain, parameter) in this memory without a copy, while it exists."""
        for traced in self._all:
            traced.reside(holder)

    def scratch(self, like: Tensor) -> Tensor:
        """A tensor of this shape and type to write to, the same one each time."""
        return self._room.tensor("scratch", like)


def pieces_of(rows: int, rows_per_sample: float) -> int:
    """Into how many parts is a batch divided, so that its gradient needs less memory?

    Parameters
    ----------
    rows : int
        Samples in the batch.
    rows_per_sample : float
        Rows of a matrix that a sample comes to in most products.
    """
    fewest = max(1, round(_ROWS / rows_per_sample))
    allowed = [parts for parts in (2, 4, 8) if rows % parts == 0 and rows // parts >= fewest]
    return max(allowed, default=1)


class Evaluation(NamedTuple):
    """How the chains of a landscape are evaluated.

    Attributes
    ----------
    stacked : bool
        Together, with `torch.func.vmap`.
    because : str
    traceable : bool
        Whether operators do not depend on the numbers, so that they can be traced.
    rows_per_sample : float
        Rows of a matrix that a sample comes to in most products.
    """

    stacked: bool
    because: str
    traceable: bool = False
    rows_per_sample: float = 1.0


def how_to_evaluate(
    together: Callable[[], Tensor],
    in_sequence: Callable[[], Tensor],
    forward: Callable[[], Tensor],
    *,
    wanted: bool | None,
    batches: float,
    numbers: int,
) -> Evaluation:
    """Are chains evaluated together or in sequence?

    Parameters
    ----------
    together, in_sequence : callable
        The losses of two chains.
    forward : callable
        The loss of one chain on some samples.
    wanted : bool, optional
        What the caller asked for.
    batches : float
        How many times as many samples are in a batch; 0 on a device that is never held up.
    numbers : int
        Parameters times the samples in a batch.
    """
    if wanted is False:
        return Evaluation(False, "in sequence, as asked")
    reference = in_sequence()
    # torch.func refuses what it cannot batch with many kinds of error (in-place writes, data-
    # dependent control flow, random numbers), and each of them means the same thing here.
    try:
        with batching_or_error():
            stacked = together()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        because = f"in sequence: torch.func.vmap cannot batch this model ({reason})"
        return Evaluation(False, because)
    if not torch.allclose(stacked, reference, rtol=1e-3, atol=1e-6):
        return Evaluation(False, "in sequence: batched evaluation gave another loss")
    rows = 1.0
    if wanted is None and batches:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            forward()
        operations = counter.get_total_flops() * batches
        rows = max(1.0, operations / (2.0 * numbers))
        if operations > _STACKING_PAYS_BELOW:
            because = f"in sequence: {operations:.1e} operations a forward pass keep this CPU busy"
            return Evaluation(False, because, True, rows)
    return Evaluation(True, "together with torch.func.vmap", True, rows)
