"""Where the results of a sweep are kept while they come in, and how a stopped one is taken up.

What lives here: the layout of the dataset, its Zarr store, and the comparison of what is asked with
what is stored. What does not: the estimates and how they are run (`sweep`).

A store is written by one process at a time. The numbers of an estimate are written first and its
verdict last, each chunk by an atomic replacement, so an estimate whose verdict is missing is not
there, wherever the writer was stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.data.trajectory import STEPS_PER_CHUNK
from emergence_stats.degeneracy.sweep.checkpoints import Checkpoint
from emergence_stats.errors import InputError, StorageError, disk_errors, first_line

# name: (long name, units)
NUMBERS = {
    "llc": ("local learning coefficient", "1"),
    "llc_standard_error": ("Monte Carlo standard error of the local learning coefficient", "1"),
    "effective_draws": ("effective number of draws", "1"),
    "rhat": ("rank-normalised split R-hat of the chains", "1"),
    "drift_in_standard_errors": ("second half of the draws less the first, in its errors", "1"),
    "initial_loss": ("loss at the checkpoint, over all samples", "loss"),
    "num_parameters": ("parameters that move", "1"),
    "step_size": ("step size of the sampler", "1"),
    "num_draws": ("draws recorded in each chain", "1"),
    "num_burnin": ("draws discarded at the start", "1"),
    "step_correction": ("subtracted for the finite step and minibatch noise", "1"),
    "minibatch_noise_share_of_variance": ("share of the trace's variance from minibatches", "1"),
    "acceptance": ("share of proposals accepted (MALA)", "1"),
    "localisation": ("gamma, the pull towards the checkpoint", "1 / parameter^2"),
    "inverse_temperature": ("beta", "1"),
}
# `verdict` stays last: it says that the others are there.
WORDS = {
    "checkpoint_digest": "fingerprint of the checkpoint's content",
    "reasons": "why the verdict is not 'reliable', in words",
    "verdict": "whether to believe the estimate; empty where none was made",
}


def empty_layout(
    checkpoints: Sequence[Checkpoint], parts: Sequence[str], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """A dataset for these checkpoints and parts in which nothing is estimated yet."""
    coords: dict[str, Any] = {
        "step": np.array(sorted({one.step for one in checkpoints})),
        "part": np.array(list(parts), dtype=object),
    }
    dims: tuple[str, ...] = ("step", "part")
    if checkpoints[0].run is not None:
        coords = {"run": np.array(sorted({one.run for one in checkpoints})), **coords}  # type: ignore[type-var]
        dims = ("run", *dims)
    shape = tuple(len(coords[dim]) for dim in dims)
    variables: dict[str, Any] = {
        name: (dims, np.full(shape, np.nan), {"long_name": text, "units": units})
        for name, (text, units) in NUMBERS.items()
    }
    for name, text in WORDS.items():
        variables[name] = (dims, np.full(shape, "", dtype=object), {"long_name": text})
    dataset = xr.Dataset(variables, coords=coords, attrs=dict(attrs))
    dataset["step"].attrs.update(long_name="optimiser step", units="steps")
    dataset["part"].attrs.update(long_name="which parameters move")
    if "run" in dataset.coords:
        dataset["run"].attrs.update(long_name="training run (its seed)")
    return dataset


class SweepStore:
    """The dataset of a sweep, in memory and, where a path is given, on disk.

    Parameters
    ----------
    path : Path or None
    layout : xarray.Dataset
        What `empty_layout` made of the checkpoints and parts now asked for.

    Attributes
    ----------
    dataset : xarray.Dataset
        Everything estimated so far, for what was asked for now or before.
    """

    def __init__(self, path: Path | None, layout: xr.Dataset) -> None:
        self._path = path
        self.dataset = layout
        if path is None:
            return
        stored = read_store(path)
        if stored is None:
            _replace(path, layout)
            return
        if set(stored.dims) != set(layout.dims):
            raise InputError(
                f"output: {path} holds a sweep {'over' if 'run' in stored.dims else 'without'} "
                "runs; give another path"
            )
        wanted = {
            dim: np.union1d(stored[dim].values, layout[dim].values)
            for dim in layout.dims
            if dim != "part"
        }
        before = list(map(str, stored["part"].values))
        added = [name for name in map(str, layout["part"].values) if name not in before]
        wanted["part"] = np.array([*before, *added], dtype=object)
        if all(len(wanted[dim]) == stored.sizes[dim] for dim in wanted):
            self.dataset = stored
            return
        fill: dict[Any, Any] = {**dict.fromkeys(WORDS, ""), **dict.fromkeys(NUMBERS, np.nan)}
        # Text that is added must not be cut to the length of what is there, so it stays objects.
        grown = stored.reindex(wanted, fill_value=fill)
        for name in WORDS:
            grown[name] = grown[name].astype(object)
        self.dataset = grown.assign_coords(part=wanted["part"])
        self.dataset["part"].attrs.update(stored["part"].attrs)
        _replace(path, self.dataset)

    def verdict(self, checkpoint: Checkpoint, part: str) -> str:
        """What is stored for this estimate; empty where it has not been made."""
        return str(self.dataset["verdict"].values[self._place(checkpoint, part)])

    def digest(self, checkpoint: Checkpoint, part: str) -> str:
        """Fingerprint of the checkpoint that the stored estimate was made of."""
        return str(self.dataset["checkpoint_digest"].values[self._place(checkpoint, part)])

    def record(self, checkpoint: Checkpoint, part: str, values: Mapping[str, Any]) -> None:
        """Keeps one estimate, in memory and on disk."""
        place = self._place(checkpoint, part)
        group = None
        if self._path is not None:
            import zarr

            with disk_errors(self._path):
                group = zarr.open_group(str(self._path), mode="r+")
        for name in (*NUMBERS, *WORDS):
            self.dataset[name].values[place] = values[name]
            if group is not None and self._path is not None:
                with disk_errors(self._path):
                    group[name][place] = values[name]

    def result(self, layout: xr.Dataset) -> xr.Dataset:
        """The part of the dataset that was asked for, words as fixed-width text."""
        wanted = {dim: layout[dim].values for dim in layout.dims}
        chosen = self.dataset.assign_coords(part=self.dataset["part"].values.astype(str))
        chosen["part"].attrs.update(layout["part"].attrs)
        chosen = chosen.sel({**wanted, "part": wanted["part"].astype(str)}).copy(deep=True)
        for name in WORDS:
            chosen[name] = chosen[name].astype(str).assign_attrs(layout[name].attrs)
        return chosen

    def _place(self, checkpoint: Checkpoint, part: str) -> tuple[int, ...]:
        label = {"run": checkpoint.run, "step": checkpoint.step, "part": part}
        place = [
            int(np.flatnonzero(self.dataset[dim].values == label[dim])[0])
            for dim in ("run", "step", "part")
            if dim in self.dataset.dims
        ]
        return tuple(place)


def read_store(path: Path) -> xr.Dataset | None:
    """What an earlier call left at this place, or None.

    Raises
    ------
    StorageError
        If something else is there, or it cannot be read.
    """
    backup = _backup(path)
    if not path.exists() and backup.exists():
        os.replace(backup, path)  # stopped between the two renamings of `_replace`
    if not path.exists():
        return None
    try:
        dataset = xr.open_zarr(path, chunks=None, consolidated=False).load()
    except Exception as error:  # whatever the reader raises, the user needs the path and a way on
        raise StorageError(
            f"{path}: not a readable Zarr store ({first_line(error)}); give another output, or "
            "move it away and run the same call again"
        ) from error
    if "settings" not in dataset.attrs or not {*NUMBERS, *WORDS} <= set(dataset.variables):
        raise StorageError(f"{path}: holds something other than a sweep; give another output")
    for name in (*WORDS, "part"):
        dataset[name] = dataset[name].astype(object)
    return dataset


def refuse_differences(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises unless the settings of a stored sweep are those now asked for.

    Parts that only one of the two names are no difference; a part of another meaning is.
    """
    differing = []
    for name in sorted({*stored, *asked} - {"parts"}):
        before, now = stored.get(name, "not given"), asked.get(name, "not given")
        if before != now:
            differing.append(f"{name} was {_shown(before)} and is now {_shown(now)}")
    before_parts, now_parts = stored["parts"], asked["parts"]
    differing += [
        f"part {name!r} was {_shown(before_parts[name])} and is now {_shown(now_parts[name])}"
        for name in before_parts
        if name in now_parts and before_parts[name] != now_parts[name]
    ]
    if differing:
        raise InputError(
            f"output: {path} holds a sweep with other settings: {'; '.join(differing)}. Estimates "
            "made with different settings cannot be compared; repeat the call as it was, or give "
            "another output"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}..."


def _backup(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


def _replace(path: Path, dataset: xr.Dataset) -> None:
    """Writes a store beside its final place and moves it there."""
    chunk = {"run": 1, "step": STEPS_PER_CHUNK}
    encoding: dict[str, Any] = {
        str(name): {"chunks": tuple(chunk.get(str(dim), dataset.sizes[dim]) for dim in value.dims)}
        for name, value in dataset.data_vars.items()
    }
    # What was read remembers how it was encoded, which no longer fits.
    fresh = dataset.drop_encoding()
    partial = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.to_zarr(partial, mode="w", zarr_format=3, encoding=encoding, consolidated=False)
        backup = _backup(path)
        if path.exists():
            shutil.rmtree(backup, ignore_errors=True)
            os.replace(path, backup)
        os.replace(partial, path)
        shutil.rmtree(backup, ignore_errors=True)
