"""Functions that take NumPy arrays and PyTensor variables alike, for a density written once.

What lives here: what NumPy's universal functions leave out. What does not: the density (`models`),
shapes (`shapes`), which need none of these.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# NumPy arrays or PyTensor variables.
Tensor = Any


def total_over_points(x: Tensor) -> Tensor:
    """Sum over points: shape (draw, 1) of arrays, () of PyTensor variables."""
    return x.sum(axis=-1, keepdims=isinstance(x, np.ndarray))


def first_point(x: Tensor) -> Tensor:
    """The first point's, as `total_over_points` shapes it."""
    return x[..., :1] if isinstance(x, np.ndarray) else x[..., 0]


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def log_gamma(x: Tensor) -> Tensor:
    """Logarithm of the gamma function."""
    if isinstance(x, np.ndarray):
        from scipy.special import gammaln

        return gammaln(x)
    import pytensor.tensor as pt

    return pt.gammaln(x)
