"""The report's figures, each as inline SVG that follows the page's colours.

What lives here: drawing with matplotlib, and making its SVG fit for inlining (unique names, no
links, colours as CSS variables so that one figure serves light, dark and paper). What does not:
which heads are shown (`records`) and the text around the figures (`sections`).
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr
from markupsafe import Markup

from emergence_stats.report.findings import measured, pick
from emergence_stats.report.records import Findings, Head

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinguishable with every common colour vision; the page's style sheet
# gives each variable a lighter twin for dark screens.
INK, MUTED, FAINT, PAPER = "#1d2b33", "#6b7a82", "#c9d1d5", "#fdfdfb"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#8c6d00", "#3a9bc9")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    FAINT: "--faint",
    PAPER: "--paper",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES)},
}
# A figure as wide as the text column; narrower ones keep the scale, and so the size of letters.
PAGE_INCHES = 7.2
PAGE_POINTS = 72 * PAGE_INCHES
PAGE_REMS = 43.5
MARKERS = "osD^vP"
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)), "-")
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "emergence-stats",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "text.parse_math": False,  # labels hold foreign text, whose dollar signs mean nothing
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
    "patch.linewidth": 0.7,
}


def render(name: str, draw: Callable[[Figure], None], *, size: tuple[float, float]) -> Markup:
    """Draws a figure and returns it as an SVG element for inlining.

    Parameters
    ----------
    name : str
        Unique in the page; prefixes every id.
    draw : callable
        Draws on the figure it is given.
    size : tuple of float
        Width and height in inches; the page scales it.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A Figure of its own, without pyplot, leaves the caller's figures and settings alone.
    with mpl.rc_context(cast("Any", STYLE)), warnings.catch_warnings():
        # Japanese labels are drawn by the reader's fonts; matplotlib need not have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA), transparent=True)
    return Markup(inline(buffer.getvalue(), name))


_METADATA = ("Creator", "Date", "Format", "Type")


def inline(svg: str, name: str) -> str:
    """Matplotlib's SVG file as an element that can stand in a page beside others.

    Examples
    --------
    >>> inline('<?xml version="1.0"?><svg width="9pt" height="9pt" viewBox="0 0 9 9">'
    ...        '<g id="a"/><use xlink:href="#a"/></svg>', "one")
    '<svg viewBox="0 0 9 9" style="max-width: 0.8rem"><g id="one-a"/><use href="#one-a"/></svg>'
    """
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, end, body = svg.partition(">")
    head = re.sub(r'\s(?:width|height|version|xmlns(?::\w+)?)="[^"]*"', "", head)
    box = re.search(r'viewBox="0 0 ([\d.]+)', head)
    if box is not None:
        head += f' style="max-width: {float(box[1]) * PAGE_REMS / PAGE_POINTS:.1f}rem"'
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', body))
    body = re.sub(
        r'\sid="([^"]*)"',
        lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "",
        body,
    )
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    for colour, variable in VARIABLES.items():
        body = re.sub(colour, f"var({variable})", body, flags=re.IGNORECASE)
    return head + end + body


def training_curves(
    trajectory: xr.Dataset, findings: Findings, runs: Sequence[int], name: str
) -> Markup:
    """Losses above head scores, a column for each run."""
    most = max(
        sum(_dated(head) for head in findings.highlighted if head.run == run) for run in runs
    )
    strip = 0.3 + 0.12 * most  # inches

    def draw(figure: Figure) -> None:
        axes = figure.subplots(
            3, len(runs), sharex=True, sharey="row", squeeze=False,
            height_ratios=[1.5, 2.4, strip],
        )  # fmt: skip
        for column, run in enumerate(runs):
            losses, scores, onsets = axes[:, column]
            draw_losses(losses, trajectory, run)
            draw_scores(scores, trajectory, findings, run)
            draw_onsets(onsets, findings, run)
            losses.set_title(f"Seed {run}")
            onsets.set_xlabel("optimiser step")
            step_axis(onsets, trajectory)
        axes[0, 0].set_ylabel(f"loss\n({_units(trajectory, 'test_loss')})")
        axes[1, 0].set_ylabel("collision score (share\nof attention to others)")
        axes[2, 0].set_ylabel("onset")
        axes[2, 0].set_ylim(-most + 0.4 if most else -0.5, 0.6)
        axes[0, -1].legend(loc="upper right")

    width = PAGE_INCHES if len(runs) > 1 else 0.62 * PAGE_INCHES
    return render(name, draw, size=(width, 4.6 + strip))


def _dated(head: Head) -> bool:
    return head.onset is not None and head.rise_found is not False


def series(findings: Findings, head: Head) -> int:
    """The place of a head among its run's highlighted ones: its colour in every figure."""
    mine = [one for one in findings.highlighted if one.run == head.run]
    return mine.index(head) if head in mine else 0


def _units(trajectory: xr.Dataset, variable: str) -> str:
    units = trajectory[variable].attrs.get("units", "") if variable in trajectory else ""
    short = {"variance of the training set": "variance of targets"}
    return plain(short.get(str(units), str(units)) or "own units")


def plain(text: str, longest: int = 40) -> str:
    """A foreign text for a figure, cut to what fits."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def step_axis(axes: Axes, trajectory: xr.Dataset) -> None:
    """A logarithmic axis on which step 0 has a place."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    steps = np.asarray(trajectory.get_index("step"), dtype=float)
    positive = steps[steps > 0]
    smallest = float(positive[0]) if positive.size else 1.0
    largest = float(steps[-1]) if steps[-1] > 0 else 1.0
    if steps[0] > 0:
        axes.set_xscale("log")
        axes.set_xlim(smallest / 1.1, largest * 1.1)
    else:
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.4)
        axes.set_xlim(0, largest * 1.1)
    low, high = math.floor(math.log10(smallest)), math.ceil(math.log10(largest) + 1e-9)
    ticks = [10.0**power for power in range(low, high + 1)]
    ticks = [tick for tick in ticks if smallest <= tick <= largest * 1.1]
    if steps[0] <= 0:
        ticks = [0.0, *ticks]
    if len(ticks) < 3:
        ticks = sorted({*ticks, smallest, largest})
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    # Fixed ticks, because a log locator refuses an axis on which nothing is drawn.
    minor = [scale * 10.0**power for power in range(low, high + 1) for scale in range(2, 10)]
    axes.set_xticks([tick for tick in minor if smallest <= tick <= largest * 1.1], minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_losses(axes: Axes, trajectory: xr.Dataset, run: int) -> None:
    """Training and held-out loss of one run against step."""
    logarithmic = False
    for variable, label, dashes, colour in (
        ("train_loss", "training", (0, (4, 1.5)), MUTED),
        ("test_loss", "held out", "-", INK),
    ):
        steps, values = measured(pick(trajectory, variable, run=run))
        axes.plot(steps, values, ls=dashes, color=colour, label=label)
        logarithmic = logarithmic or bool(values.size and (values > 0).all())
    if logarithmic:
        axes.set_yscale("log")
        _plain_log_labels(axes)
    axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.7)


def _plain_log_labels(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def head_label(head: Head) -> str:
    """Short name for figures and tables, kept on one line."""
    return f"L{head.layer}\N{NO-BREAK SPACE}H{head.head}"


def draw_scores(axes: Axes, trajectory: xr.Dataset, findings: Findings, run: int) -> None:
    """Every head's score of one run against step, the highlighted ones in colour."""
    chosen = [head for head in findings.highlighted if head.run == run]
    names = {(head.layer, head.head) for head in chosen}
    for head in findings.heads:
        if head.run == run and (head.layer, head.head) not in names:
            steps, values = measured(score_curve(trajectory, head))
            axes.plot(steps, values, color=FAINT, lw=0.9, zorder=1)
    ends = []
    for index, head in enumerate(chosen):
        colour = SERIES[index % len(SERIES)]
        steps, values = measured(score_curve(trajectory, head))
        _, spread = measured(score_curve(trajectory, head, "collision_score_sd"))
        if spread.size == values.size:
            axes.fill_between(
                steps, values - spread, values + spread, color=colour, alpha=0.18, lw=0
            )
        axes.plot(steps, values, color=colour, ls=DASHES[index % len(DASHES)], zorder=3)
        if values.size:
            ends.append((float(values[-1]), head_label(head), colour))
    axes.set_ylim(bottom=0)  # a share; also leaves room under the baseline for its name
    if not math.isnan(findings.baseline):
        axes.axhline(findings.baseline, color=INK, lw=0.8, ls=(0, (2, 2)), zorder=2)
    if not math.isnan(findings.baseline):
        axes.annotate(
            "ignores distance",
            (0.02, findings.baseline),
            xycoords=("axes fraction", "data"),
            xytext=(0, -8),
            textcoords="offset points",
            va="top",
            fontsize=7.5,
            color=MUTED,
        )
    _label_ends(axes, ends)


def draw_onsets(axes: Axes, findings: Findings, run: int) -> None:
    """A strip under the curves: each onset's median and interval, a row a head."""
    row = 0.0
    for head in findings.highlighted:
        if head.run != run or head.onset is None or not _dated(head):
            continue
        index = series(findings, head)
        colour = SERIES[index % len(SERIES)]
        if head.onset.known:
            axes.plot(head.onset[1:], [row] * 2, color=colour, lw=1.4, solid_capstyle="butt")
        axes.plot(
            head.onset.median, row, marker=MARKERS[index % len(MARKERS)], ms=3.5, color=colour
        )
        row -= 1
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def score_curve(
    trajectory: xr.Dataset, head: Head, variable: str = "collision_score"
) -> xr.DataArray | None:
    """What was measured of one head, against step."""
    return pick(trajectory, variable, run=head.run, layer=head.layer, head=head.head)


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]], *, share: float = 0.06) -> None:
    """Names at the right end of each curve, moved apart by `share` where they would overlap."""
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = share * (high - low)
    places: list[float] = []
    for value, _, _ in sorted(ends):
        places.append(max(value, places[-1] + gap) if places else value)
    excess = places[-1] - (high - 0.3 * gap)
    if excess > 0:
        places = [place - excess for place in places]
    for place, (_, label, colour) in zip(places, sorted(ends), strict=True):
        axes.annotate(
            label,
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            fontweight="bold",
            color=colour,
            annotation_clip=False,
        )


def columns_for(number: int) -> int:
    """How many panels stand side by side: at most three, and two by two for four."""
    return 2 if number == 4 else min(3, number)


def grid(figure: Figure, number: int, **options: Any) -> list[Axes]:
    """So many panels in rows, the left-over ones removed."""
    columns = columns_for(number)
    axes = figure.subplots(-(-number // columns), columns, squeeze=False, **options).ravel()
    for extra in axes[number:]:
        extra.remove()
    return list(axes[:number])


HEADLINE_WORDS = {
    "en": ("optimiser step", "attention to\nneighbours", "if distance were ignored", "Seed"),
    "ja": ("学習ステップ", "近くの粒子への\n注意の割合", "距離を無視した場合", "シード"),
}


def headline_figure(trajectory: xr.Dataset, findings: Findings, language: str) -> Markup | None:
    """The plain page's small figure: the score of each run's best head, and its onset."""
    best: dict[int, Head] = {}
    for head in findings.highlighted:
        best.setdefault(head.run, head)
    curves = [
        (head, steps, values)
        for head in sorted(best.values(), key=lambda head: head.run)
        for steps, values in [measured(score_curve(trajectory, head))]
        if values.size
    ][: len(SERIES)]
    if not curves:
        return None
    step_word, score_word, baseline_word, seed_word = HEADLINE_WORDS[language]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ends = []
        for index, (head, steps, values) in enumerate(curves):
            colour, dashes = SERIES[index % len(SERIES)], DASHES[index % len(DASHES)]
            axes.plot(steps, values, color=colour, ls=dashes)
            ends.append((float(values[-1]), f"{seed_word} {head.run}", colour))
            if head.onset is not None and head.rise_found is not False:
                at = float(np.interp(head.onset.median, steps, values))
                if head.onset.known:
                    axes.plot(head.onset[1:], [at, at], color=colour, lw=3, alpha=0.45)
                axes.plot(head.onset.median, at, marker=MARKERS[index], ms=5, color=colour)
        if not math.isnan(findings.baseline):
            axes.axhline(findings.baseline, color=INK, lw=0.8, ls=(0, (2, 2)))
            axes.annotate(
                baseline_word,
                (0.01, findings.baseline),
                xycoords=("axes fraction", "data"),
                xytext=(0, -6),
                textcoords="offset points",
                va="top",
                fontsize=7.5,
                color=MUTED,
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel(step_word)
        axes.set_ylabel(score_word)
        step_axis(axes, trajectory)
        _label_ends(axes, ends, share=0.1)

    return render("headline", draw, size=(PAGE_INCHES, 2.1))
