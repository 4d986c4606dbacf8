"""What is done to a network to see what hastens or hinders emergence.

What lives here: one head's own parameters, transplanting and holding heads, taking over parameters,
and dropout. What does not: training under a condition (`conditions`), the box's symmetries
(`data.transitions`), and what a configuration expresses already: `weight_decay`, `schedule`,
`batch_size`, and `stiffness=0` for the control task in which particles pass through each other.

A head is named by its layer and its number, (0, 1); a head that the network does not have is
refused with an `InputError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from emergence_stats.checks import check_number
from emergence_stats.errors import InputError
from simulator.network.model import Block, ParticleTransformer

Head = tuple[int, int]


class HeadWeights(NamedTuple):
    """The parameters that are one head's own.

    Attributes
    ----------
    projection : Tensor, shape (3, width / head, width)
        Query, key and value, with the layer norm's scale folded in.
    bias : Tensor, shape (3, width / head)
        Theirs, with the layer norm's shift folded in.
    output : Tensor, shape (width, width / head)
        The head's columns of the output projection; its bias belongs to all heads together.
    """

    projection: Tensor
    bias: Tensor
    output: Tensor


@torch.no_grad()
def head_weights(model: ParticleTransformer, head: Head) -> HeadWeights:
    """One head's own parameters, as a copy that does not depend on the layer norm before it."""
    block, rows, columns = _locate(model, head)
    scale, shift = block.attention_norm.weight, block.attention_norm.bias
    weight, bias = block.query_key_value.weight[rows], block.query_key_value.bias[rows]
    size = weight.shape[0] // 3
    return HeadWeights(
        (weight * scale).view(3, size, -1).clone(),
        (bias + weight @ shift).view(3, size).clone(),
        block.attention_output.weight[:, columns].clone(),
    )


def head_masks(model: ParticleTransformer, head: Head) -> dict[str, Tensor]:
    """Which entries of which parameters are one head's own, for `emergence_stats`' ``parts=``.

    Examples
    --------
    >>> masks = head_masks(ParticleTransformer(width=16, depth=1, num_heads=2), (0, 1))
    >>> sum(int(mask.sum()) for mask in masks.values())  # 3 (8 x 16 + 8) and 16 x 8
    536
    """
    block, rows, columns = _locate(model, head)
    masks = {}
    for name, index in (
        ("query_key_value.weight", rows),
        ("query_key_value.bias", rows),
        ("attention_output.weight", (slice(None), columns)),
    ):
        mask = torch.zeros_like(block.get_parameter(name), dtype=torch.bool)
        mask[index] = True
        masks[f"blocks.{head[0]}.{name}"] = mask
    return masks


@torch.no_grad()
def transplant_head(
    model: ParticleTransformer, weights: HeadWeights, head: Head, *, output: bool = True
) -> None:
    """Puts a head into another network, in place: given the same residual stream it does the same.

    In a network of other history the stream is another, so what the head does there is what an
    experiment finds out. Without `output` its columns of the output projection stay behind: only
    what it attends to and reads is brought. Networks of other widths are refused.

    Examples
    --------
    >>> source, fresh = (ParticleTransformer(width=16, depth=1, num_heads=2) for _ in range(2))
    >>> transplant_head(fresh, head_weights(source, (0, 1)), (0, 0))
    >>> bool(torch.equal(head_weights(fresh, (0, 0)).output, head_weights(source, (0, 1)).output))
    True
    """
    block, rows, columns = _locate(model, head)
    scale, shift = block.attention_norm.weight, block.attention_norm.bias
    expected = (3, rows.numel() // 3, scale.numel())
    if tuple(weights.projection.shape) != expected:
        raise InputError(
            f"weights: a head of shape {tuple(weights.projection.shape)} does not fit into one of "
            f"{expected}; use networks of equal width and number of heads"
        )
    if (scale == 0).any():
        raise InputError("model: a layer norm with a scale of zero cannot carry another's head")
    weight = weights.projection.reshape(rows.numel(), -1).to(scale) / scale
    block.query_key_value.weight[rows] = weight
    block.query_key_value.bias[rows] = weights.bias.reshape(-1).to(scale) - weight @ shift
    if output:
        block.attention_output.weight[:, columns] = weights.output.to(scale)


@torch.no_grad()
def copy_parameters(model: ParticleTransformer, source: ParticleTransformer) -> None:
    """Starts a network from one of the same sizes trained on a related simulation, in place.

    Parameters only: the scales of inputs and outputs stay those of the new data.
    """
    theirs = dict(source.named_parameters())
    for name, own in model.named_parameters():
        if name not in theirs or theirs[name].shape != own.shape:
            raise InputError(
                f"source: its {name} does not fit this network; use the same width, depth, heads, "
                "expansion and dimension"
            )
        own.copy_(theirs[name])


def hold_heads(model: ParticleTransformer, heads: Sequence[Head]) -> Callable[[], None]:
    """Keeps heads as they are now: call the answer after each optimiser step.

    The heads' own parameters (`HeadWeights`) are put back, whatever the optimiser's momentum or
    weight decay did. The stream they read from still changes as the rest of the network learns.
    """
    held = []
    for head in heads:
        block, rows, columns = _locate(model, head)
        qkv, output = block.query_key_value, block.attention_output.weight
        for parameter, index in (
            (qkv.weight, rows),
            (qkv.bias, rows),
            (output, (slice(None), columns)),
        ):
            held.append((parameter, index, parameter[index].detach().clone()))

    @torch.no_grad()
    def restore() -> None:
        for parameter, index, value in held:
            parameter[index] = value

    return restore


def add_dropout(
    model: ParticleTransformer, probability: float
) -> list[torch.utils.hooks.RemovableHandle]:
    """Drops what each attention layer and each perceptron adds to the stream, in training mode.

    ``model.eval()`` switches it off, ``remove()`` of the handles that are returned undoes it. The
    entries that are not set to zero are scaled up.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), Dropout, JMLR 15.
    """
    share = check_number("probability", probability)
    if not 0.0 <= share < 1.0:
        raise InputError(f"probability: {share}; give at least 0 and less than 1")

    def drop(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        return functional.dropout(answer, share, training=module.training)

    return [
        part.register_forward_hook(drop)
        for name, part in model.named_modules()
        if name.endswith(("attention_output", "perceptron_output"))
    ]


def _locate(model: ParticleTransformer, head: Head) -> tuple[Block, Tensor, slice]:
    """The block, the head's rows of its query-key-value, and its columns of the output."""
    layer, number = head
    depth = len(model.blocks)
    block = model.blocks[layer] if 0 <= layer < depth else None
    if not isinstance(block, Block) or not 0 <= number < block.num_heads:
        raise InputError(f"head: {head}; this network has {depth} layers, heads counted from 0")
    width = block.attention_output.out_features
    size = width // block.num_heads
    first = number * size
    rows = torch.cat([torch.arange(first, first + size) + part * width for part in range(3)])
    return block, rows.to(block.query_key_value.weight.device), slice(first, first + size)
