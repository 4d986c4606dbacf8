"""Training several seeds into one folder.

What lives here: `train` and `train_together`, which prepare folders, have their runs trained and
show the progress; and the refusal of a folder that holds something else. What does not: the
processes that train (`workers`) and the training loop (`training`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats
from emergence_stats.data.trajectory import create_trajectory, open_trajectory
from emergence_stats.errors import InputError, disk_errors
from simulator.data.generation import generate_transitions
from simulator.training.checkpoints import checkpoint_path, run_folder
from simulator.training.config import TrainingConfig, differing_fields, read_configuration
from simulator.training.workers import Report, Run, train_in_processes


def train(
    config: TrainingConfig,
    output: str | os.PathLike[str],
    *,
    progress: bool = True,
) -> xr.Dataset:
    """Trains every seed of a configuration, or what is left of it, and returns the trajectory.

    The folder receives the data, the trajectory and the checkpoints (`training.checkpoints` says
    which file is which). When the process is killed at any moment, the same call continues, and
    the trajectory is that of an uninterrupted run.

    Parameters
    ----------
    config : TrainingConfig
    output : path
        A new folder, or one in which the same configuration was begun.
    progress : bool
        Show a progress bar for each seed.

    Returns
    -------
    xarray.Dataset
        As `emergence_stats.open_trajectory` reads it. A seed whose loss became NaN is NaN from
        there on, and the attribute `stopped` says so.

    Raises
    ------
    InputError
        If the folder holds another configuration (the differing fields are listed).
    StorageError
        If the disk is full or something stored is damaged; what was stored is kept.
    """
    name = str(output)
    return train_together({name: (config, output)}, progress=progress)[name]


def train_together(
    wanted: Mapping[str, tuple[TrainingConfig, str | os.PathLike[str]]], *, progress: bool = True
) -> dict[str, xr.Dataset]:
    """Trains several configurations at once, so that no core waits for the last seed of one.

    Parameters
    ----------
    wanted : mapping of str to (TrainingConfig, path)
        By a name that is shown: what `train` takes, each with a folder of its own.
    progress : bool
        Show a progress bar for each seed of each.

    Returns
    -------
    dict of str to xarray.Dataset
        What `train` returns, by the same names.

    Raises
    ------
    InputError, StorageError
        As `train`.
    """
    from filelock import FileLock, Timeout

    folders = {name: Path(output) for name, (_, output) in wanted.items()}
    configs = {name: config for name, (config, _) in wanted.items()}
    with contextlib.ExitStack() as held:
        for folder in folders.values():
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(folder / ".lock", timeout=0))
            except Timeout as error:
                raise InputError(
                    f"output: another process is training into {folder}; wait for it or choose "
                    "another folder"
                ) from error
        report = held.enter_context(_display(configs, progress))
        for name, folder in folders.items():
            prepare(configs[name], folder, functools.partial(_of, report, name))
        stopped = _train_missing(configs, folders, report)
    datasets = {}
    for name, folder in folders.items():
        datasets[name] = open_trajectory(folder)
        datasets[name].attrs["stopped"] = json.dumps(stopped[name])
    return datasets


def _of(report: Report, name: str, seed: int, event: dict[str, Any]) -> None:
    report((name, seed), event)


def prepare(
    config: TrainingConfig,
    folder: Path,
    report: Callable[[int, dict[str, Any]], None] = lambda *_: None,
) -> None:
    """Lays out the folder: configuration, data and an empty trajectory, each only if missing."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "configuration.json"
    if kept.exists():
        differing = differing_fields(read_configuration(kept), config)
        if differing:
            raise InputError(
                f"output: {folder} holds another configuration ({'; '.join(differing)}); choose "
                "another folder, or the stored values"
            )
    else:
        others = [path.name for path in folder.iterdir() if path.name != ".lock"]
        if others:
            raise InputError(
                f"output: {folder} is not empty and holds no configuration.json (it has "
                f"{', '.join(sorted(others)[:3])}); choose another folder"
            )
        # One system, one interval: what the physics refuses shows before anything is written.
        generate_transitions(
            config.system,
            num_systems=1,
            num_intervals=1,
            interval=config.interval,
            time_step=config.time_step,
            speed=config.speed,
            seed=0,
        )
        with disk_errors(folder):
            partial = kept.with_suffix(".partial")
            partial.write_text(config.to_json(), encoding="utf-8")
            os.replace(partial, kept)
    for number, (name, systems) in enumerate(
        (("train", config.train_systems), ("test", config.test_systems))
    ):
        report(-1, {"status": f"simulating {systems} systems of {config.num_particles} particles"})
        generate_transitions(
            config.system,
            num_systems=systems,
            num_intervals=config.intervals_per_system,
            interval=config.interval,
            time_step=config.time_step,
            speed=config.speed,
            # Training and test systems must not share a seed.
            seed=2 * config.data_seed + number,
            path=folder / "data" / f"{name}.zarr",
        )
    report(-1, {"status": "training"})
    if not (folder / "trajectory.zarr").exists():
        _create_store(config, folder)


def _create_store(config: TrainingConfig, folder: Path) -> None:
    test = _held_out(config, folder)
    coords, variables = trajectory_layout(config, indifferent_score(config, test))
    create_trajectory(
        folder / "trajectory.zarr",
        coords={"run": np.array(config.seeds), "step": config.evaluation_steps(), **coords},
        variables=variables,
        attrs={
            "version": emergence_stats.__version__,
            "configuration": config.to_json(),
            "seeds": list(config.seeds),
            "time_axis": "optimiser steps made before the measurement",
            "distance_units": "particle diameters",
        },
    )


def trajectory_layout(
    config: TrainingConfig, baseline: float
) -> tuple[dict[str, np.ndarray], dict[str, tuple[tuple[str, ...], dict[str, Any]]]]:
    """What `training.evaluate` measures: coordinates beside run and step, variables and attributes.

    Parameters
    ----------
    config : TrainingConfig
    baseline : float
        The collision score of a head that ignores distance.
    """
    from simulator.training.loop import distance_edges

    edges = distance_edges(config)
    plain, heads = ("run", "step"), ("run", "step", "layer", "head")
    loss = {"units": "variance of the training set"}
    score = {"units": "share of attention", "contact_range": f"{config.contact_range} diameters"}
    coords = {
        "layer": np.arange(config.depth),
        "head": np.arange(config.num_heads),
        "distance": 0.5 * (edges[1:] + edges[:-1]),
    }
    variables: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "collision_score": (
            heads,
            {"long_name": "collision score", "baseline": baseline, **score},
        ),
        "collision_score_sd": (
            heads,
            {"long_name": "standard error of the collision score over samples", **score},
        ),
        "attention_distance_correlation": (
            (*heads, "distance"),
            {
                "long_name": "attention-distance correlation g(r)",
                "units": "1",
                "baseline": 1.0,
            },
        ),
        "attention_distance_correlation_sd": (
            (*heads, "distance"),
            {"long_name": "standard error of g(r) over samples", "units": "1"},
        ),
        "train_loss": (plain, {"long_name": "training loss", **loss}),
        "train_loss_sd": (plain, {"long_name": "standard error of the training loss", **loss}),
        "test_loss": (plain, {"long_name": "test loss", **loss}),
        "test_loss_sd": (plain, {"long_name": "standard error of the test loss", **loss}),
        "learning_rate": (plain, {"long_name": "learning rate", "units": "1"}),
    }
    return coords, variables


def indifferent_score(config: TrainingConfig, places: np.ndarray) -> float:
    """The collision score of a head that ignores distance, at these (sample, particle, axis)."""
    from simulator.network.heads import collision_score

    indifferent = np.ones((len(places), config.num_particles, config.num_particles))
    score = collision_score(
        indifferent, places, diameter=2 * config.radius, contact_range=config.contact_range
    )
    return float(score["collision_score"].attrs["baseline"])


def _held_out(config: TrainingConfig, folder: Path) -> np.ndarray:
    from simulator.data.generation import open_transitions
    from simulator.training.loop import Transitions

    test = Transitions.of(open_transitions(folder / "data" / "test.zarr"))
    states = test.spread(config.evaluation_samples).states.numpy()
    return states[..., : config.dimension]


def _train_missing(
    configs: Mapping[str, TrainingConfig], folders: Mapping[str, Path], report: Report
) -> dict[str, dict[str, str]]:
    """Trains what is not yet trained; returns why any run stopped early."""
    stopped: dict[str, dict[str, str]] = {name: {} for name in configs}
    missing: list[Run] = []
    for name, config in configs.items():
        for seed in config.seeds:
            note = run_folder(folders[name], seed) / "stopped.json"
            # The last checkpoint is written after everything that was measured with it.
            if checkpoint_path(folders[name], seed, config.num_steps).exists():
                report((name, seed), {"step": config.num_steps})
            elif note.exists():
                stopped[name][str(seed)] = json.loads(note.read_text())["reason"]
            else:
                missing.append((name, seed))

    def note_and_report(run: Run, event: dict[str, Any]) -> None:
        if "stopped" in event:
            stopped[run[0]][str(run[1])] = event["stopped"]
        report(run, event)

    train_in_processes(missing, folders, note_and_report)
    return stopped


@contextlib.contextmanager
def _display(configs: Mapping[str, TrainingConfig], show: bool) -> Iterator[Report]:
    """A progress bar for each seed, or nothing."""
    if not show:
        yield lambda run, event: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bars:
        tasks = {
            (name, seed): bars.add_task(
                f"seed {seed}" if len(configs) == 1 else f"{name}, seed {seed}",
                total=config.num_steps,
                note="waiting",
            )
            for name, config in configs.items()
            for seed in config.seeds
        }

        def report(run: Run, event: dict[str, Any]) -> None:
            if "status" in event:
                for (name, _), task in tasks.items():
                    if name == run[0]:
                        bars.update(task, note=event["status"])
                return
            bars.update(tasks[run], completed=event.get("step"))
            if "test_loss" in event:
                loss, score = event["test_loss"], event["score"]
                bars.update(tasks[run], note=f"test loss {loss:.4f}, largest score {score:.2f}")
            if "stopped" in event or "error" in event:
                bars.update(tasks[run], note="stopped")

        yield report
