"""Equal discs or spheres in a box: what they are, and how they move.

What lives here: `ParticleSystem`, the checks of a simulation's input, and `simulate`, which puts
labels and units on what the compiled loops return. What does not: the loops themselves
(`simulator.contacts`, `simulator.neighbours`) and data sets for training (`simulator.dataset`).

Independent systems are spread over threads: the compiled loops release the interpreter's lock, so
no second threading runtime has to live beside PyTorch's, and a process may still fork.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.errors import InputError
from simulator.contacts import Law, advance
from simulator.neighbours import first_overlap, spatial_order

NEIGHBOURS = ("auto", "brute", "cells")
# From here on a neighbour list is quicker than trying all pairs (benchmarks/physics_speed.py).
LIST_FROM = 24
# From here on particles are laid out in memory by place, so that neighbours share cache lines.
SORT_FROM = 1024
# Overlaps below this share of the radius are rounding: particles may start exactly touching.
TOUCHING = 1e-9
# One compiled call does at most this many particle-steps, so that Ctrl-C is heard.
STEPS_PER_CALL = 10_000_000


@dataclass(frozen=True)
class ParticleSystem:
    """Which particles, in which box, with which contacts.

    Two particles that overlap by ``delta`` push each other apart along the line of centres with

        force = stiffness * delta - damping * v

    where v is the rate at which they separate; a wall does the same with ``wall_stiffness``. A
    collision of two is half a period of a damped oscillator of the reduced mass.

    Parameters
    ----------
    num_particles : int
    radius : float
        Of every particle (length).
    box : float or tuple of float or None
        Side lengths (length); the walls are at 0 and at the side length. One number stands for
        all axes, None for no walls.
    gravity : float
        Acceleration along minus the last axis (length / time^2).
    stiffness : float
        Spring constant of a contact (mass / time^2). With 0 particles pass through each other
        freely and without damping, which makes a control task.
    damping : float
        Damping constant of a contact, with particles and with walls (mass / time).
    mass : float
        Of every particle.
    dimension : int
        2 for discs, 3 for spheres.
    wall_stiffness : float, optional
        Spring constant of the walls; that of the particles unless given.

    Raises
    ------
    InputError
        If a value cannot be used; the message names it.

    Examples
    --------
    >>> system = ParticleSystem(16, radius=0.06, box=1.0, gravity=1.0, stiffness=2000.0,
    ...                         damping=2.0, mass=1.0)
    >>> round(system.restitution, 3), round(system.contact_time, 4)
    (0.905, 0.0497)
    """

    num_particles: int
    radius: float
    box: float | tuple[float, ...] | None
    gravity: float
    stiffness: float
    damping: float
    mass: float
    dimension: int = 2
    wall_stiffness: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_particles", "dimension"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise InputError(f"{name}: {value!r}; give a whole number")
            object.__setattr__(self, name, int(value))
        if self.num_particles < 1:
            raise InputError(f"num_particles: {self.num_particles}; give at least 1")
        if self.dimension not in (2, 3):
            raise InputError(f"dimension: {self.dimension}; give 2 for discs or 3 for spheres")
        for name in ("radius", "gravity", "stiffness", "damping", "mass", "wall_stiffness"):
            if name != "wall_stiffness" or self.wall_stiffness is not None:
                object.__setattr__(self, name, _number(name, getattr(self, name)))
        for name in ("radius", "mass"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: {getattr(self, name)}; give a positive number")
        for name in ("gravity", "stiffness", "damping"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: {getattr(self, name)}; give 0 or more")
        if isinstance(self.box, tuple | list | np.ndarray):
            object.__setattr__(self, "box", tuple(_number("box", side) for side in self.box))
        elif self.box is not None:
            object.__setattr__(self, "box", _number("box", self.box))
        sides = self.sides
        if sides is None:
            return
        if len(sides) != self.dimension:
            raise InputError(
                f"box: {len(sides)} side lengths for dimension={self.dimension}; give one for each "
                "axis, or one number for all"
            )
        if min(sides) < 2 * self.radius:
            raise InputError(
                f"box: a side of {min(sides)} is smaller than the diameter {2 * self.radius} of a "
                "particle; give a larger box or a smaller radius"
            )
        if self.wall_stiffness is None and self.stiffness == 0:
            raise InputError(
                "wall_stiffness: stiffness=0 leaves the walls without a spring; give "
                "wall_stiffness, or box=None for no walls"
            )
        if self.wall_stiffness is not None and self.wall_stiffness <= 0:
            raise InputError(
                f"wall_stiffness: {self.wall_stiffness} does not hold particles in the box; give a "
                "positive number, or box=None for no walls"
            )

    @property
    def sides(self) -> tuple[float, ...] | None:
        """The side lengths of the box, one for each axis, or None without walls."""
        if isinstance(self.box, int | float):
            return (float(self.box),) * self.dimension
        return self.box

    @property
    def contact_time(self) -> float:
        """How long a collision of two particles lasts.

        With ``m = mass / 2``, ``eta = damping / (2 m)`` and ``omega^2 = stiffness / m - eta^2`` it
        is pi / omega: infinite if overdamped, when particles never part by themselves, and NaN
        when stiffness is 0, for then there are no collisions.
        """
        return _collision(self.stiffness, self.damping, self.mass / 2)[0]

    @property
    def restitution(self) -> float:
        """Speed of separation over speed of approach: exp(-eta pi / omega); 0 if overdamped."""
        return _collision(self.stiffness, self.damping, self.mass / 2)[1]

    @property
    def wall_contact_time(self) -> float:
        """How long a particle touches a wall it bounces off, without gravity."""
        return _collision(self._wall_stiffness, self.damping, self.mass)[0]

    @property
    def wall_restitution(self) -> float:
        """Speed after over speed before a bounce off a wall, without gravity."""
        return _collision(self._wall_stiffness, self.damping, self.mass)[1]

    @property
    def largest_stable_time_step(self) -> float:
        """The largest time step with which no cluster of particles can gain energy from stepping.

        A particle has at most z contacts with others, z = 6 in two and 12 in three dimensions (the
        kissing numbers), and its walls are at right angles. By Gershgorin's theorem the squared
        frequencies are at most ``W = (2 z stiffness + wall_stiffness) / mass`` and the damping
        rates at most ``G = (2 z damping + damping) / mass``. The scheme of `simulate` multiplies
        a mode of squared frequency w and damping rate g by factors no larger than 1 as long as
        ``w h^2 + 4 g h < 4``, hence

            h = 2 / sqrt(W) * (sqrt(1 + x^2) - x),   x = 2 G / sqrt(W)

        Particles squeezed so hard that they have more than z neighbours are not covered. Accuracy
        needs less: `contact_time` / 20 is a fair start.
        """
        contacts = min(6 if self.dimension == 2 else 12, self.num_particles - 1)
        walls = 0 if self.sides is None else 1
        frequency = (2 * contacts * self.stiffness + walls * self._wall_stiffness) / self.mass
        if frequency == 0:
            return math.inf
        contact_damping = self.damping if self.stiffness > 0 else 0.0
        damping = (2 * contacts * contact_damping + walls * self.damping) / self.mass
        ratio = 2 * damping / math.sqrt(frequency)
        # The same as sqrt(1 + ratio^2) - ratio, without cancellation when ratio is large.
        return 2 / math.sqrt(frequency) / (math.sqrt(1 + ratio * ratio) + ratio)

    @property
    def _wall_stiffness(self) -> float:
        return self.stiffness if self.wall_stiffness is None else self.wall_stiffness

    def to_json(self) -> str:
        """All parameters, as kept in the attributes of a dataset."""
        return json.dumps(dataclasses.asdict(self))


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
        Accept particles that overlap at the start, as a settled bed or a collision under way does.

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
    for name, number in (("num_steps", num_steps), ("record_every", record_every)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise InputError(f"{name}: {number!r}; give a whole number of at least 1")
    if num_steps % record_every:
        raise InputError(
            f"record_every: {record_every} does not divide num_steps={num_steps}; give a divisor, "
            f"or num_steps={(num_steps // record_every + 1) * record_every}"
        )
    batched = places.ndim == 3
    if not batched:
        places, speeds = places[None], speeds[None]
    path = integrate(
        system, places, speeds, time_step=step, num_frames=int(num_steps // record_every),
        steps_per_frame=int(record_every), neighbours=neighbours,
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
            "record_every": int(record_every),
        },
    )


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
    """The paths of independent systems whose states have been checked, as plain arrays.

    Parameters
    ----------
    positions, velocities : ndarray, shape (system, particle, axis)
        Not changed.
    contacts : bool
        Whether to note who touched whom; costs memory quadratic in the number of particles.
    workers : int, optional
        Threads; one a core unless given.
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
            0.0 if allow_overlap else system.radius
        )
        bad = np.argwhere(outside > TOUCHING * system.radius)
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
    step = _number("time_step", time_step)
    if step <= 0:
        raise InputError(f"time_step: {step}; give a positive number")
    if step > system.largest_stable_time_step:
        raise InputError(
            f"time_step: {step} is unstable; the largest stable one is "
            f"{system.largest_stable_time_step:.6g}, and a twentieth of the contact time "
            f"({system.contact_time:.3g}) is a fair choice"
        )
    return step


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name}: {value!r}; give a number")
    if not math.isfinite(value):
        raise InputError(f"{name}: {value}; give a finite number")
    return float(value)


def _where(index: np.ndarray) -> str:
    names = ("system", "particle", "axis")[-len(index) :]
    return ", ".join(f"{name} {number}" for name, number in zip(names, index, strict=True))


def _collision(stiffness: float, damping: float, mass: float) -> tuple[float, float]:
    """Duration and restitution of half a period of a damped oscillator."""
    if stiffness == 0:
        return math.nan, math.nan
    decay = damping / (2 * mass)
    square = stiffness / mass - decay * decay
    if square <= 0:
        return math.inf, 0.0
    frequency = math.sqrt(square)
    return math.pi / frequency, math.exp(-decay * math.pi / frequency)


def _law(system: ParticleSystem, time_step: float) -> Law:
    return Law(
        radius=system.radius,
        diameter=2 * system.radius,
        stiffness=system.stiffness,
        # Without stiffness particles pass through each other, so nothing may brake them either.
        damping=system.damping if system.stiffness > 0 else 0.0,
        wall_stiffness=system._wall_stiffness,
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
        for _ in pool.map(run, [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
