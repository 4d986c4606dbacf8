"""The processes that train runs: how they are handed out, and what happens when one ends early."""

from __future__ import annotations

import os
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
    print(json.dumps({"step": seed, "process": os.getpid()}), flush=True)
    if seed == 13:
        os._exit(9)
    if seed == 7:
        print(json.dumps({"error": "no such seed"}), flush=True)
    print(json.dumps({"ended": 2 if seed == 7 else 0}), flush=True)
"""


@pytest.fixture
def events(monkeypatch):
    """Stand-ins take the place of two workers; the list holds what they report."""
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", STAND_IN))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return []


def train(seeds, events, report=None):
    runs = [("a", seed) for seed in seeds]
    note = report or (lambda run, event: events.append((run, event)))
    workers.train_in_processes(runs, {"a": Path("folder")}, note)


def processes(events):
    return {event["process"] for _, event in events if "process" in event}


def assert_ended(numbers):
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_each_run_is_trained_once_by_one_process_a_core(events):
    train(range(5), events)
    assert sorted(run[1] for run, _ in events) == list(range(5))
    assert all(event["step"] == run[1] for run, event in events)
    assert len(processes(events)) <= 2
    assert_ended(processes(events))


def test_a_single_run_needs_one_process_and_none_need_none(events, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    train([3], events)
    assert len(processes(events)) == 1
    monkeypatch.setattr(workers, "COMMAND", ("/no/such/program",))
    train([], events)


@pytest.mark.parametrize(
    ("seed", "message"), [(13, "seed 13: its process ended with code 9"), (7, "no such seed")]
)
def test_a_run_that_is_not_trained_is_an_error_and_no_other_begins(
    events, monkeypatch, seed, message
):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(es.StorageError, match=message):
        train([seed, 1, 2], events)
    assert {run[1] for run, _ in events} == {seed}
    assert_ended(processes(events))


def test_processes_end_when_the_caller_is_interrupted(events):
    def interrupt(run, event):
        events.append((run, event))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([1, 2], events, interrupt)
    assert processes(events)
    assert_ended(processes(events))
