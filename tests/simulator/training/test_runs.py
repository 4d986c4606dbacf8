"""Whole trainings: together as alone, killed and resumed."""

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
from click.testing import CliRunner
from small_runs import SMALL, assert_same_run, train_here

import emergence_stats as es
from emergence_stats.cli import main
from simulator.training import runs
from simulator.training.checkpoints import checkpoint_path, run_folder
from simulator.training.runs import train, train_together

pytestmark = pytest.mark.xdist_group("training")


def test_configurations_trained_together_are_those_trained_alone(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one process, which takes both in turn
    other = SMALL.replace(learning_rate=3e-3)
    wanted = {"same": (SMALL, tmp_path / "same"), "faster": (other, tmp_path / "faster")}
    found = train_together(wanted, progress=False)
    assert list(found) == ["same", "faster"]
    assert_same_run(finished, tmp_path / "same")
    assert json.loads(found["same"].attrs["stopped"]) == {}
    assert float(found["faster"]["learning_rate"].max()) == 3e-3
    assert not np.array_equal(found["faster"]["train_loss"], found["same"]["train_loss"])


def command(folder, *more):
    small = [
        part
        for name, value in vars(SMALL).items()
        if name != "seeds"
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    return ["train", "--output", str(folder), *small, "--seeds", "0", *more]


def start(arguments, **pipes):
    return subprocess.Popen([sys.executable, "-m", "emergence_stats.cli", *arguments], **pipes)


def wait_for(path, process, seconds=240):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, "the run did not get going"
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)


def test_sigkill_then_the_same_command(finished, tmp_path, monkeypatch):
    """The whole command, killed with its worker left behind, then run again."""
    process = start(command(tmp_path), stdout=subprocess.DEVNULL)
    wait_for(checkpoint_path(tmp_path, 0, 3), process)
    process.kill()
    process.wait()
    monkeypatch.setattr(runs, "train_in_processes", train_here)
    again = CliRunner().invoke(main, command(tmp_path))
    assert again.exit_code == 0, again.output
    assert_same_run(finished, tmp_path)


def test_ctrl_c_ends_cleanly_and_resumes(tmp_path):
    long = ["--num-steps", "100000", "--evaluate-every", "0"]
    before = signal.getsignal(signal.SIGINT)
    # Shells have what they start in the background ignore it, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = start(
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


def test_two_trainings_of_one_folder_are_refused(tmp_path):
    from filelock import FileLock

    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(es.InputError, match="another process is training"),
    ):
        train(SMALL, tmp_path, progress=False)
