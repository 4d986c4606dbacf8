"""A model of two parameters with output w1^a w2^b, whose posterior is known by quadrature.

What lives here: the model, the exact expectation, and two parts of `llc_accuracy`: one long run for
each pair of exponents, and how often the intervals of short ones hold the exact value. What does
not: models whose coefficient alone is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import emergence_stats as es


class Crossing(nn.Module):
    """Output w1^a w2^b."""

    def __init__(self, a: int, b: int, start: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.a, self.b = a, b

    def forward(self) -> Tensor:
        return self.w[0] ** self.a * self.w[1] ** self.b


def squared_output(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    return model().square() * batch[0].mean()


def by_quadrature(
    a: int, b: int, scale: float, localisation: float, start: tuple[float, float] = (0.0, 0.0)
) -> float:
    """E[scale * (w1^a w2^b)^2] under the localised tempered posterior, on a logarithmic grid."""
    half = np.geomspace(1e-9, 12.0, 3001)
    points = np.concatenate([-half[::-1], half])
    weight = np.abs(points)  # dw = |w| d log w
    w1, w2 = points[:, None], points[None, :]
    loss = scale * (w1**a * w2**b) ** 2
    pull = 0.5 * localisation * ((w1 - start[0]) ** 2 + (w2 - start[1]) ** 2)
    mass = np.exp(-loss - pull) * weight[:, None] * weight[None, :]
    return float((loss * mass).sum() / mass.sum())


def crossings() -> list[dict[str, Any]]:
    number, localisation = 1000, 1.0
    scale = number / math.log(number)
    data = (torch.linspace(0.5, 1.5, number, dtype=torch.float64),)
    rows = []
    for a in range(4):
        for b in range(a + 1):
            if a == 0:
                continue
            found = es.estimate_llc(
                Crossing(a, b), squared_output, data, sampler="mala", num_chains=128,
                num_draws=3000, num_burnin=1000, localisation=localisation, step_size=0.01,
                progress=False,
            )  # fmt: skip
            value, multiplicity = es.exact.normal_crossing([2 * a, 2 * b])
            truth = by_quadrature(a, b, scale, localisation)
            relative = found.llc / truth - 1
            rows.append(
                {
                    "exponents": [a, b],
                    "asymptotic": value,
                    "multiplicity": multiplicity,
                    "with_multiplicity_term": value - (multiplicity - 1) / math.log(scale),
                    "exact_at_this_n": truth,
                    "estimate": found.llc,
                    "standard_error": found.standard_error,
                    "relative_error": relative,
                    "passes": abs(found.llc - truth) <= max(0.05 * truth, 2 * found.standard_error),
                    "verdict": found.diagnostics["verdict"],
                }
            )
            print(rows[-1], flush=True)
    return rows


def coverage(figures: dict[str, Any], again: bool, save: Callable[[dict[str, Any]], None]) -> None:
    """Estimates of four chains, each with settings, burn-in, interval and verdict of its own.

    Rows are added to the figures as they come; those there already stand unless wanted again.
    """
    number, localisation, estimates = 1000, 20.0, 120
    scale = number / math.log(number)
    data = (torch.linspace(0.5, 1.5, number, dtype=torch.float64),)
    known = [] if again else figures.get("coverage", [])
    known = [row for row in known if row["intervals"] == estimates and "reliable" in row]
    rows = figures["coverage"] = []
    for a, b, start in [
        (1, 0, (0.0, 0.0)),
        (1, 1, (0.0, 0.0)),
        (1, 1, (0.4, 0.0)),
        (1, 2, (0.5, 0.0)),
    ]:
        truth = by_quadrature(a, b, scale, localisation, start)
        for sampler in ("mala", "sgld", "sghmc", "baoab"):
            case = ([a, b], list(start), sampler)
            there = [
                row for row in known if (row["exponents"], row["start"], row["sampler"]) == case
            ]
            if there:
                rows += there
                continue
            found = [
                es.estimate_llc(
                    Crossing(a, b, start), squared_output, data, sampler=sampler, num_draws=800,
                    localisation=localisation, batch_size=200, seed=seed, progress=False,
                )
                for seed in range(estimates)
            ]  # fmt: skip
            intervals = [result.interval(0.9).values for result in found]
            inside = np.array([low < truth < high for low, high in intervals])
            verdicts = [result.diagnostics["verdict"] for result in found]
            reliable = np.array([verdict == "reliable" for verdict in verdicts])
            values = np.array([result.llc for result in found])
            rows.append(
                {
                    "exponents": [a, b],
                    "start": list(start),
                    "sampler": sampler,
                    "exact": truth,
                    "mean_of_all": float(values.mean()),
                    "its_standard_error": float(values.std(ddof=1) / len(values) ** 0.5),
                    "intervals": estimates,
                    "covered_90": float(inside.mean()),
                    "reliable": int(reliable.sum()),
                    "covered_90_of_reliable": float(inside[reliable].mean())
                    if reliable.any()
                    else None,
                    "mean_of_reliable": float(values[reliable].mean()) if reliable.any() else None,
                    "verdicts": {word: verdicts.count(word) for word in sorted(set(verdicts))},
                    "bias_to_asymptotic": truth - es.exact.normal_crossing([2 * a, 2 * b])[0],
                }
            )
            print(rows[-1], flush=True)
            figures["coverage_by_sampler"] = coverage_by_sampler(rows)
            save(figures)
    figures["coverage_by_sampler"] = coverage_by_sampler(rows)


def coverage_by_sampler(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of all 90% intervals of a sampler, and of those of estimates called reliable."""
    table = {}
    for sampler in dict.fromkeys(row["sampler"] for row in rows):
        chosen = [row for row in rows if row["sampler"] == sampler]
        count, reliable = (sum(row[name] for row in chosen) for name in ("intervals", "reliable"))
        inside = sum(row["covered_90"] * row["intervals"] for row in chosen)
        of_reliable = sum(
            (row["covered_90_of_reliable"] or 0.0) * row["reliable"] for row in chosen
        )
        table[sampler] = {
            "intervals": count,
            "covered_90": inside / count,
            "reliable": reliable,
            "covered_90_of_reliable": of_reliable / reliable if reliable else None,
        }
    return table
