"""A run's networks on disk.

What lives here: writing and reading checkpoints and the state a run resumes from. What does not:
when they are written (`loop`), the other files of a folder (`folder`).

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
from torch import nn

from emergence_stats.errors import StorageError, first_line
from simulator.network.model import ParticleTransformer
from simulator.training.config import TrainingConfig, read_configuration
from simulator.training.files import replace_file

_STEP = re.compile(r"step-(\d+)\.safetensors")


def run_folder(output: str | os.PathLike[str], seed: int) -> Path:
    """Where one run's checkpoints are."""
    return Path(output) / "checkpoints" / f"run-{seed}"


def checkpoint_path(output: str | os.PathLike[str], seed: int, step: int) -> Path:
    """Where the network of one run at one step is."""
    return run_folder(output, seed) / f"step-{step:08d}.safetensors"


def checkpoint_steps(output: str | os.PathLike[str], seed: int) -> list[int]:
    """At which steps a run's network was kept, in increasing order."""
    names = (path.name for path in run_folder(output, seed).glob("step-*.safetensors"))
    return sorted(int(found.group(1)) for name in names if (found := _STEP.fullmatch(name)))


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """Writes a network's parameters and buffers, complete or not at all."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replace_file(path) as partial:
        save_file(state, partial)


def load_checkpoint(
    output: str | os.PathLike[str],
    seed: int,
    step: int | None = None,
    *,
    config: TrainingConfig | None = None,
) -> ParticleTransformer:
    """The network a run had at a step, by default the last one kept, ready for evaluation.

    Raises
    ------
    StorageError
        If there is no such checkpoint (the nearest is named) or it is damaged.
    """
    config = config or read_configuration(Path(output) / "configuration.json")
    kept = checkpoint_steps(output, seed)
    if not kept:
        raise StorageError(
            f"{run_folder(output, seed)}: no checkpoints; train seed {seed} first, or give one of "
            f"the seeds {[one for one in config.seeds if checkpoint_steps(output, one)]}"
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
    with replace_file(path) as partial:
        torch.save(dict(state), partial)


def load_latest(path: Path) -> dict[str, Any] | None:
    """What a run resumes from, or None where it has not begun."""
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
        raise StorageError(f"{path}: holds no training state; delete it and run the command again")
    return state
