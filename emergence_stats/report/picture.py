"""The report's result as one picture for a README or a slide.

What lives here: the composition of figures drawn elsewhere into a PNG. What does not: how each is
drawn (`figures`, `panels`).
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from emergence_stats.errors import disk_errors
from emergence_stats.report.animation import read_scene
from emergence_stats.report.figures import (
    INK,
    PAPER,
    STYLE,
    draw_losses,
    draw_scores,
    score_curve,
    step_axis,
)
from emergence_stats.report.findings import measured, read_findings
from emergence_stats.report.panels import draw_frame

_MOST_RUNS = 2


def write_picture(
    path: str | os.PathLike[str],
    *,
    trajectory: xr.Dataset,
    assessment: xr.Dataset | None = None,
    comparison: xr.Dataset | None = None,
    onset: xr.Dataset | None = None,
    llc: xr.Dataset | None = None,
) -> Path:
    """Draws the particles with the best head's attention beside losses and scores against step.

    Parameters
    ----------
    path : path
        The PNG file.
    trajectory, assessment, comparison, onset, llc : xarray.Dataset
        As for `write_report`.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    InputError
        If the trajectory has no collision scores.
    StorageError
        If the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    findings = read_findings(trajectory, assessment, comparison, onset, llc)
    scene = read_scene(assessment)
    runs = [int(run) for run in trajectory["run"].values[:_MOST_RUNS]]
    target = Path(path)
    with mpl.rc_context(cast("Any", STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(11, 4.2), layout="constrained", facecolor=PAPER)
        FigureCanvasAgg(figure)
        left, right = cast("Any", figure.subfigures(1, 2, width_ratios=[1.0, 1.9]))
        box = left.subplots()
        if scene is None:
            box.set_axis_off()
        else:
            draw_frame(box, scene)
            best = findings.highlighted[0] if findings.highlighted else None
            where = f" (seed {best.run}, L{best.layer} H{best.head})" if best else ""
            box.set_title(f"One particle's attention{where}")
        axes = right.subplots(2, len(runs), sharex=True, sharey="row", squeeze=False)
        for column, run in enumerate(runs):
            losses, scores = axes[:, column]
            draw_losses(losses, trajectory, run)
            draw_scores(scores, trajectory, findings, run)
            losses.set_title(f"Seed {run}")
            scores.set_xlabel("optimiser step")
            step_axis(scores, trajectory)
            for head in findings.highlighted:
                steps, values = measured(score_curve(trajectory, head))
                if head.run != run or head.onset is None or not values.size:
                    continue
                height = float(np.interp(head.onset.median, steps, values))
                scores.plot(head.onset[1:], [height, height], color=INK, lw=1.0, zorder=4)
                scores.plot(head.onset.median, height, "o", color=INK, ms=4, zorder=5)
        axes[0, 0].set_ylabel("loss")
        axes[1, 0].set_ylabel("collision score of each head\n(dots: onsets, with 89% intervals)")
        axes[0, -1].legend(loc="upper right")
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(target, dpi=150)
    return target
