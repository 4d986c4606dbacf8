"""Are the probabilities of power law and exponential right, and as good as can be?

    python -m benchmarks.accuracy.classification [--default-noise]

Ten minutes on two cores. Expected: within 0.001 nats of the exact Bayes classifier, above BIC, AICc
and leave-one-out; of curves given 0.9, 90% right; at most 1% strongly wrong in a cell. Writes
`results/classification.json` or `classification-default.json`.

1. *Score*: mean log probability of the truth on curves of 16 points from the priors, beside the
   exact classifier (`exact`) and `peers`; one half for each scores -0.693.
2. *Correlated noise*: the same against the exact classifier on few curves with AR(1) noise.
3. *Cells*: noise of 0.5, 2 and 10% of the rise, 12, 40 and 150 checkpoints, independent and AR(1)
   0.8; strongly wrong is more than 0.95 for the other family.

Errors of shares are binomial, (k + 1/2) / (n + 1) for the share, so that none is zero.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.accuracy import exact, peers
from benchmarks.record import write_result
from emergence_stats.curves.simulation import simulate_curves

Array = np.ndarray

FAMILIES = ("exponential", "power_law")
STEP = np.geomspace(10.0, 10_000.0, 16)
NOISE_SD = (0.005, 0.02, 0.1)
CHECKPOINTS = (12, 40, 150)
CORRELATIONS = (0.0, 0.8)
# Edges of the probability of the family favoured.
BINS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.95, 0.99, 1.0)
STRONG = 0.95


def log_score(log_odds: Array, powered: Array) -> Array:
    """Log probability of the truth, from the log odds of the power law."""
    return -np.logaddexp(0.0, np.where(powered, -log_odds, log_odds))


def log_odds_of(probability: Array) -> Array:
    """Kept finite: a peer that says exactly 1 and is wrong loses 690 nats, not infinitely many."""
    return np.log(np.maximum(probability, 1e-300)) - np.log(np.maximum(1.0 - probability, 1e-300))


def mean_and_error(values: Array) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "standard_error": float(values.std(ddof=1) / np.sqrt(values.size)),
    }


def share(hits: Array) -> dict[str, float]:
    number = hits.size
    if not number:
        return {"number": 0}
    smoothed = (hits.sum() + 0.5) / (number + 1.0)
    return {
        "number": number,
        "share": float(hits.mean()),
        "standard_error": float(np.sqrt(smoothed * (1.0 - smoothed) / number)),
    }


def from_the_prior(number: int, noise: str) -> tuple[xr.DataArray, Array]:
    """Curves, half of each family, and which are power laws."""
    made = [
        simulate_curves(family, STEP, number=number // 2, noise=noise, seed=seed)["score"]
        for seed, family in enumerate(FAMILIES, start=10)
    ]
    return xr.concat(made, "curve").drop_vars("curve"), np.repeat([False, True], number // 2)


def side_by_side(pool: ProcessPoolExecutor, number: int) -> dict[str, Any]:
    scores, powered = from_the_prior(number, "independent")
    seconds: dict[str, float] = {}

    def timed(name: str, start: float) -> None:
        seconds[name] = round(time.perf_counter() - start, 1)
        print(f"  {name}: {seconds[name]} s", flush=True)

    start = time.perf_counter()
    data = es.compare(scores, noise="independent", value_range=(0.0, 1.0)).dataset
    odds = {"ours": data["log_bayes_factor"].values}
    timed("ours", start)
    start = time.perf_counter()
    one = partial(exact.log_bayes_factor, step=STEP)
    odds["exact"], exact_error = np.array(list(pool.map(one, scores.values, chunksize=8))).T
    timed("exact", start)
    start = time.perf_counter()
    parts = np.array_split(scores.values, 2 * (pool_size() or 1))
    found = [row for part in pool.map(partial(peers.criteria_of, step=STEP), parts) for row in part]
    for name in ("bic", "aicc"):
        odds[name] = log_odds_of(np.array([row[name] for row in found]))
    timed("bic and aicc", start)
    start = time.perf_counter()
    left_out = peers.leave_one_out(scores)
    for name in ("loo", "loo_stacking"):
        odds[name] = log_odds_of(left_out[name])
    timed("loo", start)
    gained = {name: log_score(value, powered) for name, value in odds.items()}
    difference = odds["ours"] - odds["exact"]
    probabilities = {name: 0.5 + 0.5 * np.tanh(0.5 * odds[name]) for name in ("ours", "exact")}
    settled = exact_error < 0.05
    some = slice(0, None, max(1, number // 40))
    finer = partial(exact.log_bayes_factor, step=STEP, share=exact.SHARE / 4.0, seed=1)
    again, again_error = np.array(list(pool.map(finer, scores.values[some]))).T
    both = settled[some] & (again_error < 0.05)
    changes = (again - odds["exact"][some])[both]
    return {
        "curves": int(powered.size),
        "points": int(STEP.size),
        "log_score": {name: mean_and_error(value) for name, value in gained.items()},
        "ours_minus": {
            name: mean_and_error(gained["ours"] - value)
            for name, value in gained.items()
            if name != "ours"
        },
        "ours_minus_exact_where_that_settled": mean_and_error(
            (gained["ours"] - gained["exact"])[settled]
        ),
        "log_bayes_factor_of_ours_minus_exact_where_settled": {
            "mean": float(difference[settled].mean()),
            "sd": float(difference[settled].std(ddof=1)),
            "largest": float(abs(difference[settled]).max()),
            "share_above_0.1": float((abs(difference[settled]) > 0.1).mean()),
            "largest_in_probability": float(
                abs(probabilities["ours"] - probabilities["exact"])[settled].max()
            ),
        },
        "exact_classifier": {
            "share_settled": float(settled.mean()),
            "median_error_of_log_bayes_factor": float(np.median(exact_error)),
            "repeated_with_four_times_the_cells": len(changes),
            "log_bayes_factor_change_mean": float(changes.mean()),
            "log_bayes_factor_change_sd": float(changes.std(ddof=1)),
            "log_bayes_factor_change_largest": float(abs(changes).max()),
        },
        "loo_share_of_pareto_k_above_0.7": float(left_out["share_of_pareto_k_above_0.7"].mean()),
        "loo_largest_difference_from_arviz_compare": peers.check_loo(
            scores[:: max(1, number // 10)]
        ),
        "seconds": seconds,
    }


def correlated(pool: ProcessPoolExecutor, number: int) -> dict[str, Any]:
    scores, powered = from_the_prior(number, "ar1")
    data = es.compare(scores, noise="ar1", value_range=(0.0, 1.0)).dataset
    one = partial(exact.log_bayes_factor, step=STEP, noise="ar1")
    reference, error = np.array(list(pool.map(one, scores.values))).T
    ours = data["log_bayes_factor"].values
    return {
        "curves": int(powered.size),
        "log_score_ours_minus_exact": mean_and_error(
            log_score(ours, powered) - log_score(reference, powered)
        ),
        "largest_error_of_exact": float(error.max()),
        "log_bayes_factor_difference_sd": float((ours - reference).std(ddof=1)),
        "log_bayes_factor_difference_largest": float(abs(ours - reference).max()),
    }


def cell(
    number: int, points: int, sd: float, rho: float, seed: int, analysis: str
) -> tuple[dict, Array, Array]:
    """One cell's figures under this assumption on the noise; the probability of the favoured
    family, and whether it was right.
    """
    step = np.geomspace(10.0, 10_000.0, points)
    made = [
        simulate_curves(
            family,
            step,
            number=number // 2,
            sd=sd,
            noise="ar1",
            correlation=rho,
            parameters={"baseline": 0.0, "amplitude": 1.0},
            seed=np.random.default_rng([seed, k]),
        )
        for k, family in enumerate(FAMILIES)
    ]
    truth = xr.concat(made, "curve", join="outer", data_vars="all").drop_vars("curve")
    powered = np.repeat([False, True], number // 2)
    data = es.compare(truth["score"], noise=analysis).dataset
    chance = data["probability"].sel(family=list(FAMILIES)).transpose("curve", "family").values
    odds = data["log_bayes_factor"].values
    favoured = 0.5 + 0.5 * np.tanh(0.5 * abs(odds))
    right = (odds > 0) == powered
    wrong = np.where(powered, chance[:, 0], chance[:, 1])
    verdict = data["verdict"].values
    true_name = np.where(powered, "power_law", "exponential")

    def covered(name: str, value: Array, of: Array) -> dict[str, float]:
        low, high = (data[name].isel(quantile=index).values for index in (0, 2))
        return share(((low <= value) & (value <= high))[of])

    every = np.ones(powered.size, dtype=bool)
    figures = {
        "noise_share_of_amplitude": sd,
        "checkpoints": points,
        "noise_correlation": rho,
        "curves": int(powered.size),
        "log_score": mean_and_error(log_score(odds, powered)),
        "near_0.9_right": share(right[(favoured >= 0.85) & (favoured < 0.95)]),
        "strongly_wrong": share(wrong > STRONG),
        "right_verdict": share(verdict == true_name),
        "undecided": share(verdict == "undecided"),
        "no_emergence": share(verdict == "no_emergence"),
        "misfit": share(verdict == "misfit"),
        "order_coverage_89": covered("order", truth["kappa"].values + 2.0, powered),
        "timescale_coverage_89": covered("timescale", truth["timescale"].values, every),
        "onset_coverage_89": covered("onset", truth["onset"].values, every),
    }
    return figures, favoured, right


def reliability(favoured: Array, right: Array) -> list[dict[str, Any]]:
    rows = []
    for low, high in itertools.pairwise(BINS):
        here = (favoured >= low) & ((favoured < high) | (high == 1.0))
        row: dict[str, Any] = {"from": low, "to": high, **share(right[here])}
        if here.any():
            row["mean_probability"] = float(favoured[here].mean())
            # The error that calibrated probabilities would have.
            spread = np.sqrt((favoured[here] * (1.0 - favoured[here])).sum()) / here.sum()
            row["deviation_in_errors"] = float(
                (right[here].mean() - row["mean_probability"]) / max(spread, 1e-300)
            )
        rows.append(row)
    return rows


def pool_size() -> int:
    return multiprocessing.cpu_count()


def in_cells(number: int, analysis: str) -> dict[str, Any]:
    """Every cell's figures under this assumption on the noise, and how probabilities hold."""
    begun = time.perf_counter()
    cells: list[dict] = []
    favoured: list[Array] = []
    right: list[Array] = []
    for sd in NOISE_SD:
        for points in CHECKPOINTS:
            for rho in CORRELATIONS:
                figures, probability, correct = cell(number, points, sd, rho, len(cells), analysis)
                cells.append(figures)
                favoured.append(probability)
                right.append(correct)
                print(figures, flush=True)
    every = np.array([figures["noise_correlation"] > 0 for figures in cells])
    by_noise = {
        name: reliability(
            np.concatenate([p for p, k in zip(favoured, chosen, strict=True) if k]),
            np.concatenate([r for r, k in zip(right, chosen, strict=True) if k]),
        )
        for name, chosen in (
            ("all", np.ones_like(every)),
            ("independent", ~every),
            ("ar1_0.8", every),
        )
    }
    for row in by_noise["all"]:
        print(row)
    seconds = round(time.perf_counter() - begun, 1)
    return {"analysis": analysis, "reliability": by_noise, "cells": cells, "cell_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--number", type=int, default=1000, help="curves scored (default 1000)")
    parser.add_argument(
        "--default-noise",
        action="store_true",
        help="only the cells, under the noise that `compare` chooses by evidence",
    )
    options = parser.parse_args()
    number = max(20, options.number // 2 * 2)
    per_cell = max(20, int(0.3 * number) // 2 * 2)
    command = "python -m benchmarks.accuracy.classification"
    if number != 1000:
        command += f" --number {number}"
    if options.default_noise:
        command += " --default-noise"
        print(write_result("classification-default", command, in_cells(per_cell, "auto")))
        return
    begun = time.perf_counter()
    result: dict[str, Any] = {"number": number}
    with ProcessPoolExecutor(pool_size(), multiprocessing.get_context("spawn")) as pool:
        print(f"score: {number} curves", flush=True)
        result["score"] = side_by_side(pool, number)
        print(result["score"], flush=True)
        result["correlated"] = correlated(pool, max(4, number // 100 * 2))
        print(result["correlated"], flush=True)
    result |= in_cells(per_cell, "ar1")
    result["seconds"] = round(time.perf_counter() - begun, 1)
    print(write_result("classification", command, result, ("lmfit", "arviz")))


if __name__ == "__main__":
    main()
