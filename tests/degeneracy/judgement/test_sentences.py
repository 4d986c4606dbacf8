"""Every check has its words, and what leads to a verdict is told before them."""

from __future__ import annotations

import pytest

from emergence_stats.degeneracy.judgement.sentences import sentence
from emergence_stats.degeneracy.judgement.verdicts import Check, Finding, Verdict, verdict_of


@pytest.mark.parametrize("check", Check)
def test_every_check_has_a_sentence_that_its_finding_fills(check: Check) -> None:
    found = Finding(check, 1.25, 2.5, 3.75, growth=1.5)
    told = sentence(found)
    assert found.verdict is None or told.startswith(f"{found.verdict}: ")
    assert "{" not in told
    assert "nan" not in told


def test_the_first_finding_that_decides_gives_the_verdict() -> None:
    beside = Finding(Check.LARGEST_STEP, 0.1)
    known = Finding(Check.HALF_THE_LOCALISATION, decides=False)
    drifting = Finding(Check.DRIFT)
    disagreeing = Finding(Check.RHAT, 1.0612, 1.05)
    assert verdict_of([beside, known]) == "reliable"
    assert verdict_of([beside, known, drifting, disagreeing]) is Verdict.STILL_DRIFTING
    assert sentence(disagreeing) == "chains disagree: R-hat is 1.061, above 1.05"
    assert sentence(beside) == "the largest step size that worked is 0.1"
