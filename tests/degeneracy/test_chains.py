"""What chains record."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_landscapes import NUMBER, negative_log_likelihood, regression
from torch import nn

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.tuning import Tuning

pytestmark = pytest.mark.usefixtures("one_thread")


def test_distances_are_those_of_the_positions_whose_losses_are_recorded() -> None:
    model, data, _ = regression(spread=1.0)
    landscape = LossLandscape(model, negative_log_likelihood, data)
    tuning = Tuning(LocalisedPosterior(landscape, 0.1, 5.0), 1e-3, None, {}, {})

    def chains(sampler: str, draws: int, tuning: Tuning = tuning) -> Chains:
        return Chains(
            tuning, sampler, 1e-3, num_chains=3, batch_size=NUMBER, seed=0, num_draws=draws
        ).run(draws)

    shorter, longer = chains("sgld", 6), chains("sgld", 7)
    found = longer.traces.squared_distance
    assert found is not None
    np.testing.assert_array_equal(found[:, 0], 0.0)  # the loss recorded first is that of w*
    before = (shorter.positions - landscape.centre).square().sum(dim=1)
    np.testing.assert_allclose(found[:, 6], before.numpy(), rtol=1e-5)
    adjusted = chains("mala", 6)
    assert adjusted.traces.squared_distance is not None
    after = (adjusted.positions - landscape.centre).square().sum(dim=1)
    np.testing.assert_allclose(adjusted.traces.squared_distance[:, 5], after.numpy(), rtol=1e-5)
    # Of many parameters they are taken now and then.
    wide = nn.Linear(300, 256)
    inputs = torch.randn(64, 300)
    large = LossLandscape(wide, negative_log_likelihood, (inputs, wide(inputs).detach()))
    many = chains("sgld", 18, Tuning(LocalisedPosterior(large, 0.1, 5.0), 1e-3, None, {}, {}))
    taken = many.traces.squared_distance
    assert taken is not None
    assert np.flatnonzero(np.isfinite(taken).all(axis=0)).tolist() == [0, 8, 16]
