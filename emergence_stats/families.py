"""The curve families: what each looks like, what it means, and what is believed before the data.

What lives here: the relaxation law as a plain function, and each family as a small declaration
(shape, parameters with units and priors, meaning), with a registry that users may extend. What does
not: the kinds of prior (`priors`), likelihoods, integration and verdicts (`likelihood`,
`quadrature`, `evidence`, `comparison`).

A family says how the fraction completed f grows from 0 before the onset towards 1; every curve is
then y = a + b f with baseline a and amplitude b (negative where the score falls).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.errors import InputError, nearest
from emergence_stats.priors import HalfNormal, Prior, SpanLogNormal, UniformOnset

Array = np.ndarray


def relaxation(
    t: ArrayLike,
    *,
    onset: ArrayLike,
    timescale: ArrayLike,
    kappa: ArrayLike,
    baseline: ArrayLike = 0.0,
    amplitude: ArrayLike = 1.0,
) -> np.ndarray:
    """What score does a coordinate show that slides down its potential from the onset on?

    y(t) = a + b (1 - q/q0),  q/q0 = (1 + kappa (t - t0) / tau)^(-1/kappa) for t >= t0, 1 before;
    kappa -> 0 gives exp(-(t - t0) / tau).

    Parameters
    ----------
    t : array_like
        Time, in steps. All arguments broadcast.
    onset : array_like
        Step t0 at which the relaxation begins.
    timescale : array_like
        tau > 0, in steps: the initial rate of relaxation is 1/tau.
    kappa : array_like
        kappa >= 0, dimensionless: order of the potential minus 2. 0 is the exponential.
    baseline, amplitude : array_like
        a and b, in the units of the score; b < 0 falls.

    Returns
    -------
    numpy.ndarray
        The broadcast shape of all arguments.

    Raises
    ------
    InputError
        If a timescale is not positive, a kappa is negative, or something is not finite.

    Examples
    --------
    >>> relaxation([0.0, 10.0, 20.0], onset=10.0, timescale=10.0, kappa=1.0)
    array([0. , 0. , 0.5])
    """
    time, t0, tau, kap, a, b = (
        np.asarray(value, dtype=float)
        for value in (t, onset, timescale, kappa, baseline, amplitude)
    )
    for name, value in (("t", time), ("onset", t0), ("baseline", a), ("amplitude", b)):
        _check(name, value, np.isfinite(value), "must be finite")
    _check("timescale", tau, np.isfinite(tau) & (tau > 0), "must be positive (steps)")
    _check("kappa", kap, np.isfinite(kap) & (kap >= 0), "must be zero or positive (order minus 2)")
    return np.asarray(a + b * _completed(np.maximum(time - t0, 0.0) / tau, kap))


def _check(name: str, value: Array, good: Array, demand: str) -> None:
    if not np.all(good):
        worst = np.atleast_1d(value)[~np.atleast_1d(good)][0]
        raise InputError(f"{name}: {worst} {demand}")


def _completed(elapsed: Array, kappa: Array) -> Array:
    """1 - q/q0 at `elapsed` timescales after the onset; exact to rounding for every kappa >= 0."""
    # log1p(x)/kappa keeps full relative accuracy down to the smallest normal kappa; below that
    # the exponential is its limit to far less than rounding. expm1 keeps small rises accurate.
    tiny = kappa < 1e-300
    safe = np.where(tiny, 1.0, kappa)
    log_q = np.where(tiny, -elapsed, -np.log1p(safe * elapsed) / safe)
    return -np.expm1(log_q)


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
    kap = np.asarray(kappa, dtype=float)
    tau = timescale_from_half_time(half_time, kap)
    tiny = kap < 1e-300
    safe = np.where(tiny, 1.0, kap)
    rate = -np.log1p(-fraction)
    # Clipped so that absurd orders give a huge number instead of overflowing.
    powered = np.expm1(np.minimum(safe * rate, 600.0)) / safe
    return np.asarray(tau * np.where(tiny, rate, powered))


@dataclass(frozen=True)
class Parameter:
    """One nonlinear parameter of a family."""

    name: str
    units: str
    meaning: str
    prior: Prior


@dataclass(frozen=True)
class Family:
    """One way a curve may go.

    Attributes
    ----------
    name : str
        What `compare` calls it.
    meaning : str
        What it says about the network, in one sentence.
    parameters : tuple of Parameter
        The nonlinear ones; the first is the onset.
    shape : callable
        `shape(step, *parameters)` gives the fraction completed; arguments broadcast.
        None where the curve has a baseline only.
    derived : callable, optional
        `derived(*parameters)` gives further quantities by name, such as the timescale.

    Examples
    --------
    A family of one's own, usable in `compare(..., families=(..., "ramp"))`:

    >>> import numpy as np
    >>> ramp = Family(
    ...     name="ramp",
    ...     meaning="a straight rise that stops",
    ...     parameters=(ONSET, HALF_TIME),
    ...     shape=lambda step, onset, half: np.clip((step - onset) / (2 * half), 0, 1),
    ... )
    >>> register_family(ramp)
    >>> get_family("ramp").parameters[1].units
    'steps'
    >>> del FAMILIES["ramp"]
    """

    name: str
    meaning: str
    parameters: tuple[Parameter, ...] = ()
    shape: Callable[..., Array] | None = None
    derived: Callable[..., dict[str, Array]] | None = None

    @property
    def emerges(self) -> bool:
        """Whether anything happens in this family."""
        return self.shape is not None


ONSET = Parameter("onset", "steps", "where the relaxation begins", UniformOnset())
HALF_TIME = Parameter(
    "half_time", "steps", "from the onset to half of the amplitude", SpanLogNormal()
)
# Order 2.25 to 6 (kappa 0.25 to 4) holds 85% of it; density at kappa = 0 is finite and positive.
KAPPA = Parameter("kappa", "1", "order of the potential minus 2", HalfNormal(2.0))


def _exponential_shape(step: Array, onset: Array, half_time: Array) -> Array:
    elapsed = np.maximum(step - onset, 0.0)
    elapsed *= -np.log(2.0) / half_time
    np.expm1(elapsed, out=elapsed)
    return np.negative(elapsed, out=elapsed)


def _power_law_shape(step: Array, onset: Array, half_time: Array, kappa: Array) -> Array:
    # (1 + (2^kappa - 1) elapsed / T)^(-1/kappa), worked in place because this is the inner loop.
    elapsed = np.maximum(step - onset, 0.0)
    elapsed *= np.expm1(kappa * np.log(2.0)) / half_time
    np.log1p(elapsed, out=elapsed)
    elapsed /= -kappa
    np.expm1(elapsed, out=elapsed)
    return np.negative(elapsed, out=elapsed)


def _relaxation_times(
    onset: Array, half_time: Array, kappa: Array | float = 0.0
) -> dict[str, Array]:
    return {
        "timescale": timescale_from_half_time(half_time, kappa),
        "time_to_99_percent": onset + time_to_fraction(0.99, half_time, kappa),
    }


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("flat", "no emergence: the score stays at its baseline"),
        Family(
            "exponential",
            "relaxation in a non-degenerate (quadratic) potential, kappa = 0",
            (ONSET, HALF_TIME),
            _exponential_shape,
            _relaxation_times,
        ),
        Family(
            "power_law",
            "relaxation in a degenerate potential of order kappa + 2, exponent 1/kappa",
            (ONSET, HALF_TIME, KAPPA),
            _power_law_shape,
            _relaxation_times,
        ),
    )
}


def register_family(family: Family) -> None:
    """Makes a family of one's own available to `compare` and `detect_onset` by its name.

    Raises
    ------
    InputError
        If the name is taken, or an emerging family does not begin with an onset.
    """
    if family.name in FAMILIES:
        raise InputError(f"family: {family.name!r} is registered already; choose another name")
    if family.emerges and (not family.parameters or family.parameters[0].name != "onset"):
        raise InputError(
            f"family {family.name!r}: its first parameter must be the onset "
            "(emergence_stats.families.ONSET)"
        )
    FAMILIES[family.name] = family


def get_family(name: str) -> Family:
    """The family of this name, or an error that suggests the nearest one.

    Examples
    --------
    >>> get_family("exponential").emerges
    True
    """
    try:
        return FAMILIES[name]
    except (KeyError, TypeError):
        raise InputError(f"families: unknown {name!r}{nearest(str(name), FAMILIES)}") from None


def resolve_families(names: Iterable[str]) -> tuple[Family, ...]:
    """The families asked for, with "flat", the no-emergence alternative, always first.

    Examples
    --------
    >>> [family.name for family in resolve_families(["exponential"])]
    ['flat', 'exponential']
    """
    if isinstance(names, str):
        names = (names,)
    unique = dict.fromkeys(names)
    unique.pop("flat", None)
    if not unique:
        raise InputError(
            "families: name at least one besides 'flat', such as ('exponential', 'power_law')"
        )
    return (FAMILIES["flat"], *(get_family(name) for name in unique))


def nonlinear_names(families: Sequence[Family]) -> tuple[str, ...]:
    """Every nonlinear parameter of these families, once each.

    Examples
    --------
    >>> nonlinear_names(resolve_families(["exponential", "power_law"]))
    ('onset', 'half_time', 'kappa')
    """
    return tuple(dict.fromkeys(p.name for family in families for p in family.parameters))


def mean_curve(family: Family, names: Sequence[str], draw: Array, step: Array) -> Array:
    """The curve without noise for each draw (row) at each step (column).

    Columns of `draw` are the parameters called `names`, then baseline and amplitude.
    """
    baseline, amplitude = draw[:, len(names), None], draw[:, len(names) + 1, None]
    if family.shape is None:
        return np.broadcast_to(baseline, (len(draw), step.size))
    values = [draw[:, names.index(p.name), None] for p in family.parameters]
    return baseline + amplitude * family.shape(step[None], *values)
