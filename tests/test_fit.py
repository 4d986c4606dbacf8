"""The PyMC model has the quadrature's posterior: evidence, compilation and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import emergence_stats as es
from emergence_stats import evidence, labelled, models, sampling
from emergence_stats.bridge import bridge_sample
from emergence_stats.errors import InputError
from emergence_stats.families import HALF_TIME, ONSET, Family, get_family

STEP = np.unique(np.geomspace(1.0, 20_000.0, 40).round())


def gathered(seed=1, step=STEP, sd=None, kappa=1.0):
    generator = np.random.default_rng(seed)
    clean = es.relaxation(step, onset=300.0, timescale=200.0, kappa=kappa)
    values = clean + 0.02 * generator.normal(size=step.size)
    arrays, _ = labelled.gather(es.curve(values, step, sd=sd))
    return arrays, evidence.step_axis(arrays, "log")


def sampled(name, noise, arrays, axis):
    family = get_family(name)
    data = models.curve_data(arrays, axis, noise)
    generator = np.random.default_rng(5)
    first = sampling.population(family, noise, data, True, generator)
    data = sampling.with_stairs(family, noise, data, True, first)
    chosen = first[generator.choice(len(first), 4, replace=False)]
    starts = sampling.on_stairs(family, noise, data, chosen)
    found = sampling.compiled(family, noise, data, True)
    chains = sampling.draw_chains(
        found, starts, num_draws=500, num_tune=500, seed=3, target_accept=0.95, progress=False
    )
    return chains, sampling.density_of(family, noise, data, True)


@pytest.mark.parametrize("noise", ["independent", "ar1"])
@pytest.mark.parametrize("name", ["flat", "exponential", "power_law"])
def test_bridge_and_quadrature_have_one_evidence(name, noise):
    arrays, axis = gathered()
    chains, density = sampled(name, noise, arrays, axis)
    assert not chains.diverging.any()
    result = bridge_sample(chains.coordinates, density)
    exact = evidence.family_posterior(get_family(name), arrays, noise=noise)
    assert result.error < 0.1
    allowed = 4 * result.error + exact.error[0]
    assert abs(result.log_evidence - exact.log_integral[0]) < allowed


def test_one_model_serves_curves_of_any_length_with_and_without_sd(monkeypatch):
    built = []
    curve_model = sampling.curve_model

    def counted(*arguments):
        built.append(arguments)
        return curve_model(*arguments)

    monkeypatch.setattr(sampling, "curve_model", counted)
    monkeypatch.setattr(sampling, "COMPILED", type(sampling.COMPILED)())
    family = get_family("exponential")
    x = np.array([0.3, 0.1, -1.0])
    for arrays, axis in (gathered(), gathered(2, STEP[::2]), gathered(3, sd=0.02)):
        data = models.curve_data(arrays, axis, "independent")
        value, _ = sampling.compiled(family, "independent", data, True).evaluate(x)
        by_numpy = sampling.density_of(family, "independent", data, True)(x[None])[0]
        np.testing.assert_allclose(value, by_numpy, rtol=1e-10)
    assert len(built) == 1


def test_a_shape_that_cannot_be_differentiated_says_so():
    family = Family(
        "cut", "not smooth", (ONSET, HALF_TIME), lambda step, t0, half: np.maximum(step - t0, half)
    )
    arrays, axis = gathered()
    with pytest.raises(InputError, match="universal functions"):
        models.curve_model(family, "ar1", models.curve_data(arrays, axis, "ar1"), True)
