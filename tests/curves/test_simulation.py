"""Simulated curves: drawn from the priors they claim, or as fixed, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import emergence_stats as es
from emergence_stats.curves.simulation import autoregressive, simulate_curves

STEP = np.unique(np.geomspace(10.0, 10_000.0, 16).round())
NUMBER = 4000


def assert_drawn_from(values, distribution):
    """Kolmogorov-Smirnov; a right sampler fails once in 10,000 seeds, and the seed is fixed."""
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-4


@pytest.fixture(scope="module")
def drawn():
    return simulate_curves(
        "power_law", STEP, number=NUMBER, noise="ar1", value_range=(2.0, 6.0), seed=3
    )


def test_parameters_follow_the_priors(drawn):
    """Written out here from the documented densities, not from the code that draws."""
    low, high = np.log(STEP[0]), np.log(STEP[-1])
    assert_drawn_from(np.log(drawn["onset"]), stats.uniform(low, high - low))
    shortest, span = 0.1 * np.diff(STEP).min(), STEP[-1] - STEP[0]
    middle, reach = 0.5 * np.log(shortest * span), np.log(span / shortest)
    assert_drawn_from(np.log(drawn["half_time"]), stats.norm(middle, reach / 3.29))
    assert_drawn_from(drawn["kappa"], stats.halfnorm(scale=2.0))
    assert_drawn_from(drawn["baseline"], stats.norm(4.0, 4.0))
    assert_drawn_from(drawn["amplitude"], stats.norm(0.0, 8.0))
    rho = drawn["noise_correlation"].values
    assert_drawn_from(rho, stats.uniform())
    fresh = drawn["noise_sd"].values * np.sqrt(1.0 - rho**2)
    assert_drawn_from(fresh, stats.halfcauchy(scale=0.05 * 4.0))


def test_signal_is_the_relaxation_with_the_parameters_reported(drawn):
    few = drawn.isel(curve=slice(0, 50))
    expected = es.relaxation(
        STEP,
        onset=few["onset"].values[:, None],
        timescale=few["timescale"].values[:, None],
        kappa=few["kappa"].values[:, None],
        takeoff=few["takeoff"].values[:, None],
        baseline=few["baseline"].values[:, None],
        amplitude=few["amplitude"].values[:, None],
    )
    np.testing.assert_allclose(few["signal"], expected, rtol=1e-7, atol=1e-7)


def test_noise_has_the_sd_and_correlation_asked_for():
    made = simulate_curves(
        "flat", np.arange(200.0), number=500, sd=0.3, noise="ar1", correlation=0.8, seed=5
    )
    noise = (made["score"] - made["signal"]).values
    # Effective sample size of an AR(1) variance: n (1 - rho^2) / (1 + rho^2).
    effective = noise.size * (1 - 0.64) / (1 + 0.64)
    assert abs(noise.var() / 0.09 - 1.0) < 4.0 * np.sqrt(2.0 / effective)
    pairs = noise[:, 1:] * noise[:, :-1]
    assert abs(pairs.mean() / 0.09 - 0.8) < 4.0 * pairs.mean(axis=1).std() / 0.09 / np.sqrt(500)
    # Stationary from the first point on.
    assert abs(noise[:, 0].var() / 0.09 - 1.0) < 4.0 * np.sqrt(2.0 / 500)


def test_independent_noise_is_uncorrelated_and_sd_may_differ_by_step_or_curve():
    by_step = np.linspace(0.1, 1.0, STEP.size)
    made = simulate_curves("flat", STEP, number=NUMBER, sd=by_step, seed=1)
    noise = (made["score"] - made["signal"]).values
    assert (abs(noise.std(axis=0) / by_step - 1.0) < 4.5 / np.sqrt(2 * NUMBER)).all()
    z = noise / by_step
    assert abs((z[:, 1:] * z[:, :-1]).mean()) < 4.0 / np.sqrt(NUMBER * (STEP.size - 1))
    by_curve = np.where(np.arange(NUMBER) < 2000, 0.1, 1.0)[:, None]
    made = simulate_curves("flat", STEP, number=NUMBER, sd=by_curve, seed=1)
    noise = (made["score"] - made["signal"]).values
    for half, sd in ((noise[:2000], 0.1), (noise[2000:], 1.0)):
        assert abs(half.std() / sd - 1.0) < 4.0 / np.sqrt(2 * half.size)
    assert made["noise_sd"].dims == ("curve",)


def test_excess_beside_measured_sd_follows_its_priors_and_shows_in_the_scores():
    sd = np.linspace(0.02, 0.06, STEP.size)
    how = {"number": NUMBER, "sd": sd, "noise": "ar1", "seed": 5}
    made = simulate_curves("flat", STEP, excess=True, **how)
    np.testing.assert_array_equal(made["score"]["sd"][0], sd)
    factor, rho = made["sd_factor"].values, made["noise_correlation"].values
    assert_drawn_from(np.log(factor) / 0.25, stats.hypsecant())
    fresh = made["noise_sd"].values / factor * np.sqrt(1.0 - rho**2)
    assert_drawn_from(fresh, stats.halfcauchy(scale=np.sqrt((sd**2).mean())))
    # Fixed: s^2 sd_i^2 + excess^2 on the diagonal, excess^2 rho beside it.
    fixed = {"excess": 0.05, "correlation": 0.6, "parameters": {"sd_factor": 1.5}}
    made = simulate_curves("flat", STEP, **fixed, **how)
    noise = (made["score"] - made["signal"]).values
    moments = noise.T @ noise / NUMBER
    expected = (1.5 * sd) ** 2 + 0.05**2
    error = 4.0 * expected * np.sqrt(2.0 / NUMBER)
    assert (abs(np.diag(moments) - expected) < error).all()
    assert (abs(np.diag(moments, 1) - 0.6 * 0.05**2) < error[1:]).all()


def test_excess_leaves_the_curves_beneath_as_they_were():
    plain = simulate_curves("power_law", STEP, number=5, sd=0.02, seed=3)
    more = simulate_curves("power_law", STEP, number=5, sd=0.02, excess=True, seed=3)
    np.testing.assert_array_equal(plain["signal"], more["signal"])
    none = {"excess": 0.0, "parameters": {"sd_factor": 1.0}}
    nothing = simulate_curves("power_law", STEP, number=5, sd=0.02, seed=3, **none)
    np.testing.assert_allclose(nothing["score"], plain["score"], rtol=1e-12)


def test_fixed_parameters_are_kept_and_leave_the_others_alone():
    free = simulate_curves("power_law", STEP, number=5, seed=2)
    fixed = simulate_curves(
        "power_law", STEP, number=5, seed=2, parameters={"onset": 100.0, "amplitude": np.arange(5)}
    )
    assert (fixed["onset"] == 100.0).all()
    np.testing.assert_array_equal(fixed["amplitude"], np.arange(5))
    for name in ("half_time", "kappa", "baseline", "noise_sd"):
        np.testing.assert_array_equal(fixed[name], free[name])
    assert fixed["onset"].attrs["fixed"] == 1
    assert fixed["kappa"].attrs["fixed"] == 0


def test_seeds_repeat_and_differ():
    first, again, other = (
        simulate_curves("exponential", STEP, number=3, seed=seed)["score"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any("step").all()


@pytest.mark.parametrize("family", ["flat", "growth", "two_exponentials", "logistic_log_decline"])
def test_every_kind_of_family_can_be_drawn(family):
    made = simulate_curves(family, np.arange(0, 4000, 250), number=200, seed=0)
    assert np.isfinite(made["score"]).all()
    moves = np.ptp(made["signal"].values, axis=1) > 0
    assert moves.any() == (family != "flat")


def test_step_prior_linear_spreads_onsets_evenly():
    made = simulate_curves("exponential", STEP, number=NUMBER, step_prior="linear", seed=0)
    assert_drawn_from(made["onset"], stats.uniform(STEP[0], STEP[-1] - STEP[0]))


def test_autoregressive_of_no_correlation_is_the_noise_itself():
    fresh = np.random.default_rng(0).normal(size=(3, 20))
    np.testing.assert_array_equal(autoregressive(fresh, 0.0), fresh)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "powerlaw"}, "did you mean 'power_law'"),
        ({"number": 0}, "number: 0"),
        ({"noise": "ar2"}, "noise: unknown 'ar2'"),
        ({"correlation": 0.5}, "correlation: given for independent noise"),
        ({"noise": "ar1", "correlation": 1.0}, "below 1"),
        ({"sd": -1.0}, "sd: -1.0"),
        ({"excess": True}, "Give the measurements' sd"),
        ({"excess": -1.0, "sd": 0.1}, "excess: -1.0"),
        ({"parameters": {"sd_factor": 1.0}}, "no 'sd_factor'"),
        ({"parameters": {"sd_factor": 0.0}, "sd": 0.1, "excess": True}, "must be positive"),
        ({"sd": [0.1, 0.2]}, "sd: shape"),
        ({"parameters": {"kapa": 1.0}}, "did you mean 'kappa'"),
        ({"parameters": {"onset": [1.0, 2.0]}}, "onset: shape"),
        ({"parameters": {"onset": np.nan}}, "must be finite"),
        ({"step": STEP[::-1]}, "sort the steps"),
        ({"step": STEP[:5]}, "at least 8"),
        ({"step": STEP[None]}, "one row of steps"),
    ],
)
def test_bad_arguments_are_named(change, message):
    options = {"family": "power_law", "step": STEP, "number": 3, **change}
    with pytest.raises(es.InputError, match=message):
        simulate_curves(options.pop("family"), options.pop("step"), **options)
