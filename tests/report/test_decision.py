"""What is decided from findings, one case for each piece of advice."""

from __future__ import annotations

import pytest
from synthetic_runs import make_findings, make_head

from emergence_stats.report.decision import decide
from emergence_stats.report.records import LossTrend
from emergence_stats.report.wording import Interval

DONE = {"fraction_complete": Interval(0.98, 0.96, 0.99)}
MORE = {"fraction_complete": Interval(0.5, 0.4, 0.6)}
WIDE = {"fraction_complete": Interval(0.94, 0.85, 0.97)}
FAILED = {"passes": False, "verdict": "no_emergence"}
UNTESTED = {"passes": None}
UNKNOWN = {"passes": None, "verdict": None, "onset_probability": float("nan")}


def decide_for(first, second, **changes):
    heads = [make_head(0, **(WIDE | first)), make_head(1, **(WIDE | second))]
    return decide(make_findings(heads, **changes))


CASES = {
    "stop": (DONE, DONE, {}, "all small flat"),
    "optional": (DONE, DONE, {"change": -0.2}, "all small falling"),
    "stop_loss_rising": ({}, {}, {"change": 0.2}, "all unclear rising"),
    "continue": (MORE, MORE, {}, "all clear flat"),
    "extend_and_review": ({}, {"late_change": 0.2}, {}, "all unclear flat"),
    "add_seeds": ({}, FAILED, {}, "some unclear flat"),
    "change": (FAILED, FAILED, {}, "none unknown flat"),
    "extend_no_head": (FAILED, FAILED, {"change": -0.2}, "none unknown falling"),
    "test_first": (UNTESTED, UNTESTED, {}, "rise unclear flat"),
    "cannot_say": (UNKNOWN, UNKNOWN, {}, "unknown unknown flat"),
}


@pytest.mark.parametrize("advice", CASES)
def test_advice(advice):
    first, second, changes, expected = CASES[advice]
    decision = decide_for(first, second, **changes)
    assert f"{decision.emerged} {decision.gain} {decision.loss}" == expected
    assert decision.advice == advice


def test_a_loss_that_no_longer_moves_stops_settled_heads_without_a_sharp_forecast():
    assert decide_for({}, {}).advice == "stop"


def test_without_a_loss_nothing_is_said_of_heads_that_failed():
    assert decide_for(FAILED, FAILED, losses=()).advice == "cannot_say"


def test_untested_heads_that_did_not_rise():
    assert decide_for({**FAILED, **UNTESTED}, {**FAILED, **UNTESTED}).emerged == "no_rise"


def test_what_is_left_is_the_middle_head_s_between_the_widest_bounds():
    decision = decide_for({}, MORE)
    assert decision.remaining == pytest.approx((0.5, 0.03, 0.6))
    assert decision.num_forecasts == 2


def test_a_misfit_gives_no_forecast():
    decision = decide_for(*2 * [{"verdict": "misfit"}])
    assert (decision.remaining, decision.gain) == (None, "unknown")


def test_heads_that_pass_without_a_rise_are_not_counted():
    assert decide_for(*2 * [{"verdict": "no_emergence"}]).emerged == "none"


def test_runs_that_differ_are_mixed():
    losses = [LossTrend(run, 0.12, 0.02, 3000, -0.2 * run, 0.01) for run in range(2)]
    assert decide_for({}, {}, losses=losses).loss == "mixed"
