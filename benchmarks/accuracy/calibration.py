"""Is the truth's place in its posterior uniform, by quadrature and by NUTS?

    python -m benchmarks.accuracy.calibration

Three minutes by quadrature and six seconds a curve by NUTS, kept in `runs/calibration.jsonl`, so
that a stopped run goes on. Expected: no Kolmogorov-Smirnov p-value below Bonferroni's bound for 26
tests, 89% intervals that hold the truth in 89 +- 3 of 100. Writes `results/calibration.json`.

Curves and parameters are drawn from the priors of `compare` (Talts et al. 2018, arXiv 1804.06788).
NUTS is given curves that the quadrature is given too, so the two are compared in pairs: the mean
difference of the truth's place, and its root mean square beside what Monte Carlo error makes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import kstest

import emergence_stats as es
from benchmarks.record import write_result

COMMAND = "python -m benchmarks.accuracy.calibration"
KEPT = Path("runs") / "calibration.jsonl"
# A third and a half of what `fit` takes by default.
SETTINGS = {"num_draws": 300, "num_tune": 500}
PARAMETERS = (
    "onset",
    "half_time",
    "kappa",
    "baseline",
    "amplitude",
    "noise_sd",
    "noise_correlation",
)
CELLS = tuple((family, points) for family in ("exponential", "power_law") for points in (16, 60))
Array = np.ndarray


def curves_of(family: str, points: int, number: int) -> xr.Dataset:
    """The cell's curves; how many are drawn decides which."""
    step = np.geomspace(10.0, 10_000.0, points)
    return es.simulate_curves(
        family, step, number=number, noise="ar1", seed=np.random.default_rng([points, len(family)])
    )


def places(values: Array, weights: Array, truth: Array) -> Array:
    """Weighted share of draws below the truth, one curve a row."""
    return (weights * (values < truth[:, None])).sum(axis=1) / weights.sum(axis=1)


def by_quadrature(family: str, curves: xr.Dataset) -> tuple[dict[str, Array], dict[str, Array]]:
    """The truths' places, one a curve, and the Monte Carlo error of each."""
    result = es.compare(
        curves["score"], families=(family,), noise="ar1", value_range=(0.0, 1.0)
    ).dataset
    emerges = result["draw_family"].values > 0
    weights = np.where(emerges, np.maximum(result["draw_weight"].values, 1e-300), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    names = [str(name) for name in result["parameter"].values]
    found, error = {}, {}
    for name in PARAMETERS:
        if name not in names:
            continue
        values, truth = result["draw_value"].values[..., names.index(name)], curves[name].values
        found[name] = places(values, weights, truth)
        below = values < truth[:, None]
        error[name] = np.sqrt((weights**2 * (below - found[name][:, None]) ** 2).sum(axis=1))
    # The onset's distribution is known, and its draws stand on a few nodes of it only.
    steps, cumulative = result["onset_step"].values, result["cumulative"].values
    found["onset"] = np.array(
        [np.interp(*row) for row in zip(curves["onset"].values, steps, cumulative, strict=True)]
    )
    error["onset"] = np.zeros(curves.sizes["curve"])
    return found, error


def by_nuts(family: str, one: xr.Dataset, seed: int) -> dict[str, Any]:
    """The same of one curve, with what `fit` says against its draws."""
    import arviz as az

    start = time.process_time()
    fitted = es.fit(
        one["score"], family, noise="ar1", value_range=(0.0, 1.0), seed=seed, **SETTINGS
    )
    posterior = fitted.tree["posterior"].to_dataset()
    place, error = {}, {}
    for name in PARAMETERS:
        if name not in posterior:
            continue
        below = (posterior[name].values < float(one[name])).astype(float)
        place[name] = float(below.mean())
        # Of an indicator that is always or never true the effective size is its number.
        size = float(az.ess(below)) if 0.0 < place[name] < 1.0 else below.size
        error[name] = float(np.sqrt(place[name] * (1.0 - place[name]) / size))
    return {
        "place": place,
        "place_error": error,
        "problems": fitted.problems,
        "target_accept": float(fitted.tree.attrs["target_accept"]),
        "seconds": time.process_time() - start,
    }


def sampled(
    cells: dict[tuple[str, int], xr.Dataset], number: int, kept: Path
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """What NUTS found of the first curves of every cell, the cells in turn, as far as not kept."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text().splitlines() if kept.exists() else []
    known = {}
    for line in lines:
        row = json.loads(line)
        if {name: row[name] for name in SETTINGS} == SETTINGS:
            known[row["family"], row["points"], row["curve"], row["of"]] = row
    with kept.open("a") as store:
        for c in range(number):
            for (family, points), curves in cells.items():
                key = (family, points, c, curves.sizes["curve"])
                if key in known:
                    continue
                row = dict(zip(("family", "points", "curve", "of"), key, strict=True)) | SETTINGS
                row |= by_nuts(family, curves.isel(curve=c, drop=True), seed=c)
                known[key] = row
                store.write(json.dumps(row) + "\n")
                store.flush()
                print(family, points, c, round(row["seconds"], 1), row["problems"], flush=True)
    return {
        (family, points): [known[family, points, c, curves.sizes["curve"]] for c in range(number)]
        for (family, points), curves in cells.items()
    }


def figures_of(place: Array) -> dict[str, float | int]:
    number = place.size
    return {
        "curves": number,
        "uniformity_p_value": float(kstest(place, "uniform").pvalue),
        "coverage_89": float(inside(place).mean()),
        "coverage_standard_error": float(np.sqrt(0.89 * 0.11 / number)),
    }


def inside(place: Array) -> Array:
    return (place > 0.055) & (place < 0.945)


def paired(place: Array, other: Array, error: Array, other_error: Array) -> dict[str, float | int]:
    """What the engines' answers on the same curves differ by."""
    apart = place - other
    covered = inside(place).astype(float) - inside(other)
    number = place.size
    return {
        "coverage_89_by_quadrature": float(inside(other).mean()),
        "coverage_difference": float(covered.mean()),
        "coverage_difference_standard_error": float(covered.std(ddof=1) / np.sqrt(number)),
        "mean_place_difference": float(apart.mean()),
        "mean_place_difference_standard_error": float(apart.std(ddof=1) / np.sqrt(number)),
        "place_difference": float(np.sqrt((apart**2).mean())),
        "expected_difference": float(np.sqrt((error**2 + other_error**2).mean())),
        "median_absolute_difference": float(np.median(abs(apart))),
    }


def problems_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The share of fits with a problem, and with each kind of problem, by its first words."""
    kinds = ("chains disagree", "effective draws", "log evidence uncertain", "diverge")
    words = ["; ".join(row["problems"]) for row in rows]
    return {
        "any": float(np.mean([bool(text) for text in words])),
        **{kind: float(np.mean([kind in text for text in words])) for kind in kinds},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=400, help="curves a cell by quadrature")
    parser.add_argument("--nuts", type=int, default=100, help="of these by NUTS too")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where NUTS's answers are kept")
    options = parser.parse_args()
    cells = {cell: curves_of(*cell, options.number) for cell in CELLS}
    by_chains = sampled(cells, options.nuts, options.kept)
    rows: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    for (family, points), curves in cells.items():
        where = {"family": family, "points": points}
        found, error = by_quadrature(family, curves)
        for name, place in found.items():
            rows.append({"engine": "quadrature", **where, "parameter": name, **figures_of(place)})
        chains = by_chains[family, points]
        if not chains:
            continue
        clean = np.array([not one["problems"] for one in chains])
        for name, other in found.items():
            place = np.array([one["place"][name] for one in chains])
            spread = np.array([one["place_error"][name] for one in chains])
            first = slice(0, place.size)
            rows.append(
                {
                    "engine": "pymc",
                    **where,
                    "parameter": name,
                    **figures_of(place),
                    **paired(place, other[first], spread, error[name][first]),
                    "place_difference_without_problems": float(
                        np.sqrt(((place - other[first])[clean] ** 2).mean())
                    )
                    if clean.any()
                    else None,
                }
            )
        seconds = [one["seconds"] for one in chains]
        fits.append(
            {
                **where,
                "curves": len(chains),
                "share_with_problems": problems_of(chains),
                "seconds_a_fit_mean": float(np.mean(seconds)),
                "seconds_a_fit_median": float(np.median(seconds)),
            }
        )
    for row in [*rows, *fits]:
        print(row, flush=True)
    smallest = min(float(row["uniformity_p_value"]) for row in rows)
    figures = {
        "tests": len(rows),
        "smallest_p_value": smallest,
        "smallest_p_value_times_tests": min(1.0, smallest * len(rows)),
        "fits_by_nuts": fits,
        "rows": rows,
    }
    command = f"{COMMAND} --nuts {options.nuts}" if options.nuts != 100 else COMMAND
    write_result("calibration", command, figures, packages=("scipy", "xarray", "pymc"))


if __name__ == "__main__":
    main()
