"""The machinery of drawing: figures as inline SVG that follows the page's colours, and axes.

What lives here: making matplotlib's SVG fit for inlining (unique names, no links, colours as CSS
variables so that one figure serves light, dark and paper). What does not: the figures (`figures`).
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr
from markupsafe import Markup

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


@contextmanager
def drawing_style() -> Iterator[None]:
    """The report's style while drawing; matplotlib's settings come back afterwards."""
    import matplotlib as mpl

    with mpl.rc_context(cast("Any", STYLE)), warnings.catch_warnings():
        # Japanese labels are drawn by the reader's fonts; matplotlib need not have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


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
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A Figure of its own, without pyplot, leaves the caller's figures and settings alone.
    with drawing_style():
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
    width = re.search(r'viewBox="0 0 ([\d.]+)', head)
    if width is not None:
        head += f' style="max-width: {float(width[1]) * PAGE_REMS / PAGE_POINTS:.1f}rem"'
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


def shorten(text: str, longest: int = 40) -> str:
    """A foreign text for a figure, cut to what fits."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def colour_of(place: int) -> str:
    """The colour of a run, or of a head among the highlighted ones of its run."""
    return SERIES[place % len(SERIES)]


def scale_steps(axes: Axes, trajectory: xr.Dataset) -> None:
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


def scale_values(axes: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_grid(axes: Axes) -> None:
    """Faint horizontal lines."""
    axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.7)


def draw_baseline(axes: Axes, value: float, label: str) -> None:
    """A dashed line with its name below; nothing where it is unknown."""
    if math.isnan(value):
        return
    axes.axhline(value, color=INK, lw=0.8, ls=(0, (2, 2)), zorder=2)
    axes.annotate(
        label, (0.02, value), xycoords=("axes fraction", "data"), xytext=(0, -7),
        textcoords="offset points", va="top", fontsize=7.5, color=MUTED,
    )  # fmt: skip


def label_ends(axes: Axes, ends: list[tuple[float, str, str]], *, share: float = 0.06) -> None:
    """Names at the right end of each curve, moved apart by `share` where they would overlap."""
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = share * (high - low)
    places: list[float] = []
    for value, _, _ in sorted(ends):
        places.append(max(value, places[-1] + gap) if places else value)
    excess = max(0.0, places[-1] - (high - 0.3 * gap))
    for place, (_, label, colour) in zip(places, sorted(ends), strict=True):
        axes.annotate(
            label, (1.0, place - excess), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=8, fontweight="bold", color=colour,
            annotation_clip=False,
        )  # fmt: skip


def arrange_panels(
    draw: Callable[[list[Axes]], None], name: str, number: int, labels: tuple[str, str]
) -> Markup:
    """A figure of so many panels in rows: at most three side by side, and two by two for four.

    Parameters
    ----------
    draw : callable
        Draws on the figure's axes.
    name : str
        As for `render`.
    labels : tuple of str
        Of the axes below and to the left.
    """
    columns = 2 if number == 4 else min(3, number)
    rows = -(-number // columns)

    def arrange(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        axes = list(grid.ravel()[:number])
        for extra in grid.ravel()[number:]:
            extra.remove()
        draw(axes)
        for place, one in enumerate(axes):
            if place // columns == rows - 1:
                one.set_xlabel(labels[0])
            if place % columns == 0:
                one.set_ylabel(labels[1])

    width = PAGE_INCHES if columns > 1 else 0.6 * PAGE_INCHES
    return render(name, arrange, size=(width, 2.2 * rows + 0.2))
