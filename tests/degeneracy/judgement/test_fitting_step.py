"""When chains are run again with another step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from known_landscapes import (
    DATA,
    SCALE,
    network,
    off_the_crossing,
    quadrature,
    summed_squared_error,
    weighted,
)

import emergence_stats as es

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("sampler", [pytest.param("sgld", marks=pytest.mark.slow), "sghmc"])
def test_a_step_of_our_choice_is_shortened_until_its_correction_can_be_trusted(
    sampler: str,
) -> None:
    slanted = off_the_crossing()
    options: dict[str, Any] = {
        "sampler": sampler, "num_chains": 32, "num_draws": 300, "localisation": 20.0,
        "batch_size": 200, "seed": 3, "progress": False,
    }  # fmt: skip
    result = es.estimate_llc(slanted, weighted, DATA, **options)
    found = result.diagnostics
    assert found["verdict"] == "reliable", found["reasons"]
    assert found["steps_per_draw"] > 1
    assert "shortened" in found["chosen"]["step_size"]
    assert result.dataset.sizes["draw"] == 300
    truth = quadrature(1, 2, SCALE, 20.0, (0.5, 0.0))
    assert result.standard_error < 0.06 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error
    # A step that is given stays, and the verdict tells of it.
    longer = found["step_size"] * found["steps_per_draw"]
    given = es.estimate_llc(slanted, weighted, DATA, step_size=longer, **options)
    assert given.diagnostics["steps_per_draw"] == 1
    assert given.diagnostics["step_size"] == longer
    assert "step too large" in " ".join(given.diagnostics["reasons"])


def test_a_step_so_short_that_chains_still_drift_is_lengthened_while_its_correction_is_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, data = network(12, 12, 12, ranks={0: 3, 1: 3}, samples=2000)
    options: dict[str, Any] = {
        "sampler": "sghmc", "num_draws": 400, "batch_size": 32, "progress": False,
    }  # fmt: skip
    plain = es.estimate_llc(model, summed_squared_error, data, **options)
    assert plain.diagnostics["verdict"] == "reliable", plain.diagnostics["reasons"]
    # A hundredth of the heating, as where one direction among many is heated most.
    monkeypatch.setattr("emergence_stats.degeneracy.tuning.pilots.HEATING", 0.0025)
    result = es.estimate_llc(model, summed_squared_error, data, **options)
    found = result.diagnostics
    assert "lengthened" in found["chosen"]["step_size"]
    assert found["steps_per_draw"] == 1
    assert 0.1 < found["step_size"] / plain.diagnostics["step_size"] < 4.0
    assert abs(found["step_correction"]) < 0.1 * result.llc
    error = np.hypot(result.standard_error, plain.standard_error)
    assert abs(result.llc - plain.llc) < 4.0 * error < 0.25 * plain.llc
    # A step that is given stays.
    step = found["step_size"] / 64.0
    given = es.estimate_llc(model, summed_squared_error, data, step_size=step, **options)
    assert given.diagnostics["step_size"] == step
    assert given.llc < 0.8 * plain.llc
    restless = ("still drifting", "chains disagree")
    assert given.diagnostics["verdict"].startswith(restless)


def test_what_keeps_a_step_short_is_respected_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = network(12, 12, 12, ranks={0: 3, 1: 3}, samples=2000)
    with torch.no_grad():
        for layer in model.parameters():
            layer.mul_(3.0)  # so wide that the localisation has to be raised
        data = (data[0], model(data[0]))
    options: dict[str, Any] = {"num_draws": 400, "batch_size": 32, "progress": False}
    monkeypatch.setattr("emergence_stats.degeneracy.tuning.pilots.HEATING", 0.001)
    short = es.estimate_llc(
        model, summed_squared_error, data, sampler="sghmc", seed=2, **options
    ).diagnostics
    assert "lengthened 64 times" in short["chosen"]["step_size"]  # and no more
    assert short["verdict"] == "still drifting"
    assert "with the step that pilots then allowed, 0.0" in short["chosen"]["localisation"]
    options["num_draws"] = 60
    # The acceptance sets the step of MALA, however restless its chains are.
    exact = es.estimate_llc(
        model, summed_squared_error, data, sampler="mala", **options
    ).diagnostics
    assert "lengthened" not in exact["chosen"]["step_size"]
    assert any(why.startswith(("still drifting", "chains dis")) for why in exact["reasons"])


@pytest.mark.slow
def test_a_chain_that_leaves_where_its_run_ends_is_run_again_with_a_shorter_step() -> None:
    slanted = off_the_crossing()
    # With this seed a chain of the first step ends, still finite, at a loss of 5e64.
    result = es.estimate_llc(
        slanted, weighted, DATA, sampler="sghmc", num_draws=800, localisation=20.0, batch_size=200,
        seed=100, progress=False,
    )  # fmt: skip
    truth = quadrature(1, 2, SCALE, 20.0, (0.5, 0.0))
    assert abs(result.llc - truth) < 4.0 * result.standard_error < truth


def test_the_slope_over_temperatures_shortens_its_step_as_well() -> None:
    slanted = off_the_crossing()
    result = es.llc_by_temperature(
        slanted, weighted, DATA, sampler="sgld", num_draws=100, localisation=20.0, batch_size=200,
        progress=False,
    )  # fmt: skip
    found = result.diagnostics
    assert found["steps_per_draw"] > 1
    assert result.dataset.sizes["draw"] == 100
    assert "shortened" in found["chosen"]["step_size"]
    assert found["step_correction"] < 0.2 * result.llc
    assert np.isfinite(result.standard_error)
