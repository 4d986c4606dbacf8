"""Equal discs or spheres in a box: what they are.

What lives here: `ParticleSystem`, its checks, and what follows from it in closed form. What does
not: how the particles move (`simulation`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emergence_stats.checks import check_number, check_positive, check_whole
from emergence_stats.errors import InputError


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
            object.__setattr__(self, name, check_whole(name, getattr(self, name), 1))
        if self.dimension not in (2, 3):
            raise InputError(f"dimension: {self.dimension}; give 2 for discs or 3 for spheres")
        for name in ("radius", "mass"):
            object.__setattr__(self, name, check_positive(name, getattr(self, name)))
        for name in ("gravity", "stiffness", "damping", "wall_stiffness"):
            if name != "wall_stiffness" or self.wall_stiffness is not None:
                object.__setattr__(self, name, check_number(name, getattr(self, name)))
        for name in ("gravity", "stiffness", "damping"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: {getattr(self, name)}; give 0 or more")
        if isinstance(self.box, tuple | list | np.ndarray):
            object.__setattr__(self, "box", tuple(check_number("box", side) for side in self.box))
        elif self.box is not None:
            object.__setattr__(self, "box", check_number("box", self.box))
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
        return _collision(self.effective_wall_stiffness, self.damping, self.mass)[0]

    @property
    def wall_restitution(self) -> float:
        """Speed after over speed before a bounce off a wall, without gravity."""
        return _collision(self.effective_wall_stiffness, self.damping, self.mass)[1]

    @property
    def largest_stable_time_step(self) -> float:
        """The largest time step with which no cluster of particles can gain energy from stepping.

        A particle has at most z contacts with others, z = 6 in two and 12 in three dimensions (the
        kissing numbers), and its walls are at right angles. By Gershgorin's theorem the squared
        frequencies are at most ``W = (2 z stiffness + wall_stiffness) / mass`` and the damping
        rates at most ``G = (2 z damping + damping) / mass``. The scheme of `simulate` multiplies
        a mode of squared frequency w and damping rate g by factors no larger than 1 as long as
        ``w h^2 + 4 g h < 4`` (Jury's criterion; see the tests), hence

            h = 2 / sqrt(W) * (sqrt(1 + x^2) - x),   x = G / sqrt(W)

        Particles squeezed so hard that they have more than z neighbours are not covered. Accuracy
        needs less: `contact_time` / 20 is a fair start.
        """
        contacts = min(6 if self.dimension == 2 else 12, self.num_particles - 1)
        walls = 0 if self.sides is None else 1
        frequency = (
            2 * contacts * self.stiffness + walls * self.effective_wall_stiffness
        ) / self.mass
        if frequency == 0:
            return math.inf
        contact_damping = self.damping if self.stiffness > 0 else 0.0
        damping = (2 * contacts * contact_damping + walls * self.damping) / self.mass
        ratio = damping / math.sqrt(frequency)
        # The same as sqrt(1 + ratio^2) - ratio, without cancellation when ratio is large.
        return 2 / math.sqrt(frequency) / (math.sqrt(1 + ratio * ratio) + ratio)

    @property
    def effective_wall_stiffness(self) -> float:
        """The spring constant of the walls: `wall_stiffness`, or `stiffness` if that is None."""
        return self.stiffness if self.wall_stiffness is None else self.wall_stiffness


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
