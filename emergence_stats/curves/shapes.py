"""What curves look like: the fraction of the way from baseline to plateau, as plain functions.

What lives here: the relaxation law, its times, and the shape of every other family. What does not:
which shapes are compared, their priors and their meaning (`families`).

The shapes that families use (`exponential_shape` to `with_decline`) are written with universal
functions and operators only, so that they take NumPy arrays and PyTensor variables alike, and all
arguments broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.curves.flow import flow_share, read_clock
from emergence_stats.errors import InputError

Array = np.ndarray
# NumPy arrays or PyTensor variables.
Tensor = Any
Shape = Callable[..., Any]
# Stands for zero where a logarithm is taken.
TINY = 1e-300


def relaxation(
    t: ArrayLike,
    *,
    onset: ArrayLike,
    timescale: ArrayLike,
    kappa: ArrayLike,
    takeoff: ArrayLike = 0.0,
    baseline: ArrayLike = 0.0,
    amplitude: ArrayLike = 1.0,
) -> np.ndarray:
    """What score does a coordinate show that leaves a saddle and arrives in a degenerate minimum?

    y(t) = a + b s(t),  tau ds/dt = s^takeoff (1 - s)^(1 + kappa). With takeoff 0 it begins at t0:
    1 - s = (1 + kappa (t - t0) / tau)^(-1/kappa), which for kappa -> 0 is exp(-(t - t0) / tau).

    Parameters
    ----------
    t : array_like
        Time, in steps. All arguments broadcast.
    onset : array_like
        Step t0 at which the tangent at the steepest point leaves the baseline; without a take-off
        that is where the relaxation begins.
    timescale : array_like
        tau > 0, in steps: the initial rate of relaxation is 1/tau.
    kappa : array_like
        kappa >= 0, dimensionless: order of the minimum minus 2. 0 is the exponential.
    takeoff : array_like
        Between 0 and 2: 0 begins with a kink, below 1 at a definite step, 1 exponentially, beyond
        hyperbolically. A mode of a deep linear network of L layers has 2 - 2/L.
    baseline, amplitude : array_like
        a and b, in the units of the score; b < 0 falls.

    Returns
    -------
    numpy.ndarray
        The broadcast shape of all arguments.

    Raises
    ------
    InputError
        If a timescale is not positive, a kappa is negative, a take-off beyond its range, or
        something is not finite.

    Examples
    --------
    >>> relaxation([0.0, 10.0, 20.0], onset=10.0, timescale=10.0, kappa=1.0)
    array([0. , 0. , 0.5])
    >>> relaxation([0.0, 20.0, 40.0], onset=0.0, timescale=10.0, kappa=0.0, takeoff=1.0).round(3)
    array([0.119, 0.5  , 0.881])
    """
    time, t0, tau, kap, leaves, a, b = (
        np.asarray(value, dtype=float)
        for value in (t, onset, timescale, kappa, takeoff, baseline, amplitude)
    )
    for name, value in (("t", time), ("onset", t0), ("baseline", a), ("amplitude", b)):
        _check(name, value, np.isfinite(value), "must be finite")
    _check("timescale", tau, np.isfinite(tau) & (tau > 0), "must be positive (steps)")
    _check("kappa", kap, np.isfinite(kap) & (kap >= 0), "must be zero or positive (order minus 2)")
    _check("takeoff", leaves, (leaves >= 0) & (leaves <= 2), "must be between 0 and 2")
    if not leaves.any():
        return np.asarray(a + b * _completed(np.maximum(time - t0, 0.0) / tau, kap))
    _, unit = read_clock([], leaves, kap)
    return np.asarray(a + b * flow_share((time - t0) / (tau * unit), leaves, kap))


def _check(name: str, value: Array, good: Array, demand: str) -> None:
    if not np.all(good):
        worst = np.atleast_1d(value)[~np.atleast_1d(good)][0]
        raise InputError(f"{name}: {worst} {demand}")


def log_remaining(elapsed: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    """log(q/q0) at `elapsed` timescales after the onset; exact to rounding for every kappa >= 0.

    Examples
    --------
    >>> log_remaining(3.0, [0.0, 1.0]).round(6)
    array([-3.      , -1.386294])
    """
    e, kap = np.asarray(elapsed, dtype=float), np.asarray(kappa, dtype=float)
    # log1p(x)/kappa keeps full relative accuracy down to the smallest normal kappa; below that
    # the exponential is its limit to far less than rounding.
    tiny = kap < 1e-300
    safe = np.where(tiny, 1.0, kap)
    return np.asarray(np.where(tiny, -e, -np.log1p(safe * e) / safe))


def _completed(elapsed: Array, kappa: Array) -> Array:
    """1 - q/q0; expm1 keeps small rises accurate."""
    return -np.expm1(log_remaining(elapsed, kappa))


def timescale_from_half_time(half_time: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    """Which timescale tau makes half of the amplitude arrive `half_time` steps after the onset?

    tau = T kappa / (2^kappa - 1), and T / log 2 at kappa = 0.

    Examples
    --------
    >>> timescale_from_half_time(10.0, 1.0)
    array(10.)
    """
    kap = np.asarray(kappa, dtype=float)
    tiny = kap < 1e-300
    safe = np.where(tiny, 1.0, kap)
    ratio = np.where(tiny, 1.0 / np.log(2.0), safe / np.expm1(safe * np.log(2.0)))
    return np.asarray(np.asarray(half_time, dtype=float) * ratio)


def time_to_fraction(fraction: float, half_time: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    """How many steps after the onset is `fraction` of the amplitude reached?

    t = tau ((1 - fraction)^(-kappa) - 1) / kappa.

    Examples
    --------
    >>> time_to_fraction(0.5, 10.0, 3.0).round(9)
    np.float64(10.0)
    """
    tau = timescale_from_half_time(half_time, kappa)
    return np.asarray(tau * elapsed_to_remaining(np.log1p(-fraction), kappa))


def elapsed_to_remaining(log_share: ArrayLike, kappa: ArrayLike) -> np.ndarray:
    """How many timescales after the onset is log(q/q0) this? The inverse of `log_remaining`.

    Examples
    --------
    >>> elapsed_to_remaining(np.log(0.25), [0.0, 1.0]).round(6)
    array([1.386294, 3.      ])
    """
    kap, rate = np.asarray(kappa, dtype=float), -np.asarray(log_share, dtype=float)
    tiny = kap < 1e-300
    safe = np.where(tiny, 1.0, kap)
    # Clipped so that absurd orders give a huge number instead of overflowing.
    powered = np.expm1(np.minimum(safe * rate, 600.0)) / safe
    return np.asarray(np.where(tiny, rate, powered))


def positive_part(x: Tensor) -> Tensor:
    """The larger of x and 0.

    Examples
    --------
    >>> positive_part(np.array([-2.0, 3.0]))
    array([0., 3.])
    """
    return 0.5 * (x + abs(x))


def gradual_exponential_shape(
    step: Tensor, onset: Tensor, half_time: Tensor, takeoff: Tensor
) -> Tensor:
    """The flow ds/dt = s^a (1 - s): it leaves a saddle and arrives exponentially.

    The onset is where the tangent at the steepest point leaves 0. a = 0 is `exponential_shape`,
    a = 1 `logistic_shape`.

    Examples
    --------
    >>> gradual_exponential_shape(np.array([0.0, 10.0, 20.0]), 0.0, 10.0, 1.0).round(3)
    array([0.119, 0.5  , 0.881])
    """
    return _flow(step, onset, half_time, takeoff, 0.0)


def gradual_power_law_shape(
    step: Tensor, onset: Tensor, half_time: Tensor, kappa: Tensor, takeoff: Tensor
) -> Tensor:
    """The flow ds/dt = s^a (1 - s)^(1 + kappa): it leaves a saddle and arrives along a power law.

    The onset is where the tangent at the steepest point leaves 0. a = 0 is `power_law_shape`.

    Examples
    --------
    >>> gradual_power_law_shape(np.array([0.0, 10.0, 30.0]), 0.0, 10.0, 1.0, 1.0).round(3)
    array([0.074, 0.5  , 0.859])
    """
    return _flow(step, onset, half_time, takeoff, kappa)


def _flow(step: Tensor, onset: Tensor, half_time: Tensor, takeoff: Tensor, kappa: Tensor) -> Tensor:
    u = (step - onset) / half_time
    if isinstance(u, np.ndarray | np.generic | float):
        return flow_share(u, takeoff, kappa)
    from emergence_stats.curves.flow_op import flow_share_of_tensors

    return flow_share_of_tensors(u, takeoff, kappa)


def exponential_shape(step: Tensor, onset: Tensor, half_time: Tensor) -> Tensor:
    """1 - 2^(-e/T), e steps after the onset.

    Examples
    --------
    >>> exponential_shape(np.array([0.0, 10.0, 20.0]), 0.0, 10.0).round(6)
    array([0.  , 0.5 , 0.75])
    """
    return -np.expm1(positive_part(step - onset) * (-np.log(2.0) / half_time))


def power_law_shape(step: Tensor, onset: Tensor, half_time: Tensor, kappa: Tensor) -> Tensor:
    """1 - (1 + (2^kappa - 1) e/T)^(-1/kappa), kappa > 0, e steps after the onset.

    Examples
    --------
    >>> power_law_shape(np.array([0.0, 10.0, 30.0]), 0.0, 10.0, 1.0).round(6)
    array([0.  , 0.5 , 0.75])
    """
    rate = np.expm1(kappa * np.log(2.0)) / half_time
    return -np.expm1(np.log1p(positive_part(step - onset) * rate) / -kappa)


def stretched_exponential_shape(
    step: Tensor, onset: Tensor, half_time: Tensor, stretch: Tensor
) -> Tensor:
    """1 - 2^(-(e/T)^beta), e steps after the onset (Kohlrausch); above beta = 1 it starts gently.

    Examples
    --------
    >>> stretched_exponential_shape(np.array([0.0, 10.0, 40.0]), 0.0, 10.0, 0.5).round(6)
    array([0.  , 0.5 , 0.75])
    """
    elapsed = np.log(positive_part(step - onset) / half_time + TINY)
    return -np.expm1(-np.log(2.0) * np.exp(stretch * elapsed))


def logistic_shape(step: Tensor, onset: Tensor, half_time: Tensor) -> Tensor:
    """Logistic in step; the onset is where the tangent at half height leaves the baseline.

    Examples
    --------
    >>> logistic_shape(np.array([10.0, 20.0]), 10.0, 10.0).round(3)
    array([0.119, 0.5  ])
    """
    return 0.5 + 0.5 * np.tanh((step - onset) / half_time - 1.0)


def logistic_log_shape(step: Tensor, onset: Tensor, half_time: Tensor) -> Tensor:
    """Logistic in log step (Hill's function); the onset by the tangent, as in `logistic_shape`.

    Examples
    --------
    >>> logistic_log_shape(np.array([0.0, 10.0, 20.0]), 10.0, 10.0).round(3)
    array([0.   , 0.119, 0.5  ])
    """
    start = np.log(onset + TINY)
    return 0.5 + 0.5 * np.tanh(
        (np.log(step + TINY) - start) / (np.log(onset + TINY + half_time) - start) - 1.0
    )


def growth_shape(step: Tensor, onset: Tensor, growth: Tensor, reference: Tensor) -> Tensor:
    """(e/s)^p, e steps after the onset: growth without a plateau, 1 at s steps after it.

    Examples
    --------
    >>> growth_shape(np.array([0.0, 10.0, 40.0]), 0.0, 0.5, 40.0).round(6)
    array([0. , 0.5, 1. ])
    """
    elapsed = positive_part(step - onset) / reference
    return np.exp(growth * np.log(elapsed + TINY))


def level_change_shape(step: Tensor, onset: Tensor) -> Tensor:
    """0 up to the onset, 1 after it.

    Examples
    --------
    >>> level_change_shape(np.array([0.0, 10.0, 20.0]), 10.0)
    array([0., 0., 1.])
    """
    return 1.0 * (step > onset)


def slope_change_shape(step: Tensor, onset: Tensor, reference: Tensor) -> Tensor:
    """e/s, e steps after the onset: a line that starts there, 1 at s steps after it.

    Examples
    --------
    >>> slope_change_shape(np.array([0.0, 10.0, 40.0]), 0.0, 40.0)
    array([0.  , 0.25, 1.  ])
    """
    return positive_part(step - onset) / reference


def two_exponentials_shape(
    step: Tensor, onset: Tensor, fast_half_time: Tensor, slowdown: Tensor, share: Tensor
) -> Tensor:
    """A share w relaxes with half-time T, the rest r times more slowly: a power law's mimic.

    Examples
    --------
    >>> two_exponentials_shape(np.array([0.0, 10.0]), 0.0, 10.0, 4.0, 1.0)
    array([0. , 0.5])
    """
    decayed = positive_part(step - onset) * (-np.log(2.0) / fast_half_time)
    return -share * np.expm1(decayed) - (1.0 - share) * np.expm1(decayed / slowdown)


def with_decline(shape: Shape) -> Shape:
    """The same shape, losing what was gained: half of it `decline_time` steps after the onset.

    The factor is 1/(1 + e/D), gentle enough for declines that show on a logarithmic axis only.

    Examples
    --------
    >>> declining = with_decline(exponential_shape)
    >>> declining(np.array([0.0, 10.0, 1000.0]), 0.0, 1.0, 1000.0).round(3)
    array([0.   , 0.989, 0.5  ])
    """

    def declining(step: Tensor, onset: Tensor, *parameters: Tensor) -> Tensor:
        *others, decline_time = parameters
        lost = 1.0 + positive_part(step - onset) / decline_time
        return shape(step, onset, *others) / lost

    return declining
