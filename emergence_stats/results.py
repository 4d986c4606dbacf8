"""What results have in common: selecting curves by label, and netCDF.

What lives here: reading, writing and selecting labelled results. What does not: any statistics.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.errors import InputError, StorageError, disk_errors, first_line


def select_one(
    dataset: xr.Dataset, dims: Sequence[str], selection: Mapping[str, Any]
) -> xr.Dataset:
    """One curve of a result, by label."""
    chosen = select(dataset, dims, selection)
    left = [dim for dim in dims if dim in chosen.dims]
    if any(chosen.sizes[dim] > 1 for dim in left):
        example = ", ".join(f"{dim}={chosen[dim].values[0]!r}" for dim in left)
        raise InputError(f"choose one curve to plot, for example .plot({example})")
    return chosen.isel(dict.fromkeys(left, 0))


def select(dataset: xr.Dataset, dims: Sequence[str], selection: Mapping[str, Any]) -> xr.Dataset:
    """Curves of a result, by label."""
    for name in selection:
        if name not in dims:
            raise InputError(f"{name}: not a dimension of these curves, which have {list(dims)}")
    try:
        return dataset.sel(selection)
    except KeyError as error:
        raise InputError(f"selection {dict(selection)}: no such curve ({error})") from None


def save(dataset: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a result as netCDF."""
    with disk_errors(Path(path)):
        dataset.to_netcdf(path, engine="h5netcdf")


def load(path: str | os.PathLike[str], kind: str) -> xr.Dataset:
    """Reads a result of this kind back, exactly as it was written."""
    if not Path(path).exists():
        raise StorageError(f"{os.fspath(path)}: no such file; give the path of a saved {kind}")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as stored:
            dataset = stored.load()
    except Exception as error:
        raise StorageError(
            f"{os.fspath(path)}: not a readable netCDF file ({first_line(error)})"
        ) from error
    if dataset.attrs.get("kind") != kind:
        raise StorageError(
            f"{os.fspath(path)}: holds {dataset.attrs.get('kind', 'something else')!r}, not a "
            f"{kind!r}"
        )
    for name, variable in dataset.variables.items():
        if variable.dtype == object or variable.dtype.kind == "T":
            text = np.asarray(variable.values).astype(str)
            dataset = (
                dataset.assign_coords({name: (variable.dims, text, variable.attrs)})
                if (name in dataset.coords)
                else dataset.assign({name: (variable.dims, text, variable.attrs)})
            )
        dataset[name].encoding = {}
    dataset.encoding = {}
    return dataset
