"""What `es.estimate_llc` says of the models people train, and what that costs.

    python -m benchmarks.accuracy.library_checkpoints [--cases ...]

Half an hour on one core; needs transformers, timm and scikit-learn. Expected: defaults within three
times the processor time of 4 x 500 plain SGLD steps at batch 64, an answer to 10% within one and a
half, and each within its interval of a run of the whole data. Writes
`results/library_checkpoints.json`; rows of cases that are not run are kept.

- *plain*: 2,000 steps of SGLD as anyone would write them, 100 of which are timed.
- *whole data*: the same question asked of BAOAB with every sample in every step, and of a tenth of
  the default's step: no minibatch noise, and hardly an error of the step.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import emergence_stats as es
from benchmarks.library_models import CASES, Case, plain_sgld, trained
from benchmarks.record import RESULTS, write_result

COMMAND = "python -m benchmarks.accuracy.library_checkpoints"
FOLDER = Path(tempfile.gettempdir()) / "library-models"
STEPS = 2000  # of which one unit of cost is made


def timed(case: Case, **options: Any) -> tuple[es.LLC, float]:
    """An estimate and its processor seconds."""
    begun = time.process_time()
    found = es.estimate_llc(case.model, case.loss, case.data, progress=False, **options)
    return found, time.process_time() - begun


def measure(name: str, whole: bool) -> dict[str, Any]:
    """One model."""
    case = trained(name, FOLDER)
    timed(case, num_draws=4, num_burnin=1)  # what only a first call has to load
    plain_sgld(case, 10, 1e-7, 1.0)
    unit = plain_sgld(case, 100, 1e-7, 1.0) * STEPS / 100
    result, seconds = timed(case)
    d = result.diagnostics
    low, high = result.interval().values
    row = {
        "parameters": d["num_parameters"],
        "samples": d["num_samples"],
        "loss": d["initial_loss"],
        "plain_seconds": unit,
        "seconds": seconds,
        "over_plain": seconds / unit,
        "llc": result.llc,
        "standard_error": result.standard_error,
        "interval": [float(low), float(high)],
        "judgement": result.judgement,
        "reasons": d["reasons"],
        "localisation": d["localisation"],
        "localisation_because": d["chosen"]["localisation"],
        "draws": d["num_draws"],
        "batch": d["batch_size"],
        "step_correction": d["step_correction"],
        "rhat": d["rhat"],
    }
    rough, quick = timed(case, target_standard_error=0.1 * abs(result.llc), seed=1)
    row |= {"rough_llc": rough.llc, "rough_standard_error": rough.standard_error}
    row |= {"rough_over_plain": quick / unit}
    if whole:
        other = one_of_whole_data(case, result)
        row |= {"whole_llc": other.llc, "whole_standard_error": other.standard_error}
        error = math.hypot(other.standard_error, result.standard_error)
        row["apart_in_standard_errors"] = (result.llc - other.llc) / error
    return row


def by_localisation(case: Case, near: float) -> list[dict[str, float]]:
    """The estimate from a sixteenth of the near localisation to sixteen times as much."""
    rows = []
    for times in (16.0, 4.0, 1.0, 0.25, 0.0625):
        found, _ = timed(case, localisation=times * near)
        rows.append({"times_near": times, "llc": found.llc, "error": found.standard_error})
    return rows


def one_of_whole_data(case: Case, result: es.LLC) -> es.LLC:
    """Chains of BAOAB that see all samples, at the same localisation."""
    d = result.diagnostics
    return es.estimate_llc(
        case.model, case.loss, case.data, sampler="baoab", localisation=d["localisation"],
        step_size=0.3 * d["step_size"], batch_size=d["num_samples"], num_chains=2, num_draws=240,
        seed=7, progress=False,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--no-whole", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "library_checkpoints.json"
    rows = json.loads(path.read_text())["models"] if path.exists() else {}
    for name in arguments.cases:
        rows[name] = measure(name, not arguments.no_whole)
        if name == "perceptron":
            near = rows[name]["localisation"]
            rows[name]["by_localisation"] = by_localisation(trained(name, FOLDER), near)
        print(name, json.dumps(rows[name]), flush=True)
        write_result("library_checkpoints", COMMAND, {"models": rows}, ("transformers", "timm"))


if __name__ == "__main__":
    main()
