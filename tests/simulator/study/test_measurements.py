"""Which heads are followed, and which they are compared with."""

from __future__ import annotations

import numpy as np
from study_cases import make_tests

from simulator.study.measurements import choose_pairs


def test_controls_of_heads_are_near_and_used_once():
    flags = np.array([[[True, False, True], [False, False, True]]])
    score = np.array([[[0.9, 0.3, 0.7], [0.2, 0.1, 0.8]]])
    start = np.array([[[0.2, 0.1, 0.18], [0.3, 0.1, 0.29]]])
    tests = make_tests(flags, score)
    pairs = choose_pairs(tests, tests["collision_score"].copy(data=start), 0, 3)
    # By score: (0, 0) takes its layer's only other; (1, 2) that of its own layer which began
    # like it, though its score is the larger now; what is left is in the other layer.
    assert pairs == [((0, 0), (0, 1)), ((1, 2), (1, 0)), ((0, 2), (1, 1))]


def test_without_a_head_that_fails_there_is_no_control():
    tests = make_tests(np.ones((1, 1, 2), dtype=bool))
    assert choose_pairs(tests, tests["collision_score"], 0, 2) == []
