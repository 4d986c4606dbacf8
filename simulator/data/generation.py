"""Data for learning to simulate: states, and what they change to after a fixed interval.

What lives here: initial states without overlaps and `generate_transitions`. What does not: the
physics (`simulator.physics`) and the store it can stream to (`store`).

System number s draws its initial state from a random stream of its own, numpy's
``SeedSequence(seed, spawn_key=(s,))``, so the data depend on the parameters and the seed alone:
not on the chunks, the number of threads, or how often the run was interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from emergence_stats.checks import check_number, check_whole
from emergence_stats.errors import InputError, disk_errors
from simulator.data.store import (
    VARIABLES,
    create_or_resume,
    label_transitions,
    open_transitions,
    stored_array,
)
from simulator.physics.integration import integrate
from simulator.physics.neighbours import insert_randomly
from simulator.physics.simulation import check_time_step
from simulator.physics.system import ParticleSystem

# Random sequential insertion jams at these volume fractions (Feder 1980; Zhang and Torquato 2013).
JAMMING = {2: 0.547, 3: 0.384}


def draw_initial_states(
    system: ParticleSystem, num_systems: int, *, speed: float, seed: int | np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random states in which no particles overlap.

    Particles are inserted one after the other, uniformly where there is room; velocities are
    Gaussian with standard deviation `speed` along each axis.

    Parameters
    ----------
    system : ParticleSystem
        With walls; particles that do not fit are refused.
    num_systems : int
    speed : float
        Root-mean-square speed along each axis (length / time).
    seed : int or numpy.random.Generator
        With an integer, system s is the same however many are drawn.

    Returns
    -------
    positions, velocities : ndarray, shape (system, particle, axis)
    """
    check_whole("num_systems", num_systems, 1)
    if isinstance(seed, np.random.Generator):
        return _draw(system, seed.spawn(num_systems), _speed(speed))
    return _draw(system, _streams(check_whole("seed", seed, 0), 0, num_systems), _speed(speed))


def generate_transitions(
    system: ParticleSystem,
    *,
    num_systems: int,
    num_intervals: int,
    interval: float,
    time_step: float,
    speed: float,
    seed: int,
    burn_in: float = 0.0,
    path: str | os.PathLike[str] | None = None,
    chunk_systems: int = 1024,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Simulates many systems and returns what happens to each particle in a fixed interval.

    Parameters
    ----------
    system : ParticleSystem
    num_systems : int
        Independent systems; sample ``s * num_intervals + i`` is interval i of system s.
    num_intervals : int
        Successive intervals of each system.
    interval : float
        Time between a state and the one to be predicted; a whole number of time steps.
    time_step : float
    speed : float
        See `draw_initial_states`.
    seed : int
    burn_in : float
        Time simulated before the first interval; a whole number of time steps.
    path : path-like, optional
        Zarr store to stream to, of which one chunk at a time is in memory. If a run with the same
        parameters was interrupted there, it is finished.
    chunk_systems : int
        Systems in a chunk; a store begun with another number keeps it. The data do not depend
        on it.
    progress : callable
        Called with the number of systems done and their total after each chunk.

    Returns
    -------
    xarray.Dataset
        Dims (sample, particle, axis): `position`, `velocity`, `displacement` and
        `velocity_change`; `contact` (sample, particle, other) and `wall_contact` (sample,
        particle) say who touched during the interval, its ends included. Opened lazily when
        `path` is given.

    Raises
    ------
    InputError
        If a parameter cannot be used, or `path` holds data made with others (which are named).
    StorageError
        If the disk is full or fails. Finished chunks are kept.

    Examples
    --------
    >>> system = ParticleSystem(4, 0.1, 1.0, gravity=1.0, stiffness=2000.0, damping=2.0, mass=1.0)
    >>> data = generate_transitions(system, num_systems=3, num_intervals=2, interval=0.1,
    ...                             time_step=0.001, speed=1.0, seed=0)
    >>> dict(data.sizes)
    {'sample': 6, 'particle': 4, 'axis': 2, 'other': 4}
    """
    parameters = {
        **dataclasses.asdict(system),
        "num_systems": check_whole("num_systems", num_systems, 1),
        "num_intervals": check_whole("num_intervals", num_intervals, 1),
        "interval": float(interval),
        "time_step": check_time_step(system, time_step),
        "speed": _speed(speed),
        "burn_in": float(burn_in),
        "seed": check_whole("seed", seed, 0),
    }
    steps = _steps("interval", interval, time_step)
    burn_in_steps = _steps("burn_in", burn_in, time_step)
    if steps < 1:
        raise InputError(f"interval: {interval} is shorter than one time step; give a longer one")
    check_whole("chunk_systems", chunk_systems, 1)

    def chunk(first: int, last: int) -> dict[str, np.ndarray]:
        positions, velocities = _draw(system, _streams(seed, first, last), speed)
        run = functools.partial(integrate, system, time_step=time_step)
        if burn_in_steps:
            end = run(positions, velocities, num_frames=1, steps_per_frame=burn_in_steps)
            positions, velocities = end.positions[:, -1], end.velocities[:, -1]
        path = run(
            positions, velocities, num_frames=num_intervals, steps_per_frame=steps, contacts=True
        )
        values = {
            "position": path.positions[:, :-1],
            "velocity": path.velocities[:, :-1],
            "displacement": np.diff(path.positions, axis=1),
            "velocity_change": np.diff(path.velocities, axis=1),
            "contact": path.touching,
            "wall_contact": path.touched,
        }
        return {
            name: array.reshape(-1, *array.shape[2:]).astype(VARIABLES[name][1])
            for name, array in values.items()
        }

    if path is None:
        parts = []
        for first in range(0, num_systems, chunk_systems):
            last = min(first + chunk_systems, num_systems)
            parts.append(chunk(first, last))
            progress(last, num_systems)
        return label_transitions(
            {name: np.concatenate([part[name] for part in parts]) for name in VARIABLES}, parameters
        )
    with disk_errors(path):
        store = create_or_resume(Path(path), parameters, min(chunk_systems, num_systems))
        complete = stored_array(store, "complete")
        chunk_systems = int(store.attrs["chunk_systems"])
        for number in np.flatnonzero(~np.asarray(complete[:], bool)):
            first = int(number) * chunk_systems
            last = min(first + chunk_systems, num_systems)
            for name, values in chunk(first, last).items():
                stored_array(store, name)[first * num_intervals : last * num_intervals] = values
            complete[number] = True
            progress(last, num_systems)
    return open_transitions(path, verify=False)


def _streams(seed: int, first: int, last: int) -> list[np.random.Generator]:
    return [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        for number in range(first, last)
    ]


def _draw(
    system: ParticleSystem, streams: Sequence[np.random.Generator], speed: float
) -> tuple[np.ndarray, np.ndarray]:
    """One state from each random stream."""
    if system.sides is None:
        raise InputError("box: None gives no room to draw positions in; give side lengths")
    count = system.num_particles
    axes = tuple(range(system.dimension))
    low = np.full(system.dimension, system.radius)
    high = np.array(system.sides) - system.radius
    positions = np.empty((len(streams), count, system.dimension))
    velocities = np.empty_like(positions)
    # A jammed small box is begun anew; a large one that jams once will always do so.
    restarts = 200 if count <= 100 else 5
    for number, stream in enumerate(streams):
        for _ in range(restarts):
            if insert_randomly(axes, positions[number], 2 * system.radius, low, high, stream, 5000):
                break
        else:
            raise InputError(_too_dense(system))
        velocities[number] = speed * stream.standard_normal((count, system.dimension))
    return positions, velocities


def _too_dense(system: ParticleSystem) -> str:
    assert system.sides is not None
    unit = np.pi if system.dimension == 2 else 4 / 3 * np.pi
    volume = system.num_particles * unit * system.radius**system.dimension
    fraction = volume / np.prod(system.sides)
    return (
        f"num_particles: {system.num_particles} particles of radius {system.radius} fill "
        f"{fraction:.3f} of the box and found no room; random insertion reaches about "
        f"{JAMMING[system.dimension]} in a large box and less beside walls, so give fewer or "
        "smaller particles or a larger box"
    )


def _steps(name: str, duration: float, time_step: float) -> int:
    if not np.isfinite(duration) or duration < 0:
        raise InputError(f"{name}: {duration}; give a finite time of 0 or more")
    steps = round(duration / time_step)
    if abs(steps * time_step - duration) > 1e-6 * time_step * max(1, steps):
        raise InputError(
            f"{name}: {duration} is not a whole number of time steps of {time_step}; give "
            f"{max(1, steps) * time_step:.10g}, or time_step={duration / max(1, steps):.10g}"
        )
    return steps


def _speed(value: float) -> float:
    speed = check_number("speed", value)
    if speed < 0:
        raise InputError(f"speed: {speed}; give 0 or more")
    return speed
