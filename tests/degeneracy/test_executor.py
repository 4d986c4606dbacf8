"""Losses and gradients of several chains are those of autograd, together or in sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from emergence_stats.degeneracy.landscape import LossLandscape

pytestmark = pytest.mark.usefixtures("one_thread")
THIRDS = torch.arange(192).view(24, 8) % 3 > 0


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


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("stacked", [None, False])
@pytest.mark.parametrize(
    ("build", "parts"),
    [(Attending, None), (Attending, {"qkv.weight": THIRDS}), (Twice, None)],
)
def test_gradients_are_those_of_autograd(
    build: type[nn.Module], parts: Any, stacked: Any, shared: bool
) -> None:
    torch.manual_seed(0)
    data = (torch.randn(60, 5, 8), torch.randn(60, 5, 1))
    model = build()
    landscape = LossLandscape(model, loss_of, data, parts=parts, chains_stacked=stacked)
    assert landscape.chains_stacked is (stacked is None)
    leaves = dict(model.named_parameters())
    positions = landscape.centre + 0.3 * torch.randn(2, landscape.num_parameters)
    index = torch.randint(60, (7,) if shared else (2, 7))
    losses, gradients = landscape.batch_gradients(positions, index)
    assert (losses.shape, gradients.shape) == ((2,), positions.shape)
    assert not gradients.requires_grad
    for chain in range(2):
        named = {**leaves, **landscape.as_dict(positions[chain])}
        named = {name: one.detach().requires_grad_() for name, one in named.items()}
        inputs, targets = (leaf[index if shared else index[chain]] for leaf in data)
        value = nn.functional.mse_loss(functional_call(model, named, (inputs,)), targets)
        value.backward()
        torch.testing.assert_close(losses[chain], value.detach())
        moving = [
            named[name].grad if parts is None else named[name].grad[parts[name]]  # type: ignore[index]
            for name in landscape.names
        ]
        flat = torch.cat([one.reshape(-1) for one in moving])  # type: ignore[union-attr]
        torch.testing.assert_close(gradients[chain], flat, rtol=1e-4, atol=1e-6)


def test_a_model_that_cannot_be_batched_is_said() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.read = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.read(self.lstm(inputs)[0][:, -1])

    data = (torch.randn(30, 5, 2), torch.randn(30, 1))
    landscape = LossLandscape(Recurrent(), loss_of, data)
    assert not landscape.chains_stacked
    assert "vmap cannot batch" in landscape.chains_stacked_because
