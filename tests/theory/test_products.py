"""Products of powers against integrated gradient flow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import emergence_stats as es
from emergence_stats.theory.exact import normal_crossing
from emergence_stats.theory.products import balanced_potential, conserved_differences, end_of_flow
from tests.theory.by_integration import integrate


def product_velocity(k, strength=1.0):
    def velocity(w):
        return -strength * np.prod(np.abs(w) ** k) * k / w

    return velocity


@pytest.mark.parametrize("exponents", [(2, 2), (2, 4), (2, 2, 2), (1.5, 3)])
def test_a_product_on_its_ray_is_one_effective_potential(exponents):
    k = np.array(exponents, dtype=float)
    potential = balanced_potential(exponents, strength=0.8, start=1.3)
    t = np.linspace(0.0, 40.0, 15)
    w = integrate(product_velocity(k, 0.8), np.sqrt(k / k.sum()) * 1.3, t)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), potential.trajectory(t), rtol=1e-8)
    loss = 0.8 * np.prod(np.abs(w) ** k, axis=1)
    np.testing.assert_allclose(loss, potential.value(np.linalg.norm(w, axis=1)), rtol=1e-9)
    # The order is the sum; the learning coefficient is of the largest, and above 1/n.
    assert potential.order == k.sum()
    assert normal_crossing(exponents)[0] > potential.learning_coefficient


def test_off_the_ray_differences_are_kept_and_the_end_is_exponential():
    k = np.array([2.0, 2.0])
    t = np.array([0.0, 1.0, 12.0, 13.0])
    w = integrate(product_velocity(k), [0.9, 0.5], t)
    kept = conserved_differences(w, k)
    np.testing.assert_allclose(kept[:, 0], kept[0, 0], rtol=1e-8)
    # On the plane w_2 = 0, w_1^2 = 0.9^2 - 0.5^2, the loss is w_1^2 w_2^2: rate 2 w_1^2.
    rate = np.log(w[2, 1] / w[3, 1])
    assert rate == pytest.approx(2.0 * (0.81 - 0.25), rel=1e-6)


@pytest.mark.parametrize(
    ("start", "exponents"),
    [([1.0, 0.7], [2, 4]), ([0.5, -1.1], [2, 4]), ([0.6, 1.2, -0.9], [4, 2, 3]), ([1, -1], [2, 2])],
)
def test_the_flow_ends_where_the_conserved_say_and_shows_that_order(start, exponents):
    w, k = np.array(start, dtype=float), np.array(exponents, dtype=float)
    end = end_of_flow(w, exponents)

    def force(_, at):
        return -k * np.prod(np.abs(at) ** k) / at

    late = 3e5 if end.order > 2.0 else 15.0
    path = solve_ivp(force, (0.0, late), w, "LSODA", [late / 3, late], rtol=1e-10, atol=1e-14)
    gone = end.weights == 0.0
    np.testing.assert_allclose(path.y[~gone, -1], end.weights[~gone], rtol=1e-2)
    assert (np.abs(path.y[gone, -1]) < 0.1).all()
    # The order is that of the power law by which the vanishing ones do so, or an exponential.
    if end.order > 2.0:
        exponent = -np.diff(np.log(np.abs(path.y[gone][0]))) / math.log(3.0)
        assert exponent == pytest.approx(1.0 / (end.order - 2.0), rel=0.02)
    else:
        # At the rate k_j times the other factors, as they end.
        rate = -np.diff(np.log(np.abs(path.y[gone][0]))) / (late * 2.0 / 3.0)
        kept = np.prod(np.abs(end.weights[~gone]) ** k[~gone])
        assert rate == pytest.approx(2.0 * kept, rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balanced_potential([2, 0]), "exponents: 0"),
        (lambda: balanced_potential([1]), "sum to 1"),
        (lambda: conserved_differences([1.0], [2, 2]), "2 exponents"),
        (lambda: end_of_flow([1.0], [2, 2]), "2 exponents"),
        (lambda: end_of_flow([1.0, 0.0], [2, 2]), "none of them zero"),
        (lambda: balanced_potential(None), "exponents: missing"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call()
