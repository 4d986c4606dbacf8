"""Checkpoints on disk: which there are, and putting one into a model.

What lives here: finding the checkpoints of a run by their names, and matching names of tensors to a
model's. What does not: reading files (`state_files`), and what is computed from them (`sweep`).
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from emergence_stats.degeneracy.sweep.state_files import named_tensors
from emergence_stats.errors import InputError, StorageError

_STEP = re.compile(r"(?:step|checkpoint|ckpt|global_step)[-_]?(\d+)")
_RUN = re.compile(r"run-(\d+)")
_FILE_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# What wraps a model put into: DistributedDataParallel, torch.compile, Lightning and the like.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_LISTED = 3


class Checkpoint(NamedTuple):
    """One network of one run.

    Attributes
    ----------
    run : int or None
        The training run (its seed); None where there is only one and it has no name.
    step : int
        Optimiser steps.
    source : path, or mapping of str to Tensor
        Where it is read from.
    """

    run: int | None
    step: int
    source: Path | Mapping[str, Tensor]

    def __str__(self) -> str:
        where = f"step {self.step}" if self.run is None else f"step {self.step} of run {self.run}"
        return f"{where} ({self.source})" if isinstance(self.source, Path) else where


def find_checkpoints(checkpoints: Any, seeds: Sequence[int] | None = None) -> list[Checkpoint]:
    """Which checkpoints are meant, by run and then step?

    Parameters
    ----------
    checkpoints : path, mapping or sequence of paths
        - a folder: one that holds `checkpoints/run-SEED/step-NNNNNNNN.safetensors`, or its
          `checkpoints`, or one folder of steps. A step is a file (safetensors, or of `torch.save`)
          or a Hugging Face-style folder, named `step-N`, `checkpoint-N` or `ckpt-N`;
        - a mapping of step to path or state dict, or of run to such a mapping;
        - a list of paths so named.
    seeds : sequence of int, optional
        Which runs to take; all when left out.

    Raises
    ------
    InputError
        If a step cannot be read from a name, occurs twice, or a run is not there.
    StorageError
        If a folder does not exist or holds no checkpoint.

    Examples
    --------
    >>> [one.step for one in find_checkpoints(["late/step-900.pt", "early/step-100.pt"])]
    [100, 900]
    """
    if isinstance(checkpoints, str | os.PathLike):
        found = _in_folder(Path(checkpoints))
    elif isinstance(checkpoints, Mapping):
        found = _in_mapping(checkpoints)
    elif isinstance(checkpoints, Sequence):
        found = [Checkpoint(None, step, source) for step, source in map(_from_name, checkpoints)]
    else:
        raise InputError(
            f"checkpoints: got {type(checkpoints).__name__}; give a folder, a mapping of step to "
            "path or state dict, or a list of paths"
        )
    if not found:
        raise InputError("checkpoints: none given; name at least one")
    if seeds is not None:
        runs = {one.run for one in found}
        absent = [seed for seed in seeds if seed not in runs]
        if absent or not list(seeds):
            there = sorted(run for run in runs if run is not None)
            raise InputError(
                f"seeds: {absent or list(seeds)} of no run; "
                + (f"the runs are {there}" if there else "these checkpoints have no run")
            )
        found = [one for one in found if one.run in set(seeds)]
    found.sort(key=lambda one: (-1 if one.run is None else one.run, one.step))
    for before, after in itertools.pairwise(found):
        if (before.run, before.step) == (after.run, after.step):
            raise InputError(
                f"checkpoints: step {after.step} is given twice ({before} and {after}); keep one"
            )
    return found


def load_into(model: nn.Module, state: Mapping[str, Tensor], *, name: str = "checkpoint") -> str:
    """Puts a checkpoint's tensors into the model, in place, names matched knowingly.

    A prefix that wrappers add (`module.`, `_orig_mod.`, `model.`) is stripped, from every name or
    from none, when that makes the names match. A tied weight may be stored under one of its names.

    Parameters
    ----------
    model : nn.Module
    state : mapping of str to Tensor
    name : str
        What the error calls the checkpoint.

    Returns
    -------
    str
        The prefix that was stripped or added (a leading "+"), or nothing.

    Raises
    ------
    InputError
        If names or shapes differ; the first few of each are listed, and the likely mend.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> load_into(model, {f"module.{key}": value for key, value in model.state_dict().items()})
    'module.'
    >>> load_into(model, {"weight": torch.zeros(1, 2)})
    Traceback (most recent call last):
        ...
    emergence_stats.errors.InputError: checkpoint: names differ from the model's: missing 'bias'...
    """
    own = model.state_dict()
    chosen, prefix = _match(own, dict(state))
    missing = [key for key in own if key not in chosen and not _tied_to_one_given(own, key, chosen)]
    unexpected = [key for key in chosen if key not in own]
    if missing or unexpected:
        parts = [
            f"{what} {', '.join(map(repr, keys[:_LISTED]))}"
            + (f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else "")
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise InputError(
            f"{name}: names differ from the model's: {'; '.join(parts)}"
            f"{_likely_mend(missing, unexpected)}"
        )
    wrong = [key for key, value in chosen.items() if value.shape != own[key].shape]
    if wrong:
        listed = ", ".join(
            f"{key!r} is {tuple(chosen[key].shape)} and in the model {tuple(own[key].shape)}"
            for key in wrong[:_LISTED]
        )
        raise InputError(
            f"{name}: {len(wrong)} shapes differ: {listed}; build the model with the sizes it was "
            "trained with"
        )
    with torch.no_grad():
        model.load_state_dict(chosen, strict=False)
    return prefix


# ------------------------------------------------------------------------------------- finding


def _in_folder(folder: Path) -> list[Checkpoint]:
    if folder.is_file():
        raise InputError(
            f"checkpoints: {folder} is one file; give [path] where its name holds the step, or "
            "{step: path}"
        )
    if not folder.is_dir():
        raise StorageError(f"{folder}: no such folder; give the one that holds the checkpoints")
    if (folder / "checkpoints").is_dir():
        folder = folder / "checkpoints"
    runs = [
        (int(match.group(1)), path)
        for path in folder.iterdir()
        if path.is_dir() and (match := _RUN.fullmatch(path.name))
    ]
    if runs:
        found = [
            Checkpoint(run, step, path) for run, inner in runs for step, path in _steps_in(inner)
        ]
    else:
        found = [Checkpoint(None, step, path) for step, path in _steps_in(folder)]
    if not found:
        raise StorageError(
            f"{folder}: holds no checkpoint; files or folders named step-N or checkpoint-N were "
            f"looked for, there and in run-SEED ({', '.join(_FILE_SUFFIXES)}); where names are "
            "others, give a mapping {step: path}"
        )
    return found


def _steps_in(folder: Path) -> list[tuple[int, Path]]:
    return [
        (step, path)
        for path in folder.iterdir()
        if (path.is_dir() or path.suffix in _FILE_SUFFIXES) and (step := _step_of(path)) is not None
    ]


def _step_of(path: Path) -> int | None:
    name = path.stem if path.suffix in _FILE_SUFFIXES else path.name
    match = _STEP.fullmatch(name)
    return int(match.group(1)) if match else None


def _from_name(source: Any) -> tuple[int, Path]:
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"checkpoints: a list holds a {type(source).__name__}; a list is of paths, and state "
            "dicts need their steps: give a mapping {step: state_dict}"
        )
    path = Path(source)
    step = _step_of(path)
    if step is None:
        raise InputError(
            f"checkpoints: no step in the name {path.name!r} (step-N or checkpoint-N); give a "
            "mapping {step: path}"
        )
    return step, path


def _in_mapping(checkpoints: Mapping[Any, Any]) -> list[Checkpoint]:
    by_run = bool(checkpoints) and all(
        isinstance(value, Mapping) and all(_is_whole(key) for key in value)
        for value in checkpoints.values()
    )
    found = []
    for key, value in checkpoints.items():
        if not _is_whole(key) or key < 0:
            raise InputError(
                f"checkpoints: {key!r} is no {'run' if by_run else 'step'}; the keys of the "
                "mapping are whole numbers of zero or more"
            )
        if by_run:
            found += [Checkpoint(int(key), one.step, one.source) for one in _in_mapping(value)]
        elif isinstance(value, str | os.PathLike):
            found.append(Checkpoint(None, int(key), Path(value)))
        elif isinstance(value, Mapping):
            found.append(Checkpoint(None, int(key), named_tensors(value, f"step {key}")))
        elif isinstance(value, nn.Module):
            found.append(Checkpoint(None, int(key), value.state_dict()))
        else:
            raise InputError(
                f"checkpoints: step {key} is a {type(value).__name__}; give a path or a state dict"
            )
    return found


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool | Tensor)


# ------------------------------------------------------------------------------------ matching


def _match(own: Mapping[str, Tensor], state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The state under the names that fit best: as it is, a prefix stripped, or one added."""
    if any(key in own for key in state):
        return state, ""
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            inner = {key.removeprefix(prefix): value for key, value in state.items()}
            chosen, more = _match(own, inner)
            if any(key in own for key in chosen):
                return chosen, prefix + more
        if all(key.startswith(prefix) for key in own):
            outer = {prefix + key: value for key, value in state.items()}
            if any(key in own for key in outer):
                return outer, f"+{prefix}"
    return state, ""


def _tied_to_one_given(own: Mapping[str, Tensor], key: str, given: Mapping[str, Tensor]) -> bool:
    tensor = own[key]
    return tensor.numel() > 0 and any(
        other in given
        and own[other].data_ptr() == tensor.data_ptr()
        and own[other].shape == tensor.shape
        for other in own
        if other != key
    )


def _likely_mend(missing: list[str], unexpected: list[str]) -> str:
    if missing and unexpected:
        first = missing[0]
        for key in unexpected:
            if key.endswith(f".{first}"):
                return f"; they seem to be under the prefix {key.removesuffix(first)!r}: strip it"
            if first.endswith(f".{key}"):
                return f"; they seem to lack the prefix {first.removesuffix(key)!r}: add it"
        close = difflib.get_close_matches(unexpected[0], missing, n=1, cutoff=0.5)
        if close:
            return f"; {unexpected[0]!r} was probably meant to be {close[0]!r}: rename it"
    return "; build the model as it was when the checkpoint was saved"
