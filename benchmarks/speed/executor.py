"""Does it pay to list a gradient's operators, beside what PyTorch does by itself?

    python -m benchmarks.speed.executor

Twenty minutes on two cores, and transformers, timm and scikit-learn. Writes
`results/executor.json`; what follows from it is in `results/executor.md`. Expected: whole estimates
of small transformers 1.2 to 1.4 times as fast by the graph as plain.

The same estimates, with the same seeds and settings, in a process of its own each:

- plain: `torch.func`, chains together or in sequence as the landscape chooses;
- stacked: together with `vmap` wherever that works;
- compile: `torch.compile` of the same, from the ninth call with the same shapes on;
- graph: the operators that `make_fx` lists, from the ninth call on (the default on a CPU).

Times are of the whole `estimate_llc`; steps a second are those of the second half of its steps;
memory is the most the process ever held. Rows of a variant that is not run are kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, write_result
from benchmarks.speed.executor_models import CASES, case

VARIANTS = ("plain", "stacked", "compile", "graph")
COMMAND = "python -m benchmarks.speed.executor"
LIMIT = 100.0  # seconds a case


def use(variant: str) -> None:
    """Let estimates in this process evaluate gradients that way."""
    from emergence_stats.degeneracy.executor import choice
    from emergence_stats.degeneracy.executor.graph import GraphExecutor
    from emergence_stats.degeneracy.executor.plain import PlainExecutor

    if variant in ("plain", "stacked"):
        GraphExecutor._evaluate = PlainExecutor._evaluate  # type: ignore[method-assign]
    if variant == "stacked":
        choice._STACKING_PAYS_BELOW = float("inf")
    if variant == "compile":

        def compiled(self: Any, run: Any, spec: Any, positions: Any, leaves: Any) -> Any:
            quick = torch.compile(run, dynamic=False)
            return lambda positions, *leaves: quick(
                positions, torch.utils._pytree.tree_unflatten(leaves, spec)
            )

        GraphExecutor._traced = compiled  # type: ignore[method-assign]


def measure(name: str, variant: str, sampler: str, folder: str) -> None:
    """One estimate, in a process of its own."""
    from emergence_stats import estimate_llc
    from emergence_stats.degeneracy.chains import Chains

    use(variant)
    model, loss, data, draws, batch, _ = case(name, Path(folder))
    options: dict[str, Any] = {"num_draws": draws, "batch_size": batch, "progress": False}
    if sampler != "default":
        options["sampler"] = sampler
    taken: list[float] = []
    step = Chains._step

    def timed(self: Any) -> Any:
        begun = time.perf_counter()
        info = step(self)
        taken.append((time.perf_counter() - begun) / len(info.excess_loss))
        return info

    Chains._step = timed  # type: ignore[method-assign]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, busy = time.perf_counter(), time.process_time()
    found = estimate_llc(model, loss, data, **options)
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    later = taken[len(taken) // 2 :]
    row = {
        "draws": draws,
        "seconds": seconds,
        "processor_seconds": busy,
        "chain_steps_per_second": len(later) / sum(later),
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
    code = f"from benchmarks.speed.executor import measure; measure{name, variant, sampler, folder}"
    head = {"case": name, "sampler": sampler, "variant": variant}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {**head, "failed": f"did not finish in {LIMIT:.0f} s"}
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
    known = json.loads(path.read_text()) if path.exists() else {}
    rows = {(row["case"], row["sampler"], row["variant"]): row for row in known.get("rows", [])}
    kept = {name: one for name, one in known.items() if name.startswith(("sampler", "matrix"))}
    folder = str(Path(tempfile.gettempdir()) / "executor-models")
    for sampler in arguments.samplers:
        for name in arguments.cases:
            for variant in arguments.variants:
                rate = matrix_rate() / 1e9
                row = {**asked(name, variant, sampler, folder), "matrix_multiply_gflops": rate}
                rows[name, sampler, variant] = row
                print(json.dumps(row), flush=True)
                figures = {"threads": torch.get_num_threads(), "rows": list(rows.values()), **kept}
                write_result("executor", COMMAND, figures)


if __name__ == "__main__":
    main()
