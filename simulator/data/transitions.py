"""Transitions as tensors, and what the box's symmetry allows to be done to them.

What lives here: `Transitions`, taking some of them, mirror images, and shuffled labels. What does
not: how they are simulated (`generation`) and what is learned from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from emergence_stats.errors import InputError


@dataclass(frozen=True)
class Transitions:
    """States and what they change to, as tensors.

    Attributes
    ----------
    states : Tensor, shape (sample, particle, 2 * axis)
        Positions and velocities.
    changes : Tensor, shape (sample, particle, 2 * axis)
        Displacement and velocity change over one interval.
    """

    states: Tensor
    changes: Tensor

    @classmethod
    def of(cls, dataset: xr.Dataset) -> Transitions:
        """From a dataset of `generation`."""

        def join(first: str, second: str) -> Tensor:
            parts = [torch.from_numpy(np.array(dataset[name].values)) for name in (first, second)]
            return torch.cat(parts, dim=-1).float()

        return cls(join("position", "velocity"), join("displacement", "velocity_change"))

    def __len__(self) -> int:
        return len(self.states)

    def take(self, index: Tensor) -> Transitions:
        """Some of the samples."""
        return Transitions(self.states[index], self.changes[index])

    def spread(self, number: int) -> Transitions:
        """At most `number` samples, evenly spaced and so from as many systems as possible."""
        index = torch.linspace(0, len(self) - 1, min(number, len(self))).round().long()
        return self.take(index)

    def to(self, device: torch.device) -> Transitions:
        """The same on another device."""
        return Transitions(self.states.to(device), self.changes.to(device))

    def shuffle_labels(self, seed: int) -> Transitions:
        """Each state with the changes of another sample: nothing can be learned.

        Whole samples are exchanged, so the changes of one box stay together and their distribution
        is kept; what is lost is that they follow from the state.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return Transitions(self.states, self.changes[order])


def reflect(batch: Transitions, axes: Tensor, *, box: float, dimension: int) -> Transitions:
    """Mirrors samples in the box's vertical mid-planes, which the physics does not notice.

    `axes`, of shape (sample, dimension - 1), says which horizontal axes are mirrored: gravity acts
    along the last, which never is. The tensors are new.
    """
    if axes.shape != (len(batch), dimension - 1):
        raise InputError(
            f"axes: shape {tuple(axes.shape)}; give {(len(batch), dimension - 1)}, one a sample "
            "and horizontal axis"
        )
    states, changes = batch.states.clone(), batch.changes.clone()
    mirrored = axes.to(states)[:, None, :]  # (sample, 1, horizontal axis)
    for first in (0, dimension):  # positions and displacements; velocities and their changes
        own = slice(first, first + dimension - 1)
        states[..., own] *= 1.0 - 2.0 * mirrored
        changes[..., own] *= 1.0 - 2.0 * mirrored
    states[..., : dimension - 1] += box * mirrored
    return Transitions(states, changes)


def augment(
    batch: Transitions, *, box: float, dimension: int, generator: torch.Generator
) -> Transitions:
    """The batch with each sample replaced by a random one of its mirror images.

    In three dimensions the horizontal axes are also exchanged at random: with the reflections that
    is the whole symmetry group of the box under gravity, of order 2 or 8. The generator is on the
    CPU.
    """
    device = batch.states.device
    axes = (torch.rand(len(batch), dimension - 1, generator=generator) < 0.5).to(device)
    result = reflect(batch, axes, box=box, dimension=dimension)
    if dimension == 3:
        swap = (torch.rand(len(batch), 1, 1, generator=generator) < 0.5).to(device)
        order = torch.tensor([1, 0, 2, 4, 3, 5], device=device)
        result = Transitions(
            *(torch.where(swap, part[..., order], part) for part in (result.states, result.changes))
        )
    return result
