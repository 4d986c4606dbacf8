"""Initial states and transitions against what they are drawn and simulated from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from small_runs import TRANSITIONS, make_system

from emergence_stats.errors import InputError
from simulator.data.generation import draw_initial_states, generate_transitions
from simulator.physics.simulation import simulate


@settings(max_examples=40, deadline=None)
@given(
    dimension=st.sampled_from([2, 3]),
    count=st.integers(1, 300),
    fraction=st.floats(0.001, 0.2),
    aspect=st.floats(1.0, 3.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_nothing_overlaps_and_nothing_sticks_out(dimension, count, fraction, aspect, seed):
    unit = math.pi if dimension == 2 else 4 / 3 * math.pi
    radius = 0.1
    volume = count * unit * radius**dimension / fraction
    side = max((volume / aspect) ** (1 / dimension), 0.7)
    box = (side,) * (dimension - 1) + (side * aspect,)
    system = make_system(num_particles=count, radius=radius, box=box, dimension=dimension)
    positions, velocities = draw_initial_states(system, 2, speed=1.0, seed=seed)
    assert positions.shape == velocities.shape == (2, count, dimension)
    for one in positions:
        assert one.min() >= radius
        assert (one <= np.array(box) - radius).all()
        assert count == 1 or pdist(one).min() >= 2 * radius


def test_positions_are_uniform_and_velocities_gaussian():
    system = make_system(num_particles=1, radius=0.1)
    positions, velocities = draw_initial_states(system, 4000, speed=2.0, seed=0)
    where = (positions[:, 0] - 0.1) / 0.8
    # 4 standard errors of a mean and of a variance of 4000 draws, for each of two axes.
    assert abs(where.mean(0) - 0.5).max() < 4 * math.sqrt(1 / 12 / 4000)
    assert abs(velocities[:, 0].mean(0)).max() < 4 * 2 / math.sqrt(4000)
    assert abs(velocities[:, 0].var(0) / 4 - 1).max() < 4 * math.sqrt(2 / 4000)
    assert abs(np.corrcoef(where.T)[0, 1]) < 4 / math.sqrt(4000)


def test_systems_are_reproducible_one_by_one():
    few = draw_initial_states(make_system(), 3, speed=1.0, seed=11)
    many = draw_initial_states(make_system(), 8, speed=1.0, seed=11)
    other = draw_initial_states(make_system(), 3, speed=1.0, seed=12)
    for a, b, c in zip(few, many, other, strict=True):
        np.testing.assert_array_equal(a, b[:3])
        assert np.isin(a, c).mean() < 0.01
        assert len(np.unique(b)) == b.size
    generated = draw_initial_states(make_system(), 3, speed=1.0, seed=np.random.default_rng(1))
    again = draw_initial_states(make_system(), 3, speed=1.0, seed=np.random.default_rng(1))
    np.testing.assert_array_equal(generated, again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_particles": 1000, "radius": 0.0145},
            "num_particles: 1000 particles of radius 0.0145 fill 0.661 of the box .* about 0.547",
        ),
        (
            {"num_particles": 400, "radius": 0.07, "dimension": 3},
            "num_particles: 400 particles of radius 0.07 fill 0.575 of the box .* about 0.384",
        ),
        ({"box": None}, "box: None gives no room"),
    ],
)
def test_too_dense(changes, message):
    with pytest.raises(InputError, match=message):
        draw_initial_states(make_system(**changes), 1, speed=1.0, seed=0)


@pytest.mark.parametrize("burn_in", [0.0, 0.05])
def test_transitions_and_contacts_agree_with_a_fine_grained_simulation(burn_in):
    system = make_system()
    data = generate_transitions(system, **TRANSITIONS, burn_in=burn_in)
    assert data["position"].dims == ("sample", "particle", "axis")
    positions, velocities = draw_initial_states(system, 10, speed=1.0, seed=7)
    if burn_in:
        before = simulate(system, positions, velocities, time_step=1e-3, num_steps=50)
        positions = before["positions"].values[:, -1]
        velocities = before["velocities"].values[:, -1]
    path = simulate(
        system, positions, velocities, time_step=1e-3, num_steps=300, allow_overlap=True
    )
    x, v = path["positions"].values, path["velocities"].values
    distance = np.linalg.norm(x[..., :, None, :] - x[..., None, :, :], axis=-1)
    close = (distance < 0.12) & ~np.eye(16, dtype=bool)
    walls = ((x < 0.06) | (x > 1 - 0.06)).any(-1)
    for sample in range(30):
        system_number, interval = divmod(sample, 3)
        begin, end = 100 * interval, 100 * interval + 100
        one = data.isel(sample=sample)
        assert (int(one["system"]), int(one["interval_index"])) == (system_number, interval)
        for name, expected in {
            "position": x[system_number, begin],
            "velocity": v[system_number, begin],
            "displacement": x[system_number, end] - x[system_number, begin],
            "velocity_change": v[system_number, end] - v[system_number, begin],
        }.items():
            assert one[name].dtype == np.float32
            np.testing.assert_array_equal(one[name].values, expected.astype(np.float32))
        during = slice(begin, end + 1)
        np.testing.assert_array_equal(one["contact"], close[system_number, during].any(0))
        np.testing.assert_array_equal(one["wall_contact"], walls[system_number, during].any(0))
    assert 0 < data["contact"].values.mean() < 0.5
    assert 0 < data["wall_contact"].values.mean() < 1


def test_contacts_are_noted_alike_with_a_neighbour_list():
    system = make_system(num_particles=40, radius=0.04)
    data = generate_transitions(system, **{**TRANSITIONS, "num_systems": 2})
    positions, velocities = draw_initial_states(system, 2, speed=1.0, seed=7)
    path = simulate(
        system, positions, velocities, time_step=1e-3, num_steps=300, neighbours="brute"
    )
    x = path["positions"].values
    distance = np.linalg.norm(x[..., :, None, :] - x[..., None, :, :], axis=-1)
    close = (distance < 0.08) & ~np.eye(40, dtype=bool)
    expected = [close[s, 100 * i : 100 * i + 101].any(0) for s in range(2) for i in range(3)]
    np.testing.assert_array_equal(data["contact"].values, expected)


def test_particles_that_pass_through_each_other_are_still_said_to_meet():
    system = make_system(stiffness=0.0, wall_stiffness=2000.0)
    data = generate_transitions(system, **TRANSITIONS)
    assert data["contact"].values.any()


def test_the_data_depend_on_the_seed_alone():
    data = generate_transitions(make_system(), **TRANSITIONS)
    seen = []
    again = generate_transitions(
        make_system(), **TRANSITIONS, chunk_systems=3, progress=lambda *now: seen.append(now)
    )
    assert data.identical(again)
    assert seen == [(3, 10), (6, 10), (9, 10), (10, 10)]
    other = generate_transitions(make_system(), **{**TRANSITIONS, "seed": 8})
    assert np.isin(other["position"].values, data["position"].values).mean() < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_systems": 0}, "num_systems: 0; give a whole number of at least 1"),
        ({"num_intervals": 1.5}, "num_intervals: 1.5; give a whole number"),
        ({"interval": 0.1005}, "interval: 0.1005 is not a whole number of time steps of 0.001"),
        ({"interval": 0.0}, "interval: 0.0 is shorter than one time step"),
        ({"interval": math.nan}, "interval: nan; give a finite time"),
        ({"burn_in": -1.0}, "burn_in: -1.0; give a finite time"),
        ({"time_step": 0.05}, "time_step: 0.05 is unstable; the largest stable one is"),
        ({"speed": -1.0}, "speed: -1.0; give 0 or more"),
        ({"seed": -1}, "seed: -1; give a whole number of at least 0"),
        ({"chunk_systems": 0}, "chunk_systems: 0; give a whole number of at least 1"),
    ],
)
def test_bad_arguments(changes, message, tmp_path):
    with pytest.raises(InputError, match=f"^{message}"):
        generate_transitions(
            make_system(), **{**TRANSITIONS, **changes}, path=tmp_path / "data.zarr"
        )
    assert not (tmp_path / "data.zarr").exists()
