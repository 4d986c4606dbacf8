"""Curvature against the dense Hessian."""

from __future__ import annotations

import pytest
import torch
from known_landscapes import linear_problem, squared_error

from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.tuning.stiffness import largest_curvature

pytestmark = pytest.mark.usefixtures("one_thread")


def test_largest_curvature_is_that_of_the_dense_hessian() -> None:
    model, data, eigenvalues = linear_problem(spread=3.0)
    landscape = LossLandscape(model, squared_error, data)
    rows = torch.arange(2000)
    found, _ = largest_curvature(landscape, landscape.centre, rows, scale=100.0, localisation=7.0)
    # Power iteration approaches from below and stops when a round adds less than 2%.
    assert 0.85 * (100.0 * eigenvalues[-1] + 7.0) < found <= 1.01 * (100.0 * eigenvalues[-1] + 7.0)
