"""The toy model of superposition: its exact loss, its k-gons, and training by SGD.

What lives here: six features, of which one is active at a time, through two hidden dimensions
(Elhage et al. 2022, arXiv:2209.10652), in the setting of Chen, Lau, Mendel, Wei and Murfet (2023,
arXiv:2310.06301). What does not: the learning coefficients, and what is recorded (`superposition`).

The output is ReLU(W'W x + b), W of 2 rows and 6 columns. An input is x = mu e_i, i uniform over the
features and mu over [0, 1], and the loss is the mean over inputs of the squared error summed over
outputs. With a = w_i . w_j and d = 1 where i = j, else 0, output j adds

    integral from 0 to 1 of (d mu - ReLU(a mu + b_j))^2 d mu,

a polynomial on either side of the one mu at which the unit opens or closes.

A k-gon has k columns of one length evenly around the circle with one bias, and the others zero; of
these, outputs with a negative bias are dead, and any with the bias 1/12, best for an output without
a column, is marked by a +: 4, 4+, 4++, 5, 5+, 6. All are critical points.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from scipy.optimize import minimize_scalar, root
from torch import Tensor, nn

FEATURES = 6
POSITIVE = 1.0 / (2 * FEATURES)  # the best bias of an output without a column
POLYGONS = ("4", "4+", "4++", "5", "5+", "6")
# How far from a k-gon a checkpoint may be that is counted to it.
_LENGTH, _ANGLE, _LOSS = 0.15, 0.3, 0.004  # share, radians, loss


class Superposition(nn.Module):
    """ReLU(W'W x + b)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, FEATURES))
        self.bias = nn.Parameter(torch.zeros(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.weight.T @ self.weight + self.bias)


def reconstruction(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """Squared error summed over outputs, averaged over samples."""
    return (model(batch[0]) - batch[0]).square().sum(dim=-1).mean()


class Population(nn.Module):
    """The loss over all inputs, in closed form; its `forward` takes nothing and returns it."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(weight, dtype=torch.float64))
        self.bias = nn.Parameter(torch.as_tensor(bias, dtype=torch.float64))

    def forward(self) -> Tensor:
        slope = self.weight.T @ self.weight  # (input, output)
        bias = self.bias[None, :].expand(FEATURES, FEATURES)
        same = torch.eye(FEATURES, dtype=slope.dtype)
        kink = (-bias / torch.where(slope == 0, torch.ones_like(slope), slope)).clamp(0.0, 1.0)
        zero, one = torch.zeros_like(slope), torch.ones_like(slope)
        opens = torch.where(slope > 0, kink, zero)
        closes = torch.where(slope < 0, kink, torch.where((slope == 0) & (bias <= 0), zero, one))
        first, second, third = (closes**power - opens**power for power in (1, 2, 3))
        miss = same - slope
        open_part = miss.square() * third / 3.0 - miss * bias * second + bias.square() * first
        return (same * (1.0 - third) / 3.0 + open_part).sum() / FEATURES


def times_population(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """The population's loss, for data that are all ones."""
    return model() * batch[0].mean()


@numba.njit(cache=True)
def population_loss(weight, bias):
    """The same for arrays, shapes (2, 6) and (6,)."""
    total = 0.0
    for i in range(FEATURES):
        for j in range(FEATURES):
            slope = weight[0, i] * weight[0, j] + weight[1, i] * weight[1, j]
            same = 1.0 if i == j else 0.0
            opens, closes = 0.0, 1.0
            if slope > 0.0:
                opens = min(max(-bias[j] / slope, 0.0), 1.0)
            elif slope < 0.0:
                closes = min(max(-bias[j] / slope, 0.0), 1.0)
            elif bias[j] <= 0.0:
                closes = 0.0
            third = closes**3 - opens**3
            miss = same - slope
            total += same * (1.0 - third) / 3.0 + miss * miss * third / 3.0
            total += -miss * bias[j] * (closes**2 - opens**2) + bias[j] ** 2 * (closes - opens)
    return total / FEATURES


def polygon(name: str, *, dead_bias: float = -0.5) -> tuple[np.ndarray, np.ndarray]:
    """Columns (2, 6) and biases (6,) of a k-gon by its name, at the best length and bias."""
    corners, positive = int(name[0]), name.count("+")
    angle = 2.0 * np.pi * np.arange(corners) / corners

    def built(length: float, own_bias: float) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = np.zeros((2, FEATURES)), np.full(FEATURES, float(dead_bias))
        weight[:, :corners] = length * np.stack([np.cos(angle), np.sin(angle)])
        bias[:corners] = own_bias
        bias[corners : corners + positive] = POSITIVE
        return weight, bias

    if corners == 4:
        return built(1.0, 0.0)  # a corner of the ReLUs' regions, where derivatives jump

    def slope_of(point: np.ndarray) -> np.ndarray:
        model = Population(*built(*point))
        model().backward()
        assert model.weight.grad is not None
        assert model.bias.grad is not None
        along = model.weight.grad.numpy()[:, :corners] * np.stack([np.cos(angle), np.sin(angle)])
        return np.array([along.sum(), model.bias.grad.numpy()[:corners].sum()])

    def best(length: float) -> Any:
        return minimize_scalar(lambda b: population_loss(*built(length, b)), bounds=(-1, 0))

    length = minimize_scalar(lambda size: best(size).fun, bounds=(1.0, 1.5)).x
    return built(*root(slope_of, [length, best(length).x], tol=1e-13).x)


def named(weight: np.ndarray, bias: np.ndarray) -> str:
    """Which k-gon is this near, if any?"""
    length = np.hypot(*weight)
    live = length > 0.5
    corners = int(live.sum())
    name = f"{corners}{'+' * int((bias[~live] > 0.5 * POSITIVE).sum())}"
    if name not in POLYGONS:
        return ""
    angle = np.sort(np.arctan2(weight[1, live], weight[0, live]))
    gaps = np.diff(np.append(angle, angle[0] + 2.0 * np.pi))
    exact_weight, exact_bias = polygon(name)
    exact = float(np.hypot(*exact_weight[:, 0]))
    near = (
        np.abs(length[live] / exact - 1.0).max() < _LENGTH
        and np.abs(gaps - 2.0 * np.pi / corners).max() < _ANGLE
        and abs(population_loss(weight, bias) - population_loss(exact_weight, exact_bias)) < _LOSS
    )
    return name if near else ""


def samples(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Which feature is active in each sample, and how much."""
    generator = np.random.default_rng([seed, 0])
    return generator.integers(0, FEATURES, number), generator.uniform(size=number)


def as_inputs(active: np.ndarray, size: np.ndarray) -> Tensor:
    """The samples as inputs, shape (sample, 6)."""
    inputs = torch.zeros(len(active), FEATURES)
    inputs[torch.arange(len(active)), torch.as_tensor(active)] = torch.as_tensor(size).float()
    return inputs


def beginning(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Near a 4-gon turned at random (noise 0.01), or random columns of size 0.5."""
    generator = np.random.default_rng([seed, 1])
    weight = np.zeros((2, FEATURES))
    if kind == "4-gon":
        angle = generator.uniform(0.0, 2.0 * np.pi) + 0.5 * np.pi * np.arange(4)
        weight[:, :4] = np.stack([np.cos(angle), np.sin(angle)])
        weight += 0.01 * generator.normal(size=weight.shape)
    else:
        weight = 0.5 * generator.normal(size=weight.shape)
    return weight, 0.01 * generator.normal(size=FEATURES)


@numba.njit(cache=True)
def train(weight, bias, active, size, rate, batch, steps, keep, generator):
    """Plain SGD over shuffled samples; what it holds at the steps of `keep`, increasing."""
    kept_weight = np.empty((len(keep), 2, FEATURES))
    kept_bias = np.empty((len(keep), FEATURES))
    weight, bias = weight.copy(), bias.copy()
    slope, pull = np.zeros((2, FEATURES)), np.zeros(FEATURES)
    order, place, kept = generator.permutation(len(active)), 0, 0
    for step in range(steps + 1):
        if kept < len(keep) and keep[kept] == step:
            kept_weight[kept], kept_bias[kept] = weight, bias
            kept += 1
        slope[:], pull[:] = 0.0, 0.0
        for _ in range(batch):
            if place == len(active):
                order, place = generator.permutation(len(active)), 0
            i, mu = active[order[place]], size[order[place]]
            place += 1
            for j in range(FEATURES):
                inner = weight[0, i] * weight[0, j] + weight[1, i] * weight[1, j]
                output = inner * mu + bias[j]
                if output > 0.0:
                    error = 2.0 * (output - (mu if i == j else 0.0))
                    pull[j] += error
                    for row in range(2):
                        slope[row, j] += error * mu * weight[row, i]
                        slope[row, i] += error * mu * weight[row, j]
        weight -= rate / batch * slope
        bias -= rate / batch * pull
    return kept_weight, kept_bias
