"""How loops over entries are compiled, and those that belong to no sampler.

What lives here: the decorators `kernel` and `step_kernel`, sums of a block and means of a few
entries of a table. What does not: the steps of samplers and random numbers, which use them
(`samplers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# Everything but the assumption that numbers are finite: a chain that blows up must be seen to.
FAST = {"contract", "nsz", "arcp", "reassoc"}
kernel: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
# A loop that writes to one array and reads others is compiled twice, for arrays that may overlap
# and for arrays that do not, and which is run hangs on where the arrays lie. Where sums may be
# reordered the two round differently, and the same seed would not give the same numbers.
step_kernel: Callable[..., Any] = numba.njit(
    cache=True, nogil=True, fastmath=FAST - {"reassoc"}, error_model="numpy"
)


@kernel
def block_sum(values: np.ndarray, size: int) -> float:
    """The sum of the first `size` entries; it reads one array only, so its order is always one."""
    total = np.float32(0.0)
    for i in range(size):
        total += values[i]
    return float(total)


@kernel
def mean_at(values: np.ndarray, index: np.ndarray, means: np.ndarray) -> None:
    """The mean of `values` (sample,) at each row of `index` (chain, batch), double precision."""
    for chain in range(len(index)):
        total = 0.0
        for row in index[chain]:
            total += values[row]
        means[chain] = total / index.shape[1]
