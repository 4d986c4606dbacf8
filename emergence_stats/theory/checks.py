"""What every module here demands of a number, with the error that says so.

What lives here: checks shared by the theory. What does not: any mathematics.
"""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.errors import InputError


def finite_number(name: str, value: object) -> float:
    """The value as a float, if it is one finite real number.

    Examples
    --------
    >>> finite_number("order", 4)
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


def positive_number(name: str, value: object) -> float:
    """The value as a float, if it is one finite number above zero.

    Examples
    --------
    >>> positive_number("strength", 0.5)
    0.5
    """
    number = finite_number(name, value)
    if number <= 0.0:
        raise InputError(f"{name}: {number:g}; must be positive")
    return number


def whole_number(name: str, value: object, least: int) -> int:
    """The value as an int, if it is a whole number of at least `least`.

    Examples
    --------
    >>> whole_number("depth", 3, 1)
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name}: {value!r}; give a whole number of at least {least}")
    return int(value)


def finite_array(name: str, value: ArrayLike) -> np.ndarray:
    """The value as an array of floats, if all are finite.

    Examples
    --------
    >>> finite_array("t", [0, 1])
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


def positive_array(name: str, value: ArrayLike) -> np.ndarray:
    """The value as an array of floats, if all are finite and above zero.

    Examples
    --------
    >>> positive_array("target", 2)
    array(2.)
    """
    array = finite_array(name, value)
    if not (array > 0).all():
        worst = np.atleast_1d(array)[~(np.atleast_1d(array) > 0)][0]
        raise InputError(f"{name}: {worst:g}; must be positive")
    return array
