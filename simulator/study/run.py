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
from simulator.experiments.stages import announcer, in_processes, kept, processor_seconds
from simulator.study import measurements
from simulator.study.degeneracy import curvature_contrast, degeneracy, onsets
from simulator.study.dynamics import dynamics, order_contrasts
from simulator.study.one_potential import one_potential
from simulator.study.operations import operations
from simulator.study.plan import ARMS, WITH_HEADS, WITH_SWEEP, StudyPlan
from simulator.study.structures import structures
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
    say = announcer(progress)
    key = _key(plan)

    def stage(name: str, compute: Callable[[], xr.Dataset], text: str) -> xr.Dataset:
        path = folder / "measurements" / f"{name}.nc"
        if not path.exists():
            say(text)
        result = kept(path, key, compute)
        cost[name] = {
            "seconds": float(result.attrs["seconds"]),
            "processor_seconds": float(result.attrs["processor_seconds"]),
        }
        return result

    cost: dict[str, dict[str, float]] = {}
    places = {arm: folder / "arms" / arm for arm in plan.arms}
    stage("training", lambda: _trained(plan, places, progress), "training all arms")
    trajectories = {arm: es.open_trajectory(place) for arm, place in places.items()}
    tested = stage(
        "tests",
        lambda: xr.concat(
            in_processes(measurements.heads, list(places.values()), count),
            dim=xr.IndexVariable("arm", list(places)),
            combine_attrs="drop_conflicts",
        ),
        "testing what each head does",
    )
    tests = {arm: tested.sel(arm=arm, drop=True) for arm in plan.arms}
    sweeps, refined, curvature = {}, {}, {}
    for arm in (arm for arm in plan.arms if arm in WITH_SWEEP):
        place = places[arm]
        number = plan.sweep_checkpoints
        if arm not in WITH_HEADS:
            number = max(2, number // SHUFFLED_SHARE)
        sweeps[arm] = stage(
            f"network-{arm}",
            lambda p=place, n=number: measurements.whole_network(  # type: ignore[misc]
                p, plan, number=n, workers=count, progress=progress
            ),
            f"learning coefficients along the training of {arm}",
        )
        if arm not in WITH_HEADS:
            continue
        refined[arm] = stage(
            f"refined-{arm}",
            lambda p=place, t=tests[arm]: measurements.refined(  # type: ignore[misc]
                p, plan, t, workers=count, progress=progress
            ),
            f"refined learning coefficients of heads of {arm}",
        )
        curvature[arm] = stage(
            f"curvature-{arm}",
            lambda p=place: measurements.curvatures(p, plan, workers=count),  # type: ignore[misc]
            f"curvature along the training of {arm}",
        )
    say("answering")
    begun, used = time.monotonic(), processor_seconds()
    alike = {arm: plan.control_of(arm, "no_contacts") for arm in plan.arms}
    answers: dict[str, Any] = {"structures": structures(tests, alike)}
    with_heads = [arm for arm in plan.arms if arm in WITH_HEADS]
    answers["dynamics"] = dynamics(
        {arm: trajectories[arm] for arm in with_heads}, tests, workers=count
    )
    answers["order_contrasts"] = order_contrasts(answers["dynamics"])
    times = {arm: onsets(trajectories[arm], tests[arm], sweeps[arm]) for arm in refined}
    answers["degeneracy"] = {
        arm: degeneracy(
            sweeps[arm],
            times[arm],
            refined[arm],
            sweeps.get(plan.control_of(arm, "shuffled") or ""),
        )
        for arm in refined
    }
    answers["curvature"] = curvature_contrast(curvature)
    answers["one_potential"] = {
        arm: one_potential(answers["dynamics"][arm], answers["degeneracy"][arm], refined[arm])
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
    answers["stopped"] = {arm: _stopped(folder / "arms" / arm) for arm in plan.arms}
    answers |= {
        "plan": plan.to_dict(),
        "version": es.__version__,
        "cost": cost,
        "operations": operations(plan),
        "seconds": sum(one["seconds"] for one in cost.values()),
        "processor_seconds": sum(one["processor_seconds"] for one in cost.values()),
    }
    answers = _plain(answers)
    _report(folder, answers, trajectories, tests, sweeps, times, refined)
    return answers


def half_counted_at(plan: StudyPlan) -> float:
    """The curvature of the loss at which a localised direction counts half: gamma / (n beta)."""
    num_samples = plan.training.train_systems * plan.training.intervals_per_system
    return plan.localisation * math.log(num_samples) / num_samples


def _curves(data: xr.Dataset, dims: tuple[str, ...]) -> dict[str, Any]:
    """Coefficients with their errors and where they are from, as lists."""
    wanted = ("llc", "llc_standard_error", "run", "step", "collision_head", "control_head")
    data = data.transpose(*dims, ...)
    return {name: data[name].values.tolist() for name in wanted if name in data.variables}


def _trained(plan: StudyPlan, places: dict[str, Path], progress: bool) -> xr.Dataset:
    """Trains all arms; the dataset is only a note that they are done, and of what it cost."""
    train_together({arm: (plan.arm(arm), places[arm]) for arm in places}, progress=progress)
    return xr.Dataset()


def _stopped(place: Path) -> dict[str, str]:
    """Why runs of an arm ended before their last step, by seed."""
    return {
        path.parent.name.removeprefix("run-"): json.loads(path.read_text())["reason"]
        for path in sorted(place.glob("checkpoints/run-*/stopped.json"))
    }


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
            partial = (folder / name).with_suffix(".partial")
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, folder / name)


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
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(mine, indent=1), encoding="utf-8")
        os.replace(partial, path)


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
