"""The effective potential: one coordinate, one parameter, and what follows from it.

What lives here: gradient flow in V(q) = c |q|^n / n in closed form. What does not: the relaxation
law itself, which is `emergence_stats.curves.shapes` (used here, so that theory and fits never
differ); noise (`noise`), learning-rate schedules (`gradient_time`), a quadratic term (`slowing`),
more than one coordinate (`products`, `saddles`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.checks import check_number, check_numbers, check_positive
from emergence_stats.curves.shapes import elapsed_to_remaining, log_remaining
from emergence_stats.errors import InputError
from emergence_stats.theory.drawing import plot_potential

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class EffectivePotential:
    """How does a coordinate relax in a potential of the n-th power, and how degenerate is it?

        V(q) = c |q|^n / n,   dq/dt = -V'(q) = -c q |q|^(n-2),   q(t0) = q0

        q(t) = q0 (1 + kappa (t - t0) / tau)^(-1/kappa),   kappa = n - 2,   tau = 1 / (c |q0|^kappa)

    and q0 exp(-(t - t0) / tau) at n = 2. Time is gradient-flow time, the sum of the learning rates
    (`gradient_time`). The score that shows it is `es.relaxation` with the same tau and kappa.

    Parameters
    ----------
    order : float
        n >= 2. At 2 the minimum is not degenerate; above, it has no curvature.
    strength : float
        c > 0.
    start : float
        q0, not zero; its sign is kept, as the coordinate never crosses the minimum.
    start_time : float
        t0; before it the coordinate rests at q0.

    Raises
    ------
    InputError
        If the order is below 2, a strength not positive, a start zero, or one not finite.

    References
    ----------
    Watanabe (2009), Algebraic Geometry and Statistical Learning Theory (learning coefficient);
    Hitchcock, Delaney, Manton, Scalzo and Zhu (2025), arXiv 2504.11830 (its part in emergence).

    Examples
    --------
    >>> potential = EffectivePotential(4)
    >>> potential.exponent, potential.learning_coefficient
    (0.5, 0.25)
    >>> potential.trajectory([0.0, 1.5, 12.0])
    array([1. , 0.5, 0.2])
    >>> potential.time_to(0.5)
    1.5
    """

    order: float
    strength: float = 1.0
    start: float = 1.0
    start_time: float = 0.0

    def __post_init__(self) -> None:
        order = check_number("order", self.order)
        if order < 2.0:
            raise InputError(
                f"order: {order:g}; the potential |q|^n is for n of at least 2 (exponential)"
            )
        # The checked numbers replace what was given, so that NumPy scalars print as numbers.
        for name, value in (
            ("order", order),
            ("strength", check_positive("strength", self.strength)),
            ("start", check_number("start", self.start)),
            ("start_time", check_number("start_time", self.start_time)),
        ):
            object.__setattr__(self, name, value)
        if self.start == 0.0:
            raise InputError("start: 0 is the minimum, from which nothing moves; give another q0")
        if not (0.0 < self.timescale < math.inf):
            raise InputError(
                f"strength: the timescale 1/(c |q0|^(n-2)) is {self.timescale} at order "
                f"{order:g}; choose a strength and a start nearer 1"
            )

    @classmethod
    def from_relaxation(
        cls, *, kappa: float, timescale: float, onset: float = 0.0, start: float = 1.0
    ) -> EffectivePotential:
        """Which potential makes `es.relaxation` with these parameters?

        Examples
        --------
        >>> EffectivePotential.from_relaxation(kappa=1.0, timescale=20.0, onset=100.0).strength
        0.05
        """
        kap, tau = check_number("kappa", kappa), check_positive("timescale", timescale)
        start = check_number("start", start)
        if kap < 0.0:
            raise InputError(f"kappa: {kap:g}; must be at least 0 (0 is the exponential)")
        if start and not 1e-300 < tau * math.exp(min(700.0, kap * math.log(abs(start)))) < 1e300:
            raise InputError(
                f"start: |q0|^kappa is beyond the range of numbers at {start:g} and kappa {kap:g}; "
                "choose a start nearer 1"
            )
        size = abs(start) ** kap
        return cls(
            2.0 + kap, strength=1.0 / (tau * size) if size else 1.0, start=start, start_time=onset
        )

    @property
    def kappa(self) -> float:
        """Order minus 2, the parameter of `es.relaxation`."""
        return self.order - 2.0

    @property
    def exponent(self) -> float:
        """1/(n-2), alpha: q falls as t^-alpha. Infinite at n = 2, faster than any power."""
        return math.inf if self.kappa == 0.0 else 1.0 / self.kappa

    @property
    def loss_exponent(self) -> float:
        """n/(n-2): V(q(t)) falls as t to minus this power. Infinite at n = 2."""
        return math.inf if self.kappa == 0.0 else self.order / self.kappa

    @property
    def learning_coefficient(self) -> float:
        """1/n, lambda: the volume where V < epsilon grows as epsilon^lambda."""
        return 1.0 / self.order

    @property
    def timescale(self) -> float:
        """1/(c |q0|^kappa), tau: the relaxation time at the start."""
        return float(self.relaxation_time(self.start))

    def value(self, q: ArrayLike) -> np.ndarray:
        """V(q) = c |q|^n / n."""
        return np.asarray(self.strength * np.abs(check_numbers("q", q)) ** self.order / self.order)

    def force(self, q: ArrayLike) -> np.ndarray:
        """-V'(q) = -c q |q|^(n-2)."""
        at = check_numbers("q", q)
        return np.asarray(-self.strength * at * np.abs(at) ** self.kappa)

    def curvature(self, q: ArrayLike) -> np.ndarray:
        """V''(q) = c (n-1) |q|^(n-2): zero at the minimum for n > 2."""
        size = np.abs(check_numbers("q", q))
        return np.asarray(self.strength * (self.order - 1.0) * size**self.kappa)

    def relaxation_time(self, q: ArrayLike) -> np.ndarray:
        """1/(c |q|^kappa), which is q over the force: how long the pace at q needs to finish.

        Along the trajectory it is tau + kappa (t - t0): for n > 2 the remaining time becomes kappa
        times the time already spent. At q = 0 it is infinite.
        """
        with np.errstate(divide="ignore", over="ignore", under="ignore"):
            rate = self.strength * np.abs(check_numbers("q", q)) ** self.kappa
            return np.asarray(1.0 / rate)

    def trajectory(self, t: ArrayLike) -> np.ndarray:
        """q(t) under gradient flow from q0 at t0, in the shape of `t`; q0 before t0."""
        elapsed = np.maximum(check_numbers("t", t) - self.start_time, 0.0) / self.timescale
        return np.asarray(self.start * np.exp(log_remaining(elapsed, self.kappa)))

    def time_to(self, fraction: float) -> float:
        """At which t is this fraction of the way done, q = (1 - fraction) q0?

            t0 + tau ((1 - fraction)^-kappa - 1) / kappa

        Raises
        ------
        InputError
            If the fraction is not at least 0 and below 1 (the end is never quite reached).
        """
        share = check_number("fraction", fraction)
        if not 0.0 <= share < 1.0:
            raise InputError(
                f"fraction: {share:g}; give at least 0 and less than 1, which is never reached"
            )
        return self._time_at(math.log1p(-share))

    def convergence_time(self, loss: float) -> float:
        """At which t has V(q(t)) fallen to this value? t0 where it starts lower.

        For small values it grows as loss^-(n-2)/n; as log(1/loss) at n = 2.
        """
        target = check_positive("loss", loss)
        at_start = math.log(self.strength / self.order) + self.order * math.log(abs(self.start))
        return self._time_at(min(0.0, (math.log(target) - at_start) / self.order))

    def time_to_amplitude(self, q: float) -> float:
        """At which t is |q| this large? t0 where it starts smaller."""
        size = check_positive("q", q)
        return self._time_at(min(0.0, math.log(size / abs(self.start))))

    def _time_at(self, log_share: float) -> float:
        # Beyond this the law's own inverse is clipped; no training lasts 10^260 timescales.
        if -self.kappa * log_share > 600.0:
            return math.inf
        return self.start_time + self.timescale * float(elapsed_to_remaining(log_share, self.kappa))

    def plot(self) -> Figure:
        """The potential, and the trajectory against time on plain and logarithmic axes."""
        return plot_potential(self)
