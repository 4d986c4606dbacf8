"""What `simulate` returns, and what it refuses by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_runs import make_system

from emergence_stats.errors import InputError
from simulator.data.generation import draw_initial_states
from simulator.physics.simulation import simulate


def test_the_callers_arrays_are_left_alone():
    system = make_system()
    x, v = draw_initial_states(system, 2, speed=1.0, seed=1)
    x.flags.writeable = v.flags.writeable = False
    kept = x.copy(), v.copy()
    path = simulate(system, x, v, time_step=1e-3, num_steps=50)
    path["positions"].values[:] = 0
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(v, kept[1])


def test_the_result_is_labelled():
    system = make_system(dimension=3, stiffness=0.0, wall_stiffness=100.0)
    x, v = draw_initial_states(system, 1, speed=1.0, seed=1)
    path = simulate(system, x[0], v[0], time_step=1e-3, num_steps=6, record_every=3)
    assert path["positions"].dims == ("time", "particle", "axis")
    assert path["time"].values.tolist() == [0.0, 0.003, 0.006]
    assert path["axis"].values.tolist() == ["x", "y", "z"]
    assert all({"units", "long_name"} <= set(path[name].attrs) for name in path.data_vars)
    assert path.attrs["radius"] == 0.06
    assert path.attrs["wall_stiffness"] == 100.0
    assert path.to_netcdf() is not None


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
        ({"time_step": 0.0}, "time_step: 0; must be positive"),
        ({"time_step": math.nan}, "time_step: nan; must be finite"),
        ({"num_steps": 0}, "num_steps: 0; give a whole number of at least 1"),
        ({"num_steps": 2.0}, "num_steps: 2.0; give a whole number"),
        ({"record_every": 3}, "record_every: 3 does not divide num_steps=10; .* num_steps=12"),
        ({"neighbours": "tree"}, "neighbours: 'tree'; give one of auto, brute, cells"),
    ],
)
def test_bad_simulations(changes, message):
    with pytest.raises(InputError, match=f"^{message}"):
        simulate(make_system(num_particles=2), **{**GOOD, **changes})


def test_the_largest_stable_time_step_is_in_the_message_and_is_accepted():
    system = make_system(num_particles=2)
    with pytest.raises(InputError, match="is unstable; the largest stable one is") as caught:
        simulate(system, **{**GOOD, "time_step": 0.1})
    largest = system.largest_stable_time_step
    assert f"{largest:.6g}" in str(caught.value)
    simulate(system, **{**GOOD, "time_step": largest})


def test_overlaps_are_accepted_on_request_and_named_with_their_system():
    system = make_system(num_particles=2)
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
    system = make_system(num_particles=3, radius=0.1)
    x = np.array([[0.1, 0.1], [0.3, 0.1], [0.1 + 0.2 * math.cos(1.2), 0.1 + 0.2 * math.sin(1.2)]])
    simulate(system, x, 0 * x, time_step=1e-3, num_steps=1)
