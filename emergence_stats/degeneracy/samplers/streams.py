"""One independent random stream a chain.

What lives here: `Streams`. What does not: what is made of the numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SMALL_SHARE = 8  # of the data: smaller batches may hold a sample twice


class Streams:
    """One independent random stream a chain, so that no chain's numbers depend on the others.

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
        self._generators: list[torch.Generator] = []
        for child in np.random.SeedSequence([seed, purpose]).spawn(num_chains):
            generator = torch.Generator(self.device)
            generator.manual_seed(int(child.generate_state(1, np.uint64)[0] >> 1))
            self._generators.append(generator)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (chain, parameter) of `like`."""
        noise = torch.empty_like(like, memory_format=torch.contiguous_format)
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
        """Which samples does each chain see next? None when a batch is all of them.

        Batches are independent of each other. A sample comes twice in one only where batches are
        so small beside the data that it hardly matters.
        """
        if batch_size >= num_samples:
            return None
        return torch.stack([self._rows(one, num_samples, batch_size) for one in self._generators])

    def _rows(self, generator: torch.Generator, num_samples: int, batch_size: int) -> Tensor:
        if _SMALL_SHARE * batch_size < num_samples:
            return torch.randint(
                num_samples, (batch_size,), generator=generator, device=self.device
            )
        return torch.randperm(num_samples, generator=generator, device=self.device)[:batch_size]
