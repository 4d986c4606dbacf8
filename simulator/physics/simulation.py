"""How discs and spheres move: `simulate`, and the checks of what it is given.

What lives here: checks of states and time steps, and the labels and units of the result. What
does not: what the particles are (`system`), the compiled loops (`contacts`, `neighbours`) and who
runs them (`integration`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import check_positive, check_whole
from emergence_stats.errors import InputError
from simulator.physics.integration import integrate
from simulator.physics.neighbours import first_overlap
from simulator.physics.system import ParticleSystem

# Overlaps below this share of the radius are rounding: particles may start exactly touching.
TOUCHING = 1e-9


def simulate(
    system: ParticleSystem,
    positions: ArrayLike,
    velocities: ArrayLike,
    *,
    time_step: float,
    num_steps: int,
    record_every: int = 1,
    neighbours: str = "auto",
    allow_overlap: bool = False,
) -> xr.Dataset:
    """Where the particles go.

    Velocity-Verlet; the damping is evaluated with the velocity predicted for the end of the step,
    ``v(t) + time_step * a(t)``, so that the scheme stays of second order. Without damping it is
    the plain symplectic scheme.

    Parameters
    ----------
    system : ParticleSystem
    positions, velocities : array_like, shape ([system,] particle, axis)
        Initial state (length, length / time), not changed. A leading axis holds independent
        systems, which run in parallel.
    time_step : float
        At most ``system.largest_stable_time_step``.
    num_steps : int
    record_every : int
        Steps between records; must divide `num_steps`.
    neighbours : {"auto", "brute", "cells"}
        Try all pairs, or keep a neighbour list built from a cell grid. The results are identical
        to the last bit; "auto" takes the quicker for the number of particles.
    allow_overlap : bool
        Accept particles that overlap each other or a wall at the start, as in a settled bed or a
        collision under way, as long as no particle is wholly outside the box.

    Returns
    -------
    xarray.Dataset
        `positions` and `velocities`, dims ([system,] time, particle, axis); the first record is
        the initial state.

    Raises
    ------
    InputError
        If shapes do not fit, a value is NaN, particles overlap or are outside the box, or the time
        step is unstable (the message gives the largest stable one).

    Notes
    -----
    Time per step is proportional to the number of particles with a neighbour list, to its square
    without.

    The error of the energy is of second order in the time step, and bounded while the same
    contacts last. The spring's slope jumps where a contact begins and ends, though, and that
    leaves each collision with an energy error of either sign: over many collisions of undamped
    particles the energy does a random walk. With 16 particles of unit mass, speed and box, and 50
    steps in a contact, its standard deviation is 0.3% of the total after a time of 400.

    Examples
    --------
    A particle falls freely:

    >>> system = ParticleSystem(1, radius=0.1, box=None, gravity=2.0, stiffness=0.0, damping=0.0,
    ...                         mass=1.0)
    >>> path = simulate(system, [[0.0, 5.0]], [[1.0, 0.0]], time_step=0.01, num_steps=100,
    ...                 record_every=50)
    >>> path["positions"].sel(axis="y").values.ravel().round(6)
    array([5.  , 4.75, 4.  ])
    """
    places, speeds = check_state(system, positions, velocities, allow_overlap=allow_overlap)
    step = check_time_step(system, time_step)
    num_steps = check_whole("num_steps", num_steps, 1)
    record_every = check_whole("record_every", record_every, 1)
    if num_steps % record_every:
        raise InputError(
            f"record_every: {record_every} does not divide num_steps={num_steps}; give a divisor, "
            f"or num_steps={(num_steps // record_every + 1) * record_every}"
        )
    batched = places.ndim == 3
    if not batched:
        places, speeds = places[None], speeds[None]
    path = integrate(
        system, places, speeds, time_step=step, num_frames=num_steps // record_every,
        steps_per_frame=record_every, neighbours=neighbours,
    )  # fmt: skip
    dims = ("system", "time", "particle", "axis")[0 if batched else 1 :]
    shape = {"positions": path.positions, "velocities": path.velocities}
    described = {
        "positions": {"long_name": "position of the centre", "units": "length"},
        "velocities": {"long_name": "velocity", "units": "length / time"},
    }
    time = np.arange(num_steps // record_every + 1) * (record_every * step)
    return xr.Dataset(
        {
            name: (dims, values if batched else values[0], described[name])
            for name, values in shape.items()
        },
        coords={
            "time": ("time", time, {"long_name": "time", "units": "time"}),
            "axis": ("axis", list("xyz"[: system.dimension])),
        },
        attrs={
            **{
                name: "none" if value is None else value
                for name, value in dataclasses.asdict(system).items()
            },
            "time_step": step,
            "record_every": record_every,
        },
    )


def check_state(
    system: ParticleSystem,
    positions: ArrayLike,
    velocities: ArrayLike,
    *,
    allow_overlap: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The initial state as arrays of float64, or why it cannot be used.

    Raises
    ------
    InputError
        See `simulate`.
    """
    expected = (system.num_particles, system.dimension)
    arrays = []
    for name, values in (("positions", positions), ("velocities", velocities)):
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: not an array of numbers ({error})") from error
        if array.shape[-2:] != expected or array.ndim not in (2, 3):
            raise InputError(
                f"{name}: shape {array.shape}; give (particle, axis) = {expected}, or "
                f"(system, particle, axis) = (any, {expected[0]}, {expected[1]})"
            )
        bad = np.argwhere(~np.isfinite(array))
        if bad.size:
            raise InputError(
                f"{name}: {array[tuple(bad[0])]} at {_where(bad[0])}; give finite numbers"
            )
        arrays.append(array)
    places, speeds = arrays
    if places.shape != speeds.shape:
        raise InputError(
            f"velocities: shape {speeds.shape} differs from that of positions, {places.shape}"
        )
    if places.size == 0:
        raise InputError("positions: no systems; give at least one")
    if system.sides is not None:
        outside = np.maximum(-places, places - np.array(system.sides)) + (
            -system.radius if allow_overlap else system.radius
        )
        bad = np.argwhere(outside > TOUCHING * system.radius)
        # A hard bounce takes the centre beyond the wall, but not the whole particle.
        if bad.size:
            where = tuple(bad[0])
            problem = (
                "is outside the box" if outside[where] > system.radius or allow_overlap
                else f"overlaps a wall by {outside[where]:.3g}"
            )  # fmt: skip
            raise InputError(
                f"positions: {places[where]} at {_where(bad[0])} {problem}; keep it between "
                f"{system.radius} and {system.sides[where[-1]] - system.radius}"
                + ("" if allow_overlap or "outside" in problem else ", or pass allow_overlap=True")
            )
    if not allow_overlap and system.num_particles > 1:
        axes = tuple(range(system.dimension))
        limit = system.radius * (2 - TOUCHING)
        for number, one in enumerate(places if places.ndim == 3 else places[None]):
            i, j, distance = first_overlap(axes, np.ascontiguousarray(one), limit)
            if i >= 0:
                which = f" of system {number}" if places.ndim == 3 else ""
                raise InputError(
                    f"positions: particles {i} and {j}{which} overlap by "
                    f"{2 * system.radius - distance:.3g} (distance {distance:.6g}, diameter "
                    f"{2 * system.radius:.6g}); move them apart, or pass allow_overlap=True"
                )
    return places, speeds


def check_time_step(system: ParticleSystem, time_step: float) -> float:
    """The time step, or why it cannot be used.

    Raises
    ------
    InputError
        If it is not positive, or unstable; the message gives the largest stable one.
    """
    step = check_positive("time_step", time_step)
    if step > system.largest_stable_time_step:
        raise InputError(
            f"time_step: {step} is unstable; the largest stable one is "
            f"{system.largest_stable_time_step:.6g} (accuracy may ask for less)"
        )
    return step


def _where(index: np.ndarray) -> str:
    names = ("system", "particle", "axis")[-len(index) :]
    return ", ".join(f"{name} {number}" for name, number in zip(names, index, strict=True))
