"""The main job from end to end: simulate, train, analyse, report.

What lives here: `run_demo`, the order of the stages and where each leaves its result. What does
not: the stages themselves. Each stage's result is kept in the folder and taken from there when the
same command is run again, so a demo that was stopped continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

import emergence_stats as es
from emergence_stats.errors import StorageError, disk_errors, first_line
from simulator.assessment import assess
from simulator.checkpoints import load_checkpoint
from simulator.config import TrainingConfig
from simulator.dataset import open_transitions
from simulator.model import ParticleTransformer
from simulator.runs import train
from simulator.training import Transitions, mean_loss

# The landscape is sampled before the heads emerge and after; "before" is a fifth of the onset
# step, early enough that no head has begun and late enough to have left the random start.
BEFORE_ONSET = 0.2


def run_demo(
    config: TrainingConfig,
    output: str | os.PathLike[str],
    *,
    language: str = "en",
    progress: bool = True,
) -> list[str]:
    """Trains, analyses and reports; returns the summary's lines, the report's path last.

    Parameters
    ----------
    config : TrainingConfig
    output : path
        A new folder, or one in which the same demo was begun.
    language : {"en", "ja"}
        Language of the report's plain-language page.
    progress : bool
        Show progress on the terminal.
    """
    from emergence_stats.report import text_summary, write_report

    folder = Path(output)
    trajectory = train(config, folder, progress=progress)
    say = _announcer(progress)
    # A result is current for the steps it was computed from; a longer trajectory renews it.
    key = int(trajectory["step"].values[-1])
    scores = trajectory["collision_score"]
    say("comparing power law and exponential for every head")
    comparison = _kept(folder, "comparison", key, lambda: es.compare(scores).dataset)
    say("dating the onsets")
    onset = _kept(folder, "onset", key, lambda: es.detect_onset(scores).dataset)
    say("testing what each head does")
    assessment = _kept(folder, "assessment", key, lambda: assess(folder))
    say("sampling the loss landscape around checkpoints before and after")
    llc = _kept(
        folder, "llc", key, lambda: landscape(config, folder, trajectory, comparison, assessment)
    )
    say("writing the report")
    results = {
        "trajectory": trajectory,
        "assessment": assessment,
        "comparison": comparison,
        "onset": onset,
        "llc": llc,
    }
    path = write_report(folder / "report.html", language=language, **results)
    return [*text_summary(**results), str(path)]


def landscape(
    config: TrainingConfig,
    folder: Path,
    trajectory: xr.Dataset,
    comparison: xr.Dataset,
    assessment: xr.Dataset,
    *,
    num_chains: int = 4,
    num_draws: int = 200,
) -> xr.Dataset:
    """The local learning coefficient of each run before its first onset and at its end.

    The training loss at each checkpoint is that of the whole training set; the first checkpoint is
    no minimum of it, which the verdict there says.
    """
    data = Transitions.of(open_transitions(folder / "data" / "train.zarr"))
    tensors = (data.states, data.changes)
    steps = trajectory["step"].values
    onsets = comparison["onset"].sel(quantile=0.5).where(assessment["is_collision_head"])
    rows = []
    for run in trajectory["run"].values:
        first = float(onsets.sel(run=run).min())
        target = BEFORE_ONSET * first if np.isfinite(first) else steps[-1] / 10
        before = int(steps[max(1, int(np.searchsorted(steps, target, side="right")) - 1)])
        finished = trajectory["test_loss"].sel(run=run).dropna("step")["step"].values
        for label, step in (("before", before), ("after", int(finished[-1]))):
            result = es.estimate_llc(
                load_checkpoint(folder, int(run), step, config=config),
                transition_loss,
                tensors,
                num_chains=num_chains,
                num_draws=num_draws,
                batch_size=config.batch_size,
                seed=int(run),
                progress=False,
            )
            rows.append((int(run), step, label, result))
    kept = sorted({step for _, step, _, _ in rows})
    runs = [int(run) for run in trajectory["run"].values]
    shape = (len(runs), len(kept))
    values, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    verdicts, labels = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    for run, step, label, result in rows:
        place = runs.index(run), kept.index(step)
        values[place], errors[place] = result.llc, result.standard_error
        verdicts[place], labels[place] = result.diagnostics["verdict"], label
    dims = ("run", "step")
    return xr.Dataset(
        {
            "llc": (dims, values, {"long_name": "local learning coefficient", "units": "1"}),
            "llc_standard_error": (dims, errors, {"units": "1"}),
            "llc_verdict": (dims, verdicts.astype(str)),
            "llc_label": (dims, labels.astype(str)),
        },
        coords={"run": runs, "step": kept},
    )


def transition_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The training loss, in the form `estimate_llc` asks for."""
    assert isinstance(model, ParticleTransformer)
    return mean_loss(model, Transitions(*batch))


def _kept(folder: Path, name: str, key: int, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
    """A stage's result from the folder if it is there and current, else computed and kept."""
    path = folder / "analysis" / f"{name}.nc"
    if path.exists():
        try:
            with xr.open_dataset(path, engine="h5netcdf") as stored:
                if stored.attrs.get("last_step") == key:
                    return stored.load()
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{path}: damaged ({first_line(error)}); delete it and run the same command again"
            ) from error
    result = compute().assign_attrs(last_step=key)
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        result.to_netcdf(partial, engine="h5netcdf", invalid_netcdf=True)
        os.replace(partial, path)
    return result


def _announcer(progress: bool) -> Callable[[str], None]:
    if not progress:
        return lambda _: None
    from rich.console import Console

    console = Console(stderr=True)
    return lambda text: console.log(text, highlight=False)
