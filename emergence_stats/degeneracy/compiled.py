"""How loops over entries are compiled, and the one that belongs to no sampler.

What lives here: the decorator `kernel` and means of a few entries of a table. What does not: the
steps of samplers and random numbers, which use it (`samplers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# Everything but the assumption that numbers are finite: a chain that blows up must be seen to.
FAST = {"contract", "nsz", "arcp", "reassoc"}
kernel: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")


@kernel
def mean_at(values: np.ndarray, index: np.ndarray, means: np.ndarray) -> None:
    """The mean of `values` (sample,) at each row of `index` (chain, batch), double precision."""
    for chain in range(len(index)):
        total = 0.0
        for row in index[chain]:
            total += values[row]
        means[chain] = total / index.shape[1]
