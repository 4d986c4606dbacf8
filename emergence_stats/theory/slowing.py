"""Critical slowing down: a quadratic term beside the degenerate one, and its scaling.

What lives here: V(q) = a q^2 / 2 + b |q|^n / n in closed form; a second-order transition is where a
passes through zero. At a = 0 it is `EffectivePotential`, whose relaxation slows down to the power
law t^(-1/kappa), t^(-1/2) in Landau's case; for small a > 0 the law lasts until a time of order 1/a
and turns exponential. With a the relaxation time grows as 1/a and the amplitude at the crossover as
a^(1/kappa), the mean-field exponents. The order about one time lies between 2 and n, and so does
that of a fit that knows where the coordinate comes to rest; one that has to find that too takes the
faster end for an approach to a nearer level, and can see an order above n (`fitted_order`). What
does not: noise (`noise`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.checks import (
    check_number,
    check_numbers,
    check_positive,
    check_whole,
)
from emergence_stats.curves.shapes import log_remaining
from emergence_stats.errors import InputError
from emergence_stats.theory.drawing import plot_slowing
from emergence_stats.theory.potential import EffectivePotential

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CriticalPotential:
    """How does a coordinate relax near a second-order transition?

        V(q) = a q^2/2 + b |q|^n / n,   dq/dt = -a q - b q |q|^(n-2),   q(0) = q0,   kappa = n - 2

        q(t) = q0 exp(-a t) (1 + (b |q0|^kappa / a)(1 - exp(-kappa a t)))^(-1/kappa)

    because |q|^-kappa follows a linear equation (Bernoulli). n = 4 is Landau's potential.

    Parameters
    ----------
    curvature : float
        a: positive before the transition, zero at it; negative beyond, where q = 0 is unstable and
        the coordinate goes to (-a/b)^(1/kappa).
    strength : float
        b > 0.
    order : float
        n > 2.
    start : float
        q0, not zero.

    Raises
    ------
    InputError
        If a number is not finite, the strength not positive, the order not above 2 or the start 0.

    References
    ----------
    Landau and Lifshitz (1980), Statistical Physics, part 1, section 143; Hohenberg and Halperin
    (1977), Theory of dynamic critical phenomena, Reviews of Modern Physics 49, 435-479; Strogatz
    (2015), Nonlinear Dynamics and Chaos, section 3.4.

    Examples
    --------
    >>> near = CriticalPotential(0.01)
    >>> near.relaxation_time, round(near.crossover_time, 2)
    (100.0, 34.16)
    >>> near.trajectory([0.0, 10.0]).round(4)
    array([1.    , 0.2069])
    """

    curvature: float
    strength: float = 1.0
    order: float = 4.0
    start: float = 1.0

    def __post_init__(self) -> None:
        order = check_number("order", self.order)
        if order <= 2.0:
            raise InputError(
                f"order: {order:g}; beside a quadratic term the other must be of order above 2"
            )
        for name, value in (
            ("curvature", check_number("curvature", self.curvature)),
            ("strength", check_positive("strength", self.strength)),
            ("order", order),
            ("start", check_number("start", self.start)),
        ):
            object.__setattr__(self, name, value)
        if self.start == 0.0:
            raise InputError("start: 0 rests there for ever; give another q0")
        _ = self.at_transition  # which refuses a timescale beyond the range of numbers

    @property
    def kappa(self) -> float:
        """Order minus 2."""
        return self.order - 2.0

    @property
    def at_transition(self) -> EffectivePotential:
        """The same potential without its quadratic term."""
        return EffectivePotential(self.order, strength=self.strength, start=self.start)

    @property
    def learning_coefficient(self) -> float:
        """1/2 where there is curvature at the minimum, 1/n at the transition only.

        A finite sample, or temperature, sees 1/n still while the thermal spread exceeds
        `crossover_amplitude`.
        """
        return 1.0 / self.order if self.curvature == 0.0 else 0.5

    @property
    def relaxation_time(self) -> float:
        """Of small deviations from the minimum: 1/a, beyond the transition 1/(kappa |a|).

        It diverges at the transition: critical slowing down.
        """
        if self.curvature == 0.0:
            return math.inf
        return 1.0 / self.curvature if self.curvature > 0 else -1.0 / (self.kappa * self.curvature)

    @property
    def crossover_amplitude(self) -> float:
        """|a/b|^(1/kappa): where both forces are equal; beyond the transition, the minimum."""
        return (abs(self.curvature) / self.strength) ** (1.0 / self.kappa)

    @property
    def crossover_time(self) -> float:
        """When does the power law turn exponential, q falling through `crossover_amplitude`?

            t* = log(2 / (1 + a / (b |q0|^kappa))) / (kappa a)

        which is log 2 / (kappa a) for small a.
        0 where the start lies below (no power law is ever seen), infinite at the transition.

        Raises
        ------
        InputError
            Beyond the transition (a < 0), where the coordinate never comes to it.
        """
        self._before("crossover_time")
        if self.curvature == 0.0:
            return math.inf
        share = self.curvature / (self.strength * abs(self.start) ** self.kappa)
        return max(0.0, -math.log1p(0.5 * (share - 1.0)) / (self.kappa * self.curvature))

    def value(self, q: ArrayLike) -> np.ndarray:
        """V(q)."""
        at = check_numbers("q", q)
        quadratic = 0.5 * self.curvature * at**2
        return np.asarray(quadratic + self.strength * np.abs(at) ** self.order / self.order)

    def force(self, q: ArrayLike) -> np.ndarray:
        """-V'(q)."""
        at = check_numbers("q", q)
        return np.asarray(-at * (self.curvature + self.strength * np.abs(at) ** self.kappa))

    def trajectory(self, t: ArrayLike) -> np.ndarray:
        """q(t) from q0 at t = 0, in the shape of `t`; q0 before.

        Written as the relaxation law at the shortened time s = (1 - exp(-kappa a t)) / (kappa a),
        so that it is exact to rounding as a -> 0.
        """
        time = np.maximum(check_numbers("t", t), 0.0)
        a, kappa = self.curvature, self.kappa
        tau = self.at_transition.timescale
        with np.errstate(over="ignore", under="ignore"):
            # q = q0 e^(-a t) (1 + kappa s / tau)^(-1/kappa), s = (1 - e^(-kappa a t)) / (kappa a).
            if a >= 0.0:
                small = kappa * a * time
                s = time * np.where(small > 0, -np.expm1(-small) / np.where(small > 0, small, 1), 1)
                log_q = -a * time + log_remaining(s / tau, kappa)
            else:
                # e^(-a t) grows, so it is taken into the bracket:
                # |q0/q|^kappa = e^(-kappa |a| t) + (1 - e^(-kappa |a| t)) / (|a| tau).
                small = -kappa * a * time
                inverse = np.exp(-small) - np.expm1(-small) / (-a * tau)
                log_q = -np.log(inverse) / kappa
            return np.asarray(self.start * np.exp(log_q))

    def apparent_order(self, t: ArrayLike) -> np.ndarray:
        """Which order does the trajectory show about time t?

            n(t) = 2 + kappa * b |q|^kappa / (a + b |q|^kappa)

        The relaxation time r = -q/(dq/dt) of a pure power law grows at the constant rate kappa;
        here at the rate dr/dt = kappa times the degenerate term's share of the force. So a curve
        begins with order n and ends with order 2.
        """
        self._before("apparent_order")
        pull = self.strength * np.abs(self.trajectory(t)) ** self.kappa
        total = self.curvature + pull
        return np.asarray(2.0 + self.kappa * pull / np.where(total > 0, total, 1.0))

    def fitted_order(
        self, window: float, *, num_points: int = 200, levels_known: bool = False
    ) -> float:
        """Which order does a least-squares fit of the power law find in the times 0 to `window`?

        The fit is of B + A (1 + kappa t / tau)^(-1/kappa) to evenly spaced points of the
        trajectory, without noise: what `es.compare` finds in a run that ends there, as it has to
        find both levels too. The bend to the exponential then passes for an approach to another
        level: at a = 0.05, n = 4 it sees 4.6 in a window of 1/a, 3.8 in one of 5/a and 3.0 in one
        of 20/a, where a fit that knows B = 0 and A = q0 sees 3.4, 3.0 and 2.8.

        Parameters
        ----------
        window : float
            Positive, and not so long that the second point is at the end of the decay.
        num_points : int
            At least 10.
        levels_known : bool
            Fix B at 0 and A at q0.

        Raises
        ------
        InputError
            If the window is not positive, or too long for so few points; beyond the transition.

        Examples
        --------
        >>> near = CriticalPotential(0.05)
        >>> round(near.fitted_order(20.0), 1), round(near.fitted_order(20.0, levels_known=True), 1)
        (4.6, 3.4)
        """
        from scipy.optimize import least_squares

        self._before("fitted_order")
        number = check_whole("num_points", num_points, 10)
        t = np.linspace(0.0, check_positive("window", window), number)
        share = self.trajectory(t) / self.start
        if share[1] < 0.05:
            raise InputError(
                f"window: {window:g} in {number} points leaves {share[1]:.2g} of the decay to the "
                "second; give a shorter window or more num_points"
            )
        first = math.log(1.0 / (self.curvature + 1.0 / self.at_transition.timescale))

        def residual(parameters: np.ndarray) -> np.ndarray:
            shape = np.exp(log_remaining(t / math.exp(parameters[0]), parameters[1]))
            if levels_known:
                return np.asarray(shape - share)
            # For each shape the levels are those of linear least squares.
            centred = shape - shape.mean()
            height = (centred @ share) / (centred @ centred)
            return np.asarray(height * centred - (share - share.mean()))

        found = [
            least_squares(
                residual,
                (first, kappa),
                bounds=([-np.inf, 0.0], [np.inf, 50.0 * self.kappa]),
                xtol=1e-12,
                ftol=1e-12,
                gtol=1e-14,
            )
            for kappa in (0.5 * self.kappa, 1.5 * self.kappa)
        ]
        return 2.0 + float(min(found, key=lambda fit: fit.cost).x[1])

    def scaled(self, t: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """The trajectory in the scaling variables, in which all a > 0 lie on one curve.

            x = a (t + t_s),   y = |q| / (a/b)^(1/kappa),   y = (exp(kappa x) - 1)^(-1/kappa)

        with the shift t_s = log(1 + a / (b |q0|^kappa)) / (kappa a) that a start at infinity would
        have needed to come down to q0.

        Returns
        -------
        tuple of numpy.ndarray
            x and y, each in the shape of `t`.
        """
        self._before("scaled")
        if self.curvature == 0.0:
            raise InputError("curvature: 0 has no scale of its own; scaling needs a > 0")
        a = self.curvature
        shift = math.log1p(a / (self.strength * abs(self.start) ** self.kappa)) / (self.kappa * a)
        x = a * (np.maximum(check_numbers("t", t), 0.0) + shift)
        return x, np.abs(self.trajectory(t)) / self.crossover_amplitude

    def plot(self) -> Figure:
        """The trajectory between its two limits, and the order it shows."""
        x = np.geomspace(1e-3, 5.0, 200)
        return plot_slowing(self, (x, scaling_function(x, self.order)))

    def _before(self, what: str) -> None:
        if self.curvature < 0.0:
            raise InputError(
                f"curvature: {self.curvature:g}; {what} describes the relaxation to q = 0, which "
                "needs a >= 0"
            )


def scaling_function(x: ArrayLike, order: float = 4.0) -> np.ndarray:
    """The one curve y(x) = (exp(kappa x) - 1)^(-1/kappa) of `CriticalPotential.scaled`.

    (kappa x)^(-1/kappa) for small x, the power law; exp(-x) for large.

    References
    ----------
    Hohenberg and Halperin (1977), Reviews of Modern Physics 49, 435-479 (dynamic scaling); mean
    field, from the closed form.

    Examples
    --------
    >>> scaling_function([0.005, 3.0]).round(3)
    array([9.975, 0.05 ])
    """
    at, kappa = check_numbers("x", x), check_number("order", order) - 2.0
    if kappa <= 0.0:
        raise InputError(f"order: {order}; must be above 2")
    if not (at > 0).all():
        raise InputError("x: must be positive")
    # As exp(-x) (1 - exp(-kappa x))^(-1/kappa), which does not overflow.
    return np.asarray(np.exp(-at - np.log(-np.expm1(-kappa * at)) / kappa))
