"""Can the shape of a family of one's own be integrated?

What lives here: the check that registration makes, at values from all over the priors. What does
not: families (`families`), the integration (`quadrature`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emergence_stats.curves.priors import StepAxis
from emergence_stats.errors import InputError, first_line

if TYPE_CHECKING:
    from emergence_stats.curves.families import Family

STEPS = np.geomspace(1.0, 1e5, 41)
# Of each prior, with all others the same, and of the onset beside all of these.
SHARES = (0.001, 0.1, 0.5, 0.9, 0.999)


def check_shape(family: Family) -> None:
    """Refuses a shape that is not finite, or not of the shape that its arguments broadcast to.

    Raises
    ------
    InputError
        Naming the family, the step and the parameters.
    """
    if family.shape is None:
        return
    onset, others = np.meshgrid(SHARES, SHARES)
    axis = StepAxis.along(STEPS, logarithmic=True)
    values = [
        parameter.prior.value(
            parameter.prior.quantile((onset if k == 0 else others).ravel())
            if parameter.prior.free
            else onset.ravel(),
            axis,
        )
        + np.zeros(onset.size)
        for k, parameter in enumerate(family.parameters)
    ]
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(family.shape(STEPS[None], *(v[:, None] for v in values)))
    except Exception as error:
        raise InputError(
            f"family {family.name!r}: its shape fails on arrays ({first_line(error)}); write it "
            "with NumPy's universal functions and operators alone"
        ) from error
    if found.shape != (onset.size, STEPS.size):
        raise InputError(
            f"family {family.name!r}: its shape returns {found.shape} for steps of (1, "
            f"{STEPS.size}) and parameters of ({onset.size}, 1); it must broadcast them"
        )
    _refuse_not_finite(family, found, values)


def _refuse_not_finite(family: Family, found: np.ndarray, values: Sequence[np.ndarray]) -> None:
    wrong = np.argwhere(~np.isfinite(found))
    if len(wrong):
        row, column = wrong[0]
        at = ", ".join(
            f"{parameter.name}={value[row]:.4g}"
            for parameter, value in zip(family.parameters, values, strict=True)
        )
        raise InputError(
            f"family {family.name!r}: its shape is {found[row, column]} at step "
            f"{STEPS[column]:.4g} with {at}; it must be finite at every step, also before the "
            "onset, and for every value that its priors allow"
        )
