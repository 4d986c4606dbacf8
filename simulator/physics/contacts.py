"""Damped linear contacts and velocity-Verlet, compiled.

What lives here: the force law and the time stepping of one system and of a block of independent
systems. What does not: who is near whom (`neighbours`), checks, units and labels
(`simulation`).

While two particles overlap by ``delta = 2 radius - distance > 0`` each is pushed along the line of
centres by ``stiffness * delta - damping * (rate of separation)``, and a wall pushes likewise with
``delta = radius - distance to the wall``. The force may pull for an instant before a damped
contact ends: nothing is clipped, so a collision is exactly a damped oscillator.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from simulator.physics.neighbours import Array, Axes, build_list


class Law(NamedTuple):
    """The numbers the compiled loops need.

    Attributes
    ----------
    radius, diameter : float
        Of every particle.
    stiffness, damping : float
        Of contacts between particles.
    wall_stiffness, wall_damping : float
        Of contacts with walls.
    gravity : float
        Weight of one particle (a force, not an acceleration).
    mass : float
        Of every particle.
    floor : float
        Where the lower walls are: 0, or minus infinity without walls.
    time_step : float
    """

    radius: float
    diameter: float
    stiffness: float
    damping: float
    wall_stiffness: float
    wall_damping: float
    gravity: float
    mass: float
    floor: float
    time_step: float


@njit(cache=True, nogil=True)
def _external(
    axes: Axes,
    law: Law,
    ceiling: Array,
    positions: Array,
    velocities: Array,
    forces: Array,
    touched: Array,
) -> None:
    """Sets `forces` to weight and walls; notes who touches a wall if `touched` is not empty."""
    note = touched.size > 0
    last = len(axes) - 1
    for i in range(positions.shape[0]):
        for axis in range(len(axes)):
            force = -law.gravity if axis == last else 0.0
            lower = law.radius - (positions[i, axis] - law.floor)
            upper = law.radius - (ceiling[axis] - positions[i, axis])
            if lower > 0.0:
                force += law.wall_stiffness * lower - law.wall_damping * velocities[i, axis]
                if note:
                    touched[i] = True
            if upper > 0.0:
                force -= law.wall_stiffness * upper + law.wall_damping * velocities[i, axis]
                if note:
                    touched[i] = True
            forces[i, axis] = force


@njit(cache=True, nogil=True)
def _interact(
    axes: Axes,
    law: Law,
    listed: bool,
    starts: Array,
    neighbours: Array,
    positions: Array,
    velocities: Array,
    forces: Array,
    touching: Array,
) -> None:
    """Adds the contact forces, pair by pair with i and then j ascending, from a list or from all.

    Both searches meet the pairs in contact in the same order and add the same numbers, and the
    compiler is not allowed to reorder sums, so the forces are identical to the last bit.
    """
    three = len(axes) == 3
    note = touching.size > 0
    count = positions.shape[0]
    square = law.diameter * law.diameter
    for i in range(count):
        x = positions[i, 0]
        y = positions[i, 1]
        z = positions[i, 2] if three else 0.0
        begin = starts[i] if listed else i + 1
        end = starts[i + 1] if listed else count
        for place in range(begin, end):
            j = np.uint32(neighbours[place] if listed else place)
            dx = x - positions[j, 0]
            dy = y - positions[j, 1]
            dz = z - positions[j, 2] if three else 0.0
            distance_square = dx * dx + dy * dy
            if three:
                distance_square += dz * dz
            if distance_square >= square or distance_square == 0.0:
                continue
            distance = math.sqrt(distance_square)
            separation = dx * (velocities[i, 0] - velocities[j, 0])
            separation += dy * (velocities[i, 1] - velocities[j, 1])
            if three:
                separation += dz * (velocities[i, 2] - velocities[j, 2])
            inverse = 1.0 / distance
            push = law.stiffness * (law.diameter - distance) - law.damping * separation * inverse
            push *= inverse
            forces[i, 0] += push * dx
            forces[j, 0] -= push * dx
            forces[i, 1] += push * dy
            forces[j, 1] -= push * dy
            if three:
                forces[i, 2] += push * dz
                forces[j, 2] -= push * dz
            if note:
                touching[i, j] = True
                touching[j, i] = True


@njit(cache=True, nogil=True)
def _advance(
    axes: Axes,
    law: Law,
    ceiling: Array,
    listed: bool,
    fresh: bool,
    positions: Array,
    velocities: Array,
    accelerations: Array,
    num_frames: int,
    steps_per_frame: int,
    frame_positions: Array,
    frame_velocities: Array,
    touching: Array,
    touched: Array,
) -> None:
    """Moves one system on by several frames, in place; see `advance`."""
    count = positions.shape[0]
    step = law.time_step
    half = 0.5 * step
    inverse_mass = 1.0 / law.mass
    predicted = velocities.copy()
    forces = np.empty_like(positions)
    no_pairs = np.zeros((0, 0), np.bool_)
    no_walls = np.zeros(0, np.bool_)
    note = touching.shape[0] > 0

    # The list holds every pair within a diameter plus `skin`: good until something has moved
    # half the skin. Any skin gives the same result, so it may adapt to how fast things move.
    skin = 0.15 * law.radius
    starts = np.zeros(count + 1 if listed else 1, np.int64)
    neighbours = np.empty(4 * count if listed else 1, np.uint32)
    reference = np.empty_like(positions) if listed else np.empty((1, 1))
    age = -1
    stale = listed

    for frame in range(num_frames):
        now_touching = touching[frame] if note else no_pairs
        now_touched = touched[frame] if note else no_walls
        for substep in range(steps_per_frame + 1):
            if substep > 0:
                furthest = 0.0
                for i in range(count):
                    moved = 0.0
                    for axis in range(len(axes)):
                        kick = half * accelerations[i, axis]
                        velocities[i, axis] += kick
                        positions[i, axis] += step * velocities[i, axis]
                        # Damping needs the velocity at the end of the step, to second order.
                        predicted[i, axis] = velocities[i, axis] + kick
                        if listed:
                            moved += (positions[i, axis] - reference[i, axis]) ** 2
                    furthest = max(furthest, moved)
                age += 1
                if listed and 4.0 * furthest > skin * skin:
                    stale = True
            elif not note and not (fresh and frame == 0):
                continue
            if stale:
                if age > 0:
                    if age < 12:
                        skin = min(1.4 * skin, 2.0 * law.diameter)
                    elif age > 60:
                        skin = max(0.8 * skin, 0.05 * law.radius)
                needed = build_list(axes, positions, law.diameter + skin, starts, neighbours)
                if needed > neighbours.size:
                    neighbours = np.empty(needed + needed // 4, np.uint32)
                    build_list(axes, positions, law.diameter + skin, starts, neighbours)
                reference[:] = positions
                age = 0
                stale = False
            _external(axes, law, ceiling, positions, predicted, forces, now_touched)
            _interact(
                axes, law, listed, starts, neighbours, positions, predicted, forces, now_touching
            )
            if substep > 0:
                for i in range(count):
                    for axis in range(len(axes)):
                        accelerations[i, axis] = inverse_mass * forces[i, axis]
                        velocities[i, axis] += half * accelerations[i, axis]
            elif fresh and frame == 0:
                for i in range(count):
                    for axis in range(len(axes)):
                        accelerations[i, axis] = inverse_mass * forces[i, axis]
        frame_positions[frame] = positions
        frame_velocities[frame] = velocities


@njit(cache=True, nogil=True)
def advance(
    axes: Axes,
    law: Law,
    ceiling: Array,
    listed: bool,
    fresh: bool,
    positions: Array,
    velocities: Array,
    accelerations: Array,
    steps_per_frame: int,
    frame_positions: Array,
    frame_velocities: Array,
    touching: Array,
    touched: Array,
) -> None:
    """Moves a block of independent systems on, in place, and stores a frame now and then.

    Parameters
    ----------
    axes : tuple
        ``(0, 1)`` or ``(0, 1, 2)``.
    law : Law
    ceiling : ndarray, shape (axis,)
        Where the upper walls are.
    listed : bool
        Whether to keep a neighbour list instead of trying all pairs; the results are the same.
    fresh : bool
        Whether `accelerations` are still to be computed.
    positions, velocities, accelerations : ndarray, shape (system, particle, axis)
        Changed in place.
    steps_per_frame : int
    frame_positions, frame_velocities : ndarray, shape (system, frame, particle, axis)
        Filled.
    touching : ndarray of bool, shape (system, frame, particle, particle)
        Pairs that touched in the course of each frame are set; no frames to skip this.
    touched : ndarray of bool, shape (system, frame, particle)
        Likewise for walls.
    """
    for system in range(positions.shape[0]):
        _advance(
            axes, law, ceiling, listed, fresh, positions[system], velocities[system],
            accelerations[system], frame_positions.shape[1], steps_per_frame,
            frame_positions[system], frame_velocities[system], touching[system], touched[system],
        )  # fmt: skip
