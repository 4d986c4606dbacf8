"""The picture of a spectrum.

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
