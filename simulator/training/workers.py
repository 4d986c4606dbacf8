"""Processes that train runs, each one run after another.

What lives here: both ends of such a process, `train_in_processes`, which hands out the runs, and
`main`, which takes them. What does not: the training loop (`loop`) and the folders (`folder`).

One single-threaded process for each core proved fastest on a CPU, before the seeds as one batched
ensemble. A process takes several seconds to load its libraries, so it is kept for as long as there
are runs.

The process reads a line ``["folder", seed]`` for each run and answers with lines of JSON: what
`train_seed` reports, and last ``{"ended": code}``. It ends where its input does.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType
from typing import Any

from emergence_stats.errors import InputError, StorageError
from simulator.training.checkpoints import run_folder
from simulator.training.loop import DIVERGED, INTERRUPTED, train_seed

COMMAND = (sys.executable, "-m", "simulator.training.workers")
REFUSED = 2  # for a reason that is reported

Run = tuple[str, int]  # the name of a configuration, and a seed of it
Report = Callable[[Run, dict[str, Any]], None]


def train_in_processes(runs: Sequence[Run], folders: Mapping[str, Path], report: Report) -> None:
    """Trains runs of folders laid out by `folder.prepare`, at most one process a core at a time.

    `report` is called with a run and what it reports, by one thread at a time. If a run could not
    be trained to its end, that is a StorageError; what was saved is kept.
    """
    if not runs:
        return
    waiting = collections.deque(runs)
    lock = threading.Lock()

    def tell(run: Run, event: dict[str, Any]) -> None:
        with lock:
            report(run, event)

    def serve(process: subprocess.Popen[str]) -> None:
        """Gives a process one run after another; after a problem nobody is given another."""
        assert process.stdin is not None
        try:
            while waiting:
                try:
                    run = waiting.popleft()
                except IndexError:  # another thread was quicker
                    break
                _train_in(process, run, folders[run[0]], tell)
        except BaseException:
            waiting.clear()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()

    processes: list[subprocess.Popen[str]] = []
    problems: list[BaseException] = []
    number = min(len(runs), os.cpu_count() or 1)
    pool = ThreadPoolExecutor(number)
    try:
        processes.extend(
            subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for _ in range(number)
        )
        for done in as_completed([pool.submit(serve, process) for process in processes]):
            error = done.exception()
            if isinstance(error, StorageError):  # the others finish what they are at
                problems.append(error)
            elif error is not None:
                raise error
    finally:  # after an interruption each saves where it is, and ends
        waiting.clear()
        for process in processes:
            process.terminate()
        pool.shutdown()
        for process in processes:
            with process:  # closes its pipes
                pass
    if problems:
        raise problems[0]


def _train_in(process: subprocess.Popen[str], run: Run, folder: Path, report: Report) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    problem, code = "", None
    try:
        process.stdin.write(json.dumps([str(folder), run[1]]) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if not line.startswith("{"):  # a library's print is no event
                continue
            event = json.loads(line)
            if "ended" in event:
                code = event["ended"]
                break
            problem = event.get("error", problem)
            report(run, event)
    except BrokenPipeError:
        pass
    if code not in (0, REFUSED, DIVERGED):
        code = process.wait() if code is None else code
        problem = f"seed {run[1]}: its process ended with code {code}; the same command resumes it"
    if problem:
        raise StorageError(problem)


def main() -> int:
    """The other end: trains the runs it is given, saves and ends on SIGINT or SIGTERM."""
    parent = os.getppid()
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, ask)

    def report(event: dict[str, Any]) -> None:
        nonlocal asked
        try:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:  # the parent is gone: end as it would have asked
            asked = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    # A process whose parent was killed ends at its next step.
    def stop() -> bool:
        return asked or os.getppid() != parent

    for line in iter(sys.stdin.readline, ""):
        folder, seed = json.loads(line)
        code = _train(Path(folder), seed, report, stop)
        report({"ended": code})
        if stop():
            return INTERRUPTED
    return 0


def _train(
    output: Path, seed: int, report: Callable[[dict[str, Any]], None], stop: Callable[[], bool]
) -> int:
    from filelock import FileLock, Timeout

    folder = run_folder(output, seed)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Another's worker that was left behind needs a moment to let go.
        with FileLock(folder / ".lock", timeout=60):
            return train_seed(output, seed, report=report, stop=stop)
    except Timeout:
        problem = f"{folder}: another process is training seed {seed}; end it first"
    except (InputError, StorageError) as error:
        problem = str(error)
    report({"error": problem})
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
