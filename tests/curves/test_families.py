"""Every family: its shape, its declaration, and its evidence against plain Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.curves.families import FAMILIES, get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.data.labels import gather
from emergence_stats.quadrature.evidence import Batch, family_posterior

STEP = np.unique(np.round(np.geomspace(1.0, 5000.0, 20)))
EMERGING = [name for name, family in FAMILIES.items() if family.emerges]
COORDINATE = st.floats(-3.0, 3.0)


def batch_of(step=STEP, seed=0):
    generator = np.random.default_rng(seed)
    clean = es.relaxation(step, onset=200.0, timescale=400.0, kappa=1.0)
    arrays, _ = gather(es.curve(clean + 0.1 * generator.normal(size=step.size), step))
    return arrays, Batch(arrays, step_axis(arrays, "log"), "independent")


@pytest.mark.parametrize("name", EMERGING)
@given(position=st.floats(0.0, 1.0), z=st.tuples(*[COORDINATE] * 4))
@settings(max_examples=40, deadline=None)
def test_a_shape_is_a_finite_share_that_begins_at_the_onset(name, position, z):
    family = get_family(name)
    _, batch = batch_of()
    coordinates = np.array([[position, *z][: len(family.free)]])
    shape = batch.shape(family, np.zeros(1, int), coordinates)[0]
    assert np.isfinite(shape).all()
    assert (shape >= -1e-12).all()
    onset = batch.parameters(family, np.zeros(1, int), coordinates)[0]
    if not family.gradual:
        assert (shape[onset >= STEP] <= 1e-9).all()
    if not name.startswith("growth"):
        assert (shape <= 1.0 + 1e-12).all()
    if not name.endswith("decline"):
        assert (np.diff(shape) >= -1e-12).all()


@pytest.mark.parametrize("name", ["exponential", "sudden_power_law", "stretched_exponential"])
@pytest.mark.parametrize("decline", ["", "_decline"])
def test_half_of_the_amplitude_has_come_at_the_half_time(name, decline):
    family = get_family(name + decline)
    extra = (0.7,) * (len(family.parameters) - 2 - bool(decline))
    values = (100.0, 50.0, *extra, *((1e9,) if decline else ()))
    assert family.shape(np.array([150.0]), *values)[0] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("name", ["exponential", "power_law", "stretched_exponential", "logistic"])
def test_times_said_of_a_family_are_those_of_its_shape(name):
    family = get_family(name)
    values = [np.array([value]) for value in (100.0, 50.0, 0.7, 1.3)[: len(family.parameters)]]
    at = family.derived(*values)["time_to_99_percent"]
    assert family.shape(at, *values)[0] == pytest.approx(0.99, abs=1e-6)


def test_limits_join_the_families():
    step = np.array([120.0, 180.0, 900.0])
    exponential = get_family("sudden_exponential").shape(step, 100.0, 50.0)
    stretched = get_family("stretched_exponential").shape(step, 100.0, 50.0, 1.0)
    both = get_family("two_exponentials").shape(step, 100.0, 50.0, 7.0, 1.0)
    declining = get_family("sudden_exponential_decline").shape(step, 100.0, 50.0, 1e12)
    for other in (stretched, both, declining):
        np.testing.assert_allclose(other, exponential, rtol=1e-6)
    late = get_family("sudden_exponential_decline").shape(np.array([1100.0]), 100.0, 5.0, 1000.0)
    np.testing.assert_allclose(late, 0.5)


@pytest.mark.parametrize("name", [n for n in EMERGING if n != "two_exponentials_decline"])
def test_evidence_is_the_mean_likelihood_over_the_prior(name):
    """Plain Monte Carlo over the nonlinear parameters, on a curve noisy enough for it."""
    family = get_family(name)
    arrays, batch = batch_of(seed=4)
    number = 300_000
    share = np.random.default_rng(7).uniform(size=(number, len(family.free)))
    z = np.column_stack([p.prior.quantile(share[:, k]) for k, p in enumerate(family.free)])
    value = batch.log_likelihood(family)(np.zeros(number, int), z, np.full(number, -np.inf))
    weight = np.exp(value - value.max())
    expected = value.max() + np.log(weight.mean())
    error = weight.std() / weight.mean() / np.sqrt(number)
    assert error < 0.02, "too few of the prior's draws count"
    found = family_posterior(family, arrays, noise="independent")
    assert abs(found.log_integral[0] - expected) < 4 * error + found.error[0]
    assert found.error[0] < 0.1


@pytest.mark.parametrize("name", EMERGING)
def test_the_same_shape_serves_both_engines(name):
    import pytensor.tensor as pt

    family = get_family(name)
    values = [np.float64(v) for v in (100.0, 50.0, 0.7, 0.4, 900.0)[: len(family.parameters)]]
    tensors = [pt.dscalar() for _ in values]
    symbolic = family.shape(pt.as_tensor(STEP), *tensors)
    found = symbolic.eval(dict(zip(tensors, values, strict=True)), mode="FAST_COMPILE")
    np.testing.assert_allclose(found, family.shape(STEP, *values), rtol=1e-9, atol=1e-12)


def test_declining_and_gradual_curves_are_recognised():
    generator = np.random.default_rng(2)
    step = np.unique(np.round(np.geomspace(1.0, 50_000.0, 60)))
    declining = get_family("sudden_exponential_decline").shape(step, 300.0, 200.0, 30_000.0)
    gradual = get_family("logistic_log").shape(step, 300.0, 3000.0)
    families = ("exponential", "power_law", "sudden_exponential_decline", "logistic_log")
    for clean, truth in ((declining, "sudden_exponential_decline"), (gradual, "logistic_log")):
        curve = es.curve(clean + 0.01 * generator.normal(size=step.size), step)
        plain = es.compare(curve).dataset
        wide = es.compare(curve, families=families).dataset
        assert wide["probability"].sel(family=truth) > 0.9
        assert wide["verdict"].item() == truth
        assert wide["largest_departure"] < 0.03
        # A flow follows a logistic curve in log step, but declines nowhere.
        assert (plain["verdict"] == "misfit") == (truth == "sudden_exponential_decline")
        assert (plain["largest_departure"] > 0.3) == (truth == "sudden_exponential_decline")
