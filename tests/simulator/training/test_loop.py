"""Training: deterministic, resumable after a kill at any moment, and honest when it diverges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file

import emergence_stats as es
from simulator.training.checkpoints import (
    checkpoint_path,
    checkpoint_steps,
    load_checkpoint,
    run_folder,
)
from simulator.training.config import TrainingConfig
from simulator.training.loop import Transitions, batch_index, mean_loss, train_seed
from simulator.training.runs import prepare, train, train_together

pytestmark = pytest.mark.xdist_group("training")

SMALL = TrainingConfig(
    num_particles=6,
    radius=0.08,
    train_systems=64,
    test_systems=16,
    intervals_per_system=4,
    width=16,
    depth=2,
    num_heads=2,
    batch_size=32,
    num_steps=60,
    evaluations_per_decade=4,
    evaluate_every=20,
    evaluation_samples=32,
    distance_bins=6,
    seeds=(0,),
    device="cpu",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run to compare others with."""
    folder = tmp_path_factory.mktemp("finished")
    prepare(SMALL, folder)
    assert train_seed(folder, 0) == 0
    return folder


def same_results(one, other):
    first, second = es.open_trajectory(one), es.open_trajectory(other)
    xr.testing.assert_identical(first, second)
    assert checkpoint_steps(one, 0) == checkpoint_steps(other, 0)
    for step in checkpoint_steps(one, 0):
        a, b = (load_file(checkpoint_path(folder, 0, step)) for folder in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_configurations_trained_together_are_those_trained_alone(finished, tmp_path):
    other = SMALL.replace(learning_rate=3e-3)
    wanted = {"same": (SMALL, tmp_path / "same"), "faster": (other, tmp_path / "faster")}
    found = train_together(wanted, progress=False)
    assert list(found) == ["same", "faster"]
    same_results(finished, tmp_path / "same")
    assert json.loads(found["same"].attrs["stopped"]) == {}
    assert float(found["faster"]["learning_rate"].max()) == 3e-3
    assert not np.array_equal(found["faster"]["train_loss"], found["same"]["train_loss"])


def test_every_evaluation_is_recorded_and_the_loss_falls(finished):
    dataset = es.open_trajectory(finished)
    np.testing.assert_array_equal(dataset["step"], SMALL.evaluation_steps())
    assert checkpoint_steps(finished, 0) == SMALL.evaluation_steps().tolist()
    assert dataset["collision_score"].dims == ("run", "step", "layer", "head")
    for name, variable in dataset.data_vars.items():
        assert "units" in variable.attrs, name
        assert "long_name" in variable.attrs, name
    complete = dataset.drop_vars(
        ["attention_distance_correlation", "attention_distance_correlation_sd"]
    )
    assert all(variable.notnull().all() for variable in complete.data_vars.values())
    loss = dataset["test_loss"].sel(run=0)
    fall = float(loss[0] - loss[-1])
    assert fall > 10 * float(dataset["test_loss_sd"].sel(run=0)[0])
    assert json.loads(dataset.attrs["configuration"])["width"] == 16


def test_the_recorded_loss_is_that_of_the_kept_network(finished):
    dataset = es.open_trajectory(finished)
    from simulator.data.generation import open_transitions

    test = Transitions.of(open_transitions(finished / "data" / "test.zarr"))
    for step in (0, 60):
        model = load_checkpoint(finished, 0, step)
        with torch.no_grad():
            loss = mean_loss(model, test.spread(SMALL.evaluation_samples))
        recorded = float(dataset["test_loss"].sel(run=0, step=step))
        # Mean of means against one mean, in single precision.
        assert float(loss) == pytest.approx(recorded, rel=1e-5)


def test_interrupted_at_any_step_it_continues_identically(finished, tmp_path):
    prepare(SMALL, tmp_path)
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        return calls % 17 == 0

    codes = [train_seed(tmp_path, 0, stop=stop)]
    while codes[-1] == 130:
        codes.append(train_seed(tmp_path, 0, stop=stop))
    assert codes == [130, 130, 130, 0]
    same_results(finished, tmp_path)


@pytest.mark.parametrize("moment", ["write_step", "save_checkpoint", "save_latest"])
def test_killed_around_any_write_it_continues_identically(finished, tmp_path, monkeypatch, moment):
    """The process dies just before and just after each of the three writes of an evaluation."""
    import simulator.training.loop as module

    original = getattr(module, moment)
    for after in (False, True):
        folder = tmp_path / str(after)
        folder.mkdir()
        prepare(SMALL, folder)
        calls = 0

        def killed(*arguments, after=after, **keywords):
            nonlocal calls
            calls += 1
            if calls != 5:
                return original(*arguments, **keywords)
            if after:
                original(*arguments, **keywords)
            raise KeyboardInterrupt

        monkeypatch.setattr(module, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            train_seed(folder, 0)
        monkeypatch.undo()
        assert train_seed(folder, 0) == 0
        same_results(finished, folder)


def command(folder, *more):
    small = [
        part
        for name, value in vars(SMALL).items()
        if name != "seeds"
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    return [sys.executable, "-m", "emergence_stats.cli", "train", "--output", str(folder), *small,
            "--seeds", "0", *more]  # fmt: skip


def wait_for(path, process, seconds=90):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, "the run did not get going"
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)


@pytest.mark.slow
def test_sigkill_then_the_same_command(finished, tmp_path):
    """The whole command, killed with its worker left behind, then run again."""
    longer = ["--num-steps", "60"]
    process = subprocess.Popen(command(tmp_path, *longer), stdout=subprocess.DEVNULL)
    wait_for(checkpoint_path(tmp_path, 0, 3), process)
    process.kill()
    process.wait()
    again = subprocess.run(command(tmp_path, *longer), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    same_results(finished, tmp_path)


@pytest.mark.slow
def test_ctrl_c_ends_cleanly_and_resumes(tmp_path):
    long = ["--num-steps", "100000", "--evaluate-every", "0"]
    before = signal.getsignal(signal.SIGINT)
    # Shells have what they start in the background ignore it, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command(tmp_path, *long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(checkpoint_path(tmp_path, 0, 10), process)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    state = torch.load(run_folder(tmp_path, 0) / "latest.pt", weights_only=True)
    assert state["step"] >= 10  # nothing trained so far is lost, evaluated or not


def test_a_diverging_seed_stops_and_keeps_what_was_saved(tmp_path):
    config = SMALL.replace(optimiser="sgd", learning_rate=1e9)
    prepare(config, tmp_path)
    events = []
    assert train_seed(tmp_path, 0, report=events.append) == 3
    reason = events[-1]["stopped"]
    assert "lower learning_rate" in reason
    dataset = es.open_trajectory(tmp_path)
    assert np.isfinite(dataset["test_loss"].sel(step=0)).all()
    # Asking again reports it rather than training the same divergence once more.
    again = train(config, tmp_path, progress=False)
    assert json.loads(again.attrs["stopped"]) == {"0": reason}


def test_batches_are_epochs_of_the_whole_set():
    per_epoch = 256 // SMALL.batch_size
    first = torch.cat([batch_index(SMALL, 0, step, 256) for step in range(per_epoch)])
    assert sorted(first.tolist()) == list(range(256))
    second = torch.cat([batch_index(SMALL, 0, per_epoch + step, 256) for step in range(per_epoch)])
    assert not torch.equal(first, second)
    assert not torch.equal(batch_index(SMALL, 0, 0, 256), batch_index(SMALL, 1, 0, 256))


class TestDamage:
    def test_a_missing_checkpoint_names_the_nearest(self, finished):
        with pytest.raises(es.StorageError, match=r"the nearest of the .* kept is step 20"):
            load_checkpoint(finished, 0, 21)
        with pytest.raises(es.StorageError, match=r"give one of the seeds \[0\]"):
            load_checkpoint(finished, 7)

    def test_a_damaged_checkpoint_is_named(self, tmp_path, finished):
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

    def test_a_pickle_is_not_run(self, tmp_path):
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

    def test_two_trainings_of_one_folder_are_refused(self, tmp_path):
        from filelock import FileLock

        with (
            FileLock(tmp_path / ".lock"),
            pytest.raises(es.InputError, match="another process is training"),
        ):
            train(SMALL, tmp_path, progress=False)
