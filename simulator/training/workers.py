"""Processes that train runs, each one run after another.

What lives here: both ends of such a process, `train_in_processes`, which hands out the runs, and
`main`, which takes them. What does not: the training loop (`training`) and the folders (`runs`).

One single-threaded process for each core proved fastest on a CPU: see
`benchmarks/speed/training_speed.py`, which also measures the seeds as one batched ensemble. A
process takes several seconds to load its libraries, so it is kept for as long as there are runs.

The process reads a line ``["folder", seed]`` for each run and answers with lines of JSON: what
`train_seed` reports, and last ``{"ended": code}``. It ends where its input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from emergence_stats.errors import InputError, StorageError
from simulator.training.checkpoints import run_folder
from simulator.training.loop import DIVERGED, INTERRUPTED, train_seed

REFUSED = 2  # for a reason that is reported

Run = tuple[str, int]  # the name of a configuration, and a seed of it
Report = Callable[[Run, dict[str, Any]], None]


@dataclass(eq=False)
class _Worker:
    """A process, and the run it is at."""

    process: subprocess.Popen[str]
    run: Run | None = None

    def begin(self, run: Run, folder: Path) -> None:
        self.run = run
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone, and that is told elsewhere
            self.process.stdin.write(json.dumps([str(folder), run[1]]) + "\n")
            self.process.stdin.flush()

    def dismiss(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def train_in_processes(runs: Sequence[Run], folders: Mapping[str, Path], report: Report) -> None:
    """Trains runs, at most one process a core at a time.

    Parameters
    ----------
    runs : sequence of (str, int)
        The name of a folder and a seed of its configuration.
    folders : mapping of str to Path
        Laid out by `runs.prepare`.
    report : callable
        Called with a run and what it reports.

    Raises
    ------
    StorageError
        If a run could not be trained to its end; what was saved is kept.
    """
    waiting = list(runs)
    events: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
    workers: list[_Worker] = []
    problems: list[str] = []

    def next_for(worker: _Worker) -> None:
        if waiting and not problems:
            run = waiting.pop(0)
            worker.begin(run, folders[run[0]])
        else:
            worker.dismiss()

    try:
        for _ in range(min(len(waiting), max(1, os.cpu_count() or 1))):
            worker = _Worker(_start())
            workers.append(worker)
            threading.Thread(target=_listen, args=(worker, events), daemon=True).start()
            next_for(worker)
        present = len(workers)
        while present:
            worker, event = events.get()
            run = worker.run
            if event is None:  # its process has ended
                present -= 1
                code = worker.process.wait()
                if run is not None:
                    problems.append(_unfinished(run, code))
            elif run is None:
                continue
            elif "ended" in event:
                worker.run = None
                if event["ended"] not in (0, REFUSED, DIVERGED):
                    problems.append(_unfinished(run, event["ended"]))
                next_for(worker)
            else:
                if "error" in event:
                    problems.append(event["error"])
                report(run, event)
    finally:  # after an interruption each saves where it is, and ends
        for worker in workers:
            worker.dismiss()
            worker.process.terminate()
        for worker in workers:
            worker.process.wait()
    if problems:
        raise StorageError(problems[0])


def _unfinished(run: Run, code: int) -> str:
    return f"seed {run[1]}: its process ended with code {code}; the same command resumes it"


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulator.training.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _listen(
    worker: _Worker, events: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]
) -> None:
    assert worker.process.stdout is not None
    with worker.process.stdout as lines:
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):  # a library's print is no event
                events.put((worker, json.loads(line)))
    events.put((worker, None))


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
