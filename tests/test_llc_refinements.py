"""Several temperatures, localisation extrapolated away, parts by mask, draws to a target error."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import emergence_stats as es
from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.extrapolation import weights_at_zero
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.llc import estimate_llc
from emergence_stats.degeneracy.localisation import change_from_curvature
from emergence_stats.degeneracy.parts import attention_head
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.temperature import llc_by_temperature
from emergence_stats.degeneracy.temperature_result import LLCByTemperature
from emergence_stats.degeneracy.tuning import Tuning
from emergence_stats.errors import InputError

NUMBER = 2000


pytestmark = pytest.mark.usefixtures("one_thread")


def negative_log_likelihood(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Of unit variance, up to a constant."""
    return 0.5 * (model(batch[0]) - batch[1]).square().mean()


def regression(
    spread: float, width: int = 6
) -> tuple[nn.Module, tuple[Tensor, Tensor], np.ndarray]:
    """A linear model at its least-squares solution, its data and its Hessian's eigenvalues."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(NUMBER, width, generator=generator)
    inputs *= torch.linspace(1.0 / spread, 1.0, width)
    targets = inputs.sum(1, keepdim=True) + torch.randn(NUMBER, 1, generator=generator)
    model = nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    eigenvalues = torch.linalg.eigvalsh(inputs.T @ inputs / NUMBER)
    return model, (inputs, targets), eigenvalues.double().numpy()


# ---------------------------------------------------------------------------- several temperatures


@pytest.mark.parametrize(("sampler", "away"), [("mala", 0.0), ("mala", 0.4), ("psgld", 0.4)])
def test_the_slope_is_the_coefficient_at_a_minimum_and_away_from_one(
    sampler: str, away: float
) -> None:
    model, data, eigenvalues = regression(spread=4.0)
    with torch.no_grad():
        model.weight += away
    localisation = 20.0
    result = llc_by_temperature(
        model, negative_log_likelihood, data, sampler=sampler, num_draws=500, num_burnin=100,
        batch_size=256, localisation=localisation, progress=False,
    )  # fmt: skip
    held = NUMBER / math.log(NUMBER) * eigenvalues
    truth = 0.5 * (held / (held + localisation)).sum()
    assert result.standard_error < 0.12 * truth, "not mixing"
    assert abs(result.llc - truth) < 4.0 * result.standard_error, "biased"
    assert result.diagnostics["verdict"] == "reliable", result.diagnostics["reasons"]
    if away:
        # At one temperature the same chains report the depth of the minimum instead.
        excess = result.dataset["loss"][0].mean() - result.diagnostics["initial_loss"]
        assert float(excess) * NUMBER / math.log(NUMBER) < -5.0 * truth


def test_wbic_and_singular_fluctuation_are_those_of_a_regular_model() -> None:
    model, data, _ = regression(spread=1.0)
    result = llc_by_temperature(
        model, negative_log_likelihood, data, inverse_temperatures=[1.0, 0.8], sampler="mala",
        num_draws=1000, num_burnin=200, localisation=1e-3, progress=False,
    )  # fmt: skip
    lowest = float(negative_log_likelihood(model, data).detach())
    # n L(w_hat) + lambda log n, exactly for a quadratic loss.
    wbic = NUMBER * lowest + 3.0 * math.log(NUMBER)
    assert abs(result.wbic - wbic) < 4.0 * math.log(NUMBER) * result.standard_error + 1.0
    # beta/2 sum_i Var = 1/2 tr(J H^-1), the noise being of unit variance: d/2, to the O(n^-1/2) of
    # the sampled squares; the variance over some 100 looks at each chain is known to a tenth.
    assert 0.75 * 3.0 < result.singular_fluctuation < 1.25 * 3.0


def test_a_bent_line_is_told_from_a_straight_one() -> None:
    class Quartic(nn.Module):
        """w^4 at high temperature, w^2 at low."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(16, dtype=torch.float64))

        def forward(self) -> Tensor:
            return (0.5 * self.w**2 + 30.0 * self.w**4).sum()

    def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return model() * batch[0].mean()

    data = (torch.ones(1000, dtype=torch.float64),)
    result = llc_by_temperature(
        Quartic(), loss, data, inverse_temperatures=[2.0, 0.2, 0.02], sampler="mala",
        num_draws=500, num_burnin=100, localisation=1e-3, progress=False,
    )  # fmt: skip
    # The local slope falls from d/2 towards d/4, as the exponents of the loss say.
    slopes = np.diff(result.dataset["mean_loss"]) / np.diff(result.dataset["temperature"])
    assert 4.0 < slopes[1] < slopes[0] < 8.0
    assert result.diagnostics["verdict"] == "not a straight line"


def test_the_result_by_temperature_shows_and_saves(tmp_path: Path) -> None:
    model, data, _ = regression(spread=1.0)
    result = es.llc_by_temperature(
        model, negative_log_likelihood, data, num_draws=40, progress=False
    )
    path = tmp_path / "slope.nc"
    result.to_netcdf(path)
    loaded = LLCByTemperature.from_netcdf(path)
    assert isinstance(loaded, LLCByTemperature)
    assert loaded.summary() == result.summary()
    assert "WBIC" in result.summary()
    result.plot().savefig(tmp_path / "slope.png")
    again = llc_by_temperature(model, negative_log_likelihood, data, num_draws=40, progress=False)
    assert again.dataset.identical(result.dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inverse_temperatures": [0.1]}, "at least two different values"),
        ({"inverse_temperatures": [0.1, 0.1]}, "at least two different values"),
        ({"inverse_temperatures": 0.1}, "must be a list of at least two"),
        ({"inverse_temperatures": [0.1, -1.0]}, "above zero, got -1.0"),
        ({"localisation": "scan"}, "give a number here"),
        ({"num_draws": 3}, "num_draws"),
    ],
)
def test_bad_temperatures_are_named(options: dict[str, object], message: str) -> None:
    model, data, _ = regression(spread=1.0)
    with pytest.raises(InputError, match=message):
        llc_by_temperature(model, negative_log_likelihood, data, progress=False, **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ localisation


def test_extrapolation_is_exact_for_mixtures_and_linear_in_the_estimates() -> None:
    gamma = np.array([1.0, 2.0, 4.0, 8.0])
    for curvature, weight in ([(2.0,), (3.0,)], [(0.5, 50.0), (1.0, 4.0)], [(1e9,), (2.0,)]):
        x, c = np.array(curvature), np.array(weight)
        llc = (c * x / (x + gamma[:, None])).sum(axis=1)
        weights = weights_at_zero(gamma, llc)
        assert weights @ llc == pytest.approx(c.sum(), rel=0.05)
        assert weights_at_zero(gamma, 7.0 * llc) @ llc == pytest.approx(c.sum(), rel=0.05)
    # What no mixture can do, rise with the localisation, is fitted by its mean and not amplified.
    rising = np.array([1.0, 1.1, 1.2, 1.3])
    assert weights_at_zero(gamma, rising) @ rising == pytest.approx(1.15, abs=0.01)


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
    assert "reliable at this localisation" in result.summary()
    assert "depends on localisation" in result.summary()

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


def test_distances_are_those_of_the_positions_whose_losses_are_recorded() -> None:
    model, data, _ = regression(spread=1.0)
    landscape = LossLandscape(model, negative_log_likelihood, data)
    tuning = Tuning(LocalisedPosterior(landscape, 0.1, 5.0), 1e-3, None, {}, {})

    def chains(sampler: str, draws: int, tuning: Tuning = tuning) -> Chains:
        return Chains(
            tuning, sampler, 1e-3, num_chains=3, batch_size=NUMBER, seed=0, num_draws=draws
        ).run(draws)

    shorter, longer = chains("sgld", 6), chains("sgld", 7)
    found = longer.traces.squared_distance
    assert found is not None
    np.testing.assert_array_equal(found[:, 0], 0.0)  # the loss recorded first is that of w*
    before = (shorter.positions - landscape.centre).square().sum(dim=1)
    np.testing.assert_allclose(found[:, 6], before.numpy(), rtol=1e-5)
    adjusted = chains("mala", 6)
    assert adjusted.traces.squared_distance is not None
    after = (adjusted.positions - landscape.centre).square().sum(dim=1)
    np.testing.assert_allclose(adjusted.traces.squared_distance[:, 5], after.numpy(), rtol=1e-5)
    # Of many parameters they are taken now and then.
    wide = nn.Linear(300, 256)
    inputs = torch.randn(64, 300)
    large = LossLandscape(wide, negative_log_likelihood, (inputs, wide(inputs).detach()))
    many = chains("sgld", 18, Tuning(LocalisedPosterior(large, 0.1, 5.0), 1e-3, None, {}, {}))
    taken = many.traces.squared_distance
    assert taken is not None
    assert np.flatnonzero(np.isfinite(taken).all(axis=0)).tolist() == [0, 8, 16]


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


def test_the_scan_removes_the_bias_of_localisation() -> None:
    model, data, eigenvalues = regression(spread=6.0, width=12)
    result = estimate_llc(
        model, negative_log_likelihood, data, sampler="sghmc", localisation="scan",
        num_draws=700, batch_size=NUMBER, progress=False,
    )  # fmt: skip
    curve = result.dataset["llc_by_localisation"]
    held = NUMBER / math.log(NUMBER) * eigenvalues[:, None]
    truth = 0.5 * (held / (held + curve["localisation"].to_numpy())).sum(axis=0)
    errors = result.dataset["standard_error_by_localisation"].to_numpy()
    assert (np.abs(curve.to_numpy() - truth) < 4.0 * errors).all()
    assert truth[0] < 5.9  # the weakest localisation has a bias to remove
    assert abs(result.llc - 6.0) < 4.0 * result.standard_error
    assert result.standard_error < 0.4
    assert result.diagnostics["bias_of_localisation"] < 0.0
    assert "extrapolated to zero" in result.summary()
    assert result.diagnostics["verdict"] == "reliable"
    assert len(result.plot().axes) == 3
    # With SGLD flat directions ask for a firmer hold, from which the way to none is long.
    slow = estimate_llc(
        model, negative_log_likelihood, data, sampler="sgld", localisation="scan",
        num_draws=300, batch_size=NUMBER, progress=False,
    )  # fmt: skip
    assert slow.dataset["llc_by_localisation"][0] < 0.9 * slow.llc
    assert any(one.startswith("depends on localisation") for one in slow.diagnostics["reasons"])
    assert slow.diagnostics["verdict"] != "reliable"


# ------------------------------------------------------------------------------- errors and drawing


def test_draws_are_added_until_the_error_meets_its_target() -> None:
    model, data, _ = regression(spread=1.0)
    options = {"num_draws": 100, "localisation": 5.0, "progress": False}
    met = estimate_llc(model, negative_log_likelihood, data, target_standard_error=0.12, **options)  # type: ignore[arg-type]
    assert met.standard_error <= 0.12
    assert 100 < met.diagnostics["num_draws"] < 1600
    missed = estimate_llc(
        model, negative_log_likelihood, data, target_standard_error=0.001, **options
    )  # type: ignore[arg-type]
    assert missed.diagnostics["num_draws"] == 1600
    assert missed.diagnostics["verdict"] == "too few draws"
    # Chains run on are the chains of one long run.
    whole = estimate_llc(
        model, negative_log_likelihood, data, localisation=5.0, num_draws=300, progress=False,
        step_size=met.diagnostics["step_size"],
    )  # fmt: skip
    first = met.dataset["llc_trace"][:, :300].to_numpy()
    np.testing.assert_array_equal(first, whole.dataset["llc_trace"].to_numpy()[:, : first.shape[1]])


def test_half_a_step_shows_what_the_correction_leaves() -> None:
    class Steep(nn.Module):
        """w^4: nowhere quadratic, and the correction for the step is wrong."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(64, dtype=torch.float64))

        def forward(self) -> Tensor:
            return (self.w**4).sum()

    def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return model() * batch[0].mean()

    data = (torch.ones(100, dtype=torch.float64),)
    options = {"localisation": 1e-3, "check_step": True, "num_burnin": 200, "progress": False}
    large = estimate_llc(Steep(), loss, data, step_size=0.02, num_draws=800, **options)  # type: ignore[arg-type]
    found = large.diagnostics
    truth = 64 / 4
    # The measured bias has the sign and the size of the true one.
    assert abs(large.llc - truth) > 5.0 * large.standard_error
    assert found["step_bias"] * (large.llc - truth) > 0.0
    assert abs(found["step_bias"]) > 2.0 * found["step_bias_standard_error"]
    corrected = large.llc - found["step_bias"]
    assert abs(corrected - truth) < abs(large.llc - truth)
    model, regular, _ = regression(spread=1.0)
    small = estimate_llc(model, negative_log_likelihood, regular, num_draws=600, **options)  # type: ignore[arg-type]
    known = small.diagnostics
    assert abs(known["step_bias"]) < 4.0 * known["step_bias_standard_error"]


def test_minibatch_noise_that_dominates_is_named() -> None:
    model, data, _ = regression(spread=1.0)
    result = estimate_llc(
        model, negative_log_likelihood, data, batch_size=1, num_draws=200, step_size=1e-6,
        localisation=1e5, progress=False,
    )  # fmt: skip
    assert result.diagnostics["minibatch_noise_share_of_variance"] > 0.5
    assert "minibatch noise dominates" in result.summary()


# -------------------------------------------------------------------------------- parts and chunks


def test_chains_in_chunks_are_the_same_chains() -> None:
    model, data, _ = regression(spread=1.0)
    options = {"num_chains": 5, "num_draws": 30, "progress": False}
    whole = estimate_llc(model, negative_log_likelihood, data, **options)  # type: ignore[arg-type]
    parts = estimate_llc(model, negative_log_likelihood, data, max_chains_at_once=2, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        whole.dataset["llc_trace"], parts.dataset["llc_trace"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("wanted", [True, None])
def test_traced_gradients_are_those_of_autograd(wanted: bool | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 1)
    )
    model[1](torch.randn(64, 8))  # running statistics that are not the initial ones
    mask = torch.rand(8, 5) > 0.5
    parts = {"0.weight": mask, "4.weight": torch.ones(1, 8, dtype=torch.bool)}
    data = (torch.randn(50, 5), torch.randn(50, 1))
    traced = LossLandscape(model, negative_log_likelihood, data, parts=parts, chains_stacked=wanted)
    if wanted is None:
        traced.chains_stacked = False  # as for a model that keeps a core busy by itself
    plain = LossLandscape(model, negative_log_likelihood, data, parts=parts, chains_stacked=False)
    assert not plain._traceable
    for count in range(12):
        positions = traced.centre + 0.3 * torch.randn(3, traced.num_parameters)
        for index in (torch.randint(50, (3, 7)), torch.randint(50, (9,))):
            losses, gradients = traced.batch_gradients(positions, index)
            reference, expected = plain.batch_gradients(positions, index)
            torch.testing.assert_close(losses, reference, msg=f"call {count}")
            torch.testing.assert_close(gradients, expected)
    runs = (
        traced._gradients.on_own_batches,
        traced._gradients.on_shared_batch,
        traced._gradients.of_one_chain,
    )
    assert [run.num_traces for run in runs] == ([1, 1, 0] if wanted else [0, 0, 2])


@pytest.mark.parametrize("stacked", [True, False])
def test_samples_of_every_kind_are_picked_for_traced_gradients(stacked: bool) -> None:
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
    traced = LossLandscape(model, loss, data, chains_stacked=stacked)
    plain = LossLandscape(model, loss, data, chains_stacked=False)
    traced._traceable = True
    for _ in range(11):
        positions = traced.centre + 0.3 * torch.randn(2, traced.num_parameters)
        index = torch.randint(number, (2, 7))
        losses, gradients = traced.batch_gradients(positions, index)
        reference, expected = plain.batch_gradients(positions, index)
        torch.testing.assert_close(losses, reference)
        torch.testing.assert_close(gradients, expected)
    assert traced.is_traced(2 if stacked else 1, 7)


class Attends(nn.Module):
    """One fused attention layer and a read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
        self.read = nn.Linear(6, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read(self.attention(inputs, inputs, inputs, need_weights=False)[0])


def test_masks_move_only_what_they_choose_and_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    model = Attends()
    inputs = torch.randn(40, 5, 6)
    data = (inputs, torch.randn(40, 5, 1))
    masks = attention_head(model, "attention", 1)
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    expected = {"in_proj_weight": 3 * 2 * 6, "in_proj_bias": 3 * 2, "out_proj.weight": 6 * 2}
    assert sizes == {f"attention.{name}": size for name, size in expected.items()}
    # Every entry of the fused layer but the output bias belongs to exactly one head.
    heads = [attention_head(model, "attention", head) for head in range(3)]
    for name in masks:
        assert (sum(head[name].int() for head in heads) == 1).all()
    whole = LossLandscape(model, negative_log_likelihood, data, parts=list(masks))
    flat = torch.cat([masks[name].flatten() for name in whole.names])
    for stacked in (True, False):
        landscape = LossLandscape(
            model, negative_log_likelihood, data, parts=masks, chains_stacked=stacked
        )
        assert landscape.num_parameters == sum(sizes.values())
        positions = landscape.centre + 0.1 * torch.randn(3, landscape.num_parameters)
        full = whole.centre.expand(3, -1).clone()
        full[:, flat] = positions
        index = torch.arange(30).reshape(3, 10)
        losses, gradients = landscape.batch_gradients(positions, index)
        reference, of_all = whole.batch_gradients(full, index)
        torch.testing.assert_close(losses, reference)
        torch.testing.assert_close(gradients, of_all[:, flat])
    with pytest.raises(InputError, match="attention\\.in_proj_weight' has shape \\(6, 18\\)"):
        LossLandscape(
            model, negative_log_likelihood, data,
            parts={"attention.in_proj_weight": torch.ones(6, 18, dtype=torch.bool)},
        )  # fmt: skip
    with pytest.raises(InputError, match="must be a bool tensor, got a torch"):
        LossLandscape(model, negative_log_likelihood, data, parts={"read.weight": torch.ones(1, 6)})
    with pytest.raises(InputError, match="chooses no entry"):
        LossLandscape(
            model, negative_log_likelihood, data,
            parts={"read.weight": torch.zeros(1, 6, dtype=torch.bool)},
        )  # fmt: skip
    with pytest.raises(InputError, match="head must be a whole number from 0 to 2"):
        attention_head(model, "attention", 3)
    with pytest.raises(InputError, match="without in_proj_weight"):
        attention_head(model, "read", 0)
    with pytest.raises(InputError, match="did you mean 'attention'"):
        attention_head(model, "atention", 0)


def test_a_masked_part_has_the_coefficient_of_its_own_hessian() -> None:
    model, data, _ = regression(spread=2.0)
    mask = torch.tensor([[True, False, True, True, False, False]])
    result = estimate_llc(
        model, negative_log_likelihood, data, parts={"weight": mask}, sampler="mala",
        num_draws=1200, num_burnin=100, localisation=20.0, progress=False,
    )  # fmt: skip
    kept = data[0][:, mask[0]].double()
    held = torch.linalg.eigvalsh(kept.T @ kept).numpy() / math.log(NUMBER)
    truth = 0.5 * (held / (held + 20.0)).sum()
    assert result.standard_error < 0.08 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error
