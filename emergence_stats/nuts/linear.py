"""Level and amplitude integrated in closed form, given everything else.

What lives here: the normal posterior of baseline a and amplitude b given a shape and the noise, and
the likelihood without them, for NumPy arrays and PyTensor variables alike. What does not: the noise
and the shape at given coordinates (`models`, `population.joint`), covariances of measured noise
(`covariance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emergence_stats.noise.beliefs import AMPLITUDE_SD, BASELINE_SD, RESOLUTION
from emergence_stats.nuts import covariance
from emergence_stats.nuts.universal import first_point, total_over_points

# NumPy arrays or PyTensor variables.
Tensor = Any

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class Noise:
    """How noise hangs together, in units of sigma.

    Attributes
    ----------
    log_sigma : shape (draw, 1), or () of PyTensor variables
    weight : shape (draw, point)
        1 / sd of each point's noise.
    decay, innovation : shape (draw, point - 1), or 0.0 and 1.0
        Correlation with the point before, and the share of variance that is new.
    log_determinant : as `log_sigma`
        Of the covariance.
    root : shape (draw, point, point), or None
        Cholesky factor of the covariance, used instead of weight and decay where there is one.
    """

    log_sigma: Tensor
    weight: Tensor
    decay: Tensor = 0.0
    innovation: Tensor = 1.0
    log_determinant: Tensor = 0.0
    root: Tensor = None


@dataclass(frozen=True)
class Linear:
    """Normal posterior of (a, b) given everything else, by two steps of elimination.

    b is normal with mean `amplitude` and sd sigma / sqrt(amplitude_precision); given b, a is normal
    with mean `baseline` - `slope` b and sd sigma / sqrt(baseline_precision). Without an amplitude
    its precision is None.
    """

    baseline: Tensor
    baseline_precision: Tensor
    left: Tensor
    slope: Tensor = 0.0
    amplitude: Tensor = 0.0
    amplitude_precision: Tensor = None

    @property
    def log_spread(self) -> Tensor:
        """Log of the posterior's volume in units of sigma."""
        total = -0.5 * np.log(self.baseline_precision)
        if self.amplitude_precision is None:
            return total
        return total - 0.5 * np.log(self.amplitude_precision)

    def values(self, log_sigma: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Baseline and amplitude from standard normal numbers a and b."""
        sigma = np.exp(log_sigma)
        amplitude = 0.0 * sigma
        if self.amplitude_precision is not None:
            amplitude = self.amplitude + sigma * b / np.sqrt(self.amplitude_precision)
        baseline = self.baseline - self.slope * amplitude
        return baseline + sigma * a / np.sqrt(self.baseline_precision), amplitude


def eliminate(y: Tensor, shape: Tensor, noise: Noise) -> Linear:
    """Whitened least squares with the priors of a and b as two more observations.

    The shape is None where there is no amplitude.
    """

    def product(x: Tensor, z: Tensor) -> Tensor:
        if isinstance(noise.decay, float):
            return total_over_points(x * z)
        new_x = x[..., 1:] - noise.decay * x[..., :-1]
        new_z = new_x if z is x else z[..., 1:] - noise.decay * z[..., :-1]
        return first_point(x * z) + total_over_points(new_x * new_z / noise.innovation)

    def scale(x: Tensor) -> Tensor:
        return x * noise.weight if noise.root is None else covariance.whiten(noise.root, x)

    variance = np.exp(2.0 * noise.log_sigma)
    one, white = scale(0.0 * y + 1.0), scale(y)
    g11 = product(one, one) + variance / BASELINE_SD**2
    h1 = product(one, white)
    left = product(white, white) - h1 * h1 / g11 + RESOLUTION**2 * total_over_points(one * one)
    if shape is None:
        return Linear(h1 / g11, g11, left)
    f = scale(shape)
    g12 = product(one, f)
    slope = g12 / g11
    precision = product(f, f) + variance / AMPLITUDE_SD**2 - slope * g12
    h2 = product(f, white) - slope * h1
    return Linear(h1 / g11, g11, left - h2 * h2 / precision, slope, h2 / precision, precision)


def log_likelihood(linear: Linear, noise: Noise, num_points: Tensor) -> Tensor:
    """Log density of a curve under normal noise, a and b integrated out."""
    num_linear, log_prior_sd = 1, np.log(BASELINE_SD)
    if linear.amplitude_precision is not None:
        num_linear, log_prior_sd = 2, log_prior_sd + np.log(AMPLITUDE_SD)
    return (
        linear.log_spread
        - log_prior_sd
        - (num_points - num_linear) * noise.log_sigma
        - 0.5 * noise.log_determinant
        - 0.5 * linear.left * np.exp(-2.0 * noise.log_sigma)
        - 0.5 * num_points * LOG_2PI
    )


def log_prior(a: Tensor, b: Tensor | None) -> Tensor:
    """Log prior density of baseline and amplitude."""
    total = -0.5 * (a / BASELINE_SD) ** 2 - np.log(BASELINE_SD) - 0.5 * LOG_2PI
    if b is None:
        return total
    return total - 0.5 * (b / AMPLITUDE_SD) ** 2 - np.log(AMPLITUDE_SD) - 0.5 * LOG_2PI
