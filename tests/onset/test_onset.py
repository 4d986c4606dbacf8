"""The onset's posterior: calibrated on the prior, honest between checkpoints, silent on noise."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import emergence_stats as es
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import StepAxis
from emergence_stats.curves.shapes import timescale_from_half_time
from emergence_stats.curves.simulation import autoregressive
from emergence_stats.noise import beliefs

STEP = np.unique(np.geomspace(1.0, 8000.0, 18).round())
SUDDEN = ("sudden_exponential", "sudden_power_law")


def batch_of(values, step=STEP):
    return xr.DataArray(values, dims=("run", "step"), coords={"step": step})


def from_the_prior(seed, number):
    """Curves drawn from the model itself, in units where the expected range is -0.5 to 0.5."""
    generator = np.random.default_rng(seed)
    axis = StepAxis.along(STEP, logarithmic=True)
    _, half_prior, kappa_prior = (p.prior for p in get_family("sudden_power_law").parameters)
    onset = axis.position_to_step(generator.random(number))
    half = half_prior.value(generator.normal(size=number), axis)
    kappa = kappa_prior.value(kappa_prior.quantile(generator.random(number)), axis)
    emerges = generator.random(number) < 0.5
    kappa = np.where(generator.random(number) < 0.5, 0.0, kappa)
    tau = timescale_from_half_time(half, kappa)
    shape = es.relaxation(STEP, onset=onset[:, None], timescale=tau[:, None], kappa=kappa[:, None])
    baseline = beliefs.BASELINE_SD * generator.normal(size=(number, 1))
    amplitude = beliefs.AMPLITUDE_SD * generator.normal(size=(number, 1)) * emerges[:, None]
    rho = generator.random(number)
    innovation = beliefs.NOISE_SCALE * np.abs(generator.standard_cauchy(number))
    sigma = (innovation / np.sqrt(1 - rho**2))[:, None]
    noise = autoregressive(generator.normal(size=(number, STEP.size)), rho)
    truth = np.where(emerges, np.where(kappa > 0, 2, 1), 0)
    return batch_of(baseline + amplitude * shape + sigma * noise), onset, kappa, truth


@pytest.mark.parametrize("number", [24, pytest.param(180, marks=pytest.mark.slow)])
def test_calibrated_on_curves_from_its_own_prior(number):
    curves, onset, kappa, truth = from_the_prior(11, number)
    result = es.compare(curves, families=SUDDEN, value_range=(-0.5, 0.5)).dataset
    rose = truth > 0
    share = np.array(
        [
            np.interp(t, s, c)
            for t, s, c in zip(
                onset[rose],
                result["onset_step"].values[rose],
                result["cumulative"].values[rose],
                strict=True,
            )
        ]
    )
    # The posterior share below the truth is uniform; the test is wrong once in 1,000 tries.
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    inside = (share > 0.055) & (share < 0.945)
    assert stats.binomtest(int(inside.sum()), inside.size, 0.89).pvalue > 1e-3
    # Of the power laws, the 89% interval of kappa, given the power law.
    power = truth == 2
    low, _, high = result["kappa"].transpose("quantile", "run").values[:, power]
    held = int(((low <= kappa[power]) & (kappa[power] <= high)).sum())
    assert stats.binomtest(held, int(power.sum()), 0.89).pvalue > 1e-3
    # Probabilities mean what they say: sum of (p - outcome), standardised.
    probability = result["probability"].values
    outcome = truth[:, None] == np.arange(3)
    z = (probability - outcome).sum(0) / np.sqrt((probability * (1 - probability)).sum(0))
    assert (np.abs(z) < 3.3).all()


@pytest.mark.parametrize("kind", ["independent", "ar1 0.8", "random walk"])
def test_noise_has_no_onset(kind):
    generator = np.random.default_rng(21)
    shape = (24, 30)
    noise = {
        "independent": lambda: generator.normal(size=shape),
        "ar1 0.8": lambda: autoregressive(generator.normal(size=shape), 0.8),
        "random walk": lambda: generator.normal(size=shape).cumsum(axis=1),
    }[kind]()
    curves = batch_of(noise, np.arange(30.0) * 50)
    false_alarms = int(es.detect_onset(curves).dataset["emerged"].sum())
    # At 5% of 24, 6 or more happen once in 1,000 tries.
    assert false_alarms <= 5


def test_between_two_checkpoints_it_is_as_wide_as_they_are_apart():
    step = np.arange(0.0, 5000.0, 400.0)
    values = np.where(step > 2100.0, 1.0, 0.0)
    values = values + 0.002 * np.random.default_rng(1).normal(size=step.size)
    onset = es.detect_onset(es.curve(values, step), step_prior="linear")
    low, high = onset.interval(0.89).values
    assert onset.probability > 0.99
    # The rise is over by 2400, so the onset lies between 2000 and then, the later the faster the
    # rise; a slow start before 2000 is ruled out. Half of the gap at least is in the interval.
    assert 1995 < low < 2100
    assert 2200 < high < 2400


@pytest.mark.parametrize("step_prior", ["log", "linear"])
def test_density_is_a_density(step_prior):
    generator = np.random.default_rng(2)
    rise = es.relaxation(STEP, onset=200.0, timescale=300.0, kappa=1.0)
    curves = batch_of(rise + np.array([[0.02], [0.2]]) * generator.normal(size=(2, STEP.size)))
    data = es.detect_onset(curves, step_prior=step_prior).dataset
    for run in range(2):
        one = data.isel(run=run)
        step, density = one["onset_step"].values, one["density"].values
        assert (np.diff(step) >= 0).all()
        assert step[0] == pytest.approx(STEP[0])
        assert step[-1] == pytest.approx(STEP[-1])
        assert (np.diff(one["cumulative"].values) >= 0).all()
        # Trapezoids over the shown points against the stored distribution.
        area = np.r_[0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(step))]
        np.testing.assert_allclose(area, one["cumulative"].values, atol=0.02)


def test_the_log_prior_knows_no_unit_of_steps_and_the_linear_one_no_origin():
    generator = np.random.default_rng(3)
    step = np.arange(0.0, 3000.0, 100.0)
    rise = es.relaxation(step, onset=800.0, timescale=200.0, kappa=0.5)
    values = rise + 0.03 * generator.normal(size=step.size)
    plain = es.detect_onset(es.curve(values, step))
    longer = es.detect_onset(es.curve(values, 7 * step))
    np.testing.assert_allclose(longer.interval(), 7 * plain.interval(), rtol=1e-9)
    # Noise that forgets in log step knows an origin.
    linear = {"step_prior": "linear", "noise": "ar1"}
    plain = es.detect_onset(es.curve(values, step), **linear)
    later = es.detect_onset(es.curve(values, step + 5000.0), **linear)
    np.testing.assert_allclose(later.interval(), plain.interval() + 5000.0, rtol=1e-7)


@pytest.mark.parametrize("noise", ["ar1", "auto"])
def test_says_the_same_as_compare_and_more_data_says_it_more_sharply(noise):
    generator = np.random.default_rng(4)
    step = np.arange(0.0, 4000.0, 25.0)
    rise = es.relaxation(step, onset=1000.0, timescale=400.0, kappa=1.0)
    curves = batch_of(rise + 0.05 * generator.normal(size=(3, step.size)), step)
    # Without options the two agree as well.
    options = {} if noise == "auto" else {"noise": noise}
    onset = es.detect_onset(curves, **options)
    compared = es.compare(curves, **options).dataset
    np.testing.assert_array_equal(onset.median, compared["onset"].sel(quantile=0.5))
    np.testing.assert_allclose(onset.interval(0.89), compared["onset"].isel(quantile=[0, 2]))
    np.testing.assert_array_equal(onset.probability, compared["probability_of_onset"])
    fewer = es.detect_onset(curves.isel(step=slice(None, None, 8)), **options)
    wide, narrow = (
        x.interval().diff("bound").squeeze("bound").median("run") for x in (fewer, onset)
    )
    assert narrow < 0.7 * wide
    assert (onset.interval(0.5).diff("bound") < onset.interval(0.95).diff("bound")).all()
    with pytest.raises(es.InputError, match="prob"):
        onset.interval(1.0)


def test_summary_plot_and_disk(tmp_path):
    generator = np.random.default_rng(5)
    rise = es.relaxation(STEP, onset=200.0, timescale=300.0, kappa=0.0)
    curves = batch_of(rise + 0.02 * generator.normal(size=(2, STEP.size)))
    onset = es.detect_onset(curves.assign_coords(run=[10, 11]))
    table = onset.summary()
    assert list(table.columns) == [
        "emerged",
        "probability",
        "onset",
        "onset_lower",
        "onset_upper",
        "noise",
    ]
    assert list(table.index) == [10, 11]
    assert "Onset" in onset._repr_html_()
    assert len(onset.plot(run=11).axes) == 1
    onset.to_netcdf(tmp_path / "onset.nc")
    again = es.Onset.from_netcdf(tmp_path / "onset.nc")
    xr.testing.assert_identical(again.dataset, onset.dataset)
    curves.attrs["averaged_over"] = ["layer", "head"]
    with pytest.warns(UserWarning, match="averages over layer, head"):
        es.detect_onset(curves)


@pytest.mark.parametrize("family", ["level_change", "slope_change"])
def test_a_change_of_level_or_slope_has_the_posterior_of_dense_integration(family):
    step = np.arange(1.0, 13.0)
    generator = np.random.default_rng(2)
    shape = get_family(family).shape
    rest = (11.0,) if family == "slope_change" else ()
    y = 0.6 * shape(step, 6.4, *rest) + 0.05 * generator.normal(size=12)
    curve = es.curve(y, step)
    how = {"families": (family,), "noise": "independent", "value_range": (-0.5, 0.5)}
    onset = es.detect_onset(curve, step_prior="linear", **how)
    # The same model by dense covariance matrices and a fine grid of onsets and noise scales.
    scale = np.geomspace(2e-3, 2.0, 120)
    prior = 1.0 / (np.cosh(np.log(scale / beliefs.NOISE_SCALE)) * np.pi)
    at = 1.0 + 11.0 * (np.arange(110) + 0.5) / 110

    def density(design, covariance):
        # The noise is the same in all directions, so one basis serves all its scales.
        value, basis = np.linalg.eigh(design @ covariance @ design.T)
        variance = np.maximum(value, 0.0) + scale[:, None] ** 2
        squares = (basis.T @ y) ** 2 / variance
        return prior @ np.exp(-0.5 * (squares + np.log(2.0 * np.pi * variance)).sum(axis=1))

    sds = np.diag([beliefs.BASELINE_SD**2, beliefs.AMPLITUDE_SD**2])
    rows = np.array(
        [density(np.column_stack([np.ones(12), shape(step, t, *rest)]), sds) for t in at]
    )
    flat = density(np.ones((12, 1)), sds[:1, :1])
    probability = rows.mean() / (rows.mean() + flat)
    assert float(onset.probability) == pytest.approx(probability, abs=0.01)
    median = np.interp(0.5, (np.cumsum(rows) - 0.5 * rows) / rows.sum(), at)
    assert float(onset.median) == pytest.approx(median, abs=0.06)
    interval = np.interp([0.055, 0.945], (np.cumsum(rows) - 0.5 * rows) / rows.sum(), at)
    assert np.abs(onset.interval().values - interval).max() < 0.12
