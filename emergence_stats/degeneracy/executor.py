"""Losses and gradients of several chains, behind one method.

What lives here: `Executor`, by `torch.func.vmap` or one chain after another, and which of the two
it is, found out by trying both. What does not: the loss of one chain (`landscape.vector_loss`),
models and data (`landscape`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as tree
from torch.utils.flop_counter import FlopCounterMode

# Above this many floating-point operations in one chain's forward pass, a CPU is no longer held up
# by the cost of launching operators and stacked weights only cost memory traffic.
_STACKING_PAYS_BELOW = 4e7


class Executor:
    """What are the losses of these chains, and their gradients?

    Parameters
    ----------
    of_one : callable
        ``of_one(position, batch)``, the loss of one chain.
    stacked : bool
        Whether chains are evaluated together with `torch.func.vmap`; else in sequence.
    """

    def __init__(self, of_one: Callable[[Tensor, Any], Tensor], *, stacked: bool) -> None:
        self._of_one, self._stacked = of_one, stacked

    def losses_and_gradients(
        self, positions: Tensor, batch: Any, *, shared: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Losses (chain,) and gradients (chain, parameter).

        Parameters
        ----------
        positions : Tensor, shape (chain, parameter)
        batch : tree of Tensor
            Of each chain its own samples, shape (chain, sample, ...), or with `shared` those that
            all chains see, shape (sample, ...).
        """
        if self._stacked:
            together = vmap(self._of_one, in_dims=(0, None if shared else 0))
            return _with_gradient(together, positions, batch)
        found = []
        for chain, position in enumerate(positions):
            own = batch if shared else tree.tree_map(lambda leaf, row=chain: leaf[row], batch)
            found.append(_with_gradient(self._of_one, position, own))
        losses, gradients = zip(*found, strict=True)
        return torch.stack(losses), torch.stack(gradients)


def _with_gradient(
    loss: Callable[[Tensor, Any], Tensor], position: Tensor, batch: Any
) -> tuple[Tensor, Tensor]:
    # Autograd around vmap, not torch.func.grad within: the same numbers with fewer Python calls.
    # No loss depends on another chain's position, so the sum has the gradient of each.
    with torch.enable_grad():
        leaf = position.detach().requires_grad_()
        losses = loss(leaf, batch)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), gradient


class Evaluation(NamedTuple):
    """Are chains evaluated together, and why (not)?"""

    stacked: bool
    because: str


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
        operations = count_operations(forward) * batches
        if operations > _STACKING_PAYS_BELOW:
            because = f"in sequence: {operations:.1e} operations a forward pass keep this CPU busy"
            return Evaluation(False, because)
    return Evaluation(True, "together with torch.func.vmap")


def count_operations(forward: Callable[[], Tensor]) -> float:
    """Floating-point operations of a forward pass."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that other settings of oneDNN are for other devices
        # oneDNN's recurrent layers are one operator, in which products go uncounted.
        plain = torch.backends.mkldnn.flags(enabled=False)
        with plain, FlopCounterMode(display=False) as counter:
            forward()
    return float(counter.get_total_flops())


@contextmanager
def batching_or_error() -> Iterator[None]:
    """An operator without a batching rule is taken one by one with a warning: so can we."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*batching rule.*")
        yield
