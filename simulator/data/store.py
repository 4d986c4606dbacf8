"""The Zarr store of a data set of transitions.

What lives here: what the variables are, making or resuming a store, opening it with checks. What
does not: the data (`generation`).

The store is a Zarr v3 group that xarray can open. Its chunks hold whole systems and carry a
checksum each; the array ``complete`` says which have been written entirely, so that a run killed
at any moment goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from emergence_stats.errors import InputError, StorageError, disk_errors, first_line

FORMAT = 1

_STATE = ("sample", "particle", "axis")
# Dimensions, type, what it is, and its unit.
_LAYOUT = {
    "position": (_STATE, "float32", "position of the centre", "length"),
    "velocity": (_STATE, "float32", "velocity", "length / time"),
    "displacement": (_STATE, "float32", "displacement over the interval", "length"),
    "velocity_change": (
        _STATE, "float32", "velocity change over the interval", "length / time",
    ),
    "contact": (
        ("sample", "particle", "other"), "bool",
        "whether the two touched during the interval", "1",
    ),
    "wall_contact": (
        ("sample", "particle"), "bool",
        "whether the particle touched a wall during the interval", "1",
    ),
}  # fmt: skip
VARIABLES = {
    name: (dims, dtype, {"long_name": text, "units": units})
    for name, (dims, dtype, text, units) in _LAYOUT.items()
}


def open_transitions(path: str | os.PathLike[str], *, verify: bool = True) -> xr.Dataset:
    """Opens, lazily, what `generate_transitions` wrote.

    With `verify` every chunk is read once, one at a time, and its checksum compared. Without, only
    missing and unfinished chunks are noticed here, and damaged ones when they are read. What is
    missing, unfinished or damaged is a StorageError that names the chunk.
    """
    folder = Path(path)
    again = "run the command that made it again"
    if not folder.exists():
        raise StorageError(f"{folder}: there is no such data set; {again}")
    store = _open(folder)
    if store is None:
        raise StorageError(f"{folder}: not a data set of transitions; give another path")
    complete = stored_array(store, "complete")
    with disk_errors(folder):
        missing = np.flatnonzero(~np.asarray(complete[:], bool))
    if missing.size:
        raise StorageError(
            f"{folder}: {missing.size} of {complete.size} chunks are not written yet, the first "
            f"is chunk {missing[0]}; {again} to finish it"
        )
    samples = int(store.attrs["chunk_systems"]) * _parameters(store)["num_intervals"]
    for name in VARIABLES:
        values = stored_array(store, name)
        for number in range(complete.size):
            place = f"c/{number}" + "/0" * (values.ndim - 1)
            file = folder / name / place
            try:
                # A chunk that is not there would be read as zeros.
                if not file.is_file():
                    raise FileNotFoundError("the file is missing")
                if verify:
                    _ = values[number * samples : (number + 1) * samples]
            except Exception as error:
                raise StorageError(
                    f"{folder}: chunk {number} of {name} ({file}) is damaged "
                    f"({first_line(error)}); remove {folder} and {again}"
                ) from error
    with disk_errors(folder):
        data = xr.open_zarr(folder, chunks=None, consolidated=False)
    return data.drop_vars("complete").set_coords(["system", "interval_index"])


def create_or_resume(folder: Path, parameters: dict[str, Any], chunk_systems: int) -> zarr.Group:
    """The store in `folder`, which either is new or was made with the same parameters."""
    if folder.exists():
        store = _open(folder)
        if store is None:
            raise InputError(
                f"path: {folder} exists and is not a data set of transitions; give another path"
            )
        stored = _parameters(store)
        wanted = json.loads(json.dumps(parameters))
        differing = [
            f"{name}: {stored.get(name)} -> {wanted.get(name)}"
            for name in {**stored, **wanted}
            if stored.get(name) != wanted.get(name)
        ]
        if differing:
            raise InputError(
                f"path: {folder} holds data made with other parameters ({'; '.join(differing)}); "
                "give another path, or the stored values"
            )
        return store
    # Built aside and renamed, so that a store that exists is whole.
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    store = zarr.create_group(partial, zarr_format=3)
    store.attrs.update(_attributes(parameters) | {"chunk_systems": chunk_systems})
    samples = parameters["num_systems"] * parameters["num_intervals"]
    sizes = _sizes(parameters)
    for name, (dims, dtype, attributes) in VARIABLES.items():
        shape = tuple(sizes[dim] for dim in dims)
        store.create_array(
            name,
            shape=shape,
            chunks=(chunk_systems * parameters["num_intervals"], *shape[1:]),
            dtype=dtype,
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            # A chunk of zeros is written like any other: one without a file is a damaged one.
            config={"write_empty_chunks": True},
            dimension_names=dims,
            attributes=attributes,
        )
    for name, (dims, values) in _coordinates(parameters).items():
        store.create_array(name, data=np.asarray(values), dimension_names=dims, chunks=(samples,))
    store.create_array(
        "complete",
        shape=(-(-parameters["num_systems"] // chunk_systems),),
        chunks=(1,),
        dtype="bool",
        dimension_names=("chunk",),
    )
    os.rename(partial, folder)
    return zarr.open_group(folder, mode="r+")


def _open(folder: Path) -> zarr.Group | None:
    """The store, or None if `folder` holds something else."""
    try:
        store = zarr.open_group(folder, mode="r+", zarr_format=3)
    except Exception:
        return None
    return store if store.attrs.get("format") == FORMAT else None


def stored_array(store: zarr.Group, name: str) -> Any:
    """One array of the store; missing or unreadable metadata are a StorageError."""
    with disk_errors(f"{store.store_path}/{name}"):
        return store[name]


def _parameters(store: zarr.Group) -> dict[str, Any]:
    return json.loads(str(store.attrs["parameters"]))


def _attributes(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": "transitions of a particle system over a fixed interval",
        "format": FORMAT,
        "parameters": json.dumps(parameters),
        "seed": parameters["seed"],
        "interval": parameters["interval"],
    }


def _sizes(parameters: dict[str, Any]) -> dict[str, int]:
    return {
        "sample": parameters["num_systems"] * parameters["num_intervals"],
        "particle": parameters["num_particles"],
        "other": parameters["num_particles"],
        "axis": parameters["dimension"],
    }


def _coordinates(parameters: dict[str, Any]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    systems = np.arange(parameters["num_systems"], dtype=np.int64)
    intervals = np.arange(parameters["num_intervals"], dtype=np.int64)
    return {
        "system": (("sample",), np.repeat(systems, intervals.size)),
        "interval_index": (("sample",), np.tile(intervals, systems.size)),
    }


def label_transitions(values: dict[str, np.ndarray], parameters: dict[str, Any]) -> xr.Dataset:
    """The same data set in memory."""
    return xr.Dataset(
        {
            name: (dims, values[name], attributes)
            for name, (dims, _, attributes) in VARIABLES.items()
        },
        coords=_coordinates(parameters),
        attrs=_attributes(parameters),
    )
