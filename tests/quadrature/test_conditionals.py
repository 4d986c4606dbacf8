"""Draws of level, amplitude and noise are of the distribution that is integrated over."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from emergence_stats.curves.families import get_family
from emergence_stats.quadrature import conditionals
from tests.noise.dense import EVEN, ONE, UNEVEN, Z, batch_of, integrate_noise

NUMBER = 4000


def uniform_and_normal():
    random = np.random.default_rng(3).uniform(size=(NUMBER, 4))
    random[:, 2:] = stats.norm.ppf(random[:, 2:])
    return random


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("noise", ["independent", "ar1", "ou_log"])
@pytest.mark.parametrize("name", ["sudden_power_law", "flat"])
def test_means_are_those_of_the_dense_model(name, noise, measured):
    batch = batch_of(EVEN if noise == "ar1" else UNEVEN, noise, measured)
    family = get_family(name)
    z = Z if family.emerges else Z[:, :0]
    exact = integrate_noise(batch, batch.shape(family, ONE, z)[0] if family.emerges else None)
    many = np.zeros(NUMBER, dtype=int)
    draws = batch.draw_linear(family, many, np.repeat(z, NUMBER, axis=0), uniform_and_normal())
    scale, centre = batch.curves.scale[0], batch.curves.centre[0]
    pairs = [
        (np.log(draws[:, 2] / scale), exact.log_size),
        (draws[:, 3], exact.rho),
        ((draws[:, 0] - centre) / scale, exact.linear[0]),
    ]
    if family.emerges:
        pairs.append((draws[:, 1] / scale, exact.linear[1]))
    for values, mean in pairs:
        error = values.std() / np.sqrt(NUMBER)
        # The grid's own error is a percent or two of the spread.
        assert abs(values.mean() - mean) <= 4 * error + 0.02 * values.std()


def test_climbing_draws_the_same():
    batch, family = batch_of(UNEVEN, "ou_log"), get_family("sudden_power_law")
    many, z = np.zeros(NUMBER, dtype=int), np.repeat(Z, NUMBER, axis=0)
    arguments = batch.shape(family, many, z), many, batch.kernel_curves(family)
    random = uniform_and_normal()
    one, other = np.zeros((NUMBER, 4)), np.zeros((NUMBER, 4))
    conditionals.draw_conditionals(*arguments, random, one)
    conditionals.draw_conditionals_by_climbing(*arguments, random, other)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
