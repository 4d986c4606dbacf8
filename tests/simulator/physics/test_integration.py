"""Identical paths whatever the search, the batch, and how a run is cut into calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import make_system

from simulator.data.generation import draw_initial_states
from simulator.physics.integration import integrate
from simulator.physics.simulation import simulate


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
    system = make_system(num_particles=count, dimension=dimension, box=side if walls else None)
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
    system = make_system(num_particles=1500, dimension=dimension, box=side, radius=0.1)
    x, v = draw_initial_states(system, 1, speed=3.0, seed=2)
    arguments = {"time_step": 1e-3, "num_steps": 200, "record_every": 50}
    brute = simulate(system, x[0], v[0], neighbours="brute", **arguments)
    cells = simulate(system, x[0], v[0], neighbours="cells", **arguments)
    assert brute.identical(cells)
    assert abs(brute["velocities"] - brute["velocities"][0]).max() > 1.0


def test_a_batch_equals_its_systems_one_by_one():
    system = make_system()
    x, v = draw_initial_states(system, 9, speed=1.0, seed=3)
    arguments = {"time_step": 1e-3, "num_steps": 300, "record_every": 30}
    batch = simulate(system, x, v, **arguments)
    assert batch["positions"].dims == ("system", "time", "particle", "axis")
    for number in range(9):
        alone = simulate(system, x[number], v[number], **arguments)
        assert alone.identical(batch.isel(system=number))


def test_recording_more_often_and_shorter_calls_change_nothing(monkeypatch):
    system = make_system()
    x, v = draw_initial_states(system, 2, speed=1.0, seed=4)
    rarely = simulate(system, x, v, time_step=1e-3, num_steps=600, record_every=200)
    often = simulate(system, x, v, time_step=1e-3, num_steps=600, record_every=1)
    np.testing.assert_array_equal(often["positions"].values[:, ::200], rarely["positions"].values)
    monkeypatch.setattr("simulator.physics.integration.STEPS_PER_CALL", 16 * 70)
    assert rarely.identical(simulate(system, x, v, time_step=1e-3, num_steps=600, record_every=200))
    assert often.identical(simulate(system, x, v, time_step=1e-3, num_steps=600))


@pytest.mark.parametrize("damping", [0.0, 5.0, 60.0])
def test_the_stability_bound_is_exact_for_one_particle_on_the_floor(damping):
    system = make_system(num_particles=1, damping=damping, gravity=1000.0)
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
