"""Planning checkpoints: what is certain must come out certain, and what helps must be proposed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import emergence_stats as es
from emergence_stats import results
from emergence_stats.comparison import planning
from emergence_stats.comparison.planning import identifiability
from emergence_stats.comparison.plots import plot_identifiability

# Fixtures made once serve several tests: they must share a process.
pytestmark = pytest.mark.xdist_group("planning")

# The rise of onset 100 and half-time 150 is all but over between two of these.
SPARSE = [1, 2, 5, 10, 20, 50, 80, 120, 1000, 2000, 5000, 10000]
RISE = {"onset": 100.0, "half_time": 150.0, "kappa": 1.0}


@pytest.fixture(scope="module")
def sparse():
    return identifiability(
        SPARSE,
        0.01,
        number=24,
        proposal_curves=16,
        parameters=RISE,
        candidates=[30, 250],
        noise="independent",
    )


@pytest.fixture(scope="module")
def dense():
    return identifiability(
        np.arange(0, 2000, 40), 0.005, number=12, parameters={**RISE, "kappa": 3.0}, candidates=[]
    )


def test_dense_precise_checkpoints_decide(dense):
    # p(power law) of a curve like these exceeds 0.99; three failures of 12 are then 1 in 4000.
    diagonal = [
        dense["confusion"].sel(truth=name, verdict=name).item()
        for name in ("exponential", "power_law")
    ]
    assert min(diagonal) >= 0.75
    assert (dense["strongly_wrong"] == 0).all()
    assert (dense["log_score"] > -0.3).all()


def test_checkpoints_that_miss_the_rise_are_undecided():
    plan = identifiability(
        np.arange(0, 2000, 100), 0.3, number=10, parameters=RISE, candidates=[], seed=4
    )
    # Noise of a third of the amplitude: the best possible score is near log(1/2).
    assert (plan["confusion"].sel(verdict=["exponential", "power_law"]).sum("verdict") < 0.35).all()
    assert abs(plan["log_score"].mean() - np.log(0.5)) < 0.3


def test_numbers_follow_from_the_single_curves(sparse):
    truths = ("exponential", "power_law")
    assert isinstance(sparse, xr.Dataset)
    np.testing.assert_allclose(sparse["confusion"].sum("verdict"), 1.0, rtol=1e-12)
    np.testing.assert_allclose(sparse["probability"].sum("family"), 1.0, rtol=1e-9)
    for name in truths:
        single = sparse.sel(truth=name)
        own = single["probability"].sel(family=name)
        np.testing.assert_allclose(single["probability_of_truth"], own.mean())
        error = own.std(ddof=1) / np.sqrt(own.size)
        np.testing.assert_allclose(single["probability_of_truth_standard_error"], error)
        among = own / single["probability"].sel(family=list(truths)).sum("family")
        np.testing.assert_allclose(single["log_score"], np.log(among).mean(), rtol=1e-6)
        for verdict in sparse["verdict"].values:
            share = (single["single_verdict"] == verdict).mean()
            np.testing.assert_allclose(single["confusion"].sel(verdict=verdict), share)
        np.testing.assert_allclose(
            single["undecided"], single["confusion"].sel(verdict="undecided")
        )
    assert (sparse["confusion_standard_error"] > 0).all()


def test_a_checkpoint_in_the_rise_is_worth_more_than_one_before_it(sparse):
    before, within = sparse["gain"].values
    error = np.hypot(*sparse["gain_standard_error"].values)
    assert within - before > 3.0 * error
    assert list(sparse["rank"].values) == [1, 0]
    # Known to be worth between 1 and 5 nats of log odds: 2.7 +- 0.1 on 120 curves.
    assert 1.0 < sparse["log_odds_gain"].sel(candidate=250).item() < 5.0
    assert planning.proposals(sparse).index[0] == 250


def test_candidates_are_judged_as_compare_judges_the_longer_curve(sparse):
    """The same curves with the checkpoint planned from the start: independent noise nests."""
    again = identifiability(
        sorted([*SPARSE, 250]), 0.01, number=16, parameters=RISE, candidates=[], noise="independent"
    )
    # Different noise, the same experiment: means agree within their errors.
    gained = again["log_score"].mean() - sparse["log_score"].mean()
    error = np.sqrt(
        (again["log_score_standard_error"] ** 2 + sparse["log_score_standard_error"] ** 2).sum()
    )
    difference = gained - sparse["gain"].sel(candidate=250)
    assert abs(difference) < 4.0 * (0.5 * error + sparse["gain_standard_error"].sel(candidate=250))


def test_the_same_seed_gives_the_same_answer_whatever_is_proposed():
    options = {"number": 2, "parameters": RISE, "noise": "independent"}
    first = identifiability(SPARSE, 0.02, candidates=[30], proposal_curves=1, **options)
    again = identifiability(SPARSE, 0.02, candidates=[30, 300], proposal_curves=1, **options)
    np.testing.assert_array_equal(first["probability"], again["probability"])
    np.testing.assert_allclose(
        first["gain"].sel(candidate=30), again["gain"].sel(candidate=30), rtol=1e-6
    )
    other = identifiability(SPARSE, 0.02, candidates=[], seed=1, **options)
    assert (first["probability"] != other["probability"]).any()


def test_default_candidates_lie_in_the_widest_gaps_and_beyond():
    plan = identifiability(
        SPARSE, 0.02, number=1, proposal_curves=1, parameters=RISE, noise="independent"
    )
    tried = plan["candidate"].values
    # Ten gaps and two beyond; but between 1 and 2 there is no whole step.
    assert tried.size == planning.MAX_CANDIDATES - 1
    assert not np.isin(tried, SPARSE).any()
    assert (tried == tried.round()).all()
    assert set(tried[-2:]) == {15_000.0, 20_000.0}
    # The middle of the widest gap, 120 to 1000, on the logarithmic axis.
    assert round(np.sqrt(120 * 1000)) in tried
    assert plan.attrs["curves_compared"] == 2 * (1 + tried.size)


def test_step_zero_known_sd_and_flat_truths():
    step = np.arange(0, 1000, 100)
    sd = np.linspace(0.01, 0.05, step.size)
    plan = identifiability(
        step,
        sd,
        families=("flat", "exponential"),
        number=6,
        proposal_curves=2,
        parameters={"onset": 200.0, "half_time": 200.0},
        candidates=[250, 1200],
        known_sd=True,
        correlation=0.3,
    )
    np.testing.assert_allclose(plan["sd"], sd)
    # No onset can be excluded in the last gaps, so "no emergence" is likely but never certain.
    assert plan["probability_of_truth"].sel(truth="flat") > 0.5
    assert plan["confusion"].sel(truth="exponential", verdict="exponential") >= 0.5
    assert np.isfinite(plan["gain"]).all()


def test_tables_picture_and_storage(sparse, dense, tmp_path):
    table = planning.summary(sparse)
    assert list(table.index) == ["exponential", "power_law"]
    assert table["verdict_undecided"].between(0, 1).all()
    assert len(plot_identifiability(sparse).axes) == 2
    assert len(plot_identifiability(dense).axes) == 1
    with pytest.raises(es.InputError, match="no candidates were tried"):
        planning.proposals(dense)
    sparse.to_netcdf(tmp_path / "plan.nc", engine="h5netcdf")
    back = results.load(tmp_path / "plan.nc", "identifiability")
    xr.testing.assert_equal(back, sparse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": ("power_law",)}, "at least two"),
        ({"families": ("power_law", "exponentail")}, "did you mean 'exponential'"),
        ({"sd": 0.0}, "sd: 0.0"),
        ({"sd": [0.1, 0.2]}, "sd: shape"),
        ({"step": [3, 2, 1]}, "sort the steps"),
        ({"number": 0}, "number: 0"),
        ({"correlation": 1.5}, "correlation: 1.5"),
        ({"threshold": 2.0}, "threshold: 2.0"),
        ({"parameters": {"timescale": 3.0}}, "none of"),
        ({"candidates": [50]}, "50 is planned already"),
        ({"candidates": [-1.0]}, "not negative"),
        ({"proposal_curves": -1}, "proposal_curves: -1"),
        ({"noise": "white"}, "noise: unknown"),
    ],
)
def test_bad_arguments_are_named(change, message):
    options = {"step": SPARSE, "sd": 0.1, "number": 1, **change}
    with pytest.raises(es.InputError, match=message):
        identifiability(options.pop("step"), options.pop("sd"), **options)
