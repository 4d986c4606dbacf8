"""Local learning coefficients against closed forms and quadrature, and what must never happen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_answers import assert_mean
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import emergence_stats as es
from emergence_stats.degeneracy.estimator import judge, stationary_from, summarise
from emergence_stats.degeneracy.gradients import Evaluation
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.llc import LLC, estimate_llc
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import SAMPLERS, Streams
from emergence_stats.degeneracy.stiffness import largest_curvature
from emergence_stats.errors import InputError, StorageError

pytestmark = pytest.mark.usefixtures("one_thread")


def squared_error(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def linear_problem(
    num_samples: int = 2000, width: int = 6, spread: float = 1.0
) -> tuple[nn.Module, tuple[Tensor, Tensor], np.ndarray]:
    """A linear model at its least-squares solution, its data and its Hessian's eigenvalues."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(num_samples, width, generator=generator)
    inputs *= torch.linspace(1.0 / spread, 1.0, width)
    targets = inputs.sum(1, keepdim=True) + 0.3 * torch.randn(num_samples, 1, generator=generator)
    model = nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    hessian = (2.0 / num_samples) * (inputs.T @ inputs).double()
    return model, (inputs, targets), torch.linalg.eigvalsh(hessian).numpy()


def quadratic_truth(eigenvalues: np.ndarray, result: LLC) -> float:
    """The expectation under the localised tempered posterior of a quadratic loss."""
    found = result.diagnostics
    held = found["num_samples"] * found["inverse_temperature"] * eigenvalues
    return float(0.5 * (held / (held + found["localisation"])).sum())


class Potential(nn.Module):
    """A loss |w_1|^a |w_2|^b that depends on the data only through a weight."""

    def __init__(self, exponents: tuple[int, int], start: tuple[float, float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.exponents = exponents

    def forward(self) -> Tensor:
        a, b = self.exponents
        return self.w[0].abs() ** a * self.w[1].abs() ** b


def weighted_potential(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return model() * batch[0].mean()


# ------------------------------------------------------------------------------- known answers


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spread", [1.0, 5.0])
def test_linear_regression_is_the_closed_form_of_its_localised_posterior(
    sampler: str, spread: float
) -> None:
    model, data, eigenvalues = linear_problem(spread=spread)
    result = estimate_llc(
        model, squared_error, data, sampler=sampler, num_draws=1500, batch_size=128, seed=2,
        localisation=20.0, progress=False,
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
        model, squared_error, data, sampler="mala", num_draws=1500, num_burnin=300,
        localisation=localisation, progress=False,
    )  # fmt: skip
    truth = quadratic_truth(eigenvalues, result)
    assert result.standard_error < 0.08 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error


def test_n_is_the_number_of_samples_and_not_the_batch_size() -> None:
    model, data, eigenvalues = linear_problem()
    for batch_size in (32, 512):
        result = estimate_llc(
            model, squared_error, data, batch_size=batch_size, num_draws=1200, localisation=20.0,
            progress=False,
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
    ("exponents", "start"),
    [((2, 2), (0.0, 0.0)), ((2, 4), (0.0, 0.0)), ((2, 2), (0.4, 0.0)), ((4, 2), (0.0, 0.3))],
)
def test_normal_crossing_is_the_quadrature_of_the_same_posterior(
    exponents: tuple[int, int], start: tuple[float, float]
) -> None:
    a, b = exponents
    data = (torch.linspace(0.5, 1.5, 1000, dtype=torch.float64),)
    localisation = 20.0
    scale = 1000.0 / math.log(1000.0)
    grid = np.linspace(-2.5, 2.5, 2001)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    excess = np.abs(x) ** a * np.abs(y) ** b
    energy = scale * excess + 0.5 * localisation * ((x - start[0]) ** 2 + (y - start[1]) ** 2)
    mass = np.exp(-energy)
    truth = float(scale * (excess * mass).sum() / mass.sum())
    # SGLD where the loss is less steep: its small steps would take too long to fill the tails.
    runs = [("mala", 900, 0.06), *([("sgld", 2000, 0.1)] if exponents == (2, 2) else [])]
    for sampler, draws, error in runs:
        # A step well inside the stiffest curvature met, as the correction is exact for quadratics.
        step = 2e-3 if sampler == "sgld" else None
        result = estimate_llc(
            Potential(exponents, start), weighted_potential, data, sampler=sampler,
            num_chains=32, num_draws=draws, num_burnin=draws // 5, localisation=localisation,
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
        num_draws=1500, localisation=1.0, progress=False,
    )  # fmt: skip
    hidden = model[0](inputs).detach().double()
    block = torch.linalg.eigvalsh(hidden.T @ hidden / 3000.0).numpy()
    truth = quadratic_truth(np.repeat(block, 2), result)
    assert result.diagnostics["num_parameters"] == 6
    assert result.standard_error < 0.08 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error


# ------------------------------------------------------------------------- landscape and posterior


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
    torch.testing.assert_close(landscape.centre_losses(index), expected.detach().double())
    excess = landscape.excess(torch.tensor([1.0, 2.0]), index)
    torch.testing.assert_close(excess, torch.tensor([1.0, 2.0]).double() - expected.double())


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
    torch.testing.assert_close(paired, raw - landscape.centre_losses(index))
    assert_mean(paired.numpy().reshape(4, 1000), truth, label="paired loss")
    assert paired.var() < 0.2 * raw.var()


def test_potential_and_gradient_follow_the_convention() -> None:
    model, data, _ = linear_problem(num_samples=400)
    model.double()
    data = tuple(leaf.double() for leaf in data)
    landscape = LossLandscape(model, squared_error, data)
    posterior = LocalisedPosterior(landscape, inverse_temperature=0.2, localisation=3.0)
    positions = (landscape.centre + 0.1 * torch.ones(2, 6, dtype=torch.float64)).requires_grad_()
    losses = (data[0] @ positions.T - data[1]).square().mean(0)
    energy = 80.0 * (losses - landscape.initial_loss)
    energy = energy + 1.5 * (positions - landscape.centre).square().sum(1)
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    value = posterior.potential(positions.detach())
    torch.testing.assert_close(value.energy, energy.detach())
    torch.testing.assert_close(value.gradient, gradient)
    torch.testing.assert_close(value.pull, 3.0 * 0.1 * torch.ones(2, 6, dtype=torch.float64))


def test_largest_curvature_is_that_of_the_dense_hessian() -> None:
    model, data, eigenvalues = linear_problem(spread=3.0)
    landscape = LossLandscape(model, squared_error, data)
    rows = torch.arange(2000)
    found, _ = largest_curvature(landscape, landscape.centre, rows, scale=100.0, localisation=7.0)
    # Power iteration approaches from below and stops when a round adds less than 2%.
    assert 0.85 * (100.0 * eigenvalues[-1] + 7.0) < found <= 1.01 * (100.0 * eigenvalues[-1] + 7.0)


# ----------------------------------------------------------------------------------------- data


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data[0])

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": self.data[0][i], "y": self.data[1][i]}


def test_tensors_datasets_and_loaders_give_the_same_answer() -> None:
    model, data, _ = linear_problem(num_samples=300)

    def by_name(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return squared_error(model, (batch["x"], batch["y"]))

    options = {"num_draws": 20, "progress": False}
    reference = estimate_llc(model, squared_error, data, **options)
    pairs = TensorDataset(*data)
    shuffled = DataLoader(pairs, batch_size=32, shuffle=True, drop_last=True)
    assert estimate_llc(model, squared_error, pairs, **options).llc == reference.llc
    assert estimate_llc(model, squared_error, shuffled, **options).llc == reference.llc
    assert estimate_llc(model, by_name, Rows(data), **options).llc == reference.llc


# ------------------------------------------------------------------------- estimator and verdicts


def autoregressive(rng: np.random.Generator, first: float, second: float) -> np.ndarray:
    """Four stationary chains of 600 draws, of variance 1."""
    noise = rng.normal(size=(4, 800))
    trace = np.zeros_like(noise)
    for i in range(2, 800):
        trace[:, i] = first * trace[:, i - 1] + second * trace[:, i - 2] + noise[:, i]
    variance = (1.0 - second) / ((1.0 + second) * ((1.0 - second) ** 2 - first**2))
    return trace[:, 200:] / variance**0.5


def slow(rng: np.random.Generator) -> np.ndarray:
    return autoregressive(rng, 0.8, 0.0)[:, :300]


def oscillating(rng: np.random.Generator) -> np.ndarray:
    # The energy of an oscillator that turns in eight draws and is damped within thirty.
    return autoregressive(rng, 1.94 * math.cos(2.0 * math.pi / 8.0), -(0.97**2)) ** 2 - 1.0


def cancelling(rng: np.random.Generator) -> np.ndarray:
    # Neighbours that make up for one another, around something slow.
    turning = autoregressive(rng, 1.9 * math.cos(2.0 * math.pi / 5.0), -(0.95**2))
    return slow(rng) + 15.0 * turning[:, :300]


@pytest.mark.parametrize("draws", [slow, oscillating, cancelling])
def test_intervals_cover_the_mean_of_autocorrelated_traces(
    draws: Callable[[np.random.Generator], np.ndarray],
) -> None:
    rng = np.random.default_rng(0)
    inside, trials = 0, 300
    for _ in range(trials):
        estimate = summarise(draws(rng))
        inside += abs(estimate.llc) < 1.645 * estimate.standard_error
    # 90% nominal; four binomial standard deviations of 300 trials are 7%, and ESS from 133
    # effective draws is itself uncertain by some 10%, worth 2%.
    assert 0.81 < inside / trials < 0.97


def test_burn_in_is_found_where_the_transient_ends() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4, 400))
    draws = np.arange(400)
    assert stationary_from(noise)[1]
    late = stationary_from(noise - 30.0 * np.exp(-draws / 25.0))
    assert late[1]
    # The transient falls to the standard error of what is left, 0.03, at 25 log(1000) = 173, and to
    # the noise of one group of draws, 0.2, at 125.
    assert 100 <= late[0] < 200
    assert not stationary_from(noise + draws / 20.0)[1]


def test_verdicts_in_words() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(4, 400))

    def verdict(trace: np.ndarray, **options: Any) -> str:
        return judge(summarise(trace), stationary=True, **{"step_correction": 0.0, **options})[0]

    assert verdict(noise + 10.0) == "reliable"
    assert verdict(noise - 10.0) == "not at a minimum"
    assert verdict(noise + 10.0 - np.arange(400) / 40.0) == "not at a minimum"
    assert verdict(noise + 10.0 + np.arange(400) / 40.0) == "still drifting"
    assert verdict(noise + 10.0 + 3.0 * np.arange(4)[:, None]) == "chains disagree"
    assert verdict(noise + 10.0, step_correction=8.0) == "step too large"
    assert verdict(noise + np.nan) == "step too large"
    assert verdict(noise[:1, :15] + 10.0) == "too few draws"
    # A correction that would do where the loss is quadratic.
    assert verdict(noise + 10.0, step_correction=2.0, homogeneity=1.2, departure=0.2) == "reliable"
    assert verdict(noise + 10.0, step_correction=2.0, homogeneity=1.5) == "step too large"
    assert verdict(noise + 10.0, step_correction=2.0, departure=0.5) == "step too large"
    assert verdict(noise + 10.0, step_correction=1.0, departure=0.5) == "reliable"
    for mean, expected in ((6.0, "reliable"), (5.4, "not in equilibrium")):
        virial = summarise(noise + mean)
        assert verdict(noise + 10.0, virial=virial, num_parameters=6) == expected


def test_a_step_too_large_is_reported_with_the_largest_that_worked() -> None:
    model, data, eigenvalues = linear_problem()
    result = estimate_llc(model, squared_error, data, step_size=10.0, num_draws=400, progress=False)
    found = result.diagnostics
    assert found["verdict"] == "step too large"
    assert math.isnan(result.llc)
    assert all(math.isnan(end) for end in result.interval())
    worked = found["largest_step_size_that_worked"]
    limit = 4.0 / (found["num_samples"] * found["inverse_temperature"] * eigenvalues[-1])
    assert worked < 10.0
    assert worked > 0.2 * limit
    assert f"{worked:.3g}" in result.summary()


def test_away_from_a_minimum_the_verdict_says_so() -> None:
    model, data, _ = linear_problem()
    with torch.no_grad():
        model.weight.add_(1.0)
    result = estimate_llc(model, squared_error, data, num_draws=300, progress=False)
    assert result.llc < 0
    assert result.diagnostics["verdict"] == "not at a minimum"


# ----------------------------------------------------------------------------------- the result


def test_the_result_shows_saves_and_repeats(tmp_path: Path) -> None:
    model, data, _ = linear_problem(num_samples=400)
    result = es.estimate_llc(model, squared_error, data, num_draws=60, progress=False)
    again = estimate_llc(model, squared_error, data, num_draws=60, progress=False)
    other = estimate_llc(model, squared_error, data, num_draws=60, seed=1, progress=False)
    assert again.dataset.identical(result.dataset)
    assert other.llc != result.llc
    path = tmp_path / "llc.nc"
    result.to_netcdf(path)
    loaded = LLC.from_netcdf(path)
    assert loaded.dataset.identical(result.dataset)
    assert loaded.summary() == result.summary()
    assert result.dataset["loss"].dims == ("chain", "draw")
    kept = result.dataset["llc_trace"].where(result.dataset["kept"], drop=True)
    assert float(kept.mean()) == pytest.approx(result.llc)
    assert "verdict" in result.summary()
    assert "<pre>" in result._repr_html_()
    low, high = result.interval(0.5)
    wide_low, wide_high = result.interval(0.99)
    assert wide_low < low < result.llc < high < wide_high
    result.plot().savefig(tmp_path / "llc.png")
    with pytest.raises(StorageError, match="check the path"):
        LLC.from_netcdf(tmp_path / "absent.nc")
    with pytest.raises(StorageError, match="cannot write"):
        result.to_netcdf(tmp_path / "no" / "such" / "llc.nc")


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "sgdl"}, "did you mean 'sgld'"),
        ({"num_chains": 0}, "num_chains must be a whole number of at least 1, got 0"),
        ({"num_draws": 2.5}, "got 2.5"),
        ({"num_burnin": -1}, "num_burnin"),
        ({"batch_size": 0}, "batch_size"),
        ({"step_size": 0.0}, "step_size must be a finite number above zero"),
        ({"step_size": math.nan}, "got nan"),
        ({"localisation": -1.0}, "localisation must be a finite number zero or more"),
        ({"inverse_temperature": math.inf}, "inverse_temperature"),
        ({"seed": -1}, "seed"),
        ({"parts": ["wieght"]}, "did you mean 'weight'"),
        ({"parts": []}, "parts is empty"),
        ({"parts": "weight"}, "must be a list"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], message: str) -> None:
    model, data, _ = linear_problem(num_samples=50)
    with pytest.raises(InputError, match=message):
        estimate_llc(model, squared_error, data, progress=False, **options)  # type: ignore[arg-type]


class Uneven(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self):  # type: ignore[no-untyped-def]
        for length in (3, 4):
            yield torch.zeros(length), torch.zeros(1)


def _bad_data() -> list[tuple[object, str]]:
    return [
        ((torch.zeros(0, 6), torch.zeros(0, 1)), "empty"),
        ((torch.zeros(5, 6), torch.zeros(4, 1)), r"differing lengths \[5, 4\]"),
        ((), "empty"),
        ((torch.zeros(5, 6), "labels"), "holds a str"),
        ((torch.tensor(1.0),), "scalar tensor"),
        (TensorDataset(torch.zeros(0, 6)), "length 0"),
        (DataLoader(Uneven(), batch_size=1), "changing length"),
        (DataLoader(Uneven(), batch_size=2), "cannot be collated"),
        ((torch.zeros(2, 6), torch.zeros(2, 1)), "too few for beta"),
    ]


@pytest.mark.parametrize(("data", "message"), _bad_data())
def test_bad_data_are_named(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate_llc(nn.Linear(6, 1, bias=False), squared_error, data, progress=False)


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


def test_streams_give_batches_independent_of_the_position() -> None:
    # Batches are drawn with replacement at every step: the next one knows nothing of the last.
    streams = Streams(0, 1)
    counts = torch.zeros(20)
    for _ in range(500):
        batch = streams.batch(20, 8)
        assert batch is not None
        counts += torch.bincount(batch[0], minlength=20)
    expected = 500 * 8 / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 43.8  # chi-square 19, 0.1%


@pytest.mark.parametrize("seed", [3, 7, 14, 20, 71])
def test_a_pilot_on_its_way_out_shortens_the_step_and_no_more(seed: int) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def forward(self) -> Tensor:
            return self.w.prod()

    def squared(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return model().square() * batch[0].mean()

    data = (torch.linspace(0.5, 1.5, 1000, dtype=torch.float64),)
    # The first pilot ends, still finite, where curvature or noise is 1e12 to 1e90 times that at w*.
    found = es.estimate_llc(
        Product(), squared, data, sampler="baoab", num_draws=100, localisation=20.0,
        batch_size=200, seed=seed, progress=False,
    )  # fmt: skip
    assert 0.005 < found.diagnostics["step_size"] < 0.1
    assert found.llc > 0.05  # of 0.124
