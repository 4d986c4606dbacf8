"""The study from end to end: train the arms, measure, answer, report.

What lives here: `reproduce`, the order of the stages and where each leaves its result. What does
not: the stages themselves (`measurements`, `structures`, `degeneracy`, `dynamics`,
`one_potential`) and the report (`page`, `figure`).

    FOLDER/plan.json            what the study is; another plan is refused
    FOLDER/arms/NAME/           a training folder for each arm, see `simulator.training.checkpoints`
    FOLDER/measurements/*.nc    the stages' results
    FOLDER/study.json           all answers as numbers
    FOLDER/study.md, study.png  the report
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats as es
from emergence_stats.errors import InputError, StorageError, disk_errors, first_line
from simulator.experiments.stages import (
    announce_on_terminal,
    compute_once,
    map_in_processes,
    processor_seconds,
)
from simulator.study import measurements
from simulator.study.degeneracy import contrast_curvature, date_onsets, measure_degeneracy
from simulator.study.dynamics import compare_dynamics, contrast_orders
from simulator.study.one_potential import check_potential
from simulator.study.operations import count_operations
from simulator.study.plan import ARMS, WITH_HEADS, WITH_SWEEP, StudyPlan
from simulator.study.structures import count_structures
from simulator.training.files import replace_file
from simulator.training.folder import stopped_runs
from simulator.training.runs import train_together

# Shuffled labels give a smooth, nearly constant curve; a sixth of the checkpoints shows it.
SHUFFLED_SHARE = 6


def reproduce(
    plan: StudyPlan,
    output: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Do the three claims hold for the particle transformer, and with what certainty?

    Parameters
    ----------
    plan : StudyPlan
        Such as ``study("standard")``.
    output : path
        A new folder, or one in which the same plan was begun: the same call goes on where it was
        stopped.
    workers : int, optional
        Processes; one for each core when left out.
    progress : bool
        Show what is under way on standard error.

    Returns
    -------
    dict
        The answers, as `study.json` holds them: `structures` (a), `degeneracy` (b), `dynamics`
        (c), `one_potential` (d), and `plan`, `cost`, `version`.

    Raises
    ------
    InputError
        If the folder holds another plan.
    StorageError
        If the disk is full or something stored is damaged; what was stored is kept.
    """
    folder = Path(output)
    _claim(folder, plan)
    count = workers or os.cpu_count() or 1
    say = announce_on_terminal(progress)
    key = _key(plan)
    cost: dict[str, dict[str, float]] = {}

    def stage(
        name: str, text: str, compute: Callable[..., xr.Dataset], *given: Any, **options: Any
    ) -> xr.Dataset:
        path = folder / "measurements" / f"{name}.nc"
        if not path.exists():
            say(text)
        result = compute_once(path, key, lambda: compute(*given, **options))
        cost[name] = {unit: float(result.attrs[unit]) for unit in ("seconds", "processor_seconds")}
        return result

    places = {arm: folder / "arms" / arm for arm in plan.arms}
    stage("training", "training all arms", _train, plan, places, progress)
    trajectories = {arm: es.open_trajectory(place) for arm, place in places.items()}
    tested = stage("tests", "testing what each head does", _assess, places, count)
    tests = {arm: tested.sel(arm=arm, drop=True) for arm in plan.arms}
    sweeps, refined, curvature = {}, {}, {}
    going: dict[str, Any] = {"workers": count, "progress": progress}
    for arm in (arm for arm in plan.arms if arm in WITH_SWEEP):
        place = places[arm]
        number = plan.sweep_checkpoints
        if arm not in WITH_HEADS:
            number = max(2, number // SHUFFLED_SHARE)
        sweeps[arm] = stage(
            f"network-{arm}", f"learning coefficients along the training of {arm}",
            measurements.sweep_network, place, plan, number=number, **going,
        )  # fmt: skip
        if arm not in WITH_HEADS:
            continue
        refined[arm] = stage(
            f"refined-{arm}", f"refined learning coefficients of heads of {arm}",
            measurements.sweep_heads, place, plan, tests[arm], **going,
        )  # fmt: skip
        curvature[arm] = stage(
            f"curvature-{arm}", f"curvature along the training of {arm}",
            measurements.measure_curvature, place, plan, workers=count,
        )  # fmt: skip
    say("answering")
    begun, used = time.monotonic(), processor_seconds()
    alike = {arm: plan.control_of(arm, "no_contacts") for arm in plan.arms}
    answers: dict[str, Any] = {"structures": count_structures(tests, alike)}
    with_heads = [arm for arm in plan.arms if arm in WITH_HEADS]
    answers["dynamics"] = compare_dynamics(
        {arm: trajectories[arm] for arm in with_heads}, tests, workers=count
    )
    answers["order_contrasts"] = contrast_orders(answers["dynamics"])
    times = {arm: date_onsets(trajectories[arm], tests[arm], sweeps[arm]) for arm in refined}
    answers["degeneracy"] = {
        arm: measure_degeneracy(
            sweeps[arm],
            times[arm],
            refined[arm],
            sweeps.get(plan.control_of(arm, "shuffled") or ""),
        )
        for arm in refined
    }
    answers["curvature"] = contrast_curvature(curvature)
    answers["one_potential"] = {
        arm: check_potential(answers["dynamics"][arm], answers["degeneracy"][arm], refined[arm])
        for arm in refined
    }
    cost["answers"] = {
        "seconds": time.monotonic() - begun,
        "processor_seconds": processor_seconds() - used,
    }
    answers["measured"] = {
        "network": {arm: _curves(sweep, ("run", "step")) for arm, sweep in sweeps.items()},
        "heads": {
            arm: _curves(heads, ("pair", "kind", "step"))
            for arm, heads in refined.items()
            if "llc" in heads
        },
    }
    answers["half_counted_at"] = half_counted_at(plan)
    answers["stopped"] = {arm: stopped_runs(places[arm]) for arm in plan.arms}
    answers |= {
        "plan": plan.to_dict(),
        "version": es.__version__,
        "cost": cost,
        "operations": count_operations(plan),
        "seconds": sum(one["seconds"] for one in cost.values()),
        "processor_seconds": sum(one["processor_seconds"] for one in cost.values()),
    }
    answers = _plain(answers)
    _report(folder, answers, trajectories, tests, sweeps, times, refined)
    return answers


def half_counted_at(plan: StudyPlan) -> float:
    """The curvature of the loss at which a localised direction counts half: gamma / (n beta)."""
    return plan.localisation * math.log(plan.training.num_samples) / plan.training.num_samples


def _curves(data: xr.Dataset, dims: tuple[str, ...]) -> dict[str, Any]:
    """Coefficients with their errors and where they are from, as lists."""
    wanted = ("llc", "llc_standard_error", "run", "step", "collision_head", "control_head")
    data = data.transpose(*dims, ...)
    return {name: data[name].values.tolist() for name in wanted if name in data.variables}


def _train(plan: StudyPlan, places: dict[str, Path], progress: bool) -> xr.Dataset:
    """Trains all arms; the dataset is only a note that they are done, and of what it cost."""
    train_together({arm: (plan.arm(arm), places[arm]) for arm in places}, progress=progress)
    return xr.Dataset()


def _assess(places: dict[str, Path], workers: int) -> xr.Dataset:
    tests = map_in_processes(measurements.assess_heads, list(places.values()), workers)
    return xr.concat(
        tests, dim=xr.IndexVariable("arm", list(places)), combine_attrs="drop_conflicts"
    )


def _report(
    folder: Path,
    answers: dict[str, Any],
    trajectories: dict[str, xr.Dataset],
    tests: dict[str, xr.Dataset],
    sweeps: dict[str, xr.Dataset],
    times: dict[str, xr.Dataset],
    refined: dict[str, xr.Dataset],
) -> None:
    from simulator.study.figure import draw_study
    from simulator.study.page import study_page

    with disk_errors(folder):
        draw_study(folder / "study.png", trajectories, tests, sweeps, times, refined)
    for name, text in (
        ("study.json", json.dumps(answers, indent=1) + "\n"),
        ("study.md", study_page(answers)),
    ):
        with replace_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def _key(plan: StudyPlan) -> str:
    text = json.dumps([plan.to_dict(), ARMS, es.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _claim(folder: Path, plan: StudyPlan) -> None:
    """Writes the plan into a new folder, or finds the same there."""
    path = folder / "plan.json"
    mine = json.loads(json.dumps(plan.to_dict()))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output: {folder} is a file; give a folder")
    if path.exists():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StorageError(
                f"{path}: damaged ({first_line(error)}); move the folder away, or put the file back"
            ) from error
        differing = [name for name in mine if stored.get(name) != mine[name]]
        if differing:
            raise InputError(
                f"output: {folder} holds a study with another {', '.join(differing)}; choose "
                "another folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"output: {folder} is not empty and holds no plan.json; choose another")
    with replace_file(path) as partial:
        partial.write_text(json.dumps(mine, indent=1), encoding="utf-8")


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
