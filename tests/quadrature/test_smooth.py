"""Gradual rises: the grid over all parameters against going through the onset, and real flows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.data.labels import gather
from emergence_stats.quadrature.evidence import family_posterior


def flow(takeoff, order, start, time):
    """ds/dt = s^a (1 - s)^(n - 1) by SciPy, in log odds."""

    def rate(t, x):
        down, up = np.logaddexp(0, -x), np.logaddexp(0, x)
        return np.exp((1 - takeoff) * down - (order - 2) * up)

    found = solve_ivp(
        rate, (0, time[-1]), [np.log(start / (1 - start))], t_eval=time, method="LSODA", rtol=1e-8
    )
    return 1 / (1 + np.exp(-found.y[0]))


@pytest.mark.parametrize(
    ("name", "points", "noise"),
    [
        pytest.param("exponential", 40, 0.02, marks=pytest.mark.slow),
        ("exponential", 12, 0.01),
        pytest.param("power_law", 40, 0.02, marks=pytest.mark.slow),
        ("power_law", 14, 0.1),
    ],
)
def test_going_through_the_onset_gives_the_same(name, points, noise):
    step = np.linspace(0.0, 3000.0, points)
    clean = es.relaxation(step, onset=800.0, timescale=120.0, kappa=0.7, takeoff=1.0)
    curve = es.curve(clean + noise * np.random.default_rng(3).normal(size=points), step)
    arrays, _ = gather(curve)
    family = get_family(name)
    smooth, through = (
        family_posterior(one, arrays, noise="independent", tolerance=0.02)
        for one in (family, replace(family, gradual=False))
    )
    difference = abs(smooth.log_integral[0] - through.log_integral[0])
    # The one's error is a standard error, the other's a bound.
    assert difference < 3.0 * smooth.error[0] + through.error[0]
    assert smooth.error[0] < 0.03
    at = np.linspace(0.0, 1.0, 4001)
    shares = []
    for found in (smooth, through):
        position, log_density = found.onset_marginal(0)
        density = np.exp(np.interp(at, position, log_density) - log_density.max())
        shares.append(np.cumsum(density) / density.sum())
    assert np.abs(shares[0] - shares[1]).max() < 0.05
    # Points weighted by their mass say the same as the density.
    mean = float((smooth.z[:, 0] * smooth.weight).sum())
    width = np.sqrt((smooth.z[:, 0] ** 2 * smooth.weight).sum() - mean**2)
    assert abs(mean - (at[1:] * np.diff(shares[1])).sum()) < 0.1 * width + 1e-3


@pytest.mark.parametrize(
    ("takeoff", "order", "law"),
    [(1.0, 2.0, "exponential"), (1.0, 3.0, "power_law"), (4.0 / 3.0, 4.0, "power_law"),
     (0.5, 2.0, "exponential"), (2.0, 3.0, "power_law")],
)  # fmt: skip
def test_integrated_flows_are_recognised_by_their_arrival(takeoff, order, law):
    time = np.geomspace(0.2, 20.0 if order == 2.0 else 240.0, 60)
    clean = flow(takeoff, order, 0.02, time)
    noise = 0.005 * np.random.default_rng(1).normal(size=time.size)
    result = es.compare(es.curve(clean + noise, 100 * time)).dataset
    assert result["verdict"].item() == law
    low, _, high = result["order"].values
    # An 89% interval widened to what holds the truth in 999 of 1,000.
    assert low - 0.5 * (high - low) < order < high + 0.5 * (high - low)


def test_a_logistic_rise_is_an_exponential_arrival_and_no_misfit():
    step = np.linspace(0.0, 3000.0, 120)
    clean = 1.0 / (1.0 + np.exp(-(step - 1200.0) / 120.0))
    noise = 0.01 * np.random.default_rng(2).normal(size=step.size)
    result = es.compare(es.curve(clean + noise, step))
    assert result.dataset["verdict"].item() == "exponential"
    low, middle, high = result.time_to([0.9])["step_reached"].values[0]
    truth = 1200.0 + 120.0 * np.log(9.0)
    assert low < truth < high
    assert abs(middle - truth) < 0.01 * truth
    own = es.detect_onset(es.curve(clean + noise, step)).interval()
    both = result.dataset["onset"].values
    # Tangent at half height.
    assert own[0] < 960.0 < own[1]
    assert both[0] < own[1]
    assert own[0] < both[2]
