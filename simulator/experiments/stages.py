"""Stages of a long job, each kept on disk when it is done.

What lives here: taking a stage's result from its file or computing and keeping it, what the stage
cost, spreading work over processes, and telling what is under way. What does not: the stages
(`demo`, `study`).
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import xarray as xr

from emergence_stats.errors import StorageError
from simulator.training.files import keep_dataset, read_dataset

# How many threads a process may use, in the words of the libraries NumPy and PyTorch compute with.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def compute_once(path: Path, key: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
    """A stage's result from its file if it is there and current, else computed and kept.

    A file with another key is computed anew and replaced. The result has the attributes
    `computed_for` (the key), `seconds` on the clock, and `processor_seconds` of this process and
    those it waited for.
    """
    if path.exists():
        stored, stored_key = read_dataset(path)
        if stored_key == key:
            return stored
    clock, processor = time.monotonic(), processor_seconds()
    result = compute().assign_attrs(computed_for=key)
    result.attrs["seconds"] = time.monotonic() - clock
    result.attrs["processor_seconds"] = processor_seconds() - processor
    keep_dataset(result, path, key)
    return result


def map_in_processes[Given, Answer](
    function: Callable[[Given], Answer],
    given: Sequence[Given],
    workers: int,
    report: Callable[[Given], None] = lambda _: None,
) -> list[Answer]:
    """The function of each, in order, by so many processes of one thread each.

    With one worker, or one thing to do, it happens in this process. `report` is told of each that
    is done. A process that ends early is a StorageError.
    """

    def collect(found: Iterable[Answer]) -> list[Answer]:
        answers = []
        for one, answer in zip(given, found, strict=True):
            answers.append(answer)
            report(one)
        return answers

    if workers <= 1 or len(given) <= 1:
        return collect(map(function, given))
    # Not forked: PyTorch's threads would not survive it.
    context = multiprocessing.get_context("spawn")
    # Libraries read these as they are loaded, so a process has them from its birth.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    pool = ProcessPoolExecutor(min(workers, len(given)), mp_context=context)
    try:
        return collect(pool.map(function, given))
    except BrokenProcessPool as error:
        raise StorageError("a process ended early; the same command goes on from there") from error
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def processor_seconds() -> float:
    """Processor time of this process so far, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def announce_on_terminal(progress: bool) -> Callable[[str], None]:
    """A function that tells in words, with the time, what is under way; or does not."""
    if not progress:
        return lambda _: None
    from rich.console import Console

    console = Console(stderr=True)
    return lambda text: console.log(text, highlight=False)
