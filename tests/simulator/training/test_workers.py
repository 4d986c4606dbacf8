"""The processes that train runs: how they are handed out, and what happens when one ends early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import emergence_stats as es
from simulator.training import workers

# Speaks as a worker does, without training: seed 13 ends the process, seed 7 is refused.
STAND_IN = """
import json, os, sys
for line in iter(sys.stdin.readline, ""):
    folder, seed = json.loads(line)
    print("a library's print", flush=True)
    if seed == 13:
        os._exit(9)
    event = {"error": "no such seed"} if seed == 7 else {"step": seed, "process": os.getpid()}
    print(json.dumps(event), flush=True)
    print(json.dumps({"ended": 2 if seed == 7 else 0}), flush=True)
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """Stand-ins take the place of workers; the list holds those that were started."""
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", STAND_IN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    monkeypatch.setattr(workers, "_start", start)
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 2)
    return processes


def handed_out(seeds: list[int]) -> list[tuple[workers.Run, dict[str, object]]]:
    seen: list[tuple[workers.Run, dict[str, object]]] = []
    workers.train_in_processes(
        [("a", seed) for seed in seeds],
        {"a": Path("folder")},
        lambda run, event: seen.append((run, event)),
    )
    return seen


def test_each_run_is_trained_once_by_one_process_a_core(
    started: list[subprocess.Popen[str]],
) -> None:
    seen = handed_out(list(range(5)))
    assert sorted(run[1] for run, _ in seen) == list(range(5))
    assert all(event["step"] == run[1] for run, event in seen)
    assert {event["process"] for _, event in seen} <= {process.pid for process in started}
    assert len(started) == 2
    assert [process.returncode for process in started] == [0, 0]


def test_a_single_run_needs_one_process_and_none_need_none(
    started: list[subprocess.Popen[str]],
) -> None:
    handed_out([])
    assert started == []
    handed_out([3])
    assert len(started) == 1


@pytest.mark.parametrize(
    ("seed", "message"), [(13, "seed 13: its process ended with code 9"), (7, "no such seed")]
)
def test_a_run_that_is_not_trained_is_an_error_and_no_other_begins(
    started: list[subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    message: str,
) -> None:
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 1)
    begun = []
    begin = workers._Worker.begin
    monkeypatch.setattr(
        workers._Worker, "begin", lambda self, *run: begun.append(run) or begin(self, *run)
    )
    with pytest.raises(es.StorageError, match=message):
        handed_out([seed, 1, 2])
    assert [run[1] for run, _ in begun] == [seed]
    assert [process.returncode for process in started] == [9 if seed == 13 else 0]


def test_processes_end_when_the_caller_is_interrupted(
    started: list[subprocess.Popen[str]],
) -> None:
    def interrupt(run: workers.Run, event: dict[str, object]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.train_in_processes([("a", 1), ("a", 2)], {"a": Path("folder")}, interrupt)
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)
