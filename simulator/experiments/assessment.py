"""Does a head do its job?

What lives here: the three tests a head must pass to be called a collision-detection head, the error
of the iterated network beside simple predictors, and the states from which a report draws. What
does not: the scores themselves (`heads`) and any statement about training (`emergence_stats`).

The tests, all on held-out data and all required:

1. it looks at neighbours: its collision score lies at least the fraction `score` of the way from
   the baseline of a head that ignores distance to 1;
2. it looks at the right ones: the rank correlation of its attention with contact during the coming
   interval is at least `rank_correlation`;
3. it is needed for collisions: replaced by its mean output, the loss on colliding particles rises
   by at least the share `loss_rise` of what it was.

Each is asked of the lower bound of the interval. The rise on free particles is reported beside the
third and not compared with it: a head that tells colliding from free serves both, and its mean
misleads both.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from emergence_stats.checks import PROB
from emergence_stats.errors import InputError
from simulator.data.generation import draw_initial_states
from simulator.data.store import open_transitions
from simulator.data.transitions import Transitions
from simulator.network.heads import collision_score, contact_rank_correlation, ratio_with_error
from simulator.network.model import ParticleTransformer, rollout
from simulator.physics.simulation import simulate
from simulator.training.checkpoints import checkpoint_steps, load_checkpoint
from simulator.training.config import TrainingConfig, read_configuration

SCORE = 0.5
RANK_CORRELATION = 0.5
LOSS_RISE = 0.5


def assess(
    output: str | os.PathLike[str],
    *,
    step: int | None = None,
    score: float = SCORE,
    rank_correlation: float = RANK_CORRELATION,
    loss_rise: float = LOSS_RISE,
    prob: float = PROB,
    rollout_systems: int = 64,
    rollout_intervals: int = 20,
) -> xr.Dataset:
    """Which heads of a trained folder detect collisions, by all three tests?

    Parameters
    ----------
    output : path
        A folder written by `simulator.train`.
    step : int, optional
        Which checkpoint; each seed's last one when left out.
    score, rank_correlation, loss_rise : float
        The thresholds of the three tests (see the module's text).
    prob : float
        Probability of every interval.
    rollout_systems, rollout_intervals : int
        How many new systems the network is iterated on, and for how long.

    Returns
    -------
    xarray.Dataset
        By run, layer and head: `collision_score`, `contact_rank_correlation` and
        `ablation_loss_rise` (particles: colliding, free), each with `_lower` and `_upper`, and
        `passes` by test and `is_collision_head`; by run and particles `intact_loss`. By run, time
        and predictor: `rollout_error` (root mean square, in diameters). For the best head:
        `animation_position`, `animation_true_position` and `animation_attention` by frame.

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
    least_score = baseline + score * (1 - baseline)
    rise = result["ablation_loss_rise_lower"] / result["intact_loss"]
    passes = {
        "score": result["collision_score_lower"] >= least_score,
        "rank_correlation": result["contact_rank_correlation_lower"] >= rank_correlation,
        "ablation": rise.sel(particles="colliding", drop=True) >= loss_rise,
    }
    result["passes"] = xr.concat(
        passes.values(), dim=xr.IndexVariable("test", list(passes)), coords="minimal"
    ).transpose("run", "layer", "head", "test")
    result["passes"].attrs = {"long_name": "passes the test"}
    result["is_collision_head"] = result["passes"].all("test")
    result["is_collision_head"].attrs["long_name"] = "passes all three tests"
    result.attrs = {
        "criterion": (
            f"collision score at least {least_score:.2f} ({score:.0%} of the way from the baseline "
            f"{baseline:.2f} of a head that ignores distance to 1); rank correlation of attention "
            f"with contact at least {rank_correlation:g}; replacing the head by its mean output "
            f"raises the loss on colliding particles by at least {loss_rise:.0%} (each by the "
            f"lower bound of its {prob:.0%} interval)"
        ),
        "least_score": least_score,
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
    run, layer, head = map(int, np.unravel_index(int(np.nanargmax(ranking)), ranking.shape))
    result.update(animate(models[seeds[run]], config, layer, head))
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
    groups = (colliding, free)
    result["intact_loss"] = (
        ("particles",),
        [clustered_mean(intact, group, cluster)[0] for group in groups],
        {"long_name": "loss of the intact network", "units": "variance of the training set"},
    )
    # Removing a head has a large effect, so a thousand samples settle it.
    some = slice(None, None, max(1, len(data) // 1024))
    states, target, intact = data.states[some], target[some], intact[some]
    groups, cluster = (colliding[some], free[some]), cluster[some]
    rises = np.full((3, layers, heads, 2), np.nan)
    for place in np.ndindex(layers, heads):
        replacement = torch.full_like(means, torch.nan)
        replacement[place] = means[place]
        ablated = torch.cat([model(batch, replacement) for batch in states.split(512)])
        loss = ((ablated - target) ** 2).mean(-1).numpy()
        for index, group in enumerate(groups):
            rise, spread = clustered_mean(loss - intact, group, cluster)
            rises[(slice(None), *place, index)] = rise, rise - z * spread, rise + z * spread
    dims = ("layer", "head", "particles")
    text = {
        "long_name": "rise in loss when the head is replaced by its mean output",
        "units": "variance of the training set",
    }
    for name, values in zip(("", "_lower", "_upper"), rises, strict=True):
        result[f"ablation_loss_rise{name}"] = (dims, values, text)
    return result.assign_coords(
        layer=np.arange(layers), head=np.arange(heads), particles=["colliding", "free"]
    )


def clustered_mean(
    values: NDArray[np.floating], group: NDArray[np.bool_], cluster: NDArray[np.integer]
) -> tuple[float, float]:
    """Mean within a group of particles (sample, particle), with its standard error over clusters.

    Samples of one cluster may depend on each other. NaN where the group is empty.

    Examples
    --------
    >>> clustered_mean(np.full((4, 2), 2.0), np.ones((4, 2), dtype=bool), np.arange(4))
    (2.0, 0.0)
    """
    _, label = np.unique(cluster, return_inverse=True)
    total, number = (np.bincount(label, (one * group).sum(-1)) for one in (values, 1.0))
    mean, error = ratio_with_error(total, number)
    return float(mean), float(error)


def _simulate_new(
    config: TrainingConfig, num_systems: int, num_intervals: int, seed: int
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """New systems: initial positions and velocities, and their true positions by interval."""
    system = config.system
    # A seed that no data set of a configuration uses (they are 2 s and 2 s + 1, small numbers).
    positions, velocities = draw_initial_states(
        system, num_systems, speed=config.speed, seed=2**31 + seed + config.data_seed
    )
    per_interval = round(config.interval / config.time_step)
    path = simulate(
        system,
        positions,
        velocities,
        time_step=config.interval / per_interval,
        num_steps=num_intervals * per_interval,
        record_every=per_interval,
    )
    return positions, velocities, path["positions"].values


def rollout_error(
    model: ParticleTransformer, config: TrainingConfig, *, num_systems: int, num: int
) -> xr.DataArray:
    """How far from the truth are the iterated network and two simple predictors?

    `persistence` leaves every particle where it is; `ballistic` lets it fall freely and stops it at
    the walls. Root mean square distance over systems and particles, in diameters.
    """
    positions, velocities, truth = _simulate_new(config, num_systems, num, seed=0)
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
        coords={"time": ("time", time, {"units": "intervals"}), "predictor": list(predictors)},
        attrs={"long_name": "root mean square position error", "units": "diameters"},
    )


@torch.no_grad()
def animate(
    model: ParticleTransformer,
    config: TrainingConfig,
    layer: int,
    head: int,
    *,
    num_frames: int = 60,
) -> xr.Dataset:
    """A new system as the network sees it and as it is, with one head's attention in each frame."""
    positions, velocities, truth = _simulate_new(config, 1, num_frames - 1, seed=1)
    path = rollout(model, positions[0], velocities[0], num_intervals=num_frames - 1)
    states = np.concatenate([path["positions"].values, path["velocities"].values], axis=-1)
    _, attention = model.attend(torch.from_numpy(states))
    dims = ("frame", "particle", "axis")
    return xr.Dataset(
        {
            "animation_position": (dims, path["positions"].values),
            "animation_true_position": (dims, truth[0]),
            "animation_attention": (
                ("frame", "particle", "other"),
                attention.weights[:, layer, head].numpy(),
            ),
        }
    )
