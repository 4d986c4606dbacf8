"""Chain-steps a second beside devinterp 1.3.2, and beside the machine's matrix-multiply rate.

Run with ``python -m benchmarks.llc_speed --peer-python PATH`` (a few minutes on two cores), PATH an
interpreter that has devinterp 1.3.2; without it only ours is timed. Writes
``benchmarks/results/llc_speed.json``.

Deep linear networks of three layers, 4 chains, the same batch, one thread, each timed in turn by
the processor time it takes, which other work on the machine disturbs least; the best and the median
of several rounds. Both run their
RMSprop-preconditioned SGLD, which costs the peer no more than its plain one; ours also as SGLD and
SGHMC. A step's cost is the difference between a long and a short run, so that starting counts for
neither. *Share of the matrix-multiply rate*: the floating-point operations of forward and backward
pass, over the time of a whole step, over the best rate of products of the same shapes. *Memory*:
the growth of the process while chains run, over what chains x (parameters, gradient, sampler state)
take; at 1M parameters, in a process of its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import resource
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import llc_networks as networks
from benchmarks.llc_peer import peer
from benchmarks.record import RESULTS, write_result
from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.tuning import Tuning

COMMAND = "python -m benchmarks.llc_speed --peer-python PATH"
CHAINS = 4
NUM_SAMPLES = 5000
SAMPLERS = ("sgld", "psgld", "sghmc")
CASES = {  # widths, batch, steps of a long run
    "1k, batch 64": ([18] * 4, 64, 400),
    "1k, batch 512": ([18] * 4, 512, 200),
    "100k, batch 512": ([183] * 4, 512, 40),
    "1M, batch 512": ([577] * 4, 512, 12),
}
STATES = {"sgld": 1, "psgld": 2, "sghmc": 2}  # vectors a chain carries from step to step


def matrix_rate(width: int, batch: int) -> float:
    """Best floating-point operations a second of the products that a layer takes."""
    inputs, weight = torch.randn(batch, width), torch.randn(width, width)
    outputs = torch.randn(batch, width)
    operations = 3 * 2 * batch * width**2
    repeats = max(1, int(5e8 / operations))
    best = 0.0
    for _ in range(7):
        start = time.process_time()
        for _ in range(repeats):
            inputs @ weight.T
            outputs.T @ inputs
            outputs @ weight
        best = max(best, repeats * operations / (time.process_time() - start))
    return best


def landscape_of(widths: list[int], batch: int) -> LossLandscape:
    torch.manual_seed(0)
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
    model = nn.Sequential(*layers)
    inputs = torch.randn(NUM_SAMPLES, widths[0])
    with torch.no_grad():
        data = (inputs, model(inputs))
    return LossLandscape(model, networks.loss, data, batch_size=batch)


def chains_of(landscape: LossLandscape, sampler: str, batch: int) -> Chains:
    posterior = LocalisedPosterior(landscape, 1.0 / math.log(NUM_SAMPLES), 1.0)
    moment = torch.ones_like(landscape.centre)[None]
    tuning = Tuning(posterior, 1e-8, moment, {}, {})
    return Chains(
        tuning, sampler, 1e-8, num_chains=CHAINS, batch_size=batch, seed=0, num_draws=10**9
    )


def step_seconds(chains: Chains, steps: int) -> float:
    """One step of all chains."""
    start = time.process_time()
    chains.run(steps)
    return (time.process_time() - start) / steps


def timed(name: str, rounds: int, ask: Any, threads: int) -> dict[str, Any]:
    widths, batch, steps = CASES[name]
    landscape = landscape_of(widths, batch)
    running = {sampler: chains_of(landscape, sampler, batch) for sampler in SAMPLERS}
    for chains in running.values():
        chains.run(5)
    times: dict[str, list[float]] = {sampler: [] for sampler in SAMPLERS}
    times["peer"] = []
    rates = []
    for _ in range(rounds):
        rates.append(matrix_rate(widths[0], batch))
        for sampler, chains in running.items():
            times[sampler].append(step_seconds(chains, steps))
        if ask is not None:
            times["peer"].append(peer_seconds(ask, widths, batch, steps, threads))
    operations = CHAINS * 2 * batch * (3 * landscape.num_parameters - widths[0] * widths[1])
    row: dict[str, Any] = {
        "case": name,
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
    taken = [ask(num_draws=draws, **job)["processor_seconds"] for draws in (short, long)]
    return (taken[1] - taken[0]) / (long - short)


def memory() -> list[dict[str, Any]]:
    """Growth of a fresh process while chains of one sampler run."""
    rows = []
    for sampler in SAMPLERS:
        code = f"from benchmarks.llc_speed import grow; grow({sampler!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    return rows


def grow(sampler: str) -> None:
    chains_of(landscape_of([18] * 4, 64), sampler, 64).run(20)  # compiled code is loaded
    widths, batch, _ = CASES["1M, batch 512"]
    landscape = landscape_of(widths, batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chains_of(landscape, sampler, batch).run(20)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    needed = CHAINS * landscape.num_parameters * 4 * (STATES[sampler] + 1) / 1024
    row = {"sampler": sampler, "grown_kib": after - before, "needed_kib": needed}
    print(json.dumps({**row, "ratio": (after - before) / needed}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="an interpreter that has devinterp 1.3.2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--cases", nargs="*", help=f"of {list(CASES)}; none measures memory alone", default=None
    )
    arguments = parser.parse_args()
    names = list(CASES) if arguments.cases is None else arguments.cases
    if unknown := set(names) - set(CASES):
        parser.error(f"--cases: {sorted(unknown)} are not among {list(CASES)}")
    torch.set_num_threads(arguments.threads)
    path = RESULTS / "llc_speed.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    rows = {row["case"]: row for row in known.get("cases", [])}
    figures: dict[str, Any] = {"threads": arguments.threads, "memory_at_1M": memory()}
    if "peer" in known:
        figures["peer"] = known["peer"]
    if arguments.peer_python:
        figures["peer"] = "devinterp 1.3.2"
        with peer(arguments.peer_python) as ask:
            for name in names:
                rows[name] = timed(name, arguments.rounds, ask, arguments.threads)
    else:
        for name in names:
            rows[name] = timed(name, arguments.rounds, None, arguments.threads)
    today = datetime.date.today().isoformat()
    for name in names:
        rows[name]["date"] = today
    for name in rows.keys() - names:
        rows[name].setdefault("date", known["date"])
    figures["cases"] = [rows[name] for name in CASES if name in rows]
    write_result("llc_speed", COMMAND, figures)


if __name__ == "__main__":
    main()
