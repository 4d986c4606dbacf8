"""What is measured of a network along its training.

What lives here: the loss, everything a trajectory records at one step, and what a trajectory is
made of. What does not: when it is measured (`loop`), and the scores themselves (`network.heads`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

import emergence_stats
from simulator.data.transitions import Transitions
from simulator.network.heads import attention_distance_correlation, collision_score
from simulator.network.model import ParticleTransformer
from simulator.training.config import TrainingConfig


def mean_loss(model: ParticleTransformer, batch: Transitions) -> Tensor:
    """Mean squared error in units of the training set's standard deviations; 1 is the mean's."""
    return functional.mse_loss(model(batch.states), model.normalised_change(batch.changes))


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
    scores = _score_heads(attention.weights.cpu().numpy(), test, config)
    values.update({str(name): variable.values for name, variable in scores.items()})
    values["learning_rate"] = np.asarray(config.learning_rate_at(min(step, config.num_steps - 1)))
    return values


def _score_heads(attention: np.ndarray, data: Transitions, config: TrainingConfig) -> xr.Dataset:
    positions = data.states[..., : config.dimension].cpu().numpy()
    diameter = 2 * config.radius
    # The first bin begins a little below contact, where touching particles overlap; the last ends
    # short of the box diagonal, beyond which pairs are too rare to average over.
    longest = 0.8 * config.box * np.sqrt(config.dimension) / diameter
    edges = np.linspace(0.9, longest, config.distance_bins + 1)
    return xr.merge(
        [
            collision_score(
                attention, positions, diameter=diameter, contact_range=config.contact_range
            ),
            attention_distance_correlation(attention, positions, diameter=diameter, edges=edges),
        ]
    )


def trajectory_layout(config: TrainingConfig, held_out: Transitions) -> dict[str, Any]:
    """What a trajectory is made of: `coords`, `variables` (dimensions, attributes) and `attrs`.

    Parameters
    ----------
    config : TrainingConfig
    held_out : Transitions
        Those that are evaluated; the baseline of the collision score is theirs.
    """
    indifferent = np.ones((len(held_out), 1, 1, config.num_particles, config.num_particles))
    scores = _score_heads(indifferent, held_out, config)
    plain, loss = ("run", "step"), {"units": "variance of the training set"}
    variables: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        str(name): ((*plain, *one.dims), dict(one.attrs)) for name, one in scores.items()
    }
    for name, text in (("train_loss", "training loss"), ("test_loss", "test loss")):
        variables[name] = (plain, {"long_name": text, **loss})
        variables[f"{name}_sd"] = (plain, {"long_name": f"standard error of the {text}", **loss})
    variables["learning_rate"] = (plain, {"long_name": "learning rate", "units": "1"})
    return {
        "coords": {
            "run": np.array(config.seeds),
            "step": config.evaluation_steps(),
            "layer": np.arange(config.depth),
            "head": np.arange(config.num_heads),
            "distance": scores["distance"].values,
        },
        "variables": variables,
        "attrs": {
            "version": emergence_stats.__version__,
            "configuration": config.to_json(),
            "seeds": list(config.seeds),
            "time_axis": "optimiser steps made before the measurement",
            "distance_units": "particle diameters",
        },
    }
