"""Products of coordinates and deep linear networks against integrated gradient flow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import emergence_stats as es
from emergence_stats.theory.exact import normal_crossing
from emergence_stats.theory.plots import plot_saddles
from emergence_stats.theory.saddles import (
    balanced_potential,
    conserved_differences,
    end_of_flow,
    escape_time,
    mode_trajectory,
    network_loss,
    saddle_trajectory,
)


def integrate(velocity, start, t):
    found = solve_ivp(
        lambda _, w: velocity(w), (0.0, t[-1]), start, "DOP853", t, rtol=1e-11, atol=1e-14
    )
    assert found.success
    return found.y.T


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


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("target", "start"), [(1.0, 0.01), (2.5, 1e-3), (0.4, 0.3)])
def test_a_mode_grows_as_the_integrated_network(depth, target, start):
    last = 2.0 * float(escape_time(depth=depth, target=target, start=start, fraction=0.99))
    t = np.linspace(0.0, last, 25)

    def velocity(w):
        a = np.prod(w)
        return (target - a) * a / w

    w = integrate(velocity, np.full(depth, start ** (1.0 / depth)), t)
    a = mode_trajectory(t, depth=depth, target=target, start=start)
    # A relative error of 1e-11 a step in w grows by the length of the plateau, 1e4 at most.
    np.testing.assert_allclose(a, np.prod(w, axis=1), rtol=2e-7)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_matrix_network_is_its_modes(depth):
    generator = np.random.default_rng(0)
    u = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    v = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    s, a0 = np.array([3.0, 1.0, 0.3]), 0.02
    wanted = u @ np.diag(s) @ v.T
    # Balanced and aligned: W_1 = D V^T, inner D, last U D.
    d = np.eye(3) * a0 ** (1.0 / depth)
    layers = [d @ v.T, *[d] * (depth - 2), u @ d]

    def velocity(flat):
        w = flat.reshape(depth, 3, 3)
        product = np.linalg.multi_dot(w[::-1])
        error = wanted - product
        out = np.empty_like(w)
        for i in range(depth):
            after, before = np.eye(3), np.eye(3)
            for j in range(i):
                before = w[j] @ before
            for j in range(i + 1, depth):
                after = w[j] @ after
            out[i] = after.T @ error @ before.T
        return out.ravel()

    t = np.linspace(0.0, 12.0, 20)
    flat = integrate(velocity, np.concatenate([w.ravel() for w in layers]), t)
    loss = [
        0.5 * np.sum((wanted - np.linalg.multi_dot(row.reshape(depth, 3, 3)[::-1])) ** 2)
        for row in flat
    ]
    np.testing.assert_allclose(
        network_loss(t, depth=depth, singular_values=s, start=a0), loss, rtol=1e-6, atol=1e-12
    )


@given(st.integers(1, 9), st.floats(0.1, 10.0), st.floats(1e-8, 0.4), st.floats(0.5, 0.999))
@settings(deadline=None)
def test_escape_time_is_when_the_trajectory_is_there(depth, target, share, fraction):
    start = share * target
    at = escape_time(depth=depth, target=target, start=start, fraction=fraction)
    reached = mode_trajectory(at, depth=depth, target=target, start=start)
    # After a long plateau the time's own rounding, 1e-16 of it, is magnified by its length.
    assert reached == pytest.approx(fraction * target, rel=1e-6)


def test_escape_is_logarithmic_at_depth_two_and_a_power_beyond():
    a0 = np.array([1e-6, 1e-8])
    assert escape_time(depth=2, target=3.0, start=a0) == pytest.approx(
        np.log(3.0 / a0 - 1.0) / 6.0, rel=1e-12
    )
    for depth in (3, 4, 6):
        w0 = a0 ** (1.0 / depth)
        leading = w0 ** -(depth - 2.0) / ((depth - 2.0) * 3.0)
        exact = escape_time(depth=depth, target=3.0, start=a0)
        # What is left out does not grow, while the time does.
        assert (np.abs(exact - leading) < 2.0).all()
        assert exact[1] > 4.0 * exact[0]


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_leaving_the_saddle_is_the_early_part(depth):
    w0, s = 0.1, 1.5
    t = np.linspace(0.0, 0.3, 5) * float(escape_time(depth=depth, target=s, start=w0**depth))
    a = mode_trajectory(t, depth=depth, target=s, start=w0**depth)
    w = saddle_trajectory(t, depth=depth, target=s, start=w0)
    # The relative error is of the order of a / s.
    np.testing.assert_allclose(w, a ** (1.0 / depth), rtol=0.05)
    # It is the relaxation law of order L with time reversed.
    if depth > 2:
        back = es.EffectivePotential(depth, strength=s, start=float(w[-1]))
        np.testing.assert_allclose(back.trajectory(t[-1] - t), w, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: balanced_potential([2, 0]), "exponents: 0"),
        (lambda: balanced_potential([1]), "sum to 1"),
        (lambda: conserved_differences([1.0], [2, 2]), "2 exponents"),
        (lambda: end_of_flow([1.0], [2, 2]), "2 exponents"),
        (lambda: end_of_flow([1.0, 0.0], [2, 2]), "none of them zero"),
        (lambda: saddle_trajectory([1.0], depth=4, target=1.0, start=1e-200), "start: 1e-200"),
        (lambda: saddle_trajectory([1e4], depth=2, target=1.0, start=0.1), "t: at 10000"),
        (lambda: balanced_potential(None), "exponents: missing"),
        (lambda: escape_time(depth=2, target=[1, 2], start=[0.1] * 3), "do not broadcast"),
        (lambda: mode_trajectory(1.0, depth=0, target=1, start=0.1), "depth: 0"),
        (lambda: mode_trajectory(1.0, depth=2, target=1, start=1.0), "below the target"),
        (lambda: mode_trajectory(-1.0, depth=2, target=1, start=0.1), "t: must not"),
        (lambda: escape_time(depth=2, target=1, start=0.6), "fraction"),
        (lambda: saddle_trajectory(10.0, depth=3, target=1, start=0.1), "not before"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(es.InputError, match=message):
        call()


def test_picture_is_drawn():
    figure = plot_saddles()
    figure.canvas.draw()
    assert [len(axes.lines) for axes in figure.axes] == [3, 3]
