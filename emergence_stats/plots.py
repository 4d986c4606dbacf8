"""Pictures of curves, comparisons, onsets and spectra.

What lives here: figures drawn from one selected curve of a result, or from one spectrum. What does
not: any inference; everything drawn is read from the result. matplotlib is imported when first
drawn with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from emergence_stats.comparison import Comparison
    from emergence_stats.fitting import Fit

# Okabe and Ito's colours, told apart also by the colour-blind and in grey print.
DATA, CURVE, ONSET = "0.15", "#0072B2", "#D55E00"


def plot_comparison(comparison: Comparison, log_x: bool | None = None) -> Figure:
    """Data, posterior mean curve and band, density of the onset, residuals, for one curve."""
    from matplotlib.figure import Figure

    data = comparison.dataset
    figure = Figure(figsize=(7.0, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    step, values = _measured(data)
    linear_below = _set_step_axis(top, data, step, log_x)
    fine = _fine_steps(step, linear_below)
    band = comparison.predict(fine)
    top.fill_between(fine, band["lower"], band["upper"], color=CURVE, alpha=0.25, lw=0)
    top.plot(fine, band["mean"], color=CURVE, label="posterior mean and 89% band")
    _draw_data(top, data, step, values)
    _draw_onset(top, data, float(data["probability_of_onset"]))
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


def plot_onset(data: xr.Dataset, log_x: bool | None = None) -> Figure:
    """The curve with the density of its onset along the axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    step, values = _measured(data)
    _set_step_axis(axes, data, step, log_x)
    _draw_data(axes, data, step, values)
    probability = float(data["probability"])
    _draw_onset(axes, data, probability)
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


def plot_fit(fit: Fit, log_x: bool | None = None) -> Figure:
    """Data, posterior band and the onset's draws for one fitted family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    observed = fit.tree["observed_data"].to_dataset()["score"]
    step = observed["step"].values
    data = xr.Dataset(attrs={"step_prior": fit.tree.attrs["step_prior"]})
    fine = _fine_steps(step, _set_step_axis(axes, data, step, log_x))
    band = fit.predict(fine)
    axes.fill_between(fine, band["lower"], band["upper"], color=CURVE, alpha=0.25, lw=0)
    axes.plot(fine, band["mean"], color=CURVE, label="posterior mean and 89% band")
    axes.plot(step, observed.values, ".", color=DATA, label="measured")
    posterior = fit.tree["posterior"].to_dataset()
    if "onset" in posterior:
        onset = posterior["onset"].values.ravel()
        axes.plot(
            onset[:: max(1, onset.size // 300)],
            np.zeros_like(onset[:: max(1, onset.size // 300)]),
            "|",
            color=ONSET,
            alpha=0.3,
            markersize=14,
            transform=axes.get_xaxis_transform(),
            label="draws of the onset",
        )
    axes.set_xlabel("step")
    axes.set_title(
        f"{fit.family.replace('_', ' ')}, log evidence {fit.log_evidence:.2f} "
        f"± {fit.log_evidence_error:.2f}",
        fontsize=10,
    )
    axes.legend(fontsize=8, frameon=False)
    return figure


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


def _measured(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    values = data["observed"].values
    there = np.isfinite(values)
    return data["observed"]["step"].values[there].astype(float), values[there]


def _set_step_axis(
    axes: Axes, data: xr.Dataset, step: np.ndarray, log_x: bool | None
) -> float | None:
    """Sets the axis; returns below which step a logarithmic one is linear, None if it is linear."""
    logarithmic = data.attrs["step_prior"] == "log" if log_x is None else log_x
    if not logarithmic:
        return None
    if step[0] > 0:
        axes.set_xscale("log")
        axes.set_xlim(step[0], step[-1] * 1.05)
        return 0.0
    # Step 0 has no logarithm: the axis is linear up to the first positive step.
    axes.set_xscale("symlog", linthresh=step[1])
    axes.set_xlim(0.0, step[-1] * 1.05)
    return float(step[1])


def _fine_steps(step: np.ndarray, linear_below: float | None) -> np.ndarray:
    even = np.linspace(step[0], step[-1], 200)
    if linear_below is None:
        return even
    low = max(step[0], linear_below)
    return np.unique(
        np.concatenate([np.linspace(step[0], low, 20), np.geomspace(low, step[-1], 300)])
    )


def _draw_data(axes: Axes, data: xr.Dataset, step: np.ndarray, values: np.ndarray) -> None:
    if "observed_sd" in data:
        sd = np.broadcast_to(data["observed_sd"].values, data["observed"].shape)
        sd = sd[np.isfinite(data["observed"].values)]
        axes.errorbar(step, values, yerr=sd, fmt=".", color=DATA, lw=0.8, label="measured (sd)")
    else:
        axes.plot(step, values, ".", color=DATA, label="measured")
    axes.set_ylabel(str(data["observed"].attrs.get("long_name", data["observed"].attrs["score"])))


def _draw_onset(axes: Axes, data: xr.Dataset, probability: float) -> None:
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
