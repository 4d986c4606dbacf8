"""What is written: one self-contained HTML file, or one picture, from the datasets.

What lives here: joining what the other modules made, and the files. What does not: what they say.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
from markupsafe import Markup

from emergence_stats.errors import disk_errors
from emergence_stats.report import drawing, figures
from emergence_stats.report.decision import decide
from emergence_stats.report.findings import Results, read_findings
from emergence_stats.report.method import list_versions, write_toml
from emergence_stats.report.plain import write_plain_page
from emergence_stats.report.records import Findings
from emergence_stats.report.sections import write_sections

TEMPLATES = Path(__file__).parent / "templates"
MOST_RUNS_IN_PICTURE = 2


def write_report(
    path: str | os.PathLike[str],
    *,
    language: str = "en",
    title: str | None = None,
    **results: Unpack[Results],
) -> Path:
    """Writes what was found as one HTML file that can be read offline and printed.

    Parameters
    ----------
    path : path
        The file; its folder is made where it does not exist.
    language : {"en", "ja"}
        Language of the plain-language page; the rest is in English.
    title : str, optional
        Heading of the report; the structure's own in `language` when left out.
    **results
        `trajectory`, and of `assessment`, `comparison`, `onset`, `llc` and `structure` what there
        is (see `findings.Results`); the page says what was not computed.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    InputError
        If the trajectory has no score by run, step, layer and head, or the language is unknown.
    StorageError
        If the file cannot be written; an older file at `path` is then unchanged.
    """
    target = Path(path)
    findings = read_findings(**results)
    html = _render_page(findings, language, title)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(html, encoding="utf-8")
        os.replace(partial, target)
    return target


def _render_page(findings: Findings, language: str, title: str | None) -> str:
    import jinja2

    plain = write_plain_page(findings, decide(findings), language)
    attrs = findings.trajectory.attrs
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The figures' colours as CSS, so that page and figures cannot differ.
    colours = (f"{variable}: {colour};" for colour, variable in drawing.VARIABLES.items())
    return environment.get_template("report.html.j2").render(
        title=title or plain.words.say("structure.title"),
        plain=plain,
        say=plain.words.say,
        plain_figure=figures.draw_headline(findings, plain.words),
        sections=write_sections(findings),
        structure=findings.structure,
        toml=write_toml(findings.configuration),
        versions=list_versions(str(attrs.get("version", "")) or "not recorded"),
        time_axis=str(attrs.get("time_axis", "")) or "optimiser steps",
        colours=Markup(" ".join(colours)),
        date=datetime.date.today().isoformat(),
    )


def write_picture(path: str | os.PathLike[str], **results: Unpack[Results]) -> Path:
    """Draws losses and scores against step as one PNG, beside what the structure's record draws.

    Parameters
    ----------
    path : path
        The file.
    **results
        As for `write_report`.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    InputError
        If the trajectory has no score by run, step, layer and head.
    StorageError
        If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    findings = read_findings(**results)
    target = Path(path)
    with drawing.drawing_style():
        figure = Figure(figsize=(11, 4.2), layout="constrained", facecolor=drawing.PAPER)
        FigureCanvasAgg(figure)
        left, right = cast("Any", figure.subfigures(1, 2, width_ratios=[1.0, 1.9]))
        _draw_structure(left, findings)
        _draw_training(right, findings)
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(target, dpi=150)
    return target


def _draw_structure(figure: Any, findings: Findings) -> None:
    axes = figure.subplots()
    draw = findings.structure.picture
    title = draw(axes, findings.assessment) if draw is not None else ""
    if title:
        axes.set_title(title)
    else:
        axes.set_axis_off()


def _draw_training(figure: Any, findings: Findings) -> None:
    """Losses above scores with their onsets, a column for each of the first runs."""
    runs = findings.runs[:MOST_RUNS_IN_PICTURE]
    axes = figure.subplots(2, len(runs), sharex=True, sharey="row", squeeze=False)
    for column, run in enumerate(runs):
        losses, scores = axes[:, column]
        figures.draw_losses(losses, findings.trajectory, run)
        figures.draw_scores(scores, findings, run)
        losses.set_title(f"Seed {run}")
        scores.set_xlabel("optimiser step")
        drawing.scale_steps(scores, findings.trajectory)
        for head in findings.highlighted_of(run):
            if head.onset is not None and head.scores.size:
                height = float(np.interp(head.onset.median, head.steps, head.scores))
                scores.plot(head.onset[1:], [height, height], color=drawing.INK, lw=1.0, zorder=4)
                scores.plot(head.onset.median, height, "o", color=drawing.INK, ms=4, zorder=5)
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel(
        f"{findings.words['score']} of each head\n(dots: onsets, with 89% intervals)"
    )
    axes[0, -1].legend(loc="upper right")
