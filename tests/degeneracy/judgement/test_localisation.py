"""How far an estimate depends on its localisation."""

from __future__ import annotations

import math

import pytest
import torch
from known_landscapes import NUMBER, negative_log_likelihood, regression
from torch import Tensor, nn

from emergence_stats import estimate_llc
from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.judgement.localisation import change_from_curvature
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.tuning import Tuning

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_the_change_at_half_the_localisation_is_the_closed_form_from_draws_and_curvature() -> None:
    model, data, eigenvalues = regression(spread=6.0, width=12)
    gamma = 40.0
    held = NUMBER / math.log(NUMBER) * eigenvalues
    result = estimate_llc(
        model, negative_log_likelihood, data, sampler="mala", num_draws=2000, num_chains=16,
        localisation=gamma, progress=False,
    )  # fmt: skip
    found = result.diagnostics
    assert found["change_if_localisation_halved_from"] == "draws"
    change = found["change_if_localisation_halved"]
    error = found["change_if_localisation_halved_standard_error"]
    first_order = 0.5 * math.log(2.0) * (held * gamma / (held + gamma) ** 2).sum()
    assert error < 0.15 * first_order, "too few draws to tell"
    assert abs(change - first_order) < 4.0 * error
    # The localisation was asked for: its coefficient is told reliably, and what it is not, besides.
    assert found["verdict"] == "reliable"
    assert "reliable at this localisation" in str(result)
    assert "depends on localisation" in str(result)

    landscape = LossLandscape(model, negative_log_likelihood, data)
    posterior = LocalisedPosterior(landscape, 1.0 / math.log(NUMBER), gamma)
    step = 0.2 / (held.max() + gamma)
    chains = Chains(
        Tuning(posterior, step, None, {}, {}), "sgld", step, num_chains=64, batch_size=NUMBER,
        seed=0, num_draws=300,
    ).run(300)  # fmt: skip
    curved, error = change_from_curvature(chains, batch_size=NUMBER, seed=0, error=0.0)
    exact = 0.5 * (held / (held + 0.5 * gamma) - held / (held + gamma)).sum()
    assert error < 0.1 * exact
    assert abs(curved - exact) < 4.0 * error


def test_where_the_localisation_was_chosen_here_the_verdict_names_it_and_elsewhere_not() -> None:
    model, data, _ = regression(spread=1.0)
    regular = estimate_llc(
        model, negative_log_likelihood, data, sampler="sgld", num_draws=600, progress=False
    )
    assert regular.diagnostics["verdict"] == "reliable"
    assert not regular.diagnostics["localisation_matters"]
    # A product of two layers: many directions are flat, and drown the covariance of the draws.
    torch.manual_seed(0)
    deep = nn.Sequential(nn.Linear(8, 12, bias=False), nn.Linear(12, 8, bias=False))
    inputs = torch.randn(NUMBER, 8)
    known = (inputs, deep(inputs).detach())

    def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return (model(batch[0]) - batch[1]).square().sum(-1).mean()

    held = estimate_llc(deep, loss, known, sampler="sgld", num_draws=800, progress=False)
    found = held.diagnostics
    assert found["verdict"] == "depends on localisation"
    assert found["change_if_localisation_halved_from"] == "curvature"
    assert held.llc < 0.9 * 0.5 * 64  # 64 directions change the product
    half = estimate_llc(
        deep, loss, known, sampler="sgld", num_draws=900, localisation=0.5 * found["localisation"],
        progress=False,
    )  # fmt: skip
    error = math.hypot(
        held.standard_error,
        half.standard_error,
        found["change_if_localisation_halved_standard_error"],
    )
    change = found["change_if_localisation_halved"]
    # The curvature is that of a quadratic, which the loss is to a few tenths of the change.
    assert abs(half.llc - held.llc - change) < 3.0 * error + 0.3 * change

    def of_vector(vector: Tensor) -> Tensor:
        first, second = vector[:96].view(12, 8), vector[96:].view(8, 12)
        return (known[0] @ first.T @ second.T - known[1]).square().sum(-1).mean()

    hessian = torch.autograd.functional.hessian(
        of_vector, torch.cat([p.detach().flatten() for p in deep.parameters()])
    )
    curvatures = torch.linalg.eigvalsh(hessian.double()).clamp(min=0.0).numpy()
    curvatures *= NUMBER / math.log(NUMBER)

    def held_at(gamma: float) -> float:
        return float(0.5 * (curvatures / (curvatures + gamma)).sum())

    gamma = found["localisation"]
    exact = held_at(0.5 * gamma) - held_at(gamma)
    assert found["change_if_localisation_halved_standard_error"] < 0.15 * exact
    # Of few vectors, so Student's tails; and 256 of the samples stand for all in the Hessian.
    tolerance = 5.0 * found["change_if_localisation_halved_standard_error"] + 0.05 * exact
    assert abs(change - exact) < tolerance
