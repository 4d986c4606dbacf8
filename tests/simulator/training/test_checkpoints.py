"""Checkpoints: what is missing or damaged is named, and nothing is unpickled."""

from __future__ import annotations

import os

import pytest
from small_runs import SMALL

import emergence_stats as es
from simulator.training.checkpoints import checkpoint_path, load_checkpoint, run_folder
from simulator.training.folder import prepare
from simulator.training.loop import train_seed

pytestmark = pytest.mark.xdist_group("training")


def test_a_missing_checkpoint_names_the_nearest(finished):
    with pytest.raises(es.StorageError, match=r"the nearest of the .* kept is step 20"):
        load_checkpoint(finished, 0, 21)
    with pytest.raises(es.StorageError, match=r"give one of the seeds \[0\]"):
        load_checkpoint(finished, 7)


def test_a_damaged_checkpoint_is_named(tmp_path, finished):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    path = checkpoint_path(folder, 0, 20)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(es.StorageError, match=r"step-00000020.safetensors: damaged"):
        load_checkpoint(folder, 0, 20)
    (run_folder(folder, 0) / "latest.pt").write_bytes(b"torn")
    with pytest.raises(es.StorageError, match=r"latest.pt: cannot be read"):
        train_seed(folder, 0)


def test_a_pickle_is_not_run(tmp_path):
    import pickle

    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    prepare(SMALL, tmp_path / "run")
    latest = run_folder(tmp_path / "run", 0) / "latest.pt"
    latest.parent.mkdir(parents=True)
    latest.write_bytes(pickle.dumps(Malice()))
    with pytest.raises(es.StorageError, match=r"latest.pt: cannot be read"):
        train_seed(tmp_path / "run", 0)
    assert not (tmp_path / "ran").exists()
