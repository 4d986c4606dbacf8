"""A member's likelihood is that of its curve alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import logistic, norm
from small_populations import STEP, scattered

import emergence_stats as es
from emergence_stats.curves.families import LAWS
from emergence_stats.data.labels import gather
from emergence_stats.population.members import (
    DRAWN_TOLERANCE,
    common_axis,
    member_likelihoods,
    relaxation_at,
)
from emergence_stats.population.orders import Orders
from emergence_stats.quadrature.evidence import Batch, posterior

KAPPA = np.exp(np.random.default_rng(5).normal(0.3, 0.6, size=6))
CURVES = scattered(5, KAPPA, sd=0.03, step=STEP[10:50], gradual=True)


@pytest.mark.parametrize("laws", LAWS)
def test_one_member_has_the_evidences_of_compare(laws):
    """Its cells under the prior of `compare`, and the sum over kappa under that of one order."""
    curve = CURVES[3]
    arrays, _ = gather(curve, None)
    members = member_likelihoods(arrays, laws=laws).members
    # 3 points of Gauss-Hermite a side in each of the cells.
    root = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0])
    unit = np.stack(np.meshgrid(root, root), axis=-1).reshape(-1, 2)
    share = np.outer([1, 4, 1], [1, 4, 1]).ravel() / 36.0
    xx, xh, hh = np.moveaxis(members.covariance[0], -1, 0)
    x = members.mean[0, ..., :1] + np.sqrt(xx)[..., None] * unit[:, 0]
    h = members.mean[0, ..., 1:] + (xh / np.sqrt(xx))[..., None] * unit[:, 0]
    h = h + np.sqrt(hh - xh**2 / xx)[..., None] * unit[:, 1]
    prior = np.exp(logistic.logpdf(x) + norm.logpdf(h)) @ share
    likelihood = logsumexp(members.log_mass[0], b=prior, axis=-1)[None, None]
    found = Orders(members.kappa, likelihood).log_likelihood(likelihood)[0, :2]
    data = es.compare(curve, families=laws, noise="ar1", tolerance=0.003).dataset
    np.testing.assert_allclose(found, data["log_evidence"][1:], atol=0.02)


@pytest.mark.parametrize("kappa", [0.0, 0.7, 4.0])
def test_a_gradual_member_has_the_evidence_of_another_integration(kappa):
    """That over the onset, panel by panel, in which nothing is drawn."""
    arrays, _ = gather(CURVES, None)
    batch, family = Batch(arrays, common_axis(arrays, "log"), "ar1"), relaxation_at(kappa)
    found = posterior(family, batch, DRAWN_TOLERANCE)
    expected = posterior(replace(family, gradual=False), batch, 0.01)
    np.testing.assert_allclose(found.log_integral, expected.log_integral, atol=0.03)
    # Their means as far as a fifth of their spread.
    for row in range(6):
        one, two = (slice(*p.start[row : row + 2]) for p in (found, expected))
        middle = expected.weight[two] @ expected.z[two]
        spread = np.sqrt(expected.weight[two] @ (expected.z[two] - middle) ** 2)
        assert (np.abs(found.weight[one] @ found.z[one] - middle) < 0.2 * spread).all()
