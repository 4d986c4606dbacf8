"""Deep linear networks leaving the saddle at zero, mode by mode.

What lives here: the growth of a mode, exponential at depth 2 and a power law in reverse beyond, how
long it stays near the saddle, and the loss of the whole network. What does not: flow towards a
minimum (`potential`, `products`), learning coefficients (`exact`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.checks import (
    broadcast,
    check_number,
    check_numbers,
    check_positive,
    check_positive_numbers,
    check_whole,
)
from emergence_stats.errors import InputError

Array = np.ndarray
# (1 + v)^m has its nearest singularity at v = -1: on [0, 1] so many Gauss nodes leave 5.8^-48.
_NODES = 24
_MOST_NEWTON_STEPS = 500


def mode_trajectory(t: ArrayLike, *, depth: int, target: ArrayLike, start: ArrayLike) -> np.ndarray:
    """How does one mode of a deep linear network grow from near zero to its target?

        loss = (w_1 w_2 ... w_L - s)^2 / 2,   balanced: all w_i = a^(1/L)
        da/dt = L a^(2 - 2/L) (s - a),   a(0) = a0,   0 < a0 < s

    With whitened inputs and layers aligned with the singular vectors of the target map, every
    singular value of the product follows this on its own, so arrays of targets give the whole
    network: one plateau and one step after the other, larger modes first. Depth 1 is the plain
    exponential; depth 2 the logistic curve a = s / (1 + (s/a0 - 1) exp(-2 s t)); beyond, the
    plateau ends by a power law in reverse (`escape_time`).

    Parameters
    ----------
    t : array_like
        Gradient-flow time, not negative. All arguments but the depth broadcast.
    depth : int
        L >= 1, layers of weights.
    target : array_like
        s > 0.
    start : array_like
        a0, the product at the start.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    InputError
        If a start is not between 0 and its target, or a time is negative.

    References
    ----------
    Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks, arXiv 1312.6120.

    Notes
    -----
    In y = log(a / (s - a)) the equation is dy/dt = L s^(2 - 2/L) (1 + exp(-y))^-(1 - 2/L), whose
    integral is a hypergeometric function below the middle and a smooth integral above it; Newton's
    method inverts it to rounding.

    Examples
    --------
    >>> mode_trajectory([0.0, 2.0, 4.0], depth=2, target=1.0, start=0.01).round(3)
    array([0.01 , 0.355, 0.968])
    >>> mode_trajectory([0.0, 2.0, 4.0], depth=3, target=1.0, start=0.01).round(3)
    array([0.01 , 0.051, 0.64 ])
    """
    number = check_whole("depth", depth, 1)
    s, a0 = _checked_growth(target, start)
    time, s, a0 = broadcast(t=check_numbers("t", t), target=s, start=a0)
    if (time < 0).any():
        raise InputError("t: must not be negative")
    if number == 1:
        return np.asarray(a0 - (s - a0) * np.expm1(-time))
    m = 1.0 - 2.0 / number
    y0 = np.log(a0) - np.log(s - a0)
    rate = number * s ** (2.0 - 2.0 / number)
    y = y0 + rate * time if m == 0.0 else _invert_progress(_progress(y0, m) + rate * time, y0, m)
    # s / (1 + e^-y), accurate at both ends.
    return np.asarray(s * np.exp(-np.logaddexp(0.0, -y)))


def escape_time(
    *, depth: int, target: ArrayLike, start: ArrayLike, fraction: float = 0.5
) -> np.ndarray:
    """How long does a mode stay near the saddle: when has it reached this fraction of its target?

    Exact, for `mode_trajectory`. For small starts it grows without bound at every depth above 1:

        depth 2:   log(s/a0 - 1) / (2 s) to the middle, exactly      (exponential escape)
        depth L:   w0^-(L-2) / ((L-2) s) to leading order, w0 = a0^(1/L)

    Parameters
    ----------
    depth : int
    target, start : array_like
        As in `mode_trajectory`; broadcast.
    fraction : float
        Between start / target and 1.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    InputError
        If the fraction is not between 0 and 1, or is reached already at the start.

    References
    ----------
    Saxe, McClelland and Ganguli (2014), arXiv 1312.6120; Jacot, Ged, Simsek, Hongler and Gabriel
    (2021), Saddle-to-saddle dynamics in deep linear networks, arXiv 2106.15933.

    Examples
    --------
    >>> escape_time(depth=2, target=1.0, start=0.01).round(4)
    np.float64(2.2976)
    >>> escape_time(depth=4, target=1.0, start=[1e-4, 1e-6]).round(1)
    array([ 49.7, 499.7])
    """
    number = check_whole("depth", depth, 1)
    s, a0 = _checked_growth(target, start)
    share = check_number("fraction", fraction)
    if not 0.0 < share < 1.0 or (a0 > share * s).any():
        raise InputError(f"fraction: {share:g}; give a number below 1 and not below start / target")
    if number == 1:
        return np.asarray(np.log((s - a0) / (s - share * s)))
    m = 1.0 - 2.0 / number
    y0, y = np.log(a0) - np.log(s - a0), np.log(share) - np.log1p(-share)
    gone = _progress(np.full(y0.shape, y), m) - _progress(y0, m)
    return np.asarray(gone / (number * s ** (2.0 - 2.0 / number)))[()]


def saddle_trajectory(t: ArrayLike, *, depth: int, target: float, start: float) -> np.ndarray:
    """What does the escape look like while the mode is small: one weight, to leading order?

        dw/dt = s w^(L-1):   w = w0 exp(s t) at L = 2,   w = w0 (1 - t/t*)^(-1/(L-2)) beyond,
        t* = w0^-(L-2) / ((L-2) s)

    The relaxation law of order L run backwards in time: away from the saddle the loss falls by s
    w^L, so the exponent 1/(L-2) of the escape tells the saddle's order as that of a relaxation
    tells the minimum's.

    Parameters
    ----------
    t : array_like
        From 0 up to t*, not included.
    depth : int
        L >= 2.
    target, start : float
        s > 0 and w0 > 0, the start of each single weight.

    Returns
    -------
    numpy.ndarray
        w(t), in the shape of `t`.

    Raises
    ------
    InputError
        If a time is negative or not before t*.

    References
    ----------
    Jacot and others (2021), arXiv 2106.15933, for the escape; Saxe and others (2014), arXiv
    1312.6120.

    Examples
    --------
    >>> saddle_trajectory([0.0, 5.0, 9.0], depth=3, target=1.0, start=0.1).round(3)
    array([0.1, 0.2, 1. ])
    """
    number = check_whole("depth", depth, 2)
    s, w0 = check_positive("target", target), check_positive("start", start)
    time = check_numbers("t", t)
    if (time < 0).any():
        raise InputError("t: must not be negative")
    kappa = number - 2
    if kappa == 0:
        if time.size and s * time.max() + math.log(w0) > 700.0:
            raise InputError(
                f"t: at {time.max():g} the mode would be beyond the range of numbers, and it is "
                "small only before it nears its target; see mode_trajectory"
            )
        return np.asarray(w0 * np.exp(s * time))
    log_blow_up = -kappa * math.log(w0) - math.log(kappa * s)
    if abs(log_blow_up) > 700.0:
        raise InputError(
            f"start: {w0:g} gives an escape time beyond the range of numbers; choose one nearer 1"
        )
    blow_up = math.exp(log_blow_up)
    if (time >= blow_up).any():
        raise InputError(f"t: {time.max():g} is not before t* = {blow_up:g}, where this form ends")
    return np.asarray(w0 * (1.0 - time / blow_up) ** (-1.0 / kappa))


def network_loss(
    t: ArrayLike, *, depth: int, singular_values: ArrayLike, start: ArrayLike
) -> np.ndarray:
    """How does the loss of a whole deep linear network fall? A staircase of saddles.

        loss(t) = sum_i (s_i - a_i(t))^2 / 2

    Parameters
    ----------
    t : array_like, shape (time,)
    depth : int
    singular_values : array_like, shape (mode,)
        Of the target map; zeros are not needed, as such modes do not grow.
    start : array_like, shape (mode,) or ()
        Product of the layers along each mode at the start.

    Returns
    -------
    numpy.ndarray, shape (time,)

    References
    ----------
    Saxe, McClelland and Ganguli (2014), arXiv 1312.6120.

    Examples
    --------
    >>> network_loss([0.0, 3.0, 60.0], depth=2, singular_values=[2.0, 0.2], start=1e-3).round(3)
    array([2.018, 0.02 , 0.   ])
    """
    s = np.atleast_1d(check_positive_numbers("singular_values", singular_values))
    time = np.atleast_1d(check_numbers("t", t))
    a = mode_trajectory(time[:, None], depth=depth, target=s, start=start)
    return np.asarray(0.5 * ((s - a) ** 2).sum(axis=-1))


def _checked_growth(target: ArrayLike, start: ArrayLike) -> tuple[Array, Array]:
    s, a0 = broadcast(
        target=check_positive_numbers("target", target),
        start=check_positive_numbers("start", start),
    )
    if not (a0 < s).all():
        raise InputError("start: must lie below the target, for growth from the saddle at zero")
    return s, a0


def _progress(y: Array, m: float) -> Array:
    """G(y), the integral of (1 + exp(-y))^m from 0 to y, for 0 <= m < 1."""
    from scipy.special import hyp2f1

    if m == 0.0:
        return np.asarray(y)
    # Above 0: y, and the integral of ((1 + v)^m - 1) / v over v from exp(-y) to 1.
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    u = np.exp(-np.maximum(y, 0.0))[..., None]
    v = u + (1.0 - u) * (0.5 + 0.5 * node)
    above = np.maximum(y, 0.0) + (0.5 * (1.0 - u) * weight * np.expm1(m * np.log1p(v)) / v).sum(
        axis=-1
    )
    # Below: minus the integral of w^(-m-1) (1 + w)^m over w from exp(y) to 1.
    w = np.exp(np.minimum(y, 0.0))

    def primitive(at: Array | float) -> Array:
        return np.asarray(-(np.asarray(at) ** -m) / m * hyp2f1(-m, -m, 1.0 - m, -np.asarray(at)))

    return np.asarray(np.where(y >= 0.0, above, -(primitive(1.0) - primitive(w))))


def _invert_progress(value: Array, y0: Array, m: float) -> Array:
    """The y >= y0 at which G is this value. G is concave, so Newton climbs and never passes it."""
    y = np.array(y0, dtype=float)
    for _ in range(_MOST_NEWTON_STEPS):
        inverse_slope = np.exp(-m * np.logaddexp(0.0, -y))
        change = (value - _progress(y, m)) * inverse_slope
        y = y + change
        # What rounding of G itself leaves, which is large after a long plateau.
        floor = 1e-14 * (1.0 + np.abs(y)) + 4e-15 * np.abs(value) * inverse_slope
        if (np.abs(change) <= floor).all():
            return y
    raise AssertionError("Newton's method did not settle")
