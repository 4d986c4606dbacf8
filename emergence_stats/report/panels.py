"""Figures of what was found: distance, law, learning coefficient, particles, rollout.

What lives here: one function a figure. What does not: the machinery of drawing and the training
curves (`figures`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from emergence_stats.report.animation import Scene
from emergence_stats.report.figures import (
    DASHES,
    FAINT,
    INK,
    MARKERS,
    MUTED,
    PAGE_INCHES,
    PAPER,
    SERIES,
    columns_for,
    grid,
    head_label,
    plain,
    render,
    series,
    step_axis,
)
from emergence_stats.report.findings import pick
from emergence_stats.report.records import Findings, Head
from emergence_stats.report.wording import probability, step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def distance_profiles(
    trajectory: xr.Dataset, findings: Findings, heads: Sequence[Head], contact_range: float
) -> Markup:
    """Attention against distance at the first and the last measured step, a panel a head."""

    def draw(figure: Figure) -> None:
        panels = grid(figure, len(heads), sharex=True, sharey=True)
        for axes, head in zip(panels, heads, strict=True):
            colour = SERIES[series(findings, head) % len(SERIES)]
            if math.isfinite(contact_range):
                axes.axvspan(0, contact_range, color=FAINT, alpha=0.35, lw=0)
            axes.axhline(1, color=INK, lw=0.8, ls=(0, (2, 2)))
            ends = profile_ends(trajectory, head)
            for (at, distance, values, spread), tint, dashes in zip(
                ends, (MUTED, colour), ((0, (3, 1.5)), "-"), strict=False
            ):
                axes.fill_between(
                    distance, values - spread, values + spread, color=tint, alpha=0.2, lw=0
                )
                axes.plot(distance, values, color=tint, ls=dashes, label=f"step {step(at)}")
            axes.set_title(f"Seed {head.run}, {head_label(head)}")
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.legend(loc="upper right")
        for axes in panels:
            if axes.get_subplotspec().is_last_row():  # type: ignore[union-attr]
                axes.set_xlabel("distance (diameters)")
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                axes.set_ylabel("attention g(r)\n(1 = ignores distance)")

    return render("distances", draw, size=_panel_size(len(heads)))


def _panel_size(number: int) -> tuple[float, float]:
    """Inches of a figure of so many panels."""
    columns = columns_for(number)
    return (PAGE_INCHES if columns > 1 else 0.6 * PAGE_INCHES, 2.2 * -(-number // columns) + 0.2)


def profile_ends(
    trajectory: xr.Dataset, head: Head
) -> list[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
    """Step, distances, g(r) and its standard error at the first and the last measured step."""
    where = {"run": head.run, "layer": head.layer, "head": head.head}
    profile = pick(trajectory, "attention_distance_correlation", **where)
    if profile is None or set(profile.dims) != {"step", "distance"}:
        return []
    profile = profile.transpose("step", "distance")
    error = pick(trajectory, "attention_distance_correlation_sd", **where)
    rows = np.flatnonzero(np.isfinite(profile.values).any(axis=1))
    distance = np.asarray(profile.get_index("distance"), dtype=float)
    found = []
    for row in dict.fromkeys((rows[0], rows[-1])) if rows.size else ():
        spread = np.zeros(distance.size)
        if error is not None:
            spread = np.nan_to_num(error.transpose("step", "distance").values[row])
        values = np.asarray(profile.values[row], dtype=float)
        found.append((float(profile.get_index("step")[row]), distance, values, spread))
    return found


def laws(heads: Sequence[Head]) -> Markup:
    """Probability of each law, and the order of the potential, a row a head."""

    def draw(figure: Figure) -> None:
        from matplotlib.colors import to_rgb
        from matplotlib.patches import Patch

        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
        places = np.arange(len(heads))[::-1]
        looks: dict[str, dict[str, Any]] = {
            "power_law": {"fc": SERIES[0], "ec": SERIES[0]},
            "exponential": {"fc": (*to_rgb(SERIES[4]), 0.3), "ec": SERIES[4]},
            "flat": {"fc": "none", "ec": FAINT},
        }
        for place, head in zip(places, heads, strict=True):
            start = 0.0
            for name, look in looks.items():
                share = head.probability.get(name, math.nan)
                if math.isnan(share):
                    continue
                left.barh(place, share, left=start, height=0.62, lw=0.7, **look)
                if share > 0.16:
                    left.text(
                        start + share / 2, place, probability(share), ha="center", va="center",
                        color=PAPER if name == "power_law" else INK, fontsize=8,
                    )  # fmt: skip
                start += share
            if head.order is not None:
                right.plot(head.order[1:], [place] * 2, color=SERIES[0], lw=1.4)
                right.plot(head.order.median, place, marker="o", ms=4.5, color=SERIES[0])
        left.set_yticks(places, [f"seed {head.run}, {head_label(head)}" for head in heads])
        left.set_ylim(-0.6, len(heads) - 0.4)
        left.tick_params(axis="y", length=0)
        right.tick_params(axis="y", length=0)
        left.set_xlim(0, 1)
        left.set_xlabel("posterior probability")
        left.set_title("Law of the rise")
        words = {"power_law": "power law", "exponential": "exponential", "flat": "no rise"}
        figure.legend(
            handles=[Patch(label=words[name], lw=0.7, **look) for name, look in looks.items()],
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


def learning_coefficients(trajectory: xr.Dataset, findings: Findings) -> Markup:
    """The LLC at each checkpoint with its standard error, and the span of the onsets."""

    def draw(figure: Figure) -> None:
        runs = [run for run in findings.runs if any(one.run == run for one in findings.llc)]
        panels = grid(figure, len(runs), sharex=True, sharey=True)
        for index, (axes, run) in enumerate(zip(panels, runs, strict=True)):
            colour = SERIES[index % len(SERIES)]
            mine = [one for one in findings.llc if one.run == run and math.isfinite(one.value)]
            onsets = [head.onset for head in findings.highlighted if head.run == run and head.onset]
            if onsets:
                ends = [end for onset in onsets for end in onset if math.isfinite(end)]
                axes.axvspan(min(ends), max(ends), color=FAINT, alpha=0.5, lw=0)
            axes.plot(
                [one.step for one in mine], [one.value for one in mine], color=colour, lw=1,
                alpha=0.6,
            )  # fmt: skip
            for one in mine:
                error = one.standard_error if math.isfinite(one.standard_error) else 0.0
                axes.errorbar(
                    one.step, one.value, yerr=error, color=colour, marker="o", ms=4,
                    mfc=colour if one.reliable else PAPER, mew=1.1, capsize=3, lw=1.1,
                )  # fmt: skip
            axes.set_title(f"Seed {run}")
            axes.set_xlabel("optimiser step")
            axes.margins(y=0.15)
            axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.7)
            step_axis(axes, trajectory)
        for axes in panels:
            if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
                axes.set_ylabel("LLC (dimensionless)")

    number = max(1, len({one.run for one in findings.llc}))
    return render("coefficients", draw, size=_panel_size(number))


def still(scene: Scene) -> Markup:
    """One frame: particles, and the query particle's attention as lines."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        draw_frame(axes, scene)

    width, height = scene.extent
    return render("still", draw, size=(4.2, max(2.0, min(6.0, 4.2 * height / width))))


def draw_frame(axes: Axes, scene: Scene) -> None:
    """The scene's chosen frame."""
    from matplotlib.patches import Circle, Rectangle

    places = scene.places[scene.frame]
    query = places[scene.query]
    shares = scene.shares()[scene.frame, scene.query]
    axes.add_patch(Rectangle((0, 0), *scene.extent, fill=False, ec=MUTED, lw=1.2))
    for index, place in enumerate(places):
        mine = index == scene.query
        axes.add_patch(
            Circle(
                tuple(place), scene.radius, fc=SERIES[1] if mine else FAINT,
                ec=SERIES[1] if mine else MUTED, lw=0.8, zorder=2.5 if mine else 2,
            )
        )  # fmt: skip
    for index, (place, share) in enumerate(zip(places, shares, strict=True)):
        if index == scene.query or share < 0.01:
            continue
        # The line ends short of the centre, where the number stands.
        toward = (place - query) / max(float(np.linalg.norm(place - query)), 1e-12)
        end = place - 0.55 * scene.radius * toward if share >= 0.1 else place
        axes.plot(
            [query[0], end[0]], [query[1], end[1]], color=SERIES[0], zorder=3,
            lw=0.4 + 7 * float(share), alpha=0.35 + 0.6 * float(share), solid_capstyle="round",
        )  # fmt: skip
        if share >= 0.1:
            label = place + 0.2 * scene.radius * toward
            axes.text(
                label[0], label[1], f"{100 * share:.0f}%", ha="center", va="center", fontsize=8,
                fontweight="bold", color=INK, zorder=4,
            )  # fmt: skip
    margin = 0.01 * max(scene.extent)
    axes.set_xlim(-margin, scene.extent[0] + margin)
    axes.set_ylim(-margin, scene.extent[1] + margin)
    axes.set_aspect("equal")
    axes.set_axis_off()


def rollout(assessment: xr.Dataset) -> Markup:
    """Position error of the iterated network against time, beside the simple predictors."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        errors = assessment["rollout_error"]
        time = np.asarray(errors.get_index("time"), dtype=float)
        highest = 0.0
        for place, run in enumerate(errors.get_index("run")):
            values = pick(assessment, "rollout_error", run=run, predictor="model")
            if values is None:
                continue
            curve = np.asarray(values.values, dtype=float)
            axes.plot(
                time, curve, color=SERIES[place % len(SERIES)], ls=DASHES[place % len(DASHES)],
                marker=MARKERS[place % len(MARKERS)], markevery=max(1, time.size // 8), ms=3.5,
                label=f"network, seed {run}",
            )  # fmt: skip
        for predictor, dashes in (("persistence", (0, (1.2, 1.2))), ("ballistic", (0, (5, 2)))):
            values = pick(assessment, "rollout_error", predictor=predictor)
            if values is None:
                continue
            # Simple predictors see the same systems in every run; where not, their mean is drawn.
            curve = np.asarray(values.mean("run") if "run" in values.dims else values, dtype=float)
            axes.plot(time, curve, color=INK, ls=dashes, lw=1.1, label=predictor)
            highest = max(highest, float(np.nanmax(curve, initial=0.0)))
        # A network that diverges would squeeze everything else; the table has its numbers.
        if highest > 0 and axes.get_ylim()[1] > 3 * highest:
            axes.set_ylim(0, 3 * highest)
        axes.set_ylim(bottom=0)
        axes.set_xlim(time[0], time[-1])
        unit = (
            str(errors["time"].attrs.get("units", "intervals")) if "time" in errors.coords else ""
        )
        axes.set_xlabel(f"time ({plain(unit or 'intervals')})")
        axes.set_ylabel("rms position error (diameters)")
        axes.grid(axis="y", color=FAINT, lw=0.5, alpha=0.7)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))

    return render("rollout", draw, size=(PAGE_INCHES, 2.9))
