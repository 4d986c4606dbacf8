"""What chains record, how they run on, and steps that are too long."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from known_landscapes import NUMBER, negative_log_likelihood, regression
from torch import Tensor, nn

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.tuning import Tuning

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH = 12


def mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def landscape_of(**options: Any) -> LossLandscape:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False))
    inputs = torch.randn(300, WIDTH)
    with torch.no_grad():
        targets = model(inputs) + 0.1 * torch.randn(300, WIDTH)
    return LossLandscape(model, mean_square, (inputs, targets), batch_size=16, **options)


def chains_of(
    landscape: LossLandscape, sampler: str = "sghmc", num_chains: int = 3, **options: Any
) -> Chains:
    moment = torch.ones_like(landscape.centre)[None]
    tuning = Tuning(LocalisedPosterior(landscape, 0.2, 50.0), 1e-4, moment, {}, {})
    return Chains(
        tuning, sampler, 1e-4, num_chains=num_chains, batch_size=16, seed=1, num_draws=40, **options
    )


def test_draws_may_be_several_steps_apart() -> None:
    every = chains_of(landscape_of()).run(36, num_burnin=12)
    fourth = chains_of(landscape_of(), steps_per_draw=4).run(9, num_burnin=3)
    assert fourth.num_draws == 9
    assert torch.equal(fourth.positions, every.positions)
    for one, other in zip(fourth.traces[:2], every.traces[:2], strict=True):
        # What probes find of the noise is added at the end, and is the same for all draws.
        np.testing.assert_allclose(
            one - one.mean(), other[:, 3::4] - other[:, 3::4].mean(), rtol=1e-6, atol=1e-12
        )


@pytest.mark.parametrize("sampler", ["sgld", "psgld", "adam_sgld", "sghmc", "sgnht", "baoab"])
def test_how_many_are_evaluated_together_changes_no_more_than_rounding(sampler: str) -> None:
    together = chains_of(landscape_of(), sampler).run(20).run(20)
    for options in ({"max_chains_at_once": 2}, {"chains_stacked": False}):
        other = chains_of(landscape_of(**options), sampler).run(20).run(20)
        torch.testing.assert_close(other.positions, together.positions, rtol=1e-3, atol=1e-5)
        for one, two in zip(other.traces[:2], together.traces[:2], strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-3, atol=1e-5 * np.abs(two).max())


def test_a_chain_does_not_depend_on_how_many_there_are() -> None:
    three, two = (chains_of(landscape_of(), num_chains=n).run(30).positions for n in (3, 2))
    torch.testing.assert_close(three[:2], two, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = (chains_of(landscape_of()).run(30).positions for _ in range(2))
    assert torch.equal(first, second)


def test_chains_that_gave_up_where_they_stood_keep_what_they_recorded() -> None:
    chains = chains_of(landscape_of(), "sghmc").run(30)
    before = chains.traces
    assert chains.release() is chains
    np.testing.assert_array_equal(chains.traces.excess, before.excess)
    with pytest.raises(RuntimeError, match="cannot be run on"):
        chains.run(1)


def test_a_step_that_is_too_long_is_seen() -> None:
    landscape = landscape_of()
    tuning = Tuning(LocalisedPosterior(landscape, 0.2, 50.0), 10.0, None, {}, {})
    chains = Chains(tuning, "sgld", 10.0, num_chains=2, batch_size=16, seed=0, num_draws=60)
    with np.errstate(all="ignore"):
        chains.run(60)
    assert not chains.finite
    assert chains.traces.excess.shape == (2, 60)
    assert np.isnan(chains.traces.excess[:, -1]).all()


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
