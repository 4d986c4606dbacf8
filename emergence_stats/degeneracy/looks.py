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
    noise: bool = False,
) -> tuple[Look, Tensor | None]:
    """What two batches say of each chain, and if wanted the noise by which their gradients differ.

    That noise, shape (chain, parameter), has the variance of one minibatch's gradient of U, and is
    valid until the next evaluation.
    """
    landscape = posterior.landscape

    def batch() -> Tensor:
        index = streams.batch(landscape.num_samples, batch_size)
        assert index is not None
        return index

    index = batch()
    losses, gradients = landscape.passing_gradients(positions, index)
    works = [work_done(posterior, positions, gradients)]
    excesses = [landscape.excess(losses, index)]
    index = batch()
    # Vectors are dear: the second gradient is taken from the first where that lies, or else the
    # first is kept while there is a second.
    less = landscape.subtract_gradients(positions, index, gradients) if noise else None
    if less is not None:
        losses, difference = less, gradients
        works.append(works[0] - work_done(posterior, positions, difference))
    else:
        difference = gradients.clone() if noise else gradients
        losses, gradients = landscape.passing_gradients(positions, index)
        works.append(work_done(posterior, positions, gradients))
        if noise:
            difference.sub_(gradients)
    excesses.append(landscape.excess(losses, index))
    work, excess = torch.stack(works), torch.stack(excesses)
    if not noise:
        return Look(work, excess), None
    difference.mul_(posterior.scale * 0.5**0.5)
    squared = torch.linalg.vector_norm(difference, dim=-1).double().square()
    return Look(work, excess, squared), difference
