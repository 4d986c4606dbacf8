"""A potential near its transition against numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.theory.orders import (
    order_draws,
)
from emergence_stats.theory.slowing import CriticalPotential, scaling_function
from tests.theory.by_integration import integrate

ORDERS = st.floats(2.0, 12.0)
POSITIVE = st.floats(0.05, 20.0)


@pytest.mark.parametrize("curvature", [-0.5, 0.0, 1e-9, 0.02, 3.0])
@pytest.mark.parametrize(("order", "start"), [(4.0, 1.0), (3.0, -0.6)])
def test_relaxation_near_the_transition_is_the_integrated_flow(curvature, order, start):
    potential = CriticalPotential(curvature, strength=0.7, order=order, start=start)
    t = np.linspace(0.0, 8.0, 20)
    np.testing.assert_allclose(
        potential.trajectory(t), integrate(potential.force, [start], t)[:, 0], rtol=1e-8, atol=1e-11
    )
    slope = (potential.value(0.5 + 1e-5) - potential.value(0.5 - 1e-5)) / 2e-5
    assert -potential.force(0.5) == pytest.approx(slope, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("curvature", [-0.3, 0.01, 0.1])
def test_small_deviations_die_in_the_relaxation_time(curvature):
    potential = CriticalPotential(curvature)
    rest = potential.crossover_amplitude if curvature < 0 else 0.0
    tau = potential.relaxation_time
    t = np.array([12.0, 13.0]) * tau
    deviation = np.abs(potential.trajectory(t) - rest)
    # What is left of the nonlinear term is exp(-kappa 12), of the order of 1e-10.
    assert np.log(deviation[0] / deviation[1]) == pytest.approx(1.0, rel=1e-4)


@given(st.floats(1e-4, 10.0), POSITIVE, st.floats(2.5, 8.0), st.floats(0.3, 3.0))
@settings(deadline=None)
def test_all_curvatures_lie_on_the_scaling_function(curvature, strength, order, start):
    potential = CriticalPotential(curvature, strength, order, start)
    t = np.geomspace(1e-3, 20.0, 12) / curvature
    x, y = potential.scaled(t)
    np.testing.assert_allclose(y, scaling_function(x, order), rtol=1e-8)
    at = potential.crossover_time
    if at > 0.0:
        reached = potential.trajectory(at)
        assert reached == pytest.approx(potential.crossover_amplitude, rel=1e-8)
    else:
        assert start <= potential.crossover_amplitude * (1 + 1e-12)


def test_the_crossover_diverges_at_the_transition():
    times = [CriticalPotential(a).crossover_time * a for a in (1e-3, 1e-5, 1e-7)]
    assert times[-1] == pytest.approx(math.log(2.0) / 2.0, rel=1e-6)
    assert CriticalPotential(0.0).crossover_time == math.inf
    assert CriticalPotential(0.0).learning_coefficient == 0.25


def test_the_order_shown_falls_from_that_of_the_potential_to_two():
    potential = CriticalPotential(0.01)
    t = np.geomspace(1e-3, 2e3, 200)
    shown = potential.apparent_order(t)
    assert shown[0] == pytest.approx(4.0, abs=0.05)
    assert shown[-1] == pytest.approx(2.0, abs=1e-6)
    # It is 2 plus the rate at which the relaxation time grows.
    r = [-potential.trajectory(x) / potential.force(potential.trajectory(x)) for x in (29.9, 30.1)]
    assert potential.apparent_order(30.0) == pytest.approx(2.0 + (r[1] - r[0]) / 0.2, abs=1e-4)


def test_where_it_rests_is_known_a_window_sees_an_order_between():
    critical = CriticalPotential(0.05)
    short, middle, long = (
        critical.fitted_order(window, levels_known=True) for window in (0.5, 20.0, 400.0)
    )
    assert 2.0 < long < middle < short < 4.0


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("order", "window"), [(2.1, 20.0), (4.0, 10.0), (4.0, 400.0), (10.0, 50.0)]
)
def test_at_the_transition_a_window_sees_the_order(order, window, known):
    critical = CriticalPotential(0.0, order=order)
    found = critical.fitted_order(window, levels_known=known)
    assert found == pytest.approx(order, abs=1e-3)
    assert CriticalPotential(50.0).fitted_order(1.0, levels_known=known) == pytest.approx(
        2.0, abs=0.05
    )


def test_the_order_fitted_in_a_window_is_what_compare_finds_there():
    critical = CriticalPotential(0.05)
    expected = critical.fitted_order(20.0)
    assert expected > 4.3  # the bend passes for a nearer level
    t = np.linspace(0.0, 20.0, 200)
    noise = 0.002 * np.random.default_rng(0).normal(size=t.size)
    score = 1.0 - critical.trajectory(t) + noise
    rest = noise[:40] - noise[:40].mean()  # before the onset, with which a run begins
    curve = es.curve(
        np.concatenate([rest, score]), np.concatenate([np.arange(-40, 0) * 0.1, t]) + 4.0
    )
    draws = order_draws(es.compare(curve, noise="independent"))
    low, high = draws.quantile([0.005, 0.995])
    assert low - 0.05 < expected < high + 0.05
    assert high - low < 1.0


def test_a_window_that_misses_the_decay_is_refused():
    with pytest.raises(es.InputError, match="window: 100000 in 200 points leaves"):
        CriticalPotential(1.0, order=10.0).fitted_order(1e5)
    with pytest.raises(es.InputError, match="num_points: 3"):
        CriticalPotential(1.0).fitted_order(1.0, num_points=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CriticalPotential(1.0, order=2.0), "order: 2"),
        (lambda: CriticalPotential(-1.0).apparent_order(1.0), "needs a >= 0"),
        (lambda: CriticalPotential(0.0).scaled(1.0), "no scale of its own"),
        (lambda: scaling_function([0.0]), "x: must be positive"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call()
