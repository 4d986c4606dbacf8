"""What a checkpoint holds: named tensors, from safetensors, `torch.save` or a folder.

What lives here: reading them, and a fingerprint of the content. What does not: which checkpoints
there are, and putting one into a model (`checkpoints`).

Nothing is ever unpickled that could run code: files of `torch.save` are read with
``weights_only=True``, and one that asks for more is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emergence_stats.errors import InputError, StorageError, first_line

# Under what training loops keep the network when they save more beside it.
_NESTS = ("state_dict", "model_state_dict", "model")
_FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def read_state(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which tensors does a checkpoint hold, by name?

    Parameters
    ----------
    source : path, or mapping of str to Tensor
        A safetensors file, a file of `torch.save`, or a Hugging Face-style folder
        (`model.safetensors` or `pytorch_model.bin`, whole or in shards with an index). Where
        training loops keep the network inside `state_dict`, `model_state_dict` or `model`, it is
        taken from there.

    Raises
    ------
    InputError
        If it holds something other than named tensors, or is a pickle that would run code.
    StorageError
        If it is missing or damaged.
    """
    if isinstance(source, Mapping):
        return named_tensors(source, "checkpoint")
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise StorageError(f"{path}: no such checkpoint; check the path")
    return _read_file(path)


def content_digest(source: Path | Mapping[str, Tensor]) -> str:
    """A fingerprint of what the checkpoint holds, to notice that it was replaced."""
    digest = hashlib.sha256()
    if isinstance(source, Mapping):
        for key, value in sorted(source.items()):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]
    files = sorted(_model_files(source)) if source.is_dir() else [source]
    for path in files:
        try:
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({first_line(error)})") from error
    return digest.hexdigest()[:16]


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise StorageError(
                f"{path}: damaged or not safetensors ({first_line(error)}); copy it anew"
            ) from error
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|global|class|type) ([\w.]+\.[\w.]+)", str(error))
        if asked is None and "Weights only load failed" not in str(error):
            raise StorageError(f"{path}: damaged ({first_line(error)}); copy it anew") from error
        what = f"it asks for {asked.group(1)}" if asked else "it holds more than tensors"
        raise InputError(
            f"{path}: refused, because reading this pickle could run code ({what}); save the "
            "tensors alone, torch.save(model.state_dict(), path), or as safetensors"
        ) from error
    except Exception as error:  # torch raises several kinds for a torn or foreign file
        raise StorageError(f"{path}: damaged ({first_line(error)}); copy it anew") from error
    return named_tensors(loaded, str(path))


def _out_of_nest(loaded: Any) -> Any:
    """The network of what a training loop saved, if that is a mapping with more beside it."""
    if isinstance(loaded, Mapping):
        for nest in _NESTS:
            if isinstance(loaded.get(nest), Mapping):
                return loaded[nest]
    return loaded


def _read_folder(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in _model_files(folder):
        if not path.exists():
            raise StorageError(f"{path}: missing, though the index names it; copy it anew")
        state.update(_read_file(path))
    return state


def _model_files(folder: Path) -> list[Path]:
    for name in _FOLDER_FILES:
        path = folder / name
        if not path.exists():
            continue
        if path.suffix != ".json":
            return [path]
        try:
            shards = set(json.loads(path.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise StorageError(f"{path}: damaged ({first_line(error)}); copy it anew") from error
        outside = [shard for shard in shards if Path(shard).name != shard]
        if outside:
            raise InputError(f"{path}: names {outside[0]!r}, which lies outside its folder")
        return [folder / shard for shard in sorted(shards)]
    raise StorageError(f"{folder}: holds no model; one of {', '.join(_FOLDER_FILES)} is needed")


def named_tensors(state: Any, name: str) -> dict[str, Tensor]:
    """The mapping, if tensors by name are what it holds; `name` is what the error calls it."""
    state = _out_of_nest(state)
    if not isinstance(state, Mapping) or not state:
        raise InputError(
            f"{name}: holds {'nothing' if state == {} else f'a {type(state).__name__}'} where "
            "named tensors were expected; save model.state_dict()"
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{name}: {key!r} is a {type(value).__name__} where a tensor was expected; save "
                f"model.state_dict(), by itself or under one of {', '.join(_NESTS)}"
            )
    return {key: value.detach() for key, value in state.items()}
