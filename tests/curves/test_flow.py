"""The flow from a saddle into a minimum: against quadrature, deep linear networks, differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import emergence_stats as es
from emergence_stats.curves.flow import flow_share, read_clock, share_and_slopes
from emergence_stats.curves.shapes import exponential_shape, power_law_shape
from emergence_stats.theory.saddles import mode_trajectory

TAKEOFFS, KAPPAS = (0.0, 0.5, 1.0, 4.0 / 3.0, 2.0), (0.0, 0.5, 2.0, 4.0)


def slope(x, takeoff, kappa):
    return np.exp(kappa * np.logaddexp(0, x) - (1 - takeoff) * np.logaddexp(0, -x))


@pytest.mark.parametrize("takeoff", TAKEOFFS)
@pytest.mark.parametrize("kappa", KAPPAS)
def test_the_time_that_a_share_takes_is_the_integral(takeoff, kappa):
    u = np.r_[0.3:3:0.45, 10.0, 300.0]
    share, (_, unit) = flow_share(u, takeoff, kappa), read_clock([0.5], takeoff, kappa)
    for s, at in zip(share, u, strict=True):
        if s < 1 - 1e-9:
            taken = quad(slope, 0, np.log(s / (1 - s)), args=(takeoff, kappa), epsabs=1e-11)[0]
            speed = s**takeoff * (1 - s) ** (1 + kappa)
            assert abs(taken - unit * (at - 1)) * speed < 1e-5


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_a_mode_of_a_deep_linear_network_is_one(depth):
    time = np.linspace(0.0, 12.0, 40)
    mode = mode_trajectory(time, depth=depth, target=1.0, start=0.05)
    takeoff = 2.0 - 2.0 / depth
    (begun,), unit = read_clock([0.05], takeoff, 0.0)
    flow = flow_share(begun + depth * time / unit, takeoff, 0.0)
    np.testing.assert_allclose(flow, mode, atol=1e-6)


def test_without_a_take_off_it_is_the_relaxation_that_begins_at_a_step():
    u = np.linspace(-1.0, 30.0, 80)
    np.testing.assert_allclose(flow_share(u, 0.0, 0.0), exponential_shape(u, 0.0, 1.0), atol=1e-6)
    sudden = power_law_shape(u, 0.0, 1.0, 1.7)
    np.testing.assert_allclose(flow_share(u, 0.0, 1.7), sudden, atol=2e-6)


@pytest.mark.parametrize("takeoff", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("kappa", [0.0, 1.0, 3.0])
def test_the_steepest_tangent_leaves_the_baseline_at_0(takeoff, kappa):
    u = np.linspace(0.0, 3.0, 300_001)
    share = flow_share(u, takeoff, kappa)
    speed = np.gradient(share, u)
    k = int(speed.argmax())
    assert u[k] - share[k] / speed[k] == pytest.approx(0.0, abs=2e-3)
    assert share[k] == pytest.approx(takeoff / (takeoff + 1 + kappa), abs=2e-2)
    assert flow_share(1.0, takeoff, kappa) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("takeoff", "kappa"), [(0.3, 0.5), (1.0, 1.0), (1.7, 2.0), (0.05, 3.0)])
def test_slopes_are_those_of_differences(takeoff, kappa):
    u, step, out = np.linspace(0.05, 6.0, 15), 1e-4, np.empty((4, 15))
    share_and_slopes(u, takeoff, kappa, out)
    np.testing.assert_allclose(out[0], flow_share(u, takeoff, kappa), atol=1e-12)
    moves = np.eye(3) * step
    for row, (du, da, dk) in zip(out[1:], moves, strict=True):
        up = flow_share(u + du, takeoff + da, kappa + dk)
        down = flow_share(u - du, takeoff - da, kappa - dk)
        np.testing.assert_allclose(row, (up - down) / (2 * step), atol=1e-4)


def test_the_sampler_has_the_slopes_too():
    import pytensor
    import pytensor.tensor as pt

    from emergence_stats.curves.flow_op import flow_share_of_tensors

    u, at = np.linspace(0.1, 5.0, 7), (1.2, 0.8)
    takeoff, kappa, move = pt.dscalar(), pt.dscalar(), pt.dscalar()
    share = flow_share_of_tensors(pt.as_tensor(u) + move, takeoff, kappa)
    slopes = pytensor.grad((share * u).sum(), [move, takeoff, kappa])
    found = pytensor.function([move, takeoff, kappa], slopes, mode="FAST_COMPILE")(0.0, *at)
    out = np.empty((4, u.size))
    share_and_slopes(u, *at, out)
    np.testing.assert_allclose(found, out[1:] @ u, rtol=1e-10)


@given(
    u=st.lists(st.floats(allow_nan=False), min_size=1, max_size=5),
    takeoff=st.floats(0.0, 2.0),
    kappa=st.floats(0.0, 1e12),
)
def test_whatever_the_numbers_it_is_a_share_that_grows(u, takeoff, kappa):
    share = flow_share(np.sort(u), takeoff, kappa)
    assert ((share >= 0.0) & (share <= 1.0)).all()
    assert (np.diff(share) >= -1e-12).all()


def test_the_relaxation_takes_it_by_its_rate():
    step = np.linspace(0.0, 400.0, 90)
    curve = es.relaxation(step, onset=100.0, timescale=30.0, kappa=0.5, takeoff=1.0, amplitude=2.0)
    share = curve / 2.0
    rate = np.gradient(share, step)[5:-5]
    expected = share**1.0 * (1.0 - share) ** 1.5 / 30.0
    np.testing.assert_allclose(rate, expected[5:-5], atol=2e-4)
    with pytest.raises(es.InputError, match=r"takeoff: 2\.5"):
        es.relaxation(step, onset=1.0, timescale=1.0, kappa=0.0, takeoff=2.5)
