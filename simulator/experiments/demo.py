"""The main job from end to end: simulate, train, analyse, report.

What lives here: `run_demo`, the order of the stages and where each leaves its result. What does
not: the stages themselves. Each stage's result is kept in the folder and taken from there when the
same command is run again, so a demo that was stopped continues.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

import emergence_stats as es
from simulator.experiments.assessment import assess
from simulator.experiments.landscape import landscape
from simulator.experiments.stages import announce_on_terminal, compute_once
from simulator.training.config import TrainingConfig
from simulator.training.runs import train

BEGUN = 0.1


def run_demo(
    config: TrainingConfig,
    output: str | os.PathLike[str],
    *,
    language: str = "en",
    progress: bool = True,
) -> list[str]:
    """Trains, analyses and reports; returns the summary's lines, the report's path last.

    The folder is new, or one in which the same demo was begun; `language` is "en" or "ja".
    """
    from emergence_stats.report import Results, text_summary, write_picture, write_report
    from simulator.report.record import COLLISION_HEADS

    folder = Path(output)
    trajectory = train(config, folder, progress=progress)
    say = announce_on_terminal(progress)
    # A result is current for the steps and the version it was computed with.
    key = f"{es.__version__}, step {trajectory['step'].values[-1]}"
    scores = trajectory["collision_score"]
    say("comparing power law and exponential for every head")
    comparison = compute_once(
        folder / "analysis" / "comparison.nc", key, lambda: es.compare(scores).dataset
    )
    say("dating the onsets")
    onset = compute_once(
        folder / "analysis" / "onset.nc", key, lambda: es.detect_onset(scores).dataset
    )
    say("testing what each head does")
    assessment = compute_once(folder / "analysis" / "assessment.nc", key, lambda: assess(folder))
    say("sampling the loss landscape around checkpoints before and after")
    chosen = landscape_checkpoints(trajectory, assessment)
    llc = compute_once(
        folder / "analysis" / "llc.nc", key, lambda: landscape(folder, chosen, report=say)
    )
    say("writing the report")
    results: Results = {
        "trajectory": trajectory,
        "assessment": assessment,
        "comparison": comparison,
        "onset": onset,
        "llc": llc,
        "structure": COLLISION_HEADS,
    }
    write_picture(folder / "picture.png", **results)
    path = write_report(folder / "report.html", **results, language=language)
    return [*text_summary(**results), str(path)]


def landscape_checkpoints(
    trajectory: xr.Dataset, assessment: xr.Dataset
) -> list[tuple[int, int, str]]:
    """Where to sample the landscape of each run: before any head has begun to rise, and at its end.

    A head has begun when its score has covered a tenth of its whole rise; before is at half that
    step. Read off the scores, so that it holds whichever law they follow. Of a run in which no head
    passes the tests, every head counts.
    """
    chosen = []
    for run in trajectory["run"].values:
        finished = trajectory["test_loss"].sel(run=run).dropna("step")["step"].values
        scores = trajectory["collision_score"].sel(run=run, step=finished)
        passes = assessment["is_collision_head"].sel(run=run)
        scores = scores.where(passes | ~passes.any())
        rise = (scores - scores.isel(step=0)) / (scores.isel(step=-1) - scores.isel(step=0))
        begun = (rise >= BEGUN).any([name for name in rise.dims if name != "step"]).values
        first = float(finished[int(np.argmax(begun))]) if begun.any() else float(finished[-1])
        before = finished[max(0, int(np.searchsorted(finished, first / 2, side="right")) - 1)]
        chosen.append((int(run), int(before), "before"))
        if finished[-1] > before:
            chosen.append((int(run), int(finished[-1]), "after"))
    return chosen
