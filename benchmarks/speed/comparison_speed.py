"""How long does comparing thousands of curves take, beside peers that answer less?

    python -m benchmarks.speed.comparison_speed

Four minutes on two cores. Expected: 5,400 curves in two minutes. Writes
`results/comparison_speed.json`.

- *Ours*: `es.compare` on 5,400 curves of 16 points, a third each flat, exponential and power law,
  with the noise chosen by evidence and with AR(1) noise; clock and processor time.
- *lmfit*: least squares of the same means on one core: point estimates and criteria only.
- *dynesty*: nested sampling of the two laws with 500 live points and the very likelihood of ours,
  so that only the integration differs.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable

import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.accuracy import peers
from benchmarks.accuracy.evidence_accuracy import by_dynesty
from benchmarks.record import write_result

COMMAND = "python -m benchmarks.speed.comparison_speed"
STEP = np.linspace(0.0, 6000.0, 16)


def make_curves(number: int, seed: int = 0) -> xr.DataArray:
    """Flat, exponential and power law in turn, noise 1, 3 or 10% of the rise."""
    generator = np.random.default_rng(seed)
    rows = []
    for k in range(number):
        level = np.zeros(STEP.size)
        if k % 3:
            level = es.relaxation(
                STEP,
                onset=generator.uniform(300.0, 3500.0),
                timescale=np.exp(generator.uniform(np.log(100.0), np.log(1500.0))),
                kappa=0.0 if k % 3 == 1 else generator.uniform(0.5, 4.0),
            )
        rows.append(level + generator.choice([0.01, 0.03, 0.1]) * generator.normal(size=STEP.size))
    return xr.DataArray(np.array(rows), dims=("curve", "step"), coords={"step": STEP})


def timed(work: Callable[[], object]) -> dict[str, float]:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": wall,
        "processor_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def by_lmfit(curves: xr.DataArray) -> None:
    for values in curves.values:
        np.var(values)  # all of the flat curve's fit
        for family in ("exponential", "power_law"):
            peers.least_squares(values, STEP, family)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=5400)
    parser.add_argument("--lmfit", type=int, default=90)
    options = parser.parse_args()
    curves = make_curves(options.number)
    es.compare(curves[:48])  # compiles
    by_lmfit(curves[:3])
    # Of one minute: above 0 others were using the machine, and wall-clock time is not ours alone.
    load = os.getloadavg()[0]
    kinds: dict[str, int] = {}

    def compare() -> None:
        names, counts = np.unique(es.compare(curves).dataset["noise"].values, return_counts=True)
        kinds.update(zip(names.tolist(), counts.tolist(), strict=True))

    ours = timed(compare)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    print("ours", ours, kinds, flush=True)
    by_ar1 = timed(lambda: es.compare(curves, noise="ar1"))
    print("ours with AR(1) noise", by_ar1, flush=True)
    lmfit = timed(lambda: by_lmfit(curves[: options.lmfit]))
    print("lmfit", lmfit, flush=True)
    one = curves[2]
    dynesty = timed(
        lambda: [
            by_dynesty(one, family, "ar1", live=500) for family in ("exponential", "power_law")
        ]
    )
    print("dynesty", dynesty, flush=True)
    each = ours["processor_s"] / options.number
    figures = {
        "curves": options.number,
        "points": int(STEP.size),
        "families": ["flat", "exponential", "power_law"],
        "ours": {**ours, "processor_ms_per_curve": 1e3 * each, "peak_memory_MiB": peak},
        "kinds_of_noise_chosen": kinds,
        "ours_with_ar1_noise": {
            **by_ar1,
            "processor_ms_per_curve": 1e3 * by_ar1["processor_s"] / options.number,
        },
        "processor_time_over_ar1": ours["processor_s"] / by_ar1["processor_s"],
        "asked_wall_s": 120.0,
        "load_average_at_start": load,
        "lmfit": {**lmfit, "curves": options.lmfit},
        "dynesty": {**dynesty, "curves": 1, "live_points": 500},
        "processor_time_of_lmfit_over_ours": lmfit["processor_s"] / options.lmfit / each,
        "processor_time_of_dynesty_over_ours": dynesty["processor_s"] / each,
    }
    write_result("comparison_speed", COMMAND, figures, packages=("scipy", "lmfit", "dynesty"))


if __name__ == "__main__":
    main()
