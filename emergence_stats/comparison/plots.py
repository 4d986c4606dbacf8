"""The picture of one curve of a comparison.

What lives here: drawing. What does not: any inference; everything drawn is read from the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emergence_stats.drawing import (
    CURVE,
    DATA,
    draw_data,
    draw_onset,
    fine_steps,
    measured_points,
    set_step_axis,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from emergence_stats.comparison.comparison import Comparison


def plot_comparison(comparison: Comparison, log_x: bool | None = None) -> Figure:
    """Data, posterior mean curve and band, density of the onset, residuals, for one curve."""
    from matplotlib.figure import Figure

    data = comparison.dataset
    figure = Figure(figsize=(7.0, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    step, values = measured_points(data)
    linear_below = set_step_axis(top, data, step, log_x)
    fine = fine_steps(step, linear_below)
    band = comparison.predict(fine)
    top.fill_between(fine, band["lower"], band["upper"], color=CURVE, alpha=0.25, lw=0)
    top.plot(fine, band["mean"], color=CURVE, label="posterior mean and 89% band")
    draw_data(top, data, step, values)
    draw_onset(top, data, float(data["probability_of_onset"]))
    fitted = comparison.predict(step)["mean"].values
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
