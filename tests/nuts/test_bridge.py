"""Bridge sampling against integrals known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from emergence_stats.errors import InputError
from emergence_stats.nuts.bridge import bridge_sample

DIMENSION = 6
COVARIANCE = 0.8 ** np.abs(np.subtract.outer(np.arange(DIMENSION), np.arange(DIMENSION)))
PRECISION = np.linalg.inv(COVARIANCE)


def gaussian(generator, number):
    return (
        generator.normal(size=(4, number, 1)),
        lambda x: -0.5 * x[:, 0] ** 2,
        0.5 * np.log(2 * np.pi),
    )


def correlated(generator, number):
    draws = generator.normal(size=(4, number, DIMENSION)) @ np.linalg.cholesky(COVARIANCE).T
    log_integral = 0.5 * DIMENSION * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(COVARIANCE)[1]
    return draws, lambda x: -0.5 * np.einsum("ni,ij,nj->n", x, PRECISION, x), log_integral


def skewed(generator, number):
    """Logarithms of exponential variables: density exp(x - exp(x)), integral 1."""
    draws = np.log(generator.exponential(size=(4, number, 2)))
    return draws, lambda x: (x - np.exp(x)).sum(axis=1) + 3.0, 3.0


def banana(generator, number):
    x = 2.0 * generator.normal(size=(4, number))
    draws = np.stack([x, 0.5 * x**2 + generator.normal(size=x.shape)], axis=2)

    def density(z):
        return -(z[:, 0] ** 2) / 8.0 - 0.5 * (z[:, 1] - 0.5 * z[:, 0] ** 2) ** 2

    return draws, density, np.log(4 * np.pi)


# The error is good for many draws: a hundred a chain of two dimensions, more of six.
@pytest.mark.parametrize(
    ("target", "number"), [(gaussian, 250), (correlated, 250), (skewed, 100), (banana, 100)]
)
def test_integral_and_its_error(target, number):
    scores = []
    for seed in range(20):
        draws, density, truth = target(np.random.default_rng(seed), number)
        result = bridge_sample(draws, density, seed=seed)
        assert np.isfinite(result.error)
        if result.error > 1e-9:
            scores.append((result.log_evidence - truth) / result.error)
    scores = np.array(scores)
    # A mean of 20 scores has sd 0.22; the root mean square of 20 lies in 0.6 to 1.45 but for
    # one time in 500 on either side.
    assert scores.size == 20
    assert abs(scores.mean()) < 4 * 0.2236
    assert 0.6 < np.sqrt((scores**2).mean()) < 1.45


def test_autocorrelated_draws_have_a_larger_error():
    generator = np.random.default_rng(1)
    scores, errors = [], []
    for seed in range(20):
        x = np.zeros((4, 500, 1))
        x[:, 0] = generator.normal(size=(4, 1))
        for t in range(1, 500):
            x[:, t] = 0.9 * x[:, t - 1] + np.sqrt(0.19) * generator.normal(size=(4, 1))
        # A target slightly off the fitted normal, or the bridge would be exact.
        result = bridge_sample(x, lambda z: -0.5 * z[:, 0] ** 2, seed=seed)
        scores.append((result.log_evidence - 0.5 * np.log(2 * np.pi)) / result.error)
        errors.append(result.error)
    assert np.sqrt(np.mean(np.square(scores))) < 1.6
    independent = bridge_sample(generator.normal(size=(4, 500, 1)), lambda z: -0.5 * z[:, 0] ** 2)
    assert np.median(errors) > independent.error


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (np.zeros((4, 10, 2)), "50 draws"),
        (np.zeros((100, 2)), "shape"),
        (np.full((2, 100, 1), np.nan), "not finite"),
    ],
)
def test_bad_draws_are_refused(draws, message):
    with pytest.raises(InputError, match=message):
        bridge_sample(draws, lambda x: -(x[:, 0] ** 2))
