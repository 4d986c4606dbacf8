"""The local learning coefficient of a trained folder's checkpoints.

What lives here: which loss and data the coefficient is taken of, the settings all checkpoints share
so that their values can be compared, and running several estimates at once, each kept as a file of
its own. What does not: the estimator (`emergence_stats.degeneracy`).
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import emergence_stats as es
from emergence_stats.errors import InputError, StorageError, disk_errors, first_line
from simulator.network.model import ParticleTransformer
from simulator.training.checkpoints import (
    build_model,
    checkpoint_path,
    checkpoint_steps,
    load_checkpoint,
)
from simulator.training.config import read_configuration
from simulator.training.loop import Transitions, mean_loss, one_thread, training_data

# Left to itself the estimator would choose a localisation for each checkpoint, and the values
# could not be compared. This one lets a flat direction relax about eight times within the draws at
# the end of the demo's training; a weaker one sees more of the landscape and settles more slowly.
LOCALISATION = 30_000.0
NUM_CHAINS = 2
NUM_DRAWS = 1200
BATCH_SIZE = 32


def transition_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The training loss, in the form `emergence_stats.estimate_llc` asks for."""
    assert isinstance(model, ParticleTransformer)
    return mean_loss(model, Transitions(*batch))


@one_thread()
def estimate_checkpoint(output: str | os.PathLike[str], seed: int, step: int) -> es.LLC:
    """How degenerate is the training loss around one checkpoint?

    Parameters
    ----------
    output : path
        A folder written by `simulator.train`.
    seed, step : int
        Which checkpoint.

    Raises
    ------
    StorageError
        If the checkpoint or the training data is missing or damaged.
    """
    folder = Path(output)
    data = training_data(folder, read_configuration(folder / "configuration.json"))
    return es.estimate_llc(
        load_checkpoint(output, seed, step),
        transition_loss,
        (data.states, data.changes),
        num_chains=NUM_CHAINS,
        num_draws=NUM_DRAWS,
        batch_size=BATCH_SIZE,
        localisation=LOCALISATION,
        seed=seed,
        progress=False,
    )


def landscape(
    output: str | os.PathLike[str],
    checkpoints: Sequence[tuple[int, int, str]],
    *,
    report: Callable[[str], None] = lambda _: None,
) -> xr.Dataset:
    """The coefficient at several checkpoints, by run and step.

    Each estimate is kept as a file and taken from there when asked for again.

    Parameters
    ----------
    output : path
        A folder written by `simulator.train`.
    checkpoints : sequence of (seed, step, label)
    report : callable
        Told in words of each estimate that is finished.

    Returns
    -------
    xarray.Dataset
        `llc`, `llc_standard_error`, `llc_verdict` and `llc_label` (run, step); NaN and empty where
        not asked for.
    """
    folder = Path(output)
    missing = [one for one in checkpoints if not _path(folder, *one[:2]).exists()]
    running: list[tuple[tuple[int, int, str], subprocess.Popen[str]]] = []
    try:
        while missing or running:
            while missing and len(running) < max(1, os.cpu_count() or 1):
                seed, step, label = missing.pop(0)
                command = [sys.executable, "-m", "simulator.experiments.landscape"]
                process = subprocess.Popen(
                    [*command, str(folder), str(seed), str(step)],
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                running.append(((seed, step, label), process))
            (seed, step, label), process = running.pop(0)
            _, errors = process.communicate()
            if process.returncode:
                last = errors.strip().splitlines()[-1:] or [f"code {process.returncode}"]
                raise StorageError(
                    f"{_path(folder, seed, step)}: the estimate ended early ({last[0]}); the same "
                    "command tries again"
                )
            report(f"sampled around step {step} of seed {seed}")
    finally:
        for _, process in running:
            process.terminate()
    runs = sorted({seed for seed, _, _ in checkpoints})
    steps = sorted({step for _, step, _ in checkpoints})
    shape = (len(runs), len(steps))
    values, errors_, verdicts, labels = (
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.full(shape, "", dtype=object),
        np.full(shape, "", dtype=object),
    )
    for seed, step, label in checkpoints:
        place = runs.index(seed), steps.index(step)
        path = _path(folder, seed, step)
        try:
            result = es.LLC.from_netcdf(path)
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(
                f"{path}: damaged ({first_line(error)}); delete it and run the same command again"
            ) from error
        values[place], errors_[place] = result.llc, result.standard_error
        verdicts[place], labels[place] = result.diagnostics["verdict"], label
    dims = ("run", "step")
    return xr.Dataset(
        {
            "llc": (dims, values, {"long_name": "local learning coefficient", "units": "1"}),
            "llc_standard_error": (dims, errors_, {"long_name": "standard error", "units": "1"}),
            "llc_verdict": (dims, verdicts.astype(str)),
            "llc_label": (dims, labels.astype(str)),
        },
        coords={"run": runs, "step": steps},
        attrs={
            "localisation": LOCALISATION,
            "num_chains": NUM_CHAINS,
            "num_draws": NUM_DRAWS,
            "batch_size": BATCH_SIZE,
        },
    )


def sweep(
    output: str | os.PathLike[str],
    *,
    seeds: Sequence[int] | None = None,
    every: int = 1,
    parts: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> xr.Dataset:
    """The coefficient along the whole training, at every checkpoint or some of them.

    Estimates are added to `analysis/llc-sweep.zarr` as they come, and the same call goes on where
    it was stopped. Settings are those of `estimate_checkpoint`.

    Parameters
    ----------
    output : path
        A folder written by `simulator.train`.
    seeds : sequence of int, optional
        Which runs; all when left out.
    every : int
        Take every so-manyth checkpoint of a run, counted back from its last.
    parts : mapping of str to str, optional
        Names for parts of the network and the pattern of the parameters that move in each.
    workers : int
        Processes.
    progress : bool
        Show a bar with the time left on standard error.

    Returns
    -------
    xarray.Dataset
        As `emergence_stats.sweep_llc` returns it.
    """
    folder = Path(output)
    if every < 1:
        raise InputError(f"every must be at least 1, got {every}")
    config = read_configuration(folder / "configuration.json")
    chosen: dict[int, dict[int, Path]] = {}
    for seed in config.seeds if seeds is None else seeds:
        load_checkpoint(folder, seed, config=config)  # says what is wrong when there is none
        steps = checkpoint_steps(folder, seed)[::-1][::every]
        chosen[seed] = {step: checkpoint_path(folder, seed, step) for step in steps}
    data = training_data(folder, config)
    return es.sweep_llc(
        chosen,
        functools.partial(build_model, config),
        transition_loss,
        (data.states, data.changes),
        parts=parts,
        output=folder / "analysis" / "llc-sweep.zarr",
        workers=workers,
        progress=progress,
        num_chains=NUM_CHAINS,
        num_draws=NUM_DRAWS,
        batch_size=BATCH_SIZE,
        localisation=LOCALISATION,
    )


def _path(folder: Path, seed: int, step: int) -> Path:
    return folder / "analysis" / "llc" / f"run-{seed}-step-{step:08d}.nc"


def main(arguments: list[str]) -> int:
    """One estimate in a process of its own, kept as a file."""
    folder, seed, step = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    path = _path(folder, seed, step)
    try:
        result = estimate_checkpoint(folder, seed, step)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            result.to_netcdf(partial)
            os.replace(partial, path)
    except (InputError, StorageError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
