"""Which particles are close: cell grids, neighbour lists and the first overlapping pair.

What lives here: compiled searches over positions. What does not: forces and time stepping
(`contacts`).

Every function takes `axes`, the tuple ``(0, 1)`` or ``(0, 1, 2)``: its length is known when the
function is compiled, so code for the third axis vanishes in two dimensions.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

Axes = tuple[int, ...]
Array = np.ndarray


@njit(cache=True, nogil=True)
def grid(axes: Axes, positions: Array, cutoff: float) -> tuple[Array, Array, Array]:
    """A grid of cells no narrower than `cutoff` around all positions.

    There are never many more cells than particles, so a few particles in an immense volume cost
    no memory; the cells are then larger than they need be.

    Returns
    -------
    low, inverse_side : ndarray, shape (3,)
        Corner of the grid and reciprocal side lengths of a cell.
    shape : ndarray of int, shape (3,)
        Number of cells along each axis; 1 along an axis that does not exist.
    """
    low = np.zeros(3)
    inverse_side = np.zeros(3)
    shape = np.ones(3, np.int64)
    count = positions.shape[0]
    most = max(1, int((2.0 * count) ** (1.0 / len(axes))) + 1)
    for axis in range(len(axes)):
        smallest = positions[0, axis]
        largest = smallest
        for i in range(1, count):
            smallest = min(smallest, positions[i, axis])
            largest = max(largest, positions[i, axis])
        extent = largest - smallest
        number = 1
        if extent > cutoff:
            # Elongated clouds are common (a flat bed), so one axis may have more than `most`.
            number = int(min(extent / cutoff, 4.0 * most))
        low[axis] = smallest
        shape[axis] = number
        if extent > 0.0:
            # A hair below number / extent, so that rounding never makes a cell too narrow.
            inverse_side[axis] = number / extent * (1.0 - 1e-9)
    while shape[0] * shape[1] * shape[2] > 4 * count + 64:
        widest = np.argmax(shape)
        inverse_side[widest] *= (shape[widest] + 1) // 2 / shape[widest]
        shape[widest] = (shape[widest] + 1) // 2
    return low, inverse_side, shape


@njit(cache=True, nogil=True)
def sort_into_cells(
    axes: Axes, positions: Array, low: Array, inverse_side: Array, shape: Array
) -> tuple[Array, Array, Array]:
    """Particles by cell, in ascending order within each.

    Returns
    -------
    cell : ndarray of int, shape (particle, 3)
        Cell coordinates of each particle.
    first : ndarray of int, shape (cells + 1,)
        Where each cell begins in `order`.
    order : ndarray of int, shape (particle,)
    """
    count = positions.shape[0]
    cell = np.zeros((count, 3), np.int32)
    first = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for i in range(count):
        for axis in range(len(axes)):
            place = int((positions[i, axis] - low[axis]) * inverse_side[axis])
            cell[i, axis] = min(max(place, 0), shape[axis] - 1)
        first[(cell[i, 2] * shape[1] + cell[i, 1]) * shape[0] + cell[i, 0] + 1] += 1
    for index in range(first.size - 1):
        first[index + 1] += first[index]
    following = first[:-1].copy()
    order = np.empty(count, np.int64)
    for i in range(count):
        index = (cell[i, 2] * shape[1] + cell[i, 1]) * shape[0] + cell[i, 0]
        order[following[index]] = i
        following[index] += 1
    return cell, first, order


@njit(cache=True, nogil=True)
def build_list(
    axes: Axes, positions: Array, cutoff: float, starts: Array, neighbours: Array
) -> int:
    """The half neighbour list: for each i, in ascending order, every j > i within `cutoff`.

    Both orders are those of a plain double loop, so that forces summed along the list round
    exactly as forces summed by brute force.

    Parameters
    ----------
    starts : ndarray of int, shape (particle + 1,)
        Filled with where each particle's neighbours begin.
    neighbours : ndarray of uint32
        Filled with the neighbours; too short an array is filled as far as it goes.

    Returns
    -------
    int
        How many neighbours there are; if more than ``neighbours.size``, call again with more room.
    """
    low, inverse_side, shape = grid(axes, positions, cutoff)
    cell, first, order = sort_into_cells(axes, positions, low, inverse_side, shape)
    count = positions.shape[0]
    three = len(axes) == 3
    room = neighbours.size
    square = cutoff * cutoff
    filled = 0
    for i in range(count):
        starts[i] = filled
        x = positions[i, 0]
        y = positions[i, 1]
        z = positions[i, 2] if three else 0.0
        left = max(cell[i, 0] - 1, 0)
        right = min(cell[i, 0] + 1, shape[0] - 1)
        for layer in range(max(cell[i, 2] - 1, 0), min(cell[i, 2] + 2, shape[2])):
            for row in range(max(cell[i, 1] - 1, 0), min(cell[i, 1] + 2, shape[1])):
                line = (layer * shape[1] + row) * shape[0]
                # Cells beside each other along the first axis are beside each other in `order`.
                for place in range(first[line + left], first[line + right + 1]):
                    j = order[place]
                    if j <= i:
                        continue
                    dx = x - positions[j, 0]
                    dy = y - positions[j, 1]
                    distance = dx * dx + dy * dy
                    if three:
                        dz = z - positions[j, 2]
                        distance += dz * dz
                    if distance < square:
                        if filled < room:
                            # Rows are short, so an insertion keeps them in order cheaply.
                            slot = filled
                            while slot > starts[i] and neighbours[slot - 1] > j:
                                neighbours[slot] = neighbours[slot - 1]
                                slot -= 1
                            neighbours[slot] = j
                        filled += 1
    starts[count] = filled
    return filled


@njit(cache=True, nogil=True)
def first_overlap(axes: Axes, positions: Array, diameter: float) -> tuple[int, int, float]:
    """The first pair closer than `diameter`, as (i, j, distance); (-1, -1, 0) if there is none."""
    count = positions.shape[0]
    starts = np.empty(count + 1, np.int64)
    neighbours = np.empty(8 * count, np.uint32)
    found = build_list(axes, positions, diameter, starts, neighbours)
    if found > neighbours.size:
        neighbours = np.empty(found, np.uint32)
        build_list(axes, positions, diameter, starts, neighbours)
    for i in range(count):
        if starts[i + 1] > starts[i]:
            j = int(neighbours[starts[i]])
            square = 0.0
            for axis in range(len(axes)):
                square += (positions[i, axis] - positions[j, axis]) ** 2
            return i, j, math.sqrt(square)
    return -1, -1, 0.0


@njit(cache=True, nogil=True)
def spatial_order(axes: Axes, positions: Array, cutoff: float) -> Array:
    """An order of the particles in which neighbours in space are neighbours in memory."""
    low, inverse_side, shape = grid(axes, positions, cutoff)
    return sort_into_cells(axes, positions, low, inverse_side, shape)[2]


@njit(cache=True, nogil=True)
def insert_randomly(
    axes: Axes,
    positions: Array,
    diameter: float,
    low: Array,
    high: Array,
    generator: np.random.Generator,
    attempts: int,
) -> bool:
    """Fills `positions` by random sequential insertion; says whether all particles fitted.

    Each particle is drawn uniformly between `low` and `high` until it overlaps none of those
    before it, at most `attempts` times.
    """
    count = positions.shape[0]
    most = max(1, int((2.0 * count) ** (1.0 / len(axes))))
    shape = np.ones(3, np.int64)
    side = np.ones(3)
    for axis in range(len(axes)):
        extent = high[axis] - low[axis]
        shape[axis] = max(1, min(int(extent / diameter), most))
        side[axis] = extent / shape[axis] if extent > 0.0 else 1.0
    head = np.full(shape[0] * shape[1] * shape[2], -1)
    following = np.full(count, -1)
    cell = np.zeros(3, np.int64)
    square = diameter * diameter
    for i in range(count):
        placed = False
        for _ in range(attempts):
            for axis in range(len(axes)):
                extent = high[axis] - low[axis]
                positions[i, axis] = low[axis] + extent * generator.random()
                place = int((positions[i, axis] - low[axis]) / side[axis])
                cell[axis] = min(place, shape[axis] - 1)
            free = True
            for layer in range(max(cell[2] - 1, 0), min(cell[2] + 2, shape[2])):
                for row in range(max(cell[1] - 1, 0), min(cell[1] + 2, shape[1])):
                    for column in range(max(cell[0] - 1, 0), min(cell[0] + 2, shape[0])):
                        j = head[(layer * shape[1] + row) * shape[0] + column]
                        while j >= 0 and free:
                            distance = 0.0
                            for axis in range(len(axes)):
                                distance += (positions[i, axis] - positions[j, axis]) ** 2
                            free = distance >= square
                            j = following[j]
            if free:
                index = (cell[2] * shape[1] + cell[1]) * shape[0] + cell[0]
                following[i] = head[index]
                head[index] = i
                placed = True
                break
        if not placed:
            return False
    return True
