"""Burn-in and errors of traces whose mean is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from emergence_stats.degeneracy.judgement.estimator import stationary_from, summarise

pytestmark = pytest.mark.usefixtures("one_thread")


def autoregressive(rng: np.random.Generator, first: float, second: float) -> np.ndarray:
    """Four stationary chains of 600 draws, of variance 1."""
    noise = rng.normal(size=(4, 800))
    trace = np.zeros_like(noise)
    for i in range(2, 800):
        trace[:, i] = first * trace[:, i - 1] + second * trace[:, i - 2] + noise[:, i]
    variance = (1.0 - second) / ((1.0 + second) * ((1.0 - second) ** 2 - first**2))
    return trace[:, 200:] / variance**0.5


def slow(rng: np.random.Generator) -> np.ndarray:
    return autoregressive(rng, 0.8, 0.0)[:, :300]


def oscillating(rng: np.random.Generator) -> np.ndarray:
    # The energy of an oscillator that turns in eight draws and is damped within thirty.
    return autoregressive(rng, 1.94 * math.cos(2.0 * math.pi / 8.0), -(0.97**2)) ** 2 - 1.0


def cancelling(rng: np.random.Generator) -> np.ndarray:
    # Neighbours that make up for one another, around something slow.
    turning = autoregressive(rng, 1.9 * math.cos(2.0 * math.pi / 5.0), -(0.95**2))
    return slow(rng) + 15.0 * turning[:, :300]


@pytest.mark.parametrize("draws", [slow, oscillating, cancelling])
def test_intervals_cover_the_mean_of_autocorrelated_traces(
    draws: Callable[[np.random.Generator], np.ndarray],
) -> None:
    rng = np.random.default_rng(0)
    inside, trials = 0, 300
    for _ in range(trials):
        estimate = summarise(draws(rng))
        inside += abs(estimate.llc) < 1.645 * estimate.standard_error
    # 90% nominal; four binomial standard deviations of 300 trials are 7%, and ESS from 133
    # effective draws is itself uncertain by some 10%, worth 2%.
    assert 0.81 < inside / trials < 0.97


def test_burn_in_is_found_where_the_transient_ends() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4, 400))
    draws = np.arange(400)
    assert stationary_from(noise)[1]
    late = stationary_from(noise - 30.0 * np.exp(-draws / 25.0))
    assert late[1]
    # The transient falls to the standard error of what is left, 0.03, at 25 log(1000) = 173, and to
    # the noise of one group of draws, 0.2, at 125.
    assert 100 <= late[0] < 200
    assert not stationary_from(noise + draws / 20.0)[1]
