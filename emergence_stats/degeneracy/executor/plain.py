"""Losses and gradients by PyTorch's own means: `torch.func.vmap`, or one chain after another.

What lives here: the reference that other executors agree with. What does not: the loss of one chain
(`landscape.vector_loss`), and which of the two it is (`choice`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as tree

OfOne = Callable[[Tensor, Any], tuple[Tensor, Tensor]]


class PlainExecutor:
    """What are the losses of these chains, and their gradients?

    Parameters
    ----------
    of_one : callable
        ``of_one(position, batch) -> (loss, gradient)`` of one chain.
    stacked : bool
        Whether chains are evaluated together with `torch.func.vmap`; else in sequence.

    Attributes
    ----------
    fallbacks : dict of str to int
        For how many shapes something quicker than this was tried in vain, by reason.
    """

    def __init__(self, of_one: OfOne, *, stacked: bool) -> None:
        self.stacked = stacked
        self.fallbacks: dict[str, int] = {}
        self._of_one = of_one
        self._on_own = vmap(of_one)
        self._on_shared = vmap(of_one, in_dims=(0, None))

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
        with torch.no_grad():
            if self.stacked:
                run = self._on_shared if shared else self._on_own
                return self._evaluate(run, positions, batch)
            found = []
            for chain, position in enumerate(positions):
                own = batch if shared else tree.tree_map(lambda leaf, row=chain: leaf[row], batch)
                found.append(self._evaluate(self._of_one, position, own))
            losses, gradients = zip(*found, strict=True)
            return torch.stack(losses), torch.stack(gradients)

    def _evaluate(self, run: OfOne, positions: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        return run(positions, batch)
