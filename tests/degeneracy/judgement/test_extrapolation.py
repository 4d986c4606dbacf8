"""Extrapolation to no localisation."""

from __future__ import annotations

import numpy as np
import pytest

from emergence_stats.degeneracy.judgement.extrapolation import weights_at_zero

pytestmark = pytest.mark.usefixtures("one_thread")


def test_extrapolation_is_exact_for_mixtures_and_linear_in_the_estimates() -> None:
    gamma = np.array([1.0, 2.0, 4.0, 8.0])
    for curvature, weight in ([(2.0,), (3.0,)], [(0.5, 50.0), (1.0, 4.0)], [(1e9,), (2.0,)]):
        x, c = np.array(curvature), np.array(weight)
        llc = (c * x / (x + gamma[:, None])).sum(axis=1)
        weights = weights_at_zero(gamma, llc)
        assert weights @ llc == pytest.approx(c.sum(), rel=0.05)
        assert weights_at_zero(gamma, 7.0 * llc) @ llc == pytest.approx(c.sum(), rel=0.05)
    # What no mixture can do, rise with the localisation, is fitted by its mean and not amplified.
    rising = np.array([1.0, 1.1, 1.2, 1.3])
    assert weights_at_zero(gamma, rising) @ rising == pytest.approx(1.15, abs=0.01)
