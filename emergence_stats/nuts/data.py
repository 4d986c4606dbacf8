"""One curve as its PyMC model takes it: values, gaps and what the priors may know, in its units.

What lives here: `CurveData`, one record for NumPy arrays and PyTensor variables alike, and making
it from a batch of curves. What does not: the density of it (`models`), choosing the stairs under
the onset (`stairs.with_stairs`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from emergence_stats.curves.priors import StepAxis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.noise.beliefs import FACTOR_WIDTH, NOISE_SCALE
from emergence_stats.noise.whitening import typical_gaps
from emergence_stats.nuts import covariance

Array = np.ndarray
# NumPy arrays or PyTensor variables.
Tensor = Any


@dataclass(frozen=True)
class CurveData:
    """One curve in the model's units, and all its priors may know of it.

    Attributes
    ----------
    step : shape (point,)
    y : shape (point,)
        (value - centre) / scale.
    unit : shape (point,)
        1/w, relative precision of each point; 1 where no sd is known.
    gap : shape (point,)
        From the point before, in typical gaps; the first is not used.
    first, last, shortest_gap, offset : shape ()
        As in `priors.StepAxis`.
    noise_scale, noise_width : shape ()
        Prior of the noise sd.
    innovation : shape ()
        1 where that prior is about what is new from point to point, 0 where about sigma itself.
    centre, scale : shape ()
        Back to the curve's own units.
    stair_width, stair_reach, stair_rate, stair_home : shape (stair,)
        Of the onset's coordinate, see `onset_stairs.stairs`.
    sharpness : shape ()
        Share of the half-time within which the likelihood tells onsets apart.
    """

    step: Tensor
    y: Tensor
    unit: Tensor
    gap: Tensor
    first: Tensor
    last: Tensor
    shortest_gap: Tensor
    offset: Tensor
    noise_scale: Tensor
    noise_width: Tensor
    innovation: Tensor
    centre: Tensor
    scale: Tensor
    stair_width: Tensor
    stair_reach: Tensor
    stair_rate: Tensor
    stair_home: Tensor
    sharpness: Tensor

    def axis(self, logarithmic: bool) -> StepAxis:
        """What priors may know."""
        return StepAxis(self.first, self.last, self.shortest_gap, self.offset, logarithmic)

    def until(self, num_points: int) -> CurveData:
        """The first points only, with priors that still know the whole curve's steps and range."""
        cut = {name: getattr(self, name)[:num_points] for name in ("step", "y", "unit", "gap")}
        return CurveData(**({f.name: getattr(self, f.name) for f in fields(self)} | cut))

    def named(self) -> dict[str, Array]:
        """By name, as arrays of floating-point numbers."""
        return {f.name: np.asarray(getattr(self, f.name), dtype=float) for f in fields(self)}


def curve_data(curves: CurveArrays, axis: StepAxis, noise: str, curve: int = 0) -> CurveData:
    """One curve of a batch as the model takes it."""
    n = int(curves.num_points[curve])
    step = curves.step[curve, :n]
    gap = typical_gaps(
        step[None], np.array([n]), covariance.base_kind(noise), axis.offset[curve : curve + 1]
    )
    scale, centre = float(curves.scale[curve]), float(curves.centre[curve])
    known = curves.sd is not None
    if curves.sd is not None:
        log_sd = np.log(curves.sd[curve, :n] / scale)
        noise_scale = float(np.exp(log_sd.mean()))
        unit = noise_scale / np.exp(log_sd)
    else:
        noise_scale, unit = NOISE_SCALE, np.ones(n)
    return CurveData(
        step=step,
        y=(curves.values[curve, :n] - centre) / scale,
        unit=unit,
        gap=gap[0],
        first=float(axis.first[curve]),
        last=float(axis.last[curve]),
        shortest_gap=float(axis.shortest_gap[curve]),
        offset=float(axis.offset[curve]),
        noise_scale=noise_scale,
        noise_width=FACTOR_WIDTH if known else 1.0,
        innovation=0.0 if known else 1.0,
        centre=centre,
        scale=scale,
        stair_width=np.ones(1),
        stair_reach=np.zeros(1),
        stair_rate=np.ones(1),
        stair_home=np.ones(1),
        sharpness=1.0,
    )
