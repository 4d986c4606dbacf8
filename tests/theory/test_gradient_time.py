"""Gradient-flow time: sums of learning rates, and fits against them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.theory.descent import (
    exponent_in_steps,
    gradient_descent,
)
from emergence_stats.theory.gradient_time import (
    gradient_flow_time,
    step_at_time,
    with_time_axis,
)
from simulator.training.config import TrainingConfig


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_flow_time([0, 2, 1], 0.1), "must increase"),
        (lambda: gradient_flow_time([0, 1], [0.1, -0.1]), "not negative"),
        (lambda: gradient_flow_time([0, 1], [0.1]), "one for each step"),
        (lambda: gradient_flow_time([0, 1], "fast"), "learning_rate: 'fast'"),
        (lambda: gradient_flow_time(xr.Dataset({"a": 1})), "no variable 'learning_rate'"),
        (lambda: step_at_time(3.0, [0, 10], 0.1), "outside 0 to 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call()
