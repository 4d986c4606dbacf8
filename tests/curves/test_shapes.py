"""The relaxation law, and what families and priors promise to the rest."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

import emergence_stats as es
from emergence_stats.curves.families import (
    FAMILIES,
    HALF_TIME,
    ONSET,
    Family,
    get_family,
    register_family,
    resolve_families,
)
from emergence_stats.curves.priors import HalfNormal, SpanLogNormal, StepAxis, UniformOnset
from emergence_stats.curves.shapes import time_to_fraction, timescale_from_half_time

STEPS = np.unique(np.round(np.geomspace(1, 3000, 60)))
AXIS = StepAxis(*(np.array([value]) for value in (0.0, 1000.0, 10.0, 20.0)), logarithmic=True)


@pytest.mark.parametrize("kappa", ["0", "1e-305", "1e-17", "1e-9", "1e-4", "0.5", "2", "4", "30"])
def test_agrees_with_fifty_digit_arithmetic(kappa):
    elapsed = [0.0, 1e-12, 1e-3, 0.5, 3.0, 40.0, 1e6]
    ours = es.relaxation(elapsed, onset=0.0, timescale=1.0, kappa=float(kappa))
    with mpmath.workdps(400):
        exponent = mpmath.mpf(float(kappa))
        exact = [
            1 - (mpmath.exp(-t) if exponent == 0 else (1 + exponent * t) ** (-1 / exponent))
            for t in map(mpmath.mpf, elapsed)
        ]
    np.testing.assert_allclose(ours, [float(value) for value in exact], rtol=2e-14, atol=0)


def test_broadcasts_and_leaves_its_arguments_alone():
    step, onset = np.arange(5.0), np.array([[1.0], [2.0]])
    before = step.copy(), onset.copy()
    result = es.relaxation(step, onset=onset, timescale=1.0, kappa=0.5, amplitude=-2.0)
    assert result.shape == (2, 5)
    assert (result <= 0).all()
    np.testing.assert_array_equal(step, before[0])
    np.testing.assert_array_equal(onset, before[1])


@given(st.floats(1e-3, 1e6), st.floats(0.0, 20.0), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_half_time_and_time_to_fraction_invert_the_law(half_time, kappa, fraction):
    tau = timescale_from_half_time(half_time, kappa)
    at = {"onset": 0.0, "timescale": tau, "kappa": kappa}
    assert es.relaxation(half_time, **at) == pytest.approx(0.5, rel=1e-12)
    reached = time_to_fraction(fraction, half_time, kappa)
    # A relative error e of the time changes the law by at most e / 2 there.
    assert es.relaxation(reached, **at) == pytest.approx(fraction, rel=1e-9)


@pytest.mark.parametrize("name", ["sudden_exponential", "sudden_power_law"])
def test_families_draw_the_same_curve(name):
    family = get_family(name)
    step = np.linspace(0.0, 500.0, 40)
    kappa = {"sudden_exponential": 0.0, "sudden_power_law": 1.7}[name]
    values = (120.0, 60.0) + ((kappa,) if kappa else ())
    expected = es.relaxation(
        step, onset=120.0, timescale=timescale_from_half_time(60.0, kappa), kappa=kappa
    )
    np.testing.assert_allclose(family.shape(step, *values), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("prior", [SpanLogNormal(), HalfNormal(2.0), UniformOnset()])
def test_priors_are_proper_and_their_quantiles_are_their_own(prior):
    bounded = isinstance(prior, UniformOnset)
    z = np.linspace(0.0, 1.0, 40_001) if bounded else np.linspace(-40.0, 12.0, 400_001)
    with np.errstate(over="ignore", under="ignore"):
        density = np.exp(prior.log_density(z))
    # Trapezoidal rule at this spacing: error below 1e-6.
    assert np.trapezoid(density, z) == pytest.approx(1.0, abs=2e-6)
    share = np.array([0.1, 0.5, 0.9])
    below = [np.trapezoid(density[z <= q], z[z <= q]) for q in prior.quantile(share)]
    np.testing.assert_allclose(below, share, atol=2e-4)
    values = prior.value(prior.quantile(share), AXIS)
    assert (np.diff(values) > 0).all()


@given(st.floats(0.0, 1000.0), st.booleans())
def test_the_onset_axis_goes_there_and_back(step, logarithmic):
    axis = StepAxis(AXIS.first, AXIS.last, AXIS.shortest_gap, AXIS.offset, logarithmic)
    position = axis.step_to_position(np.array([step]))
    assert 0.0 <= position[0] <= 1.0 + 1e-12
    np.testing.assert_allclose(axis.position_to_step(position), step, rtol=1e-9, atol=1e-9)


def test_a_family_of_ones_own():
    ramp = Family(
        name="ramp",
        meaning="a straight rise that stops",
        parameters=(ONSET, HALF_TIME),
        shape=lambda step, onset, half: np.clip((step - onset) / (2 * half), 0.0, 1.0),
    )
    register_family(ramp)
    try:
        step = np.arange(0.0, 2000.0, 50.0)
        values = np.clip((step - 600.0) / 700.0, 0.0, 1.0)
        values += 0.01 * np.random.default_rng(0).normal(size=step.size)
        result = es.compare(es.curve(values, step), families=("exponential", "ramp")).dataset
        assert result["verdict"] == "ramp"
        assert result["onset"].values[0] < 600.0 < result["onset"].values[2]
        assert np.isnan(result["log_bayes_factor"])
        with pytest.raises(es.InputError, match="registered already"):
            register_family(ramp)
    finally:
        del FAMILIES["ramp"]


def test_families_are_found_by_name_or_refused():
    assert [f.name for f in resolve_families("power_law")] == ["flat", "power_law"]
    with pytest.raises(es.InputError, match="did you mean 'power_law'"):
        resolve_families(["powerlaw"])
    with pytest.raises(es.InputError, match="besides 'flat'"):
        resolve_families(["flat"])
    with pytest.raises(es.InputError, match="first parameter must be the onset"):
        register_family(Family("bad", "", (HALF_TIME,), lambda step, half: step / half))


def test_is_the_gradient_flow_of_its_potential():
    for order in (2.0, 2.5, 3.0, 4.0, 6.0):
        flow = integrate.solve_ivp(
            lambda _, q, order=order: -(q ** (order - 1)),
            (0, 50),
            [1.0],
            t_eval=np.linspace(0, 50, 40),
            rtol=1e-11,
            atol=1e-13,
        )
        ours = es.relaxation(flow.t + 7, onset=7.0, timescale=1.0, kappa=order - 2)
        np.testing.assert_allclose(ours, 1 - flow.y[0], atol=1e-9)


def test_before_the_onset_nothing_has_happened():
    y = es.relaxation(STEPS, onset=500.0, timescale=10.0, kappa=1.0, baseline=0.3)
    assert (y[STEPS <= 500] == 0.3).all()
    assert (np.diff(y[STEPS > 500]) > 0).all()


@pytest.mark.parametrize(
    "change", [{"timescale": 0.0}, {"kappa": -0.1}, {"onset": np.nan}, {"timescale": -1.0}]
)
def test_bad_parameters_are_named(change):
    given = {"onset": 1.0, "timescale": 1.0, "kappa": 1.0, **change}
    with pytest.raises(es.InputError, match=next(iter(change))):
        es.relaxation(STEPS, **given)
