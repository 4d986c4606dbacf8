"""Training one seed: the loop, and what one step of it is.

What lives here: `train_seed`, which takes one run from its first step, or from where it was
stopped, to its last. What does not: what is measured (`evaluation`), the processes that train runs
(`workers`), the folder they share and its locks (`folder`, `runs`).

A run is a function of its configuration and its seed alone: the order of the data is drawn afresh
for each epoch from the two, so a run that was killed continues as if it had not been.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emergence_stats.data.trajectory import write_step
from emergence_stats.errors import InputError
from simulator.data.transitions import Transitions
from simulator.network.model import ParticleTransformer
from simulator.training.checkpoints import (
    build_model,
    checkpoint_path,
    load_latest,
    run_folder,
    save_checkpoint,
    save_latest,
)
from simulator.training.config import TrainingConfig, read_configuration
from simulator.training.evaluation import evaluate, mean_loss
from simulator.training.folder import PARTS, transitions

INTERRUPTED = 130  # what a shell reports for a command ended by Ctrl-C
DIVERGED = 3


def begin_model(config: TrainingConfig, seed: int, train: Transitions) -> ParticleTransformer:
    """The untrained network of a seed, with the scales of the data it will learn from."""
    torch.manual_seed(seed)
    model = build_model(config)
    model.set_scales(train.states.cpu(), train.changes.cpu())
    return model


def make_optimiser(model: ParticleTransformer, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser a configuration names."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=rate, momentum=config.momentum, weight_decay=decay
        )
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=rate, weight_decay=decay, fused=True)


def draw_batch(config: TrainingConfig, seed: int, step: int, train: Transitions) -> Transitions:
    """The batch of one step: each epoch is a permutation of its own."""
    per_epoch = len(train) // config.batch_size
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(len(train))
    start = position * config.batch_size
    index = torch.from_numpy(order[start : start + config.batch_size])
    return train.take(index.to(train.states.device))


def take_step(
    model: ParticleTransformer,
    optimiser: torch.optim.Optimizer,
    config: TrainingConfig,
    step: int,
    batch: Transitions,
) -> None:
    """The update that leads from `step` to the next.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate_at(step)
    loss = mean_loss(model, batch)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss became {loss.item()}")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def choose_device(name: str) -> torch.device:
    """The device a configuration means."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: 'cuda' was asked for and PyTorch sees no GPU; use 'cpu'")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Computes with a single thread, so that a result does not depend on the number of cores.

    At these sizes a second thread adds nothing to one run, and a second process a whole run.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train_seed(
    output: Path,
    seed: int,
    *,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Takes one seed of a prepared folder from where it stands to its last step.

    Parameters
    ----------
    output : Path
        A folder laid out by `folder.prepare`.
    seed : int
        One of the configuration's seeds.
    report : callable
        Called with `step` and, after each evaluation, the loss and the largest score.
    stop : callable
        Asked before each step; when true the state is saved and the run ends.

    Returns
    -------
    int
        0 when finished, `INTERRUPTED` or `DIVERGED` otherwise.
    """
    config = read_configuration(output / "configuration.json")
    device = choose_device(config.device)
    folder = run_folder(output, seed)
    run_index, store = config.seeds.index(seed), output / "trajectory.zarr"
    evaluations = {int(step): index for index, step in enumerate(config.evaluation_steps())}
    train, test = (transitions(config, part, output).to(device) for part in PARTS)
    watched, held_out = (part.spread(config.evaluation_samples) for part in (train, test))
    model = begin_model(config, seed, train).to(device)
    optimiser = make_optimiser(model, config)
    state = load_latest(folder / "latest.pt")
    start, evaluated = 0, -1
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        start, evaluated = state["step"], state["evaluated"]

    def save(step: int) -> None:
        save_latest(
            folder / "latest.pt",
            {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "evaluated": evaluated,
            },
        )

    for step in range(start, config.num_steps + 1):
        try:
            if step in evaluations and step > evaluated:
                values = evaluate(model, watched, held_out, config, step)
                # The scores first and the state to resume from last: a kill in between repeats
                # this evaluation, and repeats it exactly.
                write_step(store, run_index=run_index, step_index=evaluations[step], values=values)
                save_checkpoint(model, checkpoint_path(output, seed, step))
                evaluated = step
                save(step)
                score = float(np.nanmax(values["collision_score"]))
                report({"step": step, "test_loss": float(values["test_loss"]), "score": score})
            if step == config.num_steps:
                break
            if stop():
                save(step)
                return INTERRUPTED
            take_step(model, optimiser, config, step, draw_batch(config, seed, step, train))
        except FloatingPointError as error:
            reason = (
                f"seed {seed}: {error} at step {step}; everything up to step {evaluated} is kept; "
                f"lower learning_rate (now {config.learning_rate}) and train into a new folder"
            )
            (folder / "stopped.json").write_text(json.dumps({"step": step, "reason": reason}))
            report({"step": step, "stopped": reason})
            return DIVERGED
        if step % 10 == 0:
            report({"step": step})
    return 0
