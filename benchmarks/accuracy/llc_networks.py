"""Deep linear networks with a known local learning coefficient, drawn at random.

What lives here: drawing the networks, placing w*, and the exact value there. What does not: the
estimates (`llc_accuracy`).

Loss: mean over samples of |W_L ... W_1 x - W*_L ... W*_1 x|^2, inputs whitened, no noise in the
targets, so L_n(w*) = 0. *Where w* is placed*: every layer has full rank, except that in half of the
networks one layer, at random, has a lower rank r, which is then the rank of the product. Such a
point is a smooth point of the set of minima: the local coefficient there is half the codimension,
half the rank of the Jacobian of the product map, and not Aoyagi's value, which belongs to the
deepest singularity of the set and is given beside it. With U_l the range of W_L ... W_{l+1} and V_l
the row space of W_{l-1} ... W_1, both nested, the rank is

    sum_l u_l (v_l - v_{l+1}),      u_l = rank(W_L ... W_{l+1}),  v_l = rank(W_{l-1} ... W_1),

checked numerically against the dense Jacobian, and smoothness beside it, where that is small
(`verify`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from emergence_stats.theory import exact

CLASSES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1M": 1_000_000}


class Network(NamedTuple):
    """A deep linear network at w*, and what is known about the point."""

    name: str
    widths: tuple[int, ...]
    ranks: tuple[int, ...]  # of each layer
    model: nn.Sequential
    local: float  # half the codimension at w*
    deepest: float  # Aoyagi
    num_parameters: int


def draw(size: str, number: int) -> Network:
    """The network of this number in this class; odd numbers have a layer of lower rank."""
    generator = np.random.default_rng([CLASSES[size], number])
    wanted = CLASSES[size] * np.exp(generator.uniform(-0.5, 0.5))
    depth = int(generator.integers(2, 11))
    shape = np.exp(generator.uniform(-0.5, 0.5, depth + 1))
    scale = np.sqrt(wanted / (shape[1:] * shape[:-1]).sum())
    widths = tuple(int(width) for width in np.maximum(np.round(scale * shape), 2))
    ranks = [min(pair) for pair in zip(widths[1:], widths[:-1], strict=True)]
    if number % 2:
        layer = int(generator.integers(depth))
        narrow = min(widths)
        ranks[layer] = int(generator.integers(max(1, narrow // 4), max(2, narrow)))
    layers = []
    for inputs, outputs, rank in zip(widths[:-1], widths[1:], ranks, strict=True):
        layer_of = nn.Linear(inputs, outputs, bias=False)
        with torch.no_grad():
            layer_of.weight.copy_(weight(generator, outputs, inputs, rank))
        layers.append(layer_of)
    local = 0.5 * jacobian_rank(widths, ranks)
    product_rank = min(ranks)
    deepest, _ = exact.deep_linear_network(widths, product_rank)
    model = nn.Sequential(*layers)
    count = sum(weight.numel() for weight in model.parameters())
    return Network(f"{size}-{number}", widths, tuple(ranks), model, local, deepest, count)


def weight(generator: np.random.Generator, outputs: int, inputs: int, rank: int) -> Tensor:
    """Random singular vectors; singular values between 0.7 and 1.4, even in the logarithm."""
    left, _ = np.linalg.qr(generator.normal(size=(outputs, rank)))
    right, _ = np.linalg.qr(generator.normal(size=(inputs, rank)))
    values = np.exp(generator.uniform(np.log(0.7), np.log(1.4), rank))
    return torch.as_tensor((left * values) @ right.T, dtype=torch.float32)


def jacobian_rank(widths: tuple[int, ...], ranks: list[int]) -> int:
    """Rank of the product map's Jacobian where layers of these ranks are in general position."""
    depth = len(ranks)
    above = [min([*ranks[layer + 1 :], widths[-1]]) for layer in range(depth)]
    below = [min([*ranks[:layer], widths[0]]) for layer in range(depth)] + [0]
    return sum(above[layer] * (below[layer] - below[layer + 1]) for layer in range(depth))


def verify(network: Network, generator: np.random.Generator) -> dict[str, float]:
    """Is w* a smooth point of the set of minima, and is its codimension what the formula says?

    The equations along the k leading left singular vectors of the Jacobian cut out a manifold of
    codimension k that holds every minimum near w*. If another of its points, some way off, is a
    minimum too, the two coincide.
    """
    weights = [layer.weight.detach().double() for layer in network.model]

    def product(factors: list[Tensor]) -> Tensor:
        result = factors[0]
        for factor in factors[1:]:
            result = factor @ result
        return result

    target = product(weights)

    def jacobian(factors: list[Tensor]) -> Tensor:
        blocks = []
        for layer in range(len(factors)):
            above = torch.eye(network.widths[-1], dtype=torch.float64)
            for factor in reversed(factors[layer + 1 :]):
                above = above @ factor
            below = torch.eye(network.widths[0], dtype=torch.float64)
            for factor in factors[:layer]:
                below = factor @ below
            blocks.append(torch.kron(above, below.T.contiguous()))
        return torch.cat(blocks, dim=1)

    left, values, _ = torch.linalg.svd(jacobian(weights), full_matrices=False)
    rank = int((values > 1e-6 * values[0]).sum())
    equations = left[:, :rank].T
    moved = [w + 0.005 * torch.as_tensor(generator.normal(size=tuple(w.shape))) for w in weights]
    for _ in range(60):  # Newton steps of least norm on these equations only
        residual = equations @ (target - product(moved)).flatten()
        if float(residual.norm()) < 1e-14 * float(target.norm()):
            break
        step = torch.linalg.lstsq(equations @ jacobian(moved), residual).solution
        pieces = step.split([w.numel() for w in moved])
        moved = [w + piece.view_as(w) for w, piece in zip(moved, pieces, strict=True)]
    return {
        "codimension_by_formula": round(2 * network.local),
        "jacobian_rank": rank,
        "distance_moved": float(
            torch.stack([(a - b).norm() for a, b in zip(moved, weights, strict=True)]).norm()
        ),
        "relative_residual_there": float((target - product(moved)).norm() / target.norm()),
    }


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Sum over outputs of the squared error, averaged over samples."""
    return (model(batch[0]) - batch[1]).square().sum(-1).mean()


def data(network: Network, num_samples: int) -> tuple[Tensor, Tensor]:
    """Whitened inputs and the network's own outputs."""
    generator = torch.Generator().manual_seed(len(network.widths))
    inputs = torch.randn(num_samples, network.widths[0], generator=generator)
    with torch.no_grad():
        return inputs, network.model(inputs)
