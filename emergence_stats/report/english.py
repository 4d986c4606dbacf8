"""The plain-language page in English.

What lives here: the English sentences; each is chosen by a number, and states it. What does not:
what is said when (`language`, `summary`).
"""

from __future__ import annotations

import math

from emergence_stats.report import wording
from emergence_stats.report.language import (
    MOST_RUNS_NAMED,
    PlainPage,
    by_bounds,
    ended_early,
    first_onsets,
    late_changes,
    law_probabilities,
    majority,
    rise_probabilities,
    strongest_forecast,
    unreliable_llc,
    verdicts,
)
from emergence_stats.report.records import Findings
from emergence_stats.report.summary import Decision


def english(findings: Findings, decision: Decision) -> PlainPage:
    """The page in English."""
    emerged = decision.emerged in ("all", "some")
    answers = [("Has it emerged?", _emerged(findings, decision))]
    if decision.emerged != "unknown":
        answers.append(("How sure is that?", _sure(findings)))
    if emerged or decision.emerged == "rise":
        answers.append(("When, and by which law?", _when(findings)))
    answers.append(("What further gain can be expected?", _gain(findings, decision)))
    answers.append(("Should training go on?", (_ADVICE[decision.advice],)))
    return PlainPage(
        language="en",
        title="Do attention heads learn to detect collisions?",
        eyebrow="In plain language",
        answer=_answer(findings, decision),
        lede=(
            "A neural network was trained to predict how particles in a box move. Nobody told it "
            "what a collision is. The question is whether some of its parts, the attention heads, "
            "taught themselves to look for collisions. Runs are named by the seed of their random "
            "start."
        ),
        facts=_facts(findings),
        answers=tuple((question, text) for question, text in answers if text),
        figure_caption=(
            "What share of its attention to other particles the best head of each run gives to "
            "near neighbours, while training went on. Marks: onset, where one was found, with its "
            "89% interval."
        ),
        caution_title="Read this with care",
        cautions=_cautions(findings),
    )


def _runs(number: int) -> str:
    return wording.count(number, "training run")


def _answer(findings: Findings, decision: Decision) -> str:
    done, of = len(findings.emerged_runs), len(findings.assessed_runs)
    end = wording.step(findings.last_step)
    return {
        "all": f"Yes: collision detection has emerged, in {done} of {_runs(of)}.",
        "some": f"In part: collision detection has emerged in {done} of {_runs(of)}.",
        "none": f"No: by step {end} collision detection had emerged in {done} of {_runs(of)}.",
        "rise": "Not established: head scores rose, but what the heads do was not tested.",
        "no_rise": "No sign of it: no head’s score rose; what the heads do was not tested.",
        "unknown": "Not known: the heads were neither tested nor their scores analysed.",
    }[decision.emerged]


def _facts(findings: Findings) -> tuple[tuple[str, str, str], ...]:
    facts = []
    if findings.assessed_runs:
        done, of = len(findings.emerged_runs), len(findings.assessed_runs)
        note = f"{len(findings.emerged)} of {wording.count(len(findings.heads), 'head')}"
        facts.append(("Runs with detectors", f"{done} of {of}", note))
    onsets = [head.onset.median for head in first_onsets(findings).values() if head.onset]
    if onsets and findings.basis != "score":
        low, high = wording.step(min(onsets)), wording.step(max(onsets))
        value = low if low == high else f"{low}–{high}"
        facts.append(("First onset (step)", value, f"of {wording.step(findings.last_step)}"))
    counts = verdicts(findings)
    if counts and findings.basis != "score":
        listed = [f"{number} {_LAWS.get(name, name)}" for name, number in counts.most_common()]
        name = majority(counts)
        facts.append(("Law of the rise", _LAWS.get(name, name) or "mixed", ", ".join(listed)))
    if findings.losses:
        last = [one.last for one in findings.losses]
        first = [one.first for one in findings.losses]
        low, high = wording.number(min(last), 2), wording.number(max(last), 2)
        facts.append(
            (
                "Held-out loss",
                low if low == high else f"{low}–{high}",
                f"from {wording.number(sum(first) / len(first), 2)} at the start",
            )
        )
    return tuple(facts)


_LAWS = {
    "power_law": "power law",
    "exponential": "exponential",
    "undecided": "undecided",
    "no_emergence": "no rise",
    "misfit": "neither fits",
}


def _emerged(findings: Findings, decision: Decision) -> tuple[str, ...]:
    if not findings.assessed_runs:
        if decision.emerged == "rise":
            number = len(findings.highlighted)
            return (
                f"The collision score of {wording.count(number, 'head')} out of "
                f"{len(findings.heads)} rose. Whether these heads really detect collisions, and "
                "whether the predictions need them, was not tested.",
            )
        return ("The tests of what each head does were not made.",)
    passing = sum(bool(head.passes) for head in findings.heads)
    sentences = [
        "A collision detector turns a particle’s attention to its neighbours, among them to those "
        "about to touch it, and without it the predictions for colliding particles get worse. Of "
        f"{wording.count(len(findings.heads), 'head')}, {passing} "
        f"{'passes' if passing == 1 else 'pass'} the tests of all three."
    ]
    if findings.emerged:
        best = findings.emerged[0]
        sentences.append(
            f"Of the attention it pays to other particles, the strongest gives "
            f"{_share(best.score.median)} to near neighbours; a head that ignores distance would "
            f"give {_share(best.baseline)}."
        )
    elif findings.highlighted:
        best = findings.highlighted[0]
        sentences.append(
            f"The highest score of any head is {wording.number(best.score.median)}; a head that "
            f"ignores distance scores {wording.number(best.baseline)}."
        )
    return tuple(sentences)


def _share(value: float) -> str:
    return wording.MISSING if math.isnan(value) else f"{100 * value:.0f}%"


def _sure(findings: Findings) -> tuple[str, ...]:
    sentences = []
    if by_bounds(findings):
        sentences.append(
            "Each of these heads passes each test even at the unfavourable end of its 89% interval."
        )
    rises = rise_probabilities(findings)
    if rises and findings.basis != "score":
        sentences.append(
            f"The probability that {'its score' if len(rises) == 1 else 'the score of each'} rose "
            f"at all, and did not merely fluctuate, is {wording.probability_span(rises)}."
        )
    elif rises:
        sentences.append(
            "For the highest-scoring head of each run, the probability that its score changed at "
            f"all is {wording.probability_span(rises)}."
        )
    number = len(findings.assessed_runs or findings.runs)
    if number == 1:
        sentences.append("There is a single run; whether another would do the same is open.")
    elif number < 10:
        sentences.append(
            f"{number} runs are few: the counts say what happened in these, not how often it "
            "would happen."
        )
    return tuple(sentences)


def _when(findings: Findings) -> tuple[str, ...]:
    sentences = []
    onsets = first_onsets(findings)
    named = [
        f"at step {wording.step_interval(head.onset)} in seed {run}"
        for run, head in list(onsets.items())[:MOST_RUNS_NAMED]
    ]
    if named:
        more = len(onsets) - len(named)
        tail = f", and in {wording.count(more, 'further run')} (see the table)" if more else ""
        sentences.append(
            f"The first score began to rise {wording.joined(named)}{tail} "
            "(in brackets: 89% interval)."
        )
    counts = verdicts(findings)
    total = sum(counts.values())
    for name, meaning in (
        ("power_law", "a power law: quick at first, then with a long tail of ever slower gains"),
        ("exponential", "an exponential: the gains die out within a few time constants"),
    ):
        if counts[name]:
            share = f"{counts[name]} of {wording.count(total, 'head')}"
            probabilities = law_probabilities(findings, name)
            how = (
                f" (probability {wording.probability_span(probabilities)})" if probabilities else ""
            )
            sentences.append(f"The rise of {share} follows {meaning}{how}.")
    if counts["undecided"]:
        sentences.append(
            f"For {counts['undecided']} of {wording.count(total, 'head')} the measurements cannot "
            "tell a power law from an exponential."
        )
    if counts["misfit"]:
        sentences.append(
            f"The rise of {counts['misfit']} of {wording.count(total, 'head')} is neither a power "
            "law nor an exponential throughout."
        )
    if not counts:
        sentences.append("Whether the rise follows a power law or an exponential was not computed.")
    return tuple(sentences)


def _gain(findings: Findings, decision: Decision) -> tuple[str, ...]:
    sentences = []
    if decision.remaining is not None:
        middle, low, high = (wording.share(value) for value in decision.remaining)
        heads = wording.count(decision.num_forecasts, "head")
        if decision.num_forecasts < len(findings.highlighted):
            heads += f" (of {len(findings.highlighted)})"
        sentences.append(
            f"In the heads: the fitted curves of {heads} leave {middle} of the rise still to "
            f"come (between {low} and {high}, the widest 89% bounds)."
        )
        best = strongest_forecast(findings)
        if best is not None:
            sentences.append(
                f"The strongest of them scores {wording.number(best.score.median)} now and is "
                f"expected to end at {wording.interval(best.plateau)}."
            )
    else:
        sentences.append("In the heads: no usable forecast.")
    late = late_changes(findings)
    if late:
        low, high = wording.percent(min(late)), wording.percent(max(late))
        moved = low if low == high else f"between {low} and {high}"
        whose = f"the scores of all {len(late)}" if len(late) > 1 else "the head’s score"
        sentences.append(
            f"From the third to the last quarter of training {whose} moved by {moved} of the rise "
            "so far."
        )
    changes = [
        f"{wording.percent(one.change)} in seed {one.run}"
        for one in findings.losses
        if not math.isnan(one.change)
    ]
    if changes:
        more = len(changes) - MOST_RUNS_NAMED
        rest = [f"{more} more in the table"] if more > 0 else []
        sentences.append(
            "In the predictions: the held-out loss changed by "
            f"{wording.joined(changes[:MOST_RUNS_NAMED] + rest)} from the third to the last "
            f"quarter{_LOSS[decision.loss]}."
        )
    else:
        sentences.append("In the predictions: too few measurements for a trend.")
    return tuple(sentences)


_LOSS = {
    "falling": ", so it is still falling",
    "flat": ", which is practically flat",
    "rising": ", so it is rising again",
    "mixed": "; the runs do not agree",
    "unknown": "; its scatter allows no statement",
}

_ADVICE = {
    "stop": (
        "No. The heads have formed, and nothing measured promises a gain worth the computation."
    ),
    "stop_loss_rising": (
        "No. The heads have formed and the held-out loss is rising again; an earlier checkpoint "
        "may serve better than the last."
    ),
    "optional": (
        "Not for the heads: more than 90% of their rise is done. Go on only if a lower prediction "
        "error is worth the cost."
    ),
    "continue": ("Yes. The fitted curves leave a clear part of the heads’ rise still to come."),
    "extend_and_review": (
        "For a limited time: half as many steps again, then repeat this analysis. The heads have "
        "formed, but how much is still to come is not known sharply enough to promise it."
    ),
    "add_seeds": (
        "Train further runs before building on this. Some runs have collision detectors and some "
        "do not, and the reason is not known."
    ),
    "extend_no_head": (
        "For a limited time, then repeat this analysis: no collision detector yet, but the "
        "held-out loss still moves. Nothing measured promises that one will form."
    ),
    "change": (
        "Not unchanged. No collision detector has formed and the held-out loss has stopped "
        "falling; more of the same is unlikely to help. Change the settings first."
    ),
    "test_first": (
        "Decide after the heads have been tested: a risen score alone does not show that they "
        "detect collisions."
    ),
    "cannot_say": "What was computed does not support a recommendation.",
}


def _cautions(findings: Findings) -> tuple[str, ...]:
    found = []
    early = ended_early(findings)
    if early:
        names = wording.joined([str(run) for run in early])
        found.append(f"Seed {names} ended early; its last measurements are taken as its end.")
    unassessed = [run for run in findings.runs if run not in findings.assessed_runs]
    if findings.assessed_runs and unassessed:
        names = wording.joined([str(run) for run in unassessed])
        found.append(f"The heads of seed {names} were not tested and are not counted.")
    denied = [head for head in findings.heads if head.passes and not head.emerged]
    if denied:
        found.append(
            f"{wording.count(len(denied), 'head').capitalize()} passed the tests although the "
            "statistics find no rise in the score; not counted as emerged."
        )
    misfits = verdicts(findings)["misfit"]
    if misfits:
        found.append(
            f"For {wording.count(misfits, 'head')} neither law describes the whole curve: no "
            "forecast is made from it, and the onset is less certain than its interval says."
        )
    declining = [head for head in findings.highlighted if head.peak is not None]
    if declining:
        found.append(
            f"The score of {wording.count(len(declining), 'head')} has clearly fallen since its "
            "peak; the forecast assumes that scores do not fall."
        )
    doubts = unreliable_llc(findings)
    if doubts:
        found.append(
            "Some estimates of the learning coefficient are not reliable, by their own diagnostics "
            f"({', '.join(doubts)})."
        )
    return tuple(found)
