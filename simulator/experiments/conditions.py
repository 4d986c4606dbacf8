"""Training the same seeds under several conditions, to be compared in pairs.

What lives here: training one seed under a `Condition`, and `run_conditions`, whose result keeps the
trajectory's contract with a further dimension `condition`. What does not: what a condition is
(`condition`) and does to a network (`interventions`), the contrasts (`contrasts`), runs with
checkpoints (`runs`).

Under the same seed two conditions share the initial network, the order of the data and, unless the
condition changes them, the data, so that differences between them are paired. With no change at all
a run here equals one of `simulator.train` to the last bit.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from emergence_stats.data.trajectory import validate_trajectory
from emergence_stats.errors import InputError
from simulator.data.transitions import Transitions, augment
from simulator.experiments.condition import Condition
from simulator.experiments.interventions import Head, add_dropout, hold_heads
from simulator.network.model import ParticleTransformer
from simulator.training.config import TrainingConfig
from simulator.training.evaluation import evaluate, trajectory_layout
from simulator.training.files import keep_dataset, read_dataset
from simulator.training.folder import PARTS, transitions
from simulator.training.loop import (
    begin_model,
    choose_device,
    draw_batch,
    make_optimiser,
    one_thread,
    take_step,
)

# What the simulated data depend on.
DATA_FIELDS = (
    "num_particles", "dimension", "radius", "box", "gravity", "stiffness", "wall_stiffness",
    "damping", "mass", "speed", "time_step", "interval", "train_systems", "test_systems",
    "intervals_per_system", "data_seed", "shuffled_labels",
)  # fmt: skip
# The steps and heads of all conditions must be those of the first, or there is no common array.
_SHARED_FIELDS = (
    "num_steps", "evaluations_per_decade", "evaluate_every", "depth", "num_heads", "distance_bins",
    "dimension", "radius", "box",
)  # fmt: skip


@one_thread()
def train_condition(
    config: TrainingConfig,
    seed: int,
    condition: Condition | None = None,
    *,
    data: tuple[Transitions, Transitions] | None = None,
) -> tuple[xr.Dataset, ParticleTransformer]:
    """Trains one seed under one condition, in memory.

    Parameters
    ----------
    config : TrainingConfig
        Before the condition's changes.
    seed : int
        Of the network and of the order of the data.
    condition : Condition, optional
        None changes nothing.
    data : pair of Transitions, optional
        From `transitions`, to be shared between calls; made anew when left out.

    Returns
    -------
    trajectory : xarray.Dataset
        The trajectory contract for one run; NaN from where the loss was not finite any more. Where
        the condition holds heads, `held` by run, layer and head says which.
    model : ParticleTransformer
        As it was at the end, for further conditions.

    Raises
    ------
    InputError
        If the condition cannot be applied: unknown fields or heads, no `prepare` for this seed, a
        `held_from` that is not a step of the run, or too little data for a batch.
    """
    chosen = condition or Condition("unchanged")
    settings = config.replace(**chosen.changes)
    steps = settings.evaluation_steps()
    chosen.check_steps(steps)
    device = choose_device(settings.device)
    train, test = (part.to(device) for part in (data or _simulate(settings)))
    if chosen.data_share < 1.0:
        # Whole systems, the first ones.
        systems = max(1, round(chosen.data_share * settings.train_systems))
        train = train.take(torch.arange(systems * settings.intervals_per_system, device=device))
    if len(train) < settings.batch_size:
        raise InputError(
            f"data_share: {chosen.data_share} leaves {len(train)} transitions, fewer than "
            f"batch_size={settings.batch_size}; use smaller batches under every condition"
        )
    watched, held_out = (part.spread(settings.evaluation_samples) for part in (train, test))
    model = begin_model(settings, seed, train)
    chosen.prepare_network(model, seed)
    model.to(device)
    hooks = add_dropout(model, chosen.dropout) if chosen.dropout else []
    held: Sequence[Head] = ()
    restore = hold_heads(model, held)
    optimiser = make_optimiser(model, settings)
    mirrors = torch.Generator().manual_seed(seed)
    found: dict[int, dict[str, np.ndarray]] = {}
    for step in range(settings.num_steps + 1):
        try:
            if step in steps:
                model.eval()
                found[step] = evaluate(model, watched, held_out, settings, step)
                model.train()
            if step == settings.num_steps:
                break
            if step == chosen.held_from and chosen.held:
                held = chosen.heads_to_hold(seed, found.get(step, {}).get("collision_score"))
                restore = hold_heads(model, held)
            batch = draw_batch(settings, seed, step, train)
            if chosen.augmented:
                batch = augment(
                    batch, box=settings.box, dimension=settings.dimension, generator=mirrors
                )
            take_step(model, optimiser, settings, step, batch)
            restore()
        except FloatingPointError:
            break
    for hook in hooks:
        hook.remove()
    trajectory = _label(settings, seed, held_out, found)
    if chosen.held:
        trajectory["held"] = _mark(settings, held).expand_dims(run=[seed])
    return trajectory, model.eval()


def _simulate(config: TrainingConfig) -> tuple[Transitions, Transitions]:
    train, test = (transitions(config, part) for part in PARTS)
    return train, test


def run_conditions(
    config: TrainingConfig,
    conditions: Sequence[Condition],
    *,
    output: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> xr.Dataset:
    """Trains every seed of a configuration under every condition.

    Parameters
    ----------
    config : TrainingConfig
        Its seeds are the pairs.
    conditions : sequence of Condition
        With different names; the first is the one others are usually held against.
    output : path, optional
        A folder that keeps each finished run, so that the same call continues after a kill. What
        `prepare` does cannot be compared with what it did before: change the name along with it.
    report : callable
        Told which run is under way.

    Returns
    -------
    xarray.Dataset
        The trajectory contract with the dimension `condition` in front; a baseline that differs
        between conditions is the variable `score_baseline` by condition; where any condition holds
        heads, `held` says which by condition, run, layer and head.

    Raises
    ------
    InputError
        If names repeat, a condition changes the steps or the number of heads, or the folder holds
        runs of another configuration.
    StorageError
        If something stored is damaged.
    """
    names = [condition.name for condition in conditions]
    if not names or len(set(names)) != len(names):
        raise InputError(f"conditions: {names}; give at least one, each with a name of its own")
    settings = [config.replace(**condition.changes) for condition in conditions]
    for name in _SHARED_FIELDS:
        values = [getattr(one, name) for one in settings]
        if len(set(values)) > 1:
            raise InputError(
                f"conditions: {name} differs between them ({values}), so their trajectories have "
                "no common axes; change it in `config`"
            )
    data: dict[tuple[Any, ...], tuple[Transitions, Transitions]] = {}
    parts = []
    holding = any(condition.held for condition in conditions)
    for condition, changed in zip(conditions, settings, strict=True):
        fields = tuple(getattr(changed, name) for name in DATA_FIELDS)
        runs = []
        for seed in config.seeds:
            path = None if output is None else _path(Path(output), condition.name, seed)
            key = _key(changed, condition, seed)
            if path is not None and path.exists():
                run, stored_key = read_dataset(path)
                if run.attrs.pop("computed_for", stored_key) != key:
                    raise InputError(
                        f"output: {path} is of another configuration or condition; choose another "
                        "folder"
                    )
            else:
                report(f"{condition.name}, seed {seed}")
                if fields not in data:
                    data[fields] = _simulate(changed)
                run, _ = train_condition(config, seed, condition, data=data[fields])
                if path is not None:
                    keep_dataset(run, path, key)
            if holding and "held" not in run:
                run["held"] = _mark(changed, ()).expand_dims(run=[seed])
            runs.append(run)
        parts.append(xr.concat(runs, dim="run", combine_attrs="override"))
    result = xr.concat(
        parts, dim=xr.IndexVariable("condition", names), combine_attrs="override", join="exact"
    )
    baselines = [part["collision_score"].attrs["baseline"] for part in parts]
    result["score_baseline"] = (
        "condition",
        baselines,
        {"long_name": "collision score of a head that ignores distance", "units": "1"},
    )
    if len(set(baselines)) > 1:
        del result["collision_score"].attrs["baseline"]
    result.attrs.update(
        configuration=config.to_json(),
        conditions=json.dumps({c.name: c.description() for c in conditions}),
        seeds=list(config.seeds),
    )
    return validate_trajectory(result)


def _label(
    config: TrainingConfig,
    seed: int,
    held_out: Transitions,
    found: Mapping[int, Mapping[str, np.ndarray]],
) -> xr.Dataset:
    """One run's trajectory; NaN where a step was not reached."""
    layout = trajectory_layout(config, held_out)
    dataset = xr.Dataset(coords={**layout["coords"], "run": [seed]}, attrs=layout["attrs"])
    dataset["step"].attrs.update(long_name="optimiser step", units="steps")
    for name, (dims, attributes) in layout["variables"].items():
        missing = np.full([dataset.sizes[dim] for dim in dims[2:]], np.nan)
        values = [
            np.asarray(found[step][name]) if step in found else missing
            for step in dataset["step"].values.tolist()
        ]
        dataset[name] = (dims, np.array(values, dtype=float)[None], attributes)
    return dataset


def _mark(config: TrainingConfig, heads: Sequence[Head]) -> xr.DataArray:
    """Which heads are held, by layer and head."""
    marks = np.zeros((config.depth, config.num_heads), dtype=bool)
    for place in heads:
        marks[place] = True
    return xr.DataArray(
        marks, dims=("layer", "head"), attrs={"long_name": "kept as it was", "units": "1"}
    )


def _path(output: Path, name: str, seed: int) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    return output / f"{safe}-run-{seed}.nc"


def _key(config: TrainingConfig, condition: Condition, seed: int) -> str:
    values = dataclasses.asdict(config)
    values.pop("seeds")  # more seeds may be added later
    return json.dumps([values, condition.name, condition.description(seed)])
