"""What `estimate_llc` chooses by itself, against exact coefficients, and what it must not touch."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from known_landscapes import linear, network, summed_squared_error
from torch import nn
from torch.nn import functional

import emergence_stats as es
from benchmarks.accuracy.llc_gibbs import half_squared_error, sample_by_gibbs, two_layers
from emergence_stats.degeneracy.judgement import default
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread", "few_draws")


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of what the defaults may cost, and as little precision."""
    monkeypatch.setattr(default, "STEPS", 1500)
    monkeypatch.setattr(default, "TARGET", 0.04)


# Half the rank of the product map's Jacobian at w*, where the minima are smooth (benchmarks).
CASES = {
    "regular, 10": (lambda: linear(10, 1, 2000), 5.0, {}),
    "regular, 200": (lambda: linear(20, 10, 8000), 100.0, {}),
    "two layers": (lambda: network(6, 4, 6), 0.5 * (6 * 4 + 6 * 4 - 4 * 4), {"heat": 5e4}),
    # Layers of rank 4 and 2: 4 * 6 + 2 * (6 - 4) directions change the product.
    "lower rank": (
        lambda: network(6, 4, 6, ranks={1: 2}),
        0.5 * (2 * 6 + 6 * 4 - 2 * 4),
        {"heat": 5e4},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_default_finds_the_coefficient(name: str) -> None:
    build, truth, known = CASES[name]
    model, data = build()
    options: dict[str, Any] = {"progress": False}
    if "heat" in known:
        options["inverse_temperature"] = known["heat"] / len(data[0])
    result = es.estimate_llc(model, summed_squared_error, data, **options)
    assert result.standard_error < 0.05 * truth
    assert abs(result.llc - truth) < max(0.05 * truth, 3.0 * result.standard_error)
    found = result.diagnostics
    assert found["sampler"] == "baoab"
    assert found["chosen"]["localisation"].startswith("wide")
    assert {"sampler", "batch_size", "localisation", "num_draws"} <= set(found["chosen"])


@pytest.mark.parametrize(
    ("widths", "rank", "num_samples", "condition"),
    [((6, 5, 6), 2, 1000, 10.0), ((5, 3, 5), 0, 20_000, 1.0), ((4, 9, 4), 2, 50_000, 100.0)],
)
def test_at_the_deepest_singularity_as_exact_sampling_says(
    widths: tuple[int, int, int], rank: int, num_samples: int, condition: float
) -> None:
    """Flat directions need not have relaxed for the loss to be right."""
    found = two_layers(widths, rank, num_samples, condition, seed=1)
    result = es.estimate_llc(found.model, half_squared_error, found.data, progress=False)
    scale = num_samples / math.log(num_samples)
    exact = sample_by_gibbs(found, scale, result.diagnostics["localisation"], 3000, seed=0)[300:]
    free = sample_by_gibbs(found, scale, 0.02 / found.mean_square, 3000, seed=1)[300:]
    assert result.diagnostics["verdict"] == "reliable"
    assert result.standard_error < 0.06 * result.llc
    assert abs(result.llc - exact.mean()) < 4.0 * result.standard_error
    assert abs(result.llc - free.mean()) < max(0.1 * free.mean(), 3.0 * result.standard_error)


def modular_addition() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """A perceptron that has learned the sums of 0 to 6 by heart, with 6,951 parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(7, 32), nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 7)
    )
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    data = (pairs, pairs.sum(dim=1) % 7)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(25):
        optimiser.zero_grad()
        cross_entropy(model, data).backward()
        optimiser.step()
    return model, data


def cross_entropy(model: nn.Module, batch: Any) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def test_a_network_that_a_wide_localisation_would_drown_is_held_near() -> None:
    model, data = modular_addition()
    near = es.estimate_llc(model, cross_entropy, data, progress=False)
    found = near.diagnostics
    assert found["chosen"]["localisation"].startswith("near")
    assert "lose more than 50%" in found["chosen"]["localisation"]
    size = torch.cat([one.detach().flatten() for one in model.parameters()]).square().mean()
    assert found["localisation"] == pytest.approx(16.0 / float(size), rel=1e-4)
    assert near.judgement == "reliable at this localisation"
    # The word, the number and Metropolis-adjusted chains ask about the same posterior.
    word = es.estimate_llc(model, cross_entropy, data, localisation="near", progress=False, seed=1)
    assert word.diagnostics["localisation"] == found["localisation"]
    adjusted = es.estimate_llc(
        model, cross_entropy, data, sampler="mala", localisation=found["localisation"],
        num_draws=600, progress=False,
    )  # fmt: skip
    for one in (word, adjusted):
        error = math.hypot(one.standard_error, near.standard_error)
        assert abs(one.llc - near.llc) < 4.0 * error
        assert error < 0.1 * near.llc


def test_what_is_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = linear(4, 1, 400)

    def run(**options: Any) -> Any:
        return es.estimate_llc(model, summed_squared_error, data, progress=False, **options)

    named = {"sampler": "sgld", "num_draws": 300, "batch_size": 64}
    assert run(step_size=1e-4).dataset.identical(run(step_size=1e-4, **named).dataset)
    for given in (3.0, 3, 0):  # a whole number too, and none at all
        assert run(localisation=given, num_draws=40).diagnostics["localisation"] == given
    draws = run(num_draws=40)
    assert draws.diagnostics["num_draws"] == 40
    assert run(batch_size=32, num_draws=40).diagnostics["batch_size"] == 32
    # From few draws on, so that the target decides how many.
    monkeypatch.setattr(default, "_FIRST", 20)
    met = run(target_standard_error=0.1)
    assert met.standard_error <= 0.1
    assert met.diagnostics["num_draws"] > 20
    assert "0.1" in met.diagnostics["chosen"]["num_draws"]
    assert run(num_draws=40).dataset.identical(draws.dataset)
    with pytest.raises(InputError, match="num_draws"):
        run(num_draws=2)
    with pytest.raises(InputError, match="goes with neither sampler nor step_size"):
        run(localisation="wide", sampler="sgld")


def test_a_budget_of_time_decides_the_draws() -> None:
    model, data = modular_addition()
    begun = time.monotonic()
    short = es.estimate_llc(model, cross_entropy, data, max_seconds=1.5, progress=False)
    taken = time.monotonic() - begun
    assert short.diagnostics["num_draws"] >= 4
    assert math.isfinite(short.llc)
    # What is not drawn after the time is up is all that can be promised of a busy machine.
    assert taken < 15.0
    longer = es.estimate_llc(model, cross_entropy, data, max_seconds=4.0, progress=False)
    assert longer.diagnostics["num_draws"] > short.diagnostics["num_draws"]


def test_the_cost_of_a_step_is_counted_and_not_timed() -> None:
    from emergence_stats.degeneracy.landscape import LossLandscape

    model, data = modular_addition()
    landscape = LossLandscape(model, cross_entropy, data, batch_size=256)
    # Two matrices, a multiplication and an addition each; not less than two a parameter.
    products, parameters = 2 * (64 * 96 + 96 * 7), 2 * landscape.num_parameters
    assert landscape.operations_per_sample == max(products, parameters)
    one, four = (default.cost_of_a_step(landscape, chains, 64) for chains in (1, 4))
    assert one == pytest.approx(1.0)
    assert 1.0 < four < 1.5  # together, and so small that calling operators is what costs
    draws = default.affordable_draws(landscape, 4, 256)
    # Three times as many where a step is hardly more than its calls.
    assert draws == int(3.0 * default.STEPS / default.cost_of_a_step(landscape, 4, 256))
