"""Steps to shares of the rise against the families' closed forms."""

from __future__ import annotations

import numpy as np
import pytest

import emergence_stats as es
from emergence_stats.curves.completion import steps_to
from emergence_stats.curves.families import get_family


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99])
def test_steps_are_the_closed_forms(fraction):
    onset, half, kappa = np.array([100.0, 300.0]), np.array([50.0, 8.0]), np.array([1.0, 2.5])
    exponential = steps_to(get_family("sudden_exponential"), [onset, half], fraction, 1000.0)
    np.testing.assert_allclose(exponential, onset - half * np.log2(1 - fraction), rtol=1e-9)
    power = steps_to(get_family("sudden_power_law"), [onset, half, kappa], fraction, 1000.0)
    closed = onset + half * ((1 - fraction) ** -kappa - 1) / (2**kappa - 1)
    np.testing.assert_allclose(power, closed, rtol=1e-9)
    gradual = steps_to(get_family("power_law"), [onset, half, kappa, 0 * half], fraction, 1000.0)
    np.testing.assert_allclose(gradual, closed, rtol=1e-5)
    logistic = steps_to(get_family("exponential"), [onset, half, 1 + 0 * half], fraction, 1000.0)
    closed = onset + half * (1 - 0.5 * np.log(1 / fraction - 1))
    np.testing.assert_allclose(logistic, closed, rtol=1e-9)


def test_what_never_comes_is_infinite_and_what_has_no_plateau_nan():
    one = np.ones(1)
    declining = get_family("sudden_exponential_decline")
    assert np.isinf(steps_to(declining, [100 * one, 50 * one, 60 * one], 0.99, 1000.0)).all()
    growth = get_family("growth")
    assert np.isnan(steps_to(growth, [100 * one, 0.5 * one, 1000 * one], 0.9, 1000.0)).all()


def test_a_comparison_says_when_and_whether_already():
    step = np.arange(0, 3000, 100)
    curves = [
        es.relaxation(step, onset=500.0, timescale=tau, kappa=0.0)
        + 0.01 * np.random.default_rng(k).normal(size=step.size)
        for k, tau in enumerate((100.0, 1500.0))
    ]
    result = es.compare(es.curve(curves[0], step).expand_dims(run=[0]).copy())
    slow = es.compare(es.curve(curves[1], step))
    fast = result.time_to(prob=0.9)
    assert fast["step_reached"].dims == ("run", "fraction", "bound")
    low, middle, high = fast["step_reached"].sel(fraction=0.5, run=0).values
    assert low < 500.0 + 100.0 * np.log(2.0) < high
    assert low < middle < high
    assert float(fast["chance_reached"].sel(fraction=0.9, run=0)) > 0.99
    later = slow.time_to().sel(fraction=0.99)
    assert float(later["chance_reached"]) < 0.05
    # Where the points went through it, three at a time, and only if they did.
    passed = fast["step_passed"].sel(fraction=[0.5, 0.9], run=0)
    np.testing.assert_allclose(passed, 500.0 + 100.0 * np.log([2.0, 10.0]), atol=50.0)
    assert np.isnan(later["step_passed"])
    np.testing.assert_allclose(
        np.log(fast["step_reached"].sel(fraction=0.99, bound="median", run=0)),
        np.log(result.dataset["time_to_99_percent"].isel(run=0, quantile=1)),
        atol=0.1,
    )
    assert list(fast["verdict"].values) == list(result.dataset["verdict"].values)
    with pytest.raises(es.InputError, match="fractions"):
        slow.time_to([0.5, 1.0])


def test_what_no_data_support_is_not_forecast():
    """The long tail of a power law, of which little has been seen."""
    step = np.arange(100.0, 2100.0, 50.0)
    values = es.relaxation(step, onset=200.0, timescale=50.0, kappa=4.0)
    curve = es.curve(values + 0.002 * np.random.default_rng(0).normal(size=step.size), step)
    late = es.compare(curve).time_to([0.5, 0.999])["step_reached"]
    assert np.isfinite(late.sel(fraction=0.5)).all()
    assert np.isinf(late.sel(fraction=0.999)).all()


def test_a_level_is_forecast_whatever_the_plateau():
    """Half way up, its step is far better known than that of a share of an unknown plateau."""
    step = np.arange(10.0, 610.0, 10.0)
    clean = 1.0 / (1.0 + np.exp((600.0 - step) / 60.0))
    curve = es.curve(clean + 0.005 * np.random.default_rng(1).normal(size=step.size), step)
    result = es.compare(curve)
    ahead = result.time_to(levels=[0.6])
    low, middle, high = ahead["step_reached"].sel(level=0.6).values
    truth = 600.0 + 60.0 * np.log(0.6 / 0.4)
    assert low < truth < high
    assert middle == pytest.approx(truth, rel=0.02)
    share = result.time_to([0.6])["step_reached"].sel(fraction=0.6).values
    assert high - low < 0.5 * (share[2] - share[0])
    # Below the baseline it has been passed from the first; above the plateau it never is.
    told = result.time_to(levels=[-1.0, 1e6])["step_reached"]
    assert (told.sel(level=-1.0) == step[0]).all()
    assert np.isinf(told.sel(level=1e6)).all()
    with pytest.raises(es.InputError, match="levels"):
        result.time_to(levels=[np.nan])
