"""Deep linear networks against integrated gradient flow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.theory.saddles import (
    escape_time,
    mode_trajectory,
    network_loss,
    saddle_trajectory,
)
from tests.theory.by_integration import integrate


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
        (lambda: saddle_trajectory([1.0], depth=4, target=1.0, start=1e-200), "start: 1e-200"),
        (lambda: saddle_trajectory([1e4], depth=2, target=1.0, start=0.1), "t: at 10000"),
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
