"""How fast is a training step, beside the matrix-multiply rate and other arrangements?

    python -m benchmarks.speed.training_speed

Three minutes on two cores. Expected: 43% of the rate at width 64, 64% at width 128. Writes
`results/training_speed.json`.

Two seeds of the demo's network: `processes` (one single-threaded process a seed, as `train` does),
`sequential`, `ensemble` (both as one batch by `torch.func.vmap`), `compiled` (`torch.compile`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import write_result
from simulator.data.transitions import Transitions
from simulator.training.checkpoints import build_model
from simulator.training.config import TrainingConfig, preset
from simulator.training.evaluation import mean_loss
from simulator.training.loop import make_optimiser

SEEDS = 2
SECONDS = 6.0


def make_step(config: TrainingConfig, *, compiled: bool = False):
    torch.manual_seed(0)
    model = build_model(config)
    optimiser = make_optimiser(model, config)
    shape = (config.batch_size, config.num_particles, 2 * config.dimension)
    batch = Transitions(torch.randn(shape), torch.randn(shape))
    forward = torch.compile(model) if compiled else model
    target = model.normalised_change(batch.changes)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.mse_loss(forward(batch.states), target).backward()
        optimiser.step()

    return step


def make_ensemble_step(config: TrainingConfig):
    models = [build_model(config) for _ in range(SEEDS)]
    parameters, buffers = torch.func.stack_module_state(models)
    parameters = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    optimiser = torch.optim.Adam(list(parameters.values()), lr=config.learning_rate, fused=True)
    shape = (SEEDS, config.batch_size, config.num_particles, 2 * config.dimension)
    states, changes = torch.randn(shape), torch.randn(shape)

    def loss(parameters, buffers, states, changes):
        answer = torch.func.functional_call(models[0], (parameters, buffers), (states,))
        return torch.nn.functional.mse_loss(answer, changes)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.vmap(loss)(parameters, buffers, states, changes).sum().backward()
        optimiser.step()

    return step


def operations(config: TrainingConfig) -> int:
    """Floating-point operations of one step of one seed, without the optimiser's few."""
    model = build_model(config)
    shape = (config.batch_size, config.num_particles, 2 * config.dimension)
    with FlopCounterMode(display=False) as counter:
        mean_loss(model, Transitions(torch.randn(shape), torch.randn(shape))).backward()
    return counter.get_total_flops()


def rate(step, seconds: float = SECONDS) -> float:
    """Calls a second, after a warm-up."""
    for _ in range(5):
        step()
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        calls += 1
    return calls / (time.perf_counter() - start)


def matrix_multiply_rate() -> float:
    """Operations a second of the fastest of three square products."""
    best = 0.0
    for size in (512, 1024, 2048):
        left, right = torch.randn(size, size), torch.randn(size, size)
        best = max(best, 2 * size**3 * rate(lambda a=left, b=right: a @ b, 2.0))
    return best


def worker(kind: str, config: TrainingConfig) -> dict[str, float]:
    if kind == "matrix_multiply":
        return {"rate": matrix_multiply_rate()}
    start = time.perf_counter()
    step = make_step(config, compiled=kind == "compiled")
    step()
    first = time.perf_counter() - start
    return {"rate": rate(step), "first_step_seconds": first}


def in_processes(kind: str, config: TrainingConfig) -> list[dict[str, float]]:
    """The same worker in one single-threaded process for each seed, all at once."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.training_speed",
        "--worker",
        kind,
        config.to_json(),
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(SEEDS)
    ]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]


def measure(config: TrainingConfig) -> dict[str, float]:
    flops = operations(config)
    peak = sum(one["rate"] for one in in_processes("matrix_multiply", config))
    arrangements = {
        "processes": sum(one["rate"] for one in in_processes("processes", config)),
        "sequential": rate(make_step(config)),
        "ensemble": SEEDS * rate(make_ensemble_step(config)),
    }
    result = {
        "width": config.width,
        "operations_per_step": flops,
        "matrix_multiply_operations_per_second": peak,
    }
    try:
        compiled = in_processes("compiled", config)
        arrangements["compiled"] = sum(one["rate"] for one in compiled)
        result["compilation_seconds"] = max(one["first_step_seconds"] for one in compiled)
    except (IndexError, json.JSONDecodeError):  # torch.compile needs a C++ compiler
        result["compilation_seconds"] = float("nan")
    for name, steps in arrangements.items():
        result[f"{name}_steps_per_second"] = steps
        result[f"{name}_share_of_matrix_multiply_rate"] = steps * flops / peak
    return result


def main() -> None:
    if "--worker" in sys.argv:
        torch.set_num_threads(1)
        kind, fields = sys.argv[-2:]
        values = json.loads(fields)
        config = TrainingConfig(**{**values, "seeds": tuple(values["seeds"])})
        print(json.dumps(worker(kind, config)))
        return
    demo = preset("demo")
    rows = [measure(demo), measure(demo.replace(width=128, num_heads=8))]
    for row in rows:
        for name, value in row.items():
            print(f"{name:55s} {value:.4g}")
        print()
    write_result("training_speed", "python -m benchmarks.speed.training_speed", {"networks": rows})


if __name__ == "__main__":
    main()
