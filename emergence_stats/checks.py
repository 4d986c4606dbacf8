"""Checks of arguments, each with an error that names the argument and says what to give.

What lives here: checks that several functions share, and the probability that intervals hold where
none is asked for. What does not: checks of curves (`data.labels`) and of a single function.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.errors import InputError, nearest

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


def check_steps(step: np.ndarray) -> np.ndarray:
    """Training steps as floats, if they are finite, not negative and increase.

    Parameters
    ----------
    step : ndarray, shape (step,)
        Optimiser steps, of any real type.

    Raises
    ------
    InputError
        Naming the first step that is wrong.

    Examples
    --------
    >>> check_steps(np.array([0, 10, 100], dtype=np.uint8))
    array([  0.,  10., 100.])
    """
    if step.ndim != 1 or step.size == 0:
        raise InputError(f"step: shape {step.shape}; at least one step is needed")
    if not np.issubdtype(step.dtype, np.number) or np.issubdtype(step.dtype, np.complexfloating):
        raise InputError(f"step: {step.dtype} values; training steps are numbers")
    at = step.astype(float)  # unsigned integers have no negative differences
    if not np.isfinite(at).all():
        raise InputError("step: holds NaN or infinity; every measurement needs its step")
    if at[0] < 0:
        raise InputError(f"step: starts at {at[0]:g}; training steps are not negative")
    wrong = np.flatnonzero(np.diff(at) <= 0)
    if wrong.size:
        first = int(wrong[0])
        now, then = at[first], at[first + 1]
        problem = "is repeated" if now == then else f"is followed by {then:g}"
        raise InputError(
            f"step: {now:g} {problem} at index {first + 1}; sort the steps (of a DataArray "
            "sortby('step')) and keep one measurement each (drop_duplicates('step'))"
        )
    return at


def check_steps_to_predict(steps: ArrayLike) -> np.ndarray:
    """The steps as one row of numbers, if they are finite and not negative."""
    at = np.atleast_1d(np.asarray(steps, dtype=float))
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or (at < 0).any():
        raise InputError(f"steps: {steps!r}; give finite steps that are not negative")
    return at


def check_number(name: str, value: object) -> float:
    """The value as a float, if it is one finite real number.

    Examples
    --------
    >>> check_number("order", 4)
    4.0
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise InputError(f"{name}: {value!r}; give one number")
    number = float(value)
    if not np.isfinite(number):
        raise InputError(f"{name}: {number}; must be finite")
    return number


def check_positive(name: str, value: object) -> float:
    """The value as a float, if it is one finite number above zero.

    Examples
    --------
    >>> check_positive("strength", 0.5)
    0.5
    """
    number = check_number(name, value)
    if number <= 0.0:
        raise InputError(f"{name}: {number:g}; must be positive")
    return number


def check_whole(name: str, value: object, least: int) -> int:
    """The value as an int, if it is a whole number of at least `least`.

    Examples
    --------
    >>> check_whole("depth", 3, 1)
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name}: {value!r}; give a whole number of at least {least}")
    return int(value)


def check_numbers(name: str, value: ArrayLike) -> np.ndarray:
    """The value as an array of floats, if all are finite.

    Examples
    --------
    >>> check_numbers("t", [0, 1])
    array([0., 1.])
    """
    if value is None:  # which NumPy would take for NaN
        raise InputError(f"{name}: missing; give numbers")
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name}: {value!r}; give numbers") from None
    if not np.isfinite(array).all():
        worst = np.atleast_1d(array)[~np.isfinite(np.atleast_1d(array))][0]
        raise InputError(f"{name}: holds {worst}; must be finite")
    return array


def broadcast(**arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays in their common shape, or an error that names their own.

    Examples
    --------
    >>> [array.shape for array in broadcast(t=np.zeros((4, 1)), target=np.ones(3))]
    [(4, 3), (4, 3)]
    """
    try:
        return list(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{array.shape}" for array in arrays.values())
        raise InputError(f"{', '.join(arrays)}: shapes {shapes} do not broadcast") from None


def check_positive_numbers(name: str, value: ArrayLike) -> np.ndarray:
    """The value as an array of floats, if all are finite and above zero.

    Examples
    --------
    >>> check_positive_numbers("target", 2)
    array(2.)
    """
    array = check_numbers(name, value)
    if not (array > 0).all():
        worst = np.atleast_1d(array)[~(np.atleast_1d(array) > 0)][0]
        raise InputError(f"{name}: {worst:g}; must be positive")
    return array
