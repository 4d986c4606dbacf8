"""The picture of one curve of a comparison.

What lives here: drawing. What does not: any inference; everything drawn is read from the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from emergence_stats.drawing import (
    CURVE,
    DATA,
    draw_band,
    draw_data,
    draw_onset,
    measured_points,
    set_step_axis,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_comparison(data: xr.Dataset, band: xr.Dataset, log_x: bool | None = None) -> Figure:
    """Data, posterior mean curve and band, density of the onset, residuals, for one curve.

    `band` is what `Comparison.predict` says at steps among which are the measured ones.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    step, values = measured_points(data)
    set_step_axis(top, data, step, log_x)
    draw_band(top, band)
    draw_data(top, data, step, values)
    draw_onset(top, data, float(data["probability_of_onset"]))
    fitted = band["mean"].sel(step=step).values
    bottom.axhline(0.0, color=CURVE, lw=1)
    bottom.plot(step, values - fitted, ".", color=DATA)
    bottom.set_ylabel("residual")
    bottom.set_xlabel("step")
    shares = ", ".join(
        f"{str(family).replace('_', ' ')} {float(p):.2f}"
        for family, p in zip(data["family"].values, data["probability"].values, strict=True)
    )
    top.set_title(f"{str(data['verdict'].item()).replace('_', ' ')}  ({shares})", fontsize=10)
    top.legend(fontsize=8, frameon=False)
    return figure
