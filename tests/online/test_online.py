"""The online filter equals sums over every segmentation; silent on noise, quick on rises."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import emergence_stats as es
from emergence_stats.curves.simulation import autoregressive
from emergence_stats.online import filter as online_kernels
from emergence_stats.online import state as online_state
from emergence_stats.segmentation.segments import LEVEL_SD

PLACE = np.array([0.0, 0.05, 0.2, 0.3, 0.5, 0.6, 0.75])


def correlation(size, rho):
    return rho ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))


def segment_density(y, x, variance, rho, linear):
    """A segment's density by its dense covariance matrix."""
    cov = variance / (1.0 - rho**2) * correlation(y.size, rho) + LEVEL_SD**2
    if linear and y.size > 1:
        u = (x - x[0]) / (x[1] - x[0])
        cov = cov + online_state.SLOPE_SD**2 * np.outer(u, u)
    return stats.multivariate_normal.pdf(y, cov=cov)


def joined_density(y, place, change, variance, rho):
    """No change, or a line that starts at the point before the change, under noise that goes on."""
    cov = variance / (1.0 - rho**2) * correlation(y.size, rho) + LEVEL_SD**2
    if change is not None:
        u = np.maximum(place - place[change - 1], 0.0) / (place[change] - place[change - 1])
        cov = cov + online_state.JOINED_SLOPE_SD**2 * np.outer(u, u)
    return stats.multivariate_normal.pdf(y, cov=cov)


def hazards(setting):
    width = np.diff(PLACE)
    first = setting.onset_probability * width / (1.0 - setting.onset_probability * PLACE[:-1])
    return first, -np.expm1(-setting.further_changes * width)


def every_segmentation(y, setting, linear):
    """Probability that a change lasted `min_points`, summed over all segmentations and nodes."""
    n, least = y.size, setting.min_points
    first, further = hazards(setting)
    begun = total = 0.0
    for variance, rho, log_prior in zip(
        setting.variance, setting.rho, setting.log_prior, strict=True
    ):
        for number in range(n):
            for starts in combinations(range(1, n), number):
                edges = [0, *starts, n]
                lengths = np.diff(edges)
                if (lengths[:-1] < least).any():
                    continue
                density = np.exp(log_prior)
                begins = 0
                for i in range(1, n):
                    changed = begins > 0
                    rate = (further if changed else first)[i - 1]
                    if i in starts:
                        density *= rate
                        begins = i
                    elif i - begins >= least:
                        density *= 1.0 - rate
                for low, high in pairwise(edges):
                    density *= segment_density(y[low:high], PLACE[low:high], variance, rho, linear)
                total += density
                if number > 1 or (number == 1 and lengths[-1] >= least):
                    begun += density
    return begun / total


def small_grid(setting, chosen):
    return setting._replace(
        variance=setting.variance[chosen],
        rho=setting.rho[chosen],
        log_prior=setting.log_prior[chosen],
    )


@pytest.mark.parametrize("model", [online_state.CONSTANT, online_state.LINEAR])
@pytest.mark.parametrize("min_points", [1, 2])
def test_the_filter_sums_over_every_segmentation(model, min_points):
    setting = online_state.settings(correlated=True, model=model, min_points=min_points)
    setting = small_grid(setting, [52, 68, 84])
    generator = np.random.default_rng(3)
    for jump in (0.0, 0.15):
        y = jump * (PLACE > 0.4) + 0.05 * generator.normal(size=PLACE.size) - 0.2
        state = online_state.init(1, 12, setting)
        for n in range(1, PLACE.size + 1):
            at = float(PLACE[n - 1])
            state, found = online_kernels.step(state, setting, y[n - 1 : n], at, at)
            exact = every_segmentation(y[:n], setting, model == online_state.LINEAR)
            # The state is kept in single precision.
            assert found[0, 0] == pytest.approx(exact, rel=2e-4, abs=1e-6)


def test_one_change_into_a_line_that_meets_is_summed_exactly():
    setting = online_state.settings(correlated=True, model=online_state.JOINED, further_changes=0.0)
    setting = small_grid(setting, [52, 68, 84])
    first, _ = hazards(setting)
    y = 0.1 * np.maximum(PLACE - 0.3, 0.0) / 0.2
    y += 0.03 * np.random.default_rng(1).normal(size=PLACE.size)
    state = online_state.init(1, 12, setting)
    for at, value in zip(PLACE, y, strict=True):
        state, found = online_kernels.step(state, setting, np.array([value]), float(at), float(at))
    weight = {}
    n = y.size
    for change in [None, *range(2, n)]:
        prior = 1.0
        for i in range(2, n):
            if change is None or i < change:
                prior *= 1.0 - first[i - 1]
            elif i == change:
                prior *= first[i - 1]
        weight[change] = prior * sum(
            np.exp(p) * joined_density(y, PLACE, change, v, r)
            for v, r, p in zip(setting.variance, setting.rho, setting.log_prior, strict=True)
        )
    total = sum(weight.values())
    lasted = sum(w for c, w in weight.items() if c is not None and n - c >= 2)
    assert found[0, 0] == pytest.approx(lasted / total, rel=2e-4)
    middles = {c: 0.5 * (PLACE[c] + PLACE[c - 1]) for c in range(2, n)}
    mean = sum(weight[c] * middles[c] for c in middles) / (total - weight[None])
    assert found[0, 1] == pytest.approx(mean, rel=2e-4)


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
