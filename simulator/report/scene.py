"""The particles with one head's attention: the still, and what the animation plays.

What lives here: choosing frame and query particle, projecting to the page, packing the frames as
JSON, and drawing one. What does not: playing them (the script in `player.html.j2`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from emergence_stats.report.drawing import FAINT, INK, MUTED, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The page stays small: so many attention weights at most, in whole percent.
MOST_WEIGHTS = 300_000


@dataclass(frozen=True)
class Scene:
    """Frames of particles, seen along the axis that is neither the first nor the last.

    Attributes
    ----------
    places, true_places : ndarray, shape (frame, particle, 2)
        Centres as the network predicts them and as the physics has them, in box lengths; the
        second may be None.
    attention : ndarray, shape (frame, particle, other)
        Weights of the head, each row summing to 1.
    radius : float
    extent : tuple of float
        Width and height of the box.
    frame, query : int
        What the still shows.
    run, layer, head : int
    projected : bool
        Whether an axis was left out.
    """

    places: np.ndarray
    true_places: np.ndarray | None
    attention: np.ndarray
    radius: float
    extent: tuple[float, float]
    frame: int
    query: int
    run: int
    layer: int
    head: int
    projected: bool

    @property
    def name(self) -> str:
        """Run, layer and head in words."""
        return f"seed {self.run}, layer {self.layer}, head {self.head}"

    def shares(self) -> np.ndarray:
        """Shares of each particle's attention to others, by frame, particle and other; 0 of itself.

        The collision score is about these: most heads give much of their attention to the particle
        itself.
        """
        others = np.nan_to_num(self.attention).copy()
        place = np.arange(others.shape[1])
        others[:, place, place] = 0.0
        total = others.sum(axis=-1, keepdims=True)
        return np.divide(others, total, out=np.zeros_like(others), where=total > 0)

    def packed(self) -> dict[str, Any]:
        """The frames as plain lists for JSON, rounded; not-a-number becomes null."""
        frames, number = self.places.shape[:2]
        queries = list(range(number))
        if frames * number * number > MOST_WEIGHTS:
            queries = [self.query]
        percent = np.rint(100 * self.shares()).astype(int)
        return {
            "positions": _rounded(self.places),
            "truth": None if self.true_places is None else _rounded(self.true_places),
            "attention": {str(query): percent[:, query].tolist() for query in queries},
            "radius": round(self.radius, 5),
            "extent": [round(side, 5) for side in self.extent],
            "query": self.query,
        }


def read_scene(assessment: xr.Dataset | None) -> Scene | None:
    """The scene of an assessment; None where it holds no usable one.

    The still's frame is the early one in which two particles are nearest to touching, the query
    one of those two: chosen by the places, not by the attention.
    """
    names = ("animation_position", "animation_attention")
    if assessment is None or any(name not in assessment for name in names):
        return None
    places = np.asarray(
        assessment["animation_position"].transpose("frame", "particle", "axis").values, dtype=float
    )
    attention = np.asarray(
        assessment["animation_attention"].transpose("frame", "particle", "other").values,
        dtype=float,
    )
    if places.shape[1] < 2 or places.shape[2] < 2 or not np.isfinite(places).any():
        return None
    truth = None
    if "animation_true_position" in assessment:
        given = assessment["animation_true_position"].transpose("frame", "particle", "axis")
        truth = np.asarray(given.values, dtype=float)
        truth = truth[..., [0, -1]] if truth.shape == places.shape else None
    try:
        radius = float(assessment.attrs["radius"])
        box = [float(side) for side in np.atleast_1d(assessment.attrs["box"])]
        best = [int(assessment.attrs[f"best_{name}"]) for name in ("run", "layer", "head")]
    except (KeyError, TypeError, ValueError):
        return None
    if not (radius > 0 and all(side > 0 and math.isfinite(side) for side in box)):
        return None
    frame, query = _closest(places, 2 * radius)
    return Scene(
        places=places[..., [0, -1]],
        true_places=truth,
        attention=attention,
        radius=radius,
        extent=(box[0], box[-1]),
        frame=frame,
        query=query,
        run=best[0],
        layer=best[1],
        head=best[2],
        projected=places.shape[2] > 2,
    )


def _closest(places: np.ndarray, diameter: float) -> tuple[int, int]:
    """Frame and particle of the early pair nearest to touching.

    Early frames only, and no overlapping pair where there is another: the iterated network may let
    particles overlap.
    """
    early = places[: max(2, len(places) // 4)]
    first, second = np.triu_indices(places.shape[1], 1)
    gap = np.linalg.norm(early[:, first] - early[:, second], axis=-1) - diameter
    gap[~np.isfinite(gap)] = np.inf
    apart = np.where(gap >= 0, gap, np.inf)
    chosen = apart if np.isfinite(apart).any() else np.abs(gap)
    frame, pair = np.unravel_index(int(np.argmin(chosen)), chosen.shape)
    return int(frame), int(first[pair])


def _rounded(places: np.ndarray) -> Sequence[Any]:
    """Nested lists to four decimals, with None for what is not a number."""
    rounded = np.round(places, 4).astype(object)
    rounded[~np.isfinite(places)] = None
    return rounded.tolist()


def draw_picture(axes: Axes, assessment: xr.Dataset | None) -> str:
    """The chosen frame of an assessment; returns its title, empty where there is none."""
    scene = read_scene(assessment)
    if scene is None:
        return ""
    draw_frame(axes, scene)
    return f"One particle's attention (seed {scene.run}, L{scene.layer} H{scene.head})"


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
