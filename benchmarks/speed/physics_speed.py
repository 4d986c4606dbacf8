"""Particle-steps a second of the physics, beside vectorised PyTorch and beside LAMMPS.

    python -m benchmarks.speed.physics_speed [--quick]

On all cores, then on one; `--quick` for a shorter look. Expected: 74 times PyTorch in double
precision, 4.4 and 5.3 times LAMMPS in three and two dimensions. Writes
`results/physics_speed.json` and `.png`.

1. 1,024 systems of 16 discs on all cores, against the same law with batched pairwise tensors.
2. A settled bed of 10,000 on one core, against LAMMPS `pair_style gran/hooke` at its best settings.
   Undamped the two follow the same scheme and must agree to rounding; damped, LAMMPS takes the
   velocity of half a step ago, so the difference must halve with the time step.
3. Random states of 16 to 100,000 spheres: brute force, neighbour list, LAMMPS.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, write_result
from benchmarks.speed.physics_peers import Lammps, torch_simulate
from simulator.data.generation import draw_initial_states
from simulator.physics.simulation import simulate
from simulator.physics.system import ParticleSystem

COMMAND = "python -m benchmarks.speed.physics_speed"


def rate(work: Callable[[], Any], particle_steps: int, repeats: int) -> float:
    """Particle-steps per second of the fastest run; a first one compiles and warms up."""
    work()
    return particle_steps / min(timed(work) for _ in range(repeats))


def timed(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# ---- 1. batches of small systems against PyTorch ------------------------------------------------


def batches(quick: bool) -> dict[str, Any]:
    import torch

    system = ParticleSystem(16, 0.06, 1.0, 1.0, 2000.0, 2.0, 1.0)
    num_systems, step = 1024, 1e-3
    x, v = draw_initial_states(system, num_systems, speed=1.0, seed=0)
    few = slice(0, 64)
    mine = simulate(system, x[few], v[few], time_step=step, num_steps=200, record_every=200)
    theirs = torch_simulate(
        system, x[few], v[few], time_step=step, num_steps=200, precision="float64", batch=64
    )
    difference = abs(mine["positions"].values[:, -1] - theirs[0]).max()
    assert difference < 1e-9, f"the two implementations differ by {difference}"

    result: dict[str, Any] = {
        "systems": num_systems,
        "particles": 16,
        "largest_difference_after_200_steps": float(difference),
    }
    size = num_systems * system.num_particles
    steps, peer_steps = 2000, 20
    ours = functools.partial(
        simulate, system, x, v, time_step=step, num_steps=steps, record_every=steps
    )
    ours()
    for precision in ("float64", "float32"):

        def peer(threads: int, batch: int, precision: str = precision) -> None:
            torch.set_num_threads(threads)
            torch_simulate(
                system, x, v, time_step=step, num_steps=peer_steps, precision=precision,
                batch=batch,
            )  # fmt: skip

        # PyTorch gets the best of several settings, each measured as often as any.
        settings = [
            (threads, batch)
            for threads in sorted({1, len(os.sched_getaffinity(0))})
            for batch in (64, 128, 256, 1024)
        ]
        taken = [min(timed(functools.partial(peer, *one)) for _ in range(4)) for one in settings]
        best = settings[int(np.argmin(taken))]
        pairs = [
            (timed(ours), timed(functools.partial(peer, *best))) for _ in range(3 if quick else 9)
        ]
        mine_taken, peer_taken = (np.array(pairs) / [steps, peer_steps]).T
        ratios = peer_taken / mine_taken
        result[precision] = {
            "torch_threads": best[0],
            "torch_systems_at_a_time": best[1],
            "ours": size / float(np.median(mine_taken)),
            "torch": size / float(np.median(peer_taken)),
            "ratio": float(np.median(ratios)),
            "ratio_of_fastest": float(peer_taken.min() / mine_taken.min()),
            "ratio_smallest": float(ratios.min()),
        }
    return result


# ---- 2. one bed against LAMMPS ------------------------------------------------------------------


def settled_bed(dimension: int, quick: bool) -> tuple[ParticleSystem, Any, Any, float]:
    """10,000 particles of unit diameter and mass that have fallen and come to rest."""
    count = 10_000
    base = (100.0,) if dimension == 2 else (20.0, 20.0)
    height = count * 2.0 / 100 if dimension == 2 else count * 2.1 / 400
    system = ParticleSystem(count, 0.5, (*base, height), 1.0, 2e4, 60.0, 1.0, dimension)
    x, v = draw_initial_states(system, 1, speed=1.0, seed=0)
    step = system.contact_time / 30
    steps = (10_000 if quick else 60_000) * (2 if dimension == 2 else 1)
    path = simulate(system, x[0], v[0], time_step=step, num_steps=steps, record_every=steps)
    return system, path["positions"].values[-1], path["velocities"].values[-1], step


def agreement(system: ParticleSystem, x: np.ndarray, v: np.ndarray, step: float) -> dict[str, Any]:
    """How far ours and LAMMPS part over a short run, relative to how far particles moved."""
    import dataclasses

    rng = np.random.default_rng(0)
    stirred = v + rng.normal(size=v.shape)
    result = {}
    for name, damping, divide in (
        ("undamped", 0.0, 1),
        ("damped", system.damping, 1),
        ("damped_half_step", system.damping, 2),
    ):
        same = dataclasses.replace(system, damping=damping)
        steps = 50 * divide
        ours = simulate(
            same, x, stirred, time_step=step / divide, num_steps=steps, record_every=steps,
            allow_overlap=True,
        )["positions"].values[-1]  # fmt: skip
        peer = Lammps(same, x, stirred, step / divide)
        peer.run(steps)
        moved = np.sqrt(((ours - x) ** 2).mean())
        result[name] = float(
            np.sqrt(((peer.positions(system.dimension) - ours) ** 2).mean()) / moved
        )
        peer.close()
    assert result["undamped"] < 1e-9, result
    assert result["damped"] < 0.02, result
    assert 1.7 < result["damped"] / result["damped_half_step"] < 2.3, result
    return result


def bed(dimension: int, quick: bool) -> dict[str, Any]:
    system, x, v, step = settled_bed(dimension, quick)
    steps, repeats = (200, 3) if quick else (500, 9)
    size = system.num_particles * steps
    result: dict[str, Any] = {
        "particles": system.num_particles,
        "dimension": dimension,
        "root_mean_square_speed": float(np.sqrt((v**2).mean())),
        "relative_difference_to_lammps": agreement(system, x, v, step),
    }
    best, settings = np.inf, {"newton": "on", "skin": 0.1}
    for newton in ("on", "off"):
        for skin in (0.05, 0.1, 0.3):
            peer = Lammps(system, x, v, step, newton=newton, skin=skin)
            peer.run(20)
            taken = min(timed(functools.partial(peer.run, 100)) for _ in range(3))
            if taken < best:
                best, settings = taken, {"newton": newton, "skin": skin}
            peer.close()
    peer = Lammps(system, x, v, step, **settings)  # type: ignore[arg-type]

    def ours() -> None:
        simulate(
            system, x, v, time_step=step, num_steps=steps, record_every=steps, allow_overlap=True
        )

    ours()
    peer.run(50)
    pairs = [(timed(ours), timed(lambda: peer.run(steps))) for _ in range(repeats)]
    peer.close()
    mine, theirs = np.array(pairs).T
    result |= {
        "lammps_settings": settings,
        "ours": size / float(np.median(mine)),
        "lammps": size / float(np.median(theirs)),
        "ratio_to_lammps": float(np.median(theirs / mine)),
        "ratio_smallest": float((theirs / mine).min()),
        "ratio_largest": float((theirs / mine).max()),
    }
    return result


# ---- 3. cost against the number of particles ----------------------------------------------------


def scaling(quick: bool) -> list[dict[str, Any]]:
    sizes = [16, 32, 64, 128, 256, 1000, 3000, 10_000, 30_000, 100_000]
    rows = []
    for count in sizes[: 7 if quick else None]:
        side = (count * np.pi / 6 / 0.25) ** (1 / 3)
        system = ParticleSystem(count, 0.5, side, 0.0, 2e4, 20.0, 1.0, 3)
        x, v = draw_initial_states(system, 1, speed=1.0, seed=0)
        step = system.contact_time / 30
        row: dict[str, Any] = {"particles": count}
        # A gas needs a list anew now and then, so the run has to be long enough to see that.
        steps = max(200, 1_000_000 // count)
        for search in ("brute", "cells"):
            if search == "brute" and count > 3000:
                continue
            few = max(20, steps // 20) if search == "brute" and count >= 1000 else steps

            work = functools.partial(
                simulate, system, x[0], v[0], time_step=step, num_steps=few, record_every=few,
                neighbours=search,
            )  # fmt: skip
            row[search] = rate(work, count * few, 5)
        peer = Lammps(system, x[0], v[0], step)
        row["lammps"] = rate(functools.partial(peer.run, steps), count * steps, 5)
        peer.close()
        rows.append(row)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, label, style in (
        ("brute", "all pairs", "s--"),
        ("cells", "neighbour list", "o-"),
        ("lammps", "LAMMPS gran/hooke", "^:"),
    ):
        points = [(row["particles"], 1e9 / row[name]) for row in rows if name in row]
        axes.loglog(*zip(*points, strict=True), style, label=label)
    axes.set_xlabel("particles N")
    axes.set_ylabel("nanoseconds per particle-step, one core")
    axes.set_title("Spheres at volume fraction 0.25")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


# ---- putting it together ------------------------------------------------------------------------


def one_core(quick: bool) -> dict[str, Any]:
    """Parts 2 and 3 in a process of their own, with one thread and with LAMMPS' MPI library.

    The wheel of LAMMPS asks for MPICH under the name libmpi.so.12, Debian calls it
    libmpich.so.12; the loader reads its search path when a process starts.
    """
    import ctypes.util

    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"), "1")
        library = find_mpich()
        if library is None and ctypes.util.find_library("mpi") is None:
            raise SystemExit("LAMMPS needs MPICH: install Debian's libmpich12, or equivalent")
        if library is not None:
            (Path(folder) / "libmpi.so.12").symlink_to(library)
            earlier = os.environ.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = folder + (f":{earlier}" if earlier else "")
        output = Path(folder) / "result.json"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.physics_speed", "--one-core", str(output)]
            + ["--quick"] * quick,
            env=environment,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        return json.loads(output.read_text())


def find_mpich() -> Path | None:
    for folder in ("/usr/lib", "/usr/lib64", "/usr/local/lib"):
        for place in sorted(Path(folder).glob("**/libmpich.so.12")):
            return place.resolve()
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the physics beside its peers.")
    parser.add_argument(
        "--quick", action="store_true", help="shorter: bed still falling, nothing written"
    )
    parser.add_argument("--one-core", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_core:
        quick = arguments.quick
        beds = [bed(3, quick), bed(2, quick)]
        Path(arguments.one_core).write_text(json.dumps({"beds": beds, "scaling": scaling(quick)}))
        return
    result: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "units": "particle-steps per second",
        "batches": batches(arguments.quick),
        **one_core(arguments.quick),
    }
    show(result)
    if not arguments.quick:
        write_result("physics_speed", COMMAND, result, packages=("lammps",))
        plot(result["scaling"], RESULTS / "physics_speed.png")


def show(result: dict[str, Any]) -> None:
    small = result["batches"]
    print(f"{small['systems']} systems of 16 discs, {result['cores']} cores, million steps/s:")
    for name in ("float64", "float32"):
        one = small[name]
        print(
            f"  ours {one['ours'] / 1e6:.1f}, PyTorch in {name} {one['torch'] / 1e6:.2f}: ratio "
            f"{one['ratio']:.0f} (smallest {one['ratio_smallest']:.0f}, of the fastest runs "
            f"{one['ratio_of_fastest']:.0f})"
        )
    for one in result["beds"]:
        print(
            f"settled bed of {one['particles']} in {one['dimension']}-D, one core: ours "
            f"{one['ours'] / 1e6:.2f}, LAMMPS {one['lammps'] / 1e6:.2f} million particle-steps/s, "
            f"ratio {one['ratio_to_lammps']:.2f} "
            f"({one['ratio_smallest']:.2f} to {one['ratio_largest']:.2f})"
        )
        print(f"  difference to LAMMPS: {one['relative_difference_to_lammps']}")
    print("spheres, one core, ns per particle-step:")
    print(f"  {'N':>7} {'all pairs':>10} {'list':>8} {'LAMMPS':>8}")
    for row in result["scaling"]:
        cost = [
            f"{1e9 / row[name]:.1f}" if name in row else "" for name in ("brute", "cells", "lammps")
        ]
        print(f"  {row['particles']:7d} {cost[0]:>10} {cost[1]:>8} {cost[2]:>8}")


if __name__ == "__main__":
    main()
