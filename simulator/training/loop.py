"""Training one seed: the loop, and what is measured along it.

What lives here: `train_seed`, which takes one run from its first step, or from where it was
stopped, to its last; and `evaluate`. What does not: the processes that train runs (`workers`), the
folder they share and its locks (`runs`).

A run is a function of its configuration and its seed alone: the order of the data is drawn afresh
for each epoch from the two, so a run that was killed continues as if it had not been.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from emergence_stats.data.trajectory import write_step
from emergence_stats.errors import InputError
from simulator.data.generation import open_transitions
from simulator.network.heads import attention_distance_correlation, collision_score
from simulator.network.model import ParticleTransformer
from simulator.training.checkpoints import (
    build_model,
    checkpoint_path,
    load_latest,
    run_folder,
    save_checkpoint,
    save_latest,
    to_device,
)
from simulator.training.config import TrainingConfig, read_configuration

INTERRUPTED = 130  # what a shell reports for a command ended by Ctrl-C
DIVERGED = 3


@dataclass(frozen=True)
class Transitions:
    """States and what they change to, as tensors.

    Attributes
    ----------
    states : Tensor, shape (sample, particle, 2 * axis)
        Positions and velocities.
    changes : Tensor, shape (sample, particle, 2 * axis)
        Displacement and velocity change over one interval.
    """

    states: Tensor
    changes: Tensor

    @classmethod
    def of(cls, dataset: xr.Dataset) -> Transitions:
        """From a dataset of `simulator.data.generation`."""

        def joined(first: str, second: str) -> Tensor:
            parts = [torch.from_numpy(np.array(dataset[name].values)) for name in (first, second)]
            return torch.cat(parts, dim=-1).float()

        return cls(joined("position", "velocity"), joined("displacement", "velocity_change"))

    def __len__(self) -> int:
        return len(self.states)

    def take(self, index: Tensor) -> Transitions:
        """Some of the samples."""
        return Transitions(self.states[index], self.changes[index])

    def spread(self, number: int) -> Transitions:
        """At most `number` samples, evenly spaced and so from as many systems as possible."""
        index = torch.linspace(0, len(self) - 1, min(number, len(self))).round().long()
        return self.take(index)

    def to(self, device: torch.device) -> Transitions:
        """The same on another device."""
        return Transitions(self.states.to(device), self.changes.to(device))


def training_data(output: Path, config: TrainingConfig) -> Transitions:
    """What the runs of a folder are trained on: its transitions, shuffled where it says so."""
    return as_trained(Transitions.of(open_transitions(output / "data" / "train.zarr")), config)


def as_trained(data: Transitions, config: TrainingConfig) -> Transitions:
    """The transitions, or with `shuffled_labels` each state with the changes of another sample.

    Whole samples are exchanged, so the changes of one box stay together and their distribution is
    kept; what is lost is that they follow from the state. The held-out data are never shuffled.
    """
    if not config.shuffled_labels:
        return data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(config.data_seed))
    return Transitions(data.states, data.changes[order])


def mean_loss(model: ParticleTransformer, batch: Transitions) -> Tensor:
    """Mean squared error in units of the training set's standard deviations; 1 is the mean's."""
    return functional.mse_loss(model(batch.states), model.normalised_change(batch.changes))


def distance_edges(config: TrainingConfig) -> np.ndarray:
    """Bin edges of the attention-distance correlation, in diameters.

    The first bin begins a little below contact, where touching particles overlap; the last ends
    short of the box diagonal, beyond which pairs are too rare to average over.
    """
    longest = 0.8 * config.box * np.sqrt(config.dimension) / (2 * config.radius)
    return np.linspace(0.9, longest, config.distance_bins + 1)


@torch.no_grad()
def evaluate(
    model: ParticleTransformer,
    train: Transitions,
    test: Transitions,
    config: TrainingConfig,
    step: int,
) -> dict[str, np.ndarray]:
    """Everything the trajectory records at one step, by variable name.

    Raises
    ------
    FloatingPointError
        If a loss is not finite.
    """
    values: dict[str, np.ndarray] = {}
    for name, data in (("train", train), ("test", test)):
        if name == "test":
            answer, attention = model.attend(data.states)
        else:
            answer = model(data.states)
        error = (answer - model.normalised_change(data.changes)) ** 2
        losses = error.mean((1, 2))  # (sample,)
        if not torch.isfinite(losses).all():
            raise FloatingPointError(f"the {name} loss became {losses.mean().item()}")
        values[f"{name}_loss"] = losses.mean().cpu().numpy()
        values[f"{name}_loss_sd"] = (losses.std() / len(losses) ** 0.5).cpu().numpy()
    weights = attention.weights.cpu().numpy()
    positions = test.states[..., : config.dimension].cpu().numpy()
    diameter = 2 * config.radius
    scores = xr.merge(
        [
            collision_score(
                weights, positions, diameter=diameter, contact_range=config.contact_range
            ),
            attention_distance_correlation(
                weights, positions, diameter=diameter, edges=distance_edges(config)
            ),
        ]
    )
    values.update({str(name): variable.values for name, variable in scores.items()})
    values["learning_rate"] = np.asarray(config.learning_rate_at(min(step, config.num_steps - 1)))
    return values


def make_optimiser(model: ParticleTransformer, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser a configuration names."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=rate, momentum=config.momentum, weight_decay=decay
        )
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=rate, weight_decay=decay, fused=True)


def batch_index(config: TrainingConfig, seed: int, step: int, size: int) -> Tensor:
    """Which samples make up the batch of one step: each epoch is a permutation of its own."""
    per_epoch = size // config.batch_size
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(size)
    start = position * config.batch_size
    return torch.from_numpy(order[start : start + config.batch_size])


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

    At these sizes a second thread adds nothing to one run, and a second process a whole run
    (benchmarks/speed/training_speed.py).
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
        A folder laid out by `runs.prepare`.
    seed : int
        One of the configuration's seeds.
    report : callable
        Called with `step` and, after each evaluation, the losses and the largest score.
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
    train = training_data(output, config).to(device)
    test = Transitions.of(open_transitions(output / "data" / "test.zarr")).to(device)
    watched, held_out = (part.spread(config.evaluation_samples) for part in (train, test))

    torch.manual_seed(seed)
    model = build_model(config)
    model.set_scales(train.states.cpu(), train.changes.cpu())
    model.to(device)
    optimiser = make_optimiser(model, config)
    state = load_latest(folder / "latest.pt")
    start, evaluated = 0, -1
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(to_device(state["optimiser"], device))
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

    def diverged(step: int, what: str) -> int:
        reason = (
            f"seed {seed}: {what} at step {step}; everything up to step {evaluated} is kept; "
            f"lower learning_rate (now {config.learning_rate}) and train into a new folder"
        )
        (folder / "stopped.json").write_text(json.dumps({"step": step, "reason": reason}))
        report({"step": step, "stopped": reason})
        return DIVERGED

    for step in range(start, config.num_steps + 1):
        if step in evaluations and step > evaluated:
            try:
                values = evaluate(model, watched, held_out, config, step)
            except FloatingPointError as error:
                return diverged(step, str(error))
            # The scores first and the state to resume from last: a kill in between repeats this
            # evaluation, and repeats it exactly.
            write_step(store, run_index=run_index, step_index=evaluations[step], values=values)
            save_checkpoint(model, checkpoint_path(output, seed, step))
            evaluated = step
            save(step)
            report(
                {
                    "step": step,
                    "test_loss": float(values["test_loss"]),
                    "score": float(np.nanmax(values["collision_score"])),
                }
            )
        if step == config.num_steps:
            break
        if stop():
            save(step)
            return INTERRUPTED
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate_at(step)
        batch = train.take(batch_index(config, seed, step, len(train)).to(device))
        loss = mean_loss(model, batch)
        if not torch.isfinite(loss):
            return diverged(step, f"the loss became {loss.item()}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step % 10 == 0:
            report({"step": step})
    return 0
