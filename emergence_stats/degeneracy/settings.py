"""Which arguments of an estimate can be used?

What lives here: the checks of plain settings, with messages that name the argument, and numbers as
Python has them. What does not: checks of the model, the loss and the data, which stand beside what
reads them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from emergence_stats.degeneracy.samplers import SAMPLERS
from emergence_stats.errors import InputError, nearest

_LEAST = {
    "num_chains": 1,
    "num_draws": 4,
    "num_burnin": 0,
    "batch_size": 1,
    "seed": 0,
    "max_chains_at_once": 1,
}
_POSITIVE = ("step_size", "inverse_temperature", "target_standard_error", "max_seconds")


def check_settings(sampler: str, *, by_default: bool = False, **settings: Any) -> list[Any]:
    """The settings in this order, numbers as Python has them; None stands for "chosen for me".

    Parameters
    ----------
    sampler : str
    by_default : bool
        Whether sampler and step were left open, so that a localisation may be a word.

    Raises
    ------
    InputError
        For a setting that cannot be used.
    """
    if sampler not in SAMPLERS:
        raise InputError(f"sampler {sampler!r} is unknown{nearest(str(sampler), SAMPLERS)}")
    for name, value in settings.items():
        if value is None:
            continue
        if name in _LEAST:
            check_count(name, value, _LEAST[name])
        elif name == "localisation" and isinstance(value, str):
            if value not in ("wide", "near"):
                raise InputError(f'localisation must be a number, "wide" or "near", got {value!r}')
            if not by_default:
                raise InputError(
                    f"localisation={value!r} goes with neither sampler nor step_size; give a number"
                )
        else:
            check_number(name, value, positive=name in _POSITIVE)
    # PyTorch and JSON ask for numbers that are not NumPy's.
    return [value.item() if isinstance(value, np.generic) else value for value in settings.values()]


def check_count(name: str, value: Any, least: int) -> None:
    """Raise an InputError unless this is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_number(name: str, value: Any, *, positive: bool) -> None:
    """Raise an InputError unless this is a finite number, above zero or at least zero."""
    wanted = "above zero" if positive else "zero or more"
    valid = isinstance(value, int | float | np.number) and math.isfinite(value)
    if not valid or value < 0 or (value == 0 and positive):
        raise InputError(f"{name} must be a finite number {wanted}, got {value!r}")
