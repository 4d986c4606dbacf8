"""Models and losses of kinds that trip an estimator: right numbers, or words that say why not."""

from __future__ import annotations

import copy
import math
import threading
from collections import UserDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

import emergence_stats as es
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT: dict[str, Any] = {"sampler": "sgld", "num_draws": 30, "localisation": 1.0, "progress": False}
INPUTS = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS.sum(1, keepdim=True)


def squared_error(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))


class TestLosses:
    def test_a_mean_over_tokens_is_told_even_where_neighbours_are_of_one_length(self):
        # Sorted by length: within the first hundreds of samples it is a mean over samples.
        lengths = torch.cat([torch.full((1_000,), 8.0), torch.full((1_000,), 2.0)])
        inputs = torch.randn(2_000, 8, generator=torch.Generator().manual_seed(1))
        kept = (torch.arange(8)[None] < lengths[:, None]).float()
        model = nn.Linear(8, 8)

        def by_token(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
            return ((model(batch[0]) - batch[0]).square() * batch[1]).sum() / batch[1].sum()

        sorted_by_length = LossLandscape(model, by_token, (inputs, kept))
        assert not sorted_by_length.is_mean_over_samples
        alike = LossLandscape(model, by_token, (inputs, torch.ones_like(kept)))
        assert alike.is_mean_over_samples

    def test_a_loss_that_ignores_its_model_is_refused(self):
        outside = network()
        with pytest.raises(InputError, match="loss has no gradient with respect to the moving"):
            es.estimate_llc(
                network(), lambda model, batch: squared_error(outside, batch), (INPUTS, TARGETS),
                **SHORT,
            )  # fmt: skip

    @pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
    @pytest.mark.parametrize("reentrant", [True, False])
    def test_recomputed_activations_are_refused_or_right(self, reentrant):
        class Recomputing(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 1)

            def forward(self, inputs: Tensor) -> Tensor:
                hidden = checkpoint(lambda x: self.first(x).tanh(), inputs, use_reentrant=reentrant)
                return self.second(hidden)

        with pytest.raises(InputError, match=r"torch\.utils\.checkpoint"):
            LossLandscape(Recomputing(), squared_error, (INPUTS, TARGETS))

    def test_what_a_gradient_does_not_reach_is_named(self):
        class Half(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.moved, self.held, self.idle = (nn.Linear(5, 1) for _ in range(3))

            def forward(self, inputs: Tensor) -> Tensor:
                return self.moved(inputs) + self.held(inputs).detach()

        model = Half()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(InputError, match=r"depends on held\.weight, held\.bias"):
            LossLandscape(model, squared_error, (INPUTS, TARGETS))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        model.held.requires_grad_(False)
        landscape = LossLandscape(model, squared_error, (INPUTS, TARGETS))
        # What the loss does not use at all moves freely, and w* is where it was.
        idle = landscape.as_dict(landscape.centre)["idle.weight"]
        assert torch.equal(idle, model.idle.weight.detach())


class TestModels:
    def test_an_inverse_is_differentiated_however_often(self):
        class Inverting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.skew = nn.Parameter(0.1 * torch.randn(5, 5))

            def forward(self, inputs: Tensor) -> Tensor:
                return inputs @ torch.linalg.inv(torch.eye(5) + self.skew)

        landscape = LossLandscape(
            Inverting(), lambda model, batch: model(batch[0]).square().mean(), (INPUTS,)
        )
        positions = landscape.centre.expand(2, -1) + torch.tensor([[0.0], [0.01]])
        rows = torch.arange(64).expand(2, -1)
        first = landscape.batch_gradients(positions, rows)
        for _ in range(12):  # beyond the call from which operators are replayed
            again = landscape.batch_gradients(positions, rows)
        for one, other in zip(first, again, strict=True):
            torch.testing.assert_close(one, other)

    @pytest.mark.parametrize("kind", [nn.GRU, nn.RNN, nn.LSTM])
    def test_recurrent_layers_are_sampled(self, kind):
        sequences = torch.randn(200, 4, 5, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        result = es.estimate_llc(
            kind(5, 3, batch_first=True),
            lambda model, batch: model(batch[0])[0].square().mean(),
            (sequences,),
            **SHORT,
        )
        assert math.isfinite(result.llc)

    @pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
    def test_sparse_gradients_are_made_dense(self, kind):
        words = torch.randint(0, 7, (200, 3), generator=torch.Generator().manual_seed(0))
        found = []
        for sparse in (False, True):
            torch.manual_seed(0)
            model = kind(7, 2, sparse=sparse)
            found.append(
                es.estimate_llc(
                    model, lambda model, batch: model(batch[0]).square().mean(), (words,), **SHORT
                ).llc
            )
            assert model.sparse is sparse
        assert found[0] == found[1]

    @pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
    def test_what_cannot_be_copied_is_named(self):
        locked = network()
        locked.lock = threading.Lock()  # type: ignore[assignment]
        remembering = network()
        remembering.last = remembering(INPUTS)  # type: ignore[assignment]
        for model in (locked, remembering):
            with pytest.raises(InputError, match="model: cannot be copied"):
                es.estimate_llc(model, squared_error, (INPUTS, TARGETS), **SHORT)
        with pytest.raises(InputError, match=r"compiled by torch\.jit"):
            es.estimate_llc(
                torch.jit.trace(network(), INPUTS), squared_error, (INPUTS, TARGETS), **SHORT
            )

    def test_complex_parameters_may_stay(self):
        model = network()
        model.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
        with pytest.raises(InputError, match="'phase' is complex"):
            es.estimate_llc(model, squared_error, (INPUTS, TARGETS), **SHORT)
        alone = es.estimate_llc(
            model, squared_error, (INPUTS, TARGETS), parts=["0.*", "2.*"], **SHORT
        )
        model.phase.requires_grad_(False)
        frozen = es.estimate_llc(model, squared_error, (INPUTS, TARGETS), **SHORT)
        assert alone.llc == frozen.llc

    def test_few_samples_keep_chains_together(self):
        landscape = LossLandscape(
            network(), squared_error, (INPUTS, TARGETS), batch_size=256, chains_stacked=True
        )
        assert landscape.chains_at_once(4) == 4


class TestData:
    def test_what_a_tokenizer_returns_is_a_dictionary(self):
        def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            return (model(batch["x"]) - batch["y"]).square().mean()

        plain = {"x": INPUTS, "y": TARGETS}
        one, other = (
            es.estimate_llc(network(), loss, data, **SHORT).llc for data in (plain, UserDict(plain))
        )
        assert one == other

    def test_a_column_of_words_is_named(self):
        class Named(Dataset[Any]):
            def __len__(self) -> int:
                return 300

            def __getitem__(self, index: int) -> Any:
                return INPUTS[index], f"sample {index}"

        with pytest.raises(InputError, match="data yields a str \\('sample 0'\\)"):
            es.estimate_llc(network(), squared_error, Named(), **SHORT)

    def test_double_precision_beside_single_is_named(self):
        with pytest.raises(InputError, match=r"convert it with \.float\(\)"):
            es.estimate_llc(network(), squared_error, (INPUTS.double(), TARGETS.double()), **SHORT)


class TestSweeps:
    def test_a_typing_error_is_told_before_the_first_estimate(self, tmp_path):
        states = {step: network(step).state_dict() for step in (1, 2)}
        store = tmp_path / "sweep.zarr"
        with pytest.raises(InputError, match=r"no parameter matches 'first\.\*'"):
            es.sweep_llc(
                states, network(), squared_error, (INPUTS, TARGETS), parts={"a": ["first.*"]},
                output=store, **SHORT,
            )  # fmt: skip
        other = {1: states[1], 2: {"encoder.weight": torch.ones(2)}}
        with pytest.raises(InputError, match=r"encoder\.weight"):
            es.sweep_llc(other, network(), squared_error, (INPUTS, TARGETS), output=store, **SHORT)
        assert not store.exists()

    def test_what_a_training_loop_saved_may_be_given_as_it_is(self):
        state = network().state_dict()
        nested = {"model_state_dict": state, "epoch": 3, "optimizer": {}}
        plain, found = (
            es.sweep_llc({3: one}, network(1), squared_error, (INPUTS, TARGETS), **SHORT)
            for one in (state, nested)
        )
        assert float(plain["llc"][0, 0]) == float(found["llc"][0, 0])

    def test_which_checkpoint_stopped_the_choice_of_the_localisation_is_said(self):
        state = {name: value * math.nan for name, value in network().state_dict().items()}
        options = {**SHORT, "localisation": None}
        with pytest.raises(InputError, match=r"step 7, part 'all': .*NaN"):
            es.sweep_llc({7: state}, network(), squared_error, (INPUTS, TARGETS), **options)

    def test_a_file_where_a_folder_is_wanted_is_named(self, tmp_path):
        path = tmp_path / "step-7.pt"
        torch.save(network().state_dict(), path)
        with pytest.raises(InputError, match=r"is one file; give \[path\]"):
            es.sweep_llc(path, network(), squared_error, (INPUTS, TARGETS), **SHORT)


class TestLocalisation:
    def test_a_slope_says_how_far_it_depends_on_the_localisation(self):
        model = nn.Linear(5, 1, bias=False)
        nn.init.ones_(model.weight)
        inputs = INPUTS.repeat(4, 1)
        data = (inputs, inputs.sum(1, keepdim=True))

        def half(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
            return 0.5 * squared_error(model, batch)

        number = len(inputs)
        gamma = 100.0
        result = es.llc_by_temperature(
            model, half, data, localisation=gamma, num_draws=500, num_chains=16, progress=False,
            sampler="mala",
        )  # fmt: skip
        curvatures = torch.linalg.eigvalsh(inputs.T @ inputs / number).double()
        x = number / math.log(number) * curvatures
        exact = float((0.5 * x / (x + gamma)).sum())
        assert abs(result.llc - exact) < 4.0 * result.standard_error
        found = result.diagnostics
        first_order = float((0.5 * math.log(2.0) * x * gamma / (x + gamma) ** 2).sum())
        error = found["change_if_localisation_halved_standard_error"]
        assert abs(found["change_if_localisation_halved"] - first_order) < 4.0 * error
        assert error < 0.3 * first_order
        assert found["verdict"] == "reliable"
        assert result.judgement == "reliable at this localisation"
        assert any(reason.startswith("depends on localisation") for reason in found["reasons"])

    def test_a_slope_at_a_localisation_chosen_here_is_judged_by_it(self):
        # Noise in the targets makes the chosen localisation strong: 0.3 instead of 5 / 2.
        number = 1_000
        inputs = torch.randn(number, 5, generator=torch.Generator().manual_seed(0))
        targets = torch.randn(number, 1, generator=torch.Generator().manual_seed(1))
        model = nn.Linear(5, 1, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
        result = es.llc_by_temperature(
            model,
            lambda m, b: 0.5 * squared_error(m, b),
            (inputs, targets),
            num_draws=80,
            progress=False,
        )
        found = result.diagnostics
        assert found["verdict"] == "depends on localisation"
        gamma = found["localisation"]
        curvatures = torch.linalg.eigvalsh(inputs.T @ inputs / number).double()
        x = number / math.log(number) * curvatures
        exact = float((0.25 * x * gamma / ((x + 0.5 * gamma) * (x + gamma))).sum())
        # Curvatures from a batch of samples, five of them from 64: 1 / sqrt(5 * 64 / 2), 8%.
        assert found["change_if_localisation_halved"] == pytest.approx(exact, rel=0.25)
        assert exact > 0.5 * result.llc

    def test_it_is_read_back_as_what_it_was(self, tmp_path):
        model = nn.Linear(5, 1, bias=False)
        result = es.llc_by_temperature(
            model, squared_error, (INPUTS, TARGETS), num_draws=20, progress=False
        )
        result.to_netcdf(tmp_path / "slope.nc")
        again = es.LLC.from_netcdf(tmp_path / "slope.nc")
        assert isinstance(again, es.LLCByTemperature)
        assert again.wbic == result.wbic


def test_a_threshold_that_is_no_number_is_named():
    with pytest.raises(InputError, match="null_threshold"):
        es.curvature(network(), squared_error, (INPUTS, TARGETS), null_threshold="small")
