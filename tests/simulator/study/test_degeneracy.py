"""Lags and changes of a coefficient that are known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from study_cases import make_heads, make_sweep, make_tests, make_trajectory

from simulator.study.degeneracy import contrast_refined, date_onsets, measure_degeneracy


@pytest.fixture(scope="module")
def answers():
    rises = [
        [{"onset": 200.0 + 10.0 * run, "timescale": 80.0, "kappa": 0.0}, None] for run in range(3)
    ]
    tests = make_tests(np.array([[[True, False]]] * 3))
    sweep = make_sweep(600.0, 20.0)
    times = date_onsets(make_trajectory(rises), tests, sweep)
    heads = make_heads([5.0, 6.0, 7.0], [2.0, 2.5, 3.0])
    return times, measure_degeneracy(sweep, times, heads, make_sweep(600.0, 0.0, seed=1))


class TestDegeneracy:
    def test_lag_has_the_sign_and_size_it_should(self, answers):
        times, found = answers
        np.testing.assert_allclose(times["head_onset"], [200.0, 210.0, 220.0], rtol=0.1)
        # Checkpoints of the coefficient are a quarter apart, so its onset is known to that.
        assert abs(found["lag_log10"]["mean"] - np.log10(610.0 / 210.0)) < np.log10(1.26)
        assert found["lag_log10"]["probability_positive"] > 0.95
        assert (times["probability_head_first"] > 0.9).all()
        assert (times["log_bayes_factor_same"] < 0.0).all()
        # Nine tenths of an exponential: onset + timescale log 10, to the next evaluation.
        assert (abs(times["rise_end"] - times["head_onset"] - 80.0 * np.log(10.0)) < 60.0).all()

    def test_change_is_measured_against_shuffled_labels(self, answers):
        _, found = answers
        assert found["change"]["lower"] < 20.0 < found["change"]["upper"] + 1.0
        assert abs(found["change_shuffled"]["mean"]) < 4.0 * 0.4 * np.sqrt(2.0 / 3.0)
        assert found["change_beyond_shuffled"]["probability_positive"] > 0.99
        # All of the change comes after the heads' rise: less within it than its share of time.
        assert found["share_beyond_time"]["probability_positive"] < 0.1

    def test_few_estimates_tell_the_change_and_not_when_it_began(self):
        rise = {"onset": 200.0, "timescale": 80.0, "kappa": 0.0}
        tests = make_tests(np.array([[[True, False]]] * 3))
        sweep = make_sweep(600.0, 20.0).isel(step=slice(None, None, 5))
        assert sweep.sizes["step"] < 8
        times = date_onsets(make_trajectory([[rise, None]] * 3), tests, sweep)
        np.testing.assert_allclose(times["head_onset"], 200.0, rtol=0.1)
        assert times["network_onset"].isnull().all()
        found = measure_degeneracy(sweep, times, make_heads([5.0] * 3, [2.0] * 3), None)
        assert 15.0 < found["change"]["mean"] < 22.0
        assert np.isnan(found["lag_log10"]["mean"])

    def test_refined_contrast_is_paired(self):
        found = contrast_refined(make_heads([5.0, 6.0, 7.0], [2.0, 2.5, 3.0]))
        assert found["last_difference"]["mean"] == pytest.approx(3.5)
        assert found["change_collision"]["mean"] == pytest.approx(5.0)
        assert found["change_difference"]["mean"] == pytest.approx(3.5)
        assert contrast_refined(xr.Dataset(coords={"pair": []})) == {"pairs": 0}
