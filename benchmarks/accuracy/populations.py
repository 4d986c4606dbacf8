"""Do populations of gradual rises have the order that they were made with, by either pair of laws?

    python -m benchmarks.accuracy.populations [--number N]

Six curves a population, integrated by SciPy from ds/dt = r s^a (1 - s)^(n - 1): n of 2, 3 or 4 for
all; a of 1/2, 1 or 4/3, s(0) from 0.001 to 0.05 and r from 0.005 to 0.05 a curve's own; noise of 1
or 2% of the rise. Right is "exponential" where n is 2, else "common_exponent", which six members
rarely give 0.9. The interval, 89%, is of the order over all hypotheses. Expected: no wrong verdict
by gradual laws. Sixteen minutes on one core. Writes `results/populations.csv`.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.metadata

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp

import emergence_stats as es
from benchmarks.record import RESULTS
from emergence_stats.curves.families import LAWS
from emergence_stats.theory.orders import order_draws

COMMAND = "python -m benchmarks.accuracy.populations"
STEP = np.geomspace(1.0, 20_000.0, 60)
RIGHT = {2: "exponential", 3: "common_exponent", 4: "common_exponent"}


def rise(order: int, generator: np.random.Generator) -> np.ndarray:
    """One curve without noise."""
    takeoff = generator.choice([0.5, 1.0, 4.0 / 3.0])
    start, rate = np.exp(generator.uniform(np.log([0.001, 0.005]), np.log([0.05, 0.05])))
    flow = lambda t, s: rate * s**takeoff * (1.0 - s) ** (order - 1)  # noqa: E731
    options = {"t_eval": STEP, "method": "LSODA", "rtol": 1e-9, "atol": 1e-12}
    return solve_ivp(flow, (0.0, STEP[-1]), [start], **options).y[0]


def cell(order: int, sd: float, number: int) -> list[dict[str, object]]:
    """A row for each pair of laws, of the same curves."""
    generator = np.random.default_rng([order, round(1000 * sd)])
    clean = np.array([rise(order, generator) for _ in range(number * 6)]).reshape(number, 6, -1)
    noisy = clean + sd * generator.normal(size=clean.shape)
    curves = xr.DataArray(noisy, {"step": STEP}, ("population", "head", "step"))
    rows = []
    for name, families in zip(("gradual", "sudden"), LAWS, strict=True):
        found = [es.compare_hierarchical(one, families=families) for one in curves]
        verdict = np.array([str(one.dataset["verdict"].item()) for one in found])
        draws = [order_draws(one).values for one in found]
        low, middle, high = np.quantile(draws, [0.055, 0.5, 0.945], axis=1)
        row = {"laws": name, "order": order, "sd": sd, "populations": number}
        row["right"] = int((verdict == RIGHT[order]).sum())
        row["undecided"] = int((verdict == "undecided").sum())
        row["wrong"] = number - row["right"] - row["undecided"]
        row["interval_has_order"] = int(((low <= order) & (order <= high)).sum())
        row["median_order"] = round(float(np.median(middle)), 2)
        row["misfits"] = sum(int(one.dataset["num_misfit"]) for one in found)
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=10, help="populations a cell")
    number = parser.parse_args().number
    rows = [row for order in RIGHT for sd in (0.01, 0.02) for row in cell(order, sd, number)]
    version = importlib.metadata.version("emergence-stats")
    about = {"date": datetime.date.today(), "version": version, "command": COMMAND}
    with (RESULTS / "populations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *about], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | about for row in rows)


if __name__ == "__main__":
    main()
