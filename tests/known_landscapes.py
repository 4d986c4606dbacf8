"""Losses whose local learning coefficients are known, and those coefficients."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emergence_stats import LLC

NUMBER = 2000
DATA = (torch.linspace(0.5, 1.5, 1000, dtype=torch.float64),)
SCALE = 1000 / math.log(1000)


def squared_error(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def summed_squared_error(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().sum(-1).mean()


def negative_log_likelihood(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Of unit variance, up to a constant."""
    return 0.5 * (model(batch[0]) - batch[1]).square().mean()


def linear_problem(
    num_samples: int = NUMBER, width: int = 6, spread: float = 1.0, noise: float = 0.3
) -> tuple[nn.Module, tuple[Tensor, Tensor], np.ndarray]:
    """A linear model at its least-squares solution, its data and its Hessian's eigenvalues."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(num_samples, width, generator=generator)
    inputs *= torch.linspace(1.0 / spread, 1.0, width)
    targets = inputs.sum(1, keepdim=True) + noise * torch.randn(num_samples, 1, generator=generator)
    model = nn.Linear(width, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    hessian = (2.0 / num_samples) * (inputs.T @ inputs).double()
    return model, (inputs, targets), torch.linalg.eigvalsh(hessian).numpy()


def quadratic_truth(eigenvalues: np.ndarray, result: LLC) -> float:
    """The expectation under the localised tempered posterior of a quadratic loss."""
    found = result.diagnostics
    held = found["num_samples"] * found["inverse_temperature"] * eigenvalues
    return float(0.5 * (held / (held + found["localisation"])).sum())


def regression(
    spread: float, width: int = 6
) -> tuple[nn.Module, tuple[Tensor, Tensor], np.ndarray]:
    """The same with noise of unit variance, and the eigenvalues of half the squared error."""
    model, data, eigenvalues = linear_problem(NUMBER, width, spread, noise=1.0)
    return model, data, 0.5 * eigenvalues


def network(*widths: int, ranks: dict[int, int] | None = None, samples: int = 8000) -> Any:
    """A deep linear network, a layer of it of lower rank where wanted, and its own outputs."""
    generator = np.random.default_rng([*widths])
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)))
    for number, layer in enumerate(model):
        b, a = layer.weight.shape
        rank = (ranks or {}).get(number, min(a, b))
        left, _ = np.linalg.qr(generator.normal(size=(b, rank)))
        right, _ = np.linalg.qr(generator.normal(size=(a, rank)))
        with torch.no_grad():
            layer.weight.copy_(torch.as_tensor(left @ right.T))
    inputs = torch.randn(samples, widths[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model, (inputs, model(inputs))


def linear(inputs: int, outputs: int, samples: int) -> Any:
    """Half its parameters, being regular."""
    return network(inputs, outputs, samples=samples)


class Crossing(nn.Module):
    """The square of w1^a w2^b."""

    def __init__(self, a: int, b: int, start: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.a, self.b = a, b

    def forward(self) -> Tensor:
        return (self.w[0] ** self.a * self.w[1] ** self.b).square()


def off_the_crossing() -> Crossing:
    """Flat at w*, steep away from it."""
    return Crossing(1, 2, (0.5, 0.0))


def weighted(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """A loss that depends on the data only through a weight."""
    return model() * batch[0].mean()


def quadrature(
    a: int, b: int, scale: float, localisation: float, start: tuple[float, float] = (0.0, 0.0)
) -> float:
    """The expectation under the localised posterior, on a logarithmic grid."""
    half = np.geomspace(1e-7, 12.0, 1201)
    points = np.concatenate([-half[::-1], half])
    x, y = points[:, None], points[None, :]
    loss = scale * (x**a * y**b) ** 2
    pull = 0.5 * localisation * ((x - start[0]) ** 2 + (y - start[1]) ** 2)
    mass = np.exp(-loss - pull) * np.abs(x * y)
    return float((loss * mass).sum() / mass.sum())
