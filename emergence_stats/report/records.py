"""What the report is told and what it found, as records of plain numbers.

What lives here: the structure it is about, heads, losses, learning coefficients, and what follows
from them by definition (has a head emerged, which checkpoints lie before and after). What does not:
taking the numbers out of datasets (`findings`) and what they advise (`decision`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from emergence_stats.report.layout import Section
from emergence_stats.report.wording import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_RISE_PROBABILITY = 0.5
VERDICTS = {
    "power_law": "power law",
    "exponential": "exponential",
    "undecided": "undecided",
    "no_emergence": "no rise",
    "misfit": "misfit",
}


@dataclass(frozen=True)
class Quantity:
    """What an assessment measures of each head: a column of the table of tests.

    Attributes
    ----------
    heading : str
    variable : str
        Its name in the assessment, which may also hold it with `_lower` and `_upper`.
    test : str
        The test that asks for it, as labelled along the dimension `test` of `passes`; empty where
        it is shown only.
    threshold : str
        The attribute of the assessment that the lower bound has to reach.
    labels : mapping
        Where it is read along further dimensions.
    over : str
        The variable whose multiple is shown.
    decimals : int
    """

    heading: str
    variable: str
    test: str = ""
    threshold: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    over: str = ""
    decimals: int = 2


@dataclass(frozen=True)
class Structure:
    """What the report has to be told of the structure that may have emerged.

    Attributes
    ----------
    score : str
        The trajectory's variable, by run, step, layer and head.
    words : mapping
        For each language what stands under `structure` in its catalogue (`messages`); neutral
        words stand in for those left out.
    quantities : tuple of Quantity
        What an assessment measures of each head.
    note : str
        Said below the table of these.
    definitions : tuple of (term, text)
    references : tuple of str
    command : str
        Trains and analyses the same again from `configuration.toml`.
    sections : callable, optional
        From the findings, further sections.
    picture : callable, optional
        Draws what a head does on axes, from the assessment; returns the title, empty where the
        assessment has nothing to draw.
    """

    score: str
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    quantities: tuple[Quantity, ...] = ()
    note: str = ""
    definitions: tuple[tuple[str, str], ...] = ()
    references: tuple[str, ...] = ()
    command: str = ""
    sections: Callable[[Findings], Sequence[Section]] | None = None
    picture: Callable[[Axes, xr.Dataset | None], str] | None = None


@dataclass(frozen=True, eq=False)
class Head:
    """One attention head of one run.

    Attributes
    ----------
    run, layer, head : int
        As labelled in the datasets.
    steps, scores, spread : ndarray
        Its score where it was measured, with the standard error (NaN where unknown).
    score : Interval
        At the end of training.
    passes : bool or None
        All tests; None where they were not made.
    tests : tuple of (bool or None)
        For each of the structure's quantities.
    quantities : tuple of (Interval or None)
    by_bounds : bool
        Whether the lower bounds alone reach every threshold.
    verdict, direction : str or None
        Of the comparison; the direction is "rising" or "falling".
    probability : dict
        Of each curve family.
    onset_probability : float
        Probability that the score changed at all; NaN where unknown.
    onset, order, exponent, plateau, fraction_complete : Interval or None
    misfit_p_value : float
    declined : bool
        Whether the score has clearly fallen since its peak.
    late_change : float
        Mean score of the last quarter of the steps less that of the quarter before, as a share of
        the rise from the first measurement; NaN where it did not rise.
    """

    run: int
    layer: int
    head: int
    steps: np.ndarray
    scores: np.ndarray
    spread: np.ndarray
    score: Interval
    passes: bool | None
    tests: tuple[bool | None, ...]
    quantities: tuple[Interval | None, ...]
    by_bounds: bool
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
    declined: bool
    late_change: float

    @property
    def label(self) -> str:
        """Short name for figures and tables, kept on one line."""
        return f"L{self.layer}\N{NO-BREAK SPACE}H{self.head}"

    @property
    def name(self) -> str:
        """Run, layer and head in words, numbered as in the datasets."""
        return f"seed {self.run}, layer {self.layer}, head {self.head}"

    @property
    def first_score(self) -> float:
        """Its first measurement."""
        return float(self.scores[0]) if self.scores.size else math.nan

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

    @property
    def dated(self) -> Interval | None:
        """The onset, unless the statistics deny a rise."""
        return None if self.rise_found is False else self.onset

    @property
    def remaining(self) -> Interval | None:
        """Share of the rise still to come; None where no curve fits that could tell."""
        done = self.fraction_complete
        if self.verdict in {None, "no_emergence", "misfit"} or done is None or not done.known:
            return None
        return Interval(1 - done.median, 1 - done.upper, 1 - done.lower)


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


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything the report says is drawn from here.

    Attributes
    ----------
    structure : Structure
    words : dict
        What it is called in English; see `Structure.words`.
    trajectory, assessment, comparison : xarray.Dataset
        As given; the last two may be None.
    runs : tuple of int
        Every run of the trajectory.
    assessed_runs : tuple of int
        Those whose heads were put to the tests.
    heads : tuple of Head
        All of them; emerged ones first, then by score.
    basis : str
        What the `highlighted` heads are chosen by: "tests", "rise" or "score".
    baseline : float
        The score of a head that knows nothing of the structure; NaN where it was not recorded.
    losses : tuple of LossTrend
    llc : tuple of LearningCoefficient
        Every checkpoint at which one was estimated, by run and step.
    stopped : dict
        Runs that ended early, with the reason.
    last_step : int
    configuration : dict
    """

    structure: Structure
    words: dict[str, str]
    trajectory: xr.Dataset
    assessment: xr.Dataset | None
    comparison: xr.Dataset | None
    runs: tuple[int, ...]
    assessed_runs: tuple[int, ...]
    heads: tuple[Head, ...]
    basis: str
    baseline: float
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

    def highlighted_of(self, run: int) -> list[Head]:
        """Those of one run; a head's place among them is its colour in every figure."""
        return [head for head in self.highlighted if head.run == run]

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
            for head in self.highlighted_of(run)
            if head.onset is not None
        ]
        earlier = [one for one in mine if onsets and one.step <= min(onsets)]
        before = earlier[-1] if earlier else mine[0]
        after = mine[-1]
        return (before, after) if after is not before else (before, None)
