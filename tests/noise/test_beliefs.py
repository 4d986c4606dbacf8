"""The page of beliefs: densities are normalised, and the same for kernels, arrays and tensors."""

from __future__ import annotations

import numba
import numpy as np
import pytensor.tensor as pt
import pytest
from scipy import integrate, stats

from emergence_stats.noise import beliefs

DENSITIES = (
    beliefs.log_sech,
    beliefs.log_prior_size,
    beliefs.log_prior_factor,
    beliefs.log_prior_odds,
)


@pytest.mark.parametrize("log_density", DENSITIES, ids=lambda f: f.__name__)
def test_densities_are_one_function_for_all_and_normalised(log_density):
    total = integrate.quad(lambda x: np.exp(log_density(x)), -60.0, 60.0, limit=300)[0]
    assert total == pytest.approx(1.0, abs=1e-7)
    x, kernel = pt.dscalar(), numba.njit(lambda y: log_density(y))
    for value in (-30.0, -0.3, 4.0):
        assert kernel(value) == pytest.approx(log_density(value), rel=1e-13)
        assert log_density(x).eval({x: value}) == pytest.approx(log_density(value), rel=1e-13)


def test_they_are_the_densities_that_the_page_names():
    size, width = 0.3, beliefs.FACTOR_WIDTH
    new = stats.halfcauchy(scale=beliefs.NOISE_SCALE)
    assert beliefs.log_prior_size(np.log(size)) == pytest.approx(new.logpdf(size) + np.log(size))
    wander = stats.halfcauchy(scale=0.07).logpdf(size)
    assert beliefs.log_prior_wander(size, 0.07) == pytest.approx(wander)
    factor = stats.hypsecant(scale=width).logpdf(0.2)
    assert beliefs.log_prior_factor(0.2) == pytest.approx(factor)
    rho = np.array([0.3, 0.8])
    odds = np.log(rho) - np.log1p(-rho)
    # Log odds of a uniform variable are logistic.
    np.testing.assert_allclose(beliefs.log_prior_odds(odds), stats.logistic.logpdf(odds))
    log_rho, log_left = beliefs.log_correlation(odds)
    np.testing.assert_allclose(np.exp(log_rho), rho)
    np.testing.assert_allclose(np.exp(log_left), 1.0 - rho**2)
    share = stats.halfcauchy.cdf(2.0)
    assert beliefs.half_cauchy_at(share) == pytest.approx(2.0)


def test_kernels_hold_what_they_have_fused():
    """Fourth powers in `quadrature.likelihood`, and what its text states."""
    assert 1.0 / beliefs.FACTOR_WIDTH == 4.0
    assert (beliefs.BASELINE_SD, beliefs.AMPLITUDE_SD) == (1.0, 2.0)
