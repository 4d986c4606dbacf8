"""Local learning coefficients against closed forms and quadrature, and what must never happen."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from known_landscapes import (
    DATA,
    SCALE,
    Crossing,
    linear_problem,
    quadratic_truth,
    quadrature,
    squared_error,
    weighted,
)
from torch import nn

from emergence_stats import estimate_llc
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.samplers import SAMPLERS
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spread", [1.0, 5.0])
def test_linear_regression_is_the_closed_form_of_its_localised_posterior(
    sampler: str, spread: float
) -> None:
    model, data, eigenvalues = linear_problem(spread=spread)
    result = estimate_llc(
        model, squared_error, data, sampler=sampler, num_chains=16, num_draws=500, batch_size=128,
        seed=2, localisation=20.0, progress=False,
    )  # fmt: skip
    truth = quadratic_truth(eigenvalues, result)
    assert result.standard_error < 0.06 * truth, "not mixing"
    assert abs(result.llc - truth) < 4.0 * result.standard_error, "biased"
    assert result.diagnostics["verdict"] == "reliable", result.diagnostics["reasons"]
    assert result.diagnostics["initial_loss"] == pytest.approx(
        float(squared_error(model, data).detach()), rel=1e-5
    )


@pytest.mark.parametrize("localisation", [5.0, 200.0, 5000.0])
def test_localisation_counts_directions_as_the_closed_form_says(localisation: float) -> None:
    model, data, eigenvalues = linear_problem(spread=10.0)
    result = estimate_llc(
        model, squared_error, data, sampler="mala", num_chains=16, num_draws=500, num_burnin=150,
        localisation=localisation, progress=False,
    )  # fmt: skip
    truth = quadratic_truth(eigenvalues, result)
    assert result.standard_error < 0.08 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error


def test_n_is_the_number_of_samples_and_not_the_batch_size() -> None:
    model, data, eigenvalues = linear_problem()
    for batch_size in (32, 512):
        result = estimate_llc(
            model, squared_error, data, batch_size=batch_size, num_chains=16, num_draws=400,
            localisation=20.0, progress=False,
        )  # fmt: skip
        truth = quadratic_truth(eigenvalues, result)
        assert result.standard_error < 0.1 * truth
        assert abs(result.llc - truth) < 4.0 * result.standard_error


@pytest.mark.parametrize("sampler", ["sgld", "sghmc", "baoab", None])
def test_wide_regular_model_counts_half_its_parameters_with_default_settings(
    sampler: str | None,
) -> None:
    # Minibatch noise lies in directions that the localisation holds a third as firmly as the data.
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8192, 20, generator=generator)
    model = nn.Linear(20, 10)
    targets = model(inputs).detach()
    features = torch.cat([inputs, torch.ones(8192, 1)], dim=1).double()
    block = torch.linalg.eigvalsh(features.T @ features * (2.0 / 81920.0)).numpy()
    result = estimate_llc(
        model, squared_error, (inputs, targets), sampler=sampler, num_draws=800, progress=False
    )
    truth = quadratic_truth(np.repeat(block, 10), result)
    assert result.standard_error < 0.05 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error
    found = result.diagnostics
    if sampler is None:
        assert found["verdict"] == "reliable"
        assert abs(result.llc / 105.0 - 1.0) < 0.05
    else:
        # One localisation chosen for few draws: right for that posterior, 20% below half of 210.
        assert found["verdict"] == "depends on localisation"
        held = 8192 / math.log(8192) * np.repeat(block, 10)
        gamma = found["localisation"]
        change = 0.25 * gamma * (held / ((held + 0.5 * gamma) * (held + gamma))).sum()
        error = found["change_if_localisation_halved_standard_error"]
        # From draws it is known to first order, and SGLD's are too wide by its finite step.
        assert abs(found["change_if_localisation_halved"] - change) < 4.0 * error + 0.4 * change


@pytest.mark.parametrize(
    ("powers", "start"),
    [((1, 1), (0.0, 0.0)), ((1, 2), (0.0, 0.0)), ((1, 1), (0.4, 0.0)), ((2, 1), (0.0, 0.3))],
)
def test_normal_crossing_is_the_quadrature_of_the_same_posterior(
    powers: tuple[int, int], start: tuple[float, float]
) -> None:
    localisation = 20.0
    truth = quadrature(*powers, SCALE, localisation, start)
    # SGLD where the loss is less steep: its small steps would take too long to fill the tails.
    runs = [("mala", 450, 0.06), *([("sgld", 1000, 0.1)] if powers == (1, 1) else [])]
    for sampler, draws, error in runs:
        # A step well inside the stiffest curvature met, as the correction is exact for quadratics.
        step = 2e-3 if sampler == "sgld" else None
        result = estimate_llc(
            Crossing(*powers, start), weighted, DATA, sampler=sampler,
            num_chains=64, num_draws=draws, num_burnin=draws // 5, localisation=localisation,
            step_size=step, batch_size=200, progress=False,
        )  # fmt: skip
        assert result.standard_error < error * truth, f"{sampler} is not mixing"
        assert abs(result.llc - truth) < 4.0 * result.standard_error, f"{sampler} is biased"


def test_parts_move_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(0)  # the layers too: how curved they are decides how long chains must be
    inputs = torch.randn(3000, 4, generator=generator)
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False))
    targets = model(inputs).detach()
    landscape = LossLandscape(model, squared_error, (inputs, targets), parts=["1.*"])
    assert landscape.names == ["1.weight"]
    result = estimate_llc(
        model, squared_error, (inputs, targets), parts=["1.weight"], sampler="mala",
        num_chains=16, num_draws=500, localisation=1.0, progress=False,
    )  # fmt: skip
    hidden = model[0](inputs).detach().double()
    block = torch.linalg.eigvalsh(hidden.T @ hidden / 3000.0).numpy()
    truth = quadratic_truth(np.repeat(block, 2), result)
    assert result.diagnostics["num_parameters"] == 6
    assert result.standard_error < 0.08 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error


def test_away_from_a_minimum_the_verdict_says_so() -> None:
    model, data, _ = linear_problem()
    with torch.no_grad():
        model.weight.add_(1.0)
    result = estimate_llc(model, squared_error, data, num_draws=300, progress=False)
    assert result.llc < 0
    assert result.diagnostics["verdict"] == "not at a minimum"


def test_bad_losses_and_models_are_named() -> None:
    model, data, _ = linear_problem(num_samples=50)

    def run(loss: object, given: object = model, batch: object = data) -> None:
        estimate_llc(given, loss, batch, progress=False)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=r"shape \(50, 1\)"):
        run(lambda m, b: (m(b[0]) - b[1]).square())
    with pytest.raises(InputError, match="returned a float"):
        run(lambda m, b: squared_error(m, b).item())
    with pytest.raises(InputError, match="no gradient"):
        run(lambda m, b: squared_error(m, b).detach())
    with pytest.raises(InputError, match="no gradient"):
        run(lambda m, b: squared_error(nn.Linear(6, 1), b).detach() + 0.0)
    with pytest.raises(InputError, match="loss at w\\* is nan"):
        run(lambda m, b: squared_error(m, b) * torch.nan)
    late = (data[0].clone(), data[1].clone())
    late[1][49] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        estimate_llc(model, squared_error, late, batch_size=8, progress=False)
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module"):
        run(squared_error, given=torch.zeros(3))
    with pytest.raises(InputError, match="must be callable"):
        run("mse")
    with pytest.raises(InputError, match="no parameters"):
        run(squared_error, given=nn.Identity())
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="holds NaN"):
        run(squared_error, given=broken)
    with pytest.raises(InputError, match="frozen"):
        run(squared_error, given=copy.deepcopy(model).requires_grad_(False))
