"""Does it pay to take a gradient's operators apart, beside what PyTorch does by itself?

Run with ``python -m benchmarks.executor`` (half an hour on two cores); it needs transformers, timm
and scikit-learn. Writes ``benchmarks/results/executor.json`` and ``executor.md``.

The same estimates, with the same seeds and settings, in a process of its own each, by losses and
gradients from

- plain: `torch.func`'s ``vmap(grad_and_value)``, or one chain after another where that is what the
  landscape chooses;
- stacked: the same, together wherever `vmap` can;
- threads: the same, chains shared out between threads, each with a copy of the model;
- compile: `torch.compile` of the same, from the ninth call with the same shapes on;
- graph: the operators that `make_fx` finds, called as they are, from the ninth call on;
- executor: these operators one by one in memory laid out once, with threads that share the chains
  (up to commit 17842dc).

Times are of the whole `estimate_llc`; steps a second are those of the second half of each run of
chains, in which everything is traced; memory is the most the process ever held.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.executor_models import CASES, case
from benchmarks.record import RESULTS, write_result

VARIANTS = ("plain", "stacked", "threads", "compile", "graph", "graph threads", "executor")
COMMAND = "python -m benchmarks.executor"
LIMIT = 70.0  # seconds a case


def use(variant: str) -> None:
    """Let estimates in this process evaluate gradients that way."""
    from emergence_stats.degeneracy import gradients, landscape, lanes, tracing

    if variant == "executor":
        return
    once = tracing.TracedWhenRepeated.__call__
    landscape.LossLandscape._pieces = lambda self, chains, rows: 1  # type: ignore[method-assign]
    if not variant.endswith("threads"):
        lanes._threads = lambda *_: 1  # type: ignore[assignment]
    if variant == "stacked":
        gradients._STACKING_PAYS_BELOW = float("inf")
    if variant == "threads":
        lanes._Lane.traced = property(lambda self: True)  # type: ignore[assignment,method-assign]
        gradients.Gradients.beside = beside  # type: ignore[method-assign]
    if variant in ("plain", "stacked", "threads"):

        def plain(self: Any, positions: Any, index: Any, pieces: int = 1, *, at_once: bool = False):
            with torch.no_grad():
                return self._as_it_is(positions, index)

        tracing.TracedWhenRepeated.__call__ = plain  # type: ignore[method-assign]
        return

    if variant == "graph threads":
        gradients.Gradients.beside = lambda self: self  # type: ignore[method-assign]

        def traced(self: Any, *shapes: Any) -> bool:
            found = self._traces.get(tuple(map(torch.Size, shapes[:2])))
            return found is not None and found != self._as_it_is

        tracing.TracedWhenRepeated.is_traced = traced  # type: ignore[method-assign]

    def refuse(*_: Any) -> None:
        raise ValueError

    tracing.recorded = refuse  # type: ignore[assignment]
    if variant == "compile":

        def compiled(self: Any, positions: Any, index: Any) -> Any:
            self._compiled = torch.compile(self._run, dynamic=False)
            return lambda positions, index: self._compiled(positions, self._samples.take(index))

        tracing.TracedWhenRepeated._traced = compiled  # type: ignore[method-assign]
    assert once is tracing.TracedWhenRepeated.__call__


def beside(self: Any) -> Any:
    """Gradients for another thread: of a copy of the model, whose parameters are swapped."""
    from emergence_stats.degeneracy.gradients import Gradients

    return Gradients(copy.deepcopy(self._one.__self__).and_gradient, self._samples)


def measure(name: str, variant: str, sampler: str, folder: str) -> None:
    """One estimate, in a process of its own."""
    from emergence_stats import estimate_llc
    from emergence_stats.degeneracy import lanes

    use(variant)
    model, loss, data, draws, batch, _ = case(name, Path(folder))
    options: dict[str, Any] = {"num_draws": draws, "batch_size": batch, "progress": False}
    if sampler != "default":
        options["sampler"] = sampler
    taken: list[tuple[float, int]] = []
    steps = lanes.Lanes.steps

    def timed(self: Any, wanted: Any) -> Any:
        begun = time.perf_counter()
        found = steps(self, wanted)
        number = sum(one.steps for one in wanted) * sum(len(one.position) for one in self.states)
        taken.append((time.perf_counter() - begun, number))
        return found

    lanes.Lanes.steps = timed  # type: ignore[method-assign]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, busy = time.perf_counter(), time.process_time()
    found = estimate_llc(model, loss, data, **options)
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    later = taken[len(taken) // 2 :]
    row = {
        "seconds": seconds,
        "processor_seconds": busy,
        "chain_steps_per_second": sum(one[1] for one in later) / sum(one[0] for one in later),
        "most_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "of_which_before_mib": before / 1024,
        "llc": float(found.llc),
        "standard_error": float(found.standard_error),
        "parameters": sum(one.numel() for one in model.parameters()),
        "evaluated": found.diagnostics["chosen"].get("chains"),
    }
    print(json.dumps(row))


def asked(name: str, variant: str, sampler: str, folder: str) -> dict[str, Any]:
    """`measure` in a fresh process, or what became of it."""
    code = f"from benchmarks.executor import measure; measure{name, variant, sampler, folder}"
    head = {"case": name, "sampler": sampler, "variant": variant}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {**head, "failed": "did not finish"}
    if done.returncode:
        return {**head, "failed": done.stderr.strip().splitlines()[-1][:200]}
    return {**head, **json.loads(done.stdout.splitlines()[-1])}


def matrix_rate() -> float:
    """Floating-point operations a second of a large product in single precision."""
    left, best = torch.randn(1024, 1024), 0.0
    for _ in range(10):
        begun = time.perf_counter()
        left @ left
        best = max(best, 2 * 1024**3 / (time.perf_counter() - begun))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--samplers", nargs="*", default=["sgld"])
    arguments = parser.parse_args()
    path = RESULTS / "executor.json"
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = {(row["case"], row["sampler"], row["variant"]): row for row in known}
    folder = str(Path(tempfile.gettempdir()) / "executor-models")
    for sampler in arguments.samplers:
        for name in arguments.cases:
            for variant in arguments.variants:
                time.sleep(20.0)
                row = asked(name, variant, sampler, folder)
                rows[name, sampler, variant] = row
                print(json.dumps(row), flush=True)
                figures = {"threads": torch.get_num_threads(), "rows": list(rows.values())}
                rate = matrix_rate() / 1e9
                write_result("executor", COMMAND, {"matrix_multiply_gflops": rate, **figures})


if __name__ == "__main__":
    main()
