"""The two passes equal sums over every segmentation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from emergence_stats.segmentation.one_curve import mean_curve
from emergence_stats.segmentation.sums import (
    Posterior,
    fill_evidence,
    fill_posterior,
    log_prior_total,
)
from tests.segmentation.by_hand import (
    MODELS,
    NODES,
    POINTS,
    curve_of,
    every_segmentation,
    segment_by_hand,
)

CONSTANT, LINEAR, _ = MODELS


@pytest.mark.parametrize(("model", "measured"), [(CONSTANT, False), (LINEAR, True)])
def test_equals_the_sum_over_every_segmentation(model, measured):
    curve = curve_of(model, measured=measured)
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    share = np.exp(curve.log_share)
    for node in NODES:
        evidence, total = np.full(4, -np.inf), np.zeros(4)
        joint: dict = {}
        for inner, edges in every_segmentation(curve):
            parts = [
                segment_by_hand(curve, model, node, a, b) for a, b in itertools.pairwise(edges)
            ]
            k = len(inner)
            total[k] += share[list(inner)].prod()
            log_density = sum(part[0] for part in parts) + np.log(share[list(inner)].prod())
            evidence[k] = np.logaddexp(evidence[k], log_density)
            mean = np.concatenate([part[1] for part in parts])
            square = np.concatenate([part[1] ** 2 + part[2] for part in parts])
            joint[inner] = (log_density, mean, square)
        found = np.empty((1, 4))
        fill_evidence(curve, node[None], found)
        constant = 0.5 * POINTS * np.log(2 * np.pi)
        possible = total > 0
        assert found[0, possible] == pytest.approx(evidence[possible] + constant, abs=1e-9)
        assert np.isneginf(found[0, ~possible]).all()
        log_total = log_prior_total(curve.log_share, curve.min_points, 3)
        assert np.exp(log_total) == pytest.approx(total)

        weight = {
            inner: np.exp(each[0]) * prior[len(inner)] / total[len(inner)]
            for inner, each in joint.items()
        }
        unit = sum(weight.values())
        inclusion, first = np.zeros(POINTS), np.zeros(POINTS)
        position, mean, square = np.zeros((2, POINTS)), np.zeros(POINTS), np.zeros(POINTS)
        for inner, each in joint.items():
            mass = weight[inner] / unit
            inclusion[list(inner)] += mass
            if inner:
                first[inner[0]] += mass
            if len(inner) == 2:
                position[[0, 1], list(inner)] += mass
            mean += mass * each[1]
            square += mass * each[2]
        ours = Posterior(
            np.zeros(POINTS), np.zeros(POINTS), np.zeros((2, POINTS)), np.zeros((5, POINTS + 1))
        )
        shares = np.where(possible, prior / np.where(possible, total, 1.0), 0.0)
        fill_posterior(curve, node[None], np.ones(1), shares, ours)
        assert ours.inclusion == pytest.approx(inclusion, abs=1e-9)
        assert ours.first == pytest.approx(first, abs=1e-9)
        assert ours.position == pytest.approx(position, abs=1e-9)
        our_mean, our_sd = mean_curve(ours.moments, curve.x)
        assert our_mean == pytest.approx(mean, abs=1e-7)
        assert our_sd == pytest.approx(np.sqrt(square - mean**2), abs=1e-6)
