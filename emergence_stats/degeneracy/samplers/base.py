"""What every sampler shares: random streams, the kernel they build, and what a step reports.

What lives here: `Kernel`, `StepInfo`, `Streams` and the inner product in double precision. What
does not: any algorithm, each of which has a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
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


class Streams:
    """One independent random stream a chain.

    Parameters
    ----------
    seed : int
    num_chains : int
    device : torch.device
    purpose : int
        Streams of the same seed and different purpose are independent of each other.
    """

    def __init__(
        self, seed: int, num_chains: int, device: torch.device | str = "cpu", purpose: int = 0
    ) -> None:
        self.device = torch.device(device)
        self._generators = []
        for child in np.random.SeedSequence([seed, purpose]).spawn(num_chains):
            generator = torch.Generator(self.device)
            generator.manual_seed(int(child.generate_state(1, np.uint64)[0] >> 1))
            self._generators.append(generator)

    def split(self, size: int) -> list[Streams]:
        """The streams of so many chains at a time; the numbers are still drawn from these."""
        parts = []
        for first in range(0, len(self._generators), size):
            part = object.__new__(Streams)
            part.device, part._generators = self.device, self._generators[first : first + size]
            parts.append(part)
        return parts

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (chain, parameter) of `like`."""
        noise = torch.empty_like(like)
        for row, generator in zip(noise, self._generators, strict=True):
            row.normal_(generator=generator)
        return noise

    def uniform(self) -> Tensor:
        """One uniform number a chain, double precision."""
        draws = [
            torch.rand((), generator=generator, device=self.device, dtype=torch.float64)
            for generator in self._generators
        ]
        return torch.stack(draws)

    def batch(self, num_samples: int, batch_size: int) -> Tensor | None:
        """Which samples does each chain see next? None when a batch is all of them."""
        if batch_size >= num_samples:
            return None
        rows = [
            torch.randint(num_samples, (batch_size,), generator=generator, device=self.device)
            for generator in self._generators
        ]
        return torch.stack(rows)


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
