"""Training several seeds into one folder.

What lives here: `train` and `train_together`, which have folders laid out and their runs trained,
and show the progress. What does not: the folder (`folder`), the processes that train (`workers`)
and the training loop (`loop`).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from emergence_stats.data.trajectory import open_trajectory
from emergence_stats.errors import InputError, disk_errors
from simulator.training.checkpoints import checkpoint_path
from simulator.training.config import TrainingConfig
from simulator.training.folder import prepare, stopped_runs
from simulator.training.workers import Report, Run, train_in_processes


def train(
    config: TrainingConfig, output: str | os.PathLike[str], *, progress: bool = True
) -> xr.Dataset:
    """Trains every seed of a configuration, or what is left of it, and returns the trajectory.

    The folder receives the data, the trajectory and the checkpoints (`training.folder` says which
    file is which). When the process is killed at any moment, the same call continues, and
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

    What is given and returned is what `train` takes and returns, by a name that is shown; each has
    a folder of its own.
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
            report((name, -1), {"status": "simulating the data"})
            prepare(configs[name], folder)
            report((name, -1), {"status": "training"})
        train_in_processes(_missing(configs, folders, report), folders, report)
    datasets = {}
    for name, folder in folders.items():
        datasets[name] = open_trajectory(folder)
        datasets[name].attrs["stopped"] = json.dumps(stopped_runs(folder))
    return datasets


def _missing(
    configs: Mapping[str, TrainingConfig], folders: Mapping[str, Path], report: Report
) -> list[Run]:
    """Which runs are neither finished nor ended before their last step."""
    missing: list[Run] = []
    for name, config in configs.items():
        stopped = stopped_runs(folders[name])
        for seed in config.seeds:
            # The last checkpoint is written after everything that was measured with it.
            if checkpoint_path(folders[name], seed, config.num_steps).exists():
                report((name, seed), {"step": config.num_steps})
            elif str(seed) not in stopped:
                missing.append((name, seed))
    return missing


@contextlib.contextmanager
def _display(configs: Mapping[str, TrainingConfig], show: bool) -> Iterator[Report]:
    """A progress bar for each seed, or nothing."""
    if not show:
        yield lambda run, event: None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )
    with progress.Progress(*columns) as bars:
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
