"""Orders of real gradient descent on small losses, as theory has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.theory.descent import (
    descent_lead,
    exponent_in_steps,
    gradient_descent,
    largest_learning_rate,
    learning_rate_sensitivity,
)

ORDERS = st.floats(2.0, 12.0)
RATE = 0.002
BEFORE = 1000


def descend(depth, *, target, start, steps):
    """Any of the weights, all alike, of a scalar deep linear network, by gradient descent."""
    w, out, at = start, [], BEFORE
    for step in steps:
        for _ in range(at, step):
            w -= RATE * (w**depth - target) * w ** (depth - 1)
        at = max(at, step)
        out.append(w)
    return np.array(out)


def measured(scores, steps):
    noise = 0.005 * np.random.default_rng(3).normal(size=(len(scores), steps.size))
    return xr.DataArray(
        np.array([score * (1 / np.ptp(score)) for score in scores]) + noise,
        dims=("score", "step"),
        coords={"step": steps},
    )


def test_degenerate_minima_give_their_orders():
    """L = (w_1 w_2 w_3)^2 / 2 with all alike is w^6 / 2; its product has order 4 - 2/3; and w^4."""
    steps = np.unique(
        np.r_[np.arange(125, BEFORE + 1, 125), BEFORE + np.geomspace(50, 60_000, 40)].astype(int)
    )
    three, two = (descend(n, target=0.0, start=1.0, steps=steps) for n in (3, 2))
    curves = measured([three, three**3, two], steps)
    sudden = ("sudden_exponential", "sudden_power_law")
    result = es.compare(curves, families=sudden).dataset
    order = result["order"].transpose("score", "quantile").values
    for (low, _, high), theory in zip(order, (6.0, 4.0 - 2.0 / 3.0, 4.0), strict=True):
        assert low <= theory <= high
        assert high - low < 1.0
    assert (result["verdict"] == "sudden_power_law").all()


def test_escape_from_a_saddle_is_no_relaxation():
    """p' = 2 p (1 - p) for two layers (Saxe et al. 2014): logistic; exponential once past half."""
    rate, start = 2.0 * RATE, 0.03**2
    half = BEFORE + np.log(1.0 / start - 1.0) / rate
    whole = np.linspace(half - 2000, half + 2000, 40).astype(int)
    score = descend(2, target=1.0, start=0.03, steps=whole) ** 2
    theory = 1.0 / (1.0 + np.exp(-rate * (whole - half)))
    assert np.abs(score - theory).max() < 0.01
    families = ("exponential", "power_law", "logistic")
    result = es.compare(measured([score], whole), families=families, step_prior="linear").dataset
    assert result["verdict"].item() == "logistic"
    after = np.linspace(half, half + 4000, 40).astype(int)
    score = descend(2, target=1.0, start=0.03, steps=after) ** 2
    result = es.compare(measured([score], after), step_prior="linear").dataset
    assert result["verdict"].item() == "exponential"


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exponent_in_steps(4, 1.0), "decay: 1"),
        (lambda: gradient_descent(es.EffectivePotential(3), [2.5]), "stay below 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call()
