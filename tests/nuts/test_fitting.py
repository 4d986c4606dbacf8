"""The PyMC model has the quadrature's posterior: evidence, compilation and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import emergence_stats as es
from emergence_stats.curves.families import HALF_TIME, ONSET, Family, get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.data.labels import gather
from emergence_stats.errors import InputError
from emergence_stats.nuts import models, sampling, stairs
from emergence_stats.nuts.bridge import bridge_sample
from emergence_stats.nuts.data import curve_data
from emergence_stats.quadrature import evidence

# Fixtures made once serve several tests: they must share a process.
pytestmark = pytest.mark.xdist_group("fitting")

STEP = np.unique(np.geomspace(1.0, 20_000.0, 40).round())


def gathered(seed=1, step=STEP, sd=None, kappa=1.0):
    generator = np.random.default_rng(seed)
    clean = es.relaxation(step, onset=300.0, timescale=200.0, kappa=kappa)
    values = clean + 0.02 * generator.normal(size=step.size)
    arrays, _ = gather(es.curve(values, step, sd=sd))
    return arrays, step_axis(arrays, "log")


def sampled(name, noise, arrays, axis):
    family = get_family(name)
    data = curve_data(arrays, axis, noise)
    generator = np.random.default_rng(5)
    first = sampling.population(family, noise, data, True, generator)
    data = stairs.with_stairs(family, noise, data, True, first)
    chosen = first[generator.choice(len(first), 4, replace=False)]
    starts = stairs.on_stairs(family, noise, data, chosen)
    found = sampling.compile_model(family, noise, data, True)
    chains = sampling.draw_chains(
        found, starts, num_draws=500, num_tune=500, seed=3, target_accept=0.95, progress=False
    )
    return chains, sampling.density_of(family, noise, data, True)


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        ("flat", "independent"),
        pytest.param("exponential", "ou", marks=pytest.mark.slow),
        ("power_law", "ar1"),
        *(
            pytest.param(name, noise, marks=pytest.mark.slow)
            for name, noise in (
                ("flat", "ar1"),
                ("exponential", "independent"),
                ("power_law", "independent"),
                ("power_law", "ou"),
            )
        ),
    ],
)
def test_bridge_and_quadrature_have_one_evidence(name, noise):
    arrays, axis = gathered()
    chains, density = sampled(name, noise, arrays, axis)
    assert not chains.diverging.any()
    result = bridge_sample(chains.coordinates, density)
    exact = evidence.family_posterior(get_family(name), arrays, noise=noise)
    assert result.error < 0.1
    allowed = 4 * result.error + exact.error[0]
    assert abs(result.log_evidence - exact.log_integral[0]) < allowed


def test_one_model_serves_curves_of_any_length_with_and_without_sd(monkeypatch):
    built = []
    curve_model = sampling.curve_model

    def counted(*arguments):
        built.append(arguments)
        return curve_model(*arguments)

    monkeypatch.setattr(sampling, "curve_model", counted)
    monkeypatch.setattr(sampling, "COMPILED", type(sampling.COMPILED)())
    family = get_family("sudden_exponential")
    x = np.array([0.3, 0.1, -1.0])
    for arrays, axis in (gathered(), gathered(2, STEP[::2]), gathered(3, sd=0.02)):
        data = curve_data(arrays, axis, "independent")
        value, _ = sampling.compile_model(family, "independent", data, True).evaluate(x)
        by_numpy = sampling.density_of(family, "independent", data, True)(x[None])[0]
        np.testing.assert_allclose(value, by_numpy, rtol=1e-10)
    assert len(built) == 1


def test_a_shape_that_cannot_be_differentiated_says_so():
    family = Family(
        "cut", "not smooth", (ONSET, HALF_TIME), lambda step, t0, half: np.maximum(step - t0, half)
    )
    arrays, axis = gathered()
    with pytest.raises(InputError, match="universal functions"):
        models.curve_model(family, "ar1", curve_data(arrays, axis, "ar1"), True)


@pytest.fixture(scope="module")
def fitted():
    generator = np.random.default_rng(1)
    clean = es.relaxation(STEP, onset=300.0, timescale=200.0, kappa=1.0)
    curve = es.curve(clean + 0.02 * generator.normal(size=STEP.size), STEP)
    return curve, es.fit(curve, num_draws=500, num_tune=500, seed=2)


def test_draws_have_the_quantiles_of_the_quadrature(fitted):
    import arviz as az

    curve, found = fitted
    arrays, _ = gather(curve)
    exact = evidence.family_posterior(get_family("power_law"), arrays)
    axis = step_axis(arrays, "log")
    batch = evidence.Batch(arrays, axis, "ar1")
    values = batch.parameters(get_family("power_law"), exact.curve, exact.z)
    posterior = found.tree["posterior"].to_dataset()
    effective = az.ess(posterior[["onset", "half_time", "kappa"]])
    for name, points in zip(("onset", "half_time", "kappa"), values[:3], strict=True):
        number = float(effective[name])
        assert number > 200, f"{name} has not mixed"
        # Share of draws below each exact quantile: binomial in the effective number of draws.
        order = np.argsort(points)
        cumulative = np.cumsum(exact.weight[order])
        for share in (0.055, 0.5, 0.945):
            quantile = np.interp(share, cumulative, points[order])
            below = float((posterior[name] < quantile).mean())
            error = np.sqrt(share * (1 - share) / number)
            # The grid's own quantiles are good to a percent or so.
            assert abs(below - share) < 4 * error + 0.01, name


def test_prediction_reaches_beyond_the_data_and_covers_the_truth(fitted):
    _, found = fitted
    steps = np.array([100.0, 1000.0, 200_000.0])
    band = found.predict(steps, prob=0.99)
    truth = es.relaxation(steps, onset=300.0, timescale=200.0, kappa=1.0)
    assert ((band["lower"] < truth) & (truth < band["upper"])).all()
    tighter = found.predict(steps, prob=0.5)
    assert (tighter["upper"] - tighter["lower"] < band["upper"] - band["lower"]).all()


def test_replicas_and_point_likelihoods_belong_to_the_draws(fitted):
    curve, found = fitted
    total = found.tree["log_likelihood"]["score"].sum("step").values
    posterior = found.tree["posterior"].to_dataset().isel(chain=0, draw=7)
    names = ("onset", "half_time", "kappa", "takeoff")
    shape = get_family("power_law").shape(STEP, *(float(posterior[n]) for n in names))
    mean = float(posterior["baseline"]) + float(posterior["amplitude"]) * shape
    lag = np.abs(np.subtract.outer(np.arange(STEP.size), np.arange(STEP.size)))
    noise = float(posterior["noise_sd"]) ** 2 * float(posterior["noise_correlation"]) ** lag
    from scipy.stats import multivariate_normal

    assert total[0, 7] == pytest.approx(multivariate_normal.logpdf(curve, mean, noise), abs=1e-6)
    spread = found.tree["posterior_predictive"]["score"].std(("chain", "draw"))
    assert (spread > 0.01).all()
    assert (spread < 0.2).all()


def test_stored_and_read_back_exactly(fitted, tmp_path):
    _, found = fitted
    found.to_netcdf(tmp_path / "fit.nc")
    again = es.Fit.from_netcdf(tmp_path / "fit.nc")
    assert again.tree.identical(found.tree)
    assert again.problems == found.problems
    assert "power_law" in again._repr_html_()
    assert found.plot().axes
    table, interval = found.summary(), found.interval()["kappa"]
    assert list(interval["bound"].values) == ["lower", "upper"]
    np.testing.assert_allclose(interval, table.loc["kappa", ["eti89_lb", "eti89_ub"]].astype(float))
    assert found.summary().loc["kappa", "mean"] == pytest.approx(
        float(found.tree["posterior"]["kappa"].mean())
    )


def test_leave_one_out_prefers_the_truth_and_warns_of_few_points(fitted):
    from emergence_stats.nuts.fitting import compare_fits

    curve, found = fitted
    flat = es.fit(curve, "flat", num_chains=2, num_draws=200, num_tune=200)
    with pytest.warns(UserWarning, match="hundred|Pareto"):
        table = compare_fits({"power_law": found, "flat": flat})
    assert table.index[0] == "power_law"
    assert table.loc["flat", "elpd_diff"] < 0
    with pytest.raises(InputError, match="at least two"):
        compare_fits({"power_law": found})


@pytest.mark.parametrize("noise", ["student_t", "proportional"])
def test_heavy_tails_and_growing_noise_are_recognised(noise):
    """Where the noise is of that kind, so is the evidence, against independent normal noise."""
    generator = np.random.default_rng(3)
    clean = es.relaxation(STEP, onset=300.0, timescale=200.0, kappa=0.0)
    if noise == "student_t":
        error = 0.01 * generator.standard_t(1.5, size=STEP.size)
    else:
        error = (0.002 + 0.1 * clean) * generator.normal(size=STEP.size)
    curve = es.curve(clean + error, STEP)
    kind = es.fit(curve, "exponential", noise=noise, num_chains=2, num_draws=200, num_tune=300)
    normal = es.compare(curve, families=("exponential",), noise="independent").dataset
    gain = kind.log_evidence - float(normal["log_evidence"].sel(family="exponential"))
    assert gain > 2.0 + 4 * kind.log_evidence_error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"family": "powerlaw"}, "power_law"),
        ({"noise": "student"}, "student_t"),
        ({"step_prior": "cubic"}, "step_prior"),
        ({"num_draws": 3}, "num_draws"),
        ({"num_chains": 1}, "num_chains"),
        ({"target_accept": 1.0}, "target_accept"),
    ],
)
def test_bad_options_are_named(options, said):
    curve = es.curve(np.linspace(0, 1, 12), np.arange(12))
    with pytest.raises(InputError, match=said):
        es.fit(curve, **options)


def test_several_curves_are_refused():
    two = es.curve(np.linspace(0, 1, 12), np.arange(12)).expand_dims(run=[0, 1])
    with pytest.raises(InputError, match="run=0"):
        es.fit(two)


def test_steps_to_predict_must_be_finite(fitted):
    _, found = fitted
    with pytest.raises(InputError, match="steps"):
        found.predict([-1.0])
    with pytest.raises(InputError, match="prob"):
        found.predict([1.0], prob=1.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "points", "sd", "noise", "seed"),
    [
        # Each diverged with the target of 0.95 that serves elsewhere.
        ("sudden_exponential", 12, 0.01, "independent", 1),
        ("sudden_power_law", 12, 0.05, "independent", 7),
        ("sudden_exponential", 12, 0.001, "independent", 30),
    ],
)
def test_a_rise_between_two_checkpoints_does_not_diverge(family, points, sd, noise, seed):
    step = np.geomspace(10.0, 5000.0, points)
    k = points // 2
    gap = step[k + 1] - step[k]
    kappa = 2.0 if family == "sudden_power_law" else 0.0
    rise = es.relaxation(step, onset=step[k] + 0.3 * gap, timescale=0.03 * gap, kappa=kappa)
    noisy = rise + sd * np.random.default_rng(seed).normal(size=points)
    curve = es.curve(noisy, step)
    fitted = es.fit(curve, family, noise=noise, seed=seed)
    assert not fitted.tree["sample_stats"]["diverging"].any()
    assert fitted.tree.attrs["target_accept"] >= 0.99
    onset = fitted.tree["posterior"]["onset"]
    assert float(((onset > step[k - 1]) & (onset < step[k + 1])).mean()) > 0.99


def test_the_summary_says_which_noise(fitted):
    assert set(fitted[1].summary()["noise"]) == {"ar1"}


def test_a_rise_seen_at_many_checkpoints_keeps_the_longer_step(fitted):
    assert fitted[1].tree.attrs["target_accept"] == 0.95
