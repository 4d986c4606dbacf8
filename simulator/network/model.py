"""A small transformer that advances a box of particles by one interval.

What lives here: the network, its forward pass with or without attention weights, mean ablation of
heads, and the iterated `rollout`. What does not: how it is trained (`training`) and what its heads
are scored by (`heads`).

One particle is one token and there is no positional encoding, so the network commutes with any
relabelling of the particles; attention is the only way two particles exchange anything.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from emergence_stats.errors import InputError


class Attention(NamedTuple):
    """What the heads did in one forward pass.

    Attributes
    ----------
    weights : Tensor, shape (batch, layer, head, query, key)
        Attention weights; each row sums to 1 over keys, the query itself included.
    outputs : Tensor, shape (batch, layer, head, particle, width / head)
        What each head passes on, before the output projection.
    """

    weights: Tensor
    outputs: Tensor


class Block(nn.Module):
    """Pre-norm attention followed by a two-layer perceptron, each added to the residual stream."""

    def __init__(self, width: int, num_heads: int, expansion: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron_input = nn.Linear(width, expansion * width)
        self.perceptron_output = nn.Linear(expansion * width, width)

    def forward(
        self, stream: Tensor, replacement: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Advance the residual stream through one block.

        Parameters
        ----------
        stream : Tensor, shape (batch, particle, width)
        replacement : Tensor, shape (head, width / head), optional
            Rows that are not NaN stand in for that head's output everywhere (mean ablation).

        Returns
        -------
        stream, weights, heads
            The new stream, the attention weights (batch, head, query, key) and the heads' outputs
            (batch, head, particle, width / head).
        """
        batch, particles, width = stream.shape
        projected = self.query_key_value(self.attention_norm(stream))
        projected = projected.view(batch, particles, 3, self.num_heads, width // self.num_heads)
        # Written out rather than fused: for a few dozen tokens two small batched products on one
        # contiguous copy beat the fused kernel on a CPU, and the weights cost nothing when asked
        # for. The first argument of baddbmm is ignored, the product scaled.
        query, key, value = projected.permute(2, 0, 3, 1, 4).reshape(
            3, batch * self.num_heads, particles, -1
        )  # each (batch * head, particle, d)
        scale = (width // self.num_heads) ** -0.5
        logits = torch.baddbmm(query.new_zeros(1), query, key.mT, beta=0, alpha=scale)
        weights = torch.softmax(logits, dim=-1)  # (batch * head, query, key)
        heads = torch.bmm(weights, value).view(batch, self.num_heads, particles, -1)
        weights = weights.view(batch, self.num_heads, particles, particles)
        if replacement is not None:
            mean = replacement[:, None, :]  # (head, 1, d)
            heads = torch.where(torch.isnan(mean), heads, mean)
        merged = heads.transpose(1, 2).reshape(batch, particles, width)
        stream = stream + self.attention_output(merged)
        hidden = functional.gelu(self.perceptron_input(self.perceptron_norm(stream)))
        return stream + self.perceptron_output(hidden), weights, heads


class ParticleTransformer(nn.Module):
    """Which displacement and velocity change does each particle undergo in one interval?

    The network takes states in physical units and answers in units of the training set's standard
    deviations, kept as buffers, so that a loss of 1 is that of always predicting the mean.

    Parameters
    ----------
    dimension : int
        2 for discs, 3 for spheres.
    width, depth, num_heads, expansion : int
        Residual width, number of blocks, heads in each, and perceptron width over `width`.

    Examples
    --------
    >>> network = ParticleTransformer(width=16, depth=1, num_heads=2)
    >>> network(torch.zeros(5, 7, 4)).shape  # (batch, particle, position and velocity)
    torch.Size([5, 7, 4])
    """

    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    def __init__(
        self,
        *,
        dimension: int = 2,
        width: int = 64,
        depth: int = 3,
        num_heads: int = 4,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.embedding = nn.Linear(2 * dimension, width)
        self.blocks = nn.ModuleList(Block(width, num_heads, expansion) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, 2 * dimension)
        for name in ("input", "output"):
            self.register_buffer(f"{name}_mean", torch.zeros(2 * dimension))
            self.register_buffer(f"{name}_scale", torch.ones(2 * dimension))

    def set_scales(self, states: Tensor, changes: Tensor) -> None:
        """Takes means and standard deviations from training data of shape (..., 2 * dimension)."""
        for name, values in (("input", states), ("output", changes)):
            flat = values.reshape(-1, values.shape[-1]).double()
            getattr(self, f"{name}_mean").copy_(flat.mean(0))
            getattr(self, f"{name}_scale").copy_(flat.std(0).clamp_min(1e-12))

    def normalised_change(self, changes: Tensor) -> Tensor:
        """Physical changes (..., 2 * dimension) in the units the network answers in."""
        return (changes - self.output_mean) / self.output_scale

    def forward(self, states: Tensor, replacement: Tensor | None = None) -> Tensor:
        """Normalised changes from states, both of shape (batch, particle, 2 * dimension).

        Rows of the replacement (layer, head, width / head) that are not NaN stand in for that
        head's output everywhere (mean ablation).
        """
        return self._run(states, replacement, None)

    def attend(self, states: Tensor, replacement: Tensor | None = None) -> tuple[Tensor, Attention]:
        """The same answer, with what every head did."""
        record: list[tuple[Tensor, Tensor]] = []
        changes = self._run(states, replacement, record)
        weights, outputs = (torch.stack(part, dim=1) for part in zip(*record, strict=True))
        return changes, Attention(weights, outputs)

    def predict(self, states: Tensor) -> Tensor:
        """The states one interval later, in physical units, same shape as `states`."""
        return states + self(states) * self.output_scale + self.output_mean

    def _run(
        self, states: Tensor, replacement: Tensor | None, record: list[tuple[Tensor, Tensor]] | None
    ) -> Tensor:
        stream = self.embedding((states - self.input_mean) / self.input_scale)
        for layer, block in enumerate(self.blocks):
            stream, weights, heads = block(
                stream, None if replacement is None else replacement[layer]
            )
            if record is not None:
                record.append((weights, heads))
        return self.readout(self.final_norm(stream))


@torch.no_grad()
def rollout(
    model: ParticleTransformer,
    positions: ArrayLike,
    velocities: ArrayLike,
    *,
    num_intervals: int,
    interval: float = 1.0,
) -> xr.Dataset:
    """Where do the particles go when the network's answer is fed back to it?

    Parameters
    ----------
    model : ParticleTransformer
    positions, velocities : array_like, shape (..., particle, axis)
    num_intervals : int
        How often the network is applied.
    interval : float
        Time one application stands for, used to label the time axis.

    Returns
    -------
    xarray.Dataset
        `positions` and `velocities` (system, time, particle, axis), the start included;
        without the system dimension for a single state.

    Raises
    ------
    InputError
        If shapes disagree with each other or with the network, or a number is not finite.

    Examples
    --------
    >>> network = ParticleTransformer(width=16, depth=1, num_heads=2)
    >>> rollout(network, np.zeros((7, 2)), np.zeros((7, 2)), num_intervals=3).sizes["time"]
    4
    """
    start = np.asarray(positions, dtype=float)
    motion = np.asarray(velocities, dtype=float)
    if start.shape != motion.shape or start.ndim < 2 or start.shape[-1] != model.dimension:
        raise InputError(
            f"positions, velocities: shapes {start.shape} and {motion.shape}; both must be "
            f"(..., particle, {model.dimension}) for this network"
        )
    if not (np.isfinite(start).all() and np.isfinite(motion).all()):
        raise InputError("positions, velocities: hold NaN or infinity; remove those systems")
    if num_intervals < 1:
        raise InputError(f"num_intervals: {num_intervals}; give at least 1")
    single = start.ndim == 2
    state = torch.from_numpy(np.concatenate([start, motion], axis=-1))
    state = state.reshape(-1, *state.shape[-2:]).to(model.input_mean)
    states = [state]
    for _ in range(num_intervals):
        states.append(model.predict(states[-1]))
    path = torch.stack(states, dim=1).cpu().numpy()  # (system, time, particle, 2 * axis)
    dims = ("system", "time", "particle", "axis")
    result = xr.Dataset(
        {
            "positions": (dims, path[..., : model.dimension]),
            "velocities": (dims, path[..., model.dimension :]),
        },
        coords={"time": np.arange(num_intervals + 1) * interval},
    )
    return result.isel(system=0) if single else result
