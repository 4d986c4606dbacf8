"""The density and the mean of every segment equal those of dense matrices, for every model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate

from emergence_stats.segmentation.segments import SUMS, mean_of, noise_at, segments_from
from tests.segmentation.by_hand import GAP, MODELS, NODES, POINTS, curve_of, segment_by_hand


def densities(curve, node, start):
    log_weight, sums = np.empty(POINTS), np.empty((POINTS, SUMS))
    segments_from(
        curve, noise_at(curve, node), start, np.zeros(POINTS + 1), np.inf, log_weight, sums
    )
    return log_weight, sums


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("measured", [False, True])
def test_every_segment_has_its_dense_density_and_mean(model, measured):
    curve = curve_of(model, measured=measured)
    for node in NODES:
        for start in range(POINTS - curve.min_points + 1):
            log_weight, sums = densities(curve, node, start)
            for last in range(start + curve.min_points - 1, POINTS):
                points = last + 1 - start
                density, mean, variance = segment_by_hand(curve, model, node, start, last + 1)
                constant = 0.5 * points * np.log(2 * np.pi)
                assert log_weight[last] == pytest.approx(density + constant, abs=1e-9)
                x = curve.x[start : last + 1]
                level, slope, *moments = mean_of(
                    curve.basis, curve.own_scale, points, x[0], x[-1] - x[0], sums[last]
                )
                assert level + slope * x == pytest.approx(mean, abs=1e-9)
                assert np.polyval(moments[::-1], x) == pytest.approx(variance, abs=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_scale_of_each_segment_is_integrated(model):
    model = replace(model, own_scale=True)
    curve = curve_of(model)
    log_rho = np.log(0.4)
    node = np.array([1.0, 1.0 / (1 - 0.4**2), log_rho])
    innovation = np.sqrt(-np.expm1(2 * log_rho * GAP[-1]) * node[1])
    for start, last in ((0, POINTS - 1), (2, 2 + curve.min_points)):

        def density(log_scale, low=start, high=last + 1):
            scale = np.exp(log_scale)
            given = (1.0, node[1] * scale**2, log_rho)
            inside = segment_by_hand(curve, model, given, low, high)[0]
            ratio = scale * innovation / 0.05
            return np.exp(inside) * 2 / np.pi * ratio / (1 + ratio**2)

        points = last + 1 - start
        expected = np.log(integrate.quad(density, -7, 6, limit=400)[0])
        expected += 0.5 * points * np.log(2 * np.pi)
        # What is lost: everything finer than the resolution, and the ends of a short rule.
        assert densities(curve, node, start)[0][last] == pytest.approx(expected, abs=3e-3)
