"""The losses of single samples at one setting of the parameters.

What lives here: all of them at once, and whether the loss of a batch is their mean. What does not:
the loss itself (`landscape`), and what is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from emergence_stats.degeneracy.executor import batching_or_error
from emergence_stats.degeneracy.landscape.batches import SamplesAsNeeded, SampleTree

_AWAY = 0.1  # of the size of a parameter
_TRIED = 4  # batches on which a loss has to be the mean of its samples' losses

Loss = Callable[[dict[str, Tensor], Any], Tensor]


def sample_losses_at(
    loss: Loss,
    parameters: dict[str, Tensor],
    samples: SampleTree | SamplesAsNeeded,
    chunks: Sequence[Tensor],
    batch_size: int,
) -> Tensor | None:
    """The loss of every sample by itself, shape (sample,), if that of a batch is their mean.

    Parameters
    ----------
    loss : callable
        ``loss(parameters, batch)``, a scalar.
    parameters : dict of str to Tensor
        Where it is evaluated. Whether it is a mean is tried near there, too: at w* all samples may
        be fitted alike, and then every weighting of them gives the same.
    samples : SampleTree or SamplesAsNeeded
    chunks : sequence of Tensor
        The rows to evaluate together; between them they are all rows, in order.
    batch_size : int
        Of the batches on which it is tried.

    Returns
    -------
    Tensor or None
        None where the loss of some batch is another, or no loss of one sample can be had.
    """
    pieces: list[Tensor] = []

    def is_mean(of_samples: Tensor, rows: Tensor, where: dict[str, Tensor] = parameters) -> bool:
        """Up to rounding."""
        together = loss(where, samples.take(rows)).double()
        scale = max(float(of_samples.double().abs().mean()), 1e-12)
        return float((together - of_samples.double().mean()).abs()) <= 1e-4 * scale

    try:
        with torch.no_grad(), batching_or_error():
            one_by_one = vmap(loss, in_dims=(None, 0))
            for rows in chunks:
                pieces.append(one_by_one(parameters, samples.take(rows[:, None])))
                if len(pieces) == 1 and not is_mean(pieces[0], rows):
                    return None
            losses = torch.cat(pieces)
            # Data may be in an order (by length, by class) in which neighbours weigh the same.
            generator = torch.Generator().manual_seed(0)
            for _ in range(_TRIED):
                rows = torch.randint(samples.num_samples, (batch_size,), generator=generator)
                rows = rows.to(losses.device)
                if not is_mean(losses[rows], rows):
                    return None
            near = {name: _moved(value, generator) for name, value in parameters.items()}
            if not is_mean(one_by_one(near, samples.take(rows[:, None])), rows, near):
                return None
    except Exception:  # whatever vmap refuses is evaluated batch by batch instead
        return None
    return losses


def _moved(values: Tensor, generator: torch.Generator) -> Tensor:
    size = float(values.double().square().mean().sqrt()) or 1.0
    return values + _AWAY * size * torch.randn(values.shape, generator=generator).to(values)
