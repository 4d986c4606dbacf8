"""devinterp 1.3.2 on the same networks: one job a line on standard input, one answer a line.

What lives here: the peer's side of `llc_accuracy` and `llc_speed`. What does not: its choice of
settings, which comes with each job. Runs in whatever environment holds devinterp, beside this
repository or in an interpreter of its own (`--peer-python` of those two); `ask` starts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy import llc_networks as networks


@contextmanager
def peer(python: str) -> Iterator[Any]:
    """A function that takes a job to a process of its own and brings the answer back."""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [python, "-m", "benchmarks.accuracy.llc_peer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(**job: Any) -> dict[str, Any]:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{python} ended; does it hold devinterp 1.3.2?")
        return json.loads(line)

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait()


def evaluate(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """The loss in the form devinterp asks for."""
    return networks.loss(model, batch), {}


def estimate(job: dict[str, Any]) -> dict[str, Any]:
    """RMSprop-SGLD of devinterp with its defaults but for what the job sets."""
    from devinterp.optim.sgmcmc import SGMCMC
    from devinterp.slt.sampler import estimate_learning_coeff_with_summary
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(job["threads"])
    if "widths" in job:
        layers = [torch.nn.Linear(a, b, bias=False) for a, b in job["widths"]]
        model: torch.nn.Module = torch.nn.Sequential(*layers)
        inputs = torch.randn(job["num_samples"], job["widths"][0][0])
        data = (inputs, model(inputs).detach())
    else:
        network = networks.draw(job["size"], job["number"])
        model, data = network.model, networks.data(network, job["num_samples"])
    loader = DataLoader(TensorDataset(*data), batch_size=job["batch_size"], shuffle=True)
    start, busy = time.perf_counter(), time.process_time()
    try:
        found = estimate_learning_coeff_with_summary(
            model,
            loader=loader,
            evaluate=evaluate,
            sampling_method=SGMCMC.rmsprop_sgld,
            optimizer_kwargs={
                "lr": job["lr"],
                "nbeta": job["nbeta"],
                "localization": job["localization"],
            },
            num_draws=job["num_draws"],
            num_burnin_steps=job["num_burnin"],
            num_chains=job["num_chains"],
            init_loss=1e-30,  # exact at w*, and zero is taken for missing
            device=torch.device("cpu"),
            seed=job["seed"],
            verbose=False,
        )
        llc = float(found["llc/mean"])
    except RuntimeError:  # "NaN detected"
        llc = float("nan")
    return {
        "llc": llc if llc == llc else None,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - busy,
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints, prints elsewhere
    for line in sys.stdin:
        answers.write(json.dumps(estimate(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
