"""A run's networks on disk.

What lives here: writing and reading checkpoints (safetensors) and the state a run resumes from, and
the names of the files in an output folder. What does not: when they are written (`training`).

    configuration.json                               what determines every run of the folder
    data/train.zarr  data/test.zarr                  the transitions
    trajectory.zarr                                  the scores of every run against step
    checkpoints/run-SEED/step-NNNNNNNN.safetensors   one network for each evaluation
    checkpoints/run-SEED/latest.pt                   the network and optimiser to resume from
    checkpoints/run-SEED/stopped.json                why a run ended before its last step, if it did

Nothing is ever unpickled: networks are safetensors, and `latest.pt` is read with
``weights_only=True``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emergence_stats.errors import InputError, StorageError, disk_errors, first_line
from simulator.network.model import ParticleTransformer
from simulator.training.config import TrainingConfig, read_configuration

_STEP = re.compile(r"step-(\d+)\.safetensors")


def run_folder(output: str | os.PathLike[str], seed: int) -> Path:
    """Where one run's checkpoints are."""
    return Path(output) / "checkpoints" / f"run-{seed}"


def checkpoint_path(output: str | os.PathLike[str], seed: int, step: int) -> Path:
    """Where the network of one run at one step is.

    Examples
    --------
    >>> checkpoint_path("runs/demo", 0, 100).name
    'step-00000100.safetensors'
    """
    return run_folder(output, seed) / f"step-{step:08d}.safetensors"


def checkpoint_steps(output: str | os.PathLike[str], seed: int) -> list[int]:
    """At which steps a run's network was kept, in increasing order."""
    names = (path.name for path in run_folder(output, seed).glob("step-*.safetensors"))
    return sorted(int(found.group(1)) for name in names if (found := _STEP.fullmatch(name)))


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """Writes a network's parameters and buffers, complete or not at all."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(state, partial)
        os.replace(partial, path)


def load_checkpoint(
    output: str | os.PathLike[str],
    seed: int,
    step: int | None = None,
    *,
    config: TrainingConfig | None = None,
) -> ParticleTransformer:
    """The network a run had at a step, ready for evaluation.

    Parameters
    ----------
    output : path
        The folder `emergence train` wrote.
    seed : int
        Which run.
    step : int, optional
        The last one kept when left out.
    config : TrainingConfig, optional
        Read from the folder when left out.

    Raises
    ------
    StorageError
        If there is no such checkpoint (the kept steps are listed) or it is damaged.
    """
    config = config or read_configuration(Path(output) / "configuration.json")
    kept = checkpoint_steps(output, seed)
    if not kept:
        raise StorageError(
            f"{run_folder(output, seed)}: no checkpoints; train seed {seed} first, or give one of "
            f"the seeds {sorted(_seeds(output))}"
        )
    chosen = kept[-1] if step is None else step
    if chosen not in kept:
        close = min(kept, key=lambda one: abs(one - chosen))
        raise StorageError(
            f"{checkpoint_path(output, seed, chosen)}: no such checkpoint; the nearest of the "
            f"{len(kept)} kept is step {close}"
        )
    path = checkpoint_path(output, seed, chosen)
    model = build_model(config)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise StorageError(
            f"{path}: damaged or made by another configuration ({first_line(error)}); delete it "
            "and the latest.pt beside it and train again with the same arguments"
        ) from error
    return model.eval()


def build_model(config: TrainingConfig) -> ParticleTransformer:
    """The untrained network a configuration describes, drawn from torch's global generator."""
    return ParticleTransformer(
        dimension=config.dimension,
        width=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        expansion=config.expansion,
    )


def save_latest(path: Path, state: Mapping[str, Any]) -> None:
    """Writes what a run resumes from, complete or not at all."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(dict(state), partial)
        os.replace(partial, path)


def load_latest(path: Path) -> dict[str, Any] | None:
    """What a run resumes from, or None where it has not begun.

    Raises
    ------
    StorageError
        If the file cannot be read.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises several kinds for a torn or foreign file
        raise StorageError(
            f"{path}: cannot be read ({first_line(error)}); delete it and run the same command "
            "again to train this seed from the start"
        ) from error
    if not isinstance(state, dict) or "step" not in state:
        raise InputError(f"{path}: holds no training state; delete it and run the command again")
    return state


def to_device(state: Any, device: torch.device) -> Any:
    """A nested state with every tensor on `device`."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: to_device(value, device) for name, value in state.items()}
    if isinstance(state, list):
        return [to_device(value, device) for value in state]
    return state


def _seeds(output: str | os.PathLike[str]) -> list[int]:
    folders = (Path(output) / "checkpoints").glob("run-*")
    return [int(folder.name.removeprefix("run-")) for folder in folders if folder.is_dir()]
