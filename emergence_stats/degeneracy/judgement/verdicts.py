"""Is an estimate to be believed? The checks it has to pass, and a record of those it does not.

What lives here: `Verdict`, `Finding`, and the checks of one set of chains, on plain numbers. What
does not: checks that need further chains (`refinements`, `localisation`, `default`), and the words
in which findings are told (`sentences`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum, auto
from typing import NamedTuple

from emergence_stats.degeneracy.judgement.estimator import Estimate

LARGEST_RHAT = 1.05
LARGEST_DRIFT_IN_STANDARD_ERRORS = 3.0
SMALLEST_DRIFT_THAT_MATTERS = 0.1  # as a share of the estimate
FEWEST_EFFECTIVE_DRAWS = 20.0
LARGEST_STEP_CORRECTION = 0.5  # as a share of the estimate
# Where the loss is not quadratic the correction is a guess, and less of it is borne.
LARGEST_HOMOGENEITY = 1.3
LARGEST_DEPARTURE = 0.3
LARGEST_CORRECTION_OFF_QUADRATIC = 0.15
LARGEST_VIRIAL_IN_STANDARD_ERRORS = 3.0
SMALLEST_VIRIAL_THAT_MATTERS = 0.05  # as a share of the number of parameters
LARGEST_NOISE_SHARE = 0.5  # of the variance of the losses
LARGEST_NOISY_ERROR = 0.1  # standard error as a share of the estimate


class Verdict(StrEnum):
    """Whether to believe an estimate: the first thing found against it."""

    RELIABLE = "reliable"
    STEP_TOO_LARGE = "step too large"
    NOT_AT_A_MINIMUM = "not at a minimum"
    STILL_DRIFTING = "still drifting"
    CHAINS_DISAGREE = "chains disagree"
    NOT_IN_EQUILIBRIUM = "not in equilibrium"
    NOISE_DOMINATES = "minibatch noise dominates"
    TOO_FEW_DRAWS = "too few draws"
    DEPENDS_ON_LOCALISATION = "depends on localisation"
    NOT_A_STRAIGHT_LINE = "not a straight line"
    FAILED = "failed"  # in a sweep: there is no estimate


class Check(StrEnum):
    """What was looked at; each has its sentence in `sentences`."""

    FINITE_LOSS = auto()
    LARGEST_STEP = auto()
    SIGN = auto()
    STEP_CORRECTION = auto()
    STEP_CORRECTION_AND_POWER = auto()
    STEP_CORRECTION_AND_DEPARTURE = auto()
    HALF_THE_STEP = auto()
    FALLING_LOSS = auto()
    STATIONARY_STRETCH = auto()
    DRIFT = auto()
    RHAT = auto()
    VIRIAL = auto()
    NOISE_SHARE = auto()
    EFFECTIVE_DRAWS = auto()
    TARGET = auto()
    DEFAULT_TARGET = auto()
    STRAIGHT_LINE = auto()
    HALF_THE_LOCALISATION = auto()
    HALF_THE_LOCALISATION_OF_SLOPE = auto()
    EXTRAPOLATED_FAR = auto()
    GROWTH_AT_WEAKEST = auto()
    GROWTH_AT_STRONGER = auto()


class Finding(NamedTuple):
    """One thing that speaks against an estimate, or is worth telling beside it.

    Attributes
    ----------
    check : Check
    verdict : Verdict or None
        What follows; None where nothing does.
    value : float
        What was measured.
    bound : float
        Beyond which it counts.
    beside : float
        What it is compared with.
    growth : float
        Of the loss with the distance from w*: its power, or its departure from a quadratic.
    decides : bool
        Whether the verdict is that of the estimate; else it is told and changes nothing.
    """

    check: Check
    verdict: Verdict | None = None
    value: float = math.nan
    bound: float = math.nan
    beside: float = math.nan
    growth: float = math.nan
    decides: bool = True


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """The verdict of the first finding that decides."""
    decided = (found.verdict for found in findings if found.decides and found.verdict is not None)
    return next(decided, Verdict.RELIABLE)


def judge(
    estimate: Estimate,
    *,
    stationary: bool,
    step_correction: float,
    noise_share: float = 0.0,
    homogeneity: float = math.nan,
    departure: float = math.nan,
    virial: Estimate | None = None,
    num_parameters: int = 0,
) -> tuple[Finding, ...]:
    """What speaks against the estimate, the gravest first?

    Parameters
    ----------
    estimate : Estimate
    stationary : bool
        Whether a burn-in was found.
    step_correction : float
        What was subtracted for the finite step and minibatch noise.
    noise_share : float
        Of the variance of the losses, the part that the choice of minibatches alone explains.
    homogeneity : float
        Half the power with which the loss grows away from w*; 1 for a quadratic.
    departure : float
        How far from quadratic it grows, draw by draw (`chains.Traces`); 0 for a quadratic.
    virial : Estimate, optional
        Of ``(w - w*) . grad U``, which in equilibrium is `num_parameters`.
    num_parameters : int
    """
    llc, error = estimate.llc, estimate.standard_error
    if not math.isfinite(llc):
        return (Finding(Check.FINITE_LOSS, Verdict.STEP_TOO_LARGE),)
    size, found = abs(llc), list[Finding]()

    lowest = -2.0 * (error if math.isfinite(error) else 0.0)
    if llc < lowest:
        found.append(Finding(Check.SIGN, Verdict.NOT_AT_A_MINIMUM, llc, lowest))

    borne, off_quadratic = (
        LARGEST_STEP_CORRECTION * max(size, 1e-12),
        LARGEST_CORRECTION_OFF_QUADRATIC * size,
    )
    correction: tuple[Check, float, float] | None = None
    if step_correction > borne:
        correction = Check.STEP_CORRECTION, borne, math.nan
    elif abs(step_correction) > off_quadratic and homogeneity > LARGEST_HOMOGENEITY:
        correction = Check.STEP_CORRECTION_AND_POWER, off_quadratic, 2.0 * homogeneity
    elif abs(step_correction) > off_quadratic and departure > LARGEST_DEPARTURE:
        correction = Check.STEP_CORRECTION_AND_DEPARTURE, off_quadratic, departure
    if correction is not None:
        check, bound, growth = correction
        found.append(
            Finding(check, Verdict.STEP_TOO_LARGE, step_correction, bound, llc, growth=growth)
        )

    apart = SMALLEST_DRIFT_THAT_MATTERS * size
    drifting = (
        abs(estimate.drift_in_standard_errors) > LARGEST_DRIFT_IN_STANDARD_ERRORS
        and abs(estimate.drift) > apart
    )
    if drifting and estimate.drift < 0:
        found.append(Finding(Check.FALLING_LOSS, Verdict.NOT_AT_A_MINIMUM, estimate.drift, -apart))
    elif not stationary:
        found.append(Finding(Check.STATIONARY_STRETCH, Verdict.STILL_DRIFTING))
    elif drifting:
        found.append(Finding(Check.DRIFT, Verdict.STILL_DRIFTING, estimate.drift, apart))

    if estimate.rhat > LARGEST_RHAT:
        found.append(Finding(Check.RHAT, Verdict.CHAINS_DISAGREE, estimate.rhat, LARGEST_RHAT))

    if virial is not None and num_parameters:
        off = max(
            LARGEST_VIRIAL_IN_STANDARD_ERRORS * virial.standard_error,
            SMALLEST_VIRIAL_THAT_MATTERS * num_parameters,
        )
        if abs(virial.llc - num_parameters) > off:
            found.append(
                Finding(Check.VIRIAL, Verdict.NOT_IN_EQUILIBRIUM, virial.llc, off, num_parameters)
            )

    if noise_share > LARGEST_NOISE_SHARE and error > LARGEST_NOISY_ERROR * size:
        found.append(
            Finding(Check.NOISE_SHARE, Verdict.NOISE_DOMINATES, noise_share, LARGEST_NOISE_SHARE)
        )

    if estimate.effective_draws < FEWEST_EFFECTIVE_DRAWS or not math.isfinite(error):
        few = estimate.effective_draws, FEWEST_EFFECTIVE_DRAWS
        found.append(Finding(Check.EFFECTIVE_DRAWS, Verdict.TOO_FEW_DRAWS, *few))
    return tuple(found)
