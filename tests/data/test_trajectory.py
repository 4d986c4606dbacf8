"""The data contract: curves are checked, stores can be read at any moment, damage is named."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import emergence_stats as es
from emergence_stats.data import trajectory
from emergence_stats.data.trajectory import append_trajectory, create_trajectory, write_step


def make_store(path, *, runs=(0, 1), steps=(0, 1, 10, 100)):
    create_trajectory(
        path,
        coords={"run": runs, "step": steps, "head": [0, 1, 2]},
        variables={
            "score": (("run", "step", "head"), {"units": "1", "baseline": 0.1}),
            "loss": (("run", "step"), {"units": "1"}),
        },
        attrs={"version": "test"},
    )


class TestCurve:
    def test_takes_arrays_and_series(self):
        from_arrays = es.curve([1.0, 2.0], [0, 5], sd=0.1, name="accuracy")
        from_series = es.curve(pd.Series([1.0, 2.0], index=[0, 5], name="accuracy"), sd=[0.1, 0.1])
        xr.testing.assert_identical(from_arrays, from_series)

    @pytest.mark.parametrize(
        ("values", "step", "sd", "message"),
        [
            ([1, 2], None, None, "step: missing"),
            ([1, 2], [0, 1, 2], None, r"step: shape \(3,\) does not match"),
            ([1, 2], [1, 1], None, "step: 1 is repeated at index 1"),
            ([1, 2], [2, 1], None, "step: 2 is followed by 1 at index 1"),
            ([1, 2], np.array([2, 1], np.uint8), None, "step: 2 is followed by 1 at index 1"),
            ([1, 2], [-1, 1], None, "step: starts at -1"),
            ([1, 2], [0, np.nan], None, "step: holds NaN"),
            ([1, np.inf], [0, 1], None, "values: infinite at index 1"),
            ([[1, 2]], [0], None, r"values: shape \(1, 2\)"),
            ([1, 2], [0, 1], 0.0, "sd: 0.0 at index 0"),
            ([1, 2], [0, 1], [1.0, -1.0], "sd: -1.0 at index 1"),
        ],
    )
    def test_bad_input_is_named(self, values, step, sd, message):
        with pytest.raises(es.InputError, match=message):
            es.curve(values, step, sd=sd)

    @given(
        st.lists(st.floats(allow_infinity=False), min_size=1, max_size=30),
        st.integers(0, 1000),
        st.integers(1, 50),
    )
    def test_keeps_values_and_leaves_the_callers_arrays(self, values, first, gap):
        array, steps = np.array(values), first + gap * np.arange(len(values))
        before = array.copy(), steps.copy()
        result = es.curve(array, steps)
        result[:] = 0.0
        np.testing.assert_array_equal(array, before[0])
        np.testing.assert_array_equal(steps, before[1])


class TestStore:
    def test_round_trip_and_reached_steps(self, tmp_path):
        store = tmp_path / "trajectory.zarr"
        make_store(store)
        assert es.open_trajectory(store).sizes["step"] == 0
        write_step(store, run_index=1, step_index=2, values={"score": [1, 2, 3], "loss": 0.5})
        seen = es.open_trajectory(tmp_path)
        assert seen["step"].values.tolist() == [0, 1, 10]
        assert seen["score"].sel(run=1, step=10).values.tolist() == [1, 2, 3]
        assert seen["score"].sel(run=0).isnull().all()
        assert es.open_trajectory(tmp_path, reached_only=False).sizes["step"] == 4
        assert seen["score"].attrs["baseline"] == 0.1
        assert seen.attrs["version"] == "test"

    def test_creation_is_all_or_nothing(self, tmp_path, monkeypatch):
        def killed(*_):
            raise KeyboardInterrupt

        # Only the final move: Zarr's own writes use os.replace too.
        monkeypatch.setattr(trajectory, "os", SimpleNamespace(replace=killed))
        with pytest.raises(KeyboardInterrupt):
            make_store(tmp_path / "trajectory.zarr")
        assert not (tmp_path / "trajectory.zarr").exists()
        monkeypatch.undo()
        make_store(tmp_path / "trajectory.zarr")
        assert es.open_trajectory(tmp_path, reached_only=False).sizes["run"] == 2

    def test_append_extends_and_refuses_the_past(self, tmp_path):
        def one(step, name="loss"):
            return xr.Dataset({name: ("step", [float(step)])}, coords={"step": [step]})

        store = tmp_path / "trajectory.zarr"
        for step in range(0, 40, 2):
            append_trajectory(store, one(step))
        np.testing.assert_array_equal(es.open_trajectory(store)["loss"], np.arange(0, 40, 2))
        with pytest.raises(es.InputError, match="step: 38 is not after the last stored step 38"):
            append_trajectory(store, one(38))
        with pytest.raises(es.InputError, match=r"variables \['loss', 'score'\]"):
            append_trajectory(store, one(50, "score"))

    def test_a_truncated_chunk_is_named(self, tmp_path):
        store = tmp_path / "trajectory.zarr"
        make_store(store)
        write_step(store, run_index=0, step_index=0, values={"score": [1, 2, 3], "loss": 0.5})
        chunk = next(path for path in (store / "score" / "c").rglob("*") if path.is_file())
        chunk.write_bytes(chunk.read_bytes()[:5])
        with pytest.raises(es.StorageError, match="variable 'score' is damaged or truncated"):
            es.open_trajectory(store)

    def test_a_missing_store_is_named(self, tmp_path):
        with pytest.raises(es.StorageError, match="no such folder"):
            es.open_trajectory(tmp_path / "absent")
        with pytest.raises(es.StorageError, match="holds no trajectory"):
            es.open_trajectory(tmp_path)

    def test_a_full_disk_keeps_what_was_stored(self, tmp_path, monkeypatch):
        store = tmp_path / "trajectory.zarr"
        make_store(store)
        write_step(store, run_index=0, step_index=0, values={"loss": 0.5})

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("zarr.storage._local._put", full)
        with pytest.raises(es.StorageError, match="the disk is full; what was stored is kept"):
            write_step(store, run_index=0, step_index=1, values={"loss": 0.4})
        monkeypatch.undo()
        assert float(es.open_trajectory(store)["loss"].sel(run=0, step=0)) == 0.5

    def test_a_dataset_without_steps_is_refused(self):
        with pytest.raises(es.InputError, match="no 'step' dimension"):
            trajectory.validate_trajectory(xr.Dataset({"loss": ("epoch", [1.0])}))


def test_import_is_light():
    """The public names must not drag in what most notebooks do not need."""
    import subprocess
    import sys

    code = (
        "import sys, emergence_stats; "
        "print([name for name in ('torch', 'pymc', 'matplotlib', 'xarray') if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_no_module_hides_a_public_name():
    """A module named like a function would replace it once anything imports the module."""
    import importlib

    for name in es.__all__:
        if not name.startswith("_"):
            getattr(es, name)
    for module in set(es._HOME.values()):
        importlib.import_module(f"emergence_stats.{module}")
        assert module not in es._HOME
    assert callable(es.compare)
    assert callable(es.relaxation)
