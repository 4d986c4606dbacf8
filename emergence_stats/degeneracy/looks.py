"""What other batches tell of the place where chains stand.

What lives here: the work of the loss's gradient, losses and gradient noise on batches drawn anew,
for the chains of one lane at a time, so that few vectors are held beside those a step needs. What
does not: when it is asked for, and what follows from it (`chains`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.compiled import work_along
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import Streams


class Look(NamedTuple):
    """What was seen of each chain, on one set of samples or on two independent ones.

    Attributes
    ----------
    work, excess : Tensor, shape (set, chain), double precision
        ``(w - w*) . grad L`` and L less that of w*.
    squared_noise : Tensor or None, shape (chain,)
        Squared length of the noise that a minibatch adds to the gradient of U.
    """

    work: Tensor
    excess: Tensor
    squared_noise: Tensor | None = None


def work_done(posterior: LocalisedPosterior, positions: Tensor, gradients: Tensor) -> Tensor:
    """``(w - w*) . gradient`` of every chain, shape (chain,), double precision."""
    centre = posterior.landscape.centre
    if positions.device.type != "cpu":
        return torch.linalg.vecdot(positions - centre, gradients, dim=-1).double()
    found = torch.empty(len(positions), dtype=torch.float64)
    work_along(positions.numpy(), centre.numpy(), gradients.numpy(), found.numpy())
    return found


def on_all_samples(posterior: LocalisedPosterior, positions: Tensor) -> Look:
    """What the loss over the whole data says of chains at these positions (chain, parameter)."""
    losses, gradients = posterior.landscape.full_gradients(positions)
    excess = losses - posterior.landscape.initial_loss
    return Look(work_done(posterior, positions, gradients)[None], excess[None])


def on_two_batches(
    posterior: LocalisedPosterior,
    positions: Tensor,
    streams: Streams,
    batch_size: int,
    *,
    noise: Tensor | None = None,
) -> Look:
    """What two batches say of each chain, and if wanted the noise by which their gradients differ.

    That is written to `noise` (chain, parameter), and has the variance of one minibatch's gradient
    of U.
    """
    landscape = posterior.landscape
    seen: list[tuple[Tensor, Tensor]] = []
    squared: Tensor | None = None
    for second in (False, True):
        index = streams.batch(landscape.num_samples, batch_size)
        assert index is not None
        losses, gradients = landscape.passing_gradients(positions, index)
        work = work_done(posterior, positions, gradients)
        seen.append((work, landscape.excess(losses, index)))
        if noise is None:
            continue
        if second:
            noise.sub_(gradients).mul_(posterior.scale * 0.5**0.5)
            squared = torch.linalg.vector_norm(noise, dim=-1).double().square()
        else:
            noise.copy_(gradients)
    work, excess = (torch.stack(one) for one in zip(*seen, strict=True))
    return Look(work, excess, squared)
