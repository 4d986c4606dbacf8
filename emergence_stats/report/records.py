"""What was found, as records of plain numbers: heads, losses and learning coefficients.

What lives here: the records and what follows from them by definition (has a head emerged, which
checkpoints lie before and after). What does not: taking the numbers out of datasets (`findings`)
and what they advise (`summary`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from emergence_stats.report.wording import Interval

LEAST_RISE_PROBABILITY = 0.5


@dataclass(frozen=True)
class Head:
    """One attention head of one run.

    Attributes
    ----------
    run, layer, head : int
        As labelled in the datasets.
    score : Interval
        Collision score at the end of training.
    first_score, baseline : float
        Its first measurement, and the score of a head that ignores distance.
    passes : bool or None
        All three tests; None where they were not made.
    tests : tuple of (bool or None)
        Score, rank correlation, ablation.
    by_bounds : bool
        Whether the lower bounds alone reach every threshold.
    rank_correlation, rise_colliding, rise_free : Interval or None
        The quantities of the second and third test; the rises in loss relative to the intact loss.
    verdict, direction : str or None
        Of the comparison; the direction is "rising" or "falling".
    probability : dict
        Of each curve family.
    onset_probability : float
        Probability that the score changed at all; NaN where unknown.
    onset, order, exponent, plateau, fraction_complete : Interval or None
    misfit_p_value : float
    peak : tuple of (float, float) or None
        Score and step of a peak from which the score has clearly declined.
    late_change : float
        Mean score of the last quarter of the steps less that of the quarter before, as a share of
        the rise from the first measurement; NaN where it did not rise.
    """

    run: int
    layer: int
    head: int
    score: Interval
    first_score: float
    baseline: float
    passes: bool | None
    tests: tuple[bool | None, bool | None, bool | None]
    by_bounds: bool
    rank_correlation: Interval | None
    rise_colliding: Interval | None
    rise_free: Interval | None
    verdict: str | None
    direction: str | None
    probability: dict[str, float]
    onset_probability: float
    onset: Interval | None
    order: Interval | None
    exponent: Interval | None
    plateau: Interval | None
    fraction_complete: Interval | None
    misfit_p_value: float
    peak: tuple[float, float] | None
    late_change: float

    @property
    def rise_found(self) -> bool | None:
        """Whether the statistics find that the score rose; None where they were not computed."""
        if math.isnan(self.onset_probability) and self.verdict is None:
            return None
        if self.verdict == "no_emergence" or self.onset_probability < LEAST_RISE_PROBABILITY:
            return False
        if self.direction is not None:
            return self.direction == "rising"
        return self.score.median > self.first_score or math.isnan(self.first_score)

    @property
    def emerged(self) -> bool:
        """Passes the tests, and the statistics do not deny a rise."""
        return bool(self.passes) and self.rise_found is not False


@dataclass(frozen=True)
class LossTrend:
    """How one run's test loss moved late in training.

    Attributes
    ----------
    run : int
    first, last : float
        Test loss at the first and the last measurement.
    last_step : int
    change, change_error : float
        Mean of the last quarter of the steps over that of the quarter before, less 1; and the
        standard error that the scatter within the quarters gives it.
    """

    run: int
    first: float
    last: float
    last_step: int
    change: float
    change_error: float


@dataclass(frozen=True)
class LearningCoefficient:
    """The estimate at one checkpoint."""

    run: int
    step: int
    value: float
    standard_error: float
    verdict: str

    @property
    def reliable(self) -> bool:
        """Whether the estimator itself says so."""
        return self.verdict == "reliable" and math.isfinite(self.value)


@dataclass(frozen=True)
class Findings:
    """Everything the report says is drawn from here.

    Attributes
    ----------
    runs : tuple of int
        Every run of the trajectory.
    assessed_runs : tuple of int
        Those whose heads were put to the three tests.
    heads : tuple of Head
        All of them; emerged ones first, then by score.
    basis : str
        What the `highlighted` heads are chosen by: "tests", "rise" or "score".
    losses : tuple of LossTrend
    llc : tuple of LearningCoefficient
        Every checkpoint at which one was estimated, by run and step.
    stopped : dict
        Runs that ended early, with the reason.
    last_step : int
    configuration : dict
    """

    runs: tuple[int, ...]
    assessed_runs: tuple[int, ...]
    heads: tuple[Head, ...]
    basis: str
    losses: tuple[LossTrend, ...]
    llc: tuple[LearningCoefficient, ...]
    stopped: dict[str, str]
    last_step: int
    configuration: dict[str, Any]

    @property
    def emerged(self) -> tuple[Head, ...]:
        """Heads that pass all tests and whose rise is not denied."""
        return tuple(head for head in self.heads if head.emerged)

    @property
    def emerged_runs(self) -> tuple[int, ...]:
        """Assessed runs that have at least one such head."""
        having = {head.run for head in self.emerged}
        return tuple(run for run in self.assessed_runs if run in having)

    @property
    def highlighted(self) -> tuple[Head, ...]:
        """The heads that figures and tables are about; see `basis`."""
        if self.basis == "tests":
            return self.emerged
        if self.basis == "rise":
            return tuple(head for head in self.heads if head.rise_found)
        best: dict[int, Head] = {}
        for head in self.heads:
            if not math.isnan(head.score.median):
                best.setdefault(head.run, head)
        return tuple(best.values())

    @property
    def baseline(self) -> float:
        """Collision score of a head that ignores distance; NaN where it was not recorded."""
        return self.heads[0].baseline if self.heads else math.nan

    def before_and_after(
        self, run: int
    ) -> tuple[LearningCoefficient | None, LearningCoefficient | None]:
        """The last estimate before the run's first onset, and the last of all.

        Where no onset is known, or no checkpoint precedes it, the first estimate stands in.
        """
        mine = [one for one in self.llc if one.run == run and math.isfinite(one.value)]
        if not mine:
            return None, None
        onsets = [
            head.onset.lower if head.onset.known else head.onset.median
            for head in self.highlighted
            if head.run == run and head.onset is not None
        ]
        earlier = [one for one in mine if onsets and one.step <= min(onsets)]
        before = earlier[-1] if earlier else mine[0]
        after = mine[-1]
        return (before, after) if after is not before else (before, None)
