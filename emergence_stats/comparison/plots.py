"""Pictures of a comparison, and of what one planned can tell.

What lives here: drawing. What does not: any inference; everything drawn is read from the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
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
    share = f"residuals: {float(data['residual_share']):.1%} of the range"
    bottom.set_title(share, fontsize=8, loc="right")
    shares = ", ".join(
        f"{str(family).replace('_', ' ')} {float(p):.2f}"
        for family, p in zip(data["family"].values, data["probability"].values, strict=True)
    )
    top.set_title(f"{str(data['verdict'].item()).replace('_', ' ')}  ({shares})", fontsize=10)
    top.legend(fontsize=8, frameon=False)
    return figure


def plot_identifiability(dataset: xr.Dataset) -> Figure:
    """The confusion matrix, and what a checkpoint more would tell, along the step."""
    from matplotlib.figure import Figure

    tried = "gain" in dataset
    figure = Figure(figsize=(9.0 if tried else 4.8, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if tried else 1, squeeze=False)[0]
    confusion = dataset["confusion"].transpose("truth", "verdict").values
    axes[0].imshow(confusion, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    errors = dataset["confusion_standard_error"].transpose("truth", "verdict").values
    for (row, column), share in np.ndenumerate(confusion):
        axes[0].text(
            column,
            row,
            f"{share:.2f}\n±{errors[row, column]:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if share > 0.6 else "black",
        )
    for axis, name in ((axes[0].xaxis, "verdict"), (axes[0].yaxis, "truth")):
        labels = [str(label).replace("_", " ") for label in dataset[name].values]
        axis.set_ticks(range(len(labels)), labels, fontsize=8)
        axis.set_label_text(name)
    axes[0].tick_params(axis="x", rotation=30)
    if tried:
        at = dataset["candidate"].values
        axes[1].errorbar(at, dataset["gain"], dataset["gain_standard_error"], fmt="o", capsize=3)
        axes[1].axhline(0.0, color="0.6", lw=0.8)
        planned = dataset["planned_step"].values
        axes[1].plot(planned, 0.0 * planned, "|", color=DATA, ms=12, label="planned")
        if dataset.attrs["step_prior"] == "log":
            axes[1].set_xscale("symlog", linthresh=float(planned[planned > 0][0]))
        axes[1].set_xlabel("step of one more checkpoint")
        axes[1].set_ylabel("information gained (nats)")
        axes[1].legend(fontsize=8, frameon=False)
    return figure
