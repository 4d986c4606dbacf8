"""Memory that was freed, given back to the system.

What lives here: `give_back`, for use between the stages of an estimate. What does not: the memory
that a stage needs.

The C library keeps what is freed for later use, in pieces that a vector of another size may not fit
into: an estimate whose tensors took 8 vectors of a million parameters held 16, half of them freed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

_MATTERS_FROM = 2**18  # parameters; with fewer, asking costs more than there is to have


@cache
def _trim() -> Callable[[int], int] | None:
    """The GNU C library's ``malloc_trim``; None where there is another."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    return found


def give_back(num_parameters: int) -> None:
    """Let the system have what is free, where the vectors are of so many parameters."""
    trim = _trim() if num_parameters >= _MATTERS_FROM else None
    if trim is not None:
        trim(0)
