"""The data contract: one labelled dataset of scores against training steps.

What lives here: building a curve from arrays, opening and checking a stored trajectory, laying out
a store that several runs fill at once, and appending to one. What does not: what the scores mean
(the simulator, or the user's own code) and what is inferred from them (`compare`, `onset`).

A trajectory is an `xarray.Dataset` with dimensions `run`, `step` and whatever else a score has
(`layer`, `head`, `distance`), stored as Zarr version 3. A single curve is a `DataArray` with a
`step` dimension; further dimensions mean further curves. Entries not yet measured are NaN.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import check_steps
from emergence_stats.data.counts import accuracy
from emergence_stats.errors import InputError, StorageError, disk_errors, first_line

# A chunk is rewritten whole, and atomically, at each new step; sixteen steps keep the number of
# files low without making that rewrite long.
STEPS_PER_CHUNK = 16


def curve(
    values: ArrayLike | xr.DataArray,
    step: ArrayLike | None = None,
    *,
    sd: ArrayLike | None = None,
    trials: ArrayLike | None = None,
    name: str | None = None,
) -> xr.DataArray:
    """Which numbers were measured at which training steps, as one checked and labelled curve.

    Parameters
    ----------
    values : array_like, shape (step,), or pandas.Series
        The score. NaN marks a missing measurement.
    step : array_like, shape (step,), optional
        Optimiser steps, strictly increasing, finite, not negative. Taken from the index of a
        Series when left out.
    sd : array_like, shape (step,) or (), optional
        Standard deviation of each measurement, positive, in the units of `values`.
    trials : array_like, shape (step,) or (), optional
        Out of how many: `values` then are numbers of successes, and the curve is the accuracy with
        its standard deviation, by Jeffreys' rule (`emergence_stats.data.counts.accuracy`).
    name : str, optional
        What the score is called in tables and figures.

    Returns
    -------
    xarray.DataArray
        Dimension `step`; a known `sd` is carried as a coordinate of that name.

    Raises
    ------
    InputError
        If shapes disagree, steps do not increase, a value is infinite, an sd is not positive or a
        number of successes is not a whole number from 0 to its trials.

    Examples
    --------
    >>> curve([0.1, 0.1, 0.4, 0.5], [0, 10, 100, 1000], name="accuracy").sizes
    Frozen({'step': 4})
    >>> curve([0, 2, 31, 64], [0, 10, 100, 1000], trials=64)["sd"].values.round(3)
    array([0.011, 0.024, 0.062, 0.011])
    """
    if step is None:
        index = getattr(values, "index", None)
        if index is None or callable(index):
            raise InputError("step: missing; give the training step of each value")
        step = np.asarray(index)
    given_name = getattr(values, "name", None)
    array = np.array(values, dtype=float)
    steps = np.array(step)
    if array.ndim != 1:
        raise InputError(
            f"values: shape {array.shape}; one curve has one dimension (build an xarray.DataArray "
            "with a 'step' dimension for several curves)"
        )
    if steps.shape != array.shape:
        raise InputError(f"step: shape {steps.shape} does not match values of shape {array.shape}")
    check_steps(steps)
    if np.isinf(array).any():
        first = int(np.flatnonzero(np.isinf(array))[0])
        raise InputError(f"values: infinite at index {first}; remove it or replace it by NaN")
    if trials is not None:
        if sd is not None:
            raise InputError("trials: the sd follows from them; give trials or sd, not both")
        try:
            number = np.broadcast_to(np.asarray(trials, dtype=float), array.shape)
        except ValueError:
            raise InputError(
                f"trials: shape {np.shape(trials)} does not match values of shape {array.shape}"
            ) from None
        array, sd = accuracy(array, number)
    result = xr.DataArray(
        array, dims="step", coords={"step": steps}, name=name or _text(given_name)
    )
    if sd is not None:
        spread = np.array(np.broadcast_to(np.asarray(sd, dtype=float), array.shape))
        bad = ~(np.isfinite(spread) & (spread > 0))
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"sd: {spread[first]} at index {first}; a standard deviation must be positive "
                "(leave sd out where it is unknown)"
            )
        result = result.assign_coords(sd=("step", spread))
    result["step"].attrs.update(long_name="optimiser step", units="steps")
    return result


def validate_trajectory(dataset: xr.Dataset) -> xr.Dataset:
    """Does this dataset keep the contract? Returns it unchanged, or says what is wrong.

    Raises
    ------
    InputError
        If there is no `step` dimension, its steps do not increase, or no variable runs along it.

    Examples
    --------
    >>> import xarray as xr
    >>> one = xr.Dataset({"loss": ("step", [1.0, 0.5])}, coords={"step": [0, 10]})
    >>> validate_trajectory(one) is one
    True
    """
    if "step" not in dataset.dims:
        raise InputError(
            f"trajectory: no 'step' dimension among {tuple(dataset.dims)}; rename the training "
            "axis to 'step'"
        )
    if "step" not in dataset.coords:
        raise InputError("trajectory: 'step' has no coordinate; assign the training steps to it")
    check_steps(dataset["step"].values)
    if not any("step" in variable.dims for variable in dataset.data_vars.values()):
        raise InputError("trajectory: no variable has the 'step' dimension")
    return dataset


def open_trajectory(path: str | os.PathLike[str], *, reached_only: bool = True) -> xr.Dataset:
    """What has been measured so far? Reads a stored trajectory, also while a run writes to it.

    Parameters
    ----------
    path : path
        A Zarr store, or a folder that holds one named `trajectory.zarr`.
    reached_only : bool
        Leave out the steps that no run has reached yet.

    Returns
    -------
    xarray.Dataset
        Loaded into memory, with the dimensions and variables of the contract.

    Raises
    ------
    StorageError
        If nothing is stored there, or a part of it is truncated or unreadable (it is named).
    InputError
        If what is stored does not keep the contract.

    Examples
    --------
    >>> import tempfile, xarray as xr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     one = xr.Dataset({"loss": ("step", [1.0, 0.5])}, coords={"step": [0, 10]})
    ...     append_trajectory(f"{folder}/trajectory.zarr", one)
    ...     open_trajectory(folder)["loss"].values
    array([1. , 0.5])
    """
    store = _locate(Path(path))
    try:
        lazy = xr.open_zarr(store, chunks=None, consolidated=False)
    except Exception as error:  # whatever the reader raises, the user needs the path and a way on
        raise StorageError(f"{store}: not a readable Zarr store ({first_line(error)})") from error
    dataset = lazy.copy()
    for variable in (*lazy.coords, *lazy.data_vars):
        try:
            dataset[variable] = lazy[variable].load()
        except Exception as error:
            raise StorageError(
                f"{store}: variable {variable!r} is damaged or truncated "
                f"({first_line(error)}); the other variables can be read with "
                f"xarray.open_zarr(...).drop_vars({variable!r}), and training again with the same "
                "arguments in a new folder writes it anew"
            ) from error
    validate_trajectory(dataset)
    if reached_only:
        dataset = dataset.isel(step=slice(0, _num_reached(dataset)))
    return dataset


def append_trajectory(path: str | os.PathLike[str], dataset: xr.Dataset) -> None:
    """Adds newly measured steps to a stored trajectory, creating it where there is none.

    Parameters
    ----------
    path : path
        The Zarr store.
    dataset : xarray.Dataset
        One or more steps later than all stored ones, with the stored variables.

    Raises
    ------
    InputError
        If the steps do not come after the stored ones, or the variables differ.
    StorageError
        If the disk is full or the store unreadable; what was stored stays.

    Examples
    --------
    >>> import tempfile, xarray as xr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step, loss in [(0, 1.0), (10, 0.5)]:
    ...         one = xr.Dataset({"loss": ("step", [loss])}, coords={"step": [step]})
    ...         append_trajectory(f"{folder}/trajectory.zarr", one)
    ...     open_trajectory(folder).sizes["step"]
    2
    """
    validate_trajectory(dataset)
    store = Path(path)
    if not store.exists():
        encoding = {
            str(name): {"chunks": _chunks(variable)}
            for name, variable in dataset.data_vars.items()
            if "step" in variable.dims
        }
        with disk_errors(store):
            dataset.to_zarr(store, mode="w-", zarr_format=3, encoding=encoding, consolidated=False)
        return
    stored = open_trajectory(store, reached_only=False)
    last = stored["step"].values[-1]
    if dataset["step"].values[0] <= last:
        raise InputError(
            f"step: {dataset['step'].values[0]} is not after the last stored step {last}; append "
            "later steps only"
        )
    if set(dataset.data_vars) != set(stored.data_vars):
        differing = sorted(map(str, set(dataset.data_vars) ^ set(stored.data_vars)))
        raise InputError(
            f"dataset: variables {differing} are in one of the new and the stored steps only"
        )
    along = [name for name, variable in dataset.variables.items() if "step" not in variable.dims]
    with disk_errors(store):
        dataset.drop_vars(along).to_zarr(
            store, append_dim="step", consolidated=False, align_chunks=True
        )


def create_trajectory(
    path: str | os.PathLike[str],
    *,
    coords: Mapping[str, ArrayLike],
    variables: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]],
    attrs: Mapping[str, Any],
) -> None:
    """Lays out a store whose steps are known beforehand, filled with NaN, for `write_step`.

    Several processes may then write at once, one a run, because no write changes the layout.

    Parameters
    ----------
    path : path
        Where the Zarr store is made; must not exist.
    coords : mapping of name to 1-D array
        Every dimension's labels; `run` and `step` among them.
    variables : mapping of name to (dimensions, attributes)
    attrs : mapping
        Attributes of the whole dataset.
    """
    sizes = {name: np.size(values) for name, values in coords.items()}
    dataset = xr.Dataset(
        {
            name: (
                dims,
                np.full([sizes[dim] for dim in dims], np.nan),
                dict(attributes),
            )
            for name, (dims, attributes) in variables.items()
        },
        coords={name: np.asarray(values) for name, values in coords.items()},
        attrs=dict(attrs),
    )
    dataset["step"].attrs.update(long_name="optimiser step", units="steps")
    validate_trajectory(dataset)
    encoding = {
        str(name): {"chunks": _chunks(variable)} for name, variable in dataset.data_vars.items()
    }
    # Written beside its final place and moved there, so that a kill leaves no half-made store.
    final = Path(path)
    partial = final.with_name(f".{final.name}.partial")
    with disk_errors(final):
        dataset.to_zarr(partial, mode="w", zarr_format=3, encoding=encoding, consolidated=False)
        os.replace(partial, final)


def write_step(
    path: str | os.PathLike[str],
    *,
    run_index: int,
    step_index: int,
    values: Mapping[str, ArrayLike],
) -> None:
    """Writes what one run measured at one step into a store made by `create_trajectory`.

    Each chunk is replaced atomically, so a reader or a kill never meets a torn one.

    Raises
    ------
    StorageError
        If the disk is full or a chunk damaged; what was stored stays.
    """
    import zarr

    with disk_errors(Path(path)):
        group = zarr.open_group(str(path), mode="r+")
        for name, value in values.items():
            group[name][run_index, step_index] = np.asarray(value, dtype=float)


def _chunks(variable: xr.DataArray) -> tuple[int, ...]:
    size = {"run": 1, "step": STEPS_PER_CHUNK}
    return tuple(size.get(str(dim), length) for dim, length in variable.sizes.items())


def _num_reached(dataset: xr.Dataset) -> int:
    reached = np.zeros(dataset.sizes["step"], dtype=bool)
    for variable in dataset.data_vars.values():
        if "step" in variable.dims and np.issubdtype(variable.dtype, np.floating):
            others: list[Hashable] = [dim for dim in variable.dims if dim != "step"]
            reached |= variable.notnull().any(others).values
        elif "step" in variable.dims:
            reached[:] = True
    return int(np.flatnonzero(reached)[-1]) + 1 if reached.any() else 0


def _locate(path: Path) -> Path:
    for candidate in (path / "trajectory.zarr", path):
        if (candidate / "zarr.json").exists():
            return candidate
    if not path.exists():
        raise StorageError(f"{path}: no such folder; give the path of a trajectory.zarr")
    raise StorageError(f"{path}: holds no trajectory (no zarr.json there or in trajectory.zarr)")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
