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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import xarray as xr

from emergence_stats.errors import StorageError, disk_errors, first_line

# How many threads a process may use, in the words of the libraries NumPy and PyTorch compute with.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def kept(path: Path, key: str, compute: Callable[[], xr.Dataset]) -> xr.Dataset:
    """A stage's result from its file if it is there and current, else computed and kept.

    Parameters
    ----------
    path : Path
        A NetCDF file; its folder is made.
    key : str
        What the result depends on; a file with another key is computed anew and replaced.
    compute : callable
        Without arguments.

    Returns
    -------
    xarray.Dataset
        With the attributes `computed_for` (the key), `seconds` on the clock and
        `processor_seconds` of this process and those it waited for.

    Raises
    ------
    StorageError
        If the file is damaged or the disk is full.
    """
    if path.exists():
        try:
            with xr.open_dataset(path, engine="h5netcdf") as stored:
                if stored.attrs.get("computed_for") == key:
                    return stored.load()
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{path}: damaged ({first_line(error)}); delete it and run the same command again"
            ) from error
    clock, processor = time.monotonic(), processor_seconds()
    result = compute()
    result = result.assign_attrs(
        computed_for=key,
        seconds=time.monotonic() - clock,
        processor_seconds=processor_seconds() - processor,
    )
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        result.to_netcdf(partial, engine="h5netcdf", invalid_netcdf=True)
        os.replace(partial, path)
    return result


def in_processes[Given, Answer](
    function: Callable[[Given], Answer], given: Sequence[Given], workers: int
) -> list[Answer]:
    """The function of each, in order, by so many processes of one thread each.

    With one worker, or one thing to do, it happens in this process.
    """
    if workers <= 1 or len(given) <= 1:
        return [function(one) for one in given]
    # Not forked: PyTorch's threads would not survive it.
    context = multiprocessing.get_context("spawn")
    # Libraries read these as they are loaded, so a process has them from its birth.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        with ProcessPoolExecutor(min(workers, len(given)), mp_context=context) as pool:
            return list(pool.map(function, given))
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def processor_seconds() -> float:
    """Processor time of this process so far, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def announcer(progress: bool) -> Callable[[str], None]:
    """Tells in words, with the time, what is under way; or does not."""
    if not progress:
        return lambda _: None
    from rich.console import Console

    console = Console(stderr=True)
    return lambda text: console.log(text, highlight=False)
