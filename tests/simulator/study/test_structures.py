"""Counts of heads, and their probability against the control."""

from __future__ import annotations

import numpy as np
import pytest
from study_cases import make_tests

from simulator.study.structures import count_structures


def test_counts_and_probability_against_the_control():
    flags = np.zeros((5, 2, 3), dtype=bool)
    control = flags.copy()
    flags[:4, 0, 1] = True
    flags[0, 1, 2] = True
    found = count_structures(
        {
            "adam": make_tests(flags),
            "sgd": make_tests(flags),
            "no_contacts": make_tests(control),
        },
        {"adam": "no_contacts", "sgd": None, "no_contacts": None},
    )
    adam = found["adam"]
    assert (adam["runs"]["successes"], adam["heads"], adam["heads_in_all"]) == (4, 5, 30)
    assert adam["heads_by_run"] == [2, 1, 1, 1, 0]
    random = np.random.default_rng(0)
    one, two = random.beta(4.5, 1.5, 200_000), random.beta(0.5, 5.5, 200_000)
    expected = (one > two).mean()
    tolerance = 4.0 * np.sqrt(expected * (1.0 - expected) / 200_000)
    assert adam["probability_more_than_control"] == pytest.approx(expected, abs=tolerance)
    assert found["no_contacts"]["heads"] == 0
    assert adam["heads_in_control"] == 0
    assert "probability_more_than_control" not in found["sgd"]
