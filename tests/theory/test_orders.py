"""Orders, exponents and learning coefficients with their posteriors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.nuts.fitting import Fit
from emergence_stats.theory.orders import (
    exponent_from_order,
    implied_learning_coefficient,
    order_draws,
    order_from_exponent,
)
from tests.theory.curves import heads


@given(st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_the_maps_are_each_others_inverse(exponent):
    order = order_from_exponent(exponent)
    potential = es.EffectivePotential(order)
    assert exponent_from_order(order) == pytest.approx(exponent, rel=1e-10)
    assert potential.exponent == pytest.approx(exponent, rel=1e-10)
    assert implied_learning_coefficient(order) == potential.learning_coefficient


def test_draws_keep_their_names_and_order():
    draws = xr.DataArray(
        [[2.0, 4.0, np.nan]], dims=("head", "draw"), coords={"head": [7]}, attrs={"a": 1}
    )
    exponent = exponent_from_order(draws)
    assert exponent.dims == ("head", "draw")
    assert exponent.name == "exponent"
    np.testing.assert_array_equal(exponent.sel(head=7), [math.inf, 0.5, np.nan])
    np.testing.assert_array_equal(order_from_exponent(exponent), draws)
    np.testing.assert_array_equal(implied_learning_coefficient(draws)[0], [0.5, 0.25, np.nan])
    assert draws.attrs == {"a": 1}


def test_a_comparison_gives_both_laws_by_their_probabilities(compared):
    draws = order_draws(compared)
    assert draws.dims == ("head", "draw")
    data = compared.dataset
    p = data["probability"]
    laws = p.sel(family="exponential") + p.sel(family="power_law")
    np.testing.assert_allclose(draws["probability_of_order"], laws, rtol=1e-12)
    # The exponential is an atom at 2; its weight is off by one resampled draw at most, besides what
    # the comparison's own draws are off.
    atom = (draws == 2.0).mean("draw")
    np.testing.assert_allclose(atom, p.sel(family="exponential") / laws, atol=0.01)
    # The third head is a power law surely, so the quantiles are those of the comparison.
    third = draws.isel(head=2)
    quantiles = data["order"].isel(head=2)
    # 256 draws: an order's quantile is off by the sd over sqrt(256) and some.
    spread = float(quantiles[2] - quantiles[0])
    np.testing.assert_allclose(third.quantile([0.055, 0.5, 0.945]), quantiles, atol=0.15 * spread)
    coefficient = implied_learning_coefficient(compared)
    np.testing.assert_allclose(coefficient, 1.0 / draws)
    assert coefficient["head"].values.tolist() == [10, 11, 12]


def test_flat_curves_leave_no_order():
    flat = heads([1.0]) * 0.0 + heads([1.0], sd=0.0).mean().item()
    flat = flat + 0.02 * np.random.default_rng(1).normal(size=flat.shape)
    result = es.compare(flat)
    draws = order_draws(result)
    assert float(draws["probability_of_order"].item()) < 0.2
    with pytest.raises(es.InputError, match="have no order"):
        order_draws(es.compare(flat, families=["logistic"]))


@pytest.mark.parametrize("power", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("order", [2.0, 3.0, 6.0])
def test_the_order_of_a_power_of_the_coordinate_leads_back_to_the_potential(order, power):
    potential = es.EffectivePotential(order)
    t = np.geomspace(1e6, 1e8, 2)
    if order > 2.0:
        seen = -np.diff(np.log(potential.trajectory(t) ** power)) / np.diff(np.log(t))
        assert order_from_exponent(seen, observable_power=power) == pytest.approx(order, rel=1e-4)
    # q^p is the relaxation of order 2 + (n - 2) / p: r = -x / (dx/dt) of x = q^p grows so fast.
    q = potential.trajectory([3.0, 4.0])
    r = -q / (power * potential.force(q))
    apparent = 2.0 + float(np.diff(r)[0])
    found = implied_learning_coefficient(apparent, observable_power=power)
    assert found == pytest.approx(potential.learning_coefficient, rel=1e-9)


def test_a_fit_gives_its_own():
    posterior = xr.Dataset(
        {"order": (("chain", "draw"), [[3.0, 4.0]]), "onset": (("chain", "draw"), [[1.0, 2.0]])}
    )
    tree = xr.DataTree.from_dict({"posterior": posterior})
    tree.attrs["family"] = "power_law"
    np.testing.assert_array_equal(order_draws(Fit(tree)), [[3.0, 4.0]])
    bare = xr.DataTree.from_dict({"posterior": posterior[["onset"]]})
    bare.attrs["family"] = "exponential"
    np.testing.assert_array_equal(order_draws(Fit(bare)), [[2.0, 2.0]])
    bare.attrs["family"] = "logistic"
    with pytest.raises(es.InputError, match="'logistic', which has no order"):
        order_draws(Fit(bare))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: order_from_exponent(0.0), "exponent: 0"),
        (lambda d: exponent_from_order([3.0, 1.5]), "order: 1.5"),
        (lambda d: order_from_exponent(1.0, observable_power=0.0), "observable_power: 0"),
        (lambda d: implied_learning_coefficient(d, observable_power=-1), "observable_power: -1"),
        (lambda d: order_from_exponent(None), "exponent: None; give numbers"),
        (lambda d: implied_learning_coefficient("four"), "order: str"),
        (lambda d: order_draws(3.0), "float holds no draws"),
        (lambda d: order_draws(d.rename(draw="x")), "no 'draw' dimension"),
        (lambda d: order_draws(d - 2.5), "at least 2"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call(xr.DataArray([3.0, 4.0], dims="draw"))
