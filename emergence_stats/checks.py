"""Checks of arguments, each with an error that names the argument and says what to give.

What lives here: checks that several functions share, and the probability that intervals hold where
none is asked for. What does not: checks of curves (`data.labels`) and of a single function.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.errors import InputError, nearest

Array = np.ndarray

# What an interval holds unless another probability is asked for, and its bounds and the median.
PROB = 0.89
QUANTILES = (0.055, 0.5, 0.945)


def check_option(name: str, value: str, valid: Sequence[str]) -> str:
    """The value, if it is one of the valid ones."""
    if value not in valid:
        raise InputError(f"{name}: unknown {value!r}{nearest(str(value), valid)}")
    return value


def check_share(name: str, value: float) -> float:
    """The value, if it is a number strictly between 0 and 1."""
    if not (isinstance(value, int | float | np.number) and 0.0 < value < 1.0):
        raise InputError(f"{name}: {value!r}; give a number between 0 and 1, such as 0.9")
    return float(value)


def check_prob(prob: float) -> tuple[float, float]:
    """The probabilities below the ends of the equal-tailed interval that holds this one.

    Examples
    --------
    >>> check_prob(0.5)
    (0.25, 0.75)
    """
    prob = check_share("prob", prob)
    return 0.5 - 0.5 * prob, 0.5 + 0.5 * prob


def check_range(value_range: tuple[float, float]) -> tuple[float, float]:
    """Low and high, if they are finite and in that order."""
    try:
        low, high = (float(bound) for bound in value_range)
    except (TypeError, ValueError):
        raise InputError(f"value_range: {value_range!r}; give (low, high)") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InputError(f"value_range: {value_range!r}; low must be below high, both finite")
    return low, high


def check_steps_to_predict(steps: ArrayLike) -> Array:
    """The steps as one row of numbers, if they are finite and not negative."""
    at = np.atleast_1d(np.asarray(steps, dtype=float))
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or (at < 0).any():
        raise InputError(f"steps: {steps!r}; give finite steps that are not negative")
    return at
