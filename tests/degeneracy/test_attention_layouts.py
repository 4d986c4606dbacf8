"""The entries of a head, in the attention layers of several libraries: the forward pass decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emergence_stats.degeneracy.parts import attention_head
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "vocab_size": 20}
WORDS = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(0))


def of_hugging_face(kind: str, **more: Any) -> Callable[[], tuple[nn.Module, Tensor]]:
    def build() -> tuple[nn.Module, Tensor]:
        transformers = pytest.importorskip("transformers")
        config = getattr(transformers, f"{kind}Config")(**{**SIZES, **more})
        return getattr(transformers, f"{kind}Model")(config), WORDS

    return build


def of_timm(**more: Any) -> Callable[[], tuple[nn.Module, Tensor]]:
    def build() -> tuple[nn.Module, Tensor]:
        models = pytest.importorskip("timm.models")
        images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        settings = {"img_size": 8, "patch_size": 4, "in_chans": 1, "depth": 1, "num_heads": 3}
        return models.VisionTransformer(embed_dim=12, **settings, **more), images

    return build


class ByTorch(nn.Module):
    """torch's layer with the other widths of keys and values, and no output bias."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, kdim=12, vdim=5, batch_first=True)
        nn.init.eye_(self.attention.out_proj.weight)
        self.after = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        keys, values = inputs, inputs[..., :5]
        return self.after(self.attention(inputs, keys, values, need_weights=False)[0])


# Which model, its attention layer, and the module that reads the heads side by side.
LAYERS = {
    "GPT-2": (of_hugging_face("GPT2"), "h.0.attn", "c_proj"),
    "BERT": (of_hugging_face("Bert"), "encoder.layer.0.attention", "output.dense"),
    "RoBERTa": (of_hugging_face("Roberta"), "encoder.layer.0.attention.self", "../output.dense"),
    "DistilBERT": (
        of_hugging_face("DistilBert", dim=12, n_heads=3, n_layers=1, hidden_dim=8),
        "transformer.layer.0.attention",
        "out_lin",
    ),
    "Llama": (of_hugging_face("Llama", intermediate_size=8), "layers.0.self_attn", "o_proj"),
    "Llama, shared keys": (
        of_hugging_face("Llama", num_attention_heads=6, num_key_value_heads=2, intermediate_size=8),
        "layers.0.self_attn",
        "o_proj",
    ),
    "Mistral, wide heads": (
        of_hugging_face("Mistral", head_dim=8, num_key_value_heads=3, intermediate_size=8),
        "layers.0.self_attn",
        "o_proj",
    ),
    "OPT": (
        of_hugging_face("OPT", ffn_dim=8, word_embed_proj_dim=12),
        "decoder.layers.0.self_attn",
        "out_proj",
    ),
    "GPT-Neo": (
        of_hugging_face("GPTNeo", num_heads=3, num_layers=1, attention_types=[[["global"], 1]]),
        "h.0.attn",
        "attention.out_proj",
    ),
    "GPT-NeoX": (of_hugging_face("GPTNeoX"), "layers.0.attention", "dense"),
    "Bloom": (of_hugging_face("Bloom", n_layer=1, n_head=3), "h.0.self_attention", "dense"),
    "timm": (of_timm(), "blocks.0.attn", "proj"),
    "timm, normed queries": (of_timm(qk_norm=True, qkv_bias=False), "blocks.0.attn", "proj"),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_head_is_what_its_entries_make(name: str) -> None:
    build, layer, writing = LAYERS[name]
    model, inputs = build()
    model.eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    place = layer.rpartition(".")[0] if writing.startswith("../") else layer
    output = model.get_submodule(f"{place}.{writing.removeprefix('../')}")
    seen: list[Tensor] = []
    output.register_forward_pre_hook(lambda _, given: seen.append(given[0].reshape(-1, width)))
    transposed = not isinstance(output, nn.Linear)
    width = output.weight.shape[0 if transposed else 1]
    number = SIZES["num_attention_heads"] * (2 if "shared" in name else 1)
    own = dict(model.named_parameters())

    def written() -> Tensor:
        model(inputs)
        return seen.pop()

    before = written()
    for head in range(number):
        masks = attention_head(model, layer, head)
        channels = torch.arange(width) // (width // number) == head
        kept = {name: own[name].clone() for name in masks}
        # Other numbers change this head and no other.
        for name_of, mask in masks.items():
            own[name_of][mask] = torch.randn(int(mask.sum()), generator=generator)
        changed = (written() - before).abs().amax(dim=0)
        assert (changed[channels] > 1e-4).all()
        assert (changed[~channels] < 1e-5).all()
        # The columns that read it are this head's, and no others.
        reads = next(mask for name_of, mask in masks.items() if own[name_of] is output.weight)
        assert ((reads.T if transposed else reads) == channels).all()
        for name_of, mask in masks.items():
            own[name_of][mask] = 0.0
        if "shared" not in name:
            assert not written()[:, channels].any()
        for name_of, value in kept.items():
            own[name_of].copy_(value)
    heads = [attention_head(model, layer, head) for head in range(number)]
    for name_of in heads[0]:
        assert (sum(one[name_of].int() for one in heads) == 1).all()


@torch.no_grad()
def test_separate_weights_of_torch() -> None:
    model = ByTorch()
    inputs = torch.randn(2, 4, 12)
    before = model(inputs)
    for name, mask in attention_head(model, "attention", 1).items():
        if "out_proj" not in name:
            dict(model.named_parameters())[name][mask] = 0.0
    changed = (model(inputs) - before).abs().amax(dim=(0, 1)) > 0.0
    assert changed.nonzero().flatten().tolist() == [4, 5, 6, 7]


class Holds(nn.Module):
    """Any projections."""

    def __init__(self, number: int | None = 3, **sizes: tuple[int, int]) -> None:
        super().__init__()
        if number is not None:
            self.num_heads = number
        for name, (read, made) in sizes.items():
            setattr(self, name, nn.Linear(read, made))


UNKNOWN: list[tuple[nn.Module, str]] = [
    (Holds(Wqkv=(12, 36)), r"a Holds that holds Wqkv, has no attention layout known here"),
    (Holds(None, qkv=(12, 36), proj=(12, 12)), "does not say how many heads"),
    (Holds(qkv=(12, 36)), "its output is NoneType"),
    (Holds(qkv=(12, 20), proj=(12, 12)), "qkv of 20 outputs and 12 inputs .* no layout"),
    (Holds(c_attn=(12, 36), c_proj=(12, 12)), "c_attn of 36 outputs"),
    (Holds(5, qkv=(12, 36), proj=(12, 12)), "no layout known here of 5 heads"),
    (Holds(qkv=(12, 36), proj=(12, 12), gate=(12, 12)), "also holds the projection gate"),
    (Holds(q_proj=(12, 12), k_proj=(12, 12), o_proj=(12, 12)), "its v_proj is NoneType"),
    (Holds(q_proj=(12, 24), k_proj=(12, 12), v_proj=(12, 12), o_proj=(12, 12)), "no layout"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "message"), UNKNOWN)
def test_what_is_no_layout_known_is_named(module: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attention_head(module, "", 0)
