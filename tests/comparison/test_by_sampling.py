"""Comparison by sampling says what comparison by quadrature says, to its Monte Carlo error."""

from __future__ import annotations

import re

import arviz as az
import numpy as np
import pytest
import xarray as xr

import emergence_stats as es
from emergence_stats.comparison import by_sampling
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.curves.simulation import autoregressive
from emergence_stats.data.labels import gather
from emergence_stats.nuts import sampling
from emergence_stats.nuts.data import curve_data
from emergence_stats.quadrature import evidence
from emergence_stats.quadrature.evidence import LINEAR_PARAMETERS

STEP = np.unique(np.geomspace(1.0, 20_000.0, 16).round())
NUM_DRAWS = 300
# One worker makes what all these share.
pytestmark = pytest.mark.xdist_group("by_sampling")
FAMILIES = ("flat", "exponential", "power_law")


def curves_of(kappas=(0.0, 2.0), sd=0.02):
    generator = np.random.default_rng(0)
    rows = [
        es.relaxation(STEP, onset=300.0, timescale=200.0, kappa=kappa)
        + sd * generator.normal(size=STEP.size)
        for kappa in kappas
    ]
    return xr.DataArray(np.array(rows), dims=("run", "step"), coords={"step": STEP}, name="score")


@pytest.fixture(scope="module", params=[pytest.param("independent", marks=pytest.mark.slow), "ar1"])
def both(request):
    """By quadrature and by sampling, and how often a model was built for the latter."""
    built = []
    curve_model = sampling.curve_model

    def counted(*arguments):
        built.append(arguments)
        return curve_model(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "curve_model", counted)
        sampling.COMPILED.clear()
        sampled = es.compare(
            curves_of(), noise=request.param, engine="pymc", num_chains=2, num_draws=NUM_DRAWS
        )
    return es.compare(curves_of(), noise=request.param), sampled, len(built)


@pytest.fixture(scope="module")
def short():
    """Few draws: for what does not depend on how good they are. Of models compiled already."""
    return es.compare(curves_of(), noise="ar1", engine="pymc", num_chains=2, num_draws=50)


def test_both_engines_have_one_evidence_and_one_verdict(both):
    exact, sampled, _ = (one.dataset if isinstance(one, es.Comparison) else one for one in both)
    error = sampled["log_evidence_error"]
    assert (error < 0.15).all()
    assert (error > 0).all()
    apart = abs(sampled["log_evidence"] - exact["log_evidence"])
    assert (apart < 4 * error + exact["log_evidence_error"]).all(), apart.values
    assert list(sampled["verdict"].values) == list(exact["verdict"].values)
    assert list(sampled["direction"].values) == list(exact["direction"].values)
    # A p-value of 256 replicas is uncertain by 0.03, three times that being reported.
    np.testing.assert_allclose(sampled["misfit_p_value"], exact["misfit_p_value"], atol=0.3)
    score = sampled["log_evidence"] + np.log([0.5, 0.25, 0.25])
    expected = np.exp(score - score.max("family"))
    xr.testing.assert_allclose(sampled["probability"], expected / expected.sum("family"))


def test_one_model_is_built_for_each_family_whatever_the_number_of_curves(both):
    assert both[2] == len(FAMILIES)


def test_draws_are_those_of_fit_and_medians_those_of_the_quadrature(both):
    """Under the power law, where the quadrature's posterior is known as weighted points."""
    sampled = both[1].dataset.isel(run=1)
    noise = str(sampled.attrs["noise"])
    curve = curves_of()[1]
    fitted = es.fit(curve, noise=noise, num_chains=2, num_draws=NUM_DRAWS, num_tune=NUM_DRAWS)
    of_power_law = sampled.sel(family="power_law")
    assert float(of_power_law["log_evidence"]) == fitted.log_evidence
    assert float(of_power_law["log_evidence_error"]) == fitted.log_evidence_error
    # The same problems; R-hat is taken over other variables.
    problems = str(of_power_law["sampling_problems"].item()), "; ".join(fitted.problems)
    assert len({re.sub(r"[\d.]+", "", one) for one in problems}) == 1
    posterior = fitted.tree["posterior"].to_dataset()
    for name in ("kappa", "order"):
        # Definitions of a quantile differ by one draw.
        below = [float((posterior[name] < value).mean()) for value in sampled[name].values]
        np.testing.assert_allclose(below, [0.055, 0.5, 0.945], atol=1.0 / posterior[name].size)
    arrays, _ = gather(curve)
    family = get_family("power_law")
    axis = step_axis(arrays, "log")
    exact = evidence.family_posterior(family, arrays, noise=noise)
    values = evidence.Batch(arrays, axis, noise).parameters(family, exact.curve, exact.z)
    effective = az.ess(posterior, method="median")
    for parameter, points in zip(family.parameters, values, strict=True):
        median = float(posterior[parameter.name].median())
        below = float(exact.weight[points < median].sum())
        allowed = 4 * 0.5 / np.sqrt(float(effective[parameter.name]))
        assert abs(below - 0.5) < allowed, parameter.name


def test_averaged_posteriors_agree(both):
    """Places of the sampled medians in the quadrature's posterior; 150 draws are worth 0.16."""
    exact, sampled = both[0].dataset, both[1].dataset
    for run in range(2):
        one = exact.isel(run=run)
        median = float(sampled["onset"].isel(run=run).sel(quantile=0.5))
        place = np.interp(median, one["onset_step"], one["cumulative"])
        assert abs(place - 0.5) < 0.16
        for name in ("timescale", "half_time", "amplitude", "baseline", "plateau", "order"):
            low, _, high = one[name].values
            assert low < float(sampled[name].isel(run=run).sel(quantile=0.5)) < high, name
    np.testing.assert_allclose(
        sampled["cumulative"].isel(onset_point=[0, -1]), [[0.0, 1.0]] * 2, atol=1e-12
    )
    mass = [
        np.trapezoid(d, s) for d, s in zip(sampled["density"], sampled["onset_step"], strict=True)
    ]
    np.testing.assert_allclose(mass, 1.0, atol=0.02)


def test_the_result_has_the_same_variables_whatever_the_engine(both):
    exact, sampled = both[0].dataset, both[1].dataset
    assert set(sampled.variables) - set(exact.variables) == {"sampling_problems"}
    assert not set(exact.variables) - set(sampled.variables)
    for name in exact.variables:
        assert sampled[name].dims == exact[name].dims, name
        assert sampled[name].dtype.kind == exact[name].dtype.kind, name
    assert sampled.attrs["engine"] == "pymc"
    steps = [100.0, 1000.0, 50_000.0]
    mine, other = (one.predict(steps, run=1) for one in both[1::-1])
    assert ((mine["mean"] > other["lower"]) & (mine["mean"] < other["upper"])).all()


def test_result_is_stored_summarised_and_drawn(short, tmp_path):
    path = tmp_path / "sampled.nc"
    short.to_netcdf(path)
    xr.testing.assert_identical(es.Comparison.from_netcdf(path).dataset, short.dataset)
    table = short.summary()
    assert len(table) == 2
    assert "effective draws" in table["sampling_problems"].iloc[0]
    assert "power_law: " in table["sampling_problems"].iloc[0]
    assert len(short.plot(run=1).axes) == 2
    assert "Comparison" in short._repr_html_()


def test_a_curve_does_not_depend_on_those_beside_it(short):
    one = curves_of()[1]
    alone = es.compare(one, noise="ar1", engine="pymc", num_chains=2, num_draws=50).dataset
    assert str(alone["verdict"].item()) == str(short.dataset["verdict"][1].item())
    for name in ("log_evidence", "onset", "draw_value", "misfit_p_value"):
        np.testing.assert_array_equal(alone[name], short.dataset[name].isel(run=1), err_msg=name)
    assert alone.sizes["family"] == 3


@pytest.mark.slow
def test_known_sd_have_a_common_factor_and_an_excess_beside_them():
    curve = curves_of()[1].assign_coords(sd=("step", np.full(STEP.size, 0.02)))
    short = {"num_chains": 2, "num_draws": 50}
    families = ("exponential",)
    result = es.compare(curve, families=families, noise="independent", engine="pymc", **short)
    assert result.dataset.attrs["known_sd"] == 1
    draws = result.dataset["draw_value"]
    assert (draws.sel(parameter="noise_sd") > 0).all()
    assert 0.5 < float(draws.sel(parameter="sd_factor").median()) < 2.0
    fitted = es.fit(curve, "exponential", noise="independent", num_tune=50, **short)
    found = result.dataset["log_evidence"].sel(family="exponential")
    assert float(found) == fitted.log_evidence


def test_noise_of_one_part_has_the_known_sd_times_a_factor():
    curve = curves_of()[1].assign_coords(sd=("step", np.full(STEP.size, 0.02)))
    arrays, _ = gather(curve, None)
    data = curve_data(arrays, step_axis(arrays, "log"), "student_t")
    named = {"baseline": np.zeros(1), "amplitude": np.ones(1), "noise_sd": np.full(1, 0.03)}
    table = by_sampling._linear(named, data, measured=True)[0]
    found = dict(zip(LINEAR_PARAMETERS, table, strict=True))
    assert found["noise_sd"] == 0.0
    np.testing.assert_allclose(found["sd_factor"], 1.5)


@pytest.mark.parametrize(
    "last", [0.3, *(pytest.param(last, marks=pytest.mark.slow) for last in (0.3 + 1e-12, 1.3))]
)
def test_what_cannot_be_sampled_is_left_to_the_quadrature(last):
    """A constant, one that only rounding keeps from it, and a step without any noise."""
    values = np.full(STEP.size, 0.3)
    values[-1:] = last
    curve = es.curve(values, STEP)
    how = {"noise": "ar1", "families": ("sudden_exponential",)}
    result = es.compare(curve, engine="pymc", num_chains=2, num_draws=50, **how).dataset
    exact = es.compare(curve, **how).dataset
    assert str(result["verdict"].item()) == str(exact["verdict"].item())
    left = result["sampling_problems"].values == "could not be sampled: by quadrature"
    assert left.all() or not left.any()
    if last == 0.3:
        assert left.all()
    if left.all():
        np.testing.assert_array_equal(result["log_evidence"], exact["log_evidence"])


def test_a_way_to_the_posterior_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_TEMPERATURES", 3)
    with pytest.raises(es.InputError, match="too narrow to sample"):
        es.fit(curves_of()[1], num_draws=50, num_tune=50)
    with pytest.raises(es.InputError, match="run=0 cannot be sampled under 'student_t' noise"):
        es.compare(curves_of(), noise="student_t", engine="pymc")


@pytest.mark.slow
def test_noise_with_heavy_tails_is_compared():
    """Two points far off are for the quadrature's normal noise a reason to doubt the order."""
    curve = curves_of()[1]
    curve[[3, 13]] += [0.4, -0.4]
    result = es.compare(
        curve,
        families=("exponential",),
        noise="student_t",
        engine="pymc",
        num_chains=2,
        num_draws=100,
    ).dataset
    assert float(result["probability_of_onset"]) > 0.9
    assert str(result["noise"].item()) == "student_t"
    assert np.isfinite(result["log_evidence"]).all()


@pytest.mark.slow
def test_noise_is_chosen_by_quadrature_and_each_curve_sampled_under_its_own():
    generator = np.random.default_rng(2)
    step = np.arange(20.0, 820.0, 20.0)
    rise = es.relaxation(step, onset=300.0, timescale=100.0, kappa=0.0)
    fresh = 0.02 * generator.normal(size=(2, step.size))
    fresh[1] = autoregressive(fresh[1:], 0.9)[0]
    curves = xr.DataArray(rise + fresh, dims=("run", "step"), coords={"step": step})
    result = es.compare(
        curves, families=("exponential",), engine="pymc", num_chains=2, num_draws=100
    )
    data = result.dataset
    exact = es.compare(curves, families=("exponential",)).dataset
    assert list(data["noise"].values) == ["independent", "ar1"] == list(exact["noise"].values)
    np.testing.assert_array_equal(data["noise_probability"], exact["noise_probability"])
    apart = abs(data["log_evidence"] - exact["log_evidence"])
    assert (apart < 4 * data["log_evidence_error"] + exact["log_evidence_error"]).all(), apart
    assert list(result.summary()["noise"]) == ["independent", "ar1"]
    fitted = es.fit(
        curves[1], "exponential", noise="ar1", num_chains=2, num_draws=100, num_tune=100
    )
    assert float(data["log_evidence"][1].sel(family="exponential")) == fitted.log_evidence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": "pymcc"}, "engine: unknown 'pymcc'; did you mean 'pymc'"),
        ({"noise": "ar2"}, "noise: unknown 'ar2'"),
        ({"num_draws": 10}, "num_draws: 10; give a whole number of at least 50"),
        ({"num_chains": 1}, "num_chains: 1"),
        ({"families": ("logistc",)}, "families: unknown 'logistc'"),
    ],
)
def test_options_that_cannot_be_used_are_named(change, message):
    with pytest.raises(es.InputError, match=message):
        es.compare(curves_of(), **({"engine": "pymc"} | change))


def test_averages_are_flagged():
    curve = curves_of()[1]
    curve.attrs["averaged_over"] = "head"
    with pytest.warns(UserWarning, match="averages over head"):
        result = es.compare(curve, noise="ar1", engine="pymc", num_chains=2, num_draws=50)
    assert bool(result.dataset["averaged"])
