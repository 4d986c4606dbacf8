"""The picture of one fitted family.

What lives here: drawing. What does not: any inference; everything drawn is read from the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from emergence_stats.drawing import CURVE, DATA, ONSET, fine_steps, set_step_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from emergence_stats.nuts.fitting import Fit


def plot_fit(fit: Fit, log_x: bool | None = None) -> Figure:
    """Data, posterior band and the onset's draws for one fitted family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    axes = figure.subplots()
    observed = fit.tree["observed_data"].to_dataset()["score"]
    step = observed["step"].values
    data = xr.Dataset(attrs={"step_prior": fit.tree.attrs["step_prior"]})
    fine = fine_steps(step, set_step_axis(axes, data, step, log_x))
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
