"""Calibration of the quadrature where measurement errors are known and an excess stands beside.

    python -m benchmarks.accuracy.measured_calibration

Under a minute on one core. Expected: 89% intervals that hold the truth in 89 +- 3 of 100; the
smallest of seven p-values is below 0.05 in three runs of ten. Writes
`results/measured_calibration.json`. Power laws at 16 checkpoints, known sd between 1% and 4% of the
range, an excess with AR(1) correlation, and a common factor, all from the priors.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import kstest

import emergence_stats as es
from benchmarks.accuracy.calibration import places
from benchmarks.record import write_result

COMMAND = "python -m benchmarks.accuracy.measured_calibration"
PARAMETERS = (
    "noise_sd",
    "onset",
    "kappa",
    "half_time",
    "amplitude",
    "noise_correlation",
    "sd_factor",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100, help="curves")
    options = parser.parse_args()
    step = np.geomspace(10.0, 10_000.0, 16)
    curves = es.simulate_curves(
        "power_law",
        step,
        number=options.number,
        sd=np.geomspace(0.01, 0.04, step.size),
        noise="ar1",
        excess=True,
        seed=20,
    )
    result = es.compare(
        curves["score"], families=("power_law",), noise="ar1", value_range=(0.0, 1.0)
    ).dataset
    # Draws of a family have equal weights among themselves, also where "flat" has all of it.
    weights = (result["draw_family"].values > 0).astype(float)
    names = [str(name) for name in result["parameter"].values]
    rows = []
    for name in PARAMETERS:
        draws = result["draw_value"].values[..., names.index(name)]
        place = places(draws, weights, curves[name].values)
        rows.append(
            {
                # The order is kappa + 2.
                "parameter": {"noise_sd": "excess", "kappa": "order"}.get(name, name),
                "uniformity_p_value": float(kstest(place, "uniform").pvalue),
                "coverage_89": float(((place > 0.055) & (place < 0.945)).mean()),
                "coverage_standard_error": float(np.sqrt(0.89 * 0.11 / options.number)),
            }
        )
        print(rows[-1], flush=True)
    figures = {"curves": options.number, "points": step.size, "rows": rows}
    write_result("measured_calibration", COMMAND, figures, packages=("scipy", "xarray"))


if __name__ == "__main__":
    main()
