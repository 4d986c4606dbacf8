"""Two-layer linear networks sampled exactly: the reference at singular points and finite n.

What lives here: drawing a network at its deepest singularity, and block Gibbs sampling of its
tempered localised posterior, in which each layer is Gaussian given the other. What does not: the
estimates that are held against it (`llc_singular`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class TwoLayers(NamedTuple):
    """A network y = B A x at the deepest singularity of its set of minima, with its data.

    Attributes
    ----------
    first, second : ndarray, shapes (hidden, inputs) and (outputs, hidden)
        A and B: of the rank of their product, in the same hidden directions.
    covariance : ndarray, shape (inputs, inputs)
        Of the inputs, as they are.
    """

    model: nn.Sequential
    data: tuple[Tensor, Tensor]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @property
    def mean_square(self) -> float:
        """Of the parameters; 1 where all are zero."""
        size = float(np.mean(np.square([*self.first.ravel(), *self.second.ravel()])))
        return size if size > 1e-8 else 1.0


def half_squared_error(model: Callable[..., Tensor], batch: Any) -> Tensor:
    """Half of the squared error, summed over outputs."""
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(-1).mean()


def two_layers(
    widths: tuple[int, int, int], rank: int, num_samples: int, condition: float, seed: int
) -> TwoLayers:
    """The product has singular values from 1 to one over the condition number."""
    rng = np.random.default_rng(seed)
    inputs, hidden, outputs = widths
    left, inner, right = (
        np.linalg.qr(rng.normal(size=(n, n)))[0][:, :rank] for n in (outputs, hidden, inputs)
    )
    values = np.geomspace(1.0, 1.0 / condition, rank) ** 0.5 if rank else np.zeros(0)
    first, second = (inner * values) @ right.T, (left * values) @ inner.T
    model = nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.Linear(hidden, outputs, bias=False)
    )
    seen = torch.randn(num_samples, inputs, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for layer, weight in zip(model, (first, second), strict=True):
            layer.weight.copy_(torch.as_tensor(weight))
        targets = model(seen)
    double = seen.double().numpy()
    return TwoLayers(model, (seen, targets), first, second, double.T @ double / num_samples)


def sample_by_gibbs(
    network: TwoLayers, scale: float, localisation: float, num_draws: int, seed: int
) -> NDArray[np.float64]:
    """n*beta*(L - L*) by draw, its mean the coefficient of this posterior.

    Parameters
    ----------
    scale : float
        n*beta.
    """
    rng = np.random.default_rng(seed)
    (values, basis), held = np.linalg.eigh(network.covariance), network.covariance
    target = network.second @ network.first
    a, b = network.first.copy(), network.second.copy()
    trace = np.empty(num_draws)
    for draw in range(num_draws):
        precision = scale * a @ held @ a.T + localisation * np.eye(len(a))
        factor = np.linalg.cholesky(precision)
        pull = scale * target @ held @ a.T + localisation * network.second
        b = np.linalg.solve(precision, pull.T).T
        b += np.linalg.solve(factor.T, rng.normal(size=b.T.shape)).T
        # In the eigenbases of the inputs and of B'B the entries of A are independent.
        inner, turn = np.linalg.eigh(b.T @ b)
        precisions = scale * inner[:, None] * values + localisation
        pull = turn.T @ (scale * b.T @ target @ held + localisation * network.first) @ basis
        a = turn @ (pull / precisions + rng.normal(size=pull.shape) / np.sqrt(precisions)) @ basis.T
        off = b @ a - target
        trace[draw] = 0.5 * scale * np.sum((off @ held) * off)
    return trace
