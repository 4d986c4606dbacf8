"""The effective potential against numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import emergence_stats as es
from emergence_stats.theory.slowing import CriticalPotential
from tests.theory.by_integration import integrate

ORDERS = st.floats(2.0, 12.0)
POSITIVE = st.floats(0.05, 20.0)


@pytest.mark.parametrize("order", [2.0, 2.001, 3.0, 4.0, 7.5])
@pytest.mark.parametrize(("strength", "start"), [(1.0, 1.0), (0.3, -1.7)])
def test_trajectory_is_the_integrated_flow(order, strength, start):
    potential = es.EffectivePotential(order, strength=strength, start=start, start_time=2.0)
    elapsed = np.linspace(0.0, 20.0, 30)
    np.testing.assert_allclose(
        potential.trajectory(2.0 + elapsed),
        integrate(potential.force, [start], elapsed)[:, 0],
        rtol=1e-8,
        atol=1e-11,
    )
    assert potential.trajectory([0.0, 2.0]).tolist() == [start, start]


@given(ORDERS, POSITIVE, st.floats(0.1, 3.0), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_it_is_the_relaxation_that_fits_use(order, strength, start, fraction):
    potential = es.EffectivePotential(order, strength=strength, start=start, start_time=7.0)
    t = np.linspace(0.0, 7.0 + 5.0 * potential.timescale, 20)
    score = es.relaxation(t, onset=7.0, timescale=potential.timescale, kappa=order - 2.0)
    np.testing.assert_allclose(1.0 - potential.trajectory(t) / start, score, rtol=0, atol=1e-12)
    again = es.EffectivePotential.from_relaxation(
        kappa=order - 2.0, timescale=potential.timescale, onset=7.0, start=start
    )
    np.testing.assert_allclose(again.strength, strength, rtol=1e-9)
    # Around 1 - fraction a time that is off by a share e moves q by at most e.
    reached = potential.trajectory(potential.time_to(fraction)) / start
    assert reached == pytest.approx(1.0 - fraction, rel=1e-8)


@given(ORDERS, POSITIVE, st.floats(0.2, 3.0))
@settings(deadline=None)
def test_value_force_and_curvature_are_derivatives(order, strength, q):
    potential = es.EffectivePotential(order, strength=strength)
    h = 1e-4 * q
    slope = (potential.value(q + h) - potential.value(q - h)) / (2 * h)
    # Central differences err by h^2 n^2 / (6 q^2) at most, relatively.
    assert -potential.force(q) == pytest.approx(slope, rel=1e-6)
    bend = (potential.force(q - h) - potential.force(q + h)) / (2 * h)
    assert potential.curvature(q) == pytest.approx(bend, rel=1e-6)
    assert potential.relaxation_time(q) == pytest.approx(-q / potential.force(q), rel=1e-12)
    assert potential.value(-q) == potential.value(q)
    assert potential.force(-q) == -potential.force(q)


def test_exponents_are_those_of_the_late_curve():
    potential = es.EffectivePotential(5, strength=0.7)
    t = np.array([1e9, 1e10])
    slope = np.diff(np.log(potential.trajectory(t))) / np.log(10.0)
    assert -slope == pytest.approx(potential.exponent, rel=1e-6)
    loss = np.diff(np.log(potential.value(potential.trajectory(t)))) / np.log(10.0)
    assert -loss == pytest.approx(potential.loss_exponent, rel=1e-6)
    plain = es.EffectivePotential(2)
    assert plain.exponent == plain.loss_exponent == math.inf


@pytest.mark.parametrize("order", [2.0, 3.0, 4.0, 6.5])
def test_learning_coefficient_is_the_scaling_of_the_free_energy(order):
    potential = es.EffectivePotential(order, strength=1.3)

    def log_mass(n):  # over the prior -1 < q < 1; the mass is near q = n^(-1/order)
        reach = (60.0 * order / n) ** (1.0 / order)
        return math.log(quad(lambda q: math.exp(-n * float(potential.value(q))), 0.0, reach)[0])

    slope = (log_mass(1e8) - log_mass(1e10)) / math.log(100.0)
    assert slope == pytest.approx(potential.learning_coefficient, rel=1e-6)


def test_times_are_when_it_happens():
    potential = es.EffectivePotential(3.5, strength=0.2, start=2.0, start_time=5.0)
    t = potential.convergence_time(1e-5)
    assert potential.value(potential.trajectory(t)) == pytest.approx(1e-5, rel=1e-9)
    assert potential.convergence_time(1e9) == 5.0
    assert potential.trajectory(potential.time_to_amplitude(0.3)) == pytest.approx(0.3, rel=1e-9)
    assert potential.time_to_amplitude(3.0) == 5.0
    assert potential.time_to(0.0) == 5.0
    assert potential.relaxation_time(0.0) == math.inf
    assert es.EffectivePotential(300).time_to(0.9999) == math.inf
    assert es.EffectivePotential(2, strength=4).relaxation_time(0.0) == 0.25


@given(st.floats(1e-12, 1e-3), st.floats(0.0, 30.0))
@settings(deadline=None)
def test_the_exponential_is_the_limit_from_above(kappa, t):
    limit = es.EffectivePotential(2).trajectory(t)
    near = es.EffectivePotential(2.0 + kappa).trajectory(t)
    # log q differs by kappa t^2 / 2 at most, and by the rounding of 2 + kappa.
    assert 0.0 <= np.log(near / limit) + 1e-13 <= (kappa + 1e-15) * t**2 / 2 + 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: es.EffectivePotential(1.9), "order: 1.9"),
        (lambda: es.EffectivePotential(math.nan), "order: nan"),
        (lambda: es.EffectivePotential(True), "order: True"),
        (lambda: es.EffectivePotential(4, strength=0.0), "strength: 0"),
        (lambda: es.EffectivePotential(4, start=0.0), "start: 0 is the minimum"),
        (lambda: es.EffectivePotential(4).time_to(1.0), "never reached"),
        (lambda: es.EffectivePotential(4).trajectory([0.0, math.inf]), "t: holds inf"),
        (lambda: es.EffectivePotential(400, start=1e-9), "timescale"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call()


@given(st.floats(-1e6, 2.0, exclude_max=True))
@settings(deadline=None)
def test_orders_below_two_are_refused(order):
    with pytest.raises(es.InputError, match="order"):
        es.EffectivePotential(order)


def test_numbers_beyond_their_range_are_refused():
    with pytest.raises(es.InputError, match=r"start: .* beyond the range"):
        es.EffectivePotential.from_relaxation(kappa=400.0, timescale=1.0, start=1e9)
    with pytest.raises(es.InputError, match="kappa: -1"):
        es.EffectivePotential.from_relaxation(kappa=-1.0, timescale=1.0)
    with pytest.raises(es.InputError, match="timescale"):
        CriticalPotential(0.1, order=400.0, start=1e-9)
