"""Chain-steps a second beside devinterp 1.3.2, and beside the machine's matrix-multiply rate.

    python -m benchmarks.speed.llc_speed --peer-python PATH

A quarter of an hour on two cores; PATH is an interpreter that has devinterp 1.3.2, without which
only ours is timed. Expected: of 0.1.0, 20 times the peer's steps at 1k parameters, 2 to 4 at 100k,
1.3 to 3 at 1M; of what came after, by processor time, 2.3 to 4.2 times fewer at 1k, 1 to 3.6 at
100k, 1.1 to 3.5 at 1M (`results/executor.md`). Writes `results/llc_speed.json`.

Deep linear networks of three layers, 4 chains, the same batches. One thread by processor time, two
threads by the clock; a step's cost is the difference of a long and a short run. *Share of the
matrix-multiply rate*: operations of forward and backward pass over the time of a step over the rate
of products of the same shapes. *Memory*: growth of a process during a whole estimate over chains x
(parameters, gradient, sampler state). Ratios hang on the machine: the slower it multiplies, the
less there is to gain.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.accuracy import llc_networks as networks
from benchmarks.accuracy.llc_peer import peer
from benchmarks.record import RESULTS, write_result
from emergence_stats import estimate_llc
from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.tuning import Tuning

COMMAND = "python -m benchmarks.speed.llc_speed --peer-python PATH"
CHAINS = 4
NUM_SAMPLES = 5000
SAMPLERS = ("sgld", "psgld", "sghmc", "baoab")
SIZES = {"1k": [18] * 4, "100k": [183] * 4, "1M": [577] * 4}
STEPS = {  # of a long run, by size and batch
    "1k": {32: 400, 64: 400, 128: 300, 512: 200},
    "100k": {32: 120, 64: 100, 128: 80, 512: 40},
    "1M": {32: 24, 64: 20, 128: 16, 512: 12},
}
CASES = {
    f"{size}, batch {batch}": (SIZES[size], batch, steps)
    for size, of_batch in STEPS.items()
    for batch, steps in of_batch.items()
}
STATES = {
    "sgld": 1,
    "psgld": 2,
    "sghmc": 2,
    "baoab": 2,
}  # vectors a chain carries from step to step


def clock(threads: int) -> Callable[[], float]:
    """Processor time of one thread; with several, time on the wall."""
    return time.process_time if threads == 1 else time.perf_counter


def matrix_rate(width: int, batch: int, threads: int) -> float:
    """Best floating-point operations a second of the products that a layer takes."""
    inputs, weight = torch.randn(batch, width), torch.randn(width, width)
    outputs = torch.randn(batch, width)
    operations = 3 * 2 * batch * width**2
    repeats = max(1, int(5e8 / operations))
    best, now = 0.0, clock(threads)
    for _ in range(7):
        start = now()
        for _ in range(repeats):
            inputs @ weight.T
            outputs.T @ inputs
            outputs @ weight
        best = max(best, repeats * operations / (now() - start))
    return best


def landscape_of(widths: list[int], batch: int) -> LossLandscape:
    return LossLandscape(*problem(widths), batch_size=batch)


def chains_of(landscape: LossLandscape, sampler: str, batch: int) -> Chains:
    posterior = LocalisedPosterior(landscape, 1.0 / math.log(NUM_SAMPLES), 1.0)
    moment = torch.ones_like(landscape.centre)[None]
    tuning = Tuning(posterior, 1e-8, moment, {}, {})
    return Chains(
        tuning, sampler, 1e-8, num_chains=CHAINS, batch_size=batch, seed=0, num_draws=10**9
    )


def step_seconds(chains: Chains, steps: int, threads: int) -> float:
    """One step of all chains."""
    now = clock(threads)
    start = now()
    chains.run(steps)
    return (now() - start) / steps


def timed(name: str, rounds: int, ask: Any, threads: int) -> dict[str, Any]:
    widths, batch, steps = CASES[name]
    landscape = landscape_of(widths, batch)
    running = {sampler: chains_of(landscape, sampler, batch) for sampler in SAMPLERS}
    for chains in running.values():
        chains.run(20)
    times: dict[str, list[float]] = {sampler: [] for sampler in SAMPLERS}
    times["peer"] = []
    rates = []
    for _ in range(rounds):
        rates.append(matrix_rate(widths[0], batch, threads))
        for sampler, chains in running.items():
            times[sampler].append(step_seconds(chains, steps, threads))
        if ask is not None:
            times["peer"].append(peer_seconds(ask, widths, batch, steps, threads))
    operations = CHAINS * 2 * batch * (3 * landscape.num_parameters - widths[0] * widths[1])
    row: dict[str, Any] = {
        "case": name,
        "threads": threads,
        "clock": "processor time" if threads == 1 else "time on the wall",
        "parameters": landscape.num_parameters,
        "batch": batch,
        "evaluated": landscape.chains_stacked_because,
        "matrix_multiply_gflops": max(rates) / 1e9,
    }
    for sampler in SAMPLERS:
        found = times[sampler]
        row[sampler] = {
            "chain_steps_per_second": CHAINS / min(found),
            "median": CHAINS / float(np.median(found)),
            "share_of_matrix_multiply": operations / min(found) / max(rates),
        }
    if ask is not None:
        found = times["peer"]
        row["peer"] = {
            "chain_steps_per_second": CHAINS / min(found),
            "median": CHAINS / float(np.median(found)),
            "share_of_matrix_multiply": operations / min(found) / max(rates),
            "largest_possible": min(found) * max(rates) / operations,
        }
        for sampler in SAMPLERS:
            ratios = [theirs / mine for theirs, mine in zip(found, times[sampler], strict=True)]
            row[sampler]["times_peer"] = float(np.median(ratios))
    print(json.dumps(row), flush=True)
    return row


def peer_seconds(ask: Any, widths: list[int], batch: int, steps: int, threads: int) -> float:
    """One step of all of the peer's chains: a long run less a short one."""
    pairs = list(pairwise(widths))
    job = {
        "widths": pairs, "num_samples": NUM_SAMPLES, "batch_size": batch, "lr": 1e-9,
        "nbeta": NUM_SAMPLES / math.log(NUM_SAMPLES), "localization": 1.0, "num_burnin": 0,
        "num_chains": CHAINS, "seed": 0, "threads": threads,
    }  # fmt: skip
    short, long = steps // 4, steps + steps // 2
    ask(num_draws=2, **job)  # whatever is loaded once
    seconds = "processor_seconds" if threads == 1 else "seconds"
    taken = [ask(num_draws=draws, **job)[seconds] for draws in (short, long)]
    return (taken[1] - taken[0]) / (long - short)


def memory() -> list[dict[str, Any]]:
    """Growth of a fresh process during an estimate."""
    rows = []
    for threads, batch in ((1, 512), (2, 512), (2, 64)):
        for sampler in SAMPLERS:
            call = f"grow({sampler!r}, {threads}, {batch})"
            code = f"from benchmarks.speed.llc_speed import grow; {call}"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            rows.append({"threads": threads, "batch": batch, **json.loads(done.stdout)})
            print(rows[-1], flush=True)
    return rows


def grow(sampler: str, threads: int, batch: int) -> None:
    """Of a process that has done the same with a small model, so that code is loaded."""
    torch.set_num_threads(threads)
    options: dict[str, Any] = {
        "sampler": sampler, "batch_size": batch, "num_draws": 40, "progress": False
    }  # fmt: skip
    estimate_llc(*problem(SIZES["1k"]), **options)
    model, loss, data = problem(SIZES["1M"])
    whole = Growth()
    estimate_llc(model, loss, data, **options)
    most = whole.most()
    vector = sum(one.numel() for one in model.parameters()) * 4 / 1024
    needed = CHAINS * vector * (STATES[sampler] + 1)
    row = {
        "sampler": sampler,
        "needed_kib": needed,
        "estimate_kib": most,
        "estimate": most / needed,
    }
    print(json.dumps(row))


def problem(widths: list[int]) -> tuple[nn.Module, Any, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))
    inputs = torch.randn(NUM_SAMPLES, widths[0])
    with torch.no_grad():
        return model, networks.loss, (inputs, model(inputs))


class Growth:
    """By how many KiB this process has grown at most; freed memory is given back first (Linux)."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.before = self._now("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now

    @staticmethod
    def _now(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    def most(self) -> int:
        return self._now("VmHWM") - self.before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="an interpreter that has devinterp 1.3.2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], choices=[1, 2], help="which to time"
    )
    parser.add_argument(
        "--cases", nargs="*", help=f"of {list(CASES)}; none measures memory alone", default=None
    )
    parser.add_argument("--no-memory", action="store_true", help="keep what was measured of it")
    arguments = parser.parse_args()
    names = list(CASES) if arguments.cases is None else arguments.cases
    if unknown := set(names) - set(CASES):
        parser.error(f"--cases: {sorted(unknown)} are not among {list(CASES)}")
    path = RESULTS / "llc_speed.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    rows = {
        (row["case"], row["threads"]): row for row in known.get("cases", []) if "threads" in row
    }
    held = known.get("memory_at_1M") if arguments.no_memory else memory()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"memory_at_1M": held}
    with peer(arguments.peer_python) if arguments.peer_python else nullcontext() as ask:
        if ask is not None or "peer" in known:
            figures["peer"] = "devinterp 1.3.2"
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            for name in names:
                row = timed(name, arguments.rounds, ask, threads)
                rows[name, threads] = {**row, "date": datetime.date.today().isoformat()}
    figures["cases"] = [
        rows[name, threads] for threads in (1, 2) for name in CASES if (name, threads) in rows
    ]
    write_result("llc_speed", COMMAND, figures)


if __name__ == "__main__":
    main()
