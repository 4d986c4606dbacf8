"""The loss of a model as a function of vectors: its gradients, and what it leaves alone."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from known_answers import assert_mean
from known_landscapes import linear_problem, negative_log_likelihood, regression, squared_error
from torch import Tensor, nn

from emergence_stats import estimate_llc
from emergence_stats.degeneracy.executor import Evaluation
from emergence_stats.degeneracy.landscape import LossLandscape

pytestmark = pytest.mark.usefixtures("one_thread")


class Tied(nn.Module):
    """Reads out with the weight it embeds with; has a buffer, dropout and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False)
        self.read = nn.Linear(4, 4, bias=False)
        self.read.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.embed(inputs)) * self.frozen
        return self.read(self.dropout(self.norm(hidden)))


def tied_problem() -> tuple[Tied, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = Tied()
    inputs = torch.randn(300, 4)
    model.norm(inputs)  # running statistics that are not the initial ones
    return model, (inputs, model.eval()(inputs).detach() + 0.1)


def test_the_model_given_is_never_changed() -> None:
    model, data = tied_problem()
    model.train()
    model.norm.eval()
    state = copy.deepcopy(model.state_dict())
    inputs = [leaf.clone() for leaf in data]
    grad_flags = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    before = torch.get_rng_state()
    estimate_llc(model, squared_error, data, num_draws=30, progress=False)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert grad_flags == {name: p.requires_grad for name, p in model.named_parameters()}
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(inputs, data, strict=True))


def test_the_copy_shares_memory_with_what_moves_and_with_nothing_of_the_model_given() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    model[0].bias.requires_grad_(False)
    data = (torch.randn(20, 3), torch.randn(20, 1))
    masks = {"0.weight": torch.ones(4, 3).bool(), "2.weight": torch.tensor([[1, 0, 1, 1]]).bool()}
    for parts, wholly in ((None, ("0.weight", "2.weight", "2.bias")), (masks, ("0.weight",))):
        landscape = LossLandscape(model, squared_error, data, parts=parts)
        copied = dict(landscape._of_one.module.model.named_parameters())
        within = landscape.centre.untyped_storage().data_ptr()
        for name, given in model.named_parameters():
            assert torch.equal(copied[name], given)
            place = copied[name].untyped_storage().data_ptr()
            assert place != given.untyped_storage().data_ptr()
            assert (place == within) is (name in wholly)
        before = landscape.centre.clone()
        landscape.batch_gradients(landscape.centre[None] + 0.1, torch.arange(20))
        assert torch.equal(landscape.centre, before)


def test_tied_weights_move_as_one_and_frozen_ones_stay() -> None:
    model, data = tied_problem()
    landscape = LossLandscape(model, squared_error, data)
    assert landscape.names == ["embed.weight", "norm.weight", "norm.bias"]
    named = LossLandscape(model, squared_error, data, parts=["read.weight"])
    assert named.names == ["embed.weight"]
    position = named.centre + 0.1
    moved = copy.deepcopy(model).eval()
    with torch.no_grad():
        moved.embed.weight.add_(0.1)
    assert float(named.full_losses(position[None])[0]) == pytest.approx(
        float(squared_error(moved, data).detach()), rel=1e-5
    )


def test_gradients_are_those_of_autograd_stacked_or_in_sequence_and_in_any_chunks() -> None:
    model, data = tied_problem()
    together = LossLandscape(model, squared_error, data, chains_stacked=True)
    separate = LossLandscape(model, squared_error, data, chains_stacked=False)
    assert together.chains_stacked
    assert not separate.chains_stacked
    generator = torch.Generator().manual_seed(1)
    positions = together.centre + 0.3 * torch.randn(3, together.num_parameters, generator=generator)
    index = torch.randint(300, (3, 40), generator=generator)
    for landscape in (together, separate):
        losses, gradients = landscape.batch_gradients(positions, index)
        for chain in range(3):
            copied = copy.deepcopy(model).eval()
            moving = dict(copied.named_parameters())
            with torch.no_grad():
                for name, value in landscape.as_dict(positions[chain]).items():
                    moving[name].copy_(value)
            loss = squared_error(copied, tuple(leaf[index[chain]] for leaf in data))
            loss.backward()
            expected = torch.cat([moving[name].grad.reshape(-1) for name in landscape.names])
            torch.testing.assert_close(losses[chain], loss.detach())
            torch.testing.assert_close(gradients[chain], expected, rtol=1e-4, atol=1e-6)
        whole = landscape.batch_gradients(positions, torch.arange(300))
        landscape._chunk = 77
        torch.testing.assert_close(landscape.full_gradients(positions)[1], whole[1])
        torch.testing.assert_close(landscape.full_losses(positions), whole[0].double())
        torch.testing.assert_close(landscape.batch_losses(positions, index), losses)


def test_chains_stacked_and_in_sequence_agree_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = tied_problem()
    model.double()
    data = tuple(leaf.double() for leaf in data)
    results = []
    for stacked in (True, False):
        original = LossLandscape._choose_evaluation
        monkeypatch.setattr(
            LossLandscape,
            "_choose_evaluation",
            lambda self, wanted, s=stacked: Evaluation(s, "as tested"),
        )
        results.append(
            estimate_llc(
                model, squared_error, data, num_draws=60, step_size=1e-4, localisation=10.0,
                batch_size=32, progress=False,
            )
        )  # fmt: skip
        monkeypatch.setattr(LossLandscape, "_choose_evaluation", original)
    first, second = (result.dataset["llc_trace"].to_numpy() for result in results)
    assert np.ptp(first) > 0.0
    np.testing.assert_allclose(first, second, rtol=1e-8, atol=1e-9)


def test_a_model_that_cannot_be_batched_runs_in_sequence_and_says_why() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        def forward(self, inputs: Tensor) -> Tensor:
            if float(self.w.detach().sum()) > -100.0:  # data-dependent control flow
                return inputs @ self.w
            return inputs.sum(-1)

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 2, generator=generator)
    result = estimate_llc(
        Branching(), squared_error, (inputs, inputs.sum(-1)), num_draws=40, progress=False
    )
    assert "cannot batch this model" in result.diagnostics["chosen"]["chains"]
    assert math.isfinite(result.llc)


def test_control_variate_is_right_for_a_loss_that_is_no_mean_over_samples() -> None:
    def scaled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        residual = (model(batch[0]) - batch[1]).square()
        return residual.mean() / batch[1].square().mean()

    model, data, _ = linear_problem()
    landscape = LossLandscape(model, scaled, data)
    assert landscape._centre_sample_losses is None
    index = torch.arange(60).reshape(2, 30)
    expected = torch.stack([scaled(model, tuple(leaf[row] for leaf in data)) for row in index])
    excess = landscape.excess(torch.tensor([1.0, 2.0]), index)
    wanted = torch.tensor([1.0, 2.0]).double() - expected.detach().double()
    torch.testing.assert_close(excess, wanted)


def test_recorded_losses_are_unbiased_and_the_control_variate_lowers_their_variance() -> None:
    model, data, _ = linear_problem()
    landscape = LossLandscape(model, squared_error, data)
    generator = torch.Generator().manual_seed(1)
    position = landscape.centre + 0.02 * torch.randn(6, generator=generator)
    truth = float(landscape.full_losses(position[None])[0]) - landscape.initial_loss
    positions = position.expand(4000, -1)
    index = torch.randint(2000, (4000, 64), generator=generator)
    raw = landscape.batch_losses(positions, index).double()
    paired = landscape.excess(raw.float(), index)
    at_centre = landscape.batch_losses(landscape.centre.expand(4000, -1), index).double()
    torch.testing.assert_close(paired, raw - at_centre)
    assert_mean(paired.numpy().reshape(4, 1000), truth, label="paired loss")
    assert paired.var() < 0.2 * raw.var()


def test_chains_in_chunks_are_the_same_chains() -> None:
    model, data, _ = regression(spread=1.0)
    options = {"num_chains": 5, "num_draws": 30, "progress": False}
    whole = estimate_llc(model, negative_log_likelihood, data, **options)  # type: ignore[arg-type]
    parts = estimate_llc(model, negative_log_likelihood, data, max_chains_at_once=2, **options)  # type: ignore[arg-type]
    found = whole.diagnostics
    # A few units in the last place of the loss, times what multiplies it.
    rounding = 5e-7 * found["num_samples"] * found["inverse_temperature"] * found["initial_loss"]
    np.testing.assert_allclose(
        whole.dataset["llc_trace"], parts.dataset["llc_trace"], rtol=1e-4, atol=rounding
    )


def test_samples_of_every_kind_are_picked() -> None:
    torch.manual_seed(0)
    number = 40
    data = {
        "short": torch.randn(number, 2, 3),
        "long": torch.randn(number, 100),
        "turned": torch.randn(3, number).T,
        "label": torch.randint(3, (number,)),
        "flag": torch.rand(number) > 0.5,
        "byte": torch.randint(9, (number, 2), dtype=torch.uint8),
        "double": torch.randn(number, 2, dtype=torch.float64),
        "empty": torch.randn(number, 0),
    }

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        seen = [one.flatten(1) if one.ndim > 1 else one[:, None] for one in batch.values()]
        scores = model(torch.cat([one.float() for one in seen[:3] + seen[4:]], dim=1))
        return nn.functional.cross_entropy(scores[:, :3], batch["label"])

    model = nn.Linear(6 + 100 + 3 + 1 + 2 + 2, 3)
    together = LossLandscape(model, loss, data)
    plain = LossLandscape(model, loss, data, chains_stacked=False)
    positions = together.centre + 0.3 * torch.randn(2, together.num_parameters)
    index = torch.randint(number, (2, 7))
    found = together.batch_gradients(positions, index)
    torch.testing.assert_close(found, plain.batch_gradients(positions, index))
    assert together.chains_stacked
