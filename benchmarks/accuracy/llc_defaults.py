"""What `es.estimate_llc` says by itself, where the learning coefficient is known exactly.

    python -m benchmarks.accuracy.llc_defaults

Three minutes on one core. Expected: 20 of 20 cases pass, none wrongly called reliable. Writes
`results/llc_defaults.json`.

A crossing's truth is the expectation under the posterior at the localisation reported, by
quadrature; of the others it is the coefficient at a smooth point, half the codimension.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import emergence_stats as es
from benchmarks.accuracy import llc_networks as networks
from benchmarks.accuracy.llc_accuracy import MILLION, NUM_SAMPLES, _layers
from benchmarks.accuracy.llc_crossings import Crossing, by_quadrature, squared_output
from benchmarks.record import write_result

COMMAND = "python -m benchmarks.accuracy.llc_defaults"


class Case(NamedTuple):
    """A model at a minimum, and what is known there."""

    name: str
    model: nn.Module
    loss: Callable[..., Tensor]
    data: tuple[Tensor, ...]
    truth: Callable[[Any], float]  # of a result
    options: Mapping[str, float] = MappingProxyType({})


def crossings() -> Iterator[Case]:
    number = 1000
    scale = number / math.log(number)
    data = (torch.linspace(0.5, 1.5, number, dtype=torch.float64),)
    for a in range(1, 4):
        for b in range(a + 1):

            def truth(result: Any, a: int = a, b: int = b) -> float:
                return by_quadrature(a, b, scale, result.diagnostics["localisation"])

            yield Case(f"crossing {a} {b}", Crossing(a, b), squared_output, data, truth)


def regression() -> Iterator[Case]:
    cases = {1: (8, 6, 8, 2, (4, 4)), 2: (4, 4, 9, 2, (2, 4)), 3: (9, 4, 4, 2, (4, 2)),
             4: (4, 9, 4, 2, (4, 4))}  # fmt: skip
    for number, (m, h, n, r, ranks) in cases.items():
        first, second = _layers(np.random.default_rng([m, h, n]), m, h, n, r, ranks)
        model = nn.Sequential(nn.Linear(m, h, bias=False), nn.Linear(h, n, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(first)
            model[1].weight.copy_(second)
        value, _ = es.exact.reduced_rank_regression(m, h, n, r)
        network = networks.Network("", (m, h, n), ranks, model, value, value, h * (m + n))
        yield _of_network(f"reduced rank regression {number}", network)


def deep_networks() -> Iterator[Case]:
    for number in (0, 1, 3, 5):
        network = networks.draw("1k", number)
        yield _of_network(f"deep linear network {number}", network)


def _of_network(name: str, network: networks.Network) -> Case:
    data = networks.data(network, NUM_SAMPLES)
    heat = {"inverse_temperature": MILLION / NUM_SAMPLES}
    return Case(name, network.model, networks.loss, data, lambda _: network.local, heat)


def squared_error(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def regular() -> Iterator[Case]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2000, 10, generator=generator)
    targets = inputs.sum(1, keepdim=True) + 0.3 * torch.randn(2000, 1, generator=generator)
    few = nn.Linear(10, 1, bias=False)
    with torch.no_grad():
        few.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    yield Case("linear, 10", few, squared_error, (inputs, targets), lambda _: 5.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        many, tanh = nn.Linear(20, 10), nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    inputs = torch.randn(8192, 20, generator=generator)
    data = (inputs, many(inputs).detach())
    yield Case("linear, 210", many, squared_error, data, lambda _: 105.0)
    with torch.no_grad():
        tanh[0].weight.copy_(torch.tensor([[1.5, -0.7, 0.4], [-0.3, 0.9, 1.2]]))
        tanh[2].weight.copy_(torch.tensor([[1.3, -0.8]]))
    inputs = torch.randn(50_000, 3, generator=generator)
    data = (inputs, tanh(inputs).detach())
    yield Case("tanh network, 11", tanh, squared_error, data, lambda _: 5.5)


def judged(case: Case, result: Any, seconds: float) -> dict[str, Any]:
    truth = case.truth(result)
    error = result.llc - truth
    known = result.diagnostics
    return {
        "truth": truth,
        "estimate": result.llc,
        "standard_error": result.standard_error,
        "relative_error": error / truth,
        "in_standard_errors": error / result.standard_error,
        "passes": bool(abs(error) <= max(0.05 * truth, 2.0 * result.standard_error)),
        "verdict": known["verdict"],
        "wrongly_reliable": bool(
            known["verdict"] == "reliable" and abs(error) > 3.0 * result.standard_error
        ),
        "num_draws": known["num_draws"],
        "batch_size": known["batch_size"],
        "localisation": known["localisation"],
        "seconds": seconds,
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for cases in (regular, regression, deep_networks, crossings):
        for case in cases():
            start = time.process_time()
            result = es.estimate_llc(
                case.model, case.loss, case.data, progress=False, **case.options
            )
            row = {"case": case.name, **judged(case, result, time.process_time() - start)}
            rows.append(row)
            print(row, flush=True)
    counts = {name: sum(row[name] for row in rows) for name in ("passes", "wrongly_reliable")}
    counts["processor_seconds"] = sum(row["seconds"] for row in rows)
    print(len(rows), counts)
    write_result("llc_defaults", COMMAND, {"cases": len(rows), "counts": counts, "rows": rows})


if __name__ == "__main__":
    main()
