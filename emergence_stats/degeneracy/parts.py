"""Which parameters of a model move?

What lives here: reading names, glob patterns and masks, the masks that pick one head out of an
attention layer, and the model within what wraps it. What does not: how attention layers are laid
out (`attention_layouts`), and how the chosen entries are in a vector (`layout`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from emergence_stats.degeneracy.attention_layouts import head_entries
from emergence_stats.errors import InputError, nearest

# What is kept under a name of its own by what wraps a whole model.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",  # torch.compile
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """The model inside `torch.compile` or `DataParallel`, and what they put before its names."""
    prefix = ""
    while (name := _WRAPPERS.get(type(model).__name__)) is not None:
        model, prefix = getattr(model, name), f"{prefix}{name}."
    return model, prefix


def moving_parameters(
    model: nn.Module, parts: Sequence[str] | Mapping[str, Tensor] | None
) -> dict[str, Tensor | None]:
    """Which parameters move, in the model's own order, each once however often it is tied?

    Parameters
    ----------
    model : nn.Module
    parts : sequence of str, mapping of str to bool tensor, or None
        Names or glob patterns; or for each name or pattern a mask of the shape of the parameter;
        or None for all. A parameter named twice moves wherever one of its masks says so.

    Returns
    -------
    dict of str to Tensor or None
        For each moving parameter the flat indices of the entries that move; None for all of them.

    Raises
    ------
    InputError
        If a name matches nothing, a mask has another shape or chooses nothing, or all is frozen.
    """
    model, prefix = unwrapped(model)
    unique = dict(model.named_parameters())
    if not unique:
        raise InputError("model has no parameters; there is nothing to sample")
    by_identity = {id(parameter): name for name, parameter in unique.items()}
    aliases = {
        name: by_identity[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    patterns = dict.fromkeys(unique) if parts is None else _patterns(parts)
    chosen: dict[str, Tensor | None] = {}
    for pattern, mask in patterns.items():
        inner = pattern.removeprefix(prefix)
        matches = [name for name in aliases if fnmatch.fnmatchcase(name, inner)]
        if not matches:
            raise InputError(f"parts: no parameter matches {pattern!r}{nearest(pattern, aliases)}")
        for name in dict.fromkeys(aliases[match] for match in matches):
            wanted = None if mask is None else _checked_mask(name, mask, unique[name])
            known = chosen.get(name, wanted)
            union = None if known is None or wanted is None else known | wanted
            chosen[name] = union
    if not chosen:
        raise InputError("parts is empty; name at least one parameter, or give None for all")
    moving = [name for name in unique if name in chosen and unique[name].requires_grad]
    if not moving:
        raise InputError(
            f"every chosen parameter is frozen (requires_grad=False): {sorted(chosen)[:3]}; "
            "unfreeze those that should move"
        )
    complex_names = [name for name in moving if unique[name].is_complex()]
    if complex_names:
        raise InputError(
            f"parameter {complex_names[0]!r} is complex; only real parameters move: freeze it, or "
            "leave it out of parts"
        )
    if not all(bool(torch.isfinite(unique[name]).all()) for name in moving):
        bad = next(name for name in moving if not bool(torch.isfinite(unique[name]).all()))
        raise InputError(f"parameter {bad!r} holds NaN or infinity at w*; check the checkpoint")
    indices: dict[str, Tensor | None] = {}
    for name in moving:
        mask = chosen[name]
        indices[name] = None if mask is None or mask.all() else mask.flatten().nonzero().flatten()
    return indices


def attention_head(model: nn.Module, layer: str, head: int) -> dict[str, Tensor]:
    """Which entries of an attention layer belong to one head?

    Those that make its query, key and value, with their biases, and those that write its output.
    What all heads share belongs to none and stays: the output bias, norms, relative positions, and,
    where several heads share a key and a value (grouped queries), the projections to these: of such
    a head there are the query and the output only.

    Layouts known are those of `torch.nn.MultiheadAttention`, of timm (``qkv``), and of Hugging Face
    with ``c_attn`` (GPT-2), ``query_key_value`` (GPT-NeoX, Bloom), or separate projections (BERT's
    ``query``, Llama's ``q_proj``, DistilBERT's, T5's).

    Parameters
    ----------
    model : nn.Module
    layer : str
        Name of the attention module in the model, such as ``"transformer.h.0.attn"``; empty when
        the model is that module.
    head : int

    Returns
    -------
    dict of str to bool Tensor
        For ``parts=``.

    Raises
    ------
    InputError
        If there is no such module or head, or its layout is not known.

    Examples
    --------
    >>> attention = nn.MultiheadAttention(embed_dim=6, num_heads=3)
    >>> masks = attention_head(attention, "", head=1)
    >>> masks["in_proj_bias"].nonzero().flatten().tolist()
    [2, 3, 8, 9, 14, 15]
    """
    model, prefix = unwrapped(model)
    layer = layer.removeprefix(prefix)
    modules = dict(model.named_modules())
    if layer not in modules:
        raise InputError(f"layer {layer!r} is not a module{nearest(layer, modules)}")
    parent = modules[layer.rpartition(".")[0]] if layer else None
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    entries = head_entries(modules[layer], parent, head, layer)
    if not all(id(parameter) in names for parameter, _ in entries):
        raise InputError(
            f"layer {layer!r} has weights that are computed from others (a parametrization): name "
            "those that move, or give masks"
        )
    return {names[id(parameter)]: mask.clone() for parameter, mask in entries}


def _patterns(parts: Sequence[str] | Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    if isinstance(parts, str):
        raise InputError(f"parts must be a list of names, got the string {parts!r}: [{parts!r}]")
    for pattern in parts:
        if not isinstance(pattern, str):
            raise InputError(f"parts holds {pattern!r}; give parameter names or glob patterns")
    return dict(parts) if isinstance(parts, Mapping) else dict.fromkeys(parts)


def _checked_mask(name: str, mask: object, parameter: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = f"{mask.dtype} tensor" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"parts: the mask of {name!r} must be a bool tensor, got a {kind}")
    if mask.shape != parameter.shape:
        raise InputError(
            f"parts: the mask of {name!r} has shape {tuple(mask.shape)}, the parameter "
            f"{tuple(parameter.shape)}; give a mask of the same shape"
        )
    if not mask.any():
        raise InputError(f"parts: the mask of {name!r} chooses no entry; leave the name out")
    return mask.to(parameter.device)
