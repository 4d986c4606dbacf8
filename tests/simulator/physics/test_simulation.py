"""The physics against closed forms, conservation laws, symmetries and an independent integrator."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from emergence_stats.errors import InputError
from simulator.data.generation import draw_initial_states
from simulator.physics.integration import integrate
from simulator.physics.neighbours import build_list
from simulator.physics.simulation import ParticleSystem, simulate

DEFAULTS = {
    "num_particles": 16,
    "radius": 0.06,
    "box": 1.0,
    "gravity": 1.0,
    "stiffness": 2000.0,
    "damping": 2.0,
    "mass": 1.0,
}


def make(**changes):
    return ParticleSystem(**{**DEFAULTS, **changes})


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


# ---- closed forms -------------------------------------------------------------------------------

# Force sets in and ends with a jump of damping * speed, which a step straddles: an error of first
# order, about damping * step / mass relative to the speed. Two million steps in a collision
# keep it at a few times 1e-7.
STEPS_IN_COLLISION = 2_000_000


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("damping", [0.0, 1.0, 10.0])
def test_head_on_collision_is_half_a_period_of_a_damped_oscillator(dimension, damping):
    system = make(
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
    system = make(num_particles=1, gravity=0.0, damping=3.0, wall_stiffness=900.0, box=(1.0, 2.0))
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
    system = make(num_particles=2, box=None, gravity=0.4, radius=0.1, mass=0.8, damping=4.0)
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
    system = make(num_particles=1, box=None, gravity=2.0, dimension=dimension)
    x, v = np.full((1, dimension), 3.0), np.full((1, dimension), 0.5)
    path = simulate(system, x, v, time_step=1e-3, num_steps=1000, record_every=250)
    t = path["time"].values
    exact = np.full((5, dimension), 3.0) + 0.5 * t[:, None]
    exact[:, -1] -= t**2
    # A parabola is free of truncation error; what is left is rounding, at most 1 ulp a step.
    np.testing.assert_allclose(path["positions"].values[:, 0], exact, rtol=1000 * 2**-52)
    np.testing.assert_allclose(path["velocities"].values[:, 0, -1], 0.5 - 2 * t, atol=1e-12)


def test_no_stiffness_means_no_contact_and_walls_hold():
    system = make(num_particles=2, stiffness=0.0, wall_stiffness=2000.0, gravity=0.0)
    assert math.isnan(system.contact_time)
    path = simulate(system, [[0.2, 0.5], [0.8, 0.5]], [[1.0, 0.0], [-1.0, 0.0]],
                    time_step=1e-3, num_steps=500, record_every=50)  # fmt: skip
    expected = 0.2 + path["time"].values
    np.testing.assert_allclose(path["positions"].values[:, 0, 0], expected, rtol=1e-12)
    longer = simulate(system, [[0.2, 0.5], [0.8, 0.5]], [[1.0, 0.0], [-1.0, 0.0]],
                      time_step=1e-3, num_steps=5000)["positions"].values  # fmt: skip
    assert longer.min() > 0
    assert longer.max() < 1


def test_an_overdamped_contact_never_ends():
    system = make(damping=1000.0)
    assert system.contact_time == math.inf
    assert system.restitution == 0.0


# ---- conservation -------------------------------------------------------------------------------


def test_energy_error_is_bounded_for_good_and_of_second_order_while_contacts_last():
    # Two discs stacked on the floor, pressed so hard that they bounce without ever parting.
    system = make(num_particles=2, damping=0.0, gravity=20.0)
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
    system = make(damping=0.0)
    x, v = draw_initial_states(system, 400, speed=1.0, seed=5)
    steps, errors = [2e-3, 1e-3, 5e-4, 2.5e-4], []
    for step in steps:
        path = simulate(system, x, v, time_step=step, num_steps=round(0.2 / step), record_every=20)
        values = energy(system, path)
        errors.append(np.sqrt(((values[:, -1] / values[:, 0] - 1) ** 2).mean()))
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.85 < order < 2.15


def test_energy_does_not_drift_over_many_collisions():
    system = make(damping=0.0)
    x, v = draw_initial_states(system, 64, speed=1.0, seed=6)
    path = simulate(system, x, v, time_step=1e-3, num_steps=100_000, record_every=50_000)
    values = energy(system, path)
    error = values[:, -1] / values[:, 0] - 1
    # A random walk (see `simulate`), so small, and centred: no energy leaks either way.
    assert abs(error).max() < 0.01
    assert abs(error.mean()) < 4 * error.std(ddof=1) / 8


@pytest.mark.parametrize("dimension", [2, 3])
def test_momentum_is_conserved_to_rounding(dimension):
    system = make(box=None, gravity=0.0, num_particles=40, radius=0.1, dimension=dimension)
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


# ---- identical whatever the search --------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    dimension=st.sampled_from([2, 3]),
    count=st.integers(1, 150),
    spread=st.floats(0.3, 30.0),
    walls=st.booleans(),
    speed=st.sampled_from([0.0, 0.1, 5.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_brute_force_and_cells_agree_to_the_last_bit(dimension, count, spread, walls, speed, seed):
    rng = np.random.default_rng(seed)
    side = 0.12 * max(1.0, spread * count ** (1 / dimension))
    system = make(num_particles=count, dimension=dimension, box=side if walls else None)
    x = rng.uniform(0, side, (count, dimension))
    v = speed * rng.normal(size=(count, dimension))
    arguments = {"time_step": 2e-3, "num_steps": 60, "record_every": 20, "allow_overlap": True}
    brute = simulate(system, x, v, neighbours="brute", **arguments)
    cells = simulate(system, x, v, neighbours="cells", **arguments)
    auto = simulate(system, x, v, **arguments)
    assert brute.identical(cells)
    assert brute.identical(auto)


@pytest.mark.parametrize(("dimension", "side"), [(2, 12.0), (3, 3.2)])
def test_the_search_makes_no_difference_to_a_large_sorted_system(dimension, side):
    system = make(num_particles=1500, dimension=dimension, box=side, radius=0.1)
    x, v = draw_initial_states(system, 1, speed=3.0, seed=2)
    arguments = {"time_step": 1e-3, "num_steps": 200, "record_every": 50}
    brute = simulate(system, x[0], v[0], neighbours="brute", **arguments)
    cells = simulate(system, x[0], v[0], neighbours="cells", **arguments)
    assert brute.identical(cells)
    assert abs(brute["velocities"] - brute["velocities"][0]).max() > 1.0


@settings(max_examples=60, deadline=None)
@given(
    dimension=st.sampled_from([2, 3]),
    count=st.integers(1, 80),
    cutoff=st.floats(0.01, 2.0),
    stretch=st.floats(0.01, 1e6),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_neighbour_list_holds_every_close_pair_in_order(
    dimension, count, cutoff, stretch, seed
):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(count, dimension))
    x[:, 0] *= stretch
    starts, found = np.empty(count + 1, np.int64), np.empty(count * count, np.uint32)
    total = build_list(tuple(range(dimension)), x, cutoff, starts, found)
    pairs = [(i, int(j)) for i in range(count) for j in found[starts[i] : starts[i + 1]]]
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(count), 2)
        if sum((x[i, axis] - x[j, axis]) ** 2 for axis in range(dimension)) < cutoff * cutoff
    ]
    assert pairs == expected
    assert total == len(expected)


def test_a_batch_equals_its_systems_one_by_one():
    system = make()
    x, v = draw_initial_states(system, 9, speed=1.0, seed=3)
    arguments = {"time_step": 1e-3, "num_steps": 300, "record_every": 30}
    batch = simulate(system, x, v, **arguments)
    assert batch["positions"].dims == ("system", "time", "particle", "axis")
    for number in range(9):
        alone = simulate(system, x[number], v[number], **arguments)
        assert alone.identical(batch.isel(system=number))


def test_recording_more_often_and_shorter_calls_change_nothing(monkeypatch):
    system = make()
    x, v = draw_initial_states(system, 2, speed=1.0, seed=4)
    rarely = simulate(system, x, v, time_step=1e-3, num_steps=600, record_every=200)
    often = simulate(system, x, v, time_step=1e-3, num_steps=600, record_every=1)
    np.testing.assert_array_equal(often["positions"].values[:, ::200], rarely["positions"].values)
    monkeypatch.setattr("simulator.physics.integration.STEPS_PER_CALL", 16 * 70)
    assert rarely.identical(simulate(system, x, v, time_step=1e-3, num_steps=600, record_every=200))
    assert often.identical(simulate(system, x, v, time_step=1e-3, num_steps=600))


# ---- symmetries ---------------------------------------------------------------------------------


def test_time_reversal():
    system = make(damping=0.0)
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
    system = make(num_particles=60, box=None, gravity=0.0, dimension=dimension)
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
    system = make(gravity=0.0)
    x, v = draw_initial_states(system, 4, speed=1.0, seed=9)
    path = simulate(system, x, v, time_step=1e-3, num_steps=200, record_every=200)
    image = simulate(system, 1 - x, -v, time_step=1e-3, num_steps=200, record_every=200)
    # 1 - x is rounded, and collisions magnify that.
    np.testing.assert_allclose(image["positions"].values, 1 - path["positions"].values, atol=1e-10)


def test_the_callers_arrays_are_left_alone():
    system = make()
    x, v = draw_initial_states(system, 2, speed=1.0, seed=1)
    x.flags.writeable = v.flags.writeable = False
    kept = x.copy(), v.copy()
    path = simulate(system, x, v, time_step=1e-3, num_steps=50)
    path["positions"].values[:] = 0
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(v, kept[1])


def test_the_result_is_labelled():
    system = make(dimension=3, stiffness=0.0, wall_stiffness=100.0)
    x, v = draw_initial_states(system, 1, speed=1.0, seed=1)
    path = simulate(system, x[0], v[0], time_step=1e-3, num_steps=6, record_every=3)
    assert path["positions"].dims == ("time", "particle", "axis")
    assert path["time"].values.tolist() == [0.0, 0.003, 0.006]
    assert path["axis"].values.tolist() == ["x", "y", "z"]
    assert all({"units", "long_name"} <= set(path[name].attrs) for name in path.data_vars)
    assert path.attrs["radius"] == 0.06
    assert path.attrs["wall_stiffness"] == 100.0
    assert json.loads(system.to_json())["dimension"] == 3
    assert path.to_netcdf() is not None


# ---- the largest stable time step ---------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.0, 5.0, 60.0])
def test_the_stability_bound_is_exact_for_one_particle_on_the_floor(damping):
    system = make(num_particles=1, damping=damping, gravity=1000.0)
    resting = 0.06 - 1000.0 / 2000.0
    largest = system.largest_stable_time_step

    def excursion(step):
        path = integrate(
            system, np.array([[[0.5, resting]]]), np.array([[[0.0, 1e-6]]]), time_step=step,
            num_frames=400, steps_per_frame=10,
        )  # fmt: skip
        return abs(path.positions[0, :, 0, 1] - resting).max()

    # Deep in contact the motion is linear: bounded just below the bound, runaway just above.
    assert excursion(0.99 * largest) < 1e-6
    assert not excursion(1.02 * largest) < 1e-3  # it may have overflowed


def test_the_stability_criterion_of_the_scheme():
    # Multipliers of one mode of frequency^2 w and damping rate g, from the map of one step.
    for square in np.linspace(0.01, 4, 60):
        for rate in np.linspace(0, 1, 60):
            step = np.array(
                [
                    [1, 1, 0.5],
                    [-square / 2, 1 - square / 2 - rate / 2, 0.5 - square / 4 - rate / 2],
                    [-square, -square - rate, -square / 2 - rate],
                ]
            )
            growth = abs(np.linalg.eigvals(step)).max()
            if square + 4 * rate < 4 - 1e-9:
                assert growth < 1 + 1e-12
            elif square + 4 * rate > 4 + 1e-9:
                assert growth > 1


def test_a_hexagonal_crystal_is_stable_at_the_bound():
    system = make(num_particles=49, damping=1.0, gravity=0.0, box=None)
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


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_particles": 0}, "num_particles: 0; give at least 1"),
        ({"num_particles": 2.5}, "num_particles: 2.5; give a whole number"),
        ({"num_particles": True}, "num_particles: True; give a whole number"),
        ({"dimension": 4}, "dimension: 4; give 2 for discs or 3 for spheres"),
        ({"radius": 0.0}, "radius: 0.0; give a positive number"),
        ({"radius": math.nan}, "radius: nan; give a finite number"),
        ({"radius": "small"}, "radius: 'small'; give a number"),
        ({"mass": 0}, "mass: 0.0; give a positive number"),
        ({"stiffness": -1.0}, "stiffness: -1.0; give 0 or more"),
        ({"damping": -0.1}, "damping: -0.1; give 0 or more"),
        ({"gravity": math.inf}, "gravity: inf; give a finite number"),
        ({"box": math.nan}, "box: nan; give a finite number"),
        ({"box": 0.1}, "box: a side of 0.1 is smaller than the diameter 0.12"),
        ({"box": (1.0, 1.0, 1.0)}, "box: 3 side lengths for dimension=2"),
        ({"stiffness": 0.0}, "wall_stiffness: stiffness=0 leaves the walls without a spring"),
        ({"wall_stiffness": 0.0}, "wall_stiffness: 0.0 does not hold particles"),
    ],
)
def test_bad_systems(changes, message):
    with pytest.raises(InputError, match=f"^{message}"):
        make(**changes)


GOOD = {
    "positions": [[0.3, 0.3], [0.6, 0.6]],
    "velocities": [[0.0, 0.0], [0.0, 0.0]],
    "time_step": 1e-3,
    "num_steps": 10,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": [[0.3, 0.3]]}, r"positions: shape \(1, 2\); give \(particle, axis\)"),
        ({"velocities": [0.0, 0.0]}, r"velocities: shape \(2,\); give"),
        ({"velocities": np.zeros((3, 2, 2))}, r"velocities: shape \(3, 2, 2\) differs"),
        ({"positions": "here"}, "positions: not an array of numbers"),
        ({"positions": [[0.3, 0.3], [math.nan, 0.6]]}, "positions: nan at particle 1, axis 0;"),
        ({"velocities": [[0.0, math.inf], [0.0, 0.0]]}, "velocities: inf at particle 0, axis 1;"),
        ({"positions": [[0.3, 0.3], [0.4, 0.3]]}, "positions: particles 0 and 1 overlap by 0.02 "),
        ({"positions": [[0.3, 0.3], [0.3, 0.3]]}, "positions: particles 0 and 1 overlap by 0.12 "),
        ({"positions": [[0.3, 0.3], [1.2, 0.6]]}, "positions: 1.2 at particle 1, axis 0 is outs"),
        ({"positions": [[0.3, 0.02], [0.6, 0.6]]}, "positions: 0.02 at particle 0, axis 1 overl"),
        ({"time_step": 0.0}, "time_step: 0.0; give a positive number"),
        ({"time_step": math.nan}, "time_step: nan; give a finite number"),
        ({"num_steps": 0}, "num_steps: 0; give a whole number of at least 1"),
        ({"num_steps": 2.0}, "num_steps: 2.0; give a whole number"),
        ({"record_every": 3}, "record_every: 3 does not divide num_steps=10; .* num_steps=12"),
        ({"neighbours": "tree"}, "neighbours: 'tree'; give one of auto, brute, cells"),
    ],
)
def test_bad_simulations(changes, message):
    with pytest.raises(InputError, match=f"^{message}"):
        simulate(make(num_particles=2), **{**GOOD, **changes})


def test_the_largest_stable_time_step_is_in_the_message_and_is_accepted():
    system = make(num_particles=2)
    with pytest.raises(InputError, match="is unstable; the largest stable one is") as caught:
        simulate(system, **{**GOOD, "time_step": 0.1})
    largest = system.largest_stable_time_step
    assert f"{largest:.6g}" in str(caught.value)
    simulate(system, **{**GOOD, "time_step": largest})


def test_overlaps_are_accepted_on_request_and_named_with_their_system():
    system = make(num_particles=2)
    x = np.array([[[0.3, 0.3], [0.6, 0.6]], [[0.3, 0.3], [0.35, 0.3]]])
    with pytest.raises(InputError, match=r"particles 0 and 1 of system 1 overlap by 0\.07"):
        simulate(system, x, 0 * x, time_step=1e-3, num_steps=1)
    simulate(system, x, 0 * x, time_step=1e-3, num_steps=1, allow_overlap=True)
    x[0, 0, 0] = -0.01
    simulate(system, x, 0 * x, time_step=1e-3, num_steps=1, allow_overlap=True)
    x[0, 0, 0] = -0.07
    with pytest.raises(InputError, match=r"-0\.07 at system 0, particle 0, axis 0 is outside"):
        simulate(system, x, 0 * x, time_step=1e-3, num_steps=1, allow_overlap=True)


def test_particles_may_start_exactly_touching():
    system = make(num_particles=3, radius=0.1)
    x = np.array([[0.1, 0.1], [0.3, 0.1], [0.1 + 0.2 * math.cos(1.2), 0.1 + 0.2 * math.sin(1.2)]])
    simulate(system, x, 0 * x, time_step=1e-3, num_steps=1)
