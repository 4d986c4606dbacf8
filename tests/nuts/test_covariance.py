"""The sampler's noise of two parts, measured and wandering, against the quadrature's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_t

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.data.labels import gather
from emergence_stats.nuts import sampling
from emergence_stats.nuts.covariance import noise_kind
from emergence_stats.nuts.data import curve_data
from emergence_stats.quadrature.evidence import family_posterior

STEP = np.geomspace(10.0, 4000.0, 14)


def measured_curve(seed=1):
    generator = np.random.default_rng(seed)
    sd = 0.02 * np.exp(generator.normal(0.0, 0.7, STEP.size))
    rise = es.relaxation(STEP, onset=60.0, timescale=80.0, kappa=0.0)
    wandering = 0.03 * generator.normal(size=STEP.size)
    return es.curve(rise + sd * generator.normal(size=STEP.size) + wandering, STEP, sd=sd)


@pytest.mark.parametrize(("family", "noise"), [("flat", "ar1"), ("exponential", "ou_log")])
def test_density_integrates_to_the_evidence(family, noise):
    """The mean likelihood of draws from a density near the posterior is the evidence."""
    arrays, _ = gather(measured_curve(), None)
    chosen, kind = get_family(family), noise_kind(noise, True)
    data = curve_data(arrays, step_axis(arrays, "log"), kind)
    density = sampling.density_of(chosen, kind, data, True)
    generator = np.random.default_rng(0)
    # A mixture about a tempered population: heavy-tailed, so that weights are bounded.
    x = sampling.population(chosen, kind, data, True, generator)
    root = np.linalg.cholesky(np.cov(x.T) + 1e-9 * np.eye(x.shape[1]))
    number, dim, nu = 40_000, x.shape[1], 4.0
    scaled = generator.normal(size=(number, dim)) / np.sqrt(
        generator.chisquare(nu, (number, 1)) / nu
    )
    proposal = multivariate_t(x.mean(axis=0), root @ root.T * 1.5, df=nu)
    drawn = x.mean(axis=0) + np.sqrt(1.5) * scaled @ root.T
    log_weight = density(drawn) - proposal.logpdf(drawn)
    found = logsumexp(log_weight) - np.log(number)
    share = np.exp(log_weight - logsumexp(log_weight))
    error = np.sqrt((share**2).sum() - 1.0 / number)
    assert error < 0.1
    exact = family_posterior(chosen, arrays, noise=noise)
    assert found == pytest.approx(exact.log_integral[0], abs=4 * error + 0.02)


def test_two_engines_have_one_evidence_where_sd_are_known():
    curve = measured_curve()
    fitted = es.fit(curve, "exponential", noise="independent", num_draws=400, num_tune=400)
    exact = es.compare(curve, families=("exponential",), noise="independent").dataset
    exact = exact.sel(family="exponential")
    allowed = 4 * fitted.log_evidence_error + float(exact["log_evidence_error"])
    assert fitted.log_evidence == pytest.approx(float(exact["log_evidence"]), abs=allowed)
    assert fitted.log_evidence_error < 0.1
    assert fitted.tree.attrs["noise"] == "independent"
    assert 0.5 < float(fitted.tree["posterior"]["sd_factor"].median()) < 2.0


def test_compiled_density_is_the_one_of_arrays():
    arrays, _ = gather(measured_curve(), None)
    flat, kind = get_family("flat"), noise_kind("ou_log", True)
    data = curve_data(arrays, step_axis(arrays, "log"), kind)
    x = np.array([0.3, -0.5, 0.8])
    evaluate = sampling.compile_model(flat, kind, data, True).evaluate
    value, gradient = evaluate(x)
    by_numpy = sampling.density_of(flat, kind, data, True)
    np.testing.assert_allclose(value, by_numpy(x[None])[0], rtol=1e-10)
    sides = x + 1e-5 * np.concatenate([np.eye(3), -np.eye(3)])
    up, down = np.split(by_numpy(sides), 2)
    np.testing.assert_allclose(gradient, (up - down) / 2e-5, rtol=1e-5, atol=1e-6)
