"""The physics against closed forms, conservation laws, symmetries and an independent integrator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from small_runs import make_system

from simulator.data.generation import draw_initial_states
from simulator.physics.simulation import simulate


def energy(system, path):
    """Kinetic, gravitational and elastic energy of each record."""
    x, v = path["positions"].values, path["velocities"].values
    total = 0.5 * system.mass * (v**2).sum((-1, -2))
    total = total + system.mass * system.gravity * x[..., -1].sum(-1)
    i, j = np.triu_indices(system.num_particles, 1)
    distance = np.linalg.norm(x[..., i, :] - x[..., j, :], axis=-1)
    total += 0.5 * system.stiffness * (np.maximum(2 * system.radius - distance, 0) ** 2).sum(-1)
    if system.sides is not None:
        lower = np.maximum(system.radius - x, 0)
        upper = np.maximum(x + system.radius - np.array(system.sides), 0)
        walls = (lower**2 + upper**2).sum((-1, -2))
        total += 0.5 * system.effective_wall_stiffness * walls
    return total


# Force sets in and ends with a jump of damping * speed, which a step straddles: an error of first
# order, about damping * step / mass relative to the speed. Two million steps in a collision
# keep it at a few times 1e-7.
STEPS_IN_COLLISION = 2_000_000


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("damping", [0.0, 1.0, 10.0])
def test_head_on_collision_is_half_a_period_of_a_damped_oscillator(dimension, damping):
    system = make_system(
        num_particles=2, box=None, gravity=0.0, radius=0.1, mass=1.5, damping=damping,
        dimension=dimension,
    )  # fmt: skip
    # By hand: reduced mass m/2, so decay rate c/m and frequency^2 2k/m - decay^2.
    decay = damping / 1.5
    frequency = math.sqrt(2 * 2000.0 / 1.5 - decay**2)
    duration, restitution = math.pi / frequency, math.exp(-decay * math.pi / frequency)
    assert system.contact_time == pytest.approx(duration, rel=1e-12)
    assert system.restitution == pytest.approx(restitution, rel=1e-12)

    approach = 0.7
    x = np.zeros((2, dimension))
    x[1, 0] = 0.2
    v = np.zeros((2, dimension))
    v[:, 0] = [1.0, 1.0 - approach]
    step = duration / STEPS_IN_COLLISION
    steps = 2 * STEPS_IN_COLLISION
    path = simulate(system, x, v, time_step=step, num_steps=steps, record_every=steps)
    end, speeds = path["positions"].values[-1], path["velocities"].values[-1]
    parting = speeds[1, 0] - speeds[0, 0]
    # Free flight since they parted, so going back along it gives the moment they did.
    parted = steps * step - (end[1, 0] - end[0, 0] - 0.2) / parting
    assert parting / approach == pytest.approx(restitution, rel=1e-6)
    assert parted == pytest.approx(duration, rel=1e-6)
    assert speeds[:, 1:].tolist() == np.zeros((2, dimension - 1)).tolist()


@pytest.mark.parametrize(("axis", "side"), [(0, -1), (0, 1), (1, -1), (1, 1)])
def test_a_bounce_off_each_wall(axis, side):
    system = make_system(
        num_particles=1, gravity=0.0, damping=3.0, wall_stiffness=900.0, box=(1.0, 2.0)
    )
    decay = 3.0 / 2
    frequency = math.sqrt(900.0 - decay**2)
    assert system.wall_contact_time == pytest.approx(math.pi / frequency, rel=1e-12)
    x = np.array([[0.5, 0.5]])
    x[0, axis] = 0.06 if side < 0 else system.sides[axis] - 0.06
    v = np.zeros((1, 2))
    v[0, axis] = side * 0.5
    start = x[0, axis]
    step = system.wall_contact_time / STEPS_IN_COLLISION
    steps = 2 * STEPS_IN_COLLISION
    path = simulate(system, x, v, time_step=step, num_steps=steps, record_every=steps)
    speed = path["velocities"].values[-1, 0, axis]
    parted = steps * step - (path["positions"].values[-1, 0, axis] - start) / speed
    assert -speed / (side * 0.5) == pytest.approx(math.exp(-decay * math.pi / frequency), rel=1e-6)
    assert parted == pytest.approx(math.pi / frequency, rel=1e-6)


def test_an_oblique_collision_agrees_with_an_adaptive_integrator():
    system = make_system(num_particles=2, box=None, gravity=0.4, radius=0.1, mass=0.8, damping=4.0)
    x = np.array([[0.0, 0.0], [0.2 * math.cos(0.6), 0.2 * math.sin(0.6)]])
    v = np.array([[1.2, 0.3], [-0.4, 0.1]])

    def rate(_, state):
        x1, x2, v1, v2 = state.reshape(4, 2)
        distance = np.linalg.norm(x1 - x2)
        normal = (x1 - x2) / distance
        push = (2000.0 * (0.2 - distance) - 4.0 * (v1 - v2) @ normal) * normal / 0.8
        fall = np.array([0.0, -0.4])
        return np.concatenate([v1, v2, push + fall, fall - push])

    # Well inside the contact, where the right-hand side is smooth.
    duration = 0.8 * system.contact_time
    exact = solve_ivp(
        rate, (0, duration), np.concatenate([x, v]).ravel(), method="DOP853", rtol=1e-12,
        atol=1e-14,
    ).y[:, -1].reshape(2, 2, 2)  # fmt: skip
    assert np.linalg.norm(exact[0, 0] - exact[0, 1]) < 0.2
    errors = []
    # A hair inside contact, so that the first force is not lost to the strict inequality.
    x[1] *= 1 - 1e-12
    for steps in (1000, 2000):
        path = simulate(system, x, v, time_step=duration / steps, num_steps=steps)
        errors.append(abs(path["positions"].values[-1] - exact[0]).max())
        errors.append(abs(path["velocities"].values[-1] - exact[1]).max())
    # Second order, damping included: (omega h)^2 / 24 of the amplitude, here below 1e-6.
    assert errors[0] < 1e-8
    assert errors[1] < 1e-6
    assert 3.9 < errors[0] / errors[2] < 4.1
    assert 3.9 < errors[1] / errors[3] < 4.1


@pytest.mark.parametrize("dimension", [2, 3])
def test_free_fall_is_exact(dimension):
    system = make_system(num_particles=1, box=None, gravity=2.0, dimension=dimension)
    x, v = np.full((1, dimension), 3.0), np.full((1, dimension), 0.5)
    path = simulate(system, x, v, time_step=1e-3, num_steps=1000, record_every=250)
    t = path["time"].values
    exact = np.full((5, dimension), 3.0) + 0.5 * t[:, None]
    exact[:, -1] -= t**2
    # A parabola is free of truncation error; what is left is rounding, at most 1 ulp a step.
    np.testing.assert_allclose(path["positions"].values[:, 0], exact, rtol=1000 * 2**-52)
    np.testing.assert_allclose(path["velocities"].values[:, 0, -1], 0.5 - 2 * t, atol=1e-12)


def test_no_stiffness_means_no_contact_and_walls_hold():
    system = make_system(num_particles=2, stiffness=0.0, wall_stiffness=2000.0, gravity=0.0)
    assert math.isnan(system.contact_time)
    path = simulate(system, [[0.2, 0.5], [0.8, 0.5]], [[1.0, 0.0], [-1.0, 0.0]],
                    time_step=1e-3, num_steps=500, record_every=50)  # fmt: skip
    expected = 0.2 + path["time"].values
    np.testing.assert_allclose(path["positions"].values[:, 0, 0], expected, rtol=1e-12)
    longer = simulate(system, [[0.2, 0.5], [0.8, 0.5]], [[1.0, 0.0], [-1.0, 0.0]],
                      time_step=1e-3, num_steps=5000)["positions"].values  # fmt: skip
    assert longer.min() > 0
    assert longer.max() < 1


def test_energy_error_is_bounded_for_good_and_of_second_order_while_contacts_last():
    # Two discs stacked on the floor, pressed so hard that they bounce without ever parting.
    system = make_system(num_particles=2, damping=0.0, gravity=20.0)
    resting = np.array([0.06 - 40 / 2000, 0.06 - 40 / 2000 + 0.12 - 20 / 2000])
    x = np.stack([[0.5, 0.5], resting], axis=1)
    v = np.array([[0.0, 0.1], [0.0, -0.2]])
    amplitudes = []
    for step in (2e-3, 1e-3, 5e-4):
        path = simulate(
            system, x, v, time_step=step, num_steps=1_000_000, record_every=100,
            allow_overlap=True,
        )  # fmt: skip
        places = path["positions"].values[..., 1]
        assert places[:, 0].max() < 0.06
        assert (places[:, 1] - places[:, 0]).max() < 0.12
        values = abs(energy(system, path) / energy(system, path)[0] - 1)
        # A million steps later the error is what it was from the start: nothing accumulates.
        assert values[5000:].max() < 1.02 * values[:5000].max()
        amplitudes.append(values.max())
    assert 3.9 < amplitudes[0] / amplitudes[1] < 4.1
    assert 3.9 < amplitudes[1] / amplitudes[2] < 4.1


def test_energy_error_of_many_collisions_is_of_second_order():
    system = make_system(damping=0.0)
    x, v = draw_initial_states(system, 400, speed=1.0, seed=5)
    steps, errors = [2e-3, 1e-3, 5e-4, 2.5e-4], []
    for step in steps:
        path = simulate(system, x, v, time_step=step, num_steps=round(0.2 / step), record_every=20)
        values = energy(system, path)
        errors.append(np.sqrt(((values[:, -1] / values[:, 0] - 1) ** 2).mean()))
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.85 < order < 2.15


def test_energy_does_not_drift_over_many_collisions():
    system = make_system(damping=0.0)
    x, v = draw_initial_states(system, 64, speed=1.0, seed=6)
    path = simulate(system, x, v, time_step=1e-3, num_steps=100_000, record_every=50_000)
    values = energy(system, path)
    error = values[:, -1] / values[:, 0] - 1
    # A random walk (see `simulate`), so small, and centred: no energy leaks either way.
    assert abs(error).max() < 0.01
    assert abs(error.mean()) < 4 * error.std(ddof=1) / 8


@pytest.mark.parametrize("dimension", [2, 3])
def test_momentum_is_conserved_to_rounding(dimension):
    system = make_system(box=None, gravity=0.0, num_particles=40, radius=0.1, dimension=dimension)
    rng = np.random.default_rng(1)
    # A dense cloud, overlapping, so that there are plenty of damped contacts.
    x, v = rng.uniform(0, 0.7, (40, dimension)), rng.normal(size=(40, dimension))
    path = simulate(
        system, x, v, time_step=1e-4, num_steps=2000, record_every=100, allow_overlap=True
    )
    speeds = path["velocities"].values
    momentum = speeds.sum(1)
    # Contact forces cancel exactly; each of 2 kicks a step, and each addition of a force to a
    # sum of at most 40, rounds by at most half an ulp of the largest term.
    largest_speed = abs(speeds).max()
    largest_kick = 1e-4 * 40 * 2000.0 * 0.2
    bound = 2000 * 40 * 2**-53 * (2 * largest_speed + 40 * largest_kick)
    assert abs(momentum - momentum[0]).max() < bound < 1e-7
    assert abs(speeds - speeds[0]).max() > 0.1


def test_time_reversal():
    system = make_system(damping=0.0)
    x, v = draw_initial_states(system, 8, speed=1.0, seed=7)
    there = simulate(system, x, v, time_step=1e-3, num_steps=400, record_every=400)
    turned = -there["velocities"].values[:, -1]
    assert abs(there["velocities"].values[:, -1] - v).max() > 1
    back = simulate(
        system, there["positions"].values[:, -1], turned, time_step=1e-3, num_steps=400,
        record_every=400, allow_overlap=True,
    )  # fmt: skip
    # Rounding, 1e-16, grows by about a factor of ten with each of the few collisions of each.
    np.testing.assert_allclose(back["positions"].values[:, -1], x, atol=1e-9)
    np.testing.assert_allclose(back["velocities"].values[:, -1], -v, atol=1e-8)


@pytest.mark.parametrize("dimension", [2, 3])
def test_mirror_images_and_exchanged_axes_move_alike(dimension):
    system = make_system(num_particles=60, box=None, gravity=0.0, dimension=dimension)
    rng = np.random.default_rng(8)
    x, v = rng.uniform(-0.4, 0.4, (60, dimension)), rng.normal(size=(60, dimension))
    arguments = {"time_step": 1e-3, "num_steps": 200, "record_every": 20, "allow_overlap": True}
    path = simulate(system, x, v, **arguments)
    mirror = np.array([-1.0, 1.0, 1.0][:dimension])
    image = simulate(system, x * mirror, v * mirror, **arguments)
    # Signs commute with rounding: exactly equal.
    np.testing.assert_array_equal(image["positions"].values, path["positions"].values * mirror)
    np.testing.assert_array_equal(image["velocities"].values, path["velocities"].values * mirror)
    # The sum of two squares is rounded alike in either order; that of three is not.
    swapped = simulate(system, x[:, ::-1], v[:, ::-1], **{**arguments, "num_steps": 40})
    np.testing.assert_allclose(
        swapped["positions"].values, path["positions"].values[:3, :, ::-1], atol=1e-11
    )


def test_walls_are_mirror_images_of_each_other():
    system = make_system(gravity=0.0)
    x, v = draw_initial_states(system, 4, speed=1.0, seed=9)
    path = simulate(system, x, v, time_step=1e-3, num_steps=200, record_every=200)
    image = simulate(system, 1 - x, -v, time_step=1e-3, num_steps=200, record_every=200)
    # 1 - x is rounded, and collisions magnify that.
    np.testing.assert_allclose(image["positions"].values, 1 - path["positions"].values, atol=1e-10)


def test_a_hexagonal_crystal_is_stable_at_the_bound():
    system = make_system(num_particles=49, damping=1.0, gravity=0.0, box=None)
    rows = np.arange(7)
    x = np.array([[0.119 * (i + 0.5 * (j % 2)), 0.119 * math.sqrt(0.75) * j]
                  for i in rows for j in rows])  # fmt: skip
    v = np.random.default_rng(0).normal(0, 1e-3, x.shape)
    path = simulate(
        system, x, v, time_step=0.999 * system.largest_stable_time_step, num_steps=2000,
        allow_overlap=True,
    )  # fmt: skip
    values = energy(system, path)
    assert values.max() < 1.05 * values[0]
