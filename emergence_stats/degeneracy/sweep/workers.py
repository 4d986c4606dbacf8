"""Where the estimates of a sweep are computed: here, in processes, or on a cluster.

What lives here: one estimate as a function of a task, and three ways of running many, which give
the same numbers because every estimate has its own random numbers and one thread for tensors. What
does not: which estimates are wanted and where they are kept (`sweep`, `store`).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cloudpickle
import torch
from torch import Tensor, nn

from emergence_stats.degeneracy.judgement.results import LLC
from emergence_stats.degeneracy.judgement.verdicts import Verdict
from emergence_stats.degeneracy.llc import estimate_llc
from emergence_stats.degeneracy.sweep.checkpoints import Checkpoint, load_into
from emergence_stats.degeneracy.sweep.state_files import content_digest, read_state
from emergence_stats.degeneracy.sweep.store import NUMBERS
from emergence_stats.degeneracy.temperature import llc_by_temperature
from emergence_stats.errors import InputError, StorageError, first_line


class Job(NamedTuple):
    """What all estimates of a sweep share.

    Attributes
    ----------
    build_model : callable or nn.Module
    loss_fn : callable
    data : tree of tensors
    parts : dict of str to list of patterns or None
    options : dict
        Arguments of `estimate_llc`; of `llc_by_temperature` where they hold its
        `inverse_temperatures`.
    """

    build_model: Callable[[], nn.Module] | nn.Module
    loss_fn: Callable[[nn.Module, Any], Tensor]
    data: Any
    parts: dict[str, Any]
    options: dict[str, Any]


class Task(NamedTuple):
    """One estimate.

    Attributes
    ----------
    checkpoint : Checkpoint
    part : str
    seed : int
        Of the sampler.
    localisation : float or None
        None leaves the choice to `estimate_llc` and its options.
    """

    checkpoint: Checkpoint
    part: str
    seed: int
    localisation: float | None

    @property
    def place(self) -> str:
        """Which estimate this is, in words."""
        run = "" if self.checkpoint.run is None else f" of run {self.checkpoint.run}"
        return f"step {self.checkpoint.step}{run}, part {self.part!r}"


class TaskResult(NamedTuple):
    """What came of a task.

    Attributes
    ----------
    values : dict
        One entry for each variable of the sweep's dataset.
    error : Exception or None
        Why there is no estimate; its message is among the values as well.
    """

    values: dict[str, Any]
    error: Exception | None


def run_tasks(
    job: Job, tasks: Sequence[Task], workers: int, client: Any
) -> Iterator[tuple[Task, TaskResult]]:
    """The outcome of every task, in the order in which they are finished."""
    if not tasks:
        return
    if client is not None:
        yield from _run_on_cluster(job, tasks, client)
    elif workers > 1:
        yield from _run_in_processes(job, tasks, workers)
    else:
        for task in tasks:
            yield task, estimate(job, task)


def build_from(job: Job) -> nn.Module:
    """A fresh model; torch's global random numbers are left as they were."""
    if isinstance(job.build_model, nn.Module):
        return copy.deepcopy(job.build_model)
    if not callable(job.build_model):
        raise InputError(
            f"build_model: got {type(job.build_model).__name__}; give a function that returns the "
            "model, or the model itself"
        )
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        model = job.build_model()
    if not isinstance(model, nn.Module):
        raise InputError(
            f"build_model returned a {type(model).__name__}; it must return a torch.nn.Module"
        )
    return model


def estimate(job: Job, task: Task) -> TaskResult:
    """One estimate; whatever goes wrong with it is returned, so that the others go on."""
    values: dict[str, Any] = dict.fromkeys(NUMBERS, math.nan)
    values["checkpoint_digest"] = ""
    try:
        source = task.checkpoint.source
        # Before reading, so that a file replaced meanwhile is noticed by the next call.
        values["checkpoint_digest"] = content_digest(source)
        model = build_from(job)
        load_into(model, read_state(source), name=str(task.checkpoint))
        options = {**job.options, "seed": task.seed}
        if task.localisation is not None:
            options["localisation"] = task.localisation
        estimator: Callable[..., LLC] = estimate_llc
        if "inverse_temperatures" in options:
            estimator = functools.partial(llc_by_temperature, watch_samples=False)
        result = estimator(
            model,
            job.loss_fn,
            job.data,
            parts=job.parts[task.part],
            progress=False,
            **options,
        )
    except Exception as error:
        values.update(verdict=Verdict.FAILED.value, reasons=f"{task.place}: {first_line(error)}")
        return TaskResult(values, _make_sendable(error, task))
    found: Mapping[str, Any] = result.diagnostics
    for name in NUMBERS:
        value = found.get(name)
        values[name] = math.nan if value is None else float(value)
    values.update(
        llc=result.llc,
        llc_standard_error=result.standard_error,
        verdict=str(found["verdict"]),
        reasons="; ".join(found["reasons"]),
    )
    return TaskResult(values, None)


def _make_sendable(error: Exception, task: Task) -> Exception:
    if isinstance(error, InputError | StorageError):
        return type(error)(str(error))
    return InputError(
        f"the estimate at {task.place} failed ({first_line(error)}); check loss_fn and data with "
        "estimate_llc on this checkpoint"
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums run in the same order whatever the machine when one thread computes them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ----------------------------------------------------------------------------------- processes

_JOB: Job | None = None


def _run_in_processes(
    job: Job, tasks: Sequence[Task], workers: int
) -> Iterator[tuple[Task, TaskResult]]:
    context = multiprocessing.get_context("spawn")
    # Its end closes when this process lets go of it or is killed: then the workers stop at once,
    # where a pool would first have them finish what is queued, or wait for ever.
    leash, held = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(
        min(workers, len(tasks)),
        mp_context=context,
        initializer=_start_process,
        initargs=(_pickle(job), leash),
    )
    done = False
    try:
        # Tensors go as bytes: through shared memory each would hold a file open.
        running: dict[Future[TaskResult], Task] = {
            executor.submit(_estimate_in_process, pickle.dumps(task)): task for task in tasks
        }
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                yield task, future.result()
        done = True
    except BrokenProcessPool as error:
        raise StorageError(
            "a worker process ended early: either it ran out of memory (use fewer workers), or "
            'this is a script that starts the sweep without `if __name__ == "__main__":`; what '
            "was estimated is kept where output is given, and the same call goes on from there"
        ) from error
    finally:
        if not done:
            held.close()
        executor.shutdown(cancel_futures=True)
        held.close()
        leash.close()


def _start_process(pickled: bytes, leash: Connection) -> None:
    global _JOB
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole group; the process that started this one answers for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    _JOB = pickle.loads(pickled)


def _end_with(leash: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        leash.recv_bytes()
    os._exit(1)


def _estimate_in_process(pickled: bytes) -> TaskResult:
    assert _JOB is not None
    return estimate(_JOB, pickle.loads(pickled))


# ------------------------------------------------------------------------------------- cluster


def _run_on_cluster(
    job: Job, tasks: Sequence[Task], client: Any
) -> Iterator[tuple[Task, TaskResult]]:
    try:
        from distributed import as_completed
    except ImportError as error:
        raise InputError(
            'client: dask.distributed is not installed; pip install "emergence-stats[cluster]"'
        ) from error
    shared = client.scatter(_pickle(job), broadcast=True, hash=False)
    futures = {
        client.submit(_estimate_on_worker, shared, pickle.dumps(task), pure=False): task
        for task in tasks
    }
    try:
        for future in as_completed(list(futures)):
            yield futures[future], future.result()
    finally:
        client.cancel(list(futures))


def _estimate_on_worker(pickled_job: bytes, pickled_task: bytes) -> TaskResult:
    # Not set back: another thread of this worker may be in the middle of an estimate.
    torch.set_num_threads(1)
    return estimate(_unpickle(pickled_job), pickle.loads(pickled_task))


@functools.lru_cache(maxsize=2)
def _unpickle(pickled: bytes) -> Job:
    return pickle.loads(pickled)


def _pickle(job: Job) -> bytes:
    try:
        # By value for what is defined in a script or notebook, which other processes lack.
        return cloudpickle.dumps(job)
    except Exception as error:
        raise InputError(
            f"build_model, loss_fn or data cannot be sent to another process "
            f"({first_line(error)}); define the functions in a module, or use workers=1"
        ) from error
