"""Stages are computed once, and work is spread over processes."""

from __future__ import annotations

import os

import pytest
import xarray as xr

from emergence_stats.errors import StorageError
from simulator.experiments.stages import compute_once, map_in_processes


class TestStages:
    def test_kept_results_are_used_until_the_key_changes(self, tmp_path):
        calls = []

        def compute():
            calls.append(len(calls))
            return xr.Dataset({"value": len(calls)})

        path = tmp_path / "a" / "stage.nc"
        first = compute_once(path, "one", compute)
        assert int(compute_once(path, "one", compute)["value"]) == 1 == int(first["value"])
        assert int(compute_once(path, "two", compute)["value"]) == 2
        assert first.attrs["seconds"] >= 0.0
        path.write_bytes(b"no dataset")
        with pytest.raises(StorageError, match=r"stage\.nc: damaged"):
            compute_once(path, "two", compute)

    def test_processes_answer_in_order(self):
        assert map_in_processes(abs, [-3, 2, -1], 2) == [3, 2, 1]

    def test_processes_compute_with_one_thread_each(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
        assert map_in_processes(os.getenv, names, 2) == ["1", "1"]
        assert [os.getenv(name) for name in names] == ["7", None]
