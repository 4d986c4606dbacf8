"""What `estimate_llc` chooses by itself, against exact coefficients, and what it must not touch."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import emergence_stats as es
from benchmarks.accuracy import llc_networks
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.minibatch_noise import quadratic_form
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def squared_error(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().sum(-1).mean()


def network(*widths: int, ranks: dict[int, int] | None = None, samples: int = 8000) -> Any:
    """A deep linear network, a layer of it of lower rank where wanted, and its own outputs."""
    generator = np.random.default_rng([*widths])
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)))
    for number, layer in enumerate(model):
        b, a = layer.weight.shape
        rank = (ranks or {}).get(number, min(a, b))
        left, _ = np.linalg.qr(generator.normal(size=(b, rank)))
        right, _ = np.linalg.qr(generator.normal(size=(a, rank)))
        with torch.no_grad():
            layer.weight.copy_(torch.as_tensor(left @ right.T))
    inputs = torch.randn(samples, widths[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model, (inputs, model(inputs))


def linear(inputs: int, outputs: int, samples: int) -> Any:
    """Half its parameters, being regular."""
    return network(inputs, outputs, samples=samples)


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
def test_the_default_finds_the_coefficient_where_the_former_did_not(name: str) -> None:
    build, truth, known = CASES[name]
    model, data = build()
    options: dict[str, Any] = {"progress": False}
    if "heat" in known:
        options["inverse_temperature"] = known["heat"] / len(data[0])
    result = es.estimate_llc(model, squared_error, data, **options)
    assert result.standard_error < 0.05 * truth
    assert abs(result.llc - truth) < max(0.05 * truth, 3.0 * result.standard_error)
    found = result.diagnostics
    assert found["sampler"] == "baoab"
    assert {"sampler", "batch_size", "localisation", "num_draws"} <= set(found["chosen"])
    assert "llc_at_stronger_localisation" in found


class Crossing(nn.Module):
    """Output w1^a w2^b."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.a, self.b = a, b

    def forward(self) -> Tensor:
        return (self.w[0] ** self.a * self.w[1] ** self.b).square()


def off_the_crossing() -> Crossing:
    """The square of w1 w2^2 by w1 = 0.5: flat at w*, steep away from it."""
    model = Crossing(1, 2)
    with torch.no_grad():
        model.w[0] = 0.5
    return model


def weighted(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return model() * batch[0].mean()


def quadrature(
    a: int, b: int, scale: float, localisation: float, start: tuple[float, float] = (0.0, 0.0)
) -> float:
    """The expectation under the localised posterior, on a logarithmic grid."""
    half = np.geomspace(1e-7, 12.0, 1201)
    points = np.concatenate([-half[::-1], half])
    x, y = points[:, None], points[None, :]
    loss = scale * (x**a * y**b) ** 2
    pull = 0.5 * localisation * ((x - start[0]) ** 2 + (y - start[1]) ** 2)
    mass = np.exp(-loss - pull) * np.abs(x * y)
    return float((loss * mass).sum() / mass.sum())


DATA = (torch.linspace(0.5, 1.5, 1000, dtype=torch.float64),)
SCALE = 1000 / math.log(1000)


def test_a_scan_begins_where_chains_stay_by_the_checkpoint() -> None:
    """At a smooth point of rank-deficient layers, near a more singular one that counts 55.

    Extrapolated from the weakest chains, whose loss grows like the power 1.93 of the distance, it
    was 56.6 with a standard error of 0.7.
    """
    deficient = llc_networks.draw("1k", 3)
    assert deficient.local == 61.0
    result = es.estimate_llc(
        deficient.model, llc_networks.loss, llc_networks.data(deficient, 20_000), seed=3,
        inverse_temperature=1e6 / math.log(1e6) / 20_000, progress=False,
    )  # fmt: skip
    assert result.standard_error < 2.0
    assert abs(result.llc - 61.0) < 3.0 * result.standard_error
    found = result.diagnostics
    assert "with a more singular point nearby" in found["chosen"]["localisation"]
    assert found["homogeneity"] > 0.98
    firmest, *_, weakest = np.sort(result.dataset["localisation"])[::-1]
    assert firmest == pytest.approx(8.0 * weakest)
    assert weakest == pytest.approx(found["localisation"])


def test_a_scan_that_is_asked_for_tells_of_a_more_singular_point_nearby() -> None:
    """It begins where it was told to: here where the loss grows like the power 1.92."""
    deficient = llc_networks.draw("10k", 1)
    result = es.estimate_llc(
        deficient.model, llc_networks.loss, llc_networks.data(deficient, 20_000), seed=1,
        sampler="sghmc", localisation="scan", num_draws=600, batch_size=512, progress=False,
        inverse_temperature=1e6 / math.log(1e6) / 20_000,
    )  # fmt: skip
    found = result.diagnostics
    assert result.llc < deficient.local - 10.0 * result.standard_error
    assert found["homogeneity"] < 0.99 - 3.0 * found["homogeneity_standard_error"]
    assert found["verdict"] == "depends on localisation"
    assert any("more singular point nearby" in reason for reason in found["reasons"])


def test_a_crossing_that_no_extrapolation_reaches_is_told_so() -> None:
    result = es.estimate_llc(Crossing(3, 3), weighted, DATA, num_chains=8, progress=False)
    found = result.diagnostics
    truth = quadrature(3, 3, SCALE, found["localisation"])
    assert result.standard_error < 0.1 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error
    assert found["verdict"] == "depends on localisation"
    assert found["llc_extrapolated"] > result.llc


@pytest.mark.parametrize(
    ("sampler", "localisation", "step_size", "verdict"),
    [("mala", 0.1, 100.0, "chains disagree"), ("sgld", 1.0, 0.0078, "step too large")],
)
def test_an_estimate_far_off_in_its_own_errors_is_not_reliable(
    sampler: str, localisation: float, step_size: float, verdict: str
) -> None:
    result = es.estimate_llc(
        Crossing(3, 0), weighted, DATA, sampler=sampler, num_chains=16, num_draws=1500,
        localisation=localisation, step_size=step_size, batch_size=200, progress=False,
    )  # fmt: skip
    assert abs(result.llc - quadrature(3, 0, SCALE, localisation)) > 3.0 * result.standard_error
    assert result.diagnostics["verdict"] == verdict


@pytest.mark.parametrize("batch_size", [200, 1000])
def test_departure_from_a_quadratic_is_seen_where_it_cancels_in_the_mean(batch_size: int) -> None:
    def found(
        model: nn.Module, loss: Any, data: tuple[Tensor, ...], step_size: float | None = None
    ) -> dict[str, Any]:
        options = {"sampler": "sghmc", "num_chains": 16, "num_draws": 800, "localisation": 20.0}
        return es.estimate_llc(
            model, loss, data, batch_size=batch_size, step_size=step_size, progress=False, **options
        ).diagnostics

    slanted = Crossing(1, 1)
    with torch.no_grad():
        slanted.w[0] = 0.4
    curved = found(slanted, weighted, DATA, step_size=0.0145)
    assert abs(curved["homogeneity"] - 1.0) < 0.25
    assert curved["departure_from_quadratic"] > 0.5
    assert curved["verdict"] == "step too large"
    assert "departs from a quadratic" in curved["reasons"][0]
    # (w - w*) . grad L is four times L at every draw.
    steep = found(Crossing(2, 0), weighted, DATA)
    assert steep["homogeneity"] == pytest.approx(2.0, rel=1e-6)
    model, data = linear(10, 1, 1000)
    straight = found(model, squared_error, data)
    assert straight["homogeneity"] == pytest.approx(1.0, abs=0.1)
    assert straight["departure_from_quadratic"] < 0.1


@pytest.mark.parametrize("sampler", ["sgld", "sghmc"])
def test_a_step_of_our_choice_is_shortened_until_its_correction_can_be_trusted(
    sampler: str,
) -> None:
    slanted = off_the_crossing()
    options: dict[str, Any] = {
        "sampler": sampler, "num_chains": 16, "num_draws": 600, "localisation": 20.0,
        "batch_size": 200, "progress": False,
    }  # fmt: skip
    result = es.estimate_llc(slanted, weighted, DATA, **options)
    found = result.diagnostics
    assert found["verdict"] == "reliable", found["reasons"]
    assert found["steps_per_draw"] > 1
    assert "shortened" in found["chosen"]["step_size"]
    assert result.dataset.sizes["draw"] == 600
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
    plain = es.estimate_llc(model, squared_error, data, **options)
    assert plain.diagnostics["verdict"] == "reliable", plain.diagnostics["reasons"]
    # A hundredth of the heating, as where one direction among many is heated most.
    monkeypatch.setattr("emergence_stats.degeneracy.pilots.HEATING", 0.0025)
    result = es.estimate_llc(model, squared_error, data, **options)
    found = result.diagnostics
    assert "lengthened" in found["chosen"]["step_size"]
    assert found["steps_per_draw"] == 1
    assert 0.1 < found["step_size"] / plain.diagnostics["step_size"] < 4.0
    assert abs(found["step_correction"]) < 0.1 * result.llc
    error = np.hypot(result.standard_error, plain.standard_error)
    assert abs(result.llc - plain.llc) < 4.0 * error < 0.25 * plain.llc
    # A step that is given stays.
    step = found["step_size"] / 64.0
    given = es.estimate_llc(model, squared_error, data, step_size=step, **options)
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
    monkeypatch.setattr("emergence_stats.degeneracy.pilots.HEATING", 0.001)
    short = es.estimate_llc(model, squared_error, data, sampler="sghmc", **options).diagnostics
    assert "lengthened 64 times" in short["chosen"]["step_size"]  # and no more
    assert short["verdict"] == "still drifting"
    assert "with the step that pilots then allowed, 0.0" in short["chosen"]["localisation"]
    options["num_draws"] = 60
    # The acceptance sets the step of MALA, however restless its chains are.
    exact = es.estimate_llc(model, squared_error, data, sampler="mala", **options).diagnostics
    assert "lengthened" not in exact["chosen"]["step_size"]
    assert any(why.startswith(("still drifting", "chains dis")) for why in exact["reasons"])


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
        slanted, weighted, DATA, sampler="sgld", num_draws=300, localisation=20.0, batch_size=200,
        progress=False,
    )  # fmt: skip
    found = result.diagnostics
    assert found["steps_per_draw"] > 1
    assert result.dataset.sizes["draw"] == 300
    assert "shortened" in found["chosen"]["step_size"]
    assert found["step_correction"] < 0.2 * result.llc
    assert np.isfinite(result.standard_error)


def test_mala_by_its_own_step_enters_the_steep_parts_of_a_degenerate_potential() -> None:
    results = [
        es.estimate_llc(
            Crossing(3, 0), weighted, DATA, sampler="mala", num_chains=16, num_draws=1500,
            localisation=0.1, seed=seed, progress=False,
        )
        for seed in range(5)
    ]  # fmt: skip
    truth = quadrature(3, 0, SCALE, 0.1)
    off = np.array([(found.llc - truth) / found.standard_error for found in results])
    assert np.abs(off).max() < 4.0
    assert abs(off.sum()) < 4.0 * len(off) ** 0.5


def test_what_is_given_is_kept() -> None:
    model, data = linear(4, 1, 400)

    def run(**options: Any) -> Any:
        return es.estimate_llc(model, squared_error, data, progress=False, **options)

    named = {"sampler": "sgld", "num_draws": 300, "batch_size": 64}
    for given in ({"localisation": 3.0}, {"step_size": 1e-4}, {"localisation": "scan"}):
        assert run(**given).dataset.identical(run(**given, **named).dataset)
    draws = run(num_draws=40)
    assert draws.diagnostics["num_draws"] == 40
    assert run(batch_size=32, num_draws=40).diagnostics["batch_size"] == 32
    met = run(target_standard_error=0.4)
    assert met.standard_error <= 0.4
    assert "0.4" in met.diagnostics["chosen"]["num_draws"]
    assert run(num_draws=40).dataset.identical(draws.dataset)
    with pytest.raises(InputError, match="num_draws"):
        run(num_draws=2)


def test_lanczos_gives_functions_of_the_hessian() -> None:
    model, data = linear(6, 1, 500)
    model, data = model.double(), tuple(leaf.double() for leaf in data)
    posterior = LocalisedPosterior(LossLandscape(model, squared_error, data), 0.2, 30.0)
    positions = posterior.landscape.centre + 0.1 * torch.arange(12).reshape(2, 6).double()
    vectors = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.arange(500)
    hessian = 100.0 * 2.0 / 500.0 * data[0].T @ data[0] + 30.0 * torch.eye(6).double()
    solved = torch.linalg.solve(hessian, vectors.T).T
    expected = (vectors * solved).sum(1) / vectors.square().sum(1)

    def form(**options: float) -> Tensor:
        asked = (posterior, positions, vectors.clone(), lambda h: 1.0 / h, rows, 1e9)
        return quadratic_form(*asked, **options)

    torch.testing.assert_close(form(settled=0.0), expected, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(form(), expected, rtol=1e-2, atol=0.0)


def test_lanczos_sees_the_curvature_where_the_chains_are() -> None:
    # That of (a b)^2 changes by as much as itself within the distance from w* = 0.
    posterior = LocalisedPosterior(LossLandscape(Crossing(1, 1), weighted, DATA), 0.2, 0.1)
    positions = torch.tensor([[0.5, 0.2], [-0.3, 0.6]]).double()
    vectors = torch.tensor([[1.0, 0.3], [0.2, 1.0]]).double()
    rows = torch.arange(1000)
    found = quadratic_form(posterior, positions, vectors, lambda h: 1.0 / h, rows, 1e9)
    for place, vector, form in zip(positions, vectors, found, strict=True):
        a, b = place.tolist()
        hessian = torch.tensor([[2 * b * b, 4 * a * b], [4 * a * b, 2 * a * a]]).double()
        values, columns = torch.linalg.eigh(200.0 * hessian + 0.1 * torch.eye(2).double())
        along = (columns.T @ vector).square() / vector.square().sum()
        expected = (along / values.clamp(min=0.1)).sum()  # as below zero h + gamma counts as gamma
        assert float(form) == pytest.approx(float(expected), rel=5e-3)
