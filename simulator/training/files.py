"""Files that are whole or not there.

What lives here: writing a file aside and renaming it, and datasets kept with a key that says what
they were computed for. What does not: which files a folder has (`folder`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import xarray as xr

from emergence_stats.errors import StorageError, disk_errors, first_line


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Where to write so that `path`, whose folder is made, is complete or as it was before."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        yield partial
        os.replace(partial, path)


def keep_dataset(dataset: xr.Dataset, path: Path, key: str) -> None:
    """Writes a dataset as NetCDF, with the key `read_dataset` will ask for."""
    with replace_file(path) as partial:
        stored = dataset.assign_attrs(computed_for=key)
        stored.to_netcdf(partial, engine="h5netcdf", invalid_netcdf=True)


def read_dataset(path: Path) -> tuple[xr.Dataset, str]:
    """A dataset that was kept, and its key.

    Raises
    ------
    StorageError
        If the file is damaged.
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf") as stored:
            dataset = stored.load()
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: damaged ({first_line(error)}); delete it and run the same command again"
        ) from error
    return dataset, str(dataset.attrs.get("computed_for", ""))
