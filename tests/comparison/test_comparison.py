"""What `compare` says of curves whose truth is known, and how it takes what it is given."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import integrate

import emergence_stats as es
from emergence_stats.curves.simulation import autoregressive

STEP = np.unique(np.geomspace(1.0, 20_000.0, 80).round())
VERDICTS = {"power_law", "exponential", "undecided", "no_emergence", "misfit"}


def batch_of(values, step=STEP, **coords):
    return xr.DataArray(values, dims=("run", "step"), coords={"step": step, **coords})


def rise(seed, *, kappa=1.0, sd=0.02, number=1, step=STEP, onset=300.0, timescale=200.0):
    generator = np.random.default_rng(seed)
    clean = es.relaxation(step, onset=onset, timescale=timescale, kappa=kappa)
    return batch_of(clean + sd * generator.normal(size=(number, step.size)), step)


@pytest.fixture(scope="module")
def three():
    return es.compare(rise(0, number=3))


@pytest.mark.parametrize("order", [2.5, 3.0, 4.0, 6.0])
def test_gradient_flow_gives_back_the_order_of_its_potential(order):
    """dq/dt = -q^(n-1) integrated numerically, never drawn from the formula."""
    after = (STEP - 300.0) / 100.0
    flow = integrate.solve_ivp(
        lambda _, q: -np.sign(q) * np.abs(q) ** (order - 1),
        (0.0, 200.0),
        [1.0],
        t_eval=after[after >= 0],
        rtol=1e-10,
        atol=1e-12,
        method="LSODA",
    )
    generator = np.random.default_rng(int(10 * order))
    clean = np.zeros(STEP.size)
    clean[after >= 0] = 1 - flow.y[0]
    curves = batch_of(clean + 0.01 * generator.normal(size=(8, STEP.size)))
    result = es.compare(curves).dataset
    low, _, high = result["order"].transpose("quantile", "run").values
    # Of 8 intervals of 89%, fewer than 5 hold the truth once in 300 tries.
    assert ((low <= order) & (order <= high)).sum() >= 5
    assert (result["probability"].sel(family="flat") < 1e-6).all()
    assert not (result["verdict"] == "exponential").any()


def test_probabilities_are_evidences_times_priors(three):
    prior = {"flat": 0.2, "exponential": 0.7, "power_law": 0.1}
    other = es.compare(rise(0, number=3), prior_probability=prior).dataset
    xr.testing.assert_allclose(other["log_evidence"], three.dataset["log_evidence"], rtol=1e-12)
    score = other["log_evidence"] + np.log([prior[str(f)] for f in other["family"].values])
    expected = np.exp(score - score.max("family"))
    xr.testing.assert_allclose(other["probability"], expected / expected.sum("family"))
    np.testing.assert_allclose(three.dataset["probability"].sum("family"), 1.0, rtol=1e-12)


def test_missing_points_are_dropped_curve_by_curve():
    curves = rise(1, number=3)
    curves[0, 50:] = np.nan  # a run that stopped early
    curves[2, [3, 10, 11]] = np.nan
    together = es.compare(curves).dataset
    for run in range(3):
        alone = es.compare(curves[run].dropna("step")).dataset
        one = together.isel(run=run)
        for name in ("log_evidence", "onset", "kappa", "amplitude", "misfit_p_value"):
            np.testing.assert_allclose(one[name], alone[name], rtol=1e-9, err_msg=name)


def test_falling_is_rising_upside_down(three):
    down = es.compare(-rise(0, number=3)).dataset
    up = three.dataset
    assert (up["direction"] == "rising").all()
    assert (down["direction"] == "falling").all()
    for name in ("log_evidence", "onset", "order", "timescale"):
        np.testing.assert_allclose(down[name], up[name], rtol=1e-9, err_msg=name)
    # Draws use the same random numbers, so signs do not mirror them one by one; their quantiles
    # do to Monte Carlo error.
    np.testing.assert_allclose(
        -down["amplitude"].values[:, ::-1], up["amplitude"].values, rtol=0.02
    )


def test_known_sd_says_which_points_to_trust():
    step = np.arange(0.0, 3000.0, 100.0)
    generator = np.random.default_rng(2)
    sd = np.where(np.arange(step.size) % 3 == 0, 0.3, 0.01)
    values = es.relaxation(step, onset=900.0, timescale=300.0, kappa=0.0)
    values = values + sd * generator.normal(size=step.size)
    sudden = {"families": ("sudden_exponential", "sudden_power_law"), "noise": "ar1"}
    told = es.compare(es.curve(values, step, sd=sd), **sudden).dataset
    untold = es.compare(es.curve(values, step), **sudden).dataset
    width = [float(d["onset"][2] - d["onset"][0]) for d in (told, untold)]
    assert width[0] < 0.25 * width[1]
    assert told["onset"].values[0] < 900.0 < told["onset"].values[2]
    assert told.attrs["known_sd"] == 1
    # Units of the score cancel.
    scaled = es.compare(es.curve(50 * values - 3, step, sd=50 * sd), **sudden).dataset
    np.testing.assert_allclose(scaled["onset"], told["onset"], rtol=1e-9)
    np.testing.assert_allclose(
        scaled["log_evidence"], told["log_evidence"] - step.size * np.log(50), rtol=1e-9
    )


def test_decline_after_the_peak_is_a_misfit():
    step = np.arange(0.0, 6000.0, 100.0)
    clean = es.relaxation(step, onset=500.0, timescale=200.0, kappa=0.0)
    clean = clean - 0.8 * es.relaxation(step, onset=2500.0, timescale=600.0, kappa=0.0)
    noise = 0.02 * np.random.default_rng(3).normal(size=(6, step.size))
    result = es.compare(batch_of(clean + noise, step), noise="independent").dataset
    assert (result["verdict"] == "misfit").all()
    good = es.compare(rise(3, number=20), noise="independent").dataset
    # An alarm of level 5% or less: 5 or more of 20 happen once in 400.
    assert int((good["verdict"] == "misfit").sum()) <= 4


def test_correlated_noise_is_not_taken_for_a_law():
    """AR(1) 0.8 noise on an exponential: strongly wrong is rare; taken as independent it is not."""
    generator = np.random.default_rng(4)
    step = np.arange(0.0, 6000.0, 50.0)
    noise = autoregressive(generator.normal(size=(20, step.size)), 0.8)
    clean = es.relaxation(step, onset=800.0, timescale=500.0, kappa=0.0)
    curves = batch_of(clean + 0.05 * noise, step)
    aware, naive = (
        es.compare(curves, noise=noise).dataset["probability"].sel(family="power_law")
        for noise in ("ar1", "independent")
    )
    # At a rate of 2%, 4 or more of 20 happen once in 1,700.
    assert int((aware > 0.95).sum()) <= 3
    assert int((naive > 0.95).sum()) > int((aware > 0.95).sum())


@pytest.mark.parametrize("level", [0.0, 5.0, -1e9, 1e-12])
def test_constant_curves_have_not_emerged(level):
    result = es.compare(es.curve(np.full(20, level), np.arange(20))).dataset
    assert result["verdict"] == "no_emergence"
    for name in ("log_evidence", "onset", "amplitude", "plateau", "kappa", "misfit_p_value"):
        assert np.isfinite(result[name]).all(), name


def test_prediction_follows_the_curve_and_widens_beyond_it(three):
    truth = es.relaxation(
        np.array([10.0, 2000.0, 20_000.0]), onset=300.0, timescale=200.0, kappa=1.0
    )
    ahead = three.predict([10.0, 2000.0, 20_000.0, 1e6])
    assert ahead["mean"].dims == ("run", "step")
    near = ahead.isel(step=slice(3))
    np.testing.assert_allclose(near["mean"], np.tile(truth, (3, 1)), atol=0.03)
    width = ahead["upper"] - ahead["lower"]
    assert (width.isel(step=3) > width.isel(step=1)).all()
    with pytest.raises(es.InputError, match="finite steps"):
        three.predict([np.nan])
    with pytest.raises(es.InputError, match="layer: not a dimension"):
        three.predict([1.0], layer=0)


def test_summary_plot_and_notebook_view(three):
    mpl.use("Agg")
    table = three.summary()
    assert len(table) == 3
    assert {"verdict", "p_power_law", "onset", "onset_lower", "order", "averaged"} <= set(table)
    assert "Comparison" in three._repr_html_()
    with pytest.raises(es.InputError, match="choose one curve"):
        three.plot()
    named = es.compare(rise(0, number=2).assign_coords(run=[4, 9]))
    figure = named.plot(run=9, log_x=False)
    assert figure.axes[0].get_xscale() == "linear"
    assert named.plot(run=4).axes[0].get_xlim()[1] >= STEP[-1]
    with pytest.raises(es.InputError, match="no such curve"):
        named.plot(run=5)
    from_zero = es.compare(es.curve(rise(0).values[0][:20], np.arange(20) * 10))
    assert len(from_zero.plot().axes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "pyms"}, "engine: unknown 'pyms'; did you mean 'pymc'"),
        ({"noise": "student_t"}, "noise: 'student_t' has no quadrature; sample it"),
        ({"noise": "ar2"}, "noise: unknown 'ar2'; did you mean 'ar1'"),
        ({"step_prior": "logarithmic"}, "step_prior: unknown"),
        ({"families": ("logistc",)}, "families: unknown 'logistc'"),
        ({"threshold": 1.5}, "threshold: 1.5"),
        ({"misfit_threshold": 0}, "misfit_threshold: 0"),
        ({"tolerance": -1.0}, "tolerance: -1.0"),
        ({"value_range": (1.0, 0.0)}, "value_range"),
        ({"value_range": 3}, "value_range"),
        ({"prior_probability": {"flat": 1.0}}, "prior_probability: names"),
        (
            {"prior_probability": {"flat": 0.5, "exponential": 0.5, "power_law": 0.5}},
            "must be positive and sum to 1",
        ),
    ],
)
def test_options_that_cannot_be_used_are_named(change, message):
    with pytest.raises(es.InputError, match=message):
        es.compare(rise(0), **change)


def _bad_curves():
    good = rise(0)
    infinite = good.copy()
    infinite[0, 3] = np.inf
    few = good.copy()
    few[0, 5:] = np.nan
    yield [1.0, 2.0], "got list"
    yield good.rename(step="epoch"), "no 'step' dimension"
    yield good.drop_vars("step"), "no coordinate"
    yield good.isel(step=slice(None, None, -1)), "is followed by"
    yield good.assign_coords(step=np.r_[STEP[:-1], STEP[-2]]), "is repeated"
    yield good.assign_coords(step=STEP - 5), "not negative"
    yield good.assign_coords(step=np.r_[STEP[:-1], np.nan]), "holds NaN"
    yield infinite, "infinite value in curve run=0 at step"
    yield few, "has 5 points"
    yield good.isel(run=[]), "empty"
    yield good.astype(str), "real numbers"
    yield good * 1j, "real numbers"
    yield good.assign_coords(sd=("step", np.zeros(STEP.size))), "sd: 0.0"
    yield xr.full_like(good, 1.0) * np.where(STEP < 100, 1.7e308, -1.7e308), "overflows"


@pytest.mark.parametrize(("curves", "message"), list(_bad_curves()))
@pytest.mark.parametrize("call", [es.compare, es.detect_onset])
def test_curves_that_cannot_be_used_are_refused(call, curves, message):
    with pytest.raises(es.InputError, match=message):
        call(curves)


@given(
    values=st.lists(
        st.lists(
            st.one_of(
                st.floats(-1e3, 1e3), st.sampled_from([0.0, 1.0, np.nan, 1e-300, 1e200, -1e200])
            ),
            min_size=14,
            max_size=14,
        ),
        min_size=1,
        max_size=3,
    ),
    gaps=st.lists(st.floats(1e-3, 1e5), min_size=14, max_size=14),
    first=st.sampled_from([0.0, 1.0, 1e6]),
    noise=st.sampled_from(["ar1", "independent", "ou", "ou_log"]),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_curve_gets_a_finite_well_formed_answer(values, gaps, first, noise):
    step = first + np.cumsum(np.r_[0.0, gaps[1:]])
    if (np.diff(step) <= 0).any():
        return
    curves = batch_of(np.array(values), step)
    before = curves.copy(deep=True)
    if (np.isfinite(curves).sum("step") < 8).any():
        with pytest.raises(es.InputError, match="at least 8"):
            es.compare(curves, noise=noise)
        return
    result = es.compare(curves, noise=noise).dataset
    xr.testing.assert_identical(curves, before)
    numbers = ["log_evidence", "log_evidence_error", "probability", "onset", "half_time"]
    numbers += ["timescale", "fraction_complete", "amplitude", "baseline", "plateau", "kappa"]
    for name in [*numbers, "time_to_99_percent", "density", "draw_weight", "misfit_p_value"]:
        assert np.isfinite(result[name]).all(), name
    np.testing.assert_allclose(result["probability"].sum("family"), 1.0, rtol=1e-9)
    np.testing.assert_allclose(result["draw_weight"].sum("draw"), 1.0, rtol=1e-9)
    for name in ("onset", "half_time", "fraction_complete", "kappa", "exponent"):
        assert (result[name].diff("quantile") >= 0).all(), name
    assert (result["onset"] >= step[0]).all()
    assert (result["onset"] <= step[-1]).all()
    assert set(result["verdict"].values.ravel()) <= VERDICTS


def test_quiet_curves_are_told_apart():
    for kappa, expected in ((0.0, "exponential"), (2.0, "power_law")):
        result = es.compare(rise(1, kappa=kappa, sd=0.01, number=8)).dataset
        chance = result["probability"].sel(family=expected)
        other = "power_law" if expected == "exponential" else "exponential"
        assert float(chance.median()) > 0.8
        assert not (result["verdict"] == other).any()


def test_few_noisy_points_are_undecided():
    step = np.round(np.geomspace(1, 3000, 10))
    result = es.compare(rise(2, sd=0.1, number=12, step=step, onset=200.0, timescale=150.0)).dataset
    assert (result["verdict"] == "undecided").sum() + (
        result["verdict"] == "no_emergence"
    ).sum() >= 10


def test_an_average_is_flagged():
    curve = rise(5).isel(run=0, drop=True)
    curve.attrs["averaged_over"] = "head"
    with pytest.warns(UserWarning, match="average"):
        es.compare(curve)


def test_units_do_not_matter():
    curves = rise(6, number=3)

    def numbers(these):
        result = es.compare(these, noise="ar1").dataset
        return (result[name].values for name in ("log_bayes_factor", "order", "onset"))

    bayes_factor, order, onset = numbers(curves)
    for other, factor in (
        (100 * curves - 7, 1.0),
        (-curves, 1.0),
        (curves.assign_coords(step=10 * STEP), 10.0),
    ):
        found = list(numbers(other))
        np.testing.assert_allclose(found[0], bayes_factor, atol=0.05)
        np.testing.assert_allclose(found[1], order, rtol=0.05)
        np.testing.assert_allclose(found[2], factor * onset, rtol=0.05)


def test_curves_do_not_influence_one_another():
    curves = rise(7, number=4)
    together = es.compare(curves).dataset["log_evidence"]
    swapped = es.compare(curves.isel(run=[2, 0, 3, 1])).dataset["log_evidence"]
    np.testing.assert_allclose(swapped.values, together.values[[2, 0, 3, 1]], rtol=1e-9)
    alone = es.compare(curves.isel(run=[2])).dataset["log_evidence"]
    np.testing.assert_allclose(alone.values[0], together.values[2], rtol=1e-9)


def test_the_callers_arrays_are_unchanged():
    curves = rise(8, number=2)
    before = curves.copy(deep=True)
    es.compare(curves)
    es.detect_onset(curves)
    xr.testing.assert_identical(curves, before)
