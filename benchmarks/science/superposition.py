"""The toy model of superposition: k-gons, their coefficients, and opposing staircases in training.

    python -m benchmarks.science.superposition

Ten minutes on one core. Expected: in 3 of 3 transitions the loss falls and the coefficient rises;
6.9, 8.4 and 8.3 at the 5-, 5+- and 6-gon, where theory has 7, 8.5 and 8.5. Writes
`results/superposition.json` and `.png`. The model is in `superposition_model`.

1. *Critical points*: loss beside the published level, half the Hessian's rank, MALA at the
   temperatures of three n. Published figures (Chen et al. 2023, arXiv 2310.06301, table K.1) as two
   public replications give them (github.com/ztreisman/arc-llc, experiment 10), not read off the
   paper. At the 4-gons the loss has a corner: no Hessian, no coefficient in theory.
2. *Training* as in the paper's section 5, four times as long, from a 4-gon and from random columns;
   `es.sweep_llc` at 23 checkpoints, n = 1,000, one localisation.
3. *Transitions*: where a run rests on one k-gon and then on another, by how much do loss and mean
   reliable coefficient change?
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from typing import Any

import numpy as np
import torch
from scipy.stats import beta as beta_distribution

import emergence_stats as es
from benchmarks.record import RESULTS, write_result
from benchmarks.science.superposition_model import (
    POLYGONS,
    Population,
    Superposition,
    as_inputs,
    beginning,
    named,
    polygon,
    population_loss,
    reconstruction,
    samples,
    times_population,
    train,
)

COMMAND = "python -m benchmarks.science.superposition"
PUBLISHED_LOSS = {"4": 1 / 9, "4+": 0.10417, "5": 0.06874, "5+": 0.06180, "6": 0.04819}
PUBLISHED_THEORY = {"5": 7.0, "5+": 8.5, "6": 8.5}
PUBLISHED_ESTIMATE = {"5": (7.71, 0.85), "5+": (9.91, 1.27), "6": (9.03, 0.59)}  # n = 5,000
NUMBERS = (5_000, 50_000, 500_000)
STEPS, RATE, BATCH, NUM_SAMPLES = 900_000, 0.005, 20, 1000
CHECKPOINTS, FIRST = 22, 100
RUNS = {"4-gon": 10, "random": 3}
# Full batches: BAOAB has then no noise but its own, and its chains mix better than MALA's.
SWEEP = {
    "sampler": "baoab", "localisation": 10.0, "num_draws": 500, "num_chains": 8,
    "batch_size": NUM_SAMPLES, "progress": False,
}  # fmt: skip
FLAT = 1e-6  # curvature, where the smallest of the others is 0.02


def half_codimension(model: Population) -> tuple[float, np.ndarray]:
    """Half the number of curved directions, and the curvatures."""
    flat = torch.cat([model.weight.detach().flatten(), model.bias.detach()])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parameters = {"weight": vector[:12].reshape(2, 6), "bias": vector[12:]}
        return torch.func.functional_call(model, parameters, ())

    curvatures = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).numpy()
    return 0.5 * int((np.abs(curvatures) > FLAT).sum()), curvatures


def critical_points(draws: int) -> list[dict[str, Any]]:
    rows = []
    ones = (torch.ones(64, dtype=torch.float64),)
    for name in POLYGONS:
        weight, bias = polygon(name)
        model = Population(weight, bias)
        loss = model()
        loss.backward()
        row: dict[str, Any] = {
            "polygon": name,
            "loss": loss.item(),
            "published_loss": PUBLISHED_LOSS.get(name),
            "largest_gradient": max(
                float(parameter.grad.abs().max()) for parameter in model.parameters()
            ),
            "length": float(np.hypot(*weight[:, 0])),
            "bias": float(bias[0]),
            "published_theory": PUBLISHED_THEORY.get(name),
            "published_estimate_at_5000": PUBLISHED_ESTIMATE.get(name),
            "estimates": [],
        }
        smooth = not name.startswith("4")
        if smooth:
            row["half_codimension"], curvatures = half_codimension(model)
        for number in NUMBERS:
            scale = number / math.log(number)
            found = es.estimate_llc(
                model, times_population, ones, sampler="mala", num_chains=16, num_draws=draws,
                localisation=10.0, inverse_temperature=scale / 64, progress=False,
            )  # fmt: skip
            known = found.diagnostics
            estimate = {
                "n": number,
                "llc": found.llc,
                "standard_error": found.standard_error,
                "rhat": known["rhat"],
                "verdict": known["verdict"],
            }
            if smooth:
                held = scale * np.clip(curvatures, 0.0, None)
                estimate["quadratic_at_this_localisation"] = 0.5 * float(
                    (held / (held + known["localisation"])).sum()
                )
            row["estimates"].append(estimate)
        rows.append(row)
        print(row, flush=True)
    return rows


def trajectory(kind: str, seed: int) -> dict[str, Any]:
    """One run: losses, k-gons and coefficients along it."""
    active, size = samples(seed, NUM_SAMPLES)
    kept = np.unique(np.round(np.geomspace(FIRST, STEPS, CHECKPOINTS)).astype(int))
    kept = np.concatenate([[0], kept])
    dense = np.unique(np.round(np.geomspace(FIRST, STEPS, 150)).astype(int))
    every = np.unique(np.concatenate([kept, dense]))
    start, shuffle = beginning(kind, seed), np.random.default_rng([seed, 2])
    weights, biases = train(*start, active, size, RATE, BATCH, STEPS, every, shuffle)
    losses = [population_loss(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    states = {
        int(step): {
            "weight": torch.as_tensor(weight).float(),
            "bias": torch.as_tensor(bias).float(),
        }
        for step, weight, bias in zip(every, weights, biases, strict=True)
        if step in kept
    }
    sweep = es.sweep_llc(
        states, Superposition, reconstruction, (as_inputs(active, size),), seed=seed, **SWEEP
    ).sel(part="all")  # fmt: skip
    chosen = np.isin(every, kept)
    names = [named(w, b) for w, b in zip(weights[chosen], biases[chosen], strict=True)]
    run = {
        "beginning": kind,
        "seed": seed,
        "step": kept.tolist(),
        "polygon": names,
        "loss": np.array(losses)[chosen].tolist(),
        "llc": sweep["llc"].values.tolist(),
        "standard_error": sweep["llc_standard_error"].values.tolist(),
        "verdict": sweep["verdict"].values.tolist(),
        "dense_step": every[1:].tolist(),
        "dense_loss": losses[1:],
    }
    return {**run, "transitions": transitions(run), "dates": dates(run)}


def transitions(run: dict[str, Any]) -> list[dict[str, Any]]:
    """From one k-gon on which the run rested to the next."""
    loss, llc = np.array(run["loss"]), np.array(run["llc"])
    error = np.array(run["standard_error"])
    reliable = np.array(run["verdict"]) == "reliable"
    rests = []
    for name, places in itertools.groupby(range(len(loss)), key=lambda k: run["polygon"][k]):
        where = np.array(list(places))
        good = where[reliable[where]]
        if name and len(good) >= 2:
            # Estimates of one rest differ by more than Monte Carlo error, as the network moves.
            spread = max(float(llc[good].std(ddof=1)), float(np.sqrt((error[good] ** 2).mean())))
            rests.append(
                (
                    name,
                    float(loss[where].mean()),
                    float(llc[good].mean()),
                    spread / len(good) ** 0.5,
                )
            )
    found = []
    for before, after in itertools.pairwise(rests):
        if before[0] == after[0]:
            continue
        change, sd = after[2] - before[2], math.hypot(before[3], after[3])
        found.append(
            {
                "from": before[0],
                "to": after[0],
                "loss_change": after[1] - before[1],
                "llc_before": before[2],
                "llc_after": after[2],
                "llc_change": change,
                "llc_change_interval_89": [change - 1.598 * sd, change + 1.598 * sd],
                "opposed": bool(after[1] < before[1] and change > 0.0),
                "surely_opposed": bool(after[1] < before[1] and change > 1.598 * sd),
            }
        )
    return found


def dates(run: dict[str, Any]) -> dict[str, Any]:
    """The largest changes of loss and coefficient after step 1,000, by `es.segment`."""
    step = np.array(run["step"])
    reliable = (np.array(run["verdict"]) == "reliable") & (step >= 1000)
    if reliable.sum() < 6:
        return {}
    dense = np.array(run["dense_step"])
    late = dense >= 1000
    curves = {
        "loss": es.curve(np.array(run["dense_loss"])[late], dense[late], name="loss"),
        "llc": es.curve(np.array(run["llc"])[reliable], step[reliable], name="llc"),
    }
    table = {}
    for name, curve in curves.items():
        found = es.segment(curve, model="constant", max_changes=4)
        rows = found.summary()
        rows = rows[np.isfinite(rows["step"].astype(float))]
        entry: dict[str, Any] = {"probability": float(found.probability), "changes": len(rows)}
        if len(rows):
            largest = rows.iloc[int((rows["after"] - rows["before"]).abs().to_numpy().argmax())]
            keys = ("step", "lower", "upper", "before", "after")
            entry["largest"] = {key: float(largest[key]) for key in keys}
        table[name] = entry
    return table


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """How many transitions are opposed, and when do loss and coefficient change?"""
    found = [change for run in runs for change in run["transitions"]]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for change in found:
        kinds.setdefault(f"{change['from']} to {change['to']}", []).append(change)
    both = [
        run["dates"]
        for run in runs
        if all("largest" in run["dates"].get(name, {}) for name in ("loss", "llc"))
    ]
    meets = [
        max(date["loss"]["largest"]["lower"], date["llc"]["largest"]["lower"])
        <= min(date["loss"]["largest"]["upper"], date["llc"]["largest"]["upper"])
        for date in both
    ]
    table: dict[str, Any] = {"transitions": _proportion(found)}
    table["by_kind"] = {
        kind: {
            **_proportion(changes),
            "mean_loss_change": float(np.mean([change["loss_change"] for change in changes])),
            "mean_llc_change": float(np.mean([change["llc_change"] for change in changes])),
        }
        for kind, changes in sorted(kinds.items())
    }
    table["runs_with_both_dated"] = len(both)
    table["dates_meet"] = int(sum(meets))
    table["share_of_estimates_reliable"] = float(
        np.mean([verdict == "reliable" for run in runs for verdict in run["verdict"]])
    )
    return table


def _proportion(changes: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and the 89% interval of the share opposed, from Jeffreys' prior."""
    count, opposed = len(changes), sum(change["opposed"] for change in changes)
    posterior = beta_distribution(opposed + 0.5, count - opposed + 0.5)
    return {
        "number": count,
        "loss_down_and_coefficient_up": opposed,
        "of_which_beyond_the_error": sum(change["surely_opposed"] for change in changes),
        "share_interval_89": [float(posterior.ppf(q)) for q in (0.055, 0.945)],
    }


def figure(runs: list[dict[str, Any]]) -> None:
    """Loss and coefficient of three runs that passed most k-gons, and all checkpoints at rest."""
    from matplotlib.figure import Figure

    drawn = sorted(runs, key=lambda run: -len(run["transitions"]))[:3]
    picture = Figure(figsize=(14, 3.6), layout="constrained")
    axes = picture.subplots(1, 4)
    levels = {name: population_loss(*polygon(name)) for name in POLYGONS}
    for axis, run in zip(axes, drawn, strict=False):
        axis.plot(run["dense_step"], run["dense_loss"], color="C0")
        axis.set(
            xscale="log", xlabel="step of SGD", title=f"{run['beginning']}, seed {run['seed']}"
        )
        axis.set_ylim(0.04, 0.13)
        for name, level in levels.items():
            axis.axhline(level, color="0.85", lw=0.8, zorder=0)
            axis.text(FIRST, level, name, fontsize=7, color="0.5", va="bottom")
        axis.set_ylabel("loss over all inputs", color="C0")
        other = axis.twinx()
        good = np.array(run["verdict"]) == "reliable"
        good[0] = False
        step, llc, error = (np.array(run[key]) for key in ("step", "llc", "standard_error"))
        other.errorbar(step[good], llc[good], 1.6 * error[good], fmt="o-", ms=3, lw=0.8, color="C3")
        other.set_ylabel("learning coefficient", color="C3")
    for place, name in enumerate(POLYGONS):
        rest = [
            value
            for run in runs
            for value, verdict, at in zip(run["llc"], run["verdict"], run["polygon"], strict=True)
            if at == name and verdict == "reliable"
        ]
        if rest:
            across = levels[name] + 0.0008 * np.random.default_rng(place).normal(size=len(rest))
            axes[3].plot(across, rest, ".", ms=3, label=f"{name} ({len(rest)})")
    axes[3].set(xlabel="loss of the k-gon", ylabel="learning coefficient, n = 1,000")
    axes[3].legend(fontsize=7, frameon=False)
    picture.savefig(RESULTS / "superposition.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="+", choices=("points", "runs"), default=["points", "runs"]
    )
    parser.add_argument("--draws", type=int, default=3000, help="of each MALA chain at a k-gon")
    parser.add_argument("--runs", type=int, help="of each beginning, at most")
    parser.add_argument("--again", action="store_true", help="runs already there too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "superposition.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    figures = {
        key: figures[key] for key in ("critical_points", "summary", "runs") if key in figures
    }
    if "runs" in arguments.parts:
        known = [] if arguments.again else figures.get("runs", [])
        done = {(run["beginning"], run["seed"]): run for run in known}
        runs: list[dict[str, Any]] = []
        for seed, kind in itertools.product(range(max(RUNS.values())), RUNS):
            if seed >= min(RUNS[kind], arguments.runs or RUNS[kind]):
                continue
            runs.append(done.get((kind, seed)) or trajectory(kind, seed))
            print(kind, seed, runs[-1]["polygon"], runs[-1]["transitions"], flush=True)
            figures["summary"], figures["runs"] = summary(runs), runs
            write_result("superposition", COMMAND, figures, packages=("scipy",))
            figure(runs)
        print(json.dumps(figures["summary"], indent=1))
    if "points" in arguments.parts:
        figures["critical_points"] = critical_points(arguments.draws)
        write_result("superposition", COMMAND, figures, packages=("scipy",))


if __name__ == "__main__":
    main()
