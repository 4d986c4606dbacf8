"""The local learning coefficient of a trained folder's checkpoints.

What lives here: which loss and data the coefficient is taken of, the settings all checkpoints share
so that their values can be compared, and running several estimates at once, each kept as a file of
its own. What does not: the estimator (`emergence_stats.degeneracy`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor, nn

import emergence_stats as es
from emergence_stats.checks import check_whole
from emergence_stats.errors import StorageError, first_line
from simulator.data.transitions import Transitions
from simulator.experiments.stages import map_in_processes
from simulator.network.model import ParticleTransformer
from simulator.training.checkpoints import (
    build_model,
    checkpoint_path,
    checkpoint_steps,
    load_checkpoint,
)
from simulator.training.config import read_configuration
from simulator.training.evaluation import mean_loss
from simulator.training.files import replace_file
from simulator.training.folder import transitions
from simulator.training.loop import one_thread

# Left to itself the estimator would choose a localisation for each checkpoint, and the values
# could not be compared. This one is that of its rule at the end of the demo's training: chains keep
# within about a quarter of the length of w*.
LOCALISATION = 1_500.0
NUM_DRAWS = 150


def _settings() -> dict[str, Any]:
    return {"num_draws": NUM_DRAWS, "localisation": LOCALISATION}


def transition_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The training loss, in the form `emergence_stats.estimate_llc` asks for."""
    assert isinstance(model, ParticleTransformer)
    return mean_loss(model, Transitions(*batch))


@one_thread()
def estimate_checkpoint(output: str | os.PathLike[str], seed: int, step: int) -> es.LLC:
    """How degenerate is the training loss around one checkpoint of a trained folder?"""
    folder = Path(output)
    data = transitions(read_configuration(folder / "configuration.json"), "train", folder)
    return es.estimate_llc(
        load_checkpoint(output, seed, step),
        transition_loss,
        (data.states, data.changes),
        seed=seed,
        progress=False,
        **_settings(),
    )


def _keep_estimate(place: tuple[Path, int, int]) -> None:
    with replace_file(_path(*place)) as partial:
        estimate_checkpoint(*place).to_netcdf(partial)


def _path(folder: Path, seed: int, step: int) -> Path:
    return folder / "analysis" / "llc" / f"run-{seed}-step-{step:08d}.nc"


def landscape(
    output: str | os.PathLike[str],
    checkpoints: Sequence[tuple[int, int, str]],
    *,
    report: Callable[[str], None] = lambda _: None,
) -> xr.Dataset:
    """The coefficient at several checkpoints (seed, step, label) of a trained folder.

    Each estimate is kept as a file and taken from there when asked for again. By run and step:
    `llc`, `llc_standard_error`, `llc_verdict` and `llc_label`; NaN and empty where not asked for.
    """
    folder = Path(output)
    places = [(folder, seed, step) for seed, step, _ in checkpoints]
    map_in_processes(
        _keep_estimate,
        [place for place in places if not _path(*place).exists()],
        os.cpu_count() or 1,
        lambda place: report(f"sampled around step {place[2]} of seed {place[1]}"),
    )
    runs = sorted({seed for seed, _, _ in checkpoints})
    steps = sorted({step for _, step, _ in checkpoints})
    shape = (len(runs), len(steps))
    llc, error = np.full(shape, np.nan), np.full(shape, np.nan)
    verdict, label = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    for place, (seed, step, text) in zip(places, checkpoints, strict=True):
        try:
            one = es.LLC.from_netcdf(_path(*place))
        except (OSError, ValueError, KeyError) as damage:
            raise StorageError(
                f"{_path(*place)}: damaged ({first_line(damage)}); delete it and run the same "
                "command again"
            ) from damage
        at = runs.index(seed), steps.index(step)
        llc[at], error[at] = one.llc, one.standard_error
        verdict[at], label[at] = one.diagnostics["verdict"], text
    dims = ("run", "step")
    return xr.Dataset(
        {
            "llc": (dims, llc, {"long_name": "local learning coefficient", "units": "1"}),
            "llc_standard_error": (dims, error, {"long_name": "standard error", "units": "1"}),
            "llc_verdict": (dims, verdict.astype(str)),
            "llc_label": (dims, label.astype(str)),
        },
        coords={"run": runs, "step": steps},
        attrs=_settings(),
    )


def sweep_checkpoints(
    folder: Path, steps: Mapping[int, Sequence[int]], output: str, **options: Any
) -> xr.Dataset:
    """The coefficient of the training loss at some checkpoints of each run of a folder.

    Parameters
    ----------
    folder : Path
    steps : mapping of int to sequence of int
        By seed.
    output : str
        Name of the store in `analysis` to which estimates are added as they come.
    **options
        Of `emergence_stats.sweep_llc`, which says what is returned.
    """
    config = read_configuration(folder / "configuration.json")
    data = transitions(config, "train", folder)
    return es.sweep_llc(
        {
            seed: {step: checkpoint_path(folder, seed, step) for step in each}
            for seed, each in steps.items()
        },
        functools.partial(build_model, config),
        transition_loss,
        (data.states, data.changes),
        output=folder / "analysis" / output,
        **options,
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
    check_whole("every", every, 1)
    config = read_configuration(folder / "configuration.json")
    steps = {}
    for seed in config.seeds if seeds is None else seeds:
        load_checkpoint(folder, seed, config=config)  # says what is wrong when there is none
        steps[seed] = checkpoint_steps(folder, seed)[::-1][::every]
    return sweep_checkpoints(
        folder, steps, "llc-sweep.zarr", parts=parts, workers=workers, progress=progress,
        **_settings(),
    )  # fmt: skip
