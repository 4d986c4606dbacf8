"""What all results have in common: a labelled dataset that is read, shown, drawn and stored alike.

What lives here: `Result`, tables, selecting curves by label, netCDF. What does not: any statistics,
and the pictures (`plots` of each package).
"""

from __future__ import annotations

import html
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import xarray as xr

from emergence_stats import __version__
from emergence_stats.checks import PROB, check_prob
from emergence_stats.errors import InputError, StorageError, disk_errors, first_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Labels of the dimension `bound` of every interval.
BOUNDS = ("lower", "upper")


class Result(ABC):
    """What one call has found.

    Attributes
    ----------
    dataset : xarray.Dataset
        Everything that was found, with labels and units, and the curves it was found from. Its
        attributes hold the kind of result and the version of this package that made it.
    """

    kind: ClassVar[str]
    # A variable with one value for each curve, whose dimensions tell curves apart.
    _by_curve: ClassVar[str]

    def __init__(self, dataset: xr.Dataset) -> None:
        self._stored: Any = stamp(dataset, self.kind)

    @property
    def dataset(self) -> xr.Dataset:
        """Everything that was found."""
        return self._stored

    @abstractmethod
    def summary(self) -> pd.DataFrame:
        """One row a curve: what to read first."""

    @abstractmethod
    def interval(self, prob: float = PROB) -> xr.DataArray | xr.Dataset:
        """Between which values does it lie, with this probability?

        Parameters
        ----------
        prob : float
            Posterior probability of the equal-tailed interval.

        Returns
        -------
        xarray.DataArray or xarray.Dataset
            Dimension `bound` ("lower", "upper"), the last, besides those of the curves.
        """

    @abstractmethod
    def plot(self) -> Figure:
        """A picture of one curve's result."""

    def to_netcdf(self, path: str | os.PathLike[str]) -> None:
        """Stores the result; `from_netcdf` reads it back exactly."""
        save(self._stored, path)

    @classmethod
    def from_netcdf(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a stored result.

        Raises
        ------
        StorageError
            If there is no such file, or it holds something else.
        """
        return cls(load(path, cls.kind))

    @property
    def _dims(self) -> tuple[str, ...]:
        return tuple(str(dim) for dim in self.dataset[self._by_curve].dims)

    def _note(self) -> str:
        """What was assumed, in a few words."""
        return ""

    def __repr__(self) -> str:
        sizes = ", ".join(f"{dim}: {self.dataset.sizes[dim]}" for dim in self._dims)
        return f"<{type(self).__name__}{f' ({sizes})' if sizes else ''}>"

    def _repr_html_(self) -> str:
        return table_html(self.kind.capitalize(), self.summary(), self._note())


def stamp[Data: (xr.Dataset, xr.DataTree)](data: Data, kind: str) -> Data:
    """The data with its kind and this version, unless it was stored by the version it names."""
    if "kind" not in data.attrs:
        data = data.copy()
        data.attrs = {**data.attrs, "kind": kind, "version": __version__}
    return data


def medians_and_bounds(data: xr.Dataset, names: Sequence[str]) -> dict[str, xr.DataArray]:
    """Columns of a summary from variables by `quantile`: the median, then both ends."""
    return {
        name + suffix: data[name].isel(quantile=index, drop=True)
        for name in names
        for suffix, index in (("", 1), ("_lower", 0), ("_upper", 2))
    }


def interval_of_draws[Data: (xr.Dataset, xr.DataArray)](
    draws: Data, prob: float, dims: str | Sequence[str]
) -> Data:
    """Equal-tailed intervals of draws along these dimensions, as `Result.interval` labels them."""
    found = draws.quantile(list(check_prob(prob)), dims, skipna=False).rename(quantile="bound")
    return found.assign_coords(bound=list(BOUNDS)).transpose(..., "bound")


def as_table(columns: Mapping[Any, xr.DataArray]) -> pd.DataFrame:
    """Variables that have one value for each curve as rows, one a curve."""
    dataset = xr.Dataset(columns)
    if not dataset.dims:
        return pd.DataFrame({str(name): [v.item()] for name, v in dataset.data_vars.items()})
    return dataset.reset_coords(drop=True).to_dataframe()[list(columns)]


def table_html(title: str, table: pd.DataFrame, note: str = "") -> str:
    """A heading, what was assumed, and the table, cut to fifty rows."""
    shown = table.to_html(max_rows=50, float_format=lambda value: f"{value:.4g}")
    return f"<div><b>{title}</b> {html.escape(f'({note})' if note else '')}{shown}</div>"


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


def save(data: xr.Dataset | xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Writes a result as netCDF."""
    with disk_errors(Path(path)):
        data.to_netcdf(path, engine="h5netcdf")


def load(path: str | os.PathLike[str], kind: str) -> xr.Dataset:
    """Reads a result of this kind back, exactly as it was written."""
    dataset = read(path, kind, xr.open_dataset)
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


def read(path: str | os.PathLike[str], kind: str, open_file: Any) -> Any:
    """What `open_file`, one of xarray's, finds there, if it is of this kind."""
    if not Path(path).exists():
        raise StorageError(f"{os.fspath(path)}: no such file; give the path of a saved {kind}")
    try:
        with open_file(path, engine="h5netcdf") as stored:
            data = stored.load()
    except Exception as error:
        raise StorageError(
            f"{os.fspath(path)}: not a readable netCDF file ({first_line(error)})"
        ) from error
    if data.attrs.get("kind") != kind:
        raise StorageError(
            f"{os.fspath(path)}: holds {data.attrs.get('kind', 'something else')!r}, not a {kind!r}"
        )
    return data
