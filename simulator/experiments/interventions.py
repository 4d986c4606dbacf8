"""What is done to a network, its data or its training to see what hastens or hinders emergence.

What lives here: small functions that change a model or a batch: copying and transplanting heads,
holding them fixed, dropout, the box's symmetries. What does not: training under a condition
(`conditions`), contrasts between conditions (`contrasts`). What a configuration expresses already
needs no function: `weight_decay`, `schedule`, `batch_size`, and `stiffness=0` for the control task
in which particles pass through each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from emergence_stats.errors import InputError
from simulator.network.model import Block, ParticleTransformer
from simulator.physics.system import finite_number
from simulator.training.loop import Transitions

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
    """One head's own parameters, as a copy that does not depend on the layer norm before it.

    Parameters
    ----------
    model : ParticleTransformer
    head : (int, int)
        Layer and head.

    Raises
    ------
    InputError
        If the network has no such head.
    """
    block, rows, columns = _place(model, head)
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

    Parameters
    ----------
    model : ParticleTransformer
    head : (int, int)
        Layer and head.

    Returns
    -------
    dict of str to bool Tensor

    Raises
    ------
    InputError
        If the network has no such head.

    Examples
    --------
    >>> masks = head_masks(ParticleTransformer(width=16, depth=1, num_heads=2), (0, 1))
    >>> sum(int(mask.sum()) for mask in masks.values())  # 3 (8 x 16 + 8) and 16 x 8
    536
    """
    block, rows, columns = _place(model, head)
    masks = {}
    for name, parameter, index in (
        ("query_key_value.weight", block.query_key_value.weight, rows),
        ("query_key_value.bias", block.query_key_value.bias, rows),
        ("attention_output.weight", block.attention_output.weight, (slice(None), columns)),
    ):
        mask = torch.zeros_like(parameter, dtype=torch.bool)
        mask[index] = True
        masks[f"blocks.{head[0]}.{name}"] = mask
    return masks


@torch.no_grad()
def transplant_head(
    model: ParticleTransformer, weights: HeadWeights, head: Head, *, output: bool = True
) -> None:
    """Puts a head into another network, in place: given the same residual stream it does the same.

    In a network of other history the stream is another, so what the head does there is what an
    experiment finds out.

    Parameters
    ----------
    model : ParticleTransformer
        Changed in place.
    weights : HeadWeights
    head : (int, int)
        Layer and head to be replaced.
    output : bool
        Whether to bring its columns of the output projection too; without, only what it attends to
        and reads.

    Raises
    ------
    InputError
        If the network has no such head or widths differ.

    Examples
    --------
    >>> source, fresh = (ParticleTransformer(width=16, depth=1, num_heads=2) for _ in range(2))
    >>> transplant_head(fresh, head_weights(source, (0, 1)), (0, 0))
    >>> bool(torch.equal(head_weights(fresh, (0, 0)).output, head_weights(source, (0, 1)).output))
    True
    """
    block, rows, columns = _place(model, head)
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
    """Starts a network from one trained on a related simulation, in place.

    Parameters only: the scales of inputs and outputs stay those of the new data.

    Raises
    ------
    InputError
        If the two networks have other sizes.

    Examples
    --------
    >>> source, fresh = (ParticleTransformer(width=16, depth=1, num_heads=2) for _ in range(2))
    >>> copy_parameters(fresh, source)
    >>> states = torch.zeros(1, 3, 4)
    >>> bool(torch.equal(fresh(states), source(states)))
    True
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

    Parameters
    ----------
    model : ParticleTransformer
    heads : sequence of (int, int)

    Returns
    -------
    callable
        Without arguments.

    Raises
    ------
    InputError
        If the network has no such head.
    """
    kept = []
    for head in heads:
        block, rows, columns = _place(model, head)
        qkv, out = block.query_key_value, block.attention_output
        kept.append(
            (
                (qkv.weight, qkv.bias, out.weight),
                (rows, columns),
                tuple(
                    part.detach().clone()
                    for part in (qkv.weight[rows], qkv.bias[rows], out.weight[:, columns])
                ),
            )
        )

    @torch.no_grad()
    def restore() -> None:
        for (weight, bias, output), (rows, columns), (w, b, o) in kept:
            weight[rows], bias[rows], output[:, columns] = w, b, o

    return restore


def add_dropout(
    model: ParticleTransformer, probability: float
) -> list[torch.utils.hooks.RemovableHandle]:
    """Drops what each attention layer and each perceptron adds to the stream, in training mode.

    Parameters
    ----------
    model : ParticleTransformer
        Changed in place; ``model.eval()`` switches it off.
    probability : float
        Share of the entries set to zero, from 0 up to, not including, 1; the rest is scaled up.

    Returns
    -------
    list
        Handles whose ``remove()`` undoes it.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), Dropout, JMLR 15.
    """
    share = finite_number("probability", probability)
    if not 0.0 <= share < 1.0:
        raise InputError(f"probability: {share}; give at least 0 and less than 1")

    def drop(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        return functional.dropout(answer, share, training=module.training)

    parts: list[nn.Module] = []
    for block in model.blocks:
        assert isinstance(block, Block)
        parts += [block.attention_output, block.perceptron_output]
    return [part.register_forward_hook(drop) for part in parts]


def reflect(batch: Transitions, axes: Tensor, *, box: float, dimension: int) -> Transitions:
    """Mirrors samples in the box's vertical mid-planes, which the physics does not notice.

    Parameters
    ----------
    batch : Transitions
    axes : Tensor of bool, shape (sample, dimension - 1)
        Which horizontal axes to mirror; gravity acts along the last, which never is.
    box : float
        Side of the box.
    dimension : int

    Returns
    -------
    Transitions
        New tensors.
    """
    if axes.shape != (len(batch), dimension - 1):
        raise InputError(
            f"axes: shape {tuple(axes.shape)}; give {(len(batch), dimension - 1)}, one a sample "
            "and horizontal axis"
        )
    states, changes = batch.states.clone(), batch.changes.clone()
    sign = 1.0 - 2.0 * axes.to(states)[:, None, :]  # (sample, 1, horizontal axis)
    for first in (0, dimension):  # positions and displacements; velocities and their changes
        own = slice(first, first + dimension - 1)
        states[..., own] *= sign
        changes[..., own] *= sign
    own = slice(0, dimension - 1)
    states[..., own] += box * axes.to(states)[:, None, :]
    return Transitions(states, changes)


def augment(
    batch: Transitions, *, box: float, dimension: int, generator: torch.Generator
) -> Transitions:
    """The batch with each sample replaced by a random one of its mirror images.

    In three dimensions the horizontal axes are also exchanged at random: with the reflections that
    is the whole symmetry group of the box under gravity, of order 2 or 8.

    Parameters
    ----------
    batch : Transitions
    box : float
    dimension : int
        2 or 3.
    generator : torch.Generator
        On the CPU.
    """
    number = len(batch)
    device = batch.states.device
    axes = (torch.rand(number, dimension - 1, generator=generator) < 0.5).to(device)
    result = reflect(batch, axes, box=box, dimension=dimension)
    if dimension == 3:
        swap = (torch.rand(number, 1, 1, generator=generator) < 0.5).to(device)
        order = torch.tensor([1, 0, 2, 4, 3, 5], device=device)
        result = Transitions(
            *(torch.where(swap, part[..., order], part) for part in (result.states, result.changes))
        )
    return result


def _place(model: ParticleTransformer, head: Head) -> tuple[Block, Tensor, slice]:
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
