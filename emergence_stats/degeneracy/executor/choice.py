"""Are chains evaluated together or in sequence?

What lives here: finding out, by trying both. What does not: either way of evaluating (`plain`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

# Above this many floating-point operations in one chain's forward pass, a CPU is no longer held up
# by the cost of launching operators and stacked weights only cost memory traffic.
_STACKING_PAYS_BELOW = 4e7


class Evaluation(NamedTuple):
    """How the chains of a landscape are evaluated.

    Attributes
    ----------
    stacked : bool
        Together, with `torch.func.vmap`.
    because : str
    functional : bool
        Whether `torch.func` bears with the model at all.
    """

    stacked: bool
    because: str
    functional: bool = False


def choose_evaluation(
    together: Callable[[], Tensor],
    in_sequence: Callable[[], Tensor],
    forward: Callable[[], Tensor],
    *,
    wanted: bool | None,
    batches: float,
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
    if wanted is None and batches:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            forward()
        operations = counter.get_total_flops() * batches
        if operations > _STACKING_PAYS_BELOW:
            because = f"in sequence: {operations:.1e} operations a forward pass keep this CPU busy"
            return Evaluation(False, because, functional=True)
    return Evaluation(True, "together with torch.func.vmap", functional=True)


@contextmanager
def batching_or_error() -> Iterator[None]:
    """An operator without a batching rule is taken one by one with a warning: so can we."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*batching rule.*")
        yield
