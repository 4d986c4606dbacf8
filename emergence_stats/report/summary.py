"""The findings in ten lines for a terminal.

What lives here: which lines, and what they say of single heads. What does not: what is decided
(`decision`) and the sentences shared with the page (`plain`).
"""

from __future__ import annotations

from typing import Unpack

from emergence_stats.report import wording
from emergence_stats.report.decision import decide
from emergence_stats.report.findings import Results, read_findings
from emergence_stats.report.plain import PlainPage, write_plain_page
from emergence_stats.report.records import VERDICTS, Findings, Head

NUM_LINES = 10
MOST_HEADS = 5
MOST_RUNS = 3
ASCII = str.maketrans({"–": "-", "−": "-", "±": "+/-", "∞": "inf", "×": "x", "’": "'"})


def text_summary(**results: Unpack[Results]) -> list[str]:
    """Which heads carry the structure, since when, by which law, and at what degeneracy?

    Parameters
    ----------
    **results
        As for `write_report`.

    Returns
    -------
    list of str
        Ten lines of plain ASCII.

    Raises
    ------
    InputError
        If the trajectory has no score by run, step, layer and head.
    """
    findings = read_findings(**results)
    page = write_plain_page(findings, decide(findings), "en")
    said = {name: answer.sentences for name, answer in page.answers.items()}
    facts = [f"{fact.label}: {fact.value}, {fact.note}" for fact in page.facts]
    heads = findings.highlighted
    shown = heads if len(heads) <= MOST_HEADS else heads[: MOST_HEADS - 1]
    lines = [_say_headline(findings, page), *(_say_head(findings, head) for head in shown)]
    if len(heads) > len(shown):
        lines.append(f"and {wording.count(len(heads) - len(shown), 'more head')}, see the report")
    closing = [
        _say_llc(findings),
        said["gain"][0],
        said["gain"][-1] + (f" {facts[-1]}." if findings.losses else ""),
        f"{page.answers['advice'].question} {said['advice'][0]}",
    ]
    layers = {head.layer for head in findings.heads}
    numbers = {head.head for head in findings.heads}
    orders = [wording.interval(head.order, 2) for head in heads if head.order][:MOST_RUNS]
    further = [
        *facts[:-1],
        f"Trained: {wording.count(len(findings.runs), 'run')} "
        f"(seeds {', '.join(map(str, findings.runs))}) of {len(layers)} layers with "
        f"{len(numbers)} heads each, to step {wording.step(findings.last_step)}",
        f"Score of {findings.words['ignorant']}: {wording.number(findings.baseline)}",
        f"Order of the potential, if a power law: {'; '.join(orders) or 'not computed'}",
        *said["emerged"],
        *said.get("sure", ()),
    ]
    lines += further[: NUM_LINES - len(lines) - len(closing)]
    return [line.translate(ASCII) for line in (*lines, *closing)]


def _say_headline(findings: Findings, page: PlainPage) -> str:
    if not findings.assessed_runs:
        return page.headline
    passing = sum(bool(head.passes) for head in findings.heads)
    denied = passing - len(findings.emerged)
    without = f", {denied} of them without a rise" if denied else ""
    return (
        f"{page.headline} {passing} of {wording.count(len(findings.heads), 'head')} pass every "
        f"test{without}."
    )


def describe_law(head: Head) -> str:
    """The verdict on one head's curve with the probabilities behind it."""
    if head.verdict is None:
        return "law not computed"
    power, exponential, own = (
        wording.probability(head.probability.get(name))
        for name in ("power_law", "exponential", head.verdict)
    )
    both = f"(power law {power}, exponential {exponential})"
    special = {
        "undecided": f"law undecided {both}",
        "no_emergence": "no rise found",
        "misfit": f"neither law fits {both}",
    }
    name = VERDICTS.get(head.verdict, head.verdict)
    return special.get(head.verdict, f"{name} (probability {own})")


def _say_head(findings: Findings, head: Head) -> str:
    prefix = ""
    if not (head.emerged or findings.basis == "rise"):
        prefix = "Highest score, not passing: " if findings.assessed_runs else "Highest score: "
    onset = f"onset {wording.step_interval(head.onset)}, " if head.onset else "onset not computed, "
    if head.rise_found is False:
        onset = ""
    score = wording.number(head.score.median)
    return f"{prefix}{head.name}: score {score}, {onset}{describe_law(head)}"


def _say_llc(findings: Findings) -> str:
    parts = []
    for run in findings.runs:
        ends = [
            f"{wording.with_error(one.value, one.standard_error)} (step {wording.step(one.step)}"
            f"{'' if one.reliable else f', {one.verdict}'})"
            for one in findings.before_and_after(run)
            if one is not None
        ]
        if ends:
            parts.append(f"seed {run} {' to '.join(ends)}")
    if not parts:
        return "LLC: not computed"
    more = len(parts) - MOST_RUNS
    rest = f"; {more} more in the report" if more > 0 else ""
    return f"LLC before to after (+/- standard error): {'; '.join(parts[:MOST_RUNS])}{rest}"
