"""The curve families: what each looks like, what it means, and what is believed before the data.

What lives here: each family as a small declaration (shape, parameters with units and priors,
meaning), with a registry that users may extend. What does not: the shapes themselves (`shapes`),
the kinds of prior (`priors`), likelihoods, integration and verdicts (`likelihood`, `integrate`,
`evidence`, `comparison`).

A family says how the fraction completed f grows from 0 before the onset towards 1; every curve is
then y = a + b f with baseline a and amplitude b (negative where the score falls).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emergence_stats.curves import shapes
from emergence_stats.curves.flow import read_clock
from emergence_stats.curves.priors import (
    HalfNormal,
    LogNormal,
    Prior,
    Span,
    SpanLogNormal,
    SpanShare,
    Uniform,
    UniformOnset,
)
from emergence_stats.curves.shape_check import check_shape
from emergence_stats.curves.shapes import time_to_fraction, timescale_from_half_time
from emergence_stats.errors import InputError, nearest

Array = np.ndarray


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
        None where the curve has a baseline only. Written with universal functions and operators
        alone, as those in `shapes` are, it serves the engine "pymc" too.
    derived : callable, optional
        `derived(*parameters)` gives further quantities by name, such as the timescale.
    sudden : bool
        Whether the onset is the only parameter and it matters only between which two checkpoints
        it lies, so that the evidence is a sum.
    gradual : bool
        Whether the rise begins gradually, so that the likelihood is smooth in the onset.

    Examples
    --------
    A family of one's own, usable in `compare(..., families=(..., "ramp"))`:

    >>> import numpy as np
    >>> ramp = Family(
    ...     name="ramp",
    ...     meaning="a straight rise that stops",
    ...     parameters=(ONSET, HALF_TIME),
    ...     shape=lambda step, onset, half: 0.5 * (
    ...         1 + abs((step - onset) / half) / 2 - abs((step - onset) / half - 2) / 2
    ...     ),
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
    sudden: bool = False
    gradual: bool = False

    @property
    def free(self) -> tuple[Parameter, ...]:
        """The parameters that have a coordinate, in order."""
        return tuple(p for p in self.parameters if p.prior.free)

    @property
    def emerges(self) -> bool:
        """Whether anything happens in this family."""
        return self.shape is not None


ONSET = Parameter("onset", "steps", "where the relaxation begins", UniformOnset())
"""The onset, as every part of this package means it: the step at which the rise begins.

It is where the tangent at the steepest point leaves 0: the kink itself where there is one, and 12%
of the way for a logistic curve. It is continuous and may lie between checkpoints; the first
parameter of every family that emerges. That there is one at all has the probability of these
families together. Given that, it is uniform before the data between the first and the last step
measured, in log step or in step: on the axis of `priors.StepAxis`.
"""
HALF_TIME = Parameter(
    "half_time", "steps", "from the onset to half of the amplitude", SpanLogNormal()
)
# Order 2.25 to 6 (kappa 0.25 to 4) holds 85% of it; density at kappa = 0 is finite and positive.
KAPPA_SCALE = 2.0
KAPPA = Parameter("kappa", "1", "order of the potential minus 2", HalfNormal(KAPPA_SCALE))
# A deep linear network of L layers has 2 - 2/L; 0 is a kink, below 1 it begins at a definite step.
# Half of the prior is below a quarter, all but a kink, and a fifth above 1.
LARGEST_TAKEOFF = 2.0
TAKEOFF = Parameter(
    "takeoff",
    "1",
    "exponent a of the flow that leaves the saddle",
    Uniform(LARGEST_TAKEOFF, power=3.0),
)
# 0.37 to 2.7 with 95%.
STRETCH = Parameter("stretch", "1", "exponent beta of the elapsed time", LogNormal(1.0, 0.5))
# 0.13 to 2 with 95%: growth laws seen in training are mostly concave in step.
GROWTH = Parameter("growth", "1", "exponent p of the elapsed time", LogNormal(0.5, 0.7))
SPAN = Parameter("reference", "steps", "the span of the steps; sets the amplitude's unit", Span())
FAST_HALF_TIME = Parameter(
    "fast_half_time", "steps", "half-time of the faster part", SpanLogNormal()
)
# The two rates differ by a factor of 1.5 to 200 with 95%; equal rates are one exponential.
SLOWDOWN = Parameter(
    "slowdown", "1", "how many times slower the slower part is", LogNormal(10.0, 1.5, offset=1.0)
)
SHARE = Parameter("share", "1", "share of the amplitude in the faster part", Uniform())
# From a tenth of the span to a hundred spans with 90%: from a fast fall to hardly any.
DECLINE_TIME = Parameter(
    "decline_time", "steps", "from the onset until half of the gain is lost", SpanShare(3.0, 2.1)
)


def _relaxation_times(
    onset: Array, half_time: Array, kappa: Array | float = 0.0
) -> dict[str, Array]:
    return {
        "timescale": timescale_from_half_time(half_time, kappa),
        "time_to_99_percent": onset + time_to_fraction(0.99, half_time, kappa),
    }


def _flow_times(
    onset: Array, half_time: Array, kappa: Array | float, takeoff: Array
) -> dict[str, Array]:
    (most,), unit = read_clock([0.99], takeoff, kappa)
    return {"timescale": half_time / unit, "time_to_99_percent": onset + half_time * most}


def _stretched_times(onset: Array, half_time: Array, stretch: Array) -> dict[str, Array]:
    return {
        "timescale": half_time * np.log(2.0) ** (-1.0 / stretch),
        "time_to_99_percent": onset + half_time * np.log2(100.0) ** (1.0 / stretch),
    }


def _logistic_times(onset: Array, half_time: Array) -> dict[str, Array]:
    return {"time_to_99_percent": onset + half_time * (1.0 + 0.5 * np.log(99.0))}


def _logistic_log_times(onset: Array, half_time: Array) -> dict[str, Array]:
    ratio = np.log1p(half_time / (onset + shapes.TINY))
    reach = np.minimum(ratio * (1.0 + 0.5 * np.log(99.0)), 600.0)
    return {"time_to_99_percent": (onset + shapes.TINY) * np.exp(reach)}


def _declining(family: Family) -> Family:
    assert family.shape is not None
    return Family(
        f"{family.name}_decline",
        f"{family.meaning}; what was gained is then slowly lost",
        (*family.parameters, DECLINE_TIME),
        shapes.with_decline(family.shape),
        gradual=family.gradual,
    )


_PLAIN = (
    Family("flat", "no emergence: the score stays at its baseline"),
    Family(
        "exponential",
        "arrival in a non-degenerate (quadratic) minimum, kappa = 0, from a saddle",
        (ONSET, HALF_TIME, TAKEOFF),
        shapes.gradual_exponential_shape,
        lambda onset, half_time, takeoff: _flow_times(onset, half_time, 0.0, takeoff),
        gradual=True,
    ),
    Family(
        "power_law",
        "arrival in a degenerate minimum of order kappa + 2, exponent 1/kappa, from a saddle",
        (ONSET, HALF_TIME, KAPPA, TAKEOFF),
        shapes.gradual_power_law_shape,
        _flow_times,
        gradual=True,
    ),
    Family(
        "sudden_exponential",
        "relaxation in a non-degenerate (quadratic) potential that begins at a step",
        (ONSET, HALF_TIME),
        shapes.exponential_shape,
        _relaxation_times,
    ),
    Family(
        "sudden_power_law",
        "relaxation in a degenerate potential of order kappa + 2 that begins at a step",
        (ONSET, HALF_TIME, KAPPA),
        shapes.power_law_shape,
        _relaxation_times,
    ),
    Family(
        "stretched_exponential",
        "relaxation at many rates at once (below 1), or one that starts gently (above 1)",
        (ONSET, HALF_TIME, STRETCH),
        shapes.stretched_exponential_shape,
        _stretched_times,
    ),
    Family(
        "logistic",
        "growth that feeds on itself until it saturates, in step",
        (ONSET, HALF_TIME),
        shapes.logistic_shape,
        _logistic_times,
        gradual=True,
    ),
    Family(
        "logistic_log",
        "a gradual change in log step, as seen across orders of magnitude of training",
        (ONSET, HALF_TIME),
        shapes.logistic_log_shape,
        _logistic_log_times,
        gradual=True,
    ),
    Family(
        "growth",
        "growth b (t - t0)^p with no plateau in sight",
        (ONSET, GROWTH, SPAN),
        shapes.growth_shape,
    ),
    Family(
        "two_exponentials",
        "two non-degenerate relaxations one after the other: the classic mimic of a power law",
        (ONSET, FAST_HALF_TIME, SLOWDOWN, SHARE),
        shapes.two_exponentials_shape,
    ),
    Family(
        "level_change",
        "a sudden change of level",
        (ONSET,),
        shapes.level_change_shape,
        sudden=True,
    ),
    Family(
        "slope_change",
        "a level that turns into a line: growth at a constant rate, no plateau in sight",
        (ONSET, SPAN),
        shapes.slope_change_shape,
    ),
)
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (*_PLAIN, *(_declining(family) for family in _PLAIN if family.emerges))
}


# What the two laws are called, as arrivals after a rise that begins gradually, and after a kink.
LAWS = (("exponential", "power_law"), ("sudden_exponential", "sudden_power_law"))


def register_family(family: Family) -> None:
    """Makes a family of one's own available to `compare` and `detect_onset` by its name.

    Raises
    ------
    InputError
        If the name is taken, an emerging family does not begin with an onset, or its shape is not
        finite.

    Examples
    --------
    `Family` has an example of one that is new.

    >>> register_family(get_family("exponential"))
    Traceback (most recent call last):
        ...
    emergence_stats.errors.InputError: family: 'exponential' is registered already; choose ...
    """
    if family.name in FAMILIES:
        raise InputError(f"family: {family.name!r} is registered already; choose another name")
    if family.emerges and (not family.parameters or family.parameters[0].name != "onset"):
        raise InputError(
            f"family {family.name!r}: its first parameter must be the onset "
            "(emergence_stats.curves.families.ONSET)"
        )
    check_shape(family)
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


def prior_probabilities(
    families: Sequence[Family], given: Mapping[str, float] | None
) -> dict[str, float]:
    """Half for no emergence and the rest shared evenly, or what was given, checked.

    Examples
    --------
    >>> prior_probabilities(resolve_families(["exponential", "power_law"]), None)
    {'flat': 0.5, 'exponential': 0.25, 'power_law': 0.25}
    """
    names = [family.name for family in families]
    if given is None:
        share = 0.5 / (len(names) - 1)
        return {name: 0.5 if name == "flat" else share for name in names}
    if set(given) != set(names):
        raise InputError(
            f"prior_probability: names {sorted(map(str, given))}; give one for each of {names}"
        )
    values = {name: float(given[name]) for name in names}
    total = sum(values.values())
    if not all(value > 0 for value in values.values()) or abs(total - 1.0) > 1e-9:
        raise InputError(
            f"prior_probability: {values} (sum {total:g}); they must be positive and sum to 1"
        )
    return values


def nonlinear_names(families: Sequence[Family]) -> tuple[str, ...]:
    """Every nonlinear parameter of these families, once each.

    Examples
    --------
    >>> nonlinear_names(resolve_families(["exponential", "power_law"]))
    ('onset', 'half_time', 'takeoff', 'kappa')
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
