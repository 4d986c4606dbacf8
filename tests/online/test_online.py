"""Verdicts after every checkpoint: silent on noise, quick on rises, and the same when stored."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import emergence_stats as es
from emergence_stats.curves.simulation import autoregressive


def rises(generator, number, step, noise):
    onset = generator.uniform(700.0, 1_300.0, size=(number, 1))
    clean = es.relaxation(step, onset=onset, timescale=300.0, kappa=1.0, amplitude=0.4)
    values = 0.1 + clean + noise * generator.normal(size=clean.shape)
    return xr.DataArray(values, dims=("head", "step"), coords={"step": step}), onset[:, 0]


def test_rises_are_told_soon_and_dated_rightly():
    step = np.arange(50.0, 3_050.0, 50.0)
    curves, onset = rises(np.random.default_rng(5), 60, step, 0.02)
    told = es.detect_online(curves, value_range=(0.0, 1.0), noise="independent")
    alarm = told["alarm_step"].isel(step=-1).values
    assert (alarm > onset).mean() > 0.95
    # The rise gains 0.06 a checkpoint at first, three times the noise.
    assert np.median(alarm - onset) < 4 * 50.0
    last = told.isel(step=-1)
    assert (last["probability"].values > 0.99).all()
    assert np.median(np.abs(last["onset"].values - onset)) < 50.0
    # Noise that may be correlated can wander as far for a while, so that it takes longer.
    told = es.detect_online(curves, value_range=(0.0, 1.0), threshold=0.9)
    alarm = told["alarm_step"].isel(step=-1).values
    assert (alarm[np.isfinite(alarm)] > onset[np.isfinite(alarm)]).all()
    assert np.isfinite(alarm).mean() > 0.9


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_noise_is_no_onset(rho):
    generator = np.random.default_rng(6)
    step = np.unique(np.geomspace(1, 5_000, 60).round())
    values = 0.3 + 0.05 * autoregressive(generator.normal(size=(200, step.size)), rho)
    curves = xr.DataArray(values, dims=("head", "step"), coords={"step": step})
    told = es.detect_online(curves, value_range=(0.0, 1.0))
    alarms = int(np.isfinite(told["alarm_step"].isel(step=-1)).sum())
    # At most 5% a run: more than this of 200 has a probability below 0.001.
    assert alarms <= stats.binom.isf(0.001, 200, 0.05)


def test_one_outlying_point_is_no_onset():
    values = np.full(40, 0.2) + 0.01 * np.random.default_rng(0).normal(size=40)
    values[25] += 0.15
    told = es.detect_online(es.curve(values, np.arange(1.0, 41.0)), value_range=(0.0, 1.0))
    assert not np.isfinite(told["alarm_step"]).any()
    assert float(told["probability"][-1]) < 0.05


def test_memory_is_constant_and_merging_changes_little():
    step = np.arange(50.0, 3_050.0, 50.0)
    curves, _ = rises(np.random.default_rng(5), 20, step, 0.02)
    few, many = (es.detect_online(curves, value_range=(0.0, 1.0), beginnings=b) for b in (16, 64))
    difference = np.abs(few["probability"] - many["probability"])
    assert float(difference.mean()) < 0.01
    assert float(difference.max()) < 0.2


def test_it_goes_on_where_it_was_stored(tmp_path):
    step = np.arange(50.0, 2_050.0, 50.0)
    curves, _ = rises(np.random.default_rng(7), 3, step, 0.02)
    whole = es.detect_online(curves, value_range=(0.0, 1.0))
    watch = es.OnlineOnset(last_step=float(step[-1]), value_range=(0.0, 1.0))
    for k in range(20):
        watch.update(step[k], curves.isel(step=k, drop=True))
    watch.to_netcdf(tmp_path / "state.nc")
    again = es.OnlineOnset.from_netcdf(tmp_path / "state.nc")
    assert again.step == watch.step
    for k in range(20, step.size):
        found = again.update(step[k], curves.isel(step=k, drop=True))
    last = whole.isel(step=-1)
    for name in ("probability", "alarm_step", "onset"):
        np.testing.assert_array_equal(found[name].values, last[name].values)


def test_curves_are_independent_and_unmeasured_ones_wait():
    step = np.arange(50.0, 2_050.0, 50.0)
    curves, _ = rises(np.random.default_rng(8), 4, step, 0.02)
    together = es.detect_online(curves, value_range=(0.0, 1.0))
    alone = es.detect_online(curves.isel(head=2), value_range=(0.0, 1.0))
    np.testing.assert_array_equal(together["probability"].isel(head=2), alone["probability"])
    gappy = curves.copy()
    gappy[2, 10:13] = np.nan
    found = es.detect_online(gappy, value_range=(0.0, 1.0))["probability"].isel(head=2)
    assert np.ptp(found.values[9:13]) == 0.0
    measured = curves.isel(head=2).isel(step=np.r_[0:10, 13 : step.size])
    skipped = es.detect_online(measured, value_range=(0.0, 1.0))["probability"]
    np.testing.assert_array_equal(found.values[13:], skipped.values[10:])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=25),
    st.sampled_from(["joined", "constant", "linear", "log_linear"]),
    st.sampled_from(["ar1", "independent"]),
)
def test_whatever_the_scores_probabilities_are_probabilities(values, model, noise):
    watch = es.OnlineOnset(last_step=20.0, value_range=(-1.0, 1.0), model=model, noise=noise)
    for step, value in enumerate(values):
        found = watch.update(step, value)
        assert 0.0 <= float(found["probability"]) <= 1.0 + 1e-6


def test_bad_input_is_named_and_changes_nothing():
    make = es.OnlineOnset
    with pytest.raises(es.InputError, match="last_step"):
        make(last_step=0.5, value_range=(0, 1))
    with pytest.raises(es.InputError, match="value_range"):
        make(last_step=100, value_range=(1, 0))
    with pytest.raises(es.InputError, match="model"):
        make(last_step=100, value_range=(0, 1), model="wavy")
    with pytest.raises(es.InputError, match="beginnings"):
        make(last_step=100, value_range=(0, 1), beginnings=1)
    with pytest.raises(es.InputError, match="threshold"):
        make(last_step=100, value_range=(0, 1), threshold=1.5)
    watch = make(last_step=100, value_range=(0, 1))
    with pytest.raises(es.InputError, match="nothing is seen"):
        watch.to_netcdf("nowhere.nc")
    watch.update(1, [0.1, 0.2])
    before = watch.update(2, [0.1, 0.2])
    with pytest.raises(es.InputError, match="step: 2"):
        watch.update(2, [0.1, 0.2])
    with pytest.raises(es.InputError, match="infinite"):
        watch.update(3, [0.1, np.inf])
    with pytest.raises(es.InputError, match="sizes"):
        watch.update(3, [0.1, 0.2, 0.3])
    unmeasured = watch.update(3, [np.nan, np.nan])
    np.testing.assert_array_equal(unmeasured["probability"], before["probability"])
    with pytest.raises(es.InputError, match="'step' dimension"):
        es.detect_online(xr.DataArray([1.0, 2.0], dims="epoch"), value_range=(0, 1))
