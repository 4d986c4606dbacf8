"""What is believed of a curve's levels and noise before the data: the one page every form reads.

What lives here: constants, and densities that take numbers in compiled kernels, NumPy arrays and
PyTensor variables alike. What does not: likelihoods (`quadrature`, `segmentation`, `online`,
`nuts`, `population`), and beliefs about onset, timescale and order (`curves.priors`).

In units where the expected range of the curve is 1 and its middle 0,

    y_i = a + b f_i + e_i,    a ~ Normal(0, BASELINE_SD),   b ~ Normal(0, AMPLITUDE_SD)

*Noise of one part*, where no standard deviations of the measurement are known:

    e stationary, sd sigma, correlation rho over a typical gap (or 0)
    sigma sqrt(1 - rho^2) ~ half-Cauchy of scale NOISE_SCALE
    rho uniform on (0, 1)

Noise is what returns: what is new from point to point has one prior whatever the correlation, and a
correlation of more than 0.99, which lets noise drift away as a rise does, has a prior probability
of a hundredth, so that the data have to show it.

*Measured noise*, where they are known, has two parts, what the measurement adds and how the run
wanders, and one factor by which all sd are misstated:

    e_i = s (m_i + x_i),    m_i ~ Normal(0, sd_i), independent
    x stationary, sd t, correlation rho
    t sqrt(1 - rho^2) ~ half-Cauchy of scale the root mean square of sd
    log s ~ hyperbolic secant of width FACTOR_WIDTH

The logarithm of a half-Cauchy variable over its scale is hyperbolic secant, too. Inner loops of
`quadrature` have these densities fused with others, in the same constants. Compiled kernels are
kept on disk with constants in them, and compiled anew when this page changes (`compiling`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

# Kinds of noise that have a quadrature, and those that have to be sampled.
NOISES = ("ar1", "independent", "ou", "ou_log")
SAMPLED_NOISES = ("proportional", "student_t")
CORRELATED = ("ar1", "ou", "ou_log")

# Numbers, NumPy arrays or PyTensor variables.
Tensor = Any

# Of level and amplitude; of the level of one segment among several, or a line's values at its ends;
# of an online line's slope, over the gap after its first point, of its own or joined to another.
BASELINE_SD = 1.0
AMPLITUDE_SD = 2.0
LEVEL_SD = 0.5
SLOPE_SD = 0.25
JOINED_SLOPE_SD = 0.1

NOISE_SCALE = 0.05
FACTOR_WIDTH = 0.25
# Nothing is taken to be measured more finely than this share of its range: noiseless and constant
# curves then have finite evidence.
RESOLUTION = 1e-6
# Heavy tails: log((degrees - 1) / this) is standard normal.
DEGREES_MEDIAN = 4.0

# How far fixed grids reach: log odds of rho, from the least where 0 has no point of its own; the
# wandering beside measured noise and the size of what is new, in ranges; a factor of all sd.
LEAST_ODDS = -8.0
LARGEST_ODDS = 12.0
LARGEST_WANDER = 100.0
LEAST_SIZE, LARGEST_SIZE = RESOLUTION, 10.0
LARGEST_FACTOR = 3.0
# Where every point must be cheap: sizes of what is new, and values of rho with
# the share of each, that of the last more than the prior's, lest a random walk raise an alarm.
ONLINE_SIZES = np.geomspace(5e-4, 0.6, 24)
ONLINE_CORRELATIONS = ((0.15, 0.27), (0.45, 0.27), (0.7, 0.2), (0.89, 0.16), (0.985, 0.1))

_LOG_TWO_OVER_PI = float(np.log(2.0 / np.pi))
_LOG_NOISE_SCALE = float(np.log(NOISE_SCALE))
_LOG_FACTOR_WIDTH = float(np.log(FACTOR_WIDTH))


@register_jitable
def log_sech(x: Tensor) -> Tensor:
    """Log density of the standard hyperbolic secant: the log of a standard half-Cauchy variable.

    Examples
    --------
    >>> x = np.linspace(-40.0, 40.0, 8001)
    >>> round(float(np.exp(log_sech(x)).sum() * 0.01), 6)
    1.0
    """
    return _LOG_TWO_OVER_PI - abs(x) - np.log1p(np.exp(-2.0 * abs(x)))


@register_jitable
def log_prior_size(log_size: Tensor) -> Tensor:
    """Log density of the log of what is new from point to point: log(sigma sqrt(1 - rho^2))."""
    return log_sech(log_size - _LOG_NOISE_SCALE)


@register_jitable
def log_prior_factor(log_factor: Tensor) -> Tensor:
    """Log density of log s, the factor of all measured sd."""
    return log_sech(log_factor / FACTOR_WIDTH) - _LOG_FACTOR_WIDTH


@register_jitable
def log_prior_wander(fresh: Tensor, scale: Tensor) -> Tensor:
    """Log density of t sqrt(1 - rho^2), what is new of the wandering beside measured noise."""
    ratio = fresh / scale
    return _LOG_TWO_OVER_PI - np.log(scale) - np.log1p(ratio * ratio)


@register_jitable
def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))), without overflow.

    Examples
    --------
    >>> log_sigmoid(np.array([-1000.0, 0.0])).round(3)
    array([-1.e+03, -6.93e-01])
    """
    return 0.5 * (x - abs(x)) - np.log1p(np.exp(-abs(x)))


@register_jitable
def log_correlation(odds: Tensor) -> tuple[Tensor, Tensor]:
    """Log of rho at these log odds, and of 1 - rho^2 without cancellation where rho is near 1."""
    log_rho = log_sigmoid(odds)
    return log_rho, log_sigmoid(-odds) + np.log1p(np.exp(log_rho))


@register_jitable
def log_prior_odds(odds: Tensor) -> Tensor:
    """Log density of the log odds of rho; d rho / d odds = rho (1 - rho)."""
    return log_sigmoid(odds) + log_sigmoid(-odds)


def half_cauchy_at(share: Tensor) -> Tensor:
    """The standard half-Cauchy value below which a share lies; its log is hyperbolic secant."""
    return np.tan(0.5 * np.pi * share)
