"""What every sampler shares: the kernel they build, and what a step reads and reports.

What lives here: `Kernel`, `StepInfo`, the inner product in double precision, and what a step reads
when it is taken in one pass over memory. What does not: any algorithm, each of which has a file of
its own, and where random numbers come from (`streams`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from emergence_stats.degeneracy.posterior import PotentialValue
from emergence_stats.degeneracy.samplers.streams import Streams

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
    step_over : callable, optional
        The same, written over the state it is given where a compiled pass takes it.
    """

    init: Callable[[Tensor], Any]
    step: Callable[[Any, Tensor | None, Randomness], tuple[Any, StepInfo]]
    step_over: Callable[[Any, Tensor | None, Randomness], tuple[Any, StepInfo]] | None = None

    def on(self, potential: Potential) -> Kernel:
        """The same with all it holds, such as a metric, on another potential."""

        def bound(function: Any) -> Any:
            if "potential" in getattr(function, "keywords", {}):
                return partial(function, potential=potential)
            return function

        return Kernel(*(bound(one) for one in self))


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


def in_one_pass(value: PotentialValue, randomness: Randomness) -> bool:
    """Whether a compiled kernel can take the step: single precision, on the processor."""
    position, gradient = value.position, value.loss_gradient
    return (
        isinstance(randomness, Streams)
        and randomness.on_processor
        and position.dtype == gradient.dtype == value.centre.dtype == torch.float32
        and position.is_contiguous()
        and gradient.is_contiguous()
    )


def read_by_kernel(position: Tensor, value: PotentialValue, streams: Any) -> tuple[Any, ...]:
    """The first arguments of every compiled step.

    Position, which it moves, and gradient of the loss (chain, parameter), w*, n*beta, gamma, and
    what the chains' random numbers are a function of.
    """
    return (
        position.numpy(),
        value.loss_gradient.numpy(),
        value.centre.numpy(),
        *single(value.scale, value.localisation),
        streams.draws,
        streams.keys,
    )


def own(vector: Tensor, overwrite: bool) -> Tensor:
    """What a compiled step writes over: this vector, or a copy where its holder may need it."""
    return vector if overwrite else vector.clone()


def single(*numbers: float) -> tuple[Any, ...]:
    """Numbers in the precision of the vectors they are used with."""
    return tuple([np.float32(number) for number in numbers])  # a generator takes twice as long


def one_a_chain(position: Tensor) -> tuple[Tensor, np.ndarray]:
    """Room for one number a chain, double precision, and the same memory as an array."""
    room = torch.empty(position.shape[0], dtype=torch.float64)
    return room, room.numpy()


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner product over parameters, one number a chain, double precision."""
    return torch.linalg.vecdot(left, right, dim=-1).double()


def moved(position: Tensor, noise: Tensor, noise_size: float, drift: Tensor, size: float) -> Tensor:
    """``position + noise_size * noise + size * drift``, written over the noise.

    Vectors of all chains are large; every one that is not made saves its share of time and memory.
    """
    return noise.mul_(noise_size).add_(drift, alpha=size).add_(position)
