"""What other batches tell of the place where chains stand.

What lives here: the work of the loss's gradient, losses and gradient noise on batches drawn anew.
What does not: when they are asked for, and what follows from them (`chains`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import Streams


class Probe(NamedTuple):
    """What was seen of each chain, on one set of samples or on two independent ones.

    Attributes
    ----------
    work, excess : Tensor, shape (set, chain), double precision
        ``(w - w*) . grad L`` and L less that of w*.
    noise : Tensor or None, shape (chain, parameter)
        By how much the gradients of U on the two sets differ, with the variance of one minibatch.
    """

    work: Tensor
    excess: Tensor
    noise: Tensor | None = None

    @property
    def squared_noise(self) -> Tensor | None:
        """Squared length of the noise, shape (chain,), double precision."""
        if self.noise is None:
            return None
        return torch.linalg.vector_norm(self.noise, dim=-1).double().square()


def work_done(posterior: LocalisedPosterior, positions: Tensor, gradients: Tensor) -> Tensor:
    """``(w - w*) . gradient`` of every chain, shape (chain,), double precision."""
    away = positions - posterior.landscape.centre
    return (away * gradients).sum(dim=-1, dtype=torch.float64)


def probe(
    posterior: LocalisedPosterior,
    positions: Tensor,
    streams: Streams,
    batch_size: int,
    *,
    noise: bool = False,
) -> Probe:
    """What two batches say of chains at these positions (chain, parameter), or all samples at once.

    The noise by which gradients differ is returned where it is asked for.
    """
    landscape = posterior.landscape
    if batch_size >= landscape.num_samples:
        losses, gradients = landscape.full_gradients(positions)
        work = work_done(posterior, positions, gradients)
        return Probe(work[None], (losses - landscape.initial_loss)[None])
    works, excesses, seen = [], [], []
    for _ in range(2):
        index = streams.batch(landscape.num_samples, batch_size)
        assert index is not None
        index = index[: len(positions)]  # it may be asked of the first chains only
        losses, gradients = landscape.batch_gradients(positions, index)
        works.append(work_done(posterior, positions, gradients))
        excesses.append(landscape.excess(losses, index))
        seen.append(gradients)
    difference = (seen[0] - seen[1]).mul_(posterior.scale * 0.5**0.5) if noise else None
    return Probe(torch.stack(works), torch.stack(excesses), difference)
