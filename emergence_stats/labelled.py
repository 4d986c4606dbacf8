"""Between labelled curves and plain arrays, and results to and from disk.

What lives here: checking a DataArray of curves and laying it out for the array core, giving results
their dimensions back, the settings `compare` and `detect_onset` share, netCDF. What does not: any
statistics.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.errors import InputError, StorageError, disk_errors, first_line, nearest
from emergence_stats.evidence import CurveArrays
from emergence_stats.families import Family

Array = np.ndarray

MIN_POINTS = 8
NOISES = ("ar1", "independent", "ou", "ou_log")
STEP_PRIORS = ("log", "linear")


@dataclass(frozen=True)
class Labels:
    """What is needed to give numbers per curve their names back."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: dict[Hashable, Any]
    observed: xr.DataArray

    def fold(
        self, values: Array, dims: Sequence[str] = (), attrs: Mapping[str, str] | None = None
    ) -> tuple[tuple[str, ...], Array, dict[str, str]]:
        """(curve, ...) to (run, head, ..., dims), as xarray takes it."""
        folded = np.asarray(values).reshape(self.shape + values.shape[1:])
        return (*self.dims, *dims), folded, dict(attrs or {})

    def name(self, curve: int) -> str:
        """Which curve this is, for a message."""
        if not self.dims:
            return "the curve"
        where = np.unravel_index(curve, self.shape)
        parts = []
        for dim, index in zip(self.dims, where, strict=True):
            label = self.coords[dim].values[index] if dim in self.coords else int(index)
            parts.append(f"{dim}={label}")
        return "curve " + ", ".join(parts)


def gather(
    curves: xr.DataArray, value_range: tuple[float, float] | None = None
) -> tuple[CurveArrays, Labels]:
    """Checks curves and lays them out one a row, NaN points dropped curve by curve.

    Raises
    ------
    InputError
        If there is no usable `step`, a value is infinite, an sd is not positive, or a curve has
        fewer than eight points.
    """
    if not isinstance(curves, xr.DataArray):
        raise InputError(
            f"curves: got {type(curves).__name__}; give an xarray.DataArray with a 'step' "
            "dimension, such as es.curve(values, step) makes"
        )
    if "step" not in curves.dims:
        raise InputError(
            f"curves: no 'step' dimension among {tuple(map(str, curves.dims))}; rename the "
            "training axis to 'step'"
        )
    if "step" not in curves.coords:
        raise InputError("curves: 'step' has no coordinate; assign the training steps to it")
    if curves.size == 0:
        raise InputError(f"curves: empty, with sizes {dict(curves.sizes)}")
    step = _checked_steps(curves["step"].values)
    ordered = curves.transpose(..., "step")
    dims = tuple(str(dim) for dim in ordered.dims[:-1])
    shape = ordered.shape[:-1]
    if not (np.issubdtype(ordered.dtype, np.number) or ordered.dtype == bool):
        raise InputError(f"curves: values of type {ordered.dtype}; scores are real numbers")
    if np.issubdtype(ordered.dtype, np.complexfloating):
        raise InputError("curves: complex values; scores are real numbers")
    values = np.array(ordered.values, dtype=float).reshape(-1, step.size)
    coords = {
        name: coord
        for name, coord in ordered.coords.items()
        if "step" not in coord.dims and name != "sd"
    }
    sd = _known_sd(ordered)
    labels = Labels(dims, shape, coords, ordered)
    if np.isinf(values).any():
        where = np.argwhere(np.isinf(values))[0]
        raise InputError(
            f"curves: infinite value in {labels.name(int(where[0]))} at step {step[where[1]]:g}; "
            "remove it or replace it by NaN"
        )
    used = np.isfinite(values)
    if sd is not None:
        bad = used & ~(np.isfinite(sd) & (sd > 0))
        if bad.any():
            where = np.argwhere(bad)[0]
            raise InputError(
                f"sd: {sd[tuple(where)]} in {labels.name(int(where[0]))} at step "
                f"{step[where[1]]:g}; a standard deviation must be positive (leave sd out where "
                "it is unknown)"
            )
    num_points = used.sum(axis=1)
    if (num_points < MIN_POINTS).any():
        short = int(np.argmax(num_points < MIN_POINTS))
        raise InputError(
            f"curves: {labels.name(short)} has {num_points[short]} points that are not NaN; at "
            f"least {MIN_POINTS} are needed, so measure more often or leave this curve out"
        )
    return _packed(step, values, sd, used, value_range), labels


def _known_sd(ordered: xr.DataArray) -> Array | None:
    if "sd" not in ordered.coords or "sd" in ordered.dims:
        return None
    sd = xr.broadcast(ordered.coords["sd"].reset_coords(drop=True), ordered)[0]
    return np.array(sd.transpose(*ordered.dims).values, dtype=float).reshape(
        -1, ordered.sizes["step"]
    )


def _packed(
    step: Array,
    values: Array,
    sd: Array | None,
    used: Array,
    value_range: tuple[float, float] | None,
) -> CurveArrays:
    # Stable, so measured points keep their order and come before the NaN ones.
    order = np.argsort(~used, axis=1, kind="stable")
    num_points = used.sum(axis=1)
    rows = np.arange(len(values))
    packed_step = step[order]
    packed = np.take_along_axis(values, order, axis=1)
    padding = np.arange(step.size)[None] >= num_points[:, None]
    packed_step = np.where(padding, packed_step[rows, num_points - 1][:, None], packed_step)
    packed = np.where(padding, 0.0, packed)
    if sd is not None:
        sd = np.where(padding, 1.0, np.take_along_axis(sd, order, axis=1))
    if value_range is None:
        low = np.where(padding, np.inf, packed).min(axis=1)
        high = np.where(padding, -np.inf, packed).max(axis=1)
    else:
        first, last = checked_range(value_range)
        low, high = np.full(len(values), first), np.full(len(values), last)
    # Halved before adding and subtracting, so that the largest numbers do not overflow.
    centre = 0.5 * low + 0.5 * high
    with np.errstate(over="ignore"):
        scale = high - low
    if not np.isfinite(scale).all():
        raise InputError("curves: the range of values overflows; rescale them")
    # A constant curve has no range: its level sets the scale, and what cannot be resolved
    # beside the level is constant.
    level = np.maximum(np.abs(low), np.abs(high))
    constant = scale <= 1e-13 * level
    if sd is not None:
        typical = np.where(padding, 0.0, sd).sum(axis=1) / num_points
        level = np.where(constant, 10.0 * typical, level)
    scale = np.where(constant, np.where(level > 0, level, 1.0), scale)
    packed = np.where(constant[:, None] & ~padding, centre[:, None], packed)
    return CurveArrays(packed_step, packed, sd, num_points, centre, scale)


def _checked_steps(step: Array) -> Array:
    if not np.issubdtype(step.dtype, np.number) or np.issubdtype(step.dtype, np.complexfloating):
        raise InputError(f"step: {step.dtype} values; training steps are numbers")
    step = step.astype(float)
    if not np.isfinite(step).all():
        raise InputError("step: holds NaN or infinity; every measurement needs its step")
    if step[0] < 0:
        raise InputError(f"step: starts at {step[0]:g}; training steps are not negative")
    wrong = np.flatnonzero(np.diff(step) <= 0)
    if wrong.size:
        at = int(wrong[0])
        problem = "is repeated" if step[at] == step[at + 1] else f"is followed by {step[at + 1]:g}"
        raise InputError(
            f"step: {step[at]:g} {problem} at index {at + 1}; sort the steps "
            "(curves.sortby('step')) and keep one measurement each (drop_duplicates('step'))"
        )
    return step


def checked_option(name: str, value: str, valid: Sequence[str]) -> str:
    """The value, if it is one of the valid ones."""
    if value not in valid:
        raise InputError(f"{name}: unknown {value!r}{nearest(str(value), valid)}")
    return value


def checked_share(name: str, value: float) -> float:
    """The value, if it is a number strictly between 0 and 1."""
    if not (isinstance(value, int | float | np.number) and 0.0 < value < 1.0):
        raise InputError(f"{name}: {value!r}; give a number between 0 and 1, such as 0.9")
    return float(value)


def checked_range(value_range: tuple[float, float]) -> tuple[float, float]:
    """Low and high, if they are finite and in that order."""
    try:
        low, high = (float(bound) for bound in value_range)
    except (TypeError, ValueError):
        raise InputError(f"value_range: {value_range!r}; give (low, high)") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(f"value_range: {value_range!r}; low must be below high, both finite")
    return low, high


def checked_steps_to_predict(steps: ArrayLike) -> Array:
    """The steps as one row of numbers, if they are finite and not negative."""
    at = np.atleast_1d(np.asarray(steps, dtype=float))
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or (at < 0).any():
        raise InputError(f"steps: {steps!r}; give finite steps that are not negative")
    return at


def prior_probabilities(
    families: Sequence[Family], given: Mapping[str, float] | None
) -> dict[str, float]:
    """Half for no emergence and the rest shared evenly, or what was given, checked.

    Examples
    --------
    >>> from emergence_stats.families import resolve_families
    >>> prior_probabilities(resolve_families(["exponential", "power_law"]), None)
    {'flat': 0.5, 'exponential': 0.25, 'power_law': 0.25}
    """
    names = [family.name for family in families]
    if given is None:
        share = 0.5 / (len(names) - 1)
        return {name: 0.5 if name == "flat" else share for name in names}
    if set(given) != set(names):
        raise InputError(
            f"prior_probability: names {sorted(map(str, given))}; give one for each of {names}"
        )
    values = {name: float(given[name]) for name in names}
    total = sum(values.values())
    if not all(value > 0 for value in values.values()) or abs(total - 1.0) > 1e-9:
        raise InputError(
            f"prior_probability: {values} (sum {total:g}); they must be positive and sum to 1"
        )
    return values


def averaged_over(curves: xr.DataArray) -> str:
    """What the caller says the curves were averaged over, with a warning, or nothing."""
    over = curves.attrs.get("averaged_over")
    if over is None or over == "" or over is False:
        return ""
    text = over if isinstance(over, str) else ", ".join(map(str, np.atleast_1d(over)))
    warnings.warn(
        f"these curves are averages over {text}: a mean of exponentials with different rates is "
        "a power law to any curve fit (Heathcote, Brown and Mewhort 2000), so a power_law verdict "
        "says nothing about the single curves; compare those instead",
        UserWarning,
        stacklevel=3,
    )
    return text


@contextlib.contextmanager
def progress_report(total: int, shown: bool, what: str) -> Iterator[Callable[[int], None] | None]:
    """A bar that counts finished curves, where one is wanted."""
    if not shown:
        yield None
        return
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.update(task, advance=number)


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
