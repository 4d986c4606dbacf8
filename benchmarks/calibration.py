"""Simulation-based calibration of every parameter's posterior, by quadrature and by NUTS.

Run with ``python -m benchmarks.calibration`` (about 15 minutes on two cores). Writes
``benchmarks/results/calibration.json``.

Curves and their parameters are drawn from the very priors of `compare` (Talts et al. 2018, arXiv
1804.06788); each true value's place in its posterior is then uniform between 0 and 1. Reported for
every parameter: the p-value of a Kolmogorov-Smirnov test of that, and how often the 89% interval
holds the truth. With several dozen tests a p-value near 0.02 is to be expected; Bonferroni's bound
for the whole is beside.

NUTS is too slow for hundreds of curves in every cell, and on a few dozen a coverage is known to
some 7% only. So each curve that NUTS is given is given to the quadrature too, whose calibration is
shown on many more: `coverage_89_by_quadrature` is of the very same curves, and
`place_difference` the root mean square difference of the truth's place between the two engines, of
which Monte Carlo error alone is about sqrt(1/12 / effective draws), 0.02 for 200. (In a run with 20
curves a cell NUTS held the onset in 14 of 20 in two cells; so did the quadrature in 15, of the same
curves: these were unlucky curves, not lost modes.) `results/calibration.md` says where the two
differ by more than that, and why.
"""

from __future__ import annotations

import argparse

import numpy as np
import xarray as xr
from scipy.stats import kstest

import emergence_stats as es
from benchmarks.record import write_result

COMMAND = "python -m benchmarks.calibration"
PARAMETERS = (
    "onset",
    "half_time",
    "kappa",
    "baseline",
    "amplitude",
    "noise_sd",
    "noise_correlation",
)
# Cells that NUTS is tried on most: one with narrow onsets, one with wide ones and two laws' ridges.
CLOSELY = (("exponential", 60), ("power_law", 16))


def places(values: np.ndarray, weights: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Weighted share of draws below the truth, one curve a row."""
    return (weights * (values < truth[:, None])).sum(axis=1) / weights.sum(axis=1)


def by_quadrature(family: str, curves: xr.Dataset) -> dict[str, np.ndarray]:
    result = es.compare(curves["score"], families=(family,), value_range=(0.0, 1.0)).dataset
    weights = np.where(result["draw_family"].values > 0, result["draw_weight"].values, 0.0)
    weights = np.maximum(weights, np.where(result["draw_family"].values > 0, 1e-300, 0.0))
    names = [str(name) for name in result["parameter"].values]
    return {
        name: places(
            result["draw_value"].values[..., names.index(name)], weights, curves[name].values
        )
        for name in PARAMETERS
        if name in names
    }


def by_nuts(family: str, curves: xr.Dataset) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {}
    for c in range(curves.sizes["curve"]):
        one = curves.isel(curve=c, drop=True)
        tree = es.fit(
            one["score"], family, value_range=(0.0, 1.0), num_draws=250, num_tune=400, seed=c
        ).tree
        for name in PARAMETERS:
            if name in tree["posterior"]:
                draws = tree["posterior"].to_dataset()[name].values
                found.setdefault(name, []).append(float((draws < float(one[name])).mean()))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=400, help="curves a cell by quadrature")
    parser.add_argument(
        "--nuts", type=int, default=50, help="curves by NUTS in two cells; a fifth in others"
    )
    options = parser.parse_args()
    rows: list[dict[str, float | int | str]] = []
    for family in ("exponential", "power_law"):
        for points in (16, 60):
            step = np.geomspace(10.0, 10_000.0, points)
            by_sampling = options.nuts if (family, points) in CLOSELY else options.nuts // 5
            for engine, number in (("quadrature", options.number), ("pymc", by_sampling)):
                if not number:
                    continue
                curves = es.simulate_curves(
                    family, step, number=number, noise="ar1", seed=[points, len(family)]
                )
                found = reference = by_quadrature(family, curves)
                if engine == "pymc":
                    found = by_nuts(family, curves)
                for name, place in found.items():
                    covered = float(((place > 0.055) & (place < 0.945)).mean())
                    beside: dict[str, float] = {}
                    if engine == "pymc":
                        other = reference[name]
                        beside = {
                            "coverage_89_by_quadrature": float(
                                ((other > 0.055) & (other < 0.945)).mean()
                            ),
                            "place_difference": float(np.sqrt(((place - other) ** 2).mean())),
                            "mean_place_difference": float((place - other).mean()),
                        }
                    rows.append(
                        {
                            "engine": engine,
                            "family": family,
                            "points": points,
                            "curves": number,
                            "parameter": name,
                            "uniformity_p_value": float(kstest(place, "uniform").pvalue),
                            "coverage_89": covered,
                            "coverage_standard_error": float(np.sqrt(0.89 * 0.11 / number)),
                            **beside,
                        }
                    )
                    print(rows[-1], flush=True)
    smallest = min(float(row["uniformity_p_value"]) for row in rows)
    figures = {
        "tests": len(rows),
        "smallest_p_value": smallest,
        "smallest_p_value_times_tests": min(1.0, smallest * len(rows)),
        "rows": rows,
    }
    write_result("calibration", COMMAND, figures, packages=("scipy", "xarray", "pymc"))


if __name__ == "__main__":
    main()
