"""What a segment of a curve may be: one declaration a model.

What lives here: the declarations that `es.segment` knows by name. What does not: how probable a
stretch of a curve is under one (`segments`).

With u from 0 to 1 between a segment's first and last point, its mean is

    m(u) = a f(u) + b g(u),     f, g = c0 + c1 u,     a, b ~ Normal(0, LEVEL_SD)

in the units of `noise.beliefs`. A line is so given by its values at both ends: short and long
segments are treated alike, and whichever way round.

To add a model, add an entry to `SEGMENT_MODELS`. Kernels take a level, or two functions straight in
u; segments do not know where the one before them ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Noise of one scale for all segments, and of each its own.
VARIANCES = ("shared", "segment")


class Basis(NamedTuple):
    """Two functions, a0 + a1 u and b0 + b1 u; or one, a0."""

    a0: float
    a1: float
    b0: float
    b1: float
    num_terms: int


@dataclass(frozen=True)
class SegmentModel:
    """What is believed of each segment's mean and noise.

    Attributes
    ----------
    name, meaning : str
    basis : tuple of (float, float)
        c0 and c1 of each function of u.
    logarithmic : bool
        Whether u is even in log step, or in step.
    own_scale : bool
        Whether each segment's noise has a scale of its own, or all the same.

    Examples
    --------
    >>> SEGMENT_MODELS["linear"].columns(np.array([0.0, 0.5, 1.0])).T
    array([[1. , 0.5, 0. ],
           [0. , 0.5, 1. ]])
    """

    name: str
    meaning: str
    basis: tuple[tuple[float, float], ...]
    logarithmic: bool = False
    own_scale: bool = False

    def __post_init__(self) -> None:
        number = len(self.basis)
        level = number == 1 and self.basis[0][1] == 0.0
        if not (level or number == 2) or np.linalg.matrix_rank(self.basis) < number:
            raise ValueError(f"basis: {self.basis}; give a level, or two functions that differ")

    @property
    def fewest_points(self) -> int:
        """Points from which on coefficients, and the noise where it is the segment's own, show."""
        return 1 if self.usual_points == 2 else self.usual_points

    @property
    def usual_points(self) -> int:
        """The least points a segment has where the caller does not say."""
        return len(self.basis) + 1 + self.own_scale

    def columns(self, u: np.ndarray) -> np.ndarray:
        """The functions at these places within a segment, one column each."""
        return np.array([c0 + c1 * u for c0, c1 in self.basis]).T

    def coefficients(self) -> Basis:
        """The basis as kernels take it."""
        f, g = (*self.basis, (0.0, 0.0))[:2]
        return Basis(*f, *g, len(self.basis))


ENDS = ((1.0, -1.0), (0.0, 1.0))
SEGMENT_MODELS = {
    model.name: model
    for model in (
        SegmentModel("constant", "a level", basis=((1.0, 0.0),)),
        SegmentModel("linear", "a line in step", basis=ENDS),
        SegmentModel("log_linear", "a line in log step", basis=ENDS, logarithmic=True),
    )
}
