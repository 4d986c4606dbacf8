"""The study as one picture: scores, coefficients and the refined coefficients of heads.

What lives here: drawing. What does not: any number that is not in the datasets it is given.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

_COLLISION, _OTHER, _CONTROL = "#b3372f", "#b9b9b9", "#3c6e9f"
_TITLES = {"adam": "Adam", "sgd": "SGD, momentum 0.9", "cosine": "Adam, cosine schedule",
           "no_contacts": "no contacts", "shuffled": "shuffled labels",
           "no_contacts_sgd": "no contacts, SGD",
           "shuffled_sgd": "shuffled labels, SGD"}  # fmt: skip
_COLUMNS = 4


def draw_study(
    path: Path,
    trajectories: dict[str, xr.Dataset],
    tests: dict[str, xr.Dataset],
    sweeps: dict[str, xr.Dataset],
    times: dict[str, xr.Dataset],
    refined: dict[str, xr.Dataset],
) -> None:
    """Writes the picture as a PNG.

    Above, every head's score by arm, those that pass the tests in red; below, the whole network's
    coefficient by run with its strongest head's onset, and the refined ones of collision heads and
    their controls.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [
        math.ceil(len(trajectories) / _COLUMNS),
        math.ceil((len(sweeps) + len(refined)) / _COLUMNS),
    ]
    figure = Figure(figsize=(13, 3.2 * sum(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(sum(rows), _COLUMNS, squeeze=False)
    above, below = list(axes[: rows[0]].flat), list(axes[rows[0] :].flat)
    for arm, trajectory in trajectories.items():
        axis = above.pop(0)
        _scores(axis, trajectory, tests[arm])
        axis.set_title(_TITLES[arm])
        axis.set_xscale("symlog", linthresh=10)
        axis.set_xlim(left=0)
    for row in axes[: rows[0]]:
        row[0].set_ylabel("collision score of each head\n(red: passes the three tests)")
    for arm, sweep in sweeps.items():
        axis = below.pop(0)
        _network(axis, sweep, times.get(arm))
        axis.set_title(f"learning coefficient, {_TITLES[arm]}", fontsize=9)
        axis.set_xscale("log")
    for arm, heads in refined.items():
        axis = below.pop(0)
        _heads(axis, heads)
        axis.set_title(f"refined, {_TITLES[arm]}", fontsize=9)
        axis.set_xscale("log")
    for axis in [*above, *below]:
        axis.set_axis_off()
    for axis in axes.flat:
        if axis.axison:
            axis.set_xlabel("optimiser step")
    figure.savefig(path, dpi=130)


def _scores(axis: Any, trajectory: xr.Dataset, tests: xr.Dataset) -> None:
    scores = trajectory["collision_score"]
    step = scores["step"].values
    for passes, colour, width in ((False, _OTHER, 0.6), (True, _COLLISION, 1.0)):
        for run in scores["run"].values:
            flags = tests["is_collision_head"].sel(run=run)
            for layer, head in np.argwhere(flags.values == passes):
                values = scores.sel(run=run).isel(layer=layer, head=head).values
                axis.plot(step, values, color=colour, lw=width)
    axis.axhline(scores.attrs["baseline"], color="black", lw=0.8, ls=":")
    axis.set_ylim(0.0, 1.0)


def _network(axis: Any, sweep: xr.Dataset, times: xr.Dataset | None) -> None:
    for k, run in enumerate(sweep["run"].values):
        one = sweep.sel(run=run)
        colour = f"C{k}"
        axis.errorbar(
            one["step"], one["llc"], one["llc_standard_error"], color=colour, lw=0.8, elinewidth=0.5
        )
        if times is not None and np.isfinite(onset := float(times["head_onset"].sel(run=run))):
            axis.axvline(onset, color=colour, lw=0.7, ls="--")
    axis.axhline(0.0, color="black", lw=0.6, ls=":")


def _heads(axis: Any, heads: xr.Dataset) -> None:
    if "llc" not in heads:
        axis.text(0.5, 0.5, "no collision head", ha="center", transform=axis.transAxes)
        return
    for kind, colour in (("control", _CONTROL), ("collision", _COLLISION)):
        for pair in heads["pair"].values:
            one = heads["llc"].sel(pair=pair, kind=kind).dropna("step")
            label = f"{kind} heads" if pair == heads["pair"].values[0] else None
            axis.plot(one["step"], one, "o-", color=colour, ms=2.5, lw=0.8, label=label)
    axis.legend(fontsize=8)
