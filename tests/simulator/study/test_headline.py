"""Words follow the numbers."""

from __future__ import annotations

import numpy as np
from study_cases import make_tests

from simulator.study.headline import headline
from simulator.study.structures import count_structures


def test_a_head_in_the_control_takes_the_support_away():
    flags = np.ones((5, 1, 2), dtype=bool)
    control = np.zeros_like(flags)
    control[0, 0, 0] = True
    found = count_structures(
        {"adam": make_tests(flags), "no_contacts": make_tests(control)},
        {"adam": "no_contacts", "no_contacts": None},
    )
    assert found["adam"]["probability_more_than_control"] > 0.9
    empty = {"structures": found, "degeneracy": {}, "dynamics": {}, "one_potential": {}}
    assert headline(empty)[0].startswith("(a) Structures: undecided.")
    found["adam"]["heads_in_control"] = 0
    assert headline(empty)[0].startswith("(a) Structures: supported.")
