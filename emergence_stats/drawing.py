"""What pictures of curves share: colours, the step axis, data, the density of an onset.

What lives here: drawing into axes that are given. What does not: whole figures (`plots` of each
package).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart also by the colour-blind and in grey print.
DATA, CURVE, ONSET = "0.15", "#0072B2", "#D55E00"


def measured_points(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the points that are not NaN."""
    values = data["observed"].values
    there = np.isfinite(values)
    return data["observed"]["step"].values[there].astype(float), values[there]


def set_step_axis(axes: Axes, data: xr.Dataset, step: np.ndarray, log_x: bool | None) -> None:
    """Sets the axis: logarithmic where that is asked for, or else where the onset's prior is."""
    if not _logarithmic(data, log_x):
        return
    axes.set_xlim(step[0], step[-1] * 1.05)
    if step[0] > 0:
        axes.set_xscale("log")
    else:  # step 0 has no logarithm: the axis is linear up to the first positive step
        axes.set_xscale("symlog", linthresh=step[1])


def fine_steps(data: xr.Dataset, log_x: bool | None) -> np.ndarray:
    """Steps close enough to draw a curve through on that axis, the measured ones among them."""
    step, _ = measured_points(data)
    if not _logarithmic(data, log_x):
        return np.union1d(step, np.linspace(step[0], step[-1], 200))
    low = step[0] or step[1]
    even, spread = np.linspace(step[0], low, 20), np.geomspace(low, step[-1], 300)
    return np.unique(np.concatenate([step, even, spread]))


def _logarithmic(data: xr.Dataset, log_x: bool | None) -> bool:
    return data.attrs["step_prior"] == "log" if log_x is None else log_x


def draw_data(axes: Axes, data: xr.Dataset, step: np.ndarray, values: np.ndarray) -> None:
    """The measured points, with their standard deviations where known."""
    if "observed_sd" in data:
        sd = np.broadcast_to(data["observed_sd"].values, data["observed"].shape)
        sd = sd[np.isfinite(data["observed"].values)]
        axes.errorbar(step, values, yerr=sd, fmt=".", color=DATA, lw=0.8, label="measured (sd)")
    else:
        axes.plot(step, values, ".", color=DATA, label="measured")
    said = data["observed"].attrs
    axes.set_ylabel(str(said.get("long_name", said.get("score", "score"))))


def draw_band(axes: Axes, band: xr.Dataset) -> None:
    """A predicted curve with its band."""
    step = band["step"].values
    axes.fill_between(step, band["lower"], band["upper"], color=CURVE, alpha=0.25, lw=0)
    axes.plot(step, band["mean"], color=CURVE, label="posterior mean and 89% band")


def draw_onset(axes: Axes, data: xr.Dataset, probability: float) -> None:
    """The onset's density on the axis as drawn, rising from the bottom, fading with doubt."""
    step, cumulative = data["onset_step"].values, data["cumulative"].values
    position = axes.transData.transform(np.column_stack([step, np.zeros_like(step)]))[:, 0]
    # Density per length of axis, so that areas on paper are probabilities on any scale.
    edges = np.linspace(position[0], position[-1], 721)
    share = np.diff(np.interp(edges, position, cumulative))
    inverse = axes.transData.inverted()
    where = inverse.transform(np.column_stack([edges, np.zeros_like(edges)]))[:, 0]
    height = 0.25 * share / max(share.max(), 1e-300)
    axes.stairs(
        height,
        where,
        fill=True,
        color=ONSET,
        alpha=0.15 + 0.55 * probability,
        transform=axes.get_xaxis_transform(),
        label="onset density",
    )
