"""The plain-language page for the person who pays: what is said, in whichever language.

What lives here: which messages are chosen, and what is filled in. What does not: the messages
(`messages`), the decision (`decision`) and the reading of datasets (`findings`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from emergence_stats.report import wording
from emergence_stats.report.catalogue import Catalogue
from emergence_stats.report.decision import Decision
from emergence_stats.report.records import Findings, Head

# Runs named one by one in a sentence; beyond this the tables have them.
MOST_RUNS_NAMED = 3
# With fewer runs than this the page says that they are few.
FEW_RUNS = 10
LLC_SECTION = 4


class Answer(NamedTuple):
    """A question and what is said to it."""

    question: str
    sentences: tuple[str, ...]


class Fact(NamedTuple):
    """One of the numbers beside the headline."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class PlainPage:
    """The page's words, in order.

    Attributes
    ----------
    words : Catalogue
        Of the page's language.
    headline : str
        The answer in a sentence.
    facts : tuple of Fact
    answers : mapping of str to Answer
        Of "emerged", "sure", "when", "gain" and "advice" those that have one.
    cautions : tuple of str
    """

    words: Catalogue
    headline: str
    facts: tuple[Fact, ...]
    answers: Mapping[str, Answer]
    cautions: tuple[str, ...]


def write_plain_page(findings: Findings, decision: Decision, language: str) -> PlainPage:
    """The page in the language asked for.

    Raises
    ------
    InputError
        If the language is unknown.
    """
    words = Catalogue(language, findings.structure)
    known = decision.emerged != "unknown"
    rose = decision.emerged in ("all", "some", "rise")
    sentences = {
        "emerged": _say_emerged(words, findings, decision),
        "sure": _say_sure(words, findings) if known else [],
        "when": _say_when(words, findings) if rose else [],
        "gain": _say_gain(words, findings, decision),
        "advice": [words.say(f"advice.{decision.advice}")],
    }
    return PlainPage(
        words=words,
        headline=words.say(
            f"answer.{decision.emerged}",
            done=len(findings.emerged_runs),
            of=len(findings.assessed_runs),
            step=wording.step(findings.last_step),
        ),
        facts=tuple(_say_facts(words, findings)),
        answers={
            name: Answer(words.say(f"question.{name}"), tuple(said))
            for name, said in sentences.items()
            if said
        },
        cautions=tuple(_say_cautions(words, findings)),
    )


def _first_onsets(findings: Findings) -> dict[int, wording.Interval]:
    """For each run, the earliest onset of a highlighted head."""
    found: dict[int, wording.Interval] = {}
    for run in findings.runs:
        dated = [head.dated for head in findings.highlighted_of(run) if head.dated is not None]
        if dated:
            found[run] = min(dated, key=lambda onset: onset.median)
    return found


def _count_verdicts(findings: Findings) -> Counter[str]:
    """How many highlighted heads have each verdict; heads without one are left out."""
    return Counter(head.verdict for head in findings.highlighted if head.verdict)


def _sort_known(values: Iterable[float]) -> list[float]:
    return sorted(value for value in values if not math.isnan(value))


def _say_facts(words: Catalogue, findings: Findings) -> list[Fact]:
    def say(name: str, **values: Any) -> Fact:
        return Fact(*(words.say(f"fact.{name}.{part}", **values) for part in Fact._fields))

    facts = []
    if findings.assessed_runs:
        runs = {"done": len(findings.emerged_runs), "of": len(findings.assessed_runs)}
        heads = {"heads": len(findings.emerged), "total": len(findings.heads)}
        facts.append(say("runs", **runs, **heads))
    chosen = findings.basis != "score"
    onsets = sorted(onset.median for onset in _first_onsets(findings).values())
    if onsets and chosen:
        onset = words.span([wording.step(one) for one in onsets], "range")
        facts.append(say("onset", onset=onset, step=wording.step(findings.last_step)))
    counts = _count_verdicts(findings)
    if counts and chosen:
        common, number = counts.most_common(1)[0]
        law = common if 2 * number > counts.total() else "mixed"
        listed = [
            words.say("law.item", number=number, law=words.law(name))
            for name, number in counts.most_common()
        ]
        facts.append(say("law", law=words.law(law), laws=words.join(listed, "comma")))
    if findings.losses:
        first = sum(one.first for one in findings.losses) / len(findings.losses)
        last = [wording.number(one, 2) for one in sorted(one.last for one in findings.losses)]
        loss = words.span(last, "range")
        facts.append(say("loss", loss=loss, first=wording.number(first, 2)))
    return facts


def _say_emerged(words: Catalogue, findings: Findings, decision: Decision) -> list[str]:
    total = len(findings.heads)
    if decision.emerged == "rise":
        return [words.say("emerged.rise", heads=len(findings.highlighted), total=total)]
    if not findings.assessed_runs:
        return [words.say("emerged.untested")]
    passing = sum(bool(head.passes) for head in findings.heads)
    said = [words.say("emerged.tested", passing=passing, total=total)]
    if findings.highlighted:
        score, baseline = findings.highlighted[0].score.median, findings.baseline
        if findings.emerged:
            said.append(words.say("structure.best", score=score, baseline=baseline))
        else:
            values = {"score": wording.number(score), "baseline": wording.number(baseline)}
            said.append(words.say("emerged.highest", **values))
    return said


def _say_sure(words: Catalogue, findings: Findings) -> list[str]:
    said = []
    if findings.emerged and all(head.by_bounds for head in findings.emerged):
        said.append(words.say("sure.bounds"))
    rises = _sort_known(head.onset_probability for head in findings.highlighted)
    if rises:
        values = {"probability": words.span([wording.probability(one) for one in rises])}
        if findings.basis == "score":
            said.append(words.say("sure.changes", **values))
        else:
            said.append(words.say("sure.rises", heads=len(rises), **values))
    runs = len(findings.assessed_runs or findings.runs)
    if runs == 1:
        said.append(words.say("sure.single"))
    elif runs < FEW_RUNS:
        said.append(words.say("sure.few", runs=runs))
    return said


def _say_when(words: Catalogue, findings: Findings) -> list[str]:
    said = []
    named = [
        words.say("when.onset_item", onset=wording.step_interval(onset), run=run)
        for run, onset in _first_onsets(findings).items()
    ]
    if named:
        more = len(named) - MOST_RUNS_NAMED
        further = words.say("when.further", runs=more) if more > 0 else ""
        onsets = words.join(named[:MOST_RUNS_NAMED])
        said.append(words.say("when.onset", onsets=onsets, further=further))
    counts = _count_verdicts(findings)
    for name in ("power_law", "exponential", "undecided", "misfit"):
        if not counts[name]:
            continue
        values: dict[str, Any] = {"heads": counts[name], "total": counts.total()}
        if name in ("power_law", "exponential"):
            values["probability"] = _say_law_probability(words, findings, name)
        said.append(words.say(f"when.{name}", **values))
    return said if counts else [*said, words.say("when.unknown")]


def _say_law_probability(words: Catalogue, findings: Findings, law: str) -> str:
    """The probability of the law among the heads of which it is the verdict."""
    heads = [head for head in findings.highlighted if head.verdict == law]
    found = _sort_known(head.probability.get(law, math.nan) for head in heads)
    if not found:
        return ""
    span = words.span([wording.probability(value) for value in found])
    return words.say("when.probability", probability=span)


def _say_gain(words: Catalogue, findings: Findings, decision: Decision) -> list[str]:
    said = []
    if decision.remaining is None:
        said.append(words.say("gain.none"))
    else:
        middle, low, high = (words.bounded(wording.share(one)) for one in decision.remaining)
        heads = {"heads": decision.num_forecasts, "total": len(findings.highlighted)}
        said.append(words.say("gain.forecast", **heads, middle=middle, low=low, high=high))
        best = _find_best_forecast(findings)
        if best is not None:
            score, plateau = wording.number(best.score.median), wording.interval(best.plateau)
            said.append(words.say("gain.best", score=score, plateau=plateau))
    late = _sort_known(head.late_change for head in findings.highlighted)
    if late and findings.basis != "score":
        change = words.span([wording.percent(value) for value in late], "between")
        said.append(words.say("gain.late", heads=len(late), change=change))
    changes = [
        words.say("gain.loss_item", change=wording.percent(one.change), run=one.run)
        for one in findings.losses
        if not math.isnan(one.change)
    ]
    if not changes:
        return [*said, words.say("gain.no_trend")]
    more = len(changes) - MOST_RUNS_NAMED
    listed = changes[:MOST_RUNS_NAMED]
    listed += [words.say("gain.loss_more", runs=more)] if more > 0 else []
    trend = words.say(f"loss.{decision.loss}")
    return [*said, words.say("gain.loss", changes=words.join(listed), trend=trend)]


def _find_best_forecast(findings: Findings) -> Head | None:
    """The highest-scoring highlighted head with a forecast."""
    heads = (head for head in findings.highlighted if head.remaining is not None)
    return next((head for head in heads if head.plateau is not None), None)


def _say_cautions(words: Catalogue, findings: Findings) -> list[str]:
    reached = {one.run: one.last_step for one in findings.losses}
    last = findings.last_step
    early = [
        str(run)
        for run in findings.runs
        if str(run) in findings.stopped or reached.get(run, last) < last
    ]
    unassessed = [str(run) for run in findings.runs if run not in findings.assessed_runs]
    denied = sum(bool(head.passes) for head in findings.heads) - len(findings.emerged)
    misfits = _count_verdicts(findings)["misfit"]
    declined = sum(head.declined for head in findings.highlighted)
    doubts = sorted({one.verdict for one in findings.llc if not one.reliable})
    said = []
    if early:
        said.append(words.say("caution.early", runs=words.join(early)))
    if findings.assessed_runs and unassessed:
        said.append(words.say("caution.unassessed", runs=words.join(unassessed)))
    for name, heads in (("denied", denied), ("misfit", misfits), ("declined", declined)):
        if heads:
            said.append(words.say(f"caution.{name}", heads=heads))
    if doubts:
        values = {"doubts": words.join(doubts, "comma"), "section": LLC_SECTION}
        said.append(words.say("caution.llc", **values))
    return said
