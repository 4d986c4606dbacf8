"""Local learning coefficients against values known exactly, and beside devinterp 1.3.2.

    python -m benchmarks.accuracy.llc_accuracy [--peer-python PATH] [--parts ...]

On one core networks take an hour and a half, coverage ten minutes, the peer an hour and three
quarters; a run of some parts keeps the others. Expected: crossings within 1%, regression within 3%,
at least 19 of 20 networks of a class within 15%, 90% intervals that hold 88 to 93%. Writes
`results/llc_accuracy.json`.

1. *Crossings* w1^a w2^b by MALA, over quadrature of the same posterior. The step is 0.01: MALA's
   own choice is too large for the steepest of them, w^6.
2. *Regression*: reduced rank regression, w* at a smooth point, over Aoyagi and Watanabe's value.
3. *Networks*: random deep linear networks (`llc_networks`), by default; results hold those of 0.1.0
   beside them, of SGHMC at four localisations, extrapolated to none. The peer runs RMSprop-SGLD,
   its best sampler in Hitchcock and Hoogland (2025, arXiv 2507.21449), with its own defaults,
   localization 1, as many chains and steps, and, as it does not choose a step,
   ``multiple * eps / (largest curvature of n*beta*L)`` with our curvature and the multiple best on
   two networks: more than its user would know.
4. *Coverage*: 90% intervals of short runs against the quadrature, all and those called reliable.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import emergence_stats as es
from benchmarks.accuracy import llc_networks as networks
from benchmarks.accuracy.llc_crossings import coverage, crossings
from benchmarks.accuracy.llc_peer import peer
from benchmarks.record import RESULTS, write_result

COMMAND = "python -m benchmarks.accuracy.llc_accuracy --peer-python PATH"
NUM_SAMPLES = 20_000
MILLION = 1e6 / math.log(1e6)  # n*beta of a million samples
BATCH = 512
COUNTS = {"1k": 20, "10k": 20, "100k": 20, "1M": 20}
PEER_COUNTS = COUNTS
# Two chains of a million parameters take half the time, and R-hat needs no more than two.
CHAINS = {"1k": 4, "10k": 4, "100k": 4, "1M": 2}
MULTIPLES = (0.3, 1.0)


def ours(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    seed: int = 0,
    num_chains: int = 4,
) -> tuple[Any, float]:
    start = time.process_time()
    found = es.estimate_llc(
        model, networks.loss, data, num_chains=num_chains, seed=seed, progress=False,
        inverse_temperature=MILLION / NUM_SAMPLES,
    )  # fmt: skip
    return found, time.process_time() - start


def regression() -> list[dict[str, Any]]:
    """Inputs M, hidden H, outputs N, rank r, and the ranks of the two layers at w*."""
    cases = {
        "1 (all triangle inequalities)": (8, 6, 8, 2, (4, 4)),
        "2 (M + H < N + r)": (4, 4, 9, 2, (2, 4)),
        "3 (N + H < M + r)": (9, 4, 4, 2, (4, 2)),
        "4 (M + N < H + r)": (4, 9, 4, 2, (4, 4)),
    }
    rows = []
    for name, (m, h, n, r, ranks) in cases.items():
        first, second = _layers(np.random.default_rng([m, h, n]), m, h, n, r, ranks)
        model = nn.Sequential(nn.Linear(m, h, bias=False), nn.Linear(h, n, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(first)
            model[1].weight.copy_(second)
        value, _ = es.exact.reduced_rank_regression(m, h, n, r)
        network = networks.Network(name, (m, h, n), ranks, model, value, value, h * (m + n))
        check = networks.verify(network, np.random.default_rng(0))
        found, _ = ours(model, networks.data(network, NUM_SAMPLES))
        rows.append(
            {
                "case": name,
                "M_H_N_r": [m, h, n, r],
                "exact": value,
                "estimate": found.llc,
                "standard_error": found.standard_error,
                "relative_error": found.llc / value - 1,
                "passes": abs(found.llc / value - 1) <= 0.05,
                "verdict": found.diagnostics["verdict"],
                **check,
            }
        )
        print(rows[-1], flush=True)
    return rows


def _layers(
    generator: np.random.Generator, m: int, h: int, n: int, r: int, ranks: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Layers of these ranks whose product has rank r: r directions pass through both."""
    turn, _ = np.linalg.qr(generator.normal(size=(h, h)))
    turn = torch.as_tensor(turn, dtype=torch.float32)
    image = turn[:, : ranks[0]]
    passed = torch.cat([turn[:, :r], turn[:, ranks[0] : ranks[0] + ranks[1] - r]], dim=1)
    first = image @ networks.weight(generator, ranks[0], m, ranks[0])
    return first, networks.weight(generator, n, ranks[1], ranks[1]) @ passed.T


def compare_networks(wanted: dict[str, list[int]]) -> list[dict[str, Any]]:
    rows = []
    for size, numbers in wanted.items():
        for number in numbers:
            network = networks.draw(size, number)
            check = {}
            if network.num_parameters < 2500:
                check = networks.verify(network, np.random.default_rng(0))
            data, chains = networks.data(network, NUM_SAMPLES), CHAINS[size]
            found, seconds = ours(network.model, data, number, chains)
            known = found.diagnostics
            rows.append(
                {
                    "class": size,
                    "number": number,
                    "widths": list(network.widths),
                    "ranks": list(network.ranks),
                    "parameters": network.num_parameters,
                    "chains": chains,
                    "exact_at_w": network.local,
                    "deepest_singularity": network.deepest,
                    "estimate": found.llc,
                    "standard_error": found.standard_error,
                    "relative_error": found.llc / network.local - 1,
                    "step_correction": known["step_correction"],
                    "homogeneity": known["homogeneity"],
                    "homogeneity_standard_error": known["homogeneity_standard_error"],
                    "largest_curvature": known["largest_curvature_at_centre"] * MILLION,
                    "verdict": known["verdict"],
                    "processor_seconds": seconds,
                    "date": datetime.date.today().isoformat(),
                    **check,
                }
            )
            print(rows[-1], flush=True)
    return rows


def peer_networks(
    rows: list[dict[str, Any]], wanted: dict[str, list[int]], python: str, multiple: float | None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The peer on some of the networks, its step chosen on two of the smallest unless given."""
    common = {
        "nbeta": MILLION, "localization": 1.0, "num_draws": 1800, "num_burnin": 600,
        "batch_size": BATCH, "num_samples": NUM_SAMPLES, "seed": 0, "threads": 1,
    }  # fmt: skip
    done = []
    sweep: dict[str, float] = {}
    with peer(python) as ask:

        def run(row: dict[str, Any], multiple: float) -> dict[str, Any]:
            step = multiple * 0.1 / row["largest_curvature"]
            answer = ask(
                size=row["class"], number=row["number"], lr=step,
                num_chains=CHAINS[row["class"]], **common,
            )  # fmt: skip
            llc = answer["llc"]
            error = None if llc is None else llc / row["exact_at_w"] - 1
            kept = {name: row[name] for name in ("class", "number", "exact_at_w")}
            found = {**kept, "multiple": multiple, "relative_error": error, "estimate": llc}
            return {**found, **answer}

        if multiple is None:
            smallest = [row for row in rows if row["class"] == "1k"][:2]
            for option in MULTIPLES:
                errors = [run(row, option)["relative_error"] for row in smallest]
                sizes = [math.inf if error is None else abs(error) for error in errors]
                sweep[str(option)] = float(np.median(sizes))
                print("step", option, sizes, flush=True)
            multiple = min(MULTIPLES, key=lambda option: sweep[str(option)])
        for row in rows:
            if row["number"] in wanted.get(row["class"], []):
                done.append(run(row, multiple))
                print(done[-1], flush=True)
    return done, sweep


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of both, the new ones in place of the old, by class and number."""
    table = {(row["class"], row["number"]): row for row in [*old, *new]}
    order = list(networks.CLASSES)
    return [table[key] for key in sorted(table, key=lambda key: (order.index(key[0]), key[1]))]


def _seconds(row: dict[str, Any]) -> float:
    """Of processor time; of earlier rows, taken by one thread alone, on the clock."""
    return float(row.get("processor_seconds", row.get("seconds")))


def scores(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median relative error, share within 15%, and share of pairs whose order is kept."""
    table = {}
    for size in [*networks.CLASSES, "all"]:
        chosen = [row for row in rows if size in (row["class"], "all")]
        if not chosen:
            continue
        sizes = [abs(row["relative_error"]) if row["relative_error"] is not None else math.inf
                 for row in chosen]  # fmt: skip
        truth = np.array([row["exact_at_w"] for row in chosen])
        found = np.array([row["estimate"] or math.nan for row in chosen])
        first, second = np.triu_indices(len(chosen), 1)
        apart = truth[first] != truth[second]
        kept = np.sign(truth[first] - truth[second]) == np.sign(found[first] - found[second])
        table[size] = {
            "networks": len(chosen),
            "median_relative_error": float(np.median(sizes)),
            "within_15_percent": float(np.mean(np.array(sizes) <= 0.15)),
            "order_kept": float(kept[apart].mean()) if apart.any() else None,
            "median_seconds": float(np.median([_seconds(row) for row in chosen])),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["crossings", "regression", "coverage", "networks", "peer"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--classes", nargs="+", choices=list(networks.CLASSES), default=None)
    parser.add_argument("--numbers", nargs="+", type=int, help="of the networks in each class")
    parser.add_argument("--multiple", type=float, help="the peer's step, instead of a sweep")
    parser.add_argument("--again", action="store_true", help="rows of coverage already there too")
    parser.add_argument("--peer-python", help="an interpreter that has devinterp 1.3.2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "llc_accuracy.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    sections = {"crossings": crossings, "regression": regression}
    for name, section in sections.items():
        if name in arguments.parts:
            figures[name] = section()
            save(figures)
    if "coverage" in arguments.parts:
        coverage(figures, arguments.again, save)
        save(figures)
    sizes = arguments.classes or list(networks.CLASSES)

    def chosen(counts: dict[str, int]) -> dict[str, list[int]]:
        return {size: arguments.numbers or list(range(counts[size])) for size in sizes}

    if "networks" in arguments.parts:
        found = compare_networks(chosen(COUNTS))
        figures["by_default"] = merged(figures.get("by_default", []), found)
        figures["scores_by_default"] = scores(figures["by_default"])
        save(figures)
    if "peer" in arguments.parts and arguments.peer_python:
        known = figures.get("peer", {})
        rows, sweep = peer_networks(
            figures["by_default"], chosen(PEER_COUNTS), arguments.peer_python, arguments.multiple
        )
        rows = merged(known.get("networks", []), rows)
        names = {(row["class"], row["number"]) for row in rows}
        same = [row for row in figures["by_default"] if (row["class"], row["number"]) in names]
        figures["peer"] = {
            "package": "devinterp 1.3.2",
            "median_error_by_multiple": sweep or known.get("median_error_by_multiple"),
            "networks": rows,
            "scores": scores(rows),
            "scores_of_ours_on_these": scores(same),
        }
        save(figures)
    print(json.dumps(figures.get("scores_by_default"), indent=1))
    print(json.dumps(figures.get("peer", {}).get("scores"), indent=1))


def save(figures: dict[str, Any]) -> None:
    sections = ("crossings", "regression", "coverage", "coverage_by_sampler", "networks", "scores",
                "by_default", "scores_by_default", "peer")  # fmt: skip
    kept = {name: figures[name] for name in sections if name in figures}
    write_result("llc_accuracy", COMMAND, kept, packages=("scipy",))


if __name__ == "__main__":
    main()
