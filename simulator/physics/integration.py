"""Many systems, many steps: runs the compiled loops over blocks of independent systems.

What lives here: `integrate`, from checked plain arrays to plain arrays, and the threads it uses.
What does not: the loops (`contacts`), checks and labels (`simulation`).

Independent systems are spread over threads: the compiled loops release the interpreter's lock, so
no second threading runtime has to live beside PyTorch's, and a process may still fork.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from emergence_stats.errors import InputError
from simulator.physics.contacts import Law, advance
from simulator.physics.neighbours import spatial_order
from simulator.physics.system import ParticleSystem

NEIGHBOURS = ("auto", "brute", "cells")
# From here on a neighbour list is quicker than trying all pairs
# (benchmarks/speed/physics_speed.py).
LIST_FROM = 16
# From here on particles are laid out in memory by place, so that neighbours share cache lines.
SORT_FROM = 1024
# One compiled call does at most this many particle-steps, so that Ctrl-C is heard.
STEPS_PER_CALL = 10_000_000


@dataclass(frozen=True)
class Path:
    """What `integrate` returns, without labels.

    Attributes
    ----------
    positions, velocities : ndarray, shape (system, frame + 1, particle, axis)
        The first frame is the initial state.
    touching : ndarray of bool, shape (system, frame, particle, particle)
        Which pairs touched between one frame and the next, at either frame included.
    touched : ndarray of bool, shape (system, frame, particle)
        Which particles touched a wall.
    """

    positions: np.ndarray
    velocities: np.ndarray
    touching: np.ndarray
    touched: np.ndarray


def integrate(
    system: ParticleSystem,
    positions: np.ndarray,
    velocities: np.ndarray,
    *,
    time_step: float,
    num_frames: int,
    steps_per_frame: int,
    neighbours: str = "auto",
    contacts: bool = False,
    workers: int | None = None,
) -> Path:
    """The paths of independent systems whose states (system, particle, axis) have been checked.

    With `contacts` it is noted who touched whom, which costs memory quadratic in the number of
    particles. `workers` are threads; one a core unless given.
    """
    if neighbours not in NEIGHBOURS:
        raise InputError(f"neighbours: {neighbours!r}; give one of {', '.join(NEIGHBOURS)}")
    num_systems, count, dimension = positions.shape
    places = np.empty((num_systems, num_frames + 1, count, dimension))
    speeds = np.empty_like(places)
    places[:, 0], speeds[:, 0] = positions, velocities
    noted = num_frames if contacts else 0
    touching = np.zeros((num_systems, noted, count, count), np.bool_)
    touched = np.zeros((num_systems, noted, count), np.bool_)
    axes = tuple(range(dimension))
    law = _law(system, time_step)
    ceiling = np.array(system.sides or (math.inf,) * dimension)
    listed = neighbours == "cells" or (neighbours == "auto" and count >= LIST_FROM)

    def run(block: slice) -> None:
        state = [np.array(values[block], np.float64, order="C") for values in (places, speeds)]
        x, v = (np.ascontiguousarray(values[:, 0]) for values in state)
        order = None
        if count >= SORT_FROM and not contacts:
            # The order depends on the initial state alone, so on neither search nor recording.
            order = np.array([spatial_order(axes, one, 2.5 * system.radius) for one in x])
            x, v = (np.take_along_axis(values, order[..., None], 1) for values in (x, v))
        a = np.zeros_like(x)
        fresh = True
        for begin, end, steps in _calls(num_frames, steps_per_frame, x.shape[0] * count):
            frames = [np.empty((x.shape[0], end - begin, count, dimension)) for _ in range(2)]
            some = slice(begin, end if contacts else begin)
            advance(
                axes, law, ceiling, listed, fresh, x, v, a, steps, *frames,
                touching[block, some], touched[block, some],
            )  # fmt: skip
            fresh = False
            for whole, part in zip((places, speeds), frames, strict=True):
                if order is None:
                    whole[block, begin + 1 : end + 1] = part
                else:
                    for number, one in enumerate(order):
                        whole[block.start + number, begin + 1 : end + 1, one] = part[
                            number
                        ].transpose(1, 0, 2)

    _in_threads(run, num_systems, workers)
    return Path(places, speeds, touching, touched)


def _law(system: ParticleSystem, time_step: float) -> Law:
    return Law(
        radius=system.radius,
        diameter=2 * system.radius,
        stiffness=system.stiffness,
        # Without stiffness particles pass through each other, so nothing may brake them either.
        damping=system.damping if system.stiffness > 0 else 0.0,
        wall_stiffness=system.effective_wall_stiffness,
        wall_damping=system.damping,
        gravity=system.mass * system.gravity,
        mass=system.mass,
        floor=0.0 if system.sides is not None else -math.inf,
        time_step=time_step,
    )


def _calls(num_frames: int, steps_per_frame: int, size: int) -> list[tuple[int, int, int]]:
    """Splits a run into calls (first frame, frame after the last, steps per frame).

    A frame too long for one call becomes several calls that each overwrite it.
    """
    most = max(1, STEPS_PER_CALL // size)
    if steps_per_frame > most:
        pieces = [most] * (steps_per_frame // most)
        if steps_per_frame % most:
            pieces.append(steps_per_frame % most)
        return [(frame, frame + 1, steps) for frame in range(num_frames) for steps in pieces]
    together = most // steps_per_frame
    return [
        (begin, min(begin + together, num_frames), steps_per_frame)
        for begin in range(0, num_frames, together)
    ]


def _in_threads(run: Callable[[slice], None], num_systems: int, workers: int | None) -> None:
    """Calls `run` on blocks of systems, as many at a time as there are cores."""
    number = min(workers or _cores(), num_systems)
    if number == 1:
        run(slice(0, num_systems))
        return
    # More blocks than threads, for some systems take longer than others.
    edges = np.linspace(0, num_systems, min(num_systems, 4 * number) + 1).astype(int)
    pool = ThreadPoolExecutor(number)
    try:
        for _ in pool.map(run, [slice(a, b) for a, b in itertools.pairwise(edges)]):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
