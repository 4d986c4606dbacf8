"""Noise: where the power law ends because the coordinate is shaken as much as it moves.

What lives here: overdamped Langevin motion in V = c |q|^n / n at temperature T, its resting state,
the fluctuations on the way there, the end of the window in which a fit sees the law, and the
temperature of minibatch noise. What does not: measurement noise of a score (`es.compare` infers
that).

    dq = -V'(q) dt + sqrt(2 T) dW,    resting state  p(q) ~ exp(-V(q) / T)

In the resting state <q V'(q)> = T (equipartition), hence <V> = T / n = T * lambda: the mean excess
loss in units of the temperature *is* the learning coefficient. With T = 1 / (n_samples * beta) this
is what `es.estimate_llc` measures.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.checks import check_numbers, check_positive, check_whole
from emergence_stats.curves.shapes import log_remaining
from emergence_stats.errors import InputError
from emergence_stats.theory.potential import EffectivePotential

Array = np.ndarray
# By which share the scatter may change the drift of the mean in a fitted window, and how large it
# may be where, at order 2, it changes nothing.
_DRIFT_CHANGE, _MOST_SCATTER = 0.05, 0.3


def resting_distribution(potential: EffectivePotential, temperature: float) -> Any:
    """How is the coordinate distributed once it has come to rest? A frozen SciPy distribution.

        p(q) = n / (2 a Gamma(1/n)) exp(-|q/a|^n),   a = (n T / c)^(1/n)

    the generalised normal distribution with shape n and scale a; normal with variance T/c at n = 2.

    Parameters
    ----------
    potential : EffectivePotential
    temperature : float
        T > 0, in units of the loss.

    Returns
    -------
    scipy.stats distribution

    Raises
    ------
    InputError
        If the temperature is not positive.

    References
    ----------
    Risken (1989), The Fokker-Planck Equation, section 5.2.

    Examples
    --------
    >>> round(float(resting_distribution(EffectivePotential(2, strength=4.0), 1.0).std()), 6)
    0.5
    """
    from scipy.stats import gennorm

    temperature = check_positive("temperature", temperature)
    scale = (potential.order * temperature / potential.strength) ** (1.0 / potential.order)
    return gennorm(potential.order, scale=scale)


def resting_spread(potential: EffectivePotential, temperature: float) -> float:
    """What is the standard deviation of the coordinate at rest?

        sd = a sqrt(Gamma(3/n) / Gamma(1/n)),   a = (n T / c)^(1/n)

    It grows as T^(1/n): the more degenerate, the less a lower temperature helps.

    References
    ----------
    Risken (1989), section 5.2; moments of the generalised normal: Nadarajah (2005), A generalized
    normal distribution, Journal of Applied Statistics 32, 685-694.

    Examples
    --------
    >>> round(resting_spread(EffectivePotential(4), 0.0001), 4)
    0.0822
    """
    n = potential.order
    temperature = check_positive("temperature", temperature)
    scale = (n * temperature / potential.strength) ** (1.0 / n)
    return scale * math.exp(0.5 * (math.lgamma(3.0 / n) - math.lgamma(1.0 / n)))


def mean_potential(potential: EffectivePotential, temperature: float) -> float:
    """What excess loss is left at rest? T / n, the temperature times the learning coefficient.

    Since <q V'> = T for every potential, and q V' = n V for this one.

    References
    ----------
    Tolman (1918), A general theory of energy partition, Physical Review 11, 261-275
    (equipartition); Watanabe (2009), Algebraic Geometry and Statistical Learning Theory (learning
    coefficient).

    Examples
    --------
    >>> mean_potential(EffectivePotential(4), 0.02)
    0.005
    """
    return check_positive("temperature", temperature) * potential.learning_coefficient


def crossover_amplitude(potential: EffectivePotential, temperature: float) -> float:
    """At which |q| does the power law meet the noise floor? Where q is the spread at rest.

    References
    ----------
    As `resting_spread`; the floor of a relaxation is where its energy is thermal.

    Examples
    --------
    >>> round(crossover_amplitude(EffectivePotential(4), 0.0001), 4)
    0.0822
    """
    return resting_spread(potential, temperature)


def crossover_time(potential: EffectivePotential, temperature: float) -> float:
    """When does the undisturbed trajectory reach the noise floor?

        t0 + tau ((q0/q*)^kappa - 1) / kappa  ~  T^(-(n-2)/n)

    and log(1/T) at n = 2. t0 where the coordinate starts on the floor. For large n shaken paths are
    on the floor long before: diffusion alone takes them there in about spread^2 / (2 T), which for
    T -> 0 is less by (Gamma(1/n) / Gamma(3/n))^(n/2) 2 / (n (n - 2)), 2 at n = 4, 17 at n = 12.

    References
    ----------
    As `crossover_amplitude`, with the closed form of `EffectivePotential`.

    Examples
    --------
    >>> round(crossover_time(EffectivePotential(4), 0.0001), 2)
    73.47
    """
    return potential.time_to_amplitude(crossover_amplitude(potential, temperature))


def fluctuation_variance(
    potential: EffectivePotential, temperature: float, t: ArrayLike
) -> np.ndarray:
    """How far do repetitions scatter about the trajectory on their way down?

        d var/dt = -2 V''(q(t)) var + 2 T,  var(t0) = 0
        var = 2 T tau (x - x^(-2(n-1)/kappa)) / (3n - 4),   x = 1 + kappa (t - t0) / tau

    and T tau (1 - exp(-2 (t - t0)/tau)) at n = 2. It holds while the scatter is small beside q. For
    n > 2 it grows without end, as restoring forces vanish: sd/q grows as x^(1/2 + 1/kappa).

    Parameters
    ----------
    potential : EffectivePotential
    temperature : float
    t : array_like

    Returns
    -------
    numpy.ndarray
        In the shape of `t`.

    References
    ----------
    van Kampen (2007), Stochastic Processes in Physics and Chemistry, chapter X (linear noise
    approximation); the integral along this trajectory is elementary.

    Examples
    --------
    >>> fluctuation_variance(EffectivePotential(4), 0.01, [0.0, 1.5]).round(6)
    array([0.      , 0.009961])
    """
    temperature = check_positive("temperature", temperature)
    elapsed = np.maximum(check_numbers("t", t) - potential.start_time, 0.0) / potential.timescale
    n, kappa = potential.order, potential.kappa
    # log(x) / kappa is minus the log of q/q0, which is exact in the limit kappa -> 0 too.
    log_q = log_remaining(elapsed, kappa)
    x = 1.0 + kappa * elapsed
    # x - x^-p = x (1 - (q/q0)^(kappa + 2(n-1))) without cancellation at early times.
    grown = x * (0.0 - np.expm1((kappa + 2.0 * (n - 1.0)) * log_q))
    return np.asarray(2.0 * temperature * potential.timescale * grown / (3.0 * n - 4.0))


def window_end(
    potential: EffectivePotential, temperature: float, share: float | None = None
) -> float:
    """When must a fitted window end: until when is the scatter below this share of q itself?

    The mean of repetitions departs from the law before their scatter shows: its drift is larger by

        (n - 1)(n - 2) / 2 * share^2

    of itself (half the third derivative times the variance, over the force). The default share is
    where that is 5%, and at most 0.3. Just beyond, a fit takes the faster end for a nearer level
    and finds too large an order; far beyond, resting paths pass for a plateau reached, and it finds
    too small a one. In simulated paths, fits with free levels up to the default's end find 3.0,
    4.1, 6.2 and 8.4 for orders 3, 4, 6 and 8 at temperature 1e-6, and 3.1, 4.2, 6.4 and 8.8 at
    1e-4, where up to a share of 0.3 order 8 passes for more than 19.

    Parameters
    ----------
    potential : EffectivePotential
    temperature : float
    share : float, optional
        Standard deviation of `fluctuation_variance` over q, between 0 and 1.

    Returns
    -------
    float
        A time, t0 at the earliest.

    Raises
    ------
    InputError
        If the share is not between 0 and 1, or the temperature not positive.

    References
    ----------
    As `fluctuation_variance`; where the linear noise approximation ends, the law does.

    Examples
    --------
    >>> potential = EffectivePotential(4)
    >>> end = window_end(potential, 1e-4)
    >>> bool(end < crossover_time(potential, 1e-4))
    True
    """
    from scipy.optimize import brentq

    if share is None:
        bend = 0.5 * (potential.order - 1.0) * potential.kappa
        share = min(_MOST_SCATTER, math.sqrt(_DRIFT_CHANGE / max(bend, 1e-12)))
    share = check_positive("share", share)
    if share >= 1.0:
        raise InputError(f"share: {share:g}; give a number between 0 and 1, such as 0.3")
    check_positive("temperature", temperature)

    # In log q, which falls from 0: the ratio rises monotonically, and the root is bracketed.
    def excess(depth: float) -> float:
        q = abs(potential.start) * math.exp(-depth)
        t = potential.time_to_amplitude(q)
        return 0.5 * math.log(float(fluctuation_variance(potential, temperature, t))) - math.log(
            share * q
        )

    low, high = 1e-12, 1e-3
    if excess(low) >= 0.0:
        return potential.start_time
    while excess(high) < 0.0:
        low, high = high, 2.0 * high
    depth = float(brentq(excess, low, high, xtol=1e-12))
    return potential.time_to_amplitude(abs(potential.start) * math.exp(-depth))


def sgd_temperature(learning_rate: float, gradient_variance: float, batch_size: int = 1) -> float:
    """At which temperature does minibatch noise shake one coordinate?

        T = eta sigma^2 / (2 B)

    One update moves q by noise of variance eta^2 sigma^2 / B in time eta, which must be 2 T eta. It
    holds for small steps, eta V'' << 1; exactly, at n = 2, the variance at rest is
    (T/c) / (1 - eta c / 2).

    Parameters
    ----------
    learning_rate : float
        eta > 0.
    gradient_variance : float
        sigma^2 > 0: variance over samples of the gradient of the loss along the coordinate.
    batch_size : int
        B >= 1, drawn with replacement or few of many.

    Raises
    ------
    InputError
        If a number is not positive.

    References
    ----------
    Mandt, Hoffman and Blei (2017), Stochastic gradient descent as approximate Bayesian inference,
    JMLR 18(134), arXiv 1704.04289.

    Examples
    --------
    >>> sgd_temperature(0.1, 4.0, batch_size=32)
    0.00625
    """
    eta = check_positive("learning_rate", learning_rate)
    variance = check_positive("gradient_variance", gradient_variance)
    return eta * variance / (2.0 * check_whole("batch_size", batch_size, 1))


def langevin_paths(
    potential: EffectivePotential,
    temperature: float,
    *,
    times: ArrayLike,
    num_paths: int,
    time_step: float,
    seed: int = 0,
) -> np.ndarray:
    """What does the shaken coordinate do, in so many repetitions?

    Euler-Maruyama with steps of at most `time_step`; error of moments of first order in it. All
    start at q0 at t0.

    Parameters
    ----------
    potential : EffectivePotential
    temperature : float
    times : array_like, shape (time,)
        Increasing, not before t0.
    num_paths : int
    time_step : float
        Well below the timescale: its product with the curvature V'' at the start, and at the
        farthest a resting path goes, must be below 2, where steps overshoot without end, and should
        be below 0.2.
    seed : int

    Returns
    -------
    numpy.ndarray, shape (time, path)

    Raises
    ------
    InputError
        If times do not increase, a number is not positive, or the time step is too large.

    References
    ----------
    Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, section
    10.2.

    Notes
    -----
    Cost: paths times the whole span over `time_step`, vectorised over paths.

    Examples
    --------
    >>> paths = langevin_paths(
    ...     EffectivePotential(2), 0.01, times=[0.0, 1.0], num_paths=500, time_step=0.01
    ... )
    >>> paths.shape, round(float(paths[1].mean()), 1)
    ((2, 500), 0.4)
    """
    temperature = check_positive("temperature", temperature)
    longest = check_positive("time_step", time_step)
    number = check_whole("num_paths", num_paths, 1)
    at = check_numbers("times", times)
    if at.ndim != 1 or at.size == 0 or (np.diff(at) <= 0).any() or at[0] < potential.start_time:
        raise InputError("times: give an increasing row, none before the potential's start_time")
    # Where V = 12 T, beyond which next to no path goes.
    reach = (12.0 * potential.order * temperature / potential.strength) ** (1.0 / potential.order)
    most = 2.0 / float(potential.curvature(max(abs(potential.start), reach)))
    if longest >= most:
        raise InputError(
            f"time_step: {longest:g} overshoots without end, as from {most:.3g} on in this "
            f"potential; give {0.1 * most:.2g} or less"
        )
    generator = np.random.default_rng(seed)
    q = np.full(number, potential.start)
    out = np.empty((at.size, number))
    now = potential.start_time
    for k, target in enumerate(at):
        steps = math.ceil((target - now) / longest - 1e-9)
        if steps > 0:
            width = (target - now) / steps
            kick = math.sqrt(2.0 * temperature * width)
            for _ in range(steps):
                q = q + width * potential.force(q) + kick * generator.standard_normal(number)
        now = target
        out[k] = q
    return out
