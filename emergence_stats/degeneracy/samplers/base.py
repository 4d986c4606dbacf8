"""What every sampler shares: the kernel they build, and what a step reads and reports.

What lives here: `Kernel`, `StepInfo`, and the inner product in double precision. What does not: any
algorithm, each of which has a file of its own, and where random numbers come from (`streams`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from emergence_stats.degeneracy.posterior import PotentialValue

Potential = Callable[[Tensor, Tensor | None], PotentialValue]


class Randomness(Protocol):
    """Where a step gets its random numbers."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (chain, parameter) of `like`."""

    def uniform(self) -> Tensor:
        """One uniform number a chain, double precision."""


class Kernel(NamedTuple):
    """A sampler with its hyperparameters bound.

    Attributes
    ----------
    init : callable
        ``init(position) -> state``
    step : callable
        ``step(state, index, randomness) -> (state, info)``
    """

    init: Callable[[Tensor], Any]
    step: Callable[[Any, Tensor | None, Randomness], tuple[Any, StepInfo]]


class StepInfo(NamedTuple):
    """What one step observed.

    Attributes
    ----------
    excess_loss : Tensor, shape (chain,)
        L(w) - L(w*) at the position *before* an SGLD step, on a batch drawn independently of it;
        for MALA at the position after it.
    discretisation_bias : Tensor, shape (chain,)
        How much the finite step and the noise of the minibatch gradient add to n*beta times the
        excess loss, on average, near a quadratic minimum; zero for MALA. See `sgld_step`.
    acceptance : Tensor or None, shape (chain,)
        Probability with which the proposal was accepted (MALA).
    """

    excess_loss: Tensor
    discretisation_bias: Tensor
    acceptance: Tensor | None


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner product over parameters, one number a chain, double precision."""
    return torch.linalg.vecdot(left, right, dim=-1).double()


def moved(position: Tensor, noise: Tensor, noise_size: float, drift: Tensor, size: float) -> Tensor:
    """``position + noise_size * noise + size * drift``, written over the noise.

    Vectors of all chains are large; every one that is not made saves its share of time and memory.
    """
    return noise.mul_(noise_size).add_(drift, alpha=size).add_(position)
