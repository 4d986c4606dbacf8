"""One self-contained HTML file from the datasets.

What lives here: `write_report`, which joins sections, the plain page and the templates and writes
the file. What does not: what they say.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import xarray as xr
from markupsafe import Markup

from emergence_stats.errors import disk_errors
from emergence_stats.report import figures, performance, sections
from emergence_stats.report.animation import read_scene
from emergence_stats.report.findings import read_findings
from emergence_stats.report.language import plain_page
from emergence_stats.report.method import read_method
from emergence_stats.report.summary import decide

TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    path: str | os.PathLike[str],
    *,
    trajectory: xr.Dataset,
    assessment: xr.Dataset | None = None,
    comparison: xr.Dataset | None = None,
    onset: xr.Dataset | None = None,
    llc: xr.Dataset | None = None,
    language: str = "en",
    title: str | None = None,
) -> Path:
    """Writes what was found as one HTML file that can be read offline and printed.

    Everything but `trajectory` may be None; the section then says that it was not computed.

    Parameters
    ----------
    path : path
        The file; its folder is made where it does not exist.
    trajectory : xarray.Dataset
        As `emergence_stats.open_trajectory` reads it: `collision_score(run, step, layer, head)`,
        losses, `attention_distance_correlation` by distance in particle diameters.
    assessment : xarray.Dataset, optional
        The three tests of each head, the rollout error and the frames of the animation.
    comparison : xarray.Dataset, optional
        By run, layer and head: verdict, probability of each family and posterior quantiles.
    onset : xarray.Dataset, optional
        By run, layer and head: probability, median, lower and upper, in steps.
    llc : xarray.Dataset, optional
        By run and step: llc, llc_standard_error and llc_verdict.
    language : {"en", "ja"}
        Language of the plain-language page; the rest is in English.
    title : str, optional
        Heading of the report; a question in `language` when left out.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    InputError
        If the trajectory has no collision scores or the language is unknown.
    StorageError
        If the file cannot be written; an older file at `path` is then unchanged.
    """
    target = Path(path)
    html = render_report(
        trajectory=trajectory,
        assessment=assessment,
        comparison=comparison,
        onset=onset,
        llc=llc,
        language=language,
        title=title,
    )
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(html, encoding="utf-8")
        os.replace(partial, target)
    return target


def render_report(
    *,
    trajectory: xr.Dataset,
    assessment: xr.Dataset | None,
    comparison: xr.Dataset | None,
    onset: xr.Dataset | None,
    llc: xr.Dataset | None,
    language: str,
    title: str | None,
) -> str:
    """The text of the HTML file; arguments as for `write_report`."""
    import jinja2

    findings = read_findings(trajectory, assessment, comparison, onset, llc)
    decision = decide(findings)
    plain = plain_page(findings, decision, language)
    scene = read_scene(assessment)
    contents = [
        sections.training(trajectory, findings),
        sections.distance(trajectory, findings),
        sections.comparison(comparison, findings),
        sections.coefficients(trajectory, llc, findings),
        performance.tests(assessment, findings),
        performance.picture(scene),
        performance.rollout(assessment),
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title or plain.title,
        plain=plain,
        plain_figure=figures.headline_figure(trajectory, findings, language),
        sections=contents,
        method=read_method(trajectory, findings),
        findings=findings,
        colours=_colours(),
        date=datetime.date.today().isoformat(),
    )


def _colours() -> Markup:
    """The figures' colours as CSS, so that page and figures cannot differ."""
    lines = (f"{variable}: {colour};" for colour, variable in figures.VARIABLES.items())
    return Markup(" ".join(lines))
