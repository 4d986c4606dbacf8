"""The picture of one fitted family.

What lives here: drawing. What does not: any inference; everything drawn is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.drawing import ONSET, draw_band, draw_data, measured_points, set_step_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_fit(
    data: xr.Dataset, band: xr.Dataset, onset: np.ndarray | None, title: str, log_x: bool | None
) -> Figure:
    """Data, posterior band and the onset's draws, where there are any, for one fitted family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    step, values = measured_points(data)
    set_step_axis(axes, data, step, log_x)
    draw_band(axes, band)
    draw_data(axes, data, step, values)
    if onset is not None:
        some = onset[:: max(1, onset.size // 300)]
        axes.plot(
            some,
            np.zeros_like(some),
            "|",
            color=ONSET,
            alpha=0.3,
            markersize=14,
            transform=axes.get_xaxis_transform(),
            label="draws of the onset",
        )
    axes.set_xlabel("step")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return figure
