"""Lists of operators give the losses and gradients that the plain executor and autograd do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from emergence_stats import estimate_llc
from emergence_stats.degeneracy.executor import GraphExecutor, PlainExecutor, graph
from emergence_stats.degeneracy.landscape import LossLandscape

pytestmark = pytest.mark.usefixtures("one_thread")
CALLS = 12  # from the ninth on operators are called as they are


class Attending(nn.Module):
    """Layer norm, attention written out, and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(8), nn.Linear(8, 24)
        self.inner, self.outer = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(inputs)).chunk(3, dim=-1)
        attended = torch.softmax(query @ key.mT, dim=-1) @ value
        return self.outer(nn.functional.gelu(self.inner(inputs + attended)))


class Twice(nn.Module):
    """One layer passed twice, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.table = nn.Linear(8, 8), nn.Embedding(60, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        row = self.table(inputs[..., 0].square().mul(20.0).long().clamp(max=59))
        return self.layer(torch.tanh(self.layer(inputs + row))).mean(-1, keepdim=True)


class Counted:
    """A loss that knows how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.calls += 1
        return nn.functional.mse_loss(model(batch[0]), batch[1])


def of_one(model: nn.Module) -> Any:
    """Loss and gradient of one chain whose position is the model's parameters in one vector."""
    named = dict(model.named_parameters())
    sizes = [one.numel() for one in named.values()]

    def loss(position: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        pieces = zip(named.items(), position.split(sizes), strict=True)
        parameters = {name: piece.view(like.shape) for (name, like), piece in pieces}
        answer = functional_call(model, parameters, (batch[0],))
        return nn.functional.mse_loss(answer, batch[1])

    def both(position: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        gradient, value = grad_and_value(loss)(position, batch)
        return value, gradient

    return both


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("build", [Attending, Twice])
def test_operators_give_what_the_plain_executor_does(
    build: type[nn.Module], stacked: bool, shared: bool
) -> None:
    torch.manual_seed(0)
    model = build().double()
    one = of_one(model)
    plain, listed = (build(one, stacked=stacked) for build in (PlainExecutor, GraphExecutor))
    centre = nn.utils.parameters_to_vector(model.parameters()).detach()
    leading = (7,) if shared else (3, 7)
    for _ in range(CALLS):
        positions = centre + 0.3 * torch.randn(3, len(centre), dtype=torch.float64)
        batch = tuple(torch.randn(*leading, 5, n, dtype=torch.float64) for n in (8, 1))
        found = listed.losses_and_gradients(positions, batch, shared=shared)
        expected = plain.losses_and_gradients(positions, batch, shared=shared)
        torch.testing.assert_close(found, expected)
        assert found[0].shape == (3,)
        assert found[1].shape == positions.shape
    assert listed.fallbacks == {}


@pytest.mark.parametrize("stacked", [None, False])
@pytest.mark.parametrize("parts", [None, {"qkv.weight": torch.arange(192).view(24, 8) % 3 > 0}])
def test_gradients_of_a_landscape_are_those_of_autograd(stacked: Any, parts: Any) -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 5, 8), torch.randn(60, 5, 1))
    model, loss = Attending(), Counted()
    landscape = LossLandscape(model, loss, data, parts=parts, chains_stacked=stacked)
    assert landscape.chains_stacked is (stacked is None)
    leaves = dict(model.named_parameters())
    for call in range(CALLS):
        positions = landscape.centre + 0.3 * torch.randn(2, landscape.num_parameters)
        index = torch.randint(60, (2, 7))
        before = loss.calls
        losses, gradients = landscape.batch_gradients(positions, index)
        if stacked is None:
            assert (loss.calls == before) is (call > 8), "operators are listed at the ninth call"
        for chain in range(2):
            named = {**leaves, **landscape.as_dict(positions[chain])}
            named = {name: one.detach().requires_grad_() for name, one in named.items()}
            batch = [leaf[index[chain]] for leaf in data]
            value = nn.functional.mse_loss(functional_call(model, named, (batch[0],)), batch[1])
            value.backward()
            torch.testing.assert_close(losses[chain], value.detach())
            moving = [
                (leaves[name].grad if name not in named else named[name].grad)
                for name in landscape.names
            ]
            flat = torch.cat(
                [
                    one.reshape(-1) if parts is None else one[parts[name]]  # type: ignore[union-attr]
                    for name, one in zip(landscape.names, moving, strict=True)
                ]
            )
            torch.testing.assert_close(gradients[chain], flat, rtol=1e-4, atol=1e-6)
    assert landscape.fallbacks == 0


def test_results_are_the_callers_own() -> None:
    torch.manual_seed(0)
    landscape = LossLandscape(nn.Linear(3, 1), Counted(), (torch.randn(50, 3), torch.randn(50, 1)))
    index = torch.arange(14).view(2, 7)
    for number in range(CALLS):
        positions = landscape.centre.expand(2, -1) + number
        found = landscape.batch_gradients(positions, index)
        before = [one.clone() for one in found]
        landscape.batch_gradients(positions + 1.0, index)
        assert all(torch.equal(one, other) for one, other in zip(found, before, strict=True))


def test_operators_that_depend_on_the_numbers_are_not_listed_and_counted() -> None:
    def branching(position: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        sign = 1.0 if float(batch.sum()) > 0.0 else -1.0
        return sign * position.sum(), sign * torch.ones_like(position)

    executor = GraphExecutor(branching, stacked=False)
    positions = torch.rand(2, 3)
    for sign in (1.0, -1.0) * 8:
        batch = sign * torch.ones(2, 4)
        losses, gradients = executor.losses_and_gradients(positions, batch)
        torch.testing.assert_close(losses, sign * positions.sum(dim=1))
        torch.testing.assert_close(gradients, torch.full_like(positions, sign))
    assert list(executor.fallbacks.values()) == [1]


def test_operators_that_give_other_numbers_are_not_used_and_counted() -> None:
    calls = 0

    def drifting(position: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        return position.sum() + calls, torch.ones_like(position)

    executor = GraphExecutor(drifting, stacked=False)
    for _ in range(CALLS):
        losses, _ = executor.losses_and_gradients(torch.zeros(1, 3), torch.ones(1, 4))
        assert float(losses[0]) == calls
    assert executor.fallbacks == {"its operators alone give other numbers": 1}


def test_what_falls_back_is_counted_in_the_diagnostics(monkeypatch: pytest.MonkeyPatch) -> None:
    data = (torch.randn(60, 3), torch.randn(60, 1))
    options: dict[str, Any] = {"sampler": "sgld", "num_draws": 30, "progress": False}
    quick = estimate_llc(nn.Linear(3, 1), Counted(), data, **options)
    assert quick.diagnostics["executor_fallbacks"] == 0

    def refused(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(graph, "make_fx", refused)
    plain = estimate_llc(nn.Linear(3, 1), Counted(), data, **options)
    assert plain.diagnostics["executor_fallbacks"] > 0
    assert "no such operator" in plain.diagnostics["chosen"]["chains"]


def test_a_model_that_cannot_be_batched_is_said() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.read = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.read(self.lstm(inputs)[0][:, -1])

    data = (torch.randn(30, 5, 2), torch.randn(30, 1))
    landscape = LossLandscape(Recurrent(), Counted(), data)
    assert not landscape.chains_stacked
    assert "vmap cannot batch" in landscape.chains_stacked_because
