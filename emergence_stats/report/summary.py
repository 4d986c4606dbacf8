"""What follows from the findings: emerged or not, what more to expect, go on or not; in ten lines.

What lives here: the decision, with its thresholds, and the ten-line text summary. What does not:
the numbers it rests on (`findings`) and the plain-language page (`language`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import xarray as xr

from emergence_stats.report import wording
from emergence_stats.report.findings import read_findings
from emergence_stats.report.records import Findings, Head

# Less of the rise than this still to come is not worth training for; more is.
WORTHWHILE_SHARE = 0.10
# A test loss that moves less than this between the last two quarters is called flat.
LOSS_CHANGE = 0.05
# A head whose score moves less than this share of its rise between those quarters has settled.
SCORE_CHANGE = 0.03
NUM_LINES = 10
MAX_HEAD_LINES = 5


@dataclass(frozen=True)
class Decision:
    """The answer to the person who pays, in code words that each language spells out.

    Attributes
    ----------
    emerged : str
        "all", "some" or "none" of the assessed runs; where no head was tested, "rise" or
        "no_rise" (of the score alone) or "unknown".
    gain : str
        What the fitted curves expect of the heads: "small", "clear", "unclear" or "unknown".
    loss : str
        Test loss late in training: "falling", "flat", "rising", "mixed" or "unknown".
    advice : str
        "stop", "stop_loss_rising", "optional", "continue", "extend_and_review", "add_seeds",
        "extend_no_head", "change", "test_first" or "cannot_say".
    remaining : Interval or None
        Share of the rise still to come: the middle head's median, and the widest bounds over heads.
    num_forecasts : int
        How many heads have a usable forecast.
    """

    emerged: str
    gain: str
    loss: str
    advice: str
    remaining: wording.Interval | None
    num_forecasts: int


def decide(findings: Findings) -> Decision:
    """Has it emerged, what more can be expected, and should training go on?

    The forecast is read from heads whose curve fits (no misfit, a rise found): clear if some
    head's lower bound leaves more than `WORTHWHILE_SHARE` of its rise to come, small if every
    head has a forecast whose upper bound leaves less, else unclear.
    """
    emerged = _emerged(findings)
    remaining = forecasts(findings)
    gain = "unknown"
    if remaining:
        every = len(remaining) == len(findings.highlighted)
        if any(one.lower >= WORTHWHILE_SHARE for one in remaining):
            gain = "clear"
        elif every and all(one.upper < WORTHWHILE_SHARE for one in remaining):
            gain = "small"
        else:
            gain = "unclear"
    loss = _loss(findings)
    settled = all(abs(head.late_change) < SCORE_CHANGE for head in findings.highlighted)
    return Decision(
        emerged=emerged,
        gain=gain,
        loss=loss,
        advice=_advise(emerged, gain, loss, settled),
        remaining=_widest(remaining),
        num_forecasts=len(remaining),
    )


def forecasts(findings: Findings) -> list[wording.Interval]:
    """For each highlighted head whose curve fits: the share of its rise still to come."""
    return [
        wording.Interval(
            1 - head.fraction_complete.median,
            1 - head.fraction_complete.upper,
            1 - head.fraction_complete.lower,
        )
        for head in findings.highlighted
        if forecastable(head) and head.fraction_complete is not None
    ]


def forecastable(head: Head) -> bool:
    """Whether its curve fits, so that what is still to come can be read from it."""
    fits = head.verdict not in {None, "no_emergence", "misfit"}
    return fits and head.fraction_complete is not None and head.fraction_complete.known


def _emerged(findings: Findings) -> str:
    if findings.assessed_runs:
        if not findings.emerged_runs:
            return "none"
        return "all" if findings.emerged_runs == findings.assessed_runs else "some"
    if all(head.rise_found is None for head in findings.heads):
        return "unknown"
    return "rise" if findings.basis == "rise" else "no_rise"


def _widest(remaining: list[wording.Interval]) -> wording.Interval | None:
    if not remaining:
        return None
    medians = sorted(one.median for one in remaining)
    middle = medians[len(medians) // 2]
    return wording.Interval(
        middle, min(one.lower for one in remaining), max(one.upper for one in remaining)
    )


def loss_direction(change: float, error: float) -> str:
    """One run's late test loss: falling, flat, rising, or too noisy to say.

    Examples
    --------
    >>> loss_direction(-0.2, 0.02), loss_direction(0.01, 0.02), loss_direction(-0.2, 0.2)
    ('falling', 'flat', 'unknown')
    """
    if math.isnan(change) or math.isnan(error):
        return "unknown"
    if abs(change) < LOSS_CHANGE:
        return "flat"
    if abs(change) < 2 * error:
        return "unknown"
    return "falling" if change < 0 else "rising"


def _loss(findings: Findings) -> str:
    directions = {loss_direction(one.change, one.change_error) for one in findings.losses}
    if not directions:
        return "unknown"
    return directions.pop() if len(directions) == 1 else "mixed"


def _advise(emerged: str, gain: str, loss: str, settled: bool) -> str:
    if emerged == "unknown":
        return "cannot_say"
    if emerged == "rise":
        return "test_first"
    if emerged in ("none", "no_rise"):
        return {
            "falling": "extend_no_head",
            "mixed": "extend_no_head",
            "unknown": "cannot_say",
        }.get(loss, "change")
    if emerged == "some":
        return "add_seeds"
    if loss == "rising":
        return "stop_loss_rising"
    if gain == "clear":
        return "continue"
    if gain == "small":
        return "stop" if loss == "flat" else "optional"
    return "stop" if loss == "flat" and settled else "extend_and_review"


HEADLINES = {
    "all": "EMERGED",
    "some": "EMERGED IN SOME RUNS",
    "none": "NOT EMERGED",
    "rise": "SCORES ROSE, NOT TESTED",
    "no_rise": "NO RISE FOUND",
    "unknown": "NOT ANALYSED",
}

ADVICE = {
    "stop": "stop training: the heads have formed and nothing measured promises a worthwhile gain",
    "stop_loss_rising": "stop training: the heads have formed and the test loss is rising again",
    "optional": "the heads are nearly done; go on only if a lower test loss is worth the cost",
    "continue": "go on: the fitted curves leave a clear part of the rise still to come",
    "extend_and_review": "go on for a limited time, then analyse again: the forecast is not sharp",
    "add_seeds": "train further seeds before relying on it: some runs have no such head",
    "extend_no_head": "no such head yet, but the test loss still moves: extend, then analyse again",
    "change": "do not go on unchanged: no such head, and the test loss no longer falls",
    "test_first": "assess the heads' work before deciding: a risen score alone is not enough",
    "cannot_say": "what was computed does not support a recommendation",
}


def text_summary(
    *,
    trajectory: xr.Dataset,
    assessment: xr.Dataset | None = None,
    comparison: xr.Dataset | None = None,
    onset: xr.Dataset | None = None,
    llc: xr.Dataset | None = None,
) -> list[str]:
    """Which heads detect collisions, since when, by which law, and at what degeneracy?

    Parameters
    ----------
    trajectory, assessment, comparison, onset, llc : xarray.Dataset or None
        As for `write_report`.

    Returns
    -------
    list of str
        Ten lines of plain ASCII for a terminal.

    Raises
    ------
    InputError
        If the trajectory has no collision scores.
    """
    findings = read_findings(trajectory, assessment, comparison, onset, llc)
    decision = decide(findings)
    heads = findings.highlighted
    shown = heads if len(heads) <= MAX_HEAD_LINES else heads[: MAX_HEAD_LINES - 1]
    lines = [_headline(findings, decision), *(_head_line(findings, head) for head in shown)]
    if len(heads) > len(shown):
        lines.append(f"and {wording.count(len(heads) - len(shown), 'more head')}, see the report")
    closing = [
        _llc_line(findings),
        _gain_line(decision),
        _loss_line(findings, decision),
        f"Advice: {ADVICE[decision.advice]}",
    ]
    room = NUM_LINES - len(lines) - len(closing)
    lines += _further_lines(findings, assessment)[:room]
    ascii_only = str.maketrans({"–": "-", "−": "-", "±": "+/-", "∞": "inf", "×": "x"})
    return [line.translate(ascii_only) for line in (*lines, *closing)]


def _headline(findings: Findings, decision: Decision) -> str:
    first = HEADLINES[decision.emerged]
    heads = findings.highlighted
    if findings.assessed_runs:
        runs, of = len(findings.emerged_runs), len(findings.assessed_runs)
        passing = sum(bool(head.passes) for head in findings.heads)
        denied = passing - len(findings.emerged)
        without = f", {denied} of them without a rise" if denied else ""
        return (
            f"{first}: collision-detection heads in {runs} of {wording.count(of, 'run')} "
            f"({passing} of {len(findings.heads)} heads pass all three tests{without})"
        )
    if decision.emerged == "rise":
        having = len({head.run for head in heads})
        return (
            f"{first}: {wording.count(len(heads), 'head')} in {having} of "
            f"{wording.count(len(findings.runs), 'run')}; whether they detect collisions was not "
            "tested"
        )
    if decision.emerged == "no_rise":
        return f"{first}: no head's collision score rose; the heads' work was not tested"
    return f"{first}: neither the heads' work nor their curves were analysed"


def head_name(head: Head) -> str:
    """Run, layer and head in words.

    Numbered as in the datasets, from 0.
    """
    return f"seed {head.run}, layer {head.layer}, head {head.head}"


def law(head: Head) -> str:
    """The verdict on one head's curve with the probabilities behind it."""
    power, exponential = (
        wording.probability(head.probability.get(name)) for name in ("power_law", "exponential")
    )
    words = {
        "power_law": f"power law (probability {power})",
        "exponential": f"exponential (probability {exponential})",
        "undecided": f"law undecided (power law {power}, exponential {exponential})",
        "no_emergence": "no rise found",
        "misfit": (
            f"neither law fits, p = {wording.number(head.misfit_p_value, 2)} (power law {power}, "
            f"exponential {exponential})"
        ),
    }
    if head.verdict is None:
        return "law not computed"
    own = wording.probability(head.probability.get(head.verdict))
    return words.get(head.verdict, f"{head.verdict} (probability {own})")


def _head_line(findings: Findings, head: Head) -> str:
    prefix = "" if head.emerged or findings.basis == "rise" else "Highest score, not a detector: "
    if prefix and not findings.assessed_runs:
        prefix = "Highest score: "
    onset = "onset not computed, "
    if head.rise_found is False:
        onset = ""
    elif head.onset is not None:
        onset = f"onset {wording.step_interval(head.onset)}, "
    score = wording.number(head.score.median)
    return f"{prefix}{head_name(head)}: score {score}, {onset}{law(head)}"


def _llc_line(findings: Findings) -> str:
    parts = []
    for run in findings.runs:
        before, after = findings.before_and_after(run)
        if before is None:
            continue
        ends = []
        for one in (before, after):
            if one is not None:
                doubt = "" if one.reliable else f", {one.verdict}"
                value = wording.with_error(one.value, one.standard_error)
                ends.append(f"{value} (step {wording.step(one.step)}{doubt})")
        parts.append(f"seed {run} {' to '.join(ends)}")
    if not parts:
        return "LLC: not computed"
    more = "" if len(parts) <= 3 else f"; {len(parts) - 3} more in the report"
    return f"LLC before to after (+/- standard error): {'; '.join(parts[:3])}{more}"


def _gain_line(decision: Decision) -> str:
    if decision.remaining is None:
        return "Expected further gain of the heads: no usable forecast"
    middle, low, high = (wording.share(value) for value in decision.remaining)
    heads = wording.count(decision.num_forecasts, "head")
    return (
        f"Expected further gain: {middle} of the score's rise still to come "
        f"(middle of {heads} with a forecast; widest 89% bounds {low} to {high})"
    )


def _loss_line(findings: Findings, decision: Decision) -> str:
    if not findings.losses:
        return "Test loss: not recorded"
    parts = [
        f"seed {one.run} {wording.number(one.first)} to {wording.number(one.last)}"
        + ("" if math.isnan(one.change) else f" (late change {wording.percent(one.change)})")
        for one in findings.losses[:3]
    ]
    more = "" if len(findings.losses) <= 3 else f"; {len(findings.losses) - 3} more in the report"
    return f"Test loss, {decision.loss}: {'; '.join(parts)}{more}"


def _further_lines(findings: Findings, assessment: xr.Dataset | None) -> list[str]:
    """What else is worth a line where there is room; five of them, most wanted first."""
    counts = {
        word: sum(head.verdict == verdict for head in findings.highlighted)
        for word, verdict in (
            ("power law", "power_law"),
            ("exponential", "exponential"),
            ("undecided", "undecided"),
            ("misfit", "misfit"),
            ("no rise", "no_emergence"),
        )
    }
    laws = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    layers = len({head.layer for head in findings.heads})
    per_layer = len({head.head for head in findings.heads})
    orders = [f"{wording.interval(head.order, 2)}" for head in findings.highlighted if head.order][
        :3
    ]
    rose = sum(bool(head.rise_found) and not head.emerged for head in findings.heads)
    return [
        f"Laws of the heads above: {laws or 'not computed'}",
        f"Trained: {wording.count(len(findings.runs), 'run')} "
        f"(seeds {', '.join(map(str, findings.runs))}) of {layers} layers with {per_layer} heads "
        f"each, to step {wording.step(findings.last_step)}",
        f"Score of a head that ignores distance: {wording.number(findings.baseline)}",
        f"Order of the potential, if a power law: {'; '.join(orders) or 'not computed'}",
        f"Further heads whose score rose without passing the tests: {rose}"
        if assessment is not None
        else "The three tests of a head's work were not made",
    ]
