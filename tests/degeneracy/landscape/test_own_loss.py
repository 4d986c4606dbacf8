"""The loss that a model returns by itself, and losses that are means over tokens, not samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from known_landscapes import quadratic_truth
from torch import Tensor, nn

import emergence_stats as es
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT: dict[str, Any] = {"num_draws": 20, "num_chains": 2, "progress": False}
NUMBER, WIDTH, MOST = 2_000, 4, 32


class Tokens(nn.Module):
    """A linear model of tokens; those with label -100 do not count, as in Hugging Face's models."""

    def __init__(self, kind: type = dict) -> None:
        super().__init__()
        self.read = nn.Linear(WIDTH, 1, bias=False)
        nn.init.ones_(self.read.weight)
        self.kind = kind

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Any:
        if labels is None:
            return self.kind(loss=None)
        counts = (labels != -100.0).float()
        errors = (self.read(inputs)[..., 0] - labels).square() * counts
        return self.kind(loss=0.5 * errors.sum() / counts.sum())


def tokens() -> tuple[dict[str, Tensor], Tensor]:
    """Sorted by length, inputs larger where samples are long; and the mean of x x' over tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.cat([torch.full((NUMBER // 2,), 1), torch.full((NUMBER // 2,), MOST)])
    inputs = torch.randn(NUMBER, MOST, WIDTH, generator=generator)
    inputs *= torch.where(lengths == 1, 0.3, 1.0)[:, None, None]
    counted = torch.arange(MOST)[None] < lengths[:, None]
    labels = torch.where(counted, inputs.sum(-1), -100.0)
    kept = inputs[counted].double()
    return {"inputs": inputs, "labels": labels}, kept.T @ kept / len(kept)


@pytest.mark.parametrize("sampler", [None, "mala"])
def test_of_a_mean_over_tokens_the_coefficient_is_that_of_all_tokens(sampler: str | None) -> None:
    data, hessian = tokens()
    scale = NUMBER / math.log(NUMBER)
    # Two thirds of every direction count: in the order of the data it came out 16% low.
    result = es.estimate_llc(
        Tokens(), None, data, sampler=sampler, localisation=0.5 * scale, num_chains=4,
        num_draws=800, batch_size=256, progress=False,
    )  # fmt: skip
    truth = quadratic_truth(torch.linalg.eigvalsh(hessian).numpy(), result)
    assert result.standard_error < 0.035 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error + 0.01 * truth


def test_all_samples_and_minibatches_are_of_one_loss() -> None:
    data, _ = tokens()
    landscape = LossLandscape(Tokens(), None, data, batch_size=64)
    assert not landscape.is_mean_over_samples
    assert sorted(torch.cat(landscape.chunks()).tolist()) == list(range(NUMBER))
    positions = landscape.centre + 0.5 * torch.tensor([[0.0], [1.0]])
    rows = torch.randint(NUMBER, (500, 64))
    drawn = torch.stack([landscape.batch_losses(positions, one) for one in rows])
    gradients = torch.stack([landscape.batch_gradients(positions, one)[1] for one in rows])
    losses, gradient = landscape.full_gradients(positions)
    torch.testing.assert_close(losses, landscape.full_losses(positions))
    # 500 batches know their mean to a part in a hundred, and 31 that are a partition, better.
    torch.testing.assert_close(losses, drawn.double().mean(0), rtol=0.02, atol=1e-6)
    torch.testing.assert_close(gradient, gradients.mean(0), rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_a_model_may_bring_its_loss(kind: type) -> None:
    data, _ = tokens()

    def by_hand(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        found = model(**batch)
        return found["loss"] if isinstance(found, dict) else found.loss

    model = Tokens(kind)
    own, given = (es.estimate_llc(model, loss, data, **SHORT).llc for loss in (None, by_hand))
    assert own == given


def test_so_for_slopes_sweeps_and_curvatures() -> None:
    data, _ = tokens()
    model = Tokens()
    assert math.isfinite(es.llc_by_temperature(model, None, data, **SHORT).llc)
    states = {1: model.state_dict()}
    sweep = es.sweep_llc(states, model, None, data, localisation=1.0, **SHORT)
    assert math.isfinite(float(sweep["llc"][0, 0]))
    assert float(es.curvature(model, None, data)["trace"]) > 0.0


BAD: list[tuple[nn.Module, Any, str]] = [
    (Tokens(), (torch.zeros(9, MOST, WIDTH),), "a batch is a tuple: give a dict"),
    (Tokens(), {"inputs": torch.zeros(9, MOST, WIDTH)}, "returned a dict without a loss"),
    (Tokens(), {"words": torch.zeros(9, MOST)}, r"columns of data \(words\) must be its arguments"),
    (nn.Linear(WIDTH, 1), {"input": torch.zeros(9, WIDTH)}, "returned a Tensor without a loss"),
]


@pytest.mark.parametrize(("model", "data", "message"), BAD)
def test_a_loss_that_cannot_be_had_is_named(model: nn.Module, data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        es.estimate_llc(model, None, data, **SHORT)
