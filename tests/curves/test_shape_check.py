"""A shape that cannot be integrated is refused when it is registered, by name and value."""

from __future__ import annotations

import numpy as np
import pytest

import emergence_stats as es
from emergence_stats.curves.families import FAMILIES, HALF_TIME, ONSET, Family, register_family
from emergence_stats.curves.shape_check import check_shape


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_our_own_pass(family):
    check_shape(family)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (lambda step, onset, half: ((step - onset) / half) ** 1.5, "is nan at step 1 with onset="),
        (lambda step, onset, half: np.exp((step - onset) / half), "is inf at step"),
        (lambda step, onset, half: 0.5, r"returns \(\) for steps of \(1, 41\)"),
        (lambda step, onset, half: step[0] > onset[0], r"returns \(41,\)"),
        (lambda step, onset, half: float(step > onset), "fails on arrays"),
    ],
)
def test_a_shape_that_cannot_be_integrated_is_refused(shape, said):
    with pytest.raises(es.InputError, match=f"family 'broken': its shape {said}"):
        register_family(Family("broken", "of a test", (ONSET, HALF_TIME), shape))
    assert "broken" not in FAMILIES
