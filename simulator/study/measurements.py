"""What the study measures: arms trained, heads tested, the landscape sampled.

What lives here: each measurement as a labelled dataset over runs. What does not: what follows from
them (`answers`), and the order in which they are made and kept (`run`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats as es
from simulator.experiments.assessment import assess
from simulator.experiments.interventions import Head, head_masks
from simulator.experiments.landscape import sweep_checkpoints, transition_loss
from simulator.experiments.stages import map_in_processes
from simulator.study.plan import StudyPlan
from simulator.training.checkpoints import build_model, checkpoint_steps, load_checkpoint
from simulator.training.config import read_configuration
from simulator.training.folder import transitions
from simulator.training.loop import one_thread

# Of the samplers tried on networks of this study, the one with the smallest standard error for the
# same number of draws; near a quadratic minimum it has no step bias either.
SAMPLER = "baoab"


@one_thread()
def assess_heads(folder: Path) -> xr.Dataset:
    """Which heads of every run pass the three tests at its last checkpoint (`assessment`)."""
    result = assess(folder, rollout_systems=8, rollout_intervals=2)
    names = ("passes", "is_collision_head", "collision_score", "collision_score_lower",
             "contact_rank_correlation", "ablation_loss_rise", "ablation_loss_rise_lower",
             "intact_loss")  # fmt: skip
    return result[list(names)].assign_attrs(result.attrs)


def head_name(head: Head) -> str:
    """Layer and head as one word, "2.3"."""
    return f"{head[0]}.{head[1]}"


def choose_pairs(
    tests: xr.Dataset, start: xr.DataArray, run: int, number: int
) -> list[tuple[Head, Head]]:
    """Of a run at most `number` collision heads, each with the head it is compared with.

    The largest scores first. The control is a head that fails the tests, in the same layer where
    there is one and else in the nearest, and of these the one whose score at the `start` was
    nearest (what a control came to must not choose it); each is used once, and a collision head for
    which none is left is dropped.
    """
    one = tests.sel(run=run)
    passes, score = one["is_collision_head"].values, one["collision_score"].values
    before = start.sel(run=run).transpose("layer", "head").values
    places = [(int(layer), int(head)) for layer, head in np.argwhere(passes)]
    places.sort(key=lambda place: -score[place])
    free = [(int(layer), int(head)) for layer, head in np.argwhere(~passes)]
    pairs = []
    for place in places[:number]:
        if not free:
            break
        control = min(
            free, key=lambda other: (abs(other[0] - place[0]), abs(before[other] - before[place]))
        )
        free.remove(control)
        pairs.append((place, control))
    return pairs


def _options(plan: StudyPlan) -> dict[str, Any]:
    natural = 1.0 / math.log(plan.training.num_samples)
    return {
        "inverse_temperatures": [natural * times for times in plan.inverse_temperatures],
        "sampler": SAMPLER,
        "num_chains": plan.chains,
        "num_draws": plan.draws,
        "batch_size": plan.batch_size,
        "localisation": plan.localisation,
    }


def _nearest_steps(folder: Path, seed: int, wanted: Sequence[int]) -> list[int]:
    """Of a run's checkpoints those nearest the wanted ones; a run that ended early has fewer."""
    stored = np.array(checkpoint_steps(folder, seed))
    return sorted({int(stored[np.abs(stored - step).argmin()]) for step in wanted})


def sweep_network(
    folder: Path, plan: StudyPlan, *, number: int, workers: int, progress: bool
) -> xr.Dataset:
    """The learning coefficient of the whole network along every run of a folder."""
    config = read_configuration(folder / "configuration.json")
    wanted = plan.spread_steps(number, plan.sweep_from)
    return sweep_checkpoints(
        folder,
        {seed: _nearest_steps(folder, seed, wanted) for seed in config.seeds},
        "study-network.zarr",
        workers=workers,
        progress=progress,
        **_options(plan),
    ).isel(part=0, drop=True)


def sweep_heads(
    folder: Path, plan: StudyPlan, tests: xr.Dataset, *, workers: int, progress: bool
) -> xr.Dataset:
    """The refined coefficients of the collision heads that are followed and of their controls.

    Returns
    -------
    xarray.Dataset
        `llc`, `llc_standard_error`, `verdict` by (pair, kind, step), kind "collision" or
        "control"; coordinates `run`, `collision_head`, `control_head` by pair. No pair at all
        where no head passes.
    """
    config = read_configuration(folder / "configuration.json")
    steps = plan.spread_steps(plan.head_checkpoints, plan.heads_from)
    start = es.open_trajectory(folder)["collision_score"].isel(step=0, drop=True)
    found = []
    for seed in config.seeds:
        pairs = choose_pairs(tests, start, seed, plan.followed_heads)
        if not pairs:
            continue
        parts = {
            head_name(head): head_masks(build_model(config), head)
            for pair in pairs
            for head in pair
        }
        one = sweep_checkpoints(
            folder,
            {seed: _nearest_steps(folder, seed, steps)},
            f"study-heads-{seed}.zarr",
            parts=parts,
            workers=workers,
            progress=progress,
            **_options(plan),
        ).isel(run=0, drop=True)
        for pair in pairs:
            names = [head_name(head) for head in pair]
            both = one[["llc", "llc_standard_error", "verdict"]].sel(part=names)
            both = both.rename(part="kind").assign_coords(kind=["collision", "control"])
            found.append(
                both.assign_coords(run=seed, collision_head=names[0], control_head=names[1])
            )
    if not found:
        return xr.Dataset(coords={"pair": np.array([], dtype=int)})
    joined = xr.concat(found, dim="pair", join="outer", coords="different", compat="equals",
                       fill_value={"verdict": ""}, combine_attrs="drop")  # fmt: skip
    return joined.assign_coords(pair=np.arange(len(found))).transpose("pair", "kind", "step")


def measure_curvature(folder: Path, plan: StudyPlan, *, workers: int) -> xr.Dataset:
    """Trace, effective rank and null space of the Hessian at a few checkpoints of a few runs."""
    config = read_configuration(folder / "configuration.json")
    steps = plan.spread_steps(plan.curvature_checkpoints, plan.heads_from)
    places = [
        (folder, seed, step, plan.curvature_samples)
        for seed in config.seeds[: plan.curvature_seeds]
        for step in _nearest_steps(folder, seed, steps)
    ]
    points = map_in_processes(_curvature, places, workers)
    rows = [
        xr.concat(
            [one for one in points if int(one["run"]) == seed], dim="step", coords="different",
            compat="equals",
        )
        for seed in config.seeds[: plan.curvature_seeds]
    ]  # fmt: skip
    return xr.concat(rows, dim="run", join="outer", coords="different", compat="equals")


@one_thread()
def _curvature(place: tuple[Path, int, int, int]) -> xr.Dataset:
    folder, seed, step, samples = place
    config = read_configuration(folder / "configuration.json")
    data = transitions(config, "train", folder).spread(samples)
    found = es.curvature(
        load_checkpoint(folder, seed, step, config=config),
        transition_loss,
        (data.states, data.changes),
        num_probes=4,
        num_lanczos=32,
        seed=seed,
    )
    names = ("trace", "effective_rank", "null_dimension", "largest_eigenvalue",
             "smallest_eigenvalue")  # fmt: skip
    kept = found[[*names, *(f"{name}_error" for name in names)]]
    return kept.assign_coords(step=step, run=seed)
