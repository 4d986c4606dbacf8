"""What follows from the findings: emerged or not, what more to expect, go on or not.

What lives here: the decision with its thresholds. What does not: the numbers it rests on
(`findings`) and the sentences that say it (`plain`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from emergence_stats.report.records import Findings
from emergence_stats.report.wording import Interval

# Less of the rise than this still to come is not worth training for; more is.
WORTHWHILE_SHARE = 0.10
# A test loss that moves less than this between the last two quarters is called flat.
LOSS_CHANGE = 0.05
# A head whose score moves less than this share of its rise between those quarters has settled.
SCORE_CHANGE = 0.03


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
    remaining: Interval | None
    num_forecasts: int


def decide(findings: Findings) -> Decision:
    """Has it emerged, what more can be expected, and should training go on?

    The forecast is read from heads whose curve fits (no misfit, a rise found): clear if some
    head's lower bound leaves more than `WORTHWHILE_SHARE` of its rise to come, small if every
    head has a forecast whose upper bound leaves less, else unclear.
    """
    heads = findings.highlighted
    emerged = _decide_emerged(findings)
    remaining = [head.remaining for head in heads if head.remaining is not None]
    gain = "unclear" if remaining else "unknown"
    if any(one.lower >= WORTHWHILE_SHARE for one in remaining):
        gain = "clear"
    elif remaining and len(remaining) == len(heads):
        gain = "small" if all(one.upper < WORTHWHILE_SHARE for one in remaining) else gain
    directions = {loss_direction(one.change, one.change_error) for one in findings.losses}
    loss = "mixed" if len(directions) > 1 else next(iter(directions), "unknown")
    settled = all(abs(head.late_change) < SCORE_CHANGE for head in heads)
    return Decision(
        emerged=emerged,
        gain=gain,
        loss=loss,
        advice=_advise(emerged, gain, loss, settled),
        remaining=_widest(remaining) if remaining else None,
        num_forecasts=len(remaining),
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


def _decide_emerged(findings: Findings) -> str:
    if findings.assessed_runs:
        if not findings.emerged_runs:
            return "none"
        return "all" if findings.emerged_runs == findings.assessed_runs else "some"
    if all(head.rise_found is None for head in findings.heads):
        return "unknown"
    return "rise" if findings.basis == "rise" else "no_rise"


def _widest(remaining: Sequence[Interval]) -> Interval:
    medians = sorted(one.median for one in remaining)
    return Interval(
        medians[len(medians) // 2],
        min(one.lower for one in remaining),
        max(one.upper for one in remaining),
    )


def _advise(emerged: str, gain: str, loss: str, settled: bool) -> str:
    if emerged == "unknown":
        return "cannot_say"
    if emerged == "rise":
        return "test_first"
    if emerged in ("none", "no_rise"):
        open_ends = {"falling": "extend_no_head", "mixed": "extend_no_head"}
        return open_ends.get(loss, "cannot_say" if loss == "unknown" else "change")
    if emerged == "some":
        return "add_seeds"
    if loss == "rising":
        return "stop_loss_rising"
    if gain == "clear":
        return "continue"
    if gain == "small":
        return "stop" if loss == "flat" else "optional"
    return "stop" if loss == "flat" and settled else "extend_and_review"
