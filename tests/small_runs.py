"""Systems and trainings small enough for tests.

What lives here: `make_system`, `TRANSITIONS` from it, `SMALL`, training without other processes,
and whether two folders hold the same run. What does not: tests, and the run that several of them
share (`simulator/conftest.py`).
"""

from __future__ import annotations

from functools import partial

import torch
import xarray as xr
from safetensors.torch import load_file

import emergence_stats as es
from simulator import ParticleSystem, TrainingConfig
from simulator.training import workers
from simulator.training.checkpoints import checkpoint_path, checkpoint_steps


def make_system(**changes):
    """Sixteen discs in the unit box, or what is changed of that."""
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


TRANSITIONS = {
    "num_systems": 10,
    "num_intervals": 3,
    "interval": 0.1,
    "time_step": 1e-3,
    "speed": 1.0,
    "seed": 7,
}
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
    evaluations_per_decade=2,
    evaluate_every=20,
    evaluation_samples=32,
    distance_bins=6,
    seeds=(0,),
    device="cpu",
)


def assert_same_run(one, other):
    """Trajectories and all checkpoints of seed 0 are equal to the last bit."""
    first, second = es.open_trajectory(one), es.open_trajectory(other)
    xr.testing.assert_identical(first, second)
    assert checkpoint_steps(one, 0) == checkpoint_steps(other, 0)
    for step in checkpoint_steps(one, 0):
        a, b = (load_file(checkpoint_path(folder, 0, step)) for folder in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def train_here(wanted, folders, report):
    """In place of `train_in_processes`, each of which would load every library anew.

    What a process does with a run, locks and all; the processes are in `tests/simulator/training`.
    """
    for name, seed in wanted:
        code = workers._train(folders[name], seed, partial(report, (name, seed)), lambda: False)
        assert code == 0
