"""Declarations of segment models: what can be declared, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emergence_stats.segmentation.models import SEGMENT_MODELS, SegmentModel


def test_a_line_is_given_by_its_values_at_both_ends():
    u = np.linspace(0.0, 1.0, 5)
    assert SEGMENT_MODELS["linear"].columns(u) @ [3.0, 7.0] == pytest.approx(3.0 + 4.0 * u)
    assert SEGMENT_MODELS["constant"].columns(u) @ [3.0] == pytest.approx(np.full(5, 3.0))


def test_a_segment_has_points_enough_to_show_its_coefficients_and_noise():
    constant, linear = SEGMENT_MODELS["constant"], SEGMENT_MODELS["linear"]
    assert (constant.fewest_points, constant.usual_points) == (1, 2)
    assert (linear.fewest_points, linear.usual_points) == (3, 3)
    assert replace(linear, own_scale=True).fewest_points == 4


@pytest.mark.parametrize(
    "basis", [(), ((1.0, 1.0),), ((1.0, 0.0), (2.0, 0.0)), ((1, 0), (0, 1), (1, 1))]
)
def test_what_kernels_do_not_take_is_refused(basis):
    with pytest.raises(ValueError, match="give a level, or two functions that differ"):
        SegmentModel("wrong", "", basis=basis)
