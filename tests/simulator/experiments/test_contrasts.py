"""Contrasts between conditions are paired over seeds."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import emergence_stats as es
from simulator.experiments.contrasts import paired_contrast, steps_to_emergence


def test_emergence_is_dated_by_the_first_head():
    score = np.full((2, 4, 1, 2), 0.2)
    score[0, 1, 0, 1] = 0.55  # above one half, not half way from the baseline to 1
    score[0, 2, 0, 1] = 0.61
    trajectory = xr.Dataset(
        {"collision_score": (("run", "step", "layer", "head"), score, {"baseline": 0.2})},
        coords={"run": [0, 1], "step": [0, 10, 100, 1000]},
    )
    found = steps_to_emergence(trajectory)
    assert found.values.tolist() == [100.0, 1000.0]
    assert found["reached"].values.tolist() == [True, False]


def test_a_contrast_is_students():
    generator = np.random.default_rng(0)
    plain = np.exp(generator.normal(size=6))
    other = plain * np.exp(0.3 + 0.1 * generator.normal(size=6))
    values = xr.DataArray(
        [plain, other], dims=("condition", "run"), coords={"condition": ["a", "b"]}
    )
    result = paired_contrast(values, "a", ratio=True).sel(condition="b")
    t = stats.ttest_rel(np.log(other), np.log(plain))
    interval = t.confidence_interval(0.89)
    assert np.log(result["lower"]) == pytest.approx(interval.low)
    assert np.log(result["upper"]) == pytest.approx(interval.high)
    # Half of the two-sided p-value is the probability on the wrong side.
    assert 1.0 - result["probability_larger"] == pytest.approx(t.pvalue / 2.0)
    # Pairing takes out what the seeds share.
    unpaired = np.diff(stats.ttest_ind(np.log(other), np.log(plain)).confidence_interval(0.89))[0]
    assert interval.high - interval.low < 0.3 * unpaired


def test_contrasts_say_what_is_missing_or_censored():
    values = xr.DataArray(
        [[10.0, 20.0, np.nan], [20.0, 50.0, 9.0], [15.0, 25.0, 3.0]],
        dims=("condition", "run"),
        coords={
            "condition": ["a", "b", "c"],
            "reached": (
                ("condition", "run"),
                [[True, True, True], [True, False, True], [True, True, True]],
            ),
        },
    )
    result = paired_contrast(values, "a")
    assert result["num_pairs"].values.tolist() == [2, 2]
    assert result["num_censored"].values.tolist() == [1, 0]
    assert result["effect"].values.tolist() == [20.0, 5.0]
    assert np.isnan(result["lower"].sel(condition="c"))  # equal differences
    one = paired_contrast(values.isel(run=[0, 2]), "a")
    assert np.isnan(one["effect"]).all()


def test_intervals_hold_what_they_promise():
    generator = np.random.default_rng(1)
    seeds = generator.normal(size=(2_000, 1, 4))
    noise = 0.3 * generator.normal(size=(2_000, 2, 4))
    effect = np.array([0.0, 0.7])[None, :, None]
    values = xr.DataArray(
        seeds + noise + effect, dims=("study", "condition", "run"), coords={"condition": ["a", "b"]}
    )
    result = paired_contrast(values, "a").sel(condition="b")
    held = float(((result["lower"] < 0.7) & (result["upper"] > 0.7)).mean())
    # Binomial sd of 2000: 0.7%.
    assert held == pytest.approx(0.89, abs=0.028)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_contrast(xr.DataArray([1.0], dims="run"), "a"), "'condition'"),
        (lambda: steps_to_emergence(xr.Dataset()), "no variable 'collision_score'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=re.escape(message)):
        call()
