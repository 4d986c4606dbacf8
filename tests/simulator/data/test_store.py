"""The store outlives kills, names what is damaged, and refuses the wrong guest."""

from __future__ import annotations

import errno
import json
import shutil

import numpy as np
import pytest
import xarray as xr
from small_runs import TRANSITIONS, make_system

from emergence_stats.errors import InputError, StorageError
from simulator.data.generation import generate_transitions
from simulator.data.store import open_transitions, stored_array


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "data" / "train.zarr"
    path.parent.mkdir()
    generate_transitions(make_system(), **TRANSITIONS, path=path, chunk_systems=4)
    return path


def same(first: xr.Dataset, second: xr.Dataset) -> bool:
    return first.load().drop_attrs(deep=False).identical(second.load().drop_attrs(deep=False))


def test_streamed_equals_in_memory(stored):
    data = generate_transitions(make_system(), **TRANSITIONS)
    kept = open_transitions(stored)
    assert same(kept, data)
    assert kept.attrs["parameters"] == data.attrs["parameters"]
    assert json.loads(kept.attrs["parameters"])["radius"] == 0.06
    with xr.open_zarr(stored, consolidated=False) as plain:
        np.testing.assert_array_equal(plain["contact"], data["contact"])


def test_a_finished_store_is_not_computed_again(stored, monkeypatch):
    monkeypatch.setattr("simulator.data.generation.integrate", None)
    assert same(
        generate_transitions(make_system(), **TRANSITIONS, path=stored), open_transitions(stored)
    )


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_an_interrupted_run_is_finished(stored, tmp_path, monkeypatch, stop):
    path = tmp_path / "interrupted.zarr"
    writes = []
    original = stored_array

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
        generate_transitions(make_system(), **TRANSITIONS, path=path, chunk_systems=4)
    with pytest.raises(StorageError, match=rf"{3 - stop} of 3 chunks are not written .* {stop};"):
        open_transitions(path)
    monkeypatch.undo()
    done = []
    generate_transitions(
        make_system(),
        **TRANSITIONS,
        path=path,
        chunk_systems=5,
        progress=lambda *now: done.append(now),
    )
    assert len(done) == 3 - stop
    assert same(open_transitions(path), open_transitions(stored))


def test_a_full_disk_keeps_what_was_written(stored, tmp_path, monkeypatch):
    path = tmp_path / "full.zarr"
    original = stored_array

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
        generate_transitions(make_system(), **TRANSITIONS, path=path, chunk_systems=4)
    monkeypatch.undo()
    done = []
    generate_transitions(
        make_system(), **TRANSITIONS, path=path, progress=lambda *now: done.append(now)
    )
    assert len(done) == 2
    assert same(open_transitions(path), open_transitions(stored))


def test_other_parameters_are_refused_by_name(stored):
    with pytest.raises(InputError, match=r"parameters \(radius: 0.06 -> 0.05; speed: 1.0 -> "):
        generate_transitions(
            make_system(radius=0.05), **{**TRANSITIONS, "speed": 2.0}, path=stored, chunk_systems=4
        )
    assert same(open_transitions(stored), generate_transitions(make_system(), **TRANSITIONS))


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a data set of transitions"):
        generate_transitions(make_system(), **TRANSITIONS, path=tmp_path)
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
