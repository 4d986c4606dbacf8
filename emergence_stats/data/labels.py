"""Between labelled curves and plain arrays.

What lives here: checking a DataArray of curves and laying it out for the array core, giving results
their dimensions back. What does not: any statistics.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.checks import check_range, check_steps
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.errors import InputError

Array = np.ndarray

MIN_POINTS = 8


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

    def add_observed(self, dataset: xr.Dataset) -> None:
        """Keeps the curves beside what was inferred from them, so that plots need nothing else."""
        observed = self.observed
        dataset["observed"] = xr.DataArray(
            np.array(observed.values, dtype=float),
            dims=observed.dims,
            coords={**self.coords, "step": observed["step"]},
            attrs={
                key: value
                for key, value in observed.attrs.items()
                if isinstance(value, str | int | float) and not isinstance(value, bool)
            }
            | {"score": str(observed.name or "score")},
        )
        if "sd" in observed.coords:
            sd = observed.coords["sd"].reset_coords(drop=True)
            dataset["observed_sd"] = (sd.dims, np.array(sd.values, dtype=float))


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
    step = check_steps(curves["step"].values)
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
        first, last = check_range(value_range)
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
