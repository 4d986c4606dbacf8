"""The local learning coefficient along training: over checkpoints, parts and runs.

What lives here: `sweep_llc`, what makes its estimates comparable, and the loop over whatever runs
them. What does not: its arguments (`settings`), one estimate (`llc`), where results are kept
(`store`), in which process an estimate runs (`workers`), and reading checkpoints
(`checkpoints`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor, nn

from emergence_stats import __version__
from emergence_stats.degeneracy.judgement.verdicts import Verdict
from emergence_stats.degeneracy.landscape.batches import SamplesAsNeeded, SampleTree, read_samples
from emergence_stats.degeneracy.landscape.objective import own_loss
from emergence_stats.degeneracy.parts import moving_parameters
from emergence_stats.degeneracy.sweep.checkpoints import Checkpoint, find_checkpoints, load_into
from emergence_stats.degeneracy.sweep.progress import show_progress
from emergence_stats.degeneracy.sweep.settings import check_options, check_parts, describe_settings
from emergence_stats.degeneracy.sweep.state_files import content_digest, read_state
from emergence_stats.degeneracy.sweep.store import (
    SweepStore,
    empty_layout,
    read_store,
    refuse_differences,
)
from emergence_stats.degeneracy.sweep.workers import (
    Job,
    Task,
    TaskResult,
    build_from,
    one_thread,
    run_tasks,
)
from emergence_stats.errors import InputError, StorageError


def sweep_llc(
    checkpoints: Any,
    build_model: Callable[[], nn.Module] | nn.Module,
    loss_fn: Callable[[nn.Module, Any], Tensor] | None,
    data: Any,
    *,
    parts: Mapping[str, str | Sequence[str] | Mapping[str, Tensor] | None] | None = None,
    seeds: Sequence[int] | None = None,
    output: str | os.PathLike[str] | None = None,
    workers: int = 1,
    client: Any = None,
    progress: bool = True,
    **options: Any,
) -> xr.Dataset:
    """How does the degeneracy of the landscape change along training, part by part?

    One `estimate_llc` for each checkpoint and part, all at one localisation: two estimates are
    comparable when they share n, beta and gamma (`degeneracy.posterior`). The data are the same, so
    n and beta are; gamma, the localisation, is given as a number in `options`, or is the largest
    that `estimate_llc` chooses at the last checkpoint of any run for any part, and then holds for
    all. The attributes of the result say which it is and where it is from. Each estimate has random
    numbers of its own, which depend on `seed`, run, step and part alone, so the errors of two
    estimates are independent.

    Parameters
    ----------
    checkpoints : path, mapping or list of paths
        A folder as `simulator.train` writes it (`checkpoints/run-SEED/step-NNNNNNNN.safetensors`),
        a mapping of step to path or state dict (or of run to such mappings), or a list of paths
        named `step-N`; see `sweep.checkpoints.find_checkpoints`. Files are safetensors, of
        `torch.save`, or Hugging Face-style folders.
    build_model : callable or nn.Module
        ``build_model()`` returns the network into which a checkpoint is put; a module is copied.
    loss_fn, data
        As in `estimate_llc`.
    parts : mapping of str to str, sequence of str or mapping of str to bool Tensor, optional
        Names for parts of the network and the patterns, or masks, of the parameters that move in
        each (None: all of them). One part named "all" when left out.
    seeds : sequence of int, optional
        Which training runs to take, by their number in `run-SEED`; all when left out. The random
        numbers of the sampler are `seed`, an option.
    output : path, optional
        A Zarr store to which each estimate is added as it comes. Killed at any moment, the same
        call takes up where it stopped and gives the same result. More checkpoints and parts can be
        added by a later call, which keeps the localisation; anything else that differs is refused.
    workers : int
        Processes on this machine, each with one thread for tensors. With more than one, a script
        needs the usual ``if __name__ == "__main__":``.
    client : dask.distributed.Client, optional
        Runs the estimates on its cluster instead (``pip install "emergence-stats[cluster]"``);
        checkpoints given by path must be readable there. Its workers stay at one thread for
        tensors. The result is the same, bit for bit, on processors of one kind.
    progress : bool
        Show a bar with the time left on standard error.
    **options
        Further arguments of `estimate_llc`: `sampler`, `num_chains`, `num_draws`, `seed`, ...
        Where `inverse_temperatures` is among them, each estimate is made by `llc_by_temperature`
        instead and these are its arguments: the slope of the mean loss needs no checkpoint to be at
        a minimum, which early in training, and with a small learning rate for long, none is. The
        localisation is then that of the coldest temperature.

    Returns
    -------
    xarray.Dataset
        `llc`, `llc_standard_error`, `verdict`, `reasons` and diagnostics over (run, step, part),
        without `run` where checkpoints have none. NaN, and an empty verdict, where there is no such
        checkpoint; verdict "failed" where an estimate could not be made, with the reason: these are
        tried again by the same call. ``es.compare(d["llc"])`` and ``es.detect_onset(d["llc"])``
        take it as it is; with ``d["llc"].assign_coords(sd=d["llc_standard_error"])`` they know the
        Monte Carlo errors.

    Raises
    ------
    InputError
        If an argument cannot be used, if the names in a run's last checkpoint do not match the
        model, if every estimate failed, or if `output` holds a sweep with other settings (they are
        named) or of other checkpoints.
    StorageError
        If a checkpoint or the store is missing, damaged, or in use by another call.

    References
    ----------
    Lau, Furman, Wang, Murfet and Wei (2023), The local learning coefficient, arXiv:2308.12108.
    Wang, Hoogland, van Wingerden, Furman and Murfet (2024), Differentiation and specialization of
    attention heads via the refined local learning coefficient, arXiv:2410.02984.

    Examples
    --------
    >>> import torch
    >>> inputs = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    >>> model = nn.Linear(3, 1, bias=False)
    >>> states = {step: {"weight": torch.full((1, 3), 1.0 - 0.1 / (1 + step))} for step in (0, 9)}
    >>> def loss(model, batch):
    ...     return (model(batch[0]) - batch[0].sum(1, keepdim=True)).square().mean()
    >>> sweep = sweep_llc(states, model, loss, (inputs,), num_draws=50, progress=False)
    >>> sweep["llc"].dims, sweep["step"].values
    (('step', 'part'), array([0, 9]))
    """
    found = find_checkpoints(checkpoints, seeds)
    wanted_parts = check_parts(parts)
    check_options(options)
    if client is not None and not (hasattr(client, "submit") and hasattr(client, "scatter")):
        raise InputError(
            f"client: got {type(client).__name__}; give a dask.distributed.Client, or workers= for "
            "processes on this machine"
        )
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers must be a whole number of at least 1, got {workers!r}")
    samples = read_samples(data)
    job = Job(build_model, loss_fn or own_loss, samples.to_send(), wanted_parts, dict(options))
    path = None if output is None else Path(output)
    with _lock(path), one_thread(), show_progress(progress) as advance:
        stored = None if path is None else read_store(path)
        settings = describe_settings(job, samples, stored)
        if path is not None and stored is not None:
            refuse_differences(path, json.loads(stored.attrs["settings"]), settings)
            attrs = dict(stored.attrs)
        _check_last(job, found)
        if stored is None:
            attrs = _attributes(job, samples, settings, found, workers, client, advance)
        layout = empty_layout(found, list(wanted_parts), attrs)
        store = SweepStore(path, layout)
        tasks = []
        for checkpoint in found:
            verdicts = {part: store.verdict(checkpoint, part) for part in wanted_parts}
            done = [part for part, one in verdicts.items() if one not in ("", Verdict.FAILED)]
            if done:
                _refuse_replaced(checkpoint, {store.digest(checkpoint, part) for part in done})
            tasks += [
                _task(checkpoint, part, options, attrs["localisation"])
                for part in wanted_parts
                if part not in done
            ]
        for task, outcome in _follow(job, tasks, workers, client, advance):
            store.record(task.checkpoint, task.part, outcome.values)
    result = store.result(layout)
    _report_failures(result)
    return result


def _check_last(job: Job, found: Sequence[Checkpoint]) -> None:
    """Refuses parts and names that fit no model before the first estimate, not after the last.

    What is missing or damaged may be whole by then, or on another machine: that the estimate says.
    """
    fresh = build_from(job)
    for patterns in job.parts.values():
        moving_parameters(fresh, patterns)
    for checkpoint in {one.run: one for one in found}.values():
        try:
            state = read_state(checkpoint.source)
        except StorageError:
            continue
        load_into(fresh, state, name=str(checkpoint))


def _task(
    checkpoint: Checkpoint, part: str, options: Mapping[str, Any], localisation: float | None
) -> Task:
    """An estimate with random numbers that belong to this run, step and part."""
    key = json.dumps([int(options.get("seed", 0)), checkpoint.run, checkpoint.step, part])
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little") >> 1
    return Task(checkpoint, part, seed, localisation)


def _attributes(
    job: Job,
    samples: SampleTree | SamplesAsNeeded,
    settings: Mapping[str, Any],
    found: Sequence[Checkpoint],
    workers: int,
    client: Any,
    advance: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """What all estimates share; chooses the localisation where it was left open."""
    given = job.options.get("localisation")
    if isinstance(given, int | float | np.number):
        localisation, origin = float(given), "as given"
    else:
        last = {one.run: one for one in found}.values()
        tasks = [_task(one, part, job.options, None) for one in last for part in job.parts]
        best: tuple[float, str] = (-math.inf, "")
        label = "choosing the localisation at the last checkpoint"
        for task, outcome in _follow(job, tasks, workers, client, advance, label):
            if outcome.error is not None:
                raise type(outcome.error)(f"{task.place}: {outcome.error}") from outcome.error
            value = float(outcome.values["localisation"])
            # Ties are broken by the text, not by which process was first.
            best = max(best, (value, f"largest chosen at the last checkpoints: at {task.place}"))
        localisation, origin = best
    return {
        "localisation": localisation,
        "localisation_from": origin,
        "num_samples": samples.num_samples,
        "comparable": (
            "all estimates share n, beta and gamma (num_samples, inverse_temperature, localisation)"
        ),
        "settings": json.dumps(settings),
        "package_version": __version__,
    }


def _refuse_replaced(checkpoint: Checkpoint, digests: set[str]) -> None:
    now = content_digest(checkpoint.source)
    if digests != {now}:
        raise InputError(
            f"checkpoints: {checkpoint} is not the one that the stored estimate was made of; give "
            "another output, or put the old checkpoint back"
        )


def _follow(
    job: Job,
    tasks: Sequence[Task],
    workers: int,
    client: Any,
    advance: Callable[[str, int, int], None],
    label: str = "learning coefficients",
) -> Iterator[tuple[Task, TaskResult]]:
    advance(label, 0, len(tasks))
    for count, (task, outcome) in enumerate(run_tasks(job, tasks, workers, client), 1):
        yield task, outcome
        advance(label, count, len(tasks))


def _report_failures(result: xr.Dataset) -> None:
    failed = (result["verdict"] == Verdict.FAILED.value).values
    if not failed.any():
        return
    first = str(result["reasons"].values[failed][0])
    made = (result["verdict"] != "").values.sum()
    if failed.sum() == made:
        raise InputError(f"every estimate failed; the first because: {first}")
    warnings.warn(
        f"{failed.sum()} of {made} estimates failed, the first because: {first}; the same call "
        "tries them again",
        stacklevel=3,
    )


@contextlib.contextmanager
def _lock(path: Path | None) -> Iterator[None]:
    """Only one call at a time fills a store."""
    if path is None:
        yield
        return
    from filelock import FileLock, Timeout

    lock = path.with_name(f".{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        held.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"{path}: another call is filling it; wait for it, or give another output"
        ) from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error}); choose another output") from error
    try:
        yield
    finally:
        held.release()
