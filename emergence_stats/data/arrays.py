"""Curves of any lengths side by side, as the numerical core takes them.

What lives here: `CurveArrays`. What does not: making them from labelled curves (`labels`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class CurveArrays:
    """Curves of any lengths side by side, in their own units.

    Attributes
    ----------
    step, values : ndarray, shape (curve, point)
        Measured points first; what follows `num_points` is padding.
    sd : ndarray, shape (curve, point), or None
        Known measurement standard deviation.
    num_points : ndarray of int, shape (curve,)
    centre, scale : ndarray, shape (curve,)
        Middle and width of the range the score is expected to take.
    """

    step: Array
    values: Array
    sd: Array | None
    num_points: Array
    centre: Array
    scale: Array

    def take(self, index: Array) -> CurveArrays:
        """The same for chosen curves, without padding that none of them needs."""
        width = int(self.num_points[index].max())
        return CurveArrays(
            self.step[index, :width],
            self.values[index, :width],
            None if self.sd is None else self.sd[index, :width],
            self.num_points[index],
            self.centre[index],
            self.scale[index],
        )
