"""Does a head do its job?

What lives here: the three tests a head must pass to be called a collision-detection head, the error
of the iterated network beside simple predictors, and the states from which a report draws. What
does not: the scores themselves (`heads`) and any statement about training (`emergence_stats`).

The tests, all on held-out data and all required:

1. it looks at neighbours: the lower bound of its collision score is at least `score_ratio` times
   the baseline of a head that ignores distance;
2. it looks at the right ones: the lower bound of the rank correlation of its attention with contact
   during the coming interval is at least `rank_correlation`;
3. it is needed for collisions: replaced by its mean output, the loss on colliding particles rises
   by at least `loss_rise` of what it was (lower bound), and by more than on free particles.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from emergence_stats.errors import InputError
from simulator.checkpoints import checkpoint_steps, load_checkpoint
from simulator.config import TrainingConfig, read_configuration
from simulator.dataset import draw_initial_states, open_transitions
from simulator.heads import collision_score, contact_rank_correlation
from simulator.model import ParticleTransformer, rollout
from simulator.physics import simulate
from simulator.training import Transitions

SCORE_RATIO = 2.0
RANK_CORRELATION = 0.3
LOSS_RISE = 0.1


def assess(
    output: str | os.PathLike[str],
    *,
    step: int | None = None,
    score_ratio: float = SCORE_RATIO,
    rank_correlation: float = RANK_CORRELATION,
    loss_rise: float = LOSS_RISE,
    prob: float = 0.89,
    rollout_systems: int = 64,
    rollout_intervals: int = 40,
) -> xr.Dataset:
    """Which heads of a trained folder detect collisions, by all three tests?

    Parameters
    ----------
    output : path
        A folder written by `simulator.train`.
    step : int, optional
        Which checkpoint; each seed's last one when left out.
    score_ratio, rank_correlation, loss_rise : float
        The thresholds of the three tests (see the module's text).
    prob : float
        Probability of every interval.
    rollout_systems, rollout_intervals : int
        How many new systems the network is iterated on, and for how long.

    Returns
    -------
    xarray.Dataset
        By run, layer and head: `collision_score`, `contact_rank_correlation` and
        `ablation_loss_rise` (particles: colliding, free; as a share of the intact loss there), each
        with `_lower` and `_upper`, and `is_collision_head`. By run, time and predictor:
        `rollout_error` (root mean square, in diameters). For the best head: `animation_position`,
        `animation_true_position` and `animation_attention` by frame.

    Raises
    ------
    StorageError
        If a checkpoint or the held-out data is missing or damaged.
    """
    folder = Path(output)
    config = read_configuration(folder / "configuration.json")
    seeds = [seed for seed in config.seeds if checkpoint_steps(folder, seed)]
    if not seeds:
        raise InputError(f"output: {folder} has no checkpoints yet; train first")
    held_out = open_transitions(folder / "data" / "test.zarr").load()
    parts, models = [], {}
    for seed in seeds:
        models[seed] = load_checkpoint(folder, seed, step, config=config)
        parts.append(assess_model(models[seed], held_out, config, prob=prob))
    result = xr.concat(parts, dim=xr.IndexVariable("run", seeds), combine_attrs="override")
    baseline = float(result["collision_score"].attrs["baseline"])
    rise = result["ablation_loss_rise_lower"].sel(particles="colliding")
    result["is_collision_head"] = (
        (result["collision_score_lower"] >= score_ratio * baseline)
        & (result["contact_rank_correlation_lower"] >= rank_correlation)
        & (rise >= loss_rise)
        & (rise > result["ablation_loss_rise_upper"].sel(particles="free"))
    )
    result["is_collision_head"].attrs["long_name"] = "passes all three tests"
    result.attrs = {
        "criterion": (
            f"collision score at least {score_ratio:g} times the baseline {baseline:.3f}; rank "
            f"correlation with contact at least {rank_correlation:g}; replacing the head by its "
            f"mean raises the loss on colliding particles by at least {loss_rise:.0%}, and by more "
            f"than on free particles (each by the bound of its {prob:.0%} interval)"
        ),
        "score_ratio": score_ratio,
        "rank_correlation": rank_correlation,
        "loss_rise": loss_rise,
        "probability": prob,
    }
    errors = [
        rollout_error(models[seed], config, num_systems=rollout_systems, num=rollout_intervals)
        for seed in seeds
    ]
    result["rollout_error"] = xr.concat(errors, dim=xr.IndexVariable("run", seeds))
    # The best head: the one that passes and has the largest score; failing that, the largest.
    ranking = result["collision_score"].where(
        result["is_collision_head"] | ~result["is_collision_head"].any()
    )
    run, layer, head = (
        int(index) for index in np.unravel_index(int(np.nanargmax(ranking)), ranking.shape)
    )
    result.update(animation(models[seeds[run]], config, layer, head))
    result.attrs.update(
        best_run=seeds[run],
        best_layer=layer,
        best_head=head,
        radius=config.radius,
        box=[config.box] * config.dimension,
        interval=config.interval,
    )
    return result


@torch.no_grad()
def assess_model(
    model: ParticleTransformer, held_out: xr.Dataset, config: TrainingConfig, *, prob: float
) -> xr.Dataset:
    """The three tests' quantities for every head of one network."""
    data = Transitions.of(held_out)
    cluster = held_out["system"].values
    touching = held_out["contact"].values
    colliding = touching.any(-1)
    free = ~colliding & ~held_out["wall_contact"].values
    z = stats.norm.ppf(0.5 + prob / 2)

    # Plain averaging over samples: the samples of a batch do not influence one another.
    answers, weights, outputs = [], [], []
    for part in torch.split(torch.arange(len(data)), 512):
        answer, attention = model.attend(data.states[part])
        answers.append(answer)
        weights.append(attention.weights.numpy())
        outputs.append(attention.outputs.mean((0, 3)) * len(part))
    attention_weights = np.concatenate(weights)
    means = torch.stack(outputs).sum(0) / len(data)  # (layer, head, d)
    target = model.normalised_change(data.changes)
    intact = ((torch.cat(answers) - target) ** 2).mean(-1).numpy()  # (sample, particle)

    result = collision_score(
        attention_weights,
        data.states[..., : config.dimension].numpy(),
        diameter=2 * config.radius,
        contact_range=config.contact_range,
    )
    score, error = result["collision_score"], result["collision_score_sd"]
    result["collision_score_lower"] = score - z * error
    result["collision_score_upper"] = score + z * error
    result = result.merge(
        contact_rank_correlation(attention_weights, touching, cluster=cluster, prob=prob)
    )
    layers, heads = means.shape[:2]
    rises = np.full((3, layers, heads, 2), np.nan)
    for layer in range(layers):
        for head in range(heads):
            replacement = torch.full_like(means, torch.nan)
            replacement[layer, head] = means[layer, head]
            ablated = torch.cat(
                [model.ablated(part, replacement) for part in data.states.split(512)]
            )
            loss = ((ablated - target) ** 2).mean(-1).numpy()
            for index, group in enumerate((colliding, free)):
                rise, spread = clustered_ratio(loss - intact, intact, group, cluster)
                rises[:, layer, head, index] = rise, rise - z * spread, rise + z * spread
    dims = ("layer", "head", "particles")
    text = {"long_name": "rise in loss when the head is replaced by its mean", "units": "1"}
    for name, values in zip(("", "_lower", "_upper"), rises, strict=True):
        result[f"ablation_loss_rise{name}"] = (dims, values, text)
    return result.assign_coords(
        layer=np.arange(layers), head=np.arange(heads), particles=["colliding", "free"]
    )


def clustered_ratio(
    numerator: NDArray[np.floating],
    denominator: NDArray[np.floating],
    group: NDArray[np.bool_],
    cluster: NDArray[np.integer],
) -> tuple[float, float]:
    """Mean of one over mean of the other within a group, with its standard error over clusters.

    Parameters
    ----------
    numerator, denominator : ndarray, shape (sample, particle)
    group : ndarray of bool, shape (sample, particle)
    cluster : ndarray, shape (sample,)
        Samples of one cluster may depend on each other.

    Returns
    -------
    float, float
        NaN where the group is empty.

    Examples
    --------
    >>> ones = np.ones((4, 2))
    >>> clustered_ratio(2 * ones, ones, ones > 0, np.arange(4))
    (2.0, 0.0)
    """
    total = (denominator * group).sum()
    if not group.any() or total == 0:
        return np.nan, np.nan
    ratio = float((numerator * group).sum() / total)
    _, label = np.unique(cluster, return_inverse=True)
    pull = np.bincount(label, ((numerator - ratio * denominator) * group).sum(-1))
    number = pull.size
    return ratio, float(np.sqrt((pull**2).sum() * number / max(1, number - 1)) / total)


def rollout_error(
    model: ParticleTransformer, config: TrainingConfig, *, num_systems: int, num: int
) -> xr.DataArray:
    """How far from the truth are the iterated network and two simple predictors?

    `persistence` leaves every particle where it is; `ballistic` lets it fall freely and stops it at
    the walls. Root mean square distance over systems and particles, in diameters.
    """
    system = config.system
    # A seed that no data set of a configuration uses (they are 2 s and 2 s + 1, small numbers).
    positions, velocities = draw_initial_states(
        system, num_systems, speed=config.speed, seed=2**31 + config.data_seed
    )
    per_interval = round(config.interval / config.time_step)
    truth = simulate(
        system,
        positions,
        velocities,
        time_step=config.interval / per_interval,
        num_steps=num * per_interval,
        record_every=per_interval,
    )["positions"].values
    time = np.arange(num + 1)
    flight = (time * config.interval)[:, None, None]
    ballistic = positions[:, None] + velocities[:, None] * flight
    ballistic[..., -1] -= 0.5 * config.gravity * flight[..., 0] ** 2
    predictors = {
        "model": rollout(model, positions, velocities, num_intervals=num)["positions"].values,
        "persistence": np.broadcast_to(positions[:, None], truth.shape),
        "ballistic": np.clip(ballistic, config.radius, config.box - config.radius),
    }
    errors = [
        np.sqrt(((path - truth) ** 2).sum(-1).mean((0, 2))) / (2 * config.radius)
        for path in predictors.values()
    ]
    return xr.DataArray(
        np.stack(errors, axis=-1),
        dims=("time", "predictor"),
        coords={
            "time": ("time", time, {"units": "intervals"}),
            "predictor": list(predictors),
        },
        attrs={"long_name": "root mean square position error", "units": "diameters"},
    )


@torch.no_grad()
def animation(
    model: ParticleTransformer,
    config: TrainingConfig,
    layer: int,
    head: int,
    *,
    num_frames: int = 60,
) -> xr.Dataset:
    """A new system as the network sees it and as it is, with one head's attention in each frame."""
    system = config.system
    positions, velocities = draw_initial_states(
        system, 1, speed=config.speed, seed=2**31 + 1 + config.data_seed
    )
    per_interval = round(config.interval / config.time_step)
    truth = simulate(
        system,
        positions[0],
        velocities[0],
        time_step=config.interval / per_interval,
        num_steps=(num_frames - 1) * per_interval,
        record_every=per_interval,
    )
    path = rollout(model, positions[0], velocities[0], num_intervals=num_frames - 1)
    states = np.concatenate([path["positions"].values, path["velocities"].values], axis=-1)
    _, attention = model.attend(torch.from_numpy(states))
    dims = ("frame", "particle", "axis")
    return xr.Dataset(
        {
            "animation_position": (dims, path["positions"].values),
            "animation_true_position": (dims, truth["positions"].values),
            "animation_attention": (
                ("frame", "particle", "other"),
                attention.weights[:, layer, head].numpy(),
            ),
        }
    )
