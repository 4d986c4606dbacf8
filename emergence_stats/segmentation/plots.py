"""Pictures of segmented curves.

What lives here: the figure of one selected curve of a `Segmentation`. What does not: any inference;
everything drawn is read from the result. matplotlib is imported when first drawn with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.curves.priors import StepAxis
from emergence_stats.drawing import CURVE, ONSET, draw_data, measured_points, set_step_axis
from emergence_stats.segmentation.models import SEGMENT_MODELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_segmentation(data: xr.Dataset, log_x: bool | None = None) -> Figure:
    """Data, mean with its band, segments, and the density of changes along the axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    step, values = measured_points(data)
    set_step_axis(axes, data, step, log_x)
    draw_data(axes, data, step, values)
    there = np.isfinite(data["observed"].values)
    mean, sd = data["mean"].values[there], data["mean_sd"].values[there]
    # 89% of a normal distribution.
    axes.fill_between(
        step, mean - 1.598 * sd, mean + 1.598 * sd, color=CURVE, alpha=0.25, lw=0, label="89% band"
    )
    _draw_segments(axes, data, step)
    _draw_changes(axes, step, data["inclusion"].values[there])
    axes.set_xlabel("step")
    number = int(data["number"])
    title = f"{number} change{'' if number == 1 else 's'}"
    if "number_probability" in data:
        share = float(data["number_probability"].sel(num_changes=number))
        title += f" (probability of just so many {share:.2f})"
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _draw_segments(axes: Axes, data: xr.Dataset, step: np.ndarray) -> None:
    changes = data["change_step"].values
    inner = changes[np.isfinite(changes)]
    edges = np.concatenate([[step[0]], inner, [step[-1]]])
    label: str | None = "segments"
    axis = StepAxis.along(step, SEGMENT_MODELS[data["model"].item()].logarithmic)
    for k in range(edges.size - 1):
        low, high = edges[k], edges[k + 1]
        first, last = (float(data[f"segment_{end}"].values[k]) for end in ("from", "to"))
        if not np.isfinite(first):
            continue
        at = np.linspace(low, high, 50)
        place = axis.step_to_position(at)
        share = (place - place[0]) / (place[-1] - place[0])
        axes.plot(at, first + (last - first) * share, color=CURVE, lw=1.5, label=label)
        label = None


def _draw_changes(axes: Axes, step: np.ndarray, inclusion: np.ndarray) -> None:
    """Probability per length of axis, so that areas on paper compare on any scale."""
    position = axes.transData.transform(np.column_stack([step, np.zeros_like(step)]))[:, 0]
    density = inclusion[1:] / np.maximum(np.diff(position), 1e-9)
    axes.stairs(
        0.25 * density / max(density.max(), 1e-300),
        step,
        fill=True,
        color=ONSET,
        alpha=0.6,
        transform=axes.get_xaxis_transform(),
        label="density of changes",
    )
