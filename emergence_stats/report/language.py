"""The plain-language page for the person who pays: its parts and what decides its sentences.

What lives here: the shape of the page, the choice of language, and the numbers that both languages
choose their sentences by. What does not: the sentences (`english`, `japanese`), the decision
(`summary`) and the reading of datasets (`findings`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from emergence_stats.errors import InputError, nearest
from emergence_stats.report.records import Findings, Head
from emergence_stats.report.summary import Decision, forecastable

LANGUAGES = ("en", "ja")
# Runs named one by one in a sentence; beyond this the tables have them.
MOST_RUNS_NAMED = 3


@dataclass(frozen=True)
class PlainPage:
    """The page's words, in order.

    Attributes
    ----------
    language : str
        As HTML's `lang` wants it.
    title : str
        Default title of the report.
    eyebrow : str
        What kind of page this is.
    answer : str
        The headline.
    lede : str
        What was asked.
    facts : tuple of (label, value, note)
    answers : tuple of (question, sentences)
    figure_caption : str
    caution_title : str
    cautions : tuple of str
    joint : str
        What stands between two sentences.
    """

    language: str
    title: str
    eyebrow: str
    answer: str
    lede: str
    facts: tuple[tuple[str, str, str], ...]
    answers: tuple[tuple[str, tuple[str, ...]], ...]
    figure_caption: str
    caution_title: str
    cautions: tuple[str, ...]
    joint: str = " "


def plain_page(findings: Findings, decision: Decision, language: str) -> PlainPage:
    """The page in the language asked for.

    Raises
    ------
    InputError
        If the language is not one of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise InputError(f"language: {language!r} is not available{nearest(language, LANGUAGES)}")
    # Imported here because each language builds on this module.
    if language == "ja":
        from emergence_stats.report.japanese import japanese

        return japanese(findings, decision)
    from emergence_stats.report.english import english

    return english(findings, decision)


def first_onsets(findings: Findings) -> dict[int, Head]:
    """For each run, the highlighted head whose score began to rise first."""
    found: dict[int, Head] = {}
    for head in findings.highlighted:
        if head.onset is None or head.rise_found is False:
            continue
        known = found.get(head.run)
        if known is None or known.onset is None or head.onset.median < known.onset.median:
            found[head.run] = head
    return {run: found[run] for run in findings.runs if run in found}


def verdicts(findings: Findings) -> Counter[str]:
    """How many highlighted heads have each verdict; heads without one are left out."""
    return Counter(head.verdict for head in findings.highlighted if head.verdict)


def majority(counts: Counter[str]) -> str:
    """The verdict of more than half of the heads; empty where there is none."""
    name, number = counts.most_common(1)[0]
    return name if 2 * number > sum(counts.values()) else ""


def law_probabilities(findings: Findings, verdict: str) -> list[float]:
    """The probability of the law among the heads for which it is the verdict."""
    found = [
        head.probability.get(verdict, math.nan)
        for head in findings.highlighted
        if head.verdict == verdict
    ]
    return [value for value in found if not math.isnan(value)]


def rise_probabilities(findings: Findings) -> list[float]:
    """Probability of a rise, for each highlighted head that has one."""
    found = [head.onset_probability for head in findings.highlighted]
    return [value for value in found if not math.isnan(value)]


def strongest_forecast(findings: Findings) -> Head | None:
    """The highest-scoring highlighted head whose forecast is usable."""
    return next(
        (head for head in findings.highlighted if forecastable(head) and head.plateau is not None),
        None,
    )


def late_changes(findings: Findings) -> list[float]:
    """How the highlighted heads' scores moved late in training, as shares of their rise."""
    return [
        head.late_change
        for head in findings.highlighted
        if findings.basis != "score" and not math.isnan(head.late_change)
    ]


def by_bounds(findings: Findings) -> bool:
    """Whether every emerged head passes each test by the bound of its interval."""
    return bool(findings.emerged) and all(head.by_bounds for head in findings.emerged)


def ended_early(findings: Findings) -> list[int]:
    """Runs without a test loss at the last step, or stopped with a reason."""
    reached = {one.run: one.last_step for one in findings.losses}
    return [
        run
        for run in findings.runs
        if str(run) in findings.stopped or reached.get(run, findings.last_step) < findings.last_step
    ]


def unreliable_llc(findings: Findings) -> list[str]:
    """The verdicts of the learning coefficients that are not reliable, once each."""
    return sorted({one.verdict for one in findings.llc if not one.reliable})
