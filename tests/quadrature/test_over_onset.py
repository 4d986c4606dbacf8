"""Peaks of the onset's density that are narrow beside the gaps between checkpoints."""

from __future__ import annotations

import numpy as np

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.data.labels import gather
from emergence_stats.quadrature.evidence import family_posterior

# One checkpoint nine tenths up the rise ties the onset to the half-time: a peak of the onset's
# density less than a hundredth of the axis wide, between the points of a first look.
CAUGHT_HALF_WAY = [
    0.00183712, -0.00440468, 0.00769821, 0.01015327, -0.00147772, 0.03522754, 0.90496129,
    0.99835003, 0.9955775, 1.0209189, 0.99649245, 0.98862665, 0.99844102, 1.01077831,
    0.99062546, 1.01951225,
]  # fmt: skip


def test_a_peak_between_the_points_of_a_panel_is_found():
    curve = es.curve(CAUGHT_HALF_WAY, np.linspace(0.0, 6000.0, 16))
    arrays, _ = gather(curve, None)
    exponential = get_family("sudden_exponential")
    usual = family_posterior(exponential, arrays)
    fine = family_posterior(exponential, arrays, tolerance=0.002)
    # Before: 0.34 nats lower, with an error of 0.013 stated.
    assert abs(usual.log_integral[0] - fine.log_integral[0]) < usual.error[0] + fine.error[0]
    assert usual.error[0] < 0.05
