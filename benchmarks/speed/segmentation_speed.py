"""How long does exact segmentation take, beside ruptures' search for one best segmentation?

    python -m benchmarks.speed.segmentation_speed

Two minutes on two cores. Expected: 1,000 points in 0.4 to 0.6 s. Writes
`results/segmentation_speed.json`.

Levels that change every hundred points, and curves that never change (the costly case), noise 5% of
the range; beside ruptures' `Dynp` and PELT, and for 100,000 points `method="pelt"` beside its
`KernelCPD`, on which it rests.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import emergence_stats as es
from benchmarks.record import write_result
from emergence_stats.curves.simulation import autoregressive

COMMAND = "python -m benchmarks.speed.segmentation_speed"
REPEATS = 5


def timed(work: Callable[[], object]) -> tuple[float, float]:
    begun, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - spent


def series(size: int, changing: bool) -> tuple[np.ndarray, int]:
    generator = np.random.default_rng(size)
    number = max(size // 100, 1) if changing else 1
    level = np.repeat(generator.uniform(size=number), -(-size // number))[:size]
    noise = autoregressive(generator.normal(size=(1, size)), 0.5)[0]
    return level + 0.05 * noise, number - 1


def main() -> None:
    import ruptures

    rows = []
    for size in (200, 1_000, 3_000):
        for changing in (True, False):
            y, number = series(size, changing)
            curve = es.curve(y, np.arange(1.0, size + 1.0))
            column = y[:, None]
            methods: dict[str, Callable[[], object]] = {
                "exact, AR(1)": lambda c=curve: es.segment(c, step_prior="linear"),
                "exact, independent": lambda c=curve: es.segment(
                    c, step_prior="linear", noise="independent"
                ),
                "ruptures PELT": lambda v=column: (
                    ruptures.Pelt("l2", min_size=2, jump=1)
                    .fit(v)
                    .predict(pen=3.0 * 0.05**2 * np.log(len(v)))
                ),
            }
            if size <= 1_000 and number:
                methods["ruptures dynamic programming"] = lambda v=column, k=number: (
                    ruptures.Dynp("l2", min_size=2, jump=1).fit(v).predict(n_bkps=k)
                )
            spent: dict[str, list] = {name: [] for name in methods}
            methods["exact, AR(1)"]()  # compiles
            methods["exact, independent"]()
            for _ in range(REPEATS if size <= 1_000 else 2):
                for name, work in methods.items():
                    spent[name].append(timed(work))
            row = {"points": size, "changes": number}
            for name, times in spent.items():
                clock, processor = np.median(times, axis=0)
                row[name] = {
                    "seconds": round(float(clock), 3),
                    "processor": round(float(processor), 3),
                }
            rows.append(row)
            print(row, flush=True)
    y, number = series(100_000, True)
    curve = es.curve(y, np.arange(1.0, y.size + 1.0))
    how = {"step_prior": "linear", "method": "pelt", "noise": "independent"}
    es.segment(curve, **how)
    ours, theirs = [], []
    for _ in range(3):
        ours.append(timed(lambda: es.segment(curve, **how)))
        theirs.append(
            timed(
                lambda: (
                    ruptures.KernelCPD(kernel="linear", min_size=2)
                    .fit(y / 0.05)
                    .predict(pen=3.0 * np.log(y.size))
                )
            )
        )
    long = {
        "points": y.size,
        "ours": round(float(np.median(ours, axis=0)[0]), 3),
        "ruptures KernelCPD": round(float(np.median(theirs, axis=0)[0]), 3),
    }
    print(long)
    write_result("segmentation_speed", COMMAND, {"exact": rows, "long": long}, ("ruptures",))


if __name__ == "__main__":
    main()
