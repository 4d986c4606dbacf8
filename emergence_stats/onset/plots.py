"""Pictures of onsets.

What lives here: drawing. What does not: any inference; everything drawn is read from the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.drawing import ONSET, draw_data, draw_onset, measured_points, set_step_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_onset(data: xr.Dataset, log_x: bool | None = None) -> Figure:
    """The curve with the density of its onset along the axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    step, values = measured_points(data)
    set_step_axis(axes, data, step, log_x)
    draw_data(axes, data, step, values)
    probability = float(data["probability"])
    draw_onset(axes, data, probability)
    axes.set_xlabel("step")
    axes.set_title(
        f"probability of an onset {probability:.2f}, median step {float(data['median']):.4g}",
        fontsize=10,
    )
    axes.legend(fontsize=8, frameon=False)
    return figure


def plot_common_onset(data: xr.Dataset) -> Figure:
    """Density of the onset about which several curves' onsets scatter."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.0), layout="constrained")
    axes = figure.subplots()
    location, density = data["location"].values, data["density"].values
    unit = "step"
    if data.attrs["step_prior"] == "log":
        there = location > 0
        location, density = location[there], density[there]
        density = density * location * np.log(10.0)
        axes.set_xscale("log")
        unit = "log10 step"
    axes.fill_between(location, density, color=ONSET, alpha=0.6, lw=0)
    axes.axvspan(float(data["lower"]), float(data["upper"]), color=ONSET, alpha=0.12, lw=0)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("step")
    axes.set_ylabel(f"density per {unit}")
    share = round(100 * data.attrs["prob"])
    axes.set_title(
        f"common onset over {data.attrs['over']}: {float(data['median']):.4g}; single ones "
        f"scatter by {float(data['spread']):.2g} {data['spread'].attrs['units']} ({share}% "
        f"interval {float(data['spread_lower']):.2g} to {float(data['spread_upper']):.2g})",
        fontsize=9,
    )
    return figure
