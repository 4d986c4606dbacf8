"""Binomial counts as curves: the rule, where it must be honest, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import emergence_stats as es
from emergence_stats.data.counts import accuracy

STEP = np.arange(0, 2000, 100)


def test_is_the_jeffreys_posterior():
    successes, trials = np.array([0.0, 3.0, 20.0]), np.array([20.0, 50.0, 20.0])
    mean, sd = accuracy(successes, trials)
    beta = stats.beta(successes + 0.5, trials - successes + 0.5)
    np.testing.assert_allclose(mean, beta.mean(), rtol=1e-12)
    np.testing.assert_allclose(sd, beta.std(), rtol=1e-12)


@pytest.mark.parametrize("trials", [10, 100])
def test_two_sd_hold_the_truth_also_near_0_and_1(trials):
    """Summed over all counts, so exact; s/n with its own sd holds p = 0.01 of 10 trials in 10%."""
    count = np.arange(trials + 1.0)
    mean, sd = accuracy(count, np.full(trials + 1, float(trials)))
    for truth in (0.0, 0.01, 0.1, 0.5, 0.9, 1.0):
        held = np.abs(mean - truth) <= 2 * sd
        # The worst of the discrete jumps: 0.9 for 95% nominal (Brown, Cai and DasGupta 2001).
        assert stats.binom.pmf(count, trials, truth)[held].sum() > 0.88


def test_counts_make_a_curve_that_compare_takes():
    rise = es.relaxation(
        STEP, onset=600.0, timescale=200.0, kappa=0.0, baseline=0.02, amplitude=0.95
    )
    hits = np.random.default_rng(0).binomial(400, rise).astype(float)
    hits[3] = np.nan
    curve = es.curve(hits, STEP, trials=400)
    assert np.isnan(curve.values[3])
    assert (curve["sd"] > 0).all()
    result = es.compare(curve).dataset
    assert float(result["probability_of_onset"]) > 0.99
    # Within a gap between checkpoints.
    assert abs(float(result["onset"].sel(quantile=0.5)) - 600.0) < 100.0


def test_bad_counts_are_named():
    with pytest.raises(es.InputError, match=r"values: 0\.5 at index 1; with trials \(10 there\)"):
        es.curve([1, 0.5, 3], [0, 1, 2], trials=10)
    with pytest.raises(es.InputError, match=r"values: 12\.0 at index 2"):
        es.curve([1, 2, 12], [0, 1, 2], trials=10)
    with pytest.raises(es.InputError, match=r"trials: 0\.0 at index 0"):
        es.curve([0, 2, 3], [0, 1, 2], trials=[0, 5, 5])
    with pytest.raises(es.InputError, match="trials: shape"):
        es.curve([0, 2, 3], [0, 1, 2], trials=[5, 5])
    with pytest.raises(es.InputError, match="not both"):
        es.curve([0, 2, 3], [0, 1, 2], trials=5, sd=0.1)
