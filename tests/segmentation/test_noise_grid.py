"""The sum over the noise equals an integral over it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate

from emergence_stats.segmentation.noise_grid import noise_posterior
from tests.segmentation.by_hand import MODELS, POINTS, curve_of, every_segmentation, segment_by_hand


def test_noise_is_integrated():
    model = MODELS[0]
    curve = curve_of(model, seed=3)._replace(correlated=False)
    share = np.exp(curve.log_share)
    found = noise_posterior(curve, np.log(np.ones(3) / 3)).log_evidence
    for number in range(3):
        chosen = [(i, e) for i, e in every_segmentation(curve) if len(i) == number]
        total = sum(share[list(inner)].prod() for inner, _ in chosen)

        def density(log_scale, chosen=chosen, total=total):
            node = (1.0, np.exp(2 * log_scale), -700.0)
            terms = [
                sum(segment_by_hand(curve, model, node, a, b)[0] for a, b in pairs)
                + np.log(share[list(inner)].prod())
                for inner, edges in chosen
                for pairs in [itertools.pairwise(edges)]
            ]
            prior = 1 / (np.pi * np.cosh(log_scale - np.log(0.05)))
            return np.exp(np.logaddexp.reduce(terms)) / total * prior

        expected = np.log(integrate.quad(density, -6, 2, limit=200, epsrel=1e-4)[0])
        expected += 0.5 * POINTS * np.log(2 * np.pi)
        assert found[number] == pytest.approx(expected, abs=2e-3)
