"""How loops over entries are compiled, and those that belong to no sampler.

What lives here: the decorators `kernel` and `step_kernel`, sums of a block, rows of a table, losses
beside those of a table, distances and work. What does not: the steps of samplers and random
numbers, which use them (`samplers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# Loops go over slices: an entry at [row, first + i] is asked whether its place is negative, which
# counts from the end, and is then taken by itself (a step took 2.8 ns an entry, and takes 1.05).
#
# What numba keeps on disk goes by the file of the loop itself: after a change to what is inlined
# from another file (`philox` into the samplers), delete the `__pycache__` of both.
#
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
def pick_rows(table: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:
    """The rows of `table` (sample, entry) at `index` (row,), into `rows` (row, entry)."""
    for i in range(len(index)):
        row = index[i]
        for j in range(table.shape[1]):
            rows[i, j] = table[row, j]


@kernel
def excess_at(
    losses: np.ndarray, values: np.ndarray, index: np.ndarray, excess: np.ndarray
) -> None:
    """`losses` (chain,) less the mean of `values` (sample,) at each row of `index` (chain, batch).

    In double precision.
    """
    for chain in range(len(index)):
        total = 0.0
        for row in index[chain]:
            total += values[row]
        excess[chain] = losses[chain] - total / index.shape[1]


@kernel
def squared_distances(positions: np.ndarray, centre: np.ndarray, found: np.ndarray) -> None:
    """``|w - w*|^2`` of each row of `positions` (chain, parameter), double precision."""
    for chain in range(len(positions)):
        w = positions[chain]
        total = 0.0
        for i in range(len(centre)):
            away = w[i] - centre[i]
            total += float(away) * float(away)
        found[chain] = total


@kernel
def work_along(
    positions: np.ndarray, centre: np.ndarray, gradients: np.ndarray, found: np.ndarray
) -> None:
    """``(w - w*) . gradient`` of each row of `positions` (chain, parameter), double precision."""
    for chain in range(len(positions)):
        w, gradient = positions[chain], gradients[chain]
        total = 0.0
        for i in range(len(centre)):
            total += float(w[i] - centre[i]) * float(gradient[i])
        found[chain] = total
