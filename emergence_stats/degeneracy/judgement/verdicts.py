"""Is an estimate to be believed? The checks it has to pass, and a record of those it does not.

What lives here: `Verdict`, `Finding`, and the checks of one set of chains, on plain numbers. What
does not: checks that need further chains (`refinements`, `localisation`, `default`), and the words
in which findings are told (`sentences`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import NamedTuple

from emergence_stats.degeneracy.judgement.estimator import Estimate

LARGEST_RHAT = 1.05
SMALL_ERROR = 0.05  # as a share of the estimate
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


class Check(Enum):
    """What was looked at: its name, and the verdict where it is not passed (None: only told).

    Each has its sentence in `sentences`.
    """

    FINITE_LOSS = "finite loss", Verdict.STEP_TOO_LARGE
    LARGEST_STEP = "largest step", None
    SIGN = "sign", Verdict.NOT_AT_A_MINIMUM
    STEP_CORRECTION = "step correction", Verdict.STEP_TOO_LARGE
    STEP_CORRECTION_AND_POWER = "step correction and power", Verdict.STEP_TOO_LARGE
    STEP_CORRECTION_AND_DEPARTURE = "step correction and departure", Verdict.STEP_TOO_LARGE
    HALF_THE_STEP = "half the step", Verdict.STEP_TOO_LARGE
    FALLING_LOSS = "falling loss", Verdict.NOT_AT_A_MINIMUM
    STATIONARY_STRETCH = "stationary stretch", Verdict.STILL_DRIFTING
    DRIFT = "drift", Verdict.STILL_DRIFTING
    RHAT = "rhat", Verdict.CHAINS_DISAGREE
    VIRIAL = "virial", Verdict.NOT_IN_EQUILIBRIUM
    NOISE_SHARE = "noise share", Verdict.NOISE_DOMINATES
    EFFECTIVE_DRAWS = "effective draws", Verdict.TOO_FEW_DRAWS
    TARGET = "target", Verdict.TOO_FEW_DRAWS
    DEFAULT_TARGET = "default target", None
    STRAIGHT_LINE = "straight line", Verdict.NOT_A_STRAIGHT_LINE
    HALF_THE_LOCALISATION = "half the localisation", Verdict.DEPENDS_ON_LOCALISATION
    HALF_THE_LOCALISATION_OF_SLOPE = "half of the slope's", Verdict.DEPENDS_ON_LOCALISATION
    SLOW_GROWTH = "slow growth", None


class Finding(NamedTuple):
    """One thing that speaks against an estimate, or is worth telling beside it.

    Attributes
    ----------
    check : Check
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
    value: float = math.nan
    bound: float = math.nan
    beside: float = math.nan
    growth: float = math.nan
    decides: bool = True

    @property
    def verdict(self) -> Verdict | None:
        """What follows; None where nothing does."""
        return self.check.value[1]


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
    llc, error, drift = estimate.llc, estimate.standard_error, estimate.drift
    if not math.isfinite(llc):
        return (Finding(Check.FINITE_LOSS),)
    size, found = abs(llc), list[Finding]()

    def add(
        check: Check, value: float, bound: float, beside: float = math.nan, growth: float = math.nan
    ) -> None:
        found.append(Finding(check, value, bound, beside, growth))

    lowest = -2.0 * (error if math.isfinite(error) else 0.0)
    if llc < lowest:
        add(Check.SIGN, llc, lowest)

    borne = LARGEST_STEP_CORRECTION * max(size, 1e-12)
    off = LARGEST_CORRECTION_OFF_QUADRATIC * size
    if step_correction > borne:
        add(Check.STEP_CORRECTION, step_correction, borne, llc)
    elif abs(step_correction) > off and homogeneity > LARGEST_HOMOGENEITY:
        add(Check.STEP_CORRECTION_AND_POWER, step_correction, off, llc, 2.0 * homogeneity)
    elif abs(step_correction) > off and departure > LARGEST_DEPARTURE:
        add(Check.STEP_CORRECTION_AND_DEPARTURE, step_correction, off, llc, departure)

    apart = SMALLEST_DRIFT_THAT_MATTERS * size
    errors = abs(estimate.drift_in_standard_errors)
    drifting = errors > LARGEST_DRIFT_IN_STANDARD_ERRORS and abs(drift) > apart
    if drifting and drift < 0:
        add(Check.FALLING_LOSS, drift, -apart)
    elif not stationary:
        found.append(Finding(Check.STATIONARY_STRETCH))
    elif drifting:
        add(Check.DRIFT, drift, apart)

    # The error holds how far chains are apart: where it is small, that does not matter.
    if estimate.rhat > LARGEST_RHAT and not error <= SMALL_ERROR * size:
        add(Check.RHAT, estimate.rhat, LARGEST_RHAT)

    if virial is not None and num_parameters:
        far = max(
            LARGEST_VIRIAL_IN_STANDARD_ERRORS * virial.standard_error,
            SMALLEST_VIRIAL_THAT_MATTERS * num_parameters,
        )
        if abs(virial.llc - num_parameters) > far:
            add(Check.VIRIAL, virial.llc, far, num_parameters)

    if noise_share > LARGEST_NOISE_SHARE and error > LARGEST_NOISY_ERROR * size:
        add(Check.NOISE_SHARE, noise_share, LARGEST_NOISE_SHARE)

    draws = estimate.effective_draws
    if draws < FEWEST_EFFECTIVE_DRAWS or not math.isfinite(error):
        add(Check.EFFECTIVE_DRAWS, draws, FEWEST_EFFECTIVE_DRAWS)
    return tuple(found)
