"""Ten lines, whatever was computed."""

from __future__ import annotations

import re

import pytest
from synthetic_runs import (
    BASELINE,
    make_assessment,
    make_comparison,
    make_onset,
    make_results,
    make_results_without_heads,
)

from emergence_stats.report import text_summary

INPUTS = ("assessment", "comparison", "onset", "llc")


def test_says_which_heads_when_and_by_which_law():
    lines = text_summary(**make_results())
    assert all(line.isascii() for line in lines)
    assert lines[0].endswith("in 2 of 2 training runs. 4 of 8 heads pass every test.")
    assert "seed 0, layer 0, head 1: score 0.350, onset 640 [609, 687]" in lines[1]
    assert "power law (probability 0.97)" in lines[1]
    assert any("law undecided (power law 0.71, exponential 0.29)" in line for line in lines)
    assert any("seed 1 38.0 +/- 1.3 (step 400) to 75.5 +/- 1.3" in line for line in lines)
    assert any("Held-out loss: 0.021, from 0.12 at the start." in line for line in lines)
    assert lines[-1].startswith("Should training go on? No.")


@pytest.mark.parametrize("missing", [*[(name,) for name in INPUTS], INPUTS])
def test_has_ten_lines_whatever_is_missing(missing):
    lines = text_summary(**make_results(**dict.fromkeys(missing)))
    assert len(lines) == 10
    assert not re.search(r"\bnan\b|None", " ".join(lines))


def test_without_heads_names_the_highest_score_as_what_it_is():
    lines = text_summary(**make_results_without_heads())
    assert lines[0].startswith("No: by step 3,000 the structure had emerged in 0 of 2")
    assert lines[1].startswith("Highest score, not passing: seed")
    assert f"Score of a head that knows nothing of it: {BASELINE:.4f}" in lines
    assert len(lines) == 10


def test_heads_that_pass_without_a_rise_are_counted_apart():
    comparison = make_comparison(emerging={})
    results = make_results(comparison=comparison, onset=make_onset(comparison))
    assert "4 of 8 heads pass every test, 4 of them without a rise" in text_summary(**results)[0]


def test_many_heads_are_counted():
    assessment = make_assessment()
    assessment["passes"][:] = True
    lines = text_summary(**make_results(assessment=assessment, comparison=None, onset=None))
    assert len(lines) == 10
    assert "and 4 more heads, see the report" in lines
