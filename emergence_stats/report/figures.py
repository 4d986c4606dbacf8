"""Figures of what was found: training, the plain page's, laws, learning coefficients.

What lives here: one function a figure. What does not: the machinery of drawing (`drawing`), and
pictures of what a structure does, which its record brings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from emergence_stats.report.catalogue import Catalogue
from emergence_stats.report.drawing import (
    DASHES,
    FAINT,
    INK,
    MARKERS,
    MUTED,
    PAGE_INCHES,
    PAPER,
    SERIES,
    arrange_panels,
    colour_of,
    draw_baseline,
    draw_grid,
    label_ends,
    render,
    scale_steps,
    scale_values,
    shorten,
)
from emergence_stats.report.findings import Entries
from emergence_stats.report.records import VERDICTS, Findings, Head
from emergence_stats.report.wording import probability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT_UNITS = {"variance of the training set": "variance of targets"}


def draw_training(findings: Findings, runs: Sequence[int], name: str) -> Markup:
    """Losses above head scores and onsets, a column for each run."""
    most = max(sum(head.dated is not None for head in findings.highlighted_of(run)) for run in runs)
    strip = 0.3 + 0.12 * most  # inches

    def draw(figure: Figure) -> None:
        axes = figure.subplots(
            3, len(runs), sharex=True, sharey="row", squeeze=False,
            height_ratios=[1.5, 2.4, strip],
        )  # fmt: skip
        for column, run in enumerate(runs):
            losses, scores, onsets = axes[:, column]
            draw_losses(losses, findings.trajectory, run)
            draw_scores(scores, findings, run)
            draw_onsets(onsets, findings, run)
            losses.set_title(f"Seed {run}")
            onsets.set_xlabel("optimiser step")
            scale_steps(onsets, findings.trajectory)
        axes[0, 0].set_ylabel(f"loss\n({_read_units(findings, 'test_loss')})")
        axes[1, 0].set_ylabel(label_score(findings))
        axes[2, 0].set_ylabel("onset")
        axes[2, 0].set_ylim(-most + 0.4 if most else -0.5, 0.6)
        axes[0, -1].legend(loc="upper right")

    width = PAGE_INCHES if len(runs) > 1 else 0.62 * PAGE_INCHES
    return render(name, draw, size=(width, 4.6 + strip))


def label_score(findings: Findings) -> str:
    """The score's name and units on an axis."""
    units = _read_units(findings, findings.structure.score)
    return f"{findings.words['score']}\n({units})"


def _read_units(findings: Findings, variable: str) -> str:
    trajectory = findings.trajectory
    units = trajectory[variable].attrs.get("units", "") if variable in trajectory else ""
    return shorten(SHORT_UNITS.get(str(units), str(units)) or "own units")


def draw_losses(axes: Axes, trajectory: xr.Dataset, run: int) -> None:
    """Training and held-out loss of one run against step."""
    logarithmic = False
    for variable, label, dashes, colour in (
        ("train_loss", "training", (0, (4, 1.5)), MUTED),
        ("test_loss", "held out", "-", INK),
    ):
        steps, values = Entries(trajectory, run=run).curve(variable)
        axes.plot(steps, values, ls=dashes, color=colour, label=label)
        logarithmic = logarithmic or bool(values.size and (values > 0).all())
    if logarithmic:
        scale_values(axes)
    draw_grid(axes)


def draw_scores(axes: Axes, findings: Findings, run: int) -> None:
    """Every head's score of one run against step, the highlighted ones in colour."""
    chosen = findings.highlighted_of(run)
    for head in findings.heads:
        if head.run == run and head not in chosen:
            axes.plot(head.steps, head.scores, color=FAINT, lw=0.9, zorder=1)
    ends = []
    for place, head in enumerate(chosen):
        colour, low, high = colour_of(place), head.scores - head.spread, head.scores + head.spread
        axes.fill_between(head.steps, low, high, color=colour, alpha=0.18, lw=0)
        axes.plot(
            head.steps, head.scores, color=colour, ls=DASHES[place % len(DASHES)], zorder=3
        )  # fmt: skip
        if head.scores.size:
            ends.append((float(head.scores[-1]), head.label, colour))
    axes.set_ylim(bottom=0)  # leaves room under the baseline for its name
    draw_baseline(axes, findings.baseline, findings.words["baseline"])
    label_ends(axes, ends)


def draw_onsets(axes: Axes, findings: Findings, run: int) -> None:
    """A strip under the curves: each onset's median and interval, a row a head."""
    row = 0.0
    for place, head in enumerate(findings.highlighted_of(run)):
        if head.dated is None:
            continue
        colour, marker = colour_of(place), MARKERS[place % len(MARKERS)]
        if head.dated.known:
            axes.plot(head.dated[1:], [row] * 2, color=colour, lw=1.4, solid_capstyle="butt")
        axes.plot(head.dated.median, row, marker=marker, ms=3.5, color=colour)
        row -= 1
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def draw_headline(findings: Findings, words: Catalogue) -> Markup | None:
    """The plain page's small figure: the score of each run's best head, and its onset."""
    best = [next(iter(findings.highlighted_of(run)), None) for run in findings.runs]
    heads = [head for head in best if head is not None and head.scores.size][: len(SERIES)]
    if not heads:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ends = []
        for place, head in enumerate(heads):
            colour = colour_of(place)
            axes.plot(head.steps, head.scores, color=colour, ls=DASHES[place])
            ends.append((float(head.scores[-1]), f"{words.say('page.seed')} {head.run}", colour))
            if head.dated is not None:
                at = float(np.interp(head.dated.median, head.steps, head.scores))
                if head.dated.known:
                    axes.plot(head.dated[1:], [at, at], color=colour, lw=3, alpha=0.45)
                axes.plot(head.dated.median, at, marker=MARKERS[place], ms=5, color=colour)
        axes.set_ylim(bottom=0)
        draw_baseline(axes, findings.baseline, words.words["baseline"])
        axes.set_xlabel(words.say("page.step"))
        axes.set_ylabel(words.words["axis"])
        scale_steps(axes, findings.trajectory)
        label_ends(axes, ends, share=0.1)

    return render("headline", draw, size=(PAGE_INCHES, 2.1))


def draw_laws(heads: Sequence[Head]) -> Markup:
    """Probability of each law, and the order of the potential, a row a head."""

    def draw(figure: Figure) -> None:
        from matplotlib.colors import to_rgb
        from matplotlib.patches import Patch

        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
        rows = np.arange(len(heads))[::-1]
        styles: dict[str, dict[str, Any]] = {
            "power_law": {"fc": SERIES[0], "ec": SERIES[0]},
            "exponential": {"fc": (*to_rgb(SERIES[4]), 0.3), "ec": SERIES[4]},
            "flat": {"fc": "none", "ec": FAINT},
        }
        for row, head in zip(rows, heads, strict=True):
            start = 0.0
            for name, style in styles.items():
                share = head.probability.get(name, math.nan)
                if math.isnan(share):
                    continue
                left.barh(row, share, left=start, height=0.62, lw=0.7, **style)
                if share > 0.16:
                    left.text(
                        start + share / 2, row, probability(share), ha="center", va="center",
                        color=PAPER if name == "power_law" else INK, fontsize=8,
                    )  # fmt: skip
                start += share
            if head.order is not None:
                right.plot(head.order[1:], [row] * 2, color=SERIES[0], lw=1.4)
                right.plot(head.order.median, row, marker="o", ms=4.5, color=SERIES[0])
        left.set_yticks(rows, [f"seed {head.run}, {head.label}" for head in heads])
        left.set_ylim(-0.6, len(heads) - 0.4)
        left.tick_params(axis="y", length=0)
        right.tick_params(axis="y", length=0)
        left.set_xlim(0, 1)
        left.set_xlabel("posterior probability")
        left.set_title("Law of the rise")
        figure.legend(
            handles=[
                Patch(label=VERDICTS.get(name, "no rise"), lw=0.7, **style)
                for name, style in styles.items()
            ],
            loc="outside upper left", ncols=3,
        )  # fmt: skip
        right.axvline(2, color=INK, lw=0.8, ls=(0, (2, 2)))
        right.set_title("Order n, if a power law")
        right.set_xlabel("n (2 = exponential)")
        right.set_xlim(left=1.8)
        tallest = max((head.order.upper for head in heads if head.order), default=4.0)
        if math.isfinite(tallest):
            right.set_xlim(right=max(4.0, min(tallest * 1.05, 40.0)))

    return render("laws", draw, size=(PAGE_INCHES, 1.3 + 0.28 * len(heads)))


def draw_coefficients(findings: Findings) -> Markup:
    """The LLC at each checkpoint with its standard error, and the span of the onsets."""
    runs = [run for run in findings.runs if any(one.run == run for one in findings.llc)]

    def draw(panels: list[Axes]) -> None:
        for place, (axes, run) in enumerate(zip(panels, runs, strict=True)):
            colour = colour_of(place)
            mine = [one for one in findings.llc if one.run == run and math.isfinite(one.value)]
            onsets = [head.onset for head in findings.highlighted_of(run) if head.onset]
            ends = [end for onset in onsets for end in onset if math.isfinite(end)]
            if ends:
                axes.axvspan(min(ends), max(ends), color=FAINT, alpha=0.5, lw=0)
            steps, values = [one.step for one in mine], [one.value for one in mine]
            axes.plot(steps, values, color=colour, lw=1, alpha=0.6)
            for one in mine:
                error = one.standard_error if math.isfinite(one.standard_error) else 0.0
                axes.errorbar(
                    one.step, one.value, yerr=error, color=colour, marker="o", ms=4,
                    mfc=colour if one.reliable else PAPER, mew=1.1, capsize=3, lw=1.1,
                )  # fmt: skip
            axes.set_title(f"Seed {run}")
            axes.margins(y=0.15)
            draw_grid(axes)
            scale_steps(axes, findings.trajectory)

    labels = ("optimiser step", "LLC (dimensionless)")
    return arrange_panels(draw, "coefficients", len(runs), labels)
