"""Does the order agree with the learning coefficient? As often as is promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import emergence_stats as es
from emergence_stats.theory.agreement import Agreement, agreement
from emergence_stats.theory.orders import (
    order_draws,
)
from tests.theory.curves import heads


def normal_order_draws(implied, sd, number=4001):
    """Draws whose 1/n is normal: their quantiles."""
    share = (np.arange(number) + 0.5) / number
    return xr.DataArray(1.0 / norm.ppf(share, implied, sd), dims="draw")


@given(st.floats(0.15, 0.4), st.floats(0.005, 0.02), st.floats(0.0, 0.6), st.floats(0.005, 0.3))
@settings(deadline=None)
def test_of_two_normals_the_difference_is_known(implied, sd, change, error):
    data = agreement(normal_order_draws(implied, sd), change, error, tolerance=0.05).dataset
    law = norm(implied - change, math.hypot(sd, error))
    # The grid of 4001 quantiles is coarse in its tails: 1e-3 of a standard deviation.
    np.testing.assert_allclose(
        data["difference"], law.ppf([0.055, 0.5, 0.945]), atol=2e-3 * law.std()
    )
    within = law.cdf(0.05) - law.cdf(-0.05)
    assert float(data["probability_within"]) == pytest.approx(within, abs=2e-3)
    assert float(data["probability_above"]) == pytest.approx(1 - law.cdf(0.0), abs=2e-3)


def test_it_can_come_out_any_way():
    draws = normal_order_draws(0.25, 0.01)
    for change, error, verdict in (
        (0.26, 0.02, "agree"),
        (0.5, 0.03, "disagree"),
        (17.0, 0.8, "disagree"),
        (-1.0, 0.3, "disagree"),
        (0.25, 0.4, "undecided"),
        (0.36, 0.05, "undecided"),
    ):
        assert agreement(draws, change, error).dataset["verdict"] == verdict


def test_false_alarms_are_as_rare_as_promised():
    # Truth: the change is 1/n. The 89% interval of the difference must hold 0 so often.
    generator = np.random.default_rng(0)
    number, sd, error = 2_000, 0.02, 0.03
    estimate = 0.25 + sd * generator.normal(size=number)
    measured = 0.25 + error * generator.normal(size=number)
    share = (np.arange(101) + 0.5) / 101
    draws = xr.DataArray(1.0 / (estimate[:, None] + sd * norm.ppf(share)), dims=("head", "draw"))
    result = agreement(draws, xr.DataArray(measured, dims="head"), error).dataset
    low, high = result["difference"].isel(quantile=0), result["difference"].isel(quantile=2)
    held = float(((low < 0) & (high > 0)).mean())
    # Binomial sd of 2000: 0.7%.
    assert held == pytest.approx(0.89, abs=0.028)


def test_a_curve_without_a_law_neither_agrees_nor_disagrees():
    flat = heads([1.0]) * 0.0
    flat = flat + 0.02 * np.random.default_rng(1).normal(size=flat.shape)
    for change, error in ((17.0, 0.8), (0.3, 0.01)):
        result = agreement(es.compare(flat), change, error)
        assert result.dataset["verdict"] == "undecided"
        assert float(result.summary()["probability_of_order"].item()) < 0.2
    # One curve held against several measurements.
    several = order_draws(es.compare(flat)).expand_dims(case=2)
    result = agreement(several, xr.DataArray([17.0, 0.3], dims="case"), 0.1)
    assert result.dataset["probability_of_order"].sizes["case"] == 2
    assert (result.dataset["verdict"] == "undecided").all()


def test_labels_go_through_and_results_are_stored(compared, tmp_path):
    change = xr.DataArray([0.5, np.nan, 0.25], dims="head", coords={"head": [10, 11, 12]})
    result = agreement(compared, change, 0.02)
    assert result.dataset["verdict"].dims == ("head",)
    assert np.isnan(result.dataset["probability_within"].values).tolist() == [False, True, False]
    assert result.dataset["verdict"].values[1] == "undecided"
    assert result.dataset["verdict"].values[2] == "agree"
    table = result.summary()
    assert table.loc[10, "measured"] == 0.5
    assert "verdict" in result._repr_html_()
    result.to_netcdf(tmp_path / "a.nc")
    xr.testing.assert_identical(
        Agreement.from_netcdf(tmp_path / "a.nc").dataset.drop_attrs(), result.dataset.drop_attrs()
    )
    figure = result.plot(head=12)
    figure.canvas.draw()
    assert figure.axes[1].get_title() == "agree"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: agreement(d, 0.2, 0.0), "standard_error: 0"),
        (lambda d: agreement(d, [0.2, 0.3], 0.1), "without names"),
        (lambda d: agreement(d, 0.2, 0.1, tolerance=-1), "tolerance: -1"),
        (lambda d: agreement(d, 0.2, 0.1, threshold=0.4), "threshold: 0.4"),
        (lambda d: agreement(d, xr.DataArray([0.2], dims="run"), 0.1), "'run'"),
        (lambda d: agreement(d, math.inf, 0.1), "llc_change: holds infinity"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call(xr.DataArray([3.0, 4.0], dims="draw"))
