"""Pictures of a spectrum, of the traces of chains, and of a slope over temperatures.

What lives here: drawing. What does not: any inference; everything drawn is read from the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.drawing import CURVE, ONSET

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_curvature(data: xr.Dataset) -> Figure:
    """The Hessian's spectral density with two standard errors, its ends and its null space."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    grid, density = data["eigenvalue"].values, data["density"].values
    # In numbers of eigenvalues per width of the smoothing, so that one of them has a height near 1.
    per_width = data.attrs["num_parameters"] * data.attrs["smoothing"] * np.sqrt(2.0 * np.pi)
    error = 2.0 * per_width * data["density_error"].values
    count = per_width * density
    floor = 1e-2
    axes.fill_between(
        grid,
        np.maximum(count - error, floor),
        np.maximum(count + error, floor),
        color=CURVE,
        alpha=0.25,
        lw=0,
        label="two standard errors",
    )
    axes.plot(grid, np.maximum(count, floor), color=CURVE)
    for name in ("smallest_eigenvalue", "largest_eigenvalue"):
        axes.axvline(float(data[name]), color=ONSET, lw=1, ls=":")
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    axes.set_xlabel("eigenvalue of the Hessian (dotted: smallest and largest)")
    axes.set_ylabel("eigenvalues, smoothed")
    axes.set_title(
        f"effective rank {float(data['effective_rank']):.4g}; "
        f"{float(data['null_dimension']):.4g} ± {float(data['null_dimension_error']):.2g} "
        f"of {data.attrs['num_parameters']} directions flat",
        fontsize=10,
    )
    if error.any():
        axes.legend(fontsize=8, frameon=False)
    return figure


def plot_llc(data: xr.Dataset, low: float, high: float, judgement: str) -> Figure:
    """The trace of every chain with the burn-in shaded, and the estimate as draws accrue."""
    from matplotlib.figure import Figure

    llc, error = float(data["llc"]), float(data["standard_error"])
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    traces, running = figure.subplots(1, 2)
    draw, trace, kept = data["draw"].values, data["llc_trace"].values, data["kept"].values
    for number, values in enumerate(trace):
        traces.plot(draw, values, lw=0.7, label=f"chain {number}")
    if not kept.all():
        traces.axvspan(draw[0], draw[kept][0] if kept.any() else draw[-1], color="0.9", zorder=0)
    traces.axhline(llc, color="black", lw=1)
    traces.set(xlabel="step of the chain", ylabel="n β (loss − loss at w*)")
    traces.legend(fontsize="small", frameon=False)
    for values in trace[:, kept]:
        running.plot(draw[kept], np.cumsum(values) / np.arange(1, len(values) + 1), lw=0.9)
    if np.isfinite(low):
        running.axhspan(low, high, color="0.85", zorder=0, label="89% interval")
        running.legend(fontsize="small", frameon=False)
    running.axhline(llc, color="black", lw=1)
    running.set(xlabel="step of the chain", ylabel="running estimate")
    title = f"local learning coefficient {llc:.4g} ± {error:.2g}: {judgement}"
    figure.suptitle(title, fontsize="medium")
    return figure


def plot_slope(data: xr.Dataset, judgement: str) -> Figure:
    """The mean loss against temperature, with the line whose slope is the coefficient."""
    from matplotlib.figure import Figure

    llc, error = float(data["llc"]), float(data["standard_error"])
    temperature = data["temperature"].values
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    loss, errors = data["mean_loss"].values, data["mean_loss_standard_error"].values
    axes.errorbar(temperature, loss, errors, fmt="o", ms=4)
    ends = np.array([0.0, 1.05 * temperature.max()])
    axes.plot(ends, float(data["loss_at_zero"]) + llc * ends, lw=1, color="black")
    axes.set(xlabel="temperature, 1 / (n β)", ylabel="mean loss")
    axes.set_title(f"slope {llc:.4g} ± {error:.2g}: {judgement}", fontsize="medium")
    return figure
