"""Sections about what collision heads do: attention against distance, a head at work, the rollout.

What lives here: their sentences, figures and tables. What does not: the scene (`scene`) and the
sections about every structure alike (`emergence_stats.report.sections`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from emergence_stats.report import wording
from emergence_stats.report.drawing import (
    DASHES,
    FAINT,
    INK,
    MARKERS,
    MUTED,
    PAGE_INCHES,
    arrange_panels,
    colour_of,
    draw_grid,
    render,
    shorten,
)
from emergence_stats.report.findings import Entries
from emergence_stats.report.layout import Figure, Section, Table
from emergence_stats.report.records import Findings, Head
from simulator.report.scene import Scene, draw_frame, read_scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

MOST_PROFILES = 6
PREDICTORS = {"persistence": (0, (1.2, 1.2)), "ballistic": (0, (5, 2))}
# Position errors are listed at these times, and at the last.
TIMES = (1, 2, 5, 10, 20)


def write_sections(findings: Findings) -> list[Section]:
    """All of them in order."""
    return [write_distance(findings), write_scene(findings), write_rollout(findings)]


def write_distance(findings: Findings) -> Section:
    """Attention against distance before and after."""
    name, title = "distance", "What the heads look at: attention against distance"
    if "attention_distance_correlation" not in findings.trajectory:
        missing = "The attention-distance correlation was not recorded."
        return Section(name, title, missing=missing)
    profiles = {head: _read_profile(findings, head) for head in _take_turns(findings)}
    profiles = {head: ends for head, ends in profiles.items() if ends}
    if not profiles:
        missing = "The attention-distance correlation has no values."
        return Section(name, title, missing=missing)
    contact = _read_contact_range(findings)
    shaded = (
        f" Shaded: within {contact:g} diameters, the range of the collision score."
        if math.isfinite(contact)
        else ""
    )
    peaks = []
    for head, ends in profiles.items():
        _, distance, values, _ = ends[-1]
        top = int(np.nanargmax(values))
        peaks.append(
            f"{head.name} ends with a maximum of {wording.number(values[top])} at "
            f"{wording.number(distance[top])} diameters"
        )

    def draw(panels: list[Axes]) -> None:
        for axes, (head, ends) in zip(panels, profiles.items(), strict=True):
            colour = colour_of(findings.highlighted_of(head.run).index(head))
            if math.isfinite(contact):
                axes.axvspan(0, contact, color=FAINT, alpha=0.35, lw=0)
            axes.axhline(1, color=INK, lw=0.8, ls=(0, (2, 2)))
            styles = ((MUTED, (0, (3, 1.5))), (colour, "-"))
            for (step, distance, values, spread), (tint, dashes) in zip(ends, styles, strict=False):
                axes.fill_between(
                    distance, values - spread, values + spread, color=tint, alpha=0.2, lw=0
                )
                label = f"step {wording.step(step)}"
                axes.plot(distance, values, color=tint, ls=dashes, label=label)
            axes.set_title(f"Seed {head.run}, {head.label}")
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.legend(loc="upper right")

    labels = ("distance (diameters)", "attention g(r)\n(1 = ignores distance)")
    figure = Figure(
        arrange_panels(draw, "distances", len(profiles), labels),
        "Attention-distance correlation g(r): mean attention to particles at a distance, over the "
        "mean attention to any other particle; 1 for a head that ignores distance. First measured "
        f"step (dashed) and last (solid); bands are one standard error.{shaded}",
        f"Line charts of attention against distance: {'; '.join(peaks)}.",
    )
    return Section(name, title, figures=(figure,))


def _read_profile(
    findings: Findings, head: Head
) -> list[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
    """Step, distances, g(r) and its standard error at the first and the last measured step."""
    here = Entries(findings.trajectory, run=head.run, layer=head.layer, head=head.head)
    profile = here.array("attention_distance_correlation")
    if profile is None or set(profile.dims) != {"step", "distance"}:
        return []
    profile = profile.transpose("step", "distance")
    error = here.array("attention_distance_correlation_sd")
    distance = np.asarray(profile.get_index("distance"), dtype=float)
    rows = np.flatnonzero(np.isfinite(profile.values).any(axis=1))
    found = []
    for row in dict.fromkeys((rows[0], rows[-1])) if rows.size else ():
        spread = np.zeros(distance.size)
        if error is not None:
            spread = np.nan_to_num(error.transpose("step", "distance").values[row])
        values = np.asarray(profile.values[row], dtype=float)
        found.append((float(profile.get_index("step")[row]), distance, values, spread))
    return found


def _take_turns(findings: Findings) -> list[Head]:
    """Each run's best highlighted heads, as many of each as there is room for."""
    ranked = [
        (place, run, head)
        for run in findings.runs
        for place, head in enumerate(findings.highlighted_of(run))
    ]
    chosen = sorted(ranked, key=lambda one: one[:2])[:MOST_PROFILES]
    return [head for _, _, head in sorted(chosen, key=lambda one: (one[1], one[0]))]


def _read_contact_range(findings: Findings) -> float:
    try:
        return float(findings.configuration.get("contact_range", math.nan))
    except (TypeError, ValueError):
        return math.nan


def write_scene(findings: Findings) -> Section:
    """Particles with one head's attention, as a still and as an animation."""
    name, title = "picture", "A head at work"
    scene = read_scene(findings.assessment)
    if scene is None:
        return Section(name, title, missing="No frames were recorded for a picture.")
    top = float(scene.shares()[scene.frame, scene.query].max())
    own = float(scene.attention[scene.frame, scene.query, scene.query])
    kept = f" It keeps {100 * own:.0f}% for itself; shares are of the rest." if own >= 0 else ""
    view = (
        " Seen along one axis; particles that seem to touch may be apart."
        if scene.projected
        else ""
    )
    width, height = scene.extent
    size = (4.2, max(2.0, min(6.0, 4.2 * height / width)))
    figure = Figure(
        render("still", lambda drawing: draw_frame(drawing.subplots(), scene), size=size),
        f"One particle’s (filled) attention to the others, frame {scene.frame}, {scene.name}: the "
        f"wider the line, the larger the share; 10% and more are written.{kept} The frame is the "
        "early one in which two particles are nearest to touching, and the particle one of those "
        f"two. Gravity points down.{view}",
        f"Particles in a box; lines lead from one of them to those it attends to. The largest "
        f"share of its attention to others, {wording.number(100 * top, 2)}%, goes to one particle.",
    )
    return Section(name, title, figures=(figure,), html=_write_player(scene))


def _write_player(scene: Scene) -> Markup:
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined
    )
    return Markup(environment.get_template("player.html.j2").render(frames=scene.packed()))


def write_rollout(findings: Findings) -> Section:
    """The iterated network beside simple predictors."""
    name, title = "rollout", "The network as a simulator: error of repeated prediction"
    errors = Entries(findings.assessment).array("rollout_error")
    if errors is None or set(errors.dims) != {"run", "time", "predictor"}:
        return Section(name, title, missing="The rollout error was not computed.")
    errors = errors.transpose("run", "predictor", "time")
    runs = [int(run) for run in errors.get_index("run")]
    predictors = [str(predictor) for predictor in errors.get_index("predictor")]
    curves = {
        run: dict(zip(predictors, np.asarray(values, dtype=float), strict=True))
        for run, values in zip(runs, errors.values, strict=True)
    }
    time = np.asarray(errors.get_index("time"))
    places = sorted({place for place in (*TIMES, time.size - 1) if place < time.size})
    rows, sentences = [], []
    for run, mine in curves.items():
        for predictor, curve in mine.items():
            label = "network" if predictor == "model" else predictor
            rows.append((str(run), label, *(wording.number(curve[place]) for place in places)))
        beaten = [
            f"that of {predictor} {_say_how_long(mine['model'], curve, time)}"
            for predictor, curve in mine.items()
            if "model" in mine and predictor != "model"
        ]
        if beaten:
            sentences.append(f"Seed {run}: the network’s error is below {wording.join(beaten)}.")
    unit = str(errors["time"].attrs.get("units", "")) if "time" in errors.coords else ""
    figure = Figure(
        _draw_rollout(curves, time, unit or "intervals"),
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
    return Section(name, title, tuple(sentences), (figure,), tables=(table,))


def _say_how_long(model: np.ndarray, other: np.ndarray, time: Sequence[float] | np.ndarray) -> str:
    """Until when the model's error stays below the other's, from the first prediction on."""
    good = model[1:] < other[1:]
    if good.size == 0 or not np.isfinite(model[1:]).any():
        return "nowhere (no finite error)"
    if good.all():
        return "throughout"
    first = int(np.argmin(good))
    return "at no time from the first on" if first == 0 else f"up to time {time[first]:g}"


def _draw_rollout(curves: dict[int, dict[str, np.ndarray]], time: np.ndarray, unit: str) -> Markup:
    """Position error of the iterated network against time, beside the simple predictors."""

    def draw(figure: MplFigure) -> None:
        axes = figure.subplots()
        for place, (run, mine) in enumerate(curves.items()):
            if "model" in mine:
                axes.plot(
                    time, mine["model"], color=colour_of(place), ls=DASHES[place % len(DASHES)],
                    marker=MARKERS[place % len(MARKERS)], markevery=max(1, time.size // 8), ms=3.5,
                    label=f"network, seed {run}",
                )  # fmt: skip
        highest = 0.0
        for predictor, dashes in PREDICTORS.items():
            found = [mine[predictor] for mine in curves.values() if predictor in mine]
            if found:
                # They see the same systems in every run; where not, their mean is drawn.
                curve = np.mean(found, axis=0)
                axes.plot(time, curve, color=INK, ls=dashes, lw=1.1, label=predictor)
                highest = max(highest, float(np.nanmax(curve, initial=0.0)))
        # A network that diverges would squeeze everything else; the table has its numbers.
        if highest > 0 and axes.get_ylim()[1] > 3 * highest:
            axes.set_ylim(0, 3 * highest)
        axes.set_ylim(bottom=0)
        axes.set_xlim(time[0], time[-1])
        axes.set_xlabel(f"time ({shorten(unit)})")
        axes.set_ylabel("rms position error (diameters)")
        draw_grid(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))

    return render("rollout", draw, size=(PAGE_INCHES, 2.9))
