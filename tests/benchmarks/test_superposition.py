"""The toy model of superposition: exact losses, levels of its k-gons, and their coefficients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import emergence_stats as es
from benchmarks.science.superposition import (
    PUBLISHED_LOSS,
    PUBLISHED_THEORY,
    half_codimension,
    transitions,
)
from benchmarks.science.superposition_model import (
    FEATURES,
    POLYGONS,
    Population,
    Superposition,
    as_inputs,
    beginning,
    named,
    polygon,
    population_loss,
    reconstruction,
    samples,
    times_population,
    train,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_closed_form_is_the_integral_over_inputs() -> None:
    generator = np.random.default_rng(0)
    points = 4000
    size = (np.arange(points) + 0.5) / points
    inputs = as_inputs(np.repeat(np.arange(FEATURES), points), np.tile(size, FEATURES)).double()
    model = Superposition().double()
    for spread in (0.3, 0.8, 1.5):
        weight, bias = spread * generator.normal(size=(2, 6)), 0.5 * generator.normal(size=6)
        with torch.no_grad():
            model.weight.copy_(torch.as_tensor(weight))
            model.bias.copy_(torch.as_tensor(bias))
            integral = float(reconstruction(model, (inputs,)))
        # The midpoint rule on a piecewise quadratic: of the order of points^-2.
        assert population_loss(weight, bias) == pytest.approx(integral, rel=1e-5)
        assert float(Population(weight, bias)().detach()) == pytest.approx(integral, rel=1e-5)


@pytest.mark.parametrize("name", POLYGONS)
def test_polygons_are_critical_points_at_the_published_levels(name: str) -> None:
    weight, bias = polygon(name)
    model = Population(weight, bias)
    loss = model()
    loss.backward()
    assert model.weight.grad is not None
    assert model.bias.grad is not None
    assert float(model.weight.grad.abs().max()) < 1e-9
    assert float(model.bias.grad.abs().max()) < 1e-9
    if name in PUBLISHED_LOSS:
        assert loss.item() == pytest.approx(PUBLISHED_LOSS[name], abs=1e-5)
    # A positive bias in place of a dead output saves 1/3 - 1/4 of (1/6)(1/12), which is 1/144.
    saved = population_loss(*polygon(name[0])) - loss.item()
    assert saved == pytest.approx(name.count("+") / 144.0, abs=1e-9)
    assert named(weight, bias) == name
    assert named(2.0 * weight, bias) == ""


@pytest.mark.parametrize("name", PUBLISHED_THEORY)
def test_coefficients_of_smooth_polygons_by_rank_and_by_chains(name: str) -> None:
    model = Population(*polygon(name))
    half, curvatures = half_codimension(model)
    assert half == PUBLISHED_THEORY[name]
    number, localisation = 500_000, 10.0
    scale = number / math.log(number)
    data = (torch.ones(64, dtype=torch.float64),)
    found = es.estimate_llc(
        model, times_population, data, sampler="baoab", num_chains=8, num_draws=600,
        localisation=localisation, inverse_temperature=scale / 64, progress=False,
    )  # fmt: skip
    held = scale * np.clip(curvatures, 0.0, None)
    quadratic = 0.5 * float((held / (held + localisation)).sum())
    assert quadratic == pytest.approx(half, abs=0.1)
    assert found.standard_error < 0.05 * quadratic, "not mixing"
    # The kinks of the ReLUs are met by the posterior's edge, at this n by less than this.
    assert abs(found.llc - quadratic) < 4.0 * found.standard_error + 0.02 * quadratic


@pytest.mark.slow  # what its rests are is told above, what is read off them below
def test_training_from_a_four_gon_rests_on_polygons_of_falling_loss() -> None:
    keep = np.array([0, 1000, 60_000, 225_000])
    active, size = samples(1, 1000)
    start, shuffle = beginning("4-gon", 1), np.random.default_rng([1, 2])
    weights, biases = train(*start, active, size, 0.005, 20, 225_000, keep, shuffle)
    names = [named(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    assert names[0] == "4"
    assert names[-1] == "5"
    losses = [population_loss(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    assert losses[0] > losses[1] > losses[-1]
    assert losses[-1] == pytest.approx(PUBLISHED_LOSS["5"], abs=2e-3)


def test_transitions_are_read_off_rests_with_their_error() -> None:
    run = {
        "polygon": ["4+", "4+", "", "5", "5", "5", "5+"],
        "loss": [0.104, 0.104, 0.09, 0.069, 0.069, 0.069, 0.062],
        "llc": [4.0, 4.2, 9.0, 5.5, 5.5, 100.0, 6.5],
        "standard_error": [0.1] * 7,
        "verdict": ["reliable"] * 5 + ["chains disagree", "reliable"],
    }
    (found,) = transitions(run)  # a rest of one checkpoint is none
    assert (found["from"], found["to"]) == ("4+", "5")
    assert found["llc_change"] == pytest.approx(1.4)
    assert found["loss_change"] == pytest.approx(-0.035)
    low, high = found["llc_change_interval_89"]
    spread = math.hypot(0.1 * 2**0.5, 0.1) / 2**0.5
    assert high - low == pytest.approx(2 * 1.598 * spread)
    assert found["surely_opposed"]
    run["llc"][3:5] = [4.05, 4.05]
    assert not transitions(run)[0]["surely_opposed"]
