"""Pictures of a population of curves.

What lives here: the figure of one `HierarchicalComparison`. What does not: any inference;
everything drawn is read from the result. matplotlib is imported when first drawn with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.drawing import CURVE, DATA, ONSET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Beyond this many members, names on the axis are no longer read.
MOST_NAMES = 40


def plot_hierarchical(data: xr.Dataset) -> Figure:
    """Probabilities, densities of the population's order, and members' orders: own and pooled."""
    from matplotlib.figure import Figure

    dims = [str(dim) for dim in data["included"].dims]
    members = data.stack(curve=dims) if dims != ["curve"] else data
    members = members.isel(curve=np.flatnonzero(members["included"].values))
    number = members.sizes["curve"]
    figure = Figure(figsize=(8.0, max(4.2, 1.6 + 0.2 * number)), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.3])
    _draw_probabilities(figure.add_subplot(grid[0, 0]), data)
    _draw_orders(figure.add_subplot(grid[1, 0]), data)
    _draw_members(figure.add_subplot(grid[:, 1]), data, members, dims)
    verdict = str(data["verdict"].item()).replace("_", " ")
    note = "" if bool(data["trusted"]) else " (not to be trusted: see effective_cells)"
    figure.suptitle(f"{number} members: {verdict}{note}", fontsize=11)
    return figure


def _draw_probabilities(axes: Axes, data: xr.Dataset) -> None:
    names = [str(name).replace("_", " ") for name in data["hypothesis"].values]
    values = data["probability"].values
    axes.barh(names, values, color=[DATA, CURVE, ONSET], height=0.6)
    for row, value in enumerate(values):
        axes.text(value + 0.02, row, f"{value:.3f}", va="center", fontsize=8)
    axes.set_xlim(0.0, 1.2)
    axes.set_xticks([0.0, 0.5, 1.0])
    axes.invert_yaxis()
    axes.set_xlabel("probability")


def _draw_orders(axes: Axes, data: xr.Dataset) -> None:
    draws = data["draw"].sel(parameter="order")
    for name, color, label in (
        ("common_exponent", CURVE, "common order"),
        ("varying_exponent", ONSET, "order of the median member"),
    ):
        values = draws.sel(hypothesis=name).values
        low, high = np.quantile(values, [0.005, 0.995])
        edges = np.linspace(low, high + 1e-9 * (1.0 + high), 41)
        height, _ = np.histogram(values, edges, density=True)
        axes.stairs(height, edges, color=color, fill=True, alpha=0.5, label=label)
    axes.set_xlabel("order")
    axes.set_yticks([])
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=1)


def _draw_members(axes: Axes, data: xr.Dataset, members: xr.Dataset, dims: list[str]) -> None:
    row = np.arange(members.sizes["curve"])
    for name, color, shift, label in (
        ("own_order", DATA, 0.15, "on its own"),
        ("member_order", ONSET, -0.15, "in the light of the others"),
    ):
        low, middle, high = members[name].transpose("quantile", "curve").values
        axes.hlines(row + shift, low, high, color=color, lw=1)
        axes.plot(middle, row + shift, "o", color=color, ms=3, label=label)
    low, middle, high = data["common_order"].values
    axes.axvspan(low, high, color=CURVE, alpha=0.25, lw=0, label="common order")
    names = [
        ", ".join(
            f"{dim}={members[dim].values[k]}" if dim in members.coords else str(k) for dim in dims
        )
        for k in row
    ]
    axes.set_yticks(row if row.size <= MOST_NAMES else [], names if row.size <= MOST_NAMES else [])
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("order")
    axes.set_title("median and 89% interval, given a power law", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=1)
