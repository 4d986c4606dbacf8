"""What the heads and the network do: the three tests, the picture, the rollout.

What lives here: these sections' sentences, figures and tables. What does not: the sections about
training (`sections`) and drawing (`panels`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from emergence_stats.report import panels, wording
from emergence_stats.report.animation import Scene
from emergence_stats.report.findings import pick
from emergence_stats.report.layout import MOST_ROWS, Figure, Section, Table, name_of, omitted
from emergence_stats.report.records import Findings


def tests(assessment: xr.Dataset | None, findings: Findings) -> Section:
    """Does a head do its job: the three tests, and how often they are passed over seeds."""
    title = "Does a head do its job: three tests"
    if assessment is None or not findings.assessed_runs:
        return Section("tests", title, missing="The three tests were not computed.")
    criterion = str(assessment.attrs.get("criterion", "")) or "not recorded"
    done, of = len(findings.emerged_runs), len(findings.assessed_runs)
    counts = [
        f"seed {run}: {sum(head.run == run for head in findings.emerged)}"
        for run in findings.assessed_runs
    ]
    paragraphs = (
        f"Reproduction: {done} of {wording.count(of, 'seed')} "
        f"{'has' if done == 1 else 'have'} at least one collision-detection head. "
        f"Heads by run: {', '.join(counts)}.",
        f"Criterion: {criterion}.",
    )
    heads = [head for head in findings.heads if head.passes is not None]
    shown = sorted(heads[:MOST_ROWS], key=lambda head: (not head.emerged, head.run))
    rows = tuple(
        (
            *name_of(head),
            _marked(wording.interval(head.score, decimals=3), head.tests[0]),
            _marked(wording.interval(head.rank_correlation, decimals=2), head.tests[1]),
            _marked(_rise(head.rise_colliding), head.tests[2]),
            _rise(head.rise_free),
            "yes" if head.passes else "no",
        )
        for head in shown
    )
    table = Table(
        "Every head’s three tests, at the end of training: estimate [89% interval]",
        (
            "Seed", "Head", "1. Collision score", "2. Rank correlation",
            "3. Loss rise, colliding", "Loss rise, free", "All passed",
        ),
        rows,
        numeric=frozenset({0}),
        marked=frozenset(place for place, head in enumerate(shown) if head.emerged),
        note="✓ passed, ✗ not passed. Loss rises, on colliding and on free particles, when the "
        f"head’s output is replaced by its mean, {_rise_units(assessment)}."
        + omitted(len(heads) - len(shown)),
    )  # fmt: skip
    return Section("tests", title, paragraphs, (), (table,))


def _rise(rise: wording.Interval | None) -> str:
    """A relative rise with two decimals, or one from ten on."""
    return wording.interval(rise, decimals=1 if rise and abs(rise.median) >= 10 else 2)


def _rise_units(assessment: xr.Dataset) -> str:
    if "intact_loss" in assessment:
        return "are multiples of the intact network’s loss on the same particles"
    units = (
        ""
        if "ablation_loss_rise" not in assessment
        else (assessment["ablation_loss_rise"].attrs.get("units", ""))
    )
    return f"are in units of {units}" if units not in ("", "1") else "are as stored"


def _marked(text: str, passed: bool | None) -> str:
    return text if passed is None else f"{text} {'✓' if passed else '✗'}"


def picture(scene: Scene | None) -> Section:
    """Particles with one head's attention, as a still and as an animation."""
    title = "A head at work"
    if scene is None:
        return Section("picture", title, missing="No frames were recorded for a picture.")
    shares = scene.shares()[scene.frame, scene.query]
    top = float(shares.max())
    own = float(scene.attention[scene.frame, scene.query, scene.query])
    kept = f" It keeps {100 * own:.0f}% for itself; shares are of the rest." if own >= 0 else ""
    view = (
        " Seen along one axis; particles that seem to touch may be apart."
        if scene.projected
        else ""
    )
    who = f"seed {scene.run}, layer {scene.layer}, head {scene.head}"
    figure = Figure(
        panels.still(scene),
        f"One particle’s (filled) attention to the others, frame {scene.frame}, {who}: the wider "
        f"the line, the larger the share; 10% and more are written.{kept} The frame is the early "
        "one in which two particles are nearest to touching, and the particle one of those two. "
        f"Gravity points down.{view}",
        f"Particles in a box; lines lead from one of them to those it attends to. The largest "
        f"share of its attention to others, {wording.number(100 * top, 2)}%, goes to one particle.",
    )
    return Section("picture", title, (), (figure,), animation=scene.packed())


def rollout(assessment: xr.Dataset | None) -> Section:
    """The iterated network beside simple predictors."""
    title = "The network as a simulator: error of repeated prediction"
    errors = pick(assessment, "rollout_error")
    if assessment is None or errors is None or set(errors.dims) != {"run", "time", "predictor"}:
        return Section("rollout", title, missing="The rollout error was not computed.")
    time = np.asarray(errors.get_index("time"))
    places = sorted({place for place in (1, 2, 5, 10, 20, time.size - 1) if place < time.size})
    rows, sentences = [], []
    for run in errors.get_index("run"):
        curves = {
            str(name): np.asarray(
                errors.isel(predictor=place).sel(run=run).transpose("time").values, dtype=float
            )
            for place, name in enumerate(errors.get_index("predictor"))
        }
        for name, curve in curves.items():
            label = "network" if name == "model" else name
            rows.append((str(run), label, *(wording.number(curve[place]) for place in places)))
        if "model" in curves:
            beaten = [
                f"that of {name} {_how_long(curves['model'], curve, time)}"
                for name, curve in curves.items()
                if name != "model"
            ]
            if beaten:
                sentences.append(
                    f"Seed {run}: the network’s error is below {wording.joined(beaten)}."
                )
    figure = Figure(
        panels.rollout(assessment),
        "Root mean square position error of the network applied to its own predictions, beside "
        "leaving every particle in its place (persistence) and free flight that stops at the walls "
        "(ballistic).",
        "Line chart of position error against time. " + " ".join(sentences),
    )
    table = Table(
        "Root mean square position error, in particle diameters",
        ("Seed", "Predictor", *(f"at {time[place]:g}" for place in places)),
        tuple(rows),
        numeric=frozenset({0, *range(2, 2 + len(places))}),
        note="Times are in prediction intervals.",
    )
    return Section("rollout", title, tuple(sentences), (figure,), (table,))


def _how_long(model: np.ndarray, other: np.ndarray, time: Sequence[float] | np.ndarray) -> str:
    """Until when the model's error stays below the other's, from the first prediction on."""
    good = model[1:] < other[1:]
    if good.size == 0 or not np.isfinite(model[1:]).any():
        return "nowhere (no finite error)"
    if good.all():
        return "throughout"
    first = int(np.argmin(good))
    return "at no time from the first on" if first == 0 else f"up to time {time[first]:g}"
