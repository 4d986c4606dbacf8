"""Probes of the place where chains stand say what gradients and losses there do."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emergence_stats.degeneracy.chains.probes import probe
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import Streams


def mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def test_probes_are_what_two_batches_and_all_samples_say() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    data = (torch.randn(60, 3).double(), torch.randn(60, 1).double())
    landscape = LossLandscape(model, mean_square, data)
    posterior = LocalisedPosterior(landscape, 0.3, 2.0)
    positions = landscape.centre + 0.1 * torch.randn(2, landscape.num_parameters).double()
    streams, same = Streams(3, 2), Streams(3, 2)
    seen = probe(posterior, positions, streams, 8, noise=True)
    gradients = []
    for number in range(2):
        index = same.batch(60, 8)
        assert index is not None
        losses, gradient = landscape.batch_gradients(positions, index)
        work = ((positions - landscape.centre) * gradient).sum(1)
        torch.testing.assert_close(seen.work[number], work)
        centre = landscape.batch_losses(landscape.centre.expand(2, -1), index)
        torch.testing.assert_close(seen.excess[number], losses - centre)
        gradients.append(gradient)
    difference = posterior.scale * 0.5**0.5 * (gradients[0] - gradients[1])
    torch.testing.assert_close(seen.noise, difference)
    torch.testing.assert_close(seen.squared_noise, difference.square().sum(1))
    whole = probe(posterior, positions, streams, 60, noise=True)
    losses, gradient = landscape.full_gradients(positions)
    torch.testing.assert_close(whole.excess, losses[None] - landscape.initial_loss)
    torch.testing.assert_close(whole.work[0], ((positions - landscape.centre) * gradient).sum(1))
    assert whole.squared_noise is None
