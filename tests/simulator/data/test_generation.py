"""Initial states, transitions, and the store that outlives kills and refuses the wrong guest."""

from __future__ import annotations

import errno
import json
import math
import shutil

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from emergence_stats.errors import InputError, StorageError
from simulator.data import store as transition_store
from simulator.data.generation import draw_initial_states, generate_transitions, open_transitions
from simulator.physics.simulation import ParticleSystem, simulate


def make(**changes):
    return ParticleSystem(
        **{
            "num_particles": 16,
            "radius": 0.06,
            "box": 1.0,
            "gravity": 1.0,
            "stiffness": 2000.0,
            "damping": 2.0,
            "mass": 1.0,
            **changes,
        }
    )


ARGUMENTS = {
    "num_systems": 10,
    "num_intervals": 3,
    "interval": 0.1,
    "time_step": 1e-3,
    "speed": 1.0,
    "seed": 7,
}


# ---- initial states -----------------------------------------------------------------------------


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
    system = make(num_particles=count, radius=radius, box=box, dimension=dimension)
    positions, velocities = draw_initial_states(system, 2, speed=1.0, seed=seed)
    assert positions.shape == velocities.shape == (2, count, dimension)
    for one in positions:
        assert one.min() >= radius
        assert (one <= np.array(box) - radius).all()
        assert count == 1 or pdist(one).min() >= 2 * radius


def test_positions_are_uniform_and_velocities_gaussian():
    system = make(num_particles=1, radius=0.1)
    positions, velocities = draw_initial_states(system, 4000, speed=2.0, seed=0)
    where = (positions[:, 0] - 0.1) / 0.8
    # 4 standard errors of a mean and of a variance of 4000 draws, for each of two axes.
    assert abs(where.mean(0) - 0.5).max() < 4 * math.sqrt(1 / 12 / 4000)
    assert abs(velocities[:, 0].mean(0)).max() < 4 * 2 / math.sqrt(4000)
    assert abs(velocities[:, 0].var(0) / 4 - 1).max() < 4 * math.sqrt(2 / 4000)
    assert abs(np.corrcoef(where.T)[0, 1]) < 4 / math.sqrt(4000)


def test_systems_are_reproducible_one_by_one():
    few = draw_initial_states(make(), 3, speed=1.0, seed=11)
    many = draw_initial_states(make(), 8, speed=1.0, seed=11)
    other = draw_initial_states(make(), 3, speed=1.0, seed=12)
    for a, b, c in zip(few, many, other, strict=True):
        np.testing.assert_array_equal(a, b[:3])
        assert np.isin(a, c).mean() < 0.01
        assert len(np.unique(b)) == b.size
    generated = draw_initial_states(make(), 3, speed=1.0, seed=np.random.default_rng(1))
    again = draw_initial_states(make(), 3, speed=1.0, seed=np.random.default_rng(1))
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
        draw_initial_states(make(**changes), 1, speed=1.0, seed=0)


# ---- transitions --------------------------------------------------------------------------------


@pytest.mark.parametrize("burn_in", [0.0, 0.05])
def test_transitions_and_contacts_agree_with_a_fine_grained_simulation(burn_in):
    system = make()
    data = generate_transitions(system, **ARGUMENTS, burn_in=burn_in)
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
    system = make(num_particles=40, radius=0.04)
    data = generate_transitions(system, **{**ARGUMENTS, "num_systems": 2})
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
    system = make(stiffness=0.0, wall_stiffness=2000.0)
    data = generate_transitions(system, **ARGUMENTS)
    assert data["contact"].values.any()


def test_the_data_depend_on_the_seed_alone():
    data = generate_transitions(make(), **ARGUMENTS)
    seen = []
    again = generate_transitions(
        make(),
        **ARGUMENTS,
        chunk_systems=3,
        progress=lambda *now: seen.append(now),
    )
    assert data.identical(again)
    assert seen == [(3, 10), (6, 10), (9, 10), (10, 10)]
    other = generate_transitions(make(), **{**ARGUMENTS, "seed": 8})
    assert np.isin(other["position"].values, data["position"].values).mean() < 0.05


# ---- the store ----------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "data" / "train.zarr"
    path.parent.mkdir()
    generate_transitions(make(), **ARGUMENTS, path=path, chunk_systems=4)
    return path


def same(first: xr.Dataset, second: xr.Dataset) -> bool:
    return first.load().drop_attrs(deep=False).identical(second.load().drop_attrs(deep=False))


def test_streamed_equals_in_memory(stored):
    data = generate_transitions(make(), **ARGUMENTS)
    kept = open_transitions(stored)
    assert same(kept, data)
    assert kept.attrs["parameters"] == data.attrs["parameters"]
    assert json.loads(kept.attrs["parameters"])["radius"] == 0.06
    with xr.open_zarr(stored, consolidated=False) as plain:
        np.testing.assert_array_equal(plain["contact"], data["contact"])


def test_a_finished_store_is_not_computed_again(stored, monkeypatch):
    monkeypatch.setattr("simulator.data.generation.integrate", None)
    assert same(generate_transitions(make(), **ARGUMENTS, path=stored), open_transitions(stored))


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_an_interrupted_run_is_finished(stored, tmp_path, monkeypatch, stop):
    path = tmp_path / "interrupted.zarr"
    writes = []
    original = transition_store.stored_array

    class Interrupted:
        """Lets `stop` chunks through and is then killed, half a chunk later."""

        def __init__(self, array, name):
            self.array, self.name = array, name

        def __getitem__(self, key):
            return self.array[key]

        def __setitem__(self, key, value):
            if self.name == "complete":
                writes.append(key)
            if len(writes) >= stop and self.name == "displacement":
                raise KeyboardInterrupt
            self.array[key] = value

    monkeypatch.setattr(
        "simulator.data.generation.stored_array",
        lambda store, name: Interrupted(original(store, name), name),
    )
    with pytest.raises(KeyboardInterrupt):
        generate_transitions(make(), **ARGUMENTS, path=path, chunk_systems=4)
    with pytest.raises(StorageError, match=rf"{3 - stop} of 3 chunks are not written .* {stop};"):
        open_transitions(path)
    monkeypatch.undo()
    done = []
    generate_transitions(
        make(), **ARGUMENTS, path=path, chunk_systems=5, progress=lambda *now: done.append(now)
    )
    assert len(done) == 3 - stop
    assert same(open_transitions(path), open_transitions(stored))


def test_a_full_disk_keeps_what_was_written(stored, tmp_path, monkeypatch):
    path = tmp_path / "full.zarr"
    original = transition_store.stored_array

    class Full:
        def __init__(self, array, name):
            self.array, self.name = array, name

        def __getitem__(self, key):
            return self.array[key]

        def __setitem__(self, key, value):
            if self.name == "contact" and key.start > 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.array[key] = value

    monkeypatch.setattr(
        "simulator.data.generation.stored_array",
        lambda store, name: Full(original(store, name), name),
    )
    with pytest.raises(StorageError, match="the disk is full; what was stored is kept"):
        generate_transitions(make(), **ARGUMENTS, path=path, chunk_systems=4)
    monkeypatch.undo()
    done = []
    generate_transitions(make(), **ARGUMENTS, path=path, progress=lambda *now: done.append(now))
    assert len(done) == 2
    assert same(open_transitions(path), open_transitions(stored))


def test_other_parameters_are_refused_by_name(stored):
    with pytest.raises(InputError, match=r"parameters \(radius: 0.06 -> 0.05; speed: 1.0 -> "):
        generate_transitions(
            make(radius=0.05), **{**ARGUMENTS, "speed": 2.0}, path=stored, chunk_systems=4
        )
    assert same(open_transitions(stored), generate_transitions(make(), **ARGUMENTS))


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a data set of transitions"):
        generate_transitions(make(), **ARGUMENTS, path=tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(StorageError, match="not a data set of transitions"):
        open_transitions(tmp_path)
    with pytest.raises(StorageError, match="there is no such data set"):
        open_transitions(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "remove"])
@pytest.mark.parametrize("name", ["velocity", "contact"])
def test_a_damaged_chunk_is_named(stored, damage, name):
    place = {"velocity": "1/0/0", "contact": "1/0/0"}[name]
    file = stored / name / "c" / place
    content = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "flip":
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        file.unlink()
    with pytest.raises(StorageError, match=rf"chunk 1 of {name} .* is damaged .* remove "):
        open_transitions(stored)


def test_damaged_metadata_are_a_storage_error(stored):
    (stored / "velocity" / "zarr.json").write_text("{")
    with pytest.raises(StorageError, match="velocity"):
        open_transitions(stored)
    shutil.rmtree(stored / "velocity")
    with pytest.raises(StorageError, match="velocity"):
        open_transitions(stored)


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
        ({"speed": -1.0}, "speed: -1.0; give a finite number of 0 or more"),
        ({"seed": -1}, "seed: -1; give a whole number of at least 0"),
        ({"chunk_systems": 0}, "chunk_systems: 0; give a whole number of at least 1"),
    ],
)
def test_bad_arguments(changes, message, tmp_path):
    with pytest.raises(InputError, match=f"^{message}"):
        generate_transitions(make(), **{**ARGUMENTS, **changes}, path=tmp_path / "data.zarr")
    assert not (tmp_path / "data.zarr").exists()
