"""Which parameters of a model move?

What lives here: reading names, glob patterns and masks, and the masks that pick one head out of a
fused attention layer. What does not: how the chosen entries are laid out in a vector (`layout`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from emergence_stats.errors import InputError, nearest


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
        matches = [name for name in aliases if fnmatch.fnmatchcase(name, pattern)]
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
    """Which entries of a fused attention layer belong to one head?

    Rows of the query, key and value blocks stacked in ``in_proj_weight``, and columns of
    ``out_proj.weight``, as `torch.nn.MultiheadAttention` lays them out; the output bias belongs to
    no head and stays.

    Parameters
    ----------
    model : nn.Module
    layer : str
        Name of the attention module in the model; empty when the model is that module.
    head : int

    Returns
    -------
    dict of str to bool Tensor
        For ``parts=``.

    Raises
    ------
    InputError
        If there is no such module or head, or query, key and value are not fused.

    Examples
    --------
    >>> attention = nn.MultiheadAttention(embed_dim=6, num_heads=3)
    >>> masks = attention_head(attention, "", head=1)
    >>> masks["in_proj_bias"].nonzero().flatten().tolist()
    [2, 3, 8, 9, 14, 15]
    """
    modules = dict(model.named_modules())
    if layer not in modules:
        raise InputError(f"layer {layer!r} is not a module{nearest(layer, modules)}")
    module = modules[layer]
    fused = getattr(module, "in_proj_weight", None)
    heads = getattr(module, "num_heads", None)
    if not isinstance(fused, Tensor) or not isinstance(heads, int):
        raise InputError(
            f"layer {layer!r} is a {type(module).__name__} without in_proj_weight and num_heads; "
            "name the head's own parameters, or give masks"
        )
    if isinstance(head, bool) or not isinstance(head, int) or not 0 <= head < heads:
        raise InputError(f"head must be a whole number from 0 to {heads - 1}, got {head!r}")
    width = fused.shape[0] // 3
    channel = torch.arange(width) // (width // heads) == head
    rows = channel.repeat(3)
    prefix = f"{layer}." if layer else ""
    masks = {f"{prefix}in_proj_weight": rows[:, None].expand(fused.shape).clone()}
    if isinstance(getattr(module, "in_proj_bias", None), Tensor):
        masks[f"{prefix}in_proj_bias"] = rows
    output = getattr(module, "out_proj", None)
    if isinstance(output, nn.Linear):
        masks[f"{prefix}out_proj.weight"] = channel.expand(output.weight.shape).clone()
    return masks


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
