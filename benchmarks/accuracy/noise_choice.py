"""What does noise="auto" cost in calibration and in time against noise="ar1"?

    python -m benchmarks.accuracy.noise_choice [--without-grid]

Eight minutes on one core. Expected: a log score no worse than that of "ar1", none strongly wrong,
1.1 to 1.7 times the time. Writes `results/noise_choice.json`.

Half exponential, half power law, noise of 2%, independent or AR(1) 0.8, 24 and 60 checkpoints; each
curve under its one kind of noise, under the kind of greatest evidence (`auto`), and over all four
kinds by their evidence (`average`). `choice` holds the evidence that "auto" weighs kinds by against
full integrations; `grid` takes the curves of `validate`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.accuracy.validate import verdicts
from benchmarks.record import write_result
from emergence_stats.comparison.noise_choice import KINDS, analyse_by_evidence
from emergence_stats.comparison.summaries import Summaries, analyse
from emergence_stats.curves.families import prior_probabilities, resolve_families
from emergence_stats.data.labels import gather

COMMAND = "python -m benchmarks.accuracy.noise_choice"
FAMILIES = ("exponential", "power_law")
Array = np.ndarray


def cell(
    points: int, rho: float, number: int
) -> tuple[dict[str, Array], dict[str, float], dict[str, Array]]:
    """By way of choosing: the truth's probability, the favoured family's, whether that is true,
    and the true onset's place, shape (curve, 4); seconds by kind; and how "auto" chose."""
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
    arrays, _ = gather(scores, None)
    families = resolve_families(FAMILIES)
    prior = prior_probabilities(families, None)
    log_prior = np.log([prior[family.name] for family in families])
    chance, place, evidence, seconds = [], [], [], {}
    for kind in KINDS:
        start = time.process_time()
        found = analyse(arrays, families, prior_probability=prior, noise=kind)
        seconds[kind] = time.process_time() - start
        chance.append(found.probability)
        evidence.append(np.logaddexp.reduce(found.log_evidence + log_prior, axis=1))
        place.append(onset_place(found, onset))
    start = time.process_time()
    found, chosen, claimed = analyse_by_evidence(arrays, families, prior_probability=prior)
    seconds["auto"] = time.process_time() - start
    probability, where = np.stack(chance, axis=1), np.stack(place, axis=1)
    full = np.stack(evidence, axis=1)
    share = np.exp(full - full.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    only = np.eye(len(KINDS))
    weights = {
        "ar1": np.broadcast_to(only[KINDS.index("ar1")], share.shape),
        "average": share,
        "independent": np.broadcast_to(only[KINDS.index("independent")], share.shape),
    }
    rows = np.arange(true.size)
    p = found.probability
    out = {
        "auto": np.column_stack(
            [p[rows, true], p.max(axis=1), p.argmax(axis=1) == true, onset_place(found, onset)]
        )
    }
    for name, w in weights.items():
        p = (w[:, :, None] * probability).sum(axis=1)
        out[name] = np.column_stack(
            [
                p[rows, true],
                p.max(axis=1),
                p.argmax(axis=1) == true,
                (w * where).sum(axis=1),
            ]
        )
    ar1 = KINDS.index("ar1")
    apart = np.log(claimed / claimed[:, [ar1]]) - (full - full[:, [ar1]])
    taken = full[rows, [KINDS.index(kind) for kind in chosen]]
    choice = {
        # Kinds that are one at these steps have no error to speak of.
        "error": apart[(full > full.max(axis=1, keepdims=True) - 3.0) & (abs(apart) > 1e-6)],
        "lost": full.max(axis=1) - taken,
    }
    return out, seconds, choice


def onset_place(found: Summaries, onset: Array) -> Array:
    """Where in each onset's posterior the truth lies, given that there is one."""
    weight = np.where(found.draw_family > 0, found.draw_weight, 0.0)
    below = (weight * (found.draw[..., 0] < onset[:, None])).sum(axis=1)
    return below / np.maximum(weight.sum(axis=1), 1e-300)


def seconds_at_even_steps(points: int, rho: float, number: int) -> dict[str, float]:
    """Processor seconds of ar1 and of "auto" on curves of both laws at evenly spaced steps."""
    step = np.linspace(0.0, 6000.0, points)
    made = [
        es.simulate_curves(
            family,
            step,
            number=number,
            sd=0.02,
            noise="ar1",
            correlation=rho,
            parameters={"baseline": 0.0, "amplitude": 1.0},
            seed=np.random.default_rng([8, points, int(10 * rho), k]),
        )["score"]
        for k, family in enumerate(FAMILIES)
    ]
    scores = xr.concat(made, "curve").drop_vars("curve")
    seconds = {}
    for noise in ("ar1", "auto"):
        start = time.process_time()
        es.compare(scores, noise=noise)
        seconds[noise] = time.process_time() - start
    return seconds


def on_the_grid(noise: str) -> dict[str, float | int | str]:
    """The cells of ``benchmarks.accuracy.validate`` under one noise, averaged, and the worst of
    them."""
    rows = verdicts(np.random.default_rng(0), noise)
    order = [float(row["order_coverage_89"]) for row in rows if "order_coverage_89" in row]
    onset = [float(row["onset_coverage_89"]) for row in rows]
    names = ("right_verdict", "undecided", "misfit", "wrong_verdict", "strongly_wrong")
    return {
        "analysis": noise,
        "curves": sum(int(row["curves"]) for row in rows),
        **{n: float(np.mean([float(row[n]) for row in rows])) for n in (*names, "mean_log_score")},
        "strongly_wrong_in_the_worst_cell": max(float(row["strongly_wrong"]) for row in rows),
        "onset_coverage_89": float(np.mean(onset)),
        "onset_coverage_89_least": min(onset),
        "order_coverage_89": float(np.mean(order)),
        "order_coverage_89_least": min(order),
    }


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
    parser.add_argument("--without-grid", action="store_true", help="leave out the last part")
    options = parser.parse_args()
    by_noise: dict[str, list[dict[str, Array]]] = {"independent": [], "ar1_0.8": []}
    seconds: list[dict[str, Any]] = []
    choices: list[dict[str, Array]] = []
    cell(24, 0.0, 2)  # compiles
    for points in (24, 60):
        for label, rho in (("independent", 0.0), ("ar1_0.8", 0.8)):
            found, spent, choice = cell(points, rho, options.number)
            by_noise[label].append(found)
            choices.append(choice)
            for steps, own in (
                ("log-spaced", spent),
                ("even", seconds_at_even_steps(points, rho, options.number)),
            ):
                how = {"points": points, "steps": steps, "noise": label}
                seconds.append({**how, **own, "auto_over_ar1": own["auto"] / own["ar1"]})
                print(seconds[-1], flush=True)
    by_noise["mixed"] = [*by_noise["independent"], *by_noise["ar1_0.8"]]
    rows = []
    for label, parts in by_noise.items():
        ar1 = np.concatenate([part["ar1"] for part in parts])
        for name in parts[0]:
            every = np.concatenate([part[name] for part in parts])
            rows.append({"noise": label, "analysis": name, **figures_of(every, ar1)})
            print(rows[-1], flush=True)
    error = np.concatenate([choice["error"] for choice in choices])
    lost = np.concatenate([choice["lost"] for choice in choices])
    choice_figures = {
        "kinds_within_3_nats": int(error.size),
        "error_rms": float(np.sqrt((error**2).mean())),
        "error_largest": float(abs(error).max()),
        "curves": int(lost.size),
        "chosen_otherwise": int((lost > 1e-6).sum()),
        "nats_lost_at_most": float(lost.max()),
    }
    print(choice_figures, flush=True)
    grid = []
    for noise in () if options.without_grid else ("ar1", "auto"):
        grid.append(on_the_grid(noise))
        print(grid[-1], flush=True)
    figures = {"rows": rows, "choice": choice_figures, "seconds": seconds, "grid": grid}
    command = f"{COMMAND} --without-grid" if options.without_grid else COMMAND
    write_result("noise_choice", command, figures, ("xarray",))


if __name__ == "__main__":
    main()
