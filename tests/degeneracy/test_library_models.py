"""Models of the libraries people train with, tiny and untrained, go through as they are."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import emergence_stats as es
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT: dict[str, Any] = {
    "num_draws": 8, "num_chains": 2, "sampler": "sgld", "step_size": 1e-5, "localisation": 100.0,
    "progress": False,
}  # fmt: skip
NUMBER, LENGTH, VOCABULARY = 120, 8, 30
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_attention_heads": 2}
TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def words() -> dict[str, Tensor]:
    """Padded sequences; every token that is there has to be told."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCABULARY, (NUMBER, LENGTH), generator=generator)
    lengths = torch.randint(4, LENGTH + 1, (NUMBER, 1), generator=generator)
    mask = (torch.arange(LENGTH)[None] < lengths).long()
    labels = torch.where(mask == 1, ids, -100)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


def masked_words() -> dict[str, Tensor]:
    """Some tokens are masked, and only these have to be told."""
    data = words()
    masked = torch.rand(NUMBER, LENGTH, generator=torch.Generator().manual_seed(1)) < 0.3
    masked[:, 0] = True
    labels = torch.where(masked & (data["attention_mask"] == 1), data["input_ids"], -100)
    return {**data, "input_ids": data["input_ids"].masked_fill(masked, 0), "labels": labels}


def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    settings = {"n_positions": LENGTH, "num_hidden_layers": 1, "loss_type": "ForCausalLM"}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, **TOKENS, **settings))


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    settings = {"num_hidden_layers": 1, "intermediate_size": 16, "max_position_embeddings": LENGTH}
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, **settings))


def classification_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shown = torch.randn(NUMBER, 1, 8, 8, generator=generator)
    return shown, torch.randint(0, 4, (NUMBER,), generator=generator)


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, data: dict[str, Tensor]) -> None:
        self.data = data

    def __len__(self) -> int:
        return NUMBER

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: column[row] for name, column in self.data.items()}


@pytest.mark.parametrize(("build", "data"), [(gpt2, words()), (bert, masked_words())])
def test_language_models_bring_their_loss(
    build: Callable[[], nn.Module], data: dict[str, Tensor]
) -> None:
    transformers = pytest.importorskip("transformers")
    model = build()
    before = copy.deepcopy(model.state_dict())
    landscape = LossLandscape(model, None, data, batch_size=NUMBER)
    with torch.no_grad():
        whole = float(model.eval()(**data).loss)
    assert landscape.initial_loss == pytest.approx(whole, rel=1e-5)
    forms = [
        transformers.BatchEncoding(data),
        DataLoader(Rows(data), batch_size=16, shuffle=True),
        DataLoader(Rows(data), batch_size=16, collate_fn=transformers.default_data_collator),
    ]
    for form in forms:
        other = LossLandscape(model, None, form, batch_size=NUMBER)
        assert other.initial_loss == landscape.initial_loss
    assert math.isfinite(es.estimate_llc(model, None, forms[1], **SHORT).llc)
    by_default = es.estimate_llc(model, None, data, num_draws=8, num_chains=2, progress=False)
    assert math.isfinite(by_default.llc)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("build", "data"), [(gpt2, words()), (bert, masked_words())])
def test_tied_embeddings_move_as_one(
    build: Callable[[], nn.Module], data: dict[str, Tensor]
) -> None:
    model = build().eval()
    landscape = LossLandscape(model, None, data, batch_size=NUMBER)
    assert landscape.num_parameters == sum(one.numel() for one in model.parameters())
    tied = model.get_input_embeddings().weight
    assert tied is model.get_output_embeddings().weight
    position = landscape.centre + 0.1
    losses, gradients = landscape.full_gradients(position[None])
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.1
    loss = moved(**data).loss
    expected = torch.autograd.grad(loss, list(moved.parameters()))
    assert float(losses[0]) == pytest.approx(loss.item(), rel=1e-4)
    flat = torch.cat([one.flatten() for one in expected])
    torch.testing.assert_close(gradients[0], flat, rtol=1e-3, atol=1e-5)


def test_checkpoints_as_hugging_face_saves_them(tmp_path: Path) -> None:
    for step in (5, 10):
        gpt2().save_pretrained(tmp_path / f"checkpoint-{step}")  # a tied weight once
    found = es.sweep_llc(tmp_path, gpt2, None, words(), **SHORT)
    assert found["step"].values.tolist() == [5, 10]
    assert found["llc"].notnull().all()


def test_one_head_of_a_language_model_moves() -> None:
    masks = es.attention_head(gpt2(), "transformer.h.0.attn", 1)
    landscape = LossLandscape(gpt2(), None, words(), parts=masks)
    assert landscape.num_parameters == 3 * 8 * (16 + 1) + 8 * 16


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_checkpoints_of_half_precision_are_sampled_in_single(precision: torch.dtype) -> None:
    half = gpt2().to(precision)
    single = copy.deepcopy(half).float()
    one, other = (LossLandscape(model, None, words()) for model in (half, single))
    assert torch.equal(one.centre, other.centre)
    assert one.initial_loss == other.initial_loss
    assert math.isfinite(es.estimate_llc(half, None, words(), **SHORT).llc)
    assert all(one.dtype == precision for one in half.parameters())


def test_a_model_that_casts_to_half_by_name_is_refused() -> None:
    class Casts(nn.Module):
        def __init__(self, to: Any) -> None:
            super().__init__()
            self.read, self.to_type = nn.Linear(64, 4).bfloat16(), to

        def forward(self, shown: Tensor) -> Tensor:
            wanted = self.to_type or self.read.weight.dtype
            return self.read(shown.flatten(1).to(wanted))

    assert math.isfinite(es.estimate_llc(Casts(None), classification_loss, images(), **SHORT).llc)
    with pytest.raises(InputError, match="in single precision where they had less"):
        es.estimate_llc(Casts(torch.bfloat16), classification_loss, images(), **SHORT)


@functools.cache
def plain_estimate() -> float:
    torch.manual_seed(0)
    return es.estimate_llc(gpt2(), None, words(), parts=["*.c_attn.weight"], **SHORT).llc


@pytest.mark.parametrize("wrap", ["compile", "inner", "in place", "parallel", "both"])
def test_what_wraps_a_model_makes_no_difference(wrap: str) -> None:
    model, data = gpt2(), words()
    wrapped: Any = copy.deepcopy(model)
    names = "*.c_attn.weight"
    if wrap == "compile":
        wrapped, names = torch.compile(wrapped), "_orig_mod.*.c_attn.weight"
    elif wrap == "inner":
        wrapped.transformer = torch.compile(wrapped.transformer)
    elif wrap == "in place":
        wrapped.compile()
    else:
        inner = torch.compile(wrapped) if wrap == "both" else wrapped
        wrapped = nn.DataParallel(inner)
        names = "module.transformer.h.0.attn.c_attn.weight"
        names = names.replace("module.", "module._orig_mod.") if wrap == "both" else names
    assert es.estimate_llc(wrapped, None, data, parts=[names], **SHORT).llc == plain_estimate()
    if wrap == "compile":
        layer = "transformer.h.0.attn"
        masks = es.attention_head(wrapped, f"_orig_mod.{layer}", 0)
        assert masks.keys() == es.attention_head(model, layer, 0).keys()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_of_adapters_only_these_move() -> None:
    peft = pytest.importorskip("peft")
    settings = {"target_modules": ["c_attn"], "r": 2, "fan_in_fan_out": True}
    model = peft.get_peft_model(gpt2(), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    landscape = LossLandscape(model, None, words())
    assert landscape.num_parameters == 2 * 16 + 2 * 48
    assert all("lora_" in name for name in landscape.names)
    assert math.isfinite(es.estimate_llc(model, None, words(), **SHORT).llc)
    with pytest.raises(InputError, match=r"its c_attn is Linear of peft.*name the parameters"):
        es.attention_head(model, "base_model.model.transformer.h.0.attn", 0)


def test_a_vision_transformer() -> None:
    models = pytest.importorskip("timm.models")
    settings = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 4, "depth": 1}
    model = models.VisionTransformer(embed_dim=12, num_heads=2, **settings, drop_path_rate=0.5)
    result = es.estimate_llc(model, classification_loss, images(), **SHORT)
    assert math.isfinite(result.llc)
    head = es.attention_head(model, "blocks.0.attn", 1)
    one = LossLandscape(model, classification_loss, images(), parts=head)
    assert one.num_parameters == 3 * 6 * (12 + 1) + 12 * 6


def test_batch_norm_stays_as_it_is() -> None:
    resnet = pytest.importorskip("timm.models.resnet")
    model = resnet.ResNet(
        resnet.BasicBlock, [1, 1, 1, 1], num_classes=4, in_chans=1, channels=(4, 4, 4, 4),
        stem_width=4,
    )  # fmt: skip
    shown, labels = images()
    model.train()(shown)  # running statistics that are not the initial ones
    before = copy.deepcopy(model.state_dict())
    landscape = LossLandscape(model, classification_loss, (shown, labels))
    assert landscape.is_mean_over_samples
    assert math.isfinite(es.estimate_llc(model, classification_loss, (shown, labels), **SHORT).llc)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        whole = float(classification_loss(model.eval(), (shown, labels)))
    assert landscape.initial_loss == pytest.approx(whole, rel=1e-5)


class Reads(nn.Module):
    """Layers of torch that read the rows of an image."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.inner = (
            nn.TransformerEncoder(layer, 2)
            if kind == "encoder"
            else nn.LSTM(8, 8, batch_first=True)
        )
        self.read = nn.Linear(8, 4)

    def forward(self, shown: Tensor) -> Tensor:
        hidden = self.inner(shown[:, 0])
        return self.read((hidden[0] if isinstance(hidden, tuple) else hidden).mean(dim=1))


@pytest.mark.parametrize("kind", ["encoder", "LSTM"])
def test_layers_of_torch(kind: str) -> None:
    result = es.estimate_llc(Reads(kind), classification_loss, images(), **SHORT)
    assert math.isfinite(result.llc)


def test_a_lightning_module_gives_its_training_step() -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.Linear(64, 4)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.read(batch[0].flatten(1)), batch[1])

    result = es.estimate_llc(
        Module(), lambda model, batch: model.training_step(batch, 0), images(), **SHORT
    )
    assert math.isfinite(result.llc)
