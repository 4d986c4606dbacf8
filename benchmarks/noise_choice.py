"""What does noise="auto" cost in calibration and in time against noise="ar1"?

Run with ``python -m benchmarks.noise_choice`` (a minute on one core). Writes
``benchmarks/results/noise_choice.json``.

Curves rising by 1 with noise of sd 0.02, half exponential, half power law, onset, half-time and
kappa from the priors, at 24 and 60 checkpoints, with independent noise and with AR(1) noise of
correlation 0.8; "mixed" is all of them. Each is analysed under every kind of noise, and the truth's
probability, "flat" counted among the families, is taken

- ar1, independent: under that kind,
- auto: under the kind of greatest evidence, as `compare(..., noise="auto")` does,
- average: over all four kinds by their evidence.

Reported are the log score (mean log probability of the true family), its difference from that of
ar1 on the same curves with standard error, the share strongly wrong (another family at more than
0.95), how often a family given more than 0.9 was true, what the 89% interval of the onset covers,
and processor seconds.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.record import write_result
from emergence_stats import labelled
from emergence_stats.families import resolve_families
from emergence_stats.noise_choice import KINDS
from emergence_stats.summaries import analyse

COMMAND = "python -m benchmarks.noise_choice"
FAMILIES = ("exponential", "power_law")
Array = np.ndarray


def cell(points: int, rho: float, number: int) -> tuple[dict[str, Array], dict[str, float]]:
    """By way of choosing: the truth's probability, the favoured family's, whether that is true,
    and the true onset's place, shape (curve, 4); and seconds by kind."""
    step = np.geomspace(10.0, 10_000.0, points)
    made = [
        es.simulate_curves(
            family,
            step,
            number=number,
            sd=0.02,
            noise="ar1",
            correlation=rho,
            parameters={"baseline": 0.0, "amplitude": 1.0},
            seed=np.random.default_rng([7, points, int(10 * rho), k]),
        )
        for k, family in enumerate(FAMILIES)
    ]
    scores = xr.concat([one["score"] for one in made], "curve").drop_vars("curve")
    onset = np.concatenate([one["onset"].values for one in made])
    true = np.repeat([1, 2], number)
    arrays, _ = labelled.gather(scores, None)
    families = resolve_families(FAMILIES)
    prior = labelled.prior_probabilities(families, None)
    log_prior = np.log([prior[family.name] for family in families])
    chance, place, evidence, seconds = [], [], [], {}
    for kind in KINDS:
        start = time.process_time()
        found = analyse(arrays, families, prior_probability=prior, noise=kind)
        seconds[kind] = time.process_time() - start
        chance.append(found.probability)
        evidence.append(np.logaddexp.reduce(found.log_evidence + log_prior, axis=1))
        weight = np.where(found.draw_family > 0, found.draw_weight, 0.0)
        below = (weight * (found.draw[..., 0] < onset[:, None])).sum(axis=1)
        place.append(below / np.maximum(weight.sum(axis=1), 1e-300))
    probability, where = np.stack(chance, axis=1), np.stack(place, axis=1)
    share = np.stack(evidence, axis=1)
    share = np.exp(share - share.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    only = np.eye(len(KINDS))
    weights = {
        "ar1": np.broadcast_to(only[KINDS.index("ar1")], share.shape),
        "auto": only[share.argmax(axis=1)],
        "average": share,
        "independent": np.broadcast_to(only[KINDS.index("independent")], share.shape),
    }
    out = {}
    for name, w in weights.items():
        p = (w[:, :, None] * probability).sum(axis=1)
        out[name] = np.column_stack(
            [
                p[np.arange(true.size), true],
                p.max(axis=1),
                p.argmax(axis=1) == true,
                (w * where).sum(axis=1),
            ]
        )
    return out, seconds


def figures_of(found: Array, reference: Array) -> dict[str, float | int]:
    truth, favoured, right, place = found.T
    score = np.log(np.maximum(truth, 1e-300))
    gain = score - np.log(np.maximum(reference[:, 0], 1e-300))
    sure = favoured > 0.9
    return {
        "curves": int(truth.size),
        "log_score": float(score.mean()),
        "log_score_minus_ar1": float(gain.mean()),
        "its_standard_error": float(gain.std(ddof=1) / np.sqrt(gain.size)),
        "strongly_wrong": float(((favoured > 0.95) & (right == 0)).mean()),
        "above_0.9": int(sure.sum()),
        "right_of_these": float(right[sure].mean()),
        "onset_coverage_89": float(((place > 0.055) & (place < 0.945)).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=25, help="curves a cell and family")
    options = parser.parse_args()
    by_noise: dict[str, list[dict[str, Array]]] = {"independent": [], "ar1_0.8": []}
    seconds: list[dict[str, Any]] = []
    for points in (24, 60):
        for label, rho in (("independent", 0.0), ("ar1_0.8", 0.8)):
            found, spent = cell(points, rho, options.number)
            by_noise[label].append(found)
            total = sum(spent.values())
            seconds.append(
                {"points": points, "noise": label, **spent, "auto_over_ar1": total / spent["ar1"]}
            )
    by_noise["mixed"] = [*by_noise["independent"], *by_noise["ar1_0.8"]]
    rows = []
    for label, parts in by_noise.items():
        ar1 = np.concatenate([part["ar1"] for part in parts])
        for name in parts[0]:
            every = np.concatenate([part[name] for part in parts])
            rows.append({"noise": label, "analysis": name, **figures_of(every, ar1)})
            print(rows[-1], flush=True)
    write_result("noise_choice", COMMAND, {"rows": rows, "seconds": seconds}, ("xarray",))


if __name__ == "__main__":
    main()
