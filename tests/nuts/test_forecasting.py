"""Leave-future-out forecasts against refitting by quadrature, and what they warn of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import emergence_stats as es
from emergence_stats.nuts.forecasting import compare_forecasts

STEP = np.geomspace(10.0, 4000.0, 18)


def power_law(seed=0):
    rise = es.relaxation(STEP, onset=60.0, timescale=50.0, kappa=3.0)
    return es.curve(rise + 0.01 * np.random.default_rng(seed).normal(size=STEP.size), STEP)


OPTIONS = {"noise": "independent", "num_chains": 2, "num_draws": 250, "num_tune": 250}


@pytest.fixture(scope="module")
def refitted():
    with pytest.warns(UserWarning, match="fewer than a hundred"):
        return compare_forecasts(power_law(), min_points=15, method="exact", **OPTIONS)


def test_forecasts_are_those_of_the_quadrature(refitted):
    """The predictive density of each later point, from draws of `compare` on the points before."""
    curve, table = power_law(), refitted
    span = (float(curve.min()), float(curve.max()))
    assert table.index[0] == "power_law"
    assert table["elpd_diff"].iloc[0] == 0.0
    assert (table["num_forecasts"] == 3).all()
    # The steps' priors of a shorter curve are others, so only the same to some tenths of a nat.
    for family in table.index:
        total = 0.0
        for k in (15, 16, 17):
            one = es.compare(
                curve[:k], families=(family,), noise="independent", value_range=span
            ).dataset
            ours = one["draw_family"].values > 0
            values = one["draw_value"].values[ours]
            names = [str(name) for name in one["parameter"].values]
            value = {name: values[:, names.index(name)] for name in names}
            level = value["baseline"] + value["amplitude"] * -np.expm1(
                -np.log1p(
                    np.expm1(value["kappa"] * np.log(2))
                    * (STEP[k] - value["onset"])
                    / value["half_time"]
                )
                / value["kappa"]
                if family == "power_law"
                else -np.log(2) * (STEP[k] - value["onset"]) / value["half_time"]
            )
            density = stats.norm.pdf(curve.values[k], level, value["noise_sd"])
            total += np.log(density.mean())
        assert table.loc[family, "elpd"] == pytest.approx(total, abs=0.5)


@pytest.mark.slow
def test_forecasts_carried_forward_are_those_of_refitting(refitted):
    """`method="approx"` weighs old draws by importance between refits, and counts those."""
    with pytest.warns(UserWarning, match="fewer than a hundred"):
        carried = compare_forecasts(power_law(), min_points=15, method="approx", **OPTIONS)
    assert (carried["num_forecasts"] == 3).all()
    # At least one forecast was made without a refit, and none of those had a weight too large.
    assert (carried["num_refits"] < carried["num_forecasts"]).all()
    assert (carried["pareto_k"] <= 0.7).all()
    assert list(carried.index) == list(refitted.index)
    # Differences between the two have an sd of a quarter of a nat over seeds.
    for family in carried.index:
        expected = refitted.loc[family, "elpd"]
        assert carried.loc[family, "elpd"] == pytest.approx(expected, abs=0.75)


def test_bad_input_is_named():
    with pytest.raises(es.InputError, match="min_points: 3"):
        compare_forecasts(power_law(), min_points=3)
    with pytest.raises(es.InputError, match="at least two"):
        compare_forecasts(power_law(), ("power_law",))
