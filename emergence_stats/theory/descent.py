"""Gradient descent beside gradient flow: what the learning rate and its schedule change.

What lives here: descent in the effective potential, how far it is ahead of the flow, how large a
learning rate may be and how much it matters, and the exponent that a schedule makes appear against
steps. What does not: converting steps to time (`gradient_time`), noise of minibatches (`noise`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.checks import check_number, check_numbers
from emergence_stats.errors import InputError
from emergence_stats.theory.potential import EffectivePotential


def gradient_descent(
    potential: EffectivePotential, learning_rates: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Where does gradient descent, not flow, stand after each update?

        q_(s+1) = q_s - eta_s V'(q_s)

    Parameters
    ----------
    potential : EffectivePotential
        Its start is q_0; its start time is step 0.
    learning_rates : array_like, shape (update,)
        Positive.

    Returns
    -------
    numpy.ndarray, shape (update + 1,)

    Raises
    ------
    InputError
        If a rate is not above zero, or so large that the coordinate runs away.

    References
    ----------
    Cauchy's gradient descent; compared with the flow in Barrett and Dherin (2021), Implicit
    gradient regularization, arXiv 2009.11162.

    Examples
    --------
    >>> gradient_descent(EffectivePotential(3), [0.5, 0.5])
    array([1.   , 0.5  , 0.375])
    """
    rates = np.atleast_1d(check_numbers("learning_rates", learning_rates))
    if rates.ndim != 1 or not (rates > 0).all():
        raise InputError("learning_rates: give a row of positive numbers, one an update")
    q = np.empty(rates.size + 1)
    q[0] = potential.start
    limit = abs(potential.start)
    for s, rate in enumerate(rates):
        q[s + 1] = q[s] * (1.0 - rate * potential.strength * abs(q[s]) ** potential.kappa)
        if abs(q[s + 1]) > limit * (1 + 1e-12):
            raise InputError(
                f"learning_rates: at {rate:g} update {s} leads away from the minimum; stay below "
                f"{largest_learning_rate(potential):g}"
            )
    return q


def largest_learning_rate(potential: EffectivePotential) -> float:
    """Below which constant learning rate does gradient descent approach the minimum at all?

        eta < 2 tau,  tau = 1 / (c |q0|^(n-2))

    since |q - eta V'(q)| < |q| needs eta c |q|^(n-2) < 2, hardest at the start; up to tau it does
    not overshoot. For n > 2 the usual 2 / V''(q0) would be n - 1 times too strict.

    References
    ----------
    Derived from the update; at n = 2 the classical bound (Nesterov 2004, Introductory Lectures on
    Convex Optimization, section 2.1.5).

    Examples
    --------
    >>> largest_learning_rate(EffectivePotential(4, start=0.5))
    8.0
    """
    return 2.0 * potential.timescale


def descent_lead(potential: EffectivePotential, fraction: float) -> float:
    """By how many updates is gradient descent ahead of gradient flow at this fraction of the way?

        lead = (n - 1)/2 * log(q0 / q) = -(n - 1)/2 * log(1 - fraction)

    to first order in the learning rate. Descent at rate eta follows the flow of V + (eta/4) V'^2,
    which shortens the time by (eta/2) times the integral of V''/V' dq; counted in updates, the rate
    cancels: halving the learning rate does not shorten the lead, it only makes it a smaller share.

    Parameters
    ----------
    potential : EffectivePotential
    fraction : float
        0 up to, not including, 1.

    References
    ----------
    Barrett and Dherin (2021), Implicit gradient regularization, arXiv 2009.11162, for the modified
    potential; the integral is elementary.

    Examples
    --------
    >>> round(descent_lead(EffectivePotential(4), 0.9), 3)
    3.454
    """
    share = check_number("fraction", fraction)
    if not 0.0 <= share < 1.0:
        raise InputError(f"fraction: {share:g}; give at least 0 and less than 1")
    return float(-0.5 * (potential.order - 1.0) * np.log1p(-share))


def learning_rate_sensitivity(potential: EffectivePotential, time: ArrayLike) -> np.ndarray:
    """By what power of the learning rate does q change, at a fixed number of steps?

        d log q / d log eta = -(T / tau) / (1 + kappa x),   x = (T - t0) / tau

    after t0, and zero before. Scaling a whole schedule by a factor scales T by it; t0 stays. For
    n > 2 the answer levels off at -1/kappa: ten times the learning rate brings q down by
    10^(-1/kappa), however long one trains. At n = 2 it grows without bound.

    Parameters
    ----------
    potential : EffectivePotential
    time : array_like
        Gradient-flow time T.

    References
    ----------
    The derivative of the closed form of `EffectivePotential`.

    Examples
    --------
    >>> learning_rate_sensitivity(EffectivePotential(4), [0.0, 1.0, 1e9]).round(3)
    array([ 0.   , -0.333, -0.5  ])
    """
    time = check_numbers("time", time)
    x = (time - potential.start_time) / potential.timescale
    moved = -(time / potential.timescale) / (1.0 + potential.kappa * np.maximum(x, 0.0))
    return np.where(x > 0.0, moved, 0.0)


def exponent_in_steps(order: float, decay: float) -> float:
    """Which exponent shows against steps when the learning rate falls as step^-p?

        eta_s ~ s^-p  gives  T ~ s^(1-p)  and  q ~ s^(-(1-p)/(n-2)),   0 <= p < 1

    so a curve read against steps suggests the order n' = 2 + (n-2)/(1-p), above the true one. At
    p = 1 time grows as log s only; beyond it time is bounded and q does not reach the minimum.

    Parameters
    ----------
    order : float
        n >= 2; the exponent is infinite at 2 (a stretched exponential in steps if p > 0).
    decay : float
        p, at least 0 and below 1.

    References
    ----------
    The closed form of `EffectivePotential` at the summed learning rate.

    Examples
    --------
    >>> exponent_in_steps(4, 0.0), exponent_in_steps(4, 0.5)
    (0.5, 0.25)
    """
    p = check_number("decay", decay)
    if not 0.0 <= p < 1.0:
        raise InputError(f"decay: {p:g}; a learning rate step^-p is meant with 0 <= p < 1")
    return EffectivePotential(order).exponent * (1.0 - p)
