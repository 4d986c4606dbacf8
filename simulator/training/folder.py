"""An output folder: what it holds, and how it is laid out before training.

What lives here: `prepare`, the data of a configuration, and the refusal of a folder that holds
something else. What does not: networks (`checkpoints`) and who trains (`runs`).

    configuration.json                               what determines every run of the folder
    data/train.zarr  data/test.zarr                  the transitions
    trajectory.zarr                                  the scores of every run against step
    checkpoints/run-SEED/step-NNNNNNNN.safetensors   one network for each evaluation
    checkpoints/run-SEED/latest.pt                   the network and optimiser to resume from
    checkpoints/run-SEED/stopped.json                why a run ended before its last step, if it did
"""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from emergence_stats.data.trajectory import create_trajectory
from emergence_stats.errors import InputError, disk_errors
from simulator.data.generation import generate_transitions
from simulator.data.store import open_transitions
from simulator.data.transitions import Transitions
from simulator.training.config import TrainingConfig, differing_fields, read_configuration
from simulator.training.evaluation import trajectory_layout
from simulator.training.files import replace_file

PARTS = ("train", "test")


def simulate_part(config: TrainingConfig, part: str, path: Path | None = None) -> xr.Dataset:
    """The "train" or the "test" data of a configuration, in memory or streamed to a store."""
    return generate_transitions(
        config.system,
        num_systems=config.train_systems if part == "train" else config.test_systems,
        num_intervals=config.intervals_per_system,
        interval=config.interval,
        time_step=config.time_step,
        speed=config.speed,
        # Training and test systems must not share a seed.
        seed=2 * config.data_seed + PARTS.index(part),
        path=path,
    )


def transitions(config: TrainingConfig, part: str, folder: Path | None = None) -> Transitions:
    """What runs of a configuration learn from, or what is held out, as tensors.

    Parameters
    ----------
    config : TrainingConfig
    part : {"train", "test"}
        With `shuffled_labels` those of the training data are; the held-out ones never.
    folder : Path, optional
        One that was prepared; without, the data are simulated in memory.
    """
    if folder is None:
        data = Transitions.of(simulate_part(config, part))
    else:
        data = Transitions.of(open_transitions(folder / "data" / f"{part}.zarr"))
    shuffled = config.shuffled_labels and part == "train"
    return data.shuffle_labels(config.data_seed) if shuffled else data


def prepare(config: TrainingConfig, folder: Path) -> None:
    """Lays out the folder: configuration, data and an empty trajectory, each only if missing.

    Raises
    ------
    InputError
        If the folder holds another configuration (the differing fields are listed) or other files.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stored = folder / "configuration.json"
    if stored.exists():
        differing = differing_fields(read_configuration(stored), config)
        if differing:
            raise InputError(
                f"output: {folder} holds another configuration ({'; '.join(differing)}); choose "
                "another folder, or the stored values"
            )
    else:
        others = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
        if others:
            raise InputError(
                f"output: {folder} is not empty and holds no configuration.json (it has "
                f"{', '.join(others[:3])}); choose another folder"
            )
        # One system, one interval: what the physics refuses shows before anything is written.
        simulate_part(
            config.replace(train_systems=1, intervals_per_system=1, batch_size=1), "train"
        )
        with replace_file(stored) as partial:
            partial.write_text(config.to_json(), encoding="utf-8")
    for part in PARTS:
        simulate_part(config, part, folder / "data" / f"{part}.zarr")
    if not (folder / "trajectory.zarr").exists():
        held_out = transitions(config, "test", folder).spread(config.evaluation_samples)
        create_trajectory(folder / "trajectory.zarr", **trajectory_layout(config, held_out))


def stopped_runs(folder: Path) -> dict[str, str]:
    """Why runs of a folder ended before their last step, by seed."""
    return {
        note.parent.name.removeprefix("run-"): json.loads(note.read_text())["reason"]
        for note in sorted(folder.glob("checkpoints/run-*/stopped.json"))
    }
