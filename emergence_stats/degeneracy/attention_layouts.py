"""Which entries of an attention layer's parameters are one head's, in the layouts people use?

What lives here: `head_entries`, for torch's fused layer, timm's, and Hugging Face's with fused or
separate projections, told apart by the names and shapes of what a module holds, so that none of
these libraries is imported. What does not: names of parameters within a model (`parts`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from emergence_stats.errors import InputError

# Query, key and value; the first name in a module decides.
_SEPARATE = (
    ("query", "key", "value"),  # BERT, RoBERTa
    ("q_proj", "k_proj", "v_proj"),  # Llama, Mistral, OPT, GPT-Neo, Whisper
    ("q_lin", "k_lin", "v_lin"),  # DistilBERT
    ("q", "k", "v"),  # T5
)
_FUSED = ("c_attn", "query_key_value", "qkv")  # GPT-2; GPT-NeoX and Bloom; timm
_OUTPUT = ("o_proj", "out_proj", "c_proj", "dense", "out_lin", "o", "proj", "projection")
_INNER = ("self", "attention")  # BertAttention, GPTNeoAttention
_NUMBER = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_WIDTH = ("head_dim", "attention_head_size", "head_size")
_KNOWN = (
    "known are in_proj_weight (torch), c_attn (GPT-2), query_key_value (GPT-NeoX), qkv (timm), and "
    "query, key, value or q_proj, k_proj, v_proj; name the head's own parameters, or give masks"
)

Entries = list[tuple[Tensor, Tensor]]


def head_entries(module: nn.Module, parent: nn.Module | None, head: int, name: str) -> Entries:
    """Each parameter of which a part belongs to this head, and the mask of that part.

    Parameters
    ----------
    module : nn.Module
        The attention layer.
    parent : nn.Module, optional
        What holds it; there BERT keeps the output projection.
    head : int
    name : str
        What errors call the layer.

    Raises
    ------
    InputError
        If the layout is unknown, or there is no such head.
    """
    inner = next((one for one in (module, *_children(module, _INNER)) if _finds(one)), None)
    place = f"layer {name!r}, a {type(module).__name__}"
    if inner is None:
        held = ", ".join(child for child, _ in module.named_children()) or "nothing"
        raise InputError(f"{place} that holds {held}, has no attention layout known here; {_KNOWN}")
    number = _number_of_heads(inner)
    if number is None:
        raise InputError(f"{place}, does not say how many heads it has ({', '.join(_NUMBER)})")
    if isinstance(head, bool) or not isinstance(head, int) or not 0 <= head < number:
        raise InputError(f"head must be a whole number from 0 to {number - 1}, got {head!r}")
    if _is_torch(inner):
        return _of_torch(inner, number, head)
    return _of_projections(inner, (module, parent), number, head, place)


def _finds(module: nn.Module) -> bool:
    first = (*_FUSED, *(names[0] for names in _SEPARATE))
    return _is_torch(module) or bool(_children(module, first))


def _children(module: nn.Module | None, names: tuple[str, ...]) -> list[nn.Module]:
    found = (getattr(module, name, None) for name in names)
    return [one for one in found if isinstance(one, nn.Module)]


def _is_torch(module: nn.Module) -> bool:
    return isinstance(getattr(module, "in_proj_weight", None), Tensor) or isinstance(
        getattr(module, "q_proj_weight", None), Tensor
    )


def _number_of_heads(module: nn.Module) -> int | None:
    for holder in (module, getattr(module, "config", None)):
        for name in _NUMBER:
            number = getattr(holder, name, None)
            if isinstance(number, int):
                return number
    return None


def _channels(width: int, number: int, head: int) -> Tensor:
    return torch.arange(width) // (width // number) == head


def _of_torch(module: Any, number: int, head: int) -> Entries:
    channel = _channels(module.embed_dim, number, head)
    fused = module.in_proj_weight
    separate = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    entries = [(fused, channel.repeat(3)[:, None].expand(fused.shape))] if fused is not None else []
    if fused is None:  # keys and values of other widths
        entries = [(one, channel[:, None].expand(one.shape)) for one in separate]
    if module.in_proj_bias is not None:
        entries.append((module.in_proj_bias, channel.repeat(3)))
    return [*entries, *_by_input(module.out_proj, channel)]


def _of_projections(
    inner: nn.Module, around: tuple[nn.Module | None, ...], number: int, head: int, place: str
) -> Entries:
    reading, output = _found_projections(inner, around, place)
    fused = next((name for name in reading if name in _FUSED), None)
    sizes = [_size(layer) for layer in reading.values()]
    width = _width_read(output)
    each = width // number
    keys = {size // max(each, 1) for size in sizes[1:]}
    said = [getattr(inner, name) for name in _WIDTH if hasattr(inner, name)]
    # A c_attn that is an nn.Linear is laid out in one way by Qwen and in another by GPT-BigCode.
    ambiguous = fused == "c_attn" and isinstance(reading[fused], nn.Linear)
    wrong_size = each * number != width or sizes[0] != width * (3 if fused else 1)
    if ambiguous or wrong_size or said[:1] not in ([], [each]) or not _shared_evenly(keys, number):
        listed = ", ".join(f"{name} of {size}" for name, size in zip(reading, sizes, strict=True))
        raise InputError(
            f"{place}: {listed} outputs and {width} inputs of the output projection are no layout "
            f"known here of {number} heads; {_KNOWN}"
        )
    channel = _channels(width, number, head)
    if fused is not None:
        # GPT-NeoX, and timm where it says so, keep the three of a head side by side.
        by_head = fused == "query_key_value" or bool(getattr(inner, "head_first", False))
        rows = _channels(3 * width, number, head) if by_head else channel.repeat(3)
        entries = _by_output(reading[fused], rows)
        # BEiT's biases, which its forward pass puts together.
        beside = (getattr(inner, name, None) for name in ("q_bias", "v_bias"))
        entries += [(one, channel) for one in beside if isinstance(one, nn.Parameter)]
    else:
        own = list(reading.values())[: 3 if keys == {number} else 1]
        entries = [entry for layer in own for entry in _by_output(layer, channel)]
    return entries + _by_input(output, channel)


def _found_projections(
    inner: nn.Module, around: tuple[nn.Module | None, ...], place: str
) -> tuple[dict[str, Any], Any]:
    """What makes query, key and value, by name, and what reads the heads."""
    named = dict(inner.named_children())
    fused = [(name,) for name in _FUSED if name in named]
    names = next(names for names in (*fused, *_SEPARATE) if names[0] in named)
    writing = next((name for name in _OUTPUT if name in named), "output")
    # BERT's is `output.dense`, of the module that holds query, key and value.
    beside = (getattr(getattr(holder, "output", None), "dense", None) for holder in around)
    output = named.get(writing) or next((one for one in beside if one is not None), None)
    for name, layer in [*((one, named.get(one)) for one in names), (writing, output)]:
        if not _is_projection(layer):
            raise InputError(
                f"{place}: its {name} is {type(layer).__name__} of {type(layer).__module__}, where "
                "a linear projection was expected; name the parameters that move, or give masks"
            )
    for name, layer in named.items():
        if _is_projection(layer) and name not in (*names, writing):
            raise InputError(
                f"{place}: also holds the projection {name}, of which it is not known what is one "
                "head's; name the parameters that move, or give masks"
            )
    return {name: named[name] for name in names}, output


def _shared_evenly(keys: set[int], number: int) -> bool:
    """Keys and values are as many as one another, and each serves as many queries."""
    return not keys or (len(keys) == 1 and all(one > 0 and number % one == 0 for one in keys))


def _is_projection(layer: Any) -> bool:
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"


def _size(layer: Any) -> int:
    """How many outputs; `Conv1D` of Hugging Face keeps its weight transposed."""
    return int(layer.weight.shape[0 if isinstance(layer, nn.Linear) else 1])


def _width_read(layer: Any) -> int:
    return int(layer.weight.shape[1 if isinstance(layer, nn.Linear) else 0])


def _by_output(layer: Any, rows: Tensor) -> Entries:
    across = rows[:, None] if isinstance(layer, nn.Linear) else rows
    weight = [(layer.weight, across.expand(layer.weight.shape))]
    return weight if layer.bias is None else [*weight, (layer.bias, rows)]


def _by_input(layer: Any, columns: Tensor) -> Entries:
    across = columns if isinstance(layer, nn.Linear) else columns[:, None]
    return [(layer.weight, across.expand(layer.weight.shape))]
