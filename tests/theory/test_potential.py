"""The effective potential, its time and its transition against numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

import emergence_stats as es
from emergence_stats.theory.descent import (
    descent_lead,
    exponent_in_steps,
    gradient_descent,
    largest_learning_rate,
    learning_rate_sensitivity,
)
from emergence_stats.theory.gradient_time import (
    gradient_flow_time,
    step_at_time,
    with_time_axis,
)
from emergence_stats.theory.orders import order_draws
from emergence_stats.theory.plots import (
    plot_learning_rate,
    plot_product,
    plot_rest,
    plot_schedules,
    plot_times,
    plot_window,
)
from emergence_stats.theory.slowing import CriticalPotential, scaling_function
from simulator.training.config import TrainingConfig

ORDERS = st.floats(2.0, 12.0)
POSITIVE = st.floats(0.05, 20.0)


def flow(force, start, times):
    """Gradient flow by an eighth-order method at tolerance 1e-11."""
    found = solve_ivp(
        lambda _, q: force(q), (0.0, times[-1]), [start], "DOP853", times, rtol=1e-11, atol=1e-13
    )
    assert found.success
    return found.y[0]


@pytest.mark.parametrize("order", [2.0, 2.001, 3.0, 4.0, 7.5])
@pytest.mark.parametrize(("strength", "start"), [(1.0, 1.0), (0.3, -1.7)])
def test_trajectory_is_the_integrated_flow(order, strength, start):
    potential = es.EffectivePotential(order, strength=strength, start=start, start_time=2.0)
    elapsed = np.linspace(0.0, 20.0, 30)
    np.testing.assert_allclose(
        potential.trajectory(2.0 + elapsed),
        flow(potential.force, start, elapsed),
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
        (lambda: CriticalPotential(1.0, order=2.0), "order: 2"),
        (lambda: CriticalPotential(-1.0).apparent_order(1.0), "needs a >= 0"),
        (lambda: CriticalPotential(0.0).scaled(1.0), "no scale of its own"),
        (lambda: scaling_function([0.0]), "x: must be positive"),
        (lambda: gradient_flow_time([0, 2, 1], 0.1), "must increase"),
        (lambda: gradient_flow_time([0, 1], [0.1, -0.1]), "not negative"),
        (lambda: gradient_flow_time([0, 1], [0.1]), "one for each step"),
        (lambda: gradient_flow_time([0, 1], "fast"), "learning_rate: 'fast'"),
        (lambda: gradient_flow_time(xr.Dataset({"a": 1})), "no variable 'learning_rate'"),
        (lambda: step_at_time(3.0, [0, 10], 0.1), "outside 0 to 1"),
        (lambda: exponent_in_steps(4, 1.0), "decay: 1"),
        (lambda: gradient_descent(es.EffectivePotential(3), [2.5]), "stay below 2"),
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


# Gradient-flow time.


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(0, 30),
    st.lists(st.floats(1e-4, 1.0), min_size=9, max_size=9),
)
@settings(deadline=None)
def test_time_is_the_sum_of_a_piecewise_linear_schedule(gaps, first, rates):
    step = first + np.concatenate([[0], np.cumsum(gaps)])
    rate = np.array(rates[: step.size])
    every = np.interp(np.arange(step[-1]), step, rate)
    expected = np.concatenate([[0.0], np.cumsum(every)])[step]
    time = gradient_flow_time(step, rate)
    np.testing.assert_allclose(time, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(step_at_time(time, step, rate), step, rtol=1e-6, atol=1e-6)


def test_time_of_a_trajectory_keeps_its_names():
    step = np.array([0, 10, 40])
    rate = xr.DataArray(
        [[0.1, 0.1, 0.1], [0.2, 0.1, np.nan]],
        dims=("run", "step"),
        coords={"run": [3, 5], "step": step},
    )
    time = gradient_flow_time(xr.Dataset({"learning_rate": rate}))
    assert time.dims == ("run", "step")
    np.testing.assert_allclose(time.sel(run=3), [0.0, 1.0, 4.0])
    np.testing.assert_allclose(time.sel(run=5), [0.0, 1.55, np.nan])
    curves = xr.DataArray(np.eye(2, 3), dims=("run", "step"), coords=rate.coords)
    with pytest.raises(es.InputError, match="differs between runs"):
        with_time_axis(curves, rate)
    one = with_time_axis(curves, rate.sel(run=[3, 3]))
    np.testing.assert_allclose(one["step"], [0.0, 1.0, 4.0])
    np.testing.assert_array_equal(one["optimiser_step"], step)


def test_in_gradient_flow_time_the_schedule_no_longer_shows():
    # Noise-free descent under a decaying rate: against steps the order is wrong, against the summed
    # learning rate it is right.
    potential = es.EffectivePotential(4)
    number = 40_000
    rate = 0.5 * (1.0 + np.arange(number)) ** -0.5
    q = gradient_descent(potential, rate)
    recorded = np.unique(np.geomspace(1, number, 60).astype(int))
    time = gradient_flow_time(np.arange(number + 1), np.append(rate, rate[-1]))[recorded]
    late = recorded > 4_000
    in_steps = np.polyfit(np.log(recorded[late]), np.log(q[recorded][late]), 1)[0]
    assert -in_steps == pytest.approx(exponent_in_steps(4, 0.5), rel=0.02)
    # Descent is ahead by some steps of the first, large ones: a hundredth of the time passed.
    np.testing.assert_allclose(q[recorded][late], potential.trajectory(time[late]), rtol=0.01)


@pytest.mark.parametrize(("every", "worst"), [(0, 0.01), (200, 0.001)])
def test_time_of_a_schedule_recorded_now_and_then(every, worst):
    # What a run of the simulator records: twelve steps a decade, and every 200th where asked.
    config = TrainingConfig(
        num_steps=20_000, schedule="cosine", warmup_steps=200, evaluate_every=every
    )
    step = config.evaluation_steps()
    recorded = [config.learning_rate_at(min(s, config.num_steps - 1)) for s in step.tolist()]
    rate = [config.learning_rate_at(s) for s in range(config.num_steps)]
    true = np.concatenate([[0.0], np.cumsum(rate)])[step]
    np.testing.assert_allclose(gradient_flow_time(step, recorded), true, rtol=worst)


def test_a_comparison_in_gradient_flow_time_finds_the_order():
    # The rate falls to zero along the run, which bends the curve against steps.
    step = np.arange(0, 4000, 50)
    rate = 0.05 * (1.0 - step / 4000.0)
    clean = es.relaxation(gradient_flow_time(step, rate), onset=20.0, timescale=8.0, kappa=2.0)
    noise = 0.005 * np.random.default_rng(0).normal(size=step.size)
    curve = es.curve(clean + noise, step)
    low, _, high = es.compare(with_time_axis(curve, rate)).dataset["order"].values
    assert low < 4.0 < high
    assert es.compare(curve).dataset["order"].values[2] < 4.0


@pytest.mark.parametrize("order", [2.0, 3.0, 5.0])
def test_descent_is_ahead_of_the_flow_by_what_is_said(order):
    potential = es.EffectivePotential(order, strength=0.8)
    rate = 1e-3
    q = gradient_descent(potential, np.full(20_000, rate))
    fraction = 0.5
    steps = np.interp(-(1.0 - fraction), -q, np.arange(q.size))
    lead = potential.time_to(fraction) / rate - steps
    # The next order is a share of rate / tau, below 1%.
    assert lead == pytest.approx(descent_lead(potential, fraction), rel=0.02)


@pytest.mark.parametrize("order", [2.0, 4.0])
def test_the_largest_learning_rate_is_where_descent_turns(order):
    potential = es.EffectivePotential(order, strength=0.5, start=1.5)
    limit = largest_learning_rate(potential)
    assert abs(gradient_descent(potential, np.full(50, 0.99 * limit))[-1]) < 1.5
    with pytest.raises(es.InputError, match="leads away"):
        gradient_descent(potential, [1.01 * limit])


@given(ORDERS, st.floats(0.0, 50.0), st.sampled_from([0.0, 5.0]))
@settings(deadline=None)
def test_sensitivity_is_the_derivative(order, time, start_time):
    assume(start_time == 0.0 or abs(time - start_time) > 0.01)  # there it begins
    potential = es.EffectivePotential(order, start_time=start_time)
    up, down = (potential.trajectory(time * math.exp(h)) for h in (1e-5, -1e-5))
    numerical = (np.log(up) - np.log(down)) / 2e-5
    found = learning_rate_sensitivity(potential, time)
    assert found == pytest.approx(numerical, rel=1e-6, abs=1e-9)


# Near the transition.


@pytest.mark.parametrize("curvature", [-0.5, 0.0, 1e-9, 0.02, 3.0])
@pytest.mark.parametrize(("order", "start"), [(4.0, 1.0), (3.0, -0.6)])
def test_relaxation_near_the_transition_is_the_integrated_flow(curvature, order, start):
    potential = CriticalPotential(curvature, strength=0.7, order=order, start=start)
    t = np.linspace(0.0, 8.0, 20)
    np.testing.assert_allclose(
        potential.trajectory(t), flow(potential.force, start, t), rtol=1e-8, atol=1e-11
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


def test_rates_recorded_at_other_steps_are_refused():
    rate = xr.DataArray([0.1, 0.2, 0.2], dims="step", coords={"step": [0, 50, 100]})
    curves = xr.DataArray([0.0, 0.5, 0.6], dims="step", coords={"step": [0, 100, 200]})
    for call in (
        lambda: gradient_flow_time([0, 100, 200], rate),
        lambda: with_time_axis(curves, rate),
        lambda: with_time_axis(curves, rate.expand_dims(run=2)),
    ):
        with pytest.raises(es.InputError, match="learning_rate: recorded at other steps"):
            call()
    same = rate.assign_coords(step=curves["step"])
    assert gradient_flow_time(curves["step"], same).dims == ("step",)
    with pytest.raises(es.InputError, match=r"learning_rate: shape \(2, 3\)"):
        step_at_time(1.0, [0, 1, 2], np.ones((2, 3)))


def test_numbers_beyond_their_range_are_refused():
    with pytest.raises(es.InputError, match=r"start: .* beyond the range"):
        es.EffectivePotential.from_relaxation(kappa=400.0, timescale=1.0, start=1e9)
    with pytest.raises(es.InputError, match="kappa: -1"):
        es.EffectivePotential.from_relaxation(kappa=-1.0, timescale=1.0)
    with pytest.raises(es.InputError, match="timescale"):
        CriticalPotential(0.1, order=400.0, start=1e-9)


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


def lines_of(axes):
    return {line.get_label(): np.array(line.get_data()) for line in axes.lines}


@pytest.mark.parametrize("order", [2.0, 4.0])
def test_pictures_of_times_and_schedules_show_what_is_computed(order):
    potential = es.EffectivePotential(order, start=0.5, start_time=3.0)
    figure = plot_times(potential)
    figure.canvas.draw()
    share, time = lines_of(figure.axes[0])[f"order {order:g}"]
    at = potential.trajectory(3.0 + time[40])
    assert at == pytest.approx(0.5 * (1.0 - share[40]), rel=1e-9)
    figure = plot_schedules(potential)
    figure.canvas.draw()
    time, power = figure.axes[1].lines[0].get_data()
    expected = learning_rate_sensitivity(potential, 3.0 + time)
    np.testing.assert_allclose(power, expected, rtol=1e-12)
    figure = plot_rest(potential, 1e-3)
    figure.canvas.draw()
    q, density = figure.axes[0].lines[0].get_data()
    assert np.trapezoid(density, q) == pytest.approx(1.0, abs=0.01)


def test_pictures_of_windows_and_products_show_what_is_computed():
    critical = CriticalPotential(0.05)
    figure = plot_window(critical, num_windows=4)
    figure.canvas.draw()
    window, order = lines_of(figure.axes[0])["levels known"]
    found = critical.fitted_order(window[1], num_points=1000, levels_known=True)
    assert order[1] == pytest.approx(found)
    figure = plot_product((2.0, 4.0))
    figure.canvas.draw()
    path, end = (np.array(line.get_data()).T for line in figure.axes[0].lines[:2])
    differences = path[:, 1] ** 2 / 4.0 - path[:, 0] ** 2 / 2.0
    np.testing.assert_allclose(differences, differences[0], atol=1e-12)
    np.testing.assert_allclose(path[0], end[0], atol=1e-12)
    seen = lines_of(figure.axes[1])["expected at this n"][1]
    assert seen[-1] == pytest.approx(0.25, abs=0.03)


def test_pictures_are_drawn():
    for figure in (
        es.EffectivePotential(4, start_time=3.0).plot(),
        CriticalPotential(0.01).plot(),
        CriticalPotential(-0.1).plot(),
        plot_learning_rate(es.EffectivePotential(3), 0.5),
    ):
        figure.canvas.draw()
        assert all(axes.lines for axes in figure.axes)
