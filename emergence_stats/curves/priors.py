"""What is believed of a curve's onset, timescale and order before the data.

What lives here: the kinds of prior, and the axis on which a curve was measured, which is all they
may know of it. What does not: which parameter has which (`families`), and the priors on level,
amplitude and noise (`noise.beliefs`).

A parameter is a smooth increasing function of a coordinate z on the whole real line, so that the
integration meets no boundary; only the onset has its own bounded axis. Priors are set by the steps
at which the curve was measured, and never by how well anything fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from emergence_stats.data.arrays import CurveArrays

Array = np.ndarray

# On which axis an onset is uniform: that of log step, or of step.
STEP_PRIORS = ("log", "linear")
# NumPy arrays or PyTensor variables.
Tensor = Any


@dataclass(frozen=True)
class StepAxis:
    """What priors may know of a curve: where it was measured. One entry a curve.

    Attributes
    ----------
    first, last : ndarray, shape (curve,)
        The first and last step.
    shortest_gap : ndarray, shape (curve,)
        The smallest distance between neighbouring steps.
    offset : ndarray, shape (curve,)
        Added to a step before its logarithm is taken: the second step where the first is 0,
        so that step 0 has a place on the axis, and 0 otherwise.
    logarithmic : bool
        Whether the onset is equally likely in equal ratios of steps, or in equal differences.
    """

    first: Array
    last: Array
    shortest_gap: Array
    offset: Array
    logarithmic: bool

    @classmethod
    def along(cls, step: Array, logarithmic: bool) -> StepAxis:
        """That of one curve, measured at these steps; its entries are numbers.

        Examples
        --------
        >>> axis = StepAxis.along(np.array([1.0, 4.0, 100.0]), logarithmic=True)
        >>> axis.position_to_step(0.5)
        np.float64(10.0)
        """
        offset = step[1] if step[0] == 0.0 else 0.0 * step[0]
        return cls(step[0], step[-1], np.diff(step).min(), offset, logarithmic)

    @property
    def length(self) -> Array:
        """How long the axis is, in steps or in natural logarithm of the step."""
        if not self.logarithmic:
            return self.span
        return np.log(self.last + self.offset) - np.log(self.first + self.offset)

    @property
    def span(self) -> Array:
        """Last minus first step."""
        return self.last - self.first

    def take(self, index: Array) -> StepAxis:
        """The same for chosen curves."""
        return StepAxis(
            self.first[index],
            self.last[index],
            self.shortest_gap[index],
            self.offset[index],
            self.logarithmic,
        )

    def position_to_step(self, position: Array) -> Array:
        """The step at a share (0 to 1) of the onset axis."""
        if not self.logarithmic:
            return self.first + position * self.span
        low = np.log(self.first + self.offset)
        step = np.exp(low + position * self.length) - self.offset
        return np.clip(step, self.first, self.last)

    def step_to_position(self, step: Array) -> Array:
        """The share of the onset axis that lies before a step."""
        if not self.logarithmic:
            return (step - self.first) / self.span
        return (np.log(step + self.offset) - np.log(self.first + self.offset)) / self.length

    def step_density(self, step: Array) -> Array:
        """Prior density of the onset, per step."""
        if not self.logarithmic:
            return np.ones_like(step) / self.span
        return 1.0 / ((step + self.offset) * self.length)


def step_axis(curves: CurveArrays, step_prior: str) -> StepAxis:
    """What the priors may know of the curves' steps."""
    rows = np.arange(curves.num_points.size)
    first, last = curves.step[:, 0], curves.step[rows, curves.num_points - 1]
    gaps = np.diff(curves.step, axis=1)
    gaps[np.arange(gaps.shape[1])[None] >= (curves.num_points - 1)[:, None]] = np.inf
    offset = np.where(first == 0.0, curves.step[:, 1], 0.0)
    return StepAxis(first, last, gaps.min(axis=1), offset, step_prior == "log")


class Prior(Protocol):
    """What is believed of one parameter: a value for each real z, and the density of z."""

    # Whether it has a coordinate; not so where the parameter is known beforehand.
    free: ClassVar[bool]

    def value(self, z: Any, axis: StepAxis) -> Any:
        """The parameter at coordinate z; smooth and increasing."""
        ...

    def log_density(self, z: Array) -> Array:
        """Log prior density of z, normalised over the real line."""
        ...

    def quantile(self, share: Array) -> Array:
        """The z below which `share` of the prior lies."""
        ...


@dataclass(frozen=True)
class UniformOnset:
    """Uniform on the axis that `StepAxis` describes; see `families.ONSET`.

    The one prior whose coordinate is not the real line but the share, 0 to 1, of the axis.
    """

    free: ClassVar[bool] = True

    def value(self, z: Array, axis: StepAxis) -> Array:
        """The coordinate z is the position along the axis."""
        return axis.position_to_step(z)

    def log_density(self, z: Array) -> Array:
        """Zero on the axis."""
        return np.zeros_like(z)

    def quantile(self, share: Array) -> Array:
        """The share itself."""
        return share


class _StandardNormal:
    """What the priors with a standard normal coordinate share."""

    free: ClassVar[bool] = True

    def log_density(self, z: Tensor) -> Tensor:
        """Standard normal."""
        return -0.5 * z * z - 0.5 * np.log(2.0 * np.pi)

    def quantile(self, share: Array) -> Array:
        """Standard normal."""
        from scipy.special import ndtri

        return ndtri(share)


@dataclass(frozen=True)
class SpanLogNormal(_StandardNormal):
    """Log-normal, nine tenths between a tenth of the shortest gap and the whole span of the steps.

    So a rise may well be over between two checkpoints, and an onset lie anywhere between them.
    """

    def value(self, z: Tensor, axis: StepAxis) -> Tensor:
        """The coordinate z is the standardised logarithm."""
        low, high = np.log(0.1 * axis.shortest_gap), np.log(axis.span)
        return np.exp(0.5 * (low + high) + (high - low) / 3.29 * z)


@dataclass(frozen=True)
class SpanShare(_StandardNormal):
    """Log-normal, its median a multiple of the span of the steps, its sd in natural logarithm."""

    median: float
    spread: float

    def value(self, z: Tensor, axis: StepAxis) -> Tensor:
        """The coordinate z is the standardised logarithm."""
        return np.exp(np.log(self.median * axis.span) + self.spread * z)


@dataclass(frozen=True)
class LogNormal(_StandardNormal):
    """Log-normal above an offset: median above it, and sd in natural logarithm."""

    median: float
    spread: float
    offset: float = 0.0

    def value(self, z: Tensor, axis: StepAxis) -> Tensor:
        """The coordinate z is the standardised logarithm of what exceeds the offset."""
        return self.offset + self.median * np.exp(self.spread * z)


@dataclass(frozen=True)
class Uniform:
    """Between 0 and an upper end: a uniform share of it, or a power of that, gathered at 0."""

    upper: float = 1.0
    power: float = 1.0
    free: ClassVar[bool] = True

    def value(self, z: Tensor, axis: StepAxis) -> Tensor:
        """The coordinate z is the log odds of the share."""
        return self.upper * (0.5 + 0.5 * np.tanh(0.5 * z)) ** self.power

    def log_density(self, z: Tensor) -> Tensor:
        """Standard logistic."""
        return -abs(z) - 2.0 * np.log1p(np.exp(-abs(z)))

    def quantile(self, share: Array) -> Array:
        """Standard logistic."""
        return np.log(share) - np.log1p(-share)


@dataclass(frozen=True)
class HalfNormal:
    """Positive, with finite density at zero, so that a point null at zero can be tested."""

    scale: float
    free: ClassVar[bool] = True

    def value(self, z: Tensor, axis: StepAxis) -> Tensor:
        """The coordinate z is the logarithm."""
        return np.exp(z)

    def log_density(self, z: Tensor) -> Tensor:
        """Half-normal density of exp(z), times exp(z)."""
        return (
            0.5 * np.log(2.0 / np.pi) - np.log(self.scale) - 0.5 * (np.exp(z) / self.scale) ** 2 + z
        )

    def quantile(self, share: Array) -> Array:
        """Logarithm of the half-normal quantile."""
        from scipy.special import ndtri

        return np.log(self.scale * ndtri(0.5 + 0.5 * share))


@dataclass(frozen=True)
class Span:
    """Not unknown at all: the span of the steps."""

    free: ClassVar[bool] = False

    def value(self, z: Array, axis: StepAxis) -> Array:
        """The span; z is not used."""
        return axis.span

    def log_density(self, z: Array) -> Array:
        """There is nothing to have a density."""
        raise NotImplementedError("the span of the steps has no coordinate")

    quantile = log_density
