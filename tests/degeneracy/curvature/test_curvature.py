"""The Hessian's spectrum from products, against the Hessian itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

import emergence_stats as es
from emergence_stats.degeneracy.curvature import HessianProducts
from emergence_stats.degeneracy.curvature.spectral import lanczos, weight_within
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.plots import plot_curvature
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


class Network(nn.Module):
    """Two layers; a dead input leaves a null space of as many directions as hidden units."""

    def __init__(self, width: int = 14) -> None:
        super().__init__()
        self.into = nn.Linear(9, width)
        self.out = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.into(x)))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def problem(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(300, 9, generator=generator, dtype=torch.float64)
    x[:, :2] = 0.0
    model = Network().double()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.4 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
        target = model(x) + 0.05 * torch.randn(300, 5, generator=generator, dtype=torch.float64)
    return model.to(dtype), (x.to(dtype), target.to(dtype))


def dense(model: nn.Module, data: Any, names: list[str] | None = None) -> np.ndarray:
    parameters = {
        name: value.detach()
        for name, value in model.named_parameters()
        if names is None or name in names
    }

    def at(flat: Tensor) -> Tensor:
        pieces = flat.split([value.numel() for value in parameters.values()])
        named = {
            name: piece.reshape(value.shape)
            for piece, (name, value) in zip(pieces, parameters.items(), strict=True)
        }
        return loss(lambda x: functional_call(model, named, (x,)), data)  # type: ignore[arg-type]

    flat = torch.cat([value.reshape(-1) for value in parameters.values()])
    return jacrev(grad(at))(flat).detach().double().numpy()


def test_small_models_are_computed_whole() -> None:
    model, data = problem()
    values = np.linalg.eigvalsh(dense(model, data))
    found = es.curvature(model, loss, data)
    assert found.attrs["method"] == "dense"
    np.testing.assert_allclose(found["node"].values[0], values, atol=1e-12)
    assert float(found["trace"]) == pytest.approx(values.sum())
    assert float(found["frobenius_norm"]) == pytest.approx(math.sqrt((values**2).sum()))
    assert float(found["effective_rank"]) == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert float(found["null_dimension"]) == (np.abs(values) <= 1e-4 * values[-1]).sum()
    exact = es.curvature(model, loss, data, null_threshold=1e-10)
    assert float(exact["null_dimension"]) == 28  # two dead inputs into fourteen hidden units
    assert float(found["density"].integrate("eigenvalue")) == pytest.approx(1.0, abs=1e-3)
    part = es.curvature(model, loss, data, parts=["out.*"])
    block = np.linalg.eigvalsh(dense(model, data, ["out.weight", "out.bias"]))
    np.testing.assert_allclose(part["node"].values[0], block, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stochastic_estimates_agree_with_the_dense_hessian_within_their_errors(
    dtype: torch.dtype,
) -> None:
    model, data = problem(dtype)
    values = np.linalg.eigvalsh(dense(*problem(torch.float64)))
    truth = {
        "trace": values.sum(),
        "frobenius_norm": math.sqrt((values**2).sum()),
        "effective_rank": values.sum() ** 2 / (values**2).sum(),
    }
    flat = (np.abs(values) <= 1e-4 * values[-1]).sum()
    outside = 0
    scores: dict[str, list[float]] = {name: [] for name in truth}
    for seed in range(12):
        found = es.curvature(model, loss, data, num_probes=4, num_lanczos=25, seed=seed)
        assert found.attrs["method"] == "stochastic"
        assert found.attrs["num_products"] == 4 * 28
        for name, true in truth.items():
            error = float(found[f"{name}_error"])
            assert error < 0.5 * true, f"{name} says nothing"
            scores[name].append((float(found[name]) - true) / error)
        for name, end in (("largest_eigenvalue", -1), ("smallest_eigenvalue", 0)):
            bound = float(found[f"{name}_error"]) + 1e-6 * values[-1]
            assert np.abs(values - float(found[name])).min() <= bound
            assert abs(float(found[name]) - values[end]) <= 0.02 * values[-1]
        outside += abs(float(found["null_dimension"]) - flat) > float(found["null_dimension_error"])
        np.testing.assert_allclose(found["weight"].sum("lanczos"), 1.0, rtol=1e-5)
    assert outside <= 6
    for name, score in scores.items():
        # Student's t with three degrees of freedom has sd 1.7; four of its standard errors.
        assert abs(np.median(score)) < 4 * 1.0 / math.sqrt(12), (name, score)
        assert max(map(abs, score)) < 13, (name, score)  # p = 1e-3 each


def test_a_null_space_behind_a_gap_is_counted_closely() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 60, generator=generator, dtype=torch.float64)
    x[:, 25:] = x[:, :25] @ torch.randn(25, 35, generator=generator, dtype=torch.float64)
    model = nn.Linear(60, 8, bias=False, dtype=torch.float64)
    found = es.curvature(model, loss, (x, model(x).detach()), num_probes=6, num_lanczos=50)
    assert found.attrs["method"] == "stochastic"
    true = 35 * 8
    error = float(found["null_dimension_error"])
    # A random direction has its share in the null space with the variance of a beta distribution.
    share = true / 480
    assert error < 3 * 480 * math.sqrt(2 * share * (1 - share) / 482 / 6)
    assert abs(float(found["null_dimension"]) - true) < 4 * error


@pytest.mark.parametrize("steps", [3, 8, 20])
def test_weight_near_zero_lies_between_its_bounds(steps: int) -> None:
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(40):
        values = np.sort(rng.normal(size=60) * rng.choice([0.0, 1e-3, 1.0], size=60))
        start = rng.normal(size=60)
        weights = start**2 / (start**2).sum()
        matrix = torch.diag(torch.from_numpy(values))
        run = lanczos(lambda rows, matrix=matrix: rows @ matrix, torch.from_numpy(start), steps)
        for bound in (1e-4, 0.03, 0.5):
            low, high = weight_within(*run, bound)
            assert low - 1e-9 <= weights[np.abs(values) <= bound].sum() <= high + 1e-9
            widths.append(high - low)
    assert min(widths) < {3: 0.9, 8: 0.5, 20: 0.1}[steps]


def test_the_density_is_that_of_the_dense_hessian() -> None:
    model, data = problem()
    values = np.linalg.eigvalsh(dense(model, data))
    found = es.curvature(model, loss, data, num_probes=6, num_lanczos=27, seed=1)
    assert found.attrs["method"] == "stochastic"
    width = found.attrs["smoothing"]
    z = (found["eigenvalue"].values[:, None] - values) / width
    exact = np.exp(-0.5 * z**2).mean(1) / (width * math.sqrt(2 * math.pi))
    error = found["density_error"].values
    seen = error > 1e-3 * error.max()
    score = (found["density"].values - exact)[seen] / error[seen]
    assert np.median(np.abs(score)) < 2.0
    assert np.abs(np.cumsum(found["density"].values - exact)).max() * np.ptp(
        found["eigenvalue"].values
    ) / 512 < 4 * math.sqrt(2 / (6 * len(values)))


def test_lanczos_ends_where_a_peer_finds_them() -> None:
    model, data = problem()
    products = HessianProducts(LossLandscape(model, loss, data))
    size = products.landscape.num_parameters

    def matvec(vector: np.ndarray) -> np.ndarray:
        return products(torch.from_numpy(vector.copy().reshape(1, -1)))[0].numpy()

    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec, dtype=np.float64)
    largest = scipy.sparse.linalg.eigsh(
        operator, k=1, which="LA", v0=np.ones(size), return_eigenvectors=False
    )
    found = es.curvature(model, loss, data, num_probes=2, num_lanczos=40)
    assert float(found["largest_eigenvalue"]) == pytest.approx(float(largest[0]), rel=1e-8)


def test_lanczos_stops_when_the_krylov_space_is_exhausted() -> None:
    matrix = torch.diag(torch.tensor([3.0, 3.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    start = torch.ones(5, dtype=torch.float64)
    diagonal, beside, _ = lanczos(lambda rows: rows @ matrix, start, 5)
    assert len(diagonal) == 3
    assert len(beside) == 2
    values = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    np.testing.assert_allclose(values, [0.0, 1.0, 3.0], atol=1e-12)


def test_attention_and_unused_and_linear_parameters_have_their_hessian() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.Linear(4, 4)
            self.shift = nn.Parameter(torch.zeros(()))  # enters linearly: no curvature
            self.unused = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            y = self.read(x)
            return nn.functional.scaled_dot_product_attention(y, y, y)

    torch.manual_seed(0)
    model = Attends()
    x = torch.randn(16, 5, 4)

    def attention_loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return model(batch[0]).square().mean() + model.shift

    found = es.curvature(model, attention_loss, (x,))
    assert float(found["largest_eigenvalue"]) > 0
    # `shift`, the three unused, and whatever else is flat.
    assert float(found["null_dimension"]) >= 4
    flat = es.curvature(model, lambda m, b: m.shift + 0.0 * b[0].sum(), (x,), parts=["shift"])
    assert float(flat["frobenius_norm"]) == 0.0
    assert float(flat["null_dimension"]) == 1.0


def test_chunks_of_the_data_and_the_model_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = problem()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    whole = es.curvature(model, loss, data)
    monkeypatch.setattr(LossLandscape, "chunks", lambda self: list(torch.arange(300).split(70)))
    chunked = es.curvature(model, loss, data)
    np.testing.assert_allclose(chunked["node"], whole["node"], atol=1e-12)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_picture_says_what_was_found() -> None:
    model, data = problem()
    for options in ({}, {"num_probes": 2, "num_lanczos": 20}):
        figure = plot_curvature(es.curvature(model, loss, data, **options))  # type: ignore[arg-type]
        assert "of 215 directions flat" in figure.axes[0].get_title()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 1}, "num_probes must be"),
        ({"num_lanczos": 2.5}, "num_lanczos must be"),
        ({"seed": -1}, "seed must be"),
        ({"null_threshold": 1.5}, "null_threshold must lie"),
        ({"loss_fn": lambda m, b: (m(b[0]) - m(b[0]).detach()).abs().sqrt().mean()}, "not finite"),
    ],
)
def test_bad_input_is_named(options: dict[str, Any], message: str) -> None:
    model, data = problem()
    with pytest.raises(InputError, match=message):
        es.curvature(**{"model": model, "loss_fn": loss, "data": data, **options})
