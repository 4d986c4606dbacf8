"""The convention on scaling."""

from __future__ import annotations

import pytest
import torch
from known_landscapes import linear_problem, squared_error

from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior

pytestmark = pytest.mark.usefixtures("one_thread")


def test_potential_and_gradient_follow_the_convention() -> None:
    model, data, _ = linear_problem(num_samples=400)
    model.double()
    data = tuple(leaf.double() for leaf in data)
    landscape = LossLandscape(model, squared_error, data)
    posterior = LocalisedPosterior(landscape, inverse_temperature=0.2, localisation=3.0)
    positions = (landscape.centre + 0.1 * torch.ones(2, 6, dtype=torch.float64)).requires_grad_()
    losses = (data[0] @ positions.T - data[1]).square().mean(0)
    energy = 80.0 * (losses - landscape.initial_loss)
    energy = energy + 1.5 * (positions - landscape.centre).square().sum(1)
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    value = posterior.potential(positions.detach())
    torch.testing.assert_close(value.energy, energy.detach())
    torch.testing.assert_close(value.gradient, gradient)
    torch.testing.assert_close(value.pull, 3.0 * 0.1 * torch.ones(2, 6, dtype=torch.float64))
