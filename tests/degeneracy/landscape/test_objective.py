"""What people give as model, loss and data: never changed, never misread, and refused in words."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import emergence_stats as es
from emergence_stats.degeneracy.judgement import default
from emergence_stats.degeneracy.landscape import LossLandscape, objective
from emergence_stats.degeneracy.landscape.batches import read_samples
from emergence_stats.degeneracy.landscape.objective import plain_kernels
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def squared_error(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def linear_problem(width: int = 4, number: int = 400) -> tuple[nn.Linear, tuple[Tensor, Tensor]]:
    inputs = torch.randn(number, width, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.5)
    return model, (inputs, model(inputs).detach())


SHORT: dict[str, Any] = {"sampler": "sgld", "num_draws": 30, "localisation": 1.0, "progress": False}


class Distilled(nn.Module):
    """A loss with a teacher, a dropout and a weight of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.teacher = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, 1))
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return self.weight * (model(batch[0]) - self.teacher(batch[0])).square().mean()


class TestLoss:
    def test_a_loss_that_is_a_module_is_never_changed(self):
        model, data = linear_problem()
        loss = Distilled(4).train()
        state = copy.deepcopy(loss.state_dict())
        es.estimate_llc(model, loss, data, **SHORT)
        es.curvature(model, loss, data, num_probes=2, num_lanczos=2)
        assert loss.training
        assert loss.teacher[0].training
        assert all(parameter.requires_grad for parameter in loss.parameters())
        assert all(torch.equal(state[name], value) for name, value in loss.state_dict().items())

    def test_a_loss_that_holds_the_model_sees_it_move(self):
        model, data = linear_problem()

        class Holding(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.held = model

            def forward(self, _: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
                return squared_error(self.held, batch)

        found = LossLandscape(model, Holding(), data)
        plain = LossLandscape(model, squared_error, data)
        moved = plain.centre[None] + 0.1
        torch.testing.assert_close(found.full_losses(moved), plain.full_losses(moved))
        assert float(found.full_losses(moved)) > 1e-3

    @pytest.mark.parametrize("noise", ["torch", "numpy"])
    def test_a_loss_that_draws_random_numbers_is_refused(self, noise):
        model, data = linear_problem()
        random = np.random.default_rng(0)

        def noisy(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
            shift = torch.randn(()) if noise == "torch" else torch.tensor(random.normal())
            return (model(batch[0] + 0.3 * shift.float()) - batch[1]).square().mean()

        with pytest.raises(InputError, match="draws random numbers"):
            es.estimate_llc(model, noisy, data, **SHORT)

    def test_a_loss_without_a_gradient_where_it_is_zero_is_refused(self):
        model, data = linear_problem()
        with pytest.raises(InputError, match="gradient of the loss at w\\* is not finite"):
            es.estimate_llc(model, lambda *given: squared_error(*given).sqrt(), data, **SHORT)

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            (nn.MSELoss(), "MSELoss does not take the model and a batch"),
            (lambda batch: batch, "does not take the model and a batch"),
            (nn.functional.mse_loss, r"loss_fn\(model, batch\) failed on a batch of 64 samples"),
        ],
    )
    def test_what_is_no_function_of_model_and_batch_is_named(self, loss, message):
        model, data = linear_problem()
        with pytest.raises(InputError, match=message):
            es.estimate_llc(model, loss, data, **SHORT)


class TestData:
    def test_a_subset_is_all_there_is(self):
        data = TensorDataset(torch.arange(100.0))
        loader = DataLoader(data, batch_size=8, sampler=SubsetRandomSampler(range(30, 40)))
        found = read_samples(loader)
        assert found.num_samples == 10
        assert found.leaves[0].tolist() == list(range(30, 40))

    @pytest.mark.parametrize("sampler", [None, RandomSampler])
    def test_the_order_means_nothing(self, sampler):
        data = TensorDataset(torch.arange(20.0))
        loader = DataLoader(data, batch_size=8, sampler=sampler and sampler(data), drop_last=True)
        assert read_samples(loader).leaves[0].tolist() == list(range(20))

    def test_samples_drawn_by_weight_are_refused(self):
        data = TensorDataset(torch.arange(100.0))
        weighted = WeightedRandomSampler([1.0] * 99 + [50.0], 100)
        with pytest.raises(InputError, match="WeightedRandomSampler draws some samples more often"):
            read_samples(DataLoader(data, sampler=weighted))

    def test_batches_made_by_the_caller_are_read(self):
        class Pairs(Sampler[list[int]]):
            def __iter__(self) -> Iterator[list[int]]:
                yield from ([4, 1], [3, 0])

        data = TensorDataset(torch.arange(10.0))
        found = read_samples(DataLoader(data, batch_sampler=Pairs()))
        assert found.leaves[0].tolist() == [0.0, 1.0, 3.0, 4.0]
        batches = [(torch.arange(3.0),), (torch.arange(3.0, 5.0),)]
        whole = read_samples(DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
        assert whole.leaves[0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_evaluated_in_single(self, dtype):
        model, (inputs, _) = linear_problem()
        half = copy.deepcopy(model).to(dtype)
        inputs = inputs.to(dtype)
        targets = half(inputs).detach()
        options = {**SHORT, "num_draws": 400}
        found = es.estimate_llc(half, squared_error, (inputs, targets), **options)
        expected = es.estimate_llc(
            half.float(), squared_error, (inputs.float(), targets.float()), **options
        )
        assert half.weight.dtype == torch.float32  # by this test, not by the estimate
        assert found.llc == expected.llc
        assert abs(found.llc - 2.0) < 4.0 * found.standard_error + 0.1

    def test_a_loss_in_half_precision_is_compared_with_its_own_at_w(self):
        def rounded(model, batch):
            return squared_error(model, batch).bfloat16()

        model, (inputs, targets) = linear_problem()
        same = [one[:1].expand(len(one), -1).clone() for one in (inputs, targets)]
        landscape = LossLandscape(model, rounded, same)
        assert landscape.is_mean_over_samples
        index = torch.arange(20).reshape(2, 10)
        losses = landscape.batch_losses(landscape.centre.expand(2, -1), index)
        assert losses.dtype == torch.bfloat16
        assert landscape.excess(losses, index).tolist() == [0.0, 0.0]

    def test_double_precision_stays(self):
        model, data = linear_problem()
        landscape = LossLandscape(model.double(), squared_error, [one.double() for one in data])
        assert landscape.centre.dtype == torch.float64

    def test_numbers_of_numpy_are_numbers(self):
        model, data = linear_problem()
        plain = es.estimate_llc(
            model, squared_error, data, num_draws=30, num_burnin=5, batch_size=16, step_size=1e-4,
            num_chains=2, seed=3, max_chains_at_once=1, progress=False,
        )  # fmt: skip
        found = es.estimate_llc(
            model, squared_error, data, num_draws=np.int64(30), num_burnin=np.int64(5),
            batch_size=np.int32(16), step_size=np.float64(1e-4), num_chains=np.int64(2),
            seed=np.int64(3), max_chains_at_once=np.int64(1), progress=False,
        )  # fmt: skip
        assert found.llc == plain.llc
        assert json.loads(found.dataset.attrs["diagnostics"])["batch_size"] == 16


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)
        self.read = nn.Linear(3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read(self.lstm(inputs)[0][:, -1])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.read = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read(self.layer(inputs).mean(1))


class TestModels:
    @pytest.mark.parametrize(("build", "shape"), [(Recurrent, (5, 2)), (Attending, (5, 4))])
    def test_losses_and_gradients_are_those_of_the_model(self, build, shape):
        torch.manual_seed(0)
        model = build()
        inputs = torch.randn(80, *shape)
        data = (inputs, model.eval()(inputs).detach() + 0.3 * torch.randn(80, 1))
        with plain_kernels(model):
            landscape = LossLandscape(model, squared_error, data, batch_size=16)
            positions = landscape.centre + 0.1 * torch.randn(2, landscape.num_parameters)
            losses, gradients = landscape.batch_gradients(positions, torch.arange(16))
        moved = copy.deepcopy(model).eval()
        nn.utils.vector_to_parameters(positions[1], moved.parameters())
        loss = squared_error(moved, tuple(one[:16] for one in data))
        loss.backward()
        torch.testing.assert_close(losses[1], loss.detach())
        expected = torch.cat([one.grad.reshape(-1) for one in moved.parameters()])
        torch.testing.assert_close(gradients[1], expected, rtol=1e-4, atol=1e-6)
        result = es.estimate_llc(model, squared_error, data, **SHORT)
        assert math.isfinite(result.llc)

    def test_attention_takes_one_path_everywhere(self):
        torch.manual_seed(0)
        model = Attending()
        inputs = torch.randn(80, 5, 4)
        data = (inputs, model.eval()(inputs).detach())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = es.estimate_llc(model, squared_error, data, **SHORT)
            with plain_kernels(model):
                landscape = LossLandscape(model, squared_error, data)
        assert landscape.is_mean_over_samples
        assert landscape.chains_stacked
        assert math.isfinite(result.llc)

    def test_settings_of_torch_are_put_back(self):
        model, data = linear_problem()
        torch.set_float32_matmul_precision("high")
        try:
            es.estimate_llc(model, squared_error, data, **SHORT)
            assert torch.get_float32_matmul_precision() == "high"
        finally:
            torch.set_float32_matmul_precision("highest")
        assert torch.backends.mha.get_fastpath_enabled()

    def test_of_estimates_side_by_side_the_last_puts_them_back(self):
        one, other = (plain_kernels(linear_problem()[0]) for _ in range(2))
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        assert not torch.backends.mha.get_fastpath_enabled()
        other.__exit__(None, None, None)
        assert torch.backends.mha.get_fastpath_enabled()

    @pytest.mark.parametrize(
        ("device", "message"),
        [("gpu9", "PyTorch knows no 'gpu9'"), ("mps", "no double precision"), ("meta", "meta")],
    )
    def test_a_device_that_cannot_be_used_is_named(self, device, message):
        model, data = linear_problem()
        with pytest.raises(InputError, match=message):
            es.estimate_llc(model, squared_error, data, device=device, **SHORT)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_without_a_gpu_none_is_used(self):
        model, data = linear_problem()
        with pytest.raises(InputError, match="PyTorch sees no GPU"):
            es.estimate_llc(model, squared_error, data, device="cuda", **SHORT)


def largest_batch(run: Callable[[Callable[..., Tensor]], object]) -> int:
    """The most samples that a loss was asked a gradient of at once."""
    seen = []

    def watching(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(batch[0].shape[0])
        return squared_error(model, batch)

    run(watching)
    return max(seen)


class TestMemory:
    @pytest.mark.parametrize("sampler", [None, "sgld", "sghmc", "mala"])
    def test_gradients_of_large_samples_are_taken_of_no_more_than_a_batch(
        self, sampler, monkeypatch
    ):
        model, data = linear_problem(width=8, number=200)
        each = {"num_draws": 12, "num_burnin": 2, "batch_size": 8, "progress": False}

        def run(loss):
            es.estimate_llc(model, loss, data, sampler=sampler, num_chains=2, **each)

        assert largest_batch(run) > 8  # tuning takes more, where they are small
        monkeypatch.setattr("emergence_stats.degeneracy.landscape.landscape._CHUNK", 4.0)
        assert largest_batch(run) == 8

    def test_what_a_sample_keeps_is_counted(self):
        width = 64
        model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
        inputs = torch.randn(8, 3)
        leaves = [one.detach().requires_grad_() for one in model.parameters()]
        found = objective.bytes_per_sample(lambda: model(inputs).square().mean(), 8, leaves)
        # The input, the activation and its tanh's output (one tensor), and the squared output.
        held = [one.numel() * 4 / 8 for one in model.parameters()]
        activations = 4 * (3 + width + 1)
        assert activations <= found <= 2 * activations + sum(held)

    def test_a_batch_left_open_is_one_that_can_be_afforded(self, monkeypatch):
        model, data = linear_problem(width=8)
        assert LossLandscape(model, squared_error, data).batch_size == 64
        each = LossLandscape(model, squared_error, data)._of_one.bytes_per_sample()
        monkeypatch.setattr("emergence_stats.degeneracy.landscape.landscape._UNASKED", 10 * each)
        assert LossLandscape(model, squared_error, data).batch_size == 10
        assert LossLandscape(model, squared_error, data, batch_size=32).batch_size == 32
        result = es.estimate_llc(model, squared_error, data, num_draws=20, progress=False)
        assert result.diagnostics["batch_size"] == 10
        assert "two gigabytes" in result.diagnostics["chosen"]["batch_size"]
        assert LossLandscape(model, squared_error, data, batch_size=5).chains_at_once(8) == 2

    def test_chunks_do_not_change_the_gradient(self, monkeypatch):
        model, data = linear_problem(width=8)
        landscape = LossLandscape(model, squared_error, data, batch_size=7)
        positions = landscape.centre + 0.1 * torch.randn(3, 8)
        whole = landscape.batch_gradients(positions, torch.arange(100))
        landscape._chunk = 7
        parts = landscape.batch_gradients(positions, torch.arange(100))
        torch.testing.assert_close(parts, whole)


def test_a_default_that_misses_its_target_says_so(monkeypatch):
    model, data = linear_problem()
    good = es.estimate_llc(model, squared_error, data, progress=False, seed=4)
    assert good.standard_error <= 0.025 * good.llc
    assert not any("standard error is" in reason for reason in good.diagnostics["reasons"])
    monkeypatch.setattr(default, "TARGET", 1e-6)
    monkeypatch.setattr(default, "MOST", 200)
    result = es.estimate_llc(model, squared_error, data, progress=False)
    assert any("after 200 draws, and not 0.0%" in one for one in result.diagnostics["reasons"])


def test_a_sweep_takes_no_unknown_localisation():
    model, data = linear_problem()
    with pytest.raises(InputError, match='localisation must be a number, "wide" or "near"'):
        es.sweep_llc({1: model.state_dict()}, model, squared_error, data, localisation="scan")
