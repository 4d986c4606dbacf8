"""One independent random stream a chain.

What lives here: `Streams`. What does not: the generator itself (`philox`; torch's own on other
devices than the processor).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emergence_stats.degeneracy.samplers import philox


class Streams:
    """One independent random stream a chain.

    On the processor a chain's next numbers are a function of its key and of how often it has drawn
    (`philox`); on other devices they come from a `torch.Generator` a chain.

    Parameters
    ----------
    seed : int
    num_chains : int
    device : torch.device
    purpose : int
        Streams of the same seed and different purpose are independent of each other.

    Attributes
    ----------
    keys : ndarray, shape (chain, 2)
        What tells the chains' numbers apart.
    draws : ndarray, shape (chain,)
        How often each chain has drawn; shared with the parts that `split` returns.
    on_processor : bool
        Whether keys and draws tell a chain's numbers.
    """

    def __init__(
        self, seed: int, num_chains: int, device: torch.device | str = "cpu", purpose: int = 0
    ) -> None:
        self.device = torch.device(device)
        self.on_processor = self.device.type == "cpu"
        children = np.random.SeedSequence([seed, purpose]).spawn(num_chains)
        states = [child.generate_state(2, np.uint32) for child in children]
        self.keys = np.array(states, dtype=np.uint32).reshape(-1, 2)
        self.draws = np.zeros(num_chains, dtype=np.int64)
        self._generators: list[torch.Generator] = []
        if not self.on_processor:
            for high, low in self.keys.tolist():
                generator = torch.Generator(self.device)
                generator.manual_seed((high << 32 | low) >> 1)
                self._generators.append(generator)

    def split(self, size: int) -> list[Streams]:
        """The streams of so many chains at a time; the numbers are still drawn from these."""
        parts = []
        for first in range(0, len(self.draws), size):
            part = object.__new__(Streams)
            part.device, part.on_processor = self.device, self.on_processor
            part._generators = self._generators[first : first + size]
            part.keys = self.keys[first : first + size]
            part.draws = self.draws[first : first + size]
            parts.append(part)
        return parts

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (chain, parameter) of `like`."""
        if not self.on_processor:
            noise = torch.empty_like(like)
            for row, generator in zip(noise, self._generators, strict=True):
                row.normal_(generator=generator)
            return noise
        single = like.dtype == torch.float32
        out = torch.empty(like.shape, dtype=like.dtype if single else torch.float64)
        fill = philox.fill_normal if single else philox.fill_normal_double
        fill(out.numpy(), self.draws, self.keys)
        return out.to(like.dtype)

    def uniform(self) -> Tensor:
        """One uniform number a chain, double precision."""
        if not self.on_processor:
            draws = [
                torch.rand((), generator=generator, device=self.device, dtype=torch.float64)
                for generator in self._generators
            ]
            return torch.stack(draws)
        out = torch.empty(len(self.draws), 1, dtype=torch.float64)
        philox.fill_uniform(out.numpy(), self.draws, self.keys)
        return out[:, 0]

    def batch(self, num_samples: int, batch_size: int) -> Tensor | None:
        """Which samples does each chain see next? None when a batch is all of them."""
        if batch_size >= num_samples:
            return None
        if not self.on_processor:
            rows = [
                torch.randint(num_samples, (batch_size,), generator=generator, device=self.device)
                for generator in self._generators
            ]
            return torch.stack(rows)
        index = torch.empty(len(self.draws), batch_size, dtype=torch.int64)
        philox.fill_index(index.numpy(), num_samples, self.draws, self.keys)
        return index
