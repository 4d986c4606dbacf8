"""The step that pilot runs allow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_landscapes import DATA, SCALE, Crossing, quadrature, weighted
from torch import nn

import emergence_stats as es

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("seed", [3, 7, 14, 20, 71])
def test_a_pilot_on_its_way_out_shortens_the_step_and_no_more(seed: int) -> None:
    # The first pilot ends, still finite, where curvature or noise is 1e12 to 1e90 times that at w*.
    found = es.estimate_llc(
        Crossing(1, 1), weighted, DATA, sampler="baoab", num_draws=100, localisation=20.0,
        batch_size=200, seed=seed, progress=False,
    )  # fmt: skip
    assert 0.005 < found.diagnostics["step_size"] < 0.1
    assert found.llc > 0.05  # of 0.124


def test_mala_by_its_own_step_enters_the_steep_parts_of_a_degenerate_potential() -> None:
    results = [
        es.estimate_llc(
            Crossing(3, 0), weighted, DATA, sampler="mala", num_chains=32, num_draws=600,
            localisation=0.1, seed=seed, progress=False,
        )
        for seed in range(3)
    ]  # fmt: skip
    truth = quadrature(3, 0, SCALE, 0.1)
    off = np.array([(found.llc - truth) / found.standard_error for found in results])
    assert np.abs(off).max() < 4.0
    assert abs(off.sum()) < 4.0 * len(off) ** 0.5


def test_from_weights_of_zero_a_pilot_on_its_way_out_is_shortened():
    # It can run off so far that the curvature there is infinite.
    generator = torch.Generator().manual_seed(2)
    torch.randn(2000, 10, generator=generator)
    inputs = torch.randn(2000, 5, generator=generator)
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Linear(3, 5, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)

    def loss(model, batch):
        return (model(batch[0]) - batch[1]).square().sum(-1).mean()

    data = (inputs, torch.zeros(2000, 5))
    result = es.estimate_llc(model, loss, data, seed=2, num_draws=60, progress=False)
    assert result.diagnostics["step_size"] > 0.0
    assert np.isfinite(result.llc)
