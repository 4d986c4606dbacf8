"""Arguments that cannot be used are named, with what to give instead."""

from __future__ import annotations

import numpy as np
import pytest

from emergence_stats import checks
from emergence_stats.errors import InputError


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (checks.check_share, 1.0, "x: 1.0; give a number between 0 and 1"),
        (checks.check_share, "half", "x: 'half'"),
        (checks.check_number, True, "x: True; give one number"),
        (checks.check_number, [1.0], r"x: \[1.0\]; give one number"),
        (checks.check_number, np.inf, "x: inf; must be finite"),
        (checks.check_positive, -0.5, "x: -0.5; must be positive"),
        (checks.check_numbers, None, "x: missing"),
        (checks.check_numbers, "abc", "x: 'abc'; give numbers"),
        (checks.check_numbers, [1.0, np.nan], "x: holds nan; must be finite"),
        (checks.check_positive_numbers, [1.0, -2.0], "x: -2; must be positive"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(check, value, message):
    with pytest.raises(InputError, match=message):
        check("x", value)


@pytest.mark.parametrize("value", [True, 2.0, 1, "3"])
def test_a_whole_number_is_one(value):
    assert checks.check_whole("x", np.int64(2), 2) == 2
    with pytest.raises(InputError, match="give a whole number of at least 2"):
        checks.check_whole("x", value, 2)


def test_an_interval_has_the_probability_asked_for_evenly_outside():
    low, high = checks.check_prob(checks.PROB)
    assert (low, 0.5, high) == pytest.approx(checks.QUANTILES)
    with pytest.raises(InputError, match="prob: 0"):
        checks.check_prob(0.0)


def test_a_range_and_steps():
    assert checks.check_range((0, 1)) == (0.0, 1.0)
    for wrong in ((1.0, 0.0), (0.0, np.inf), 3):
        with pytest.raises(InputError, match="value_range"):
            checks.check_range(wrong)
    np.testing.assert_array_equal(checks.check_steps_to_predict(3), [3.0])
    for wrong in ([], [-1.0], [[1.0]], [np.nan]):
        with pytest.raises(InputError, match="steps"):
            checks.check_steps_to_predict(wrong)


def test_an_option_and_shapes():
    with pytest.raises(InputError, match="noise: unknown 'ar2'; did you mean 'ar1'"):
        checks.check_option("noise", "ar2", ("ar1", "ou"))
    with pytest.raises(InputError, match=r"a, b: shapes \(2,\), \(3,\) do not broadcast"):
        checks.broadcast(a=np.zeros(2), b=np.zeros(3))
