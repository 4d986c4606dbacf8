"""Kernels on disk do not outlive what they call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CALLED = """
from emergence_stats.noise.compiling import kernel

@kernel()
def answer():
    return {}
"""
CALLER = """
from called import answer
from emergence_stats.noise.compiling import kernel

@kernel()
def ask():
    return answer()

print(ask(), ask.stats.cache_hits.total())
"""


def test_a_kernel_is_compiled_anew_once_what_it_calls_changes(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    (tmp_path / "called.py").write_text(CALLED.format(1))
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    environment.pop("NUMBA_CACHE_DIR", None)

    def ask():
        command = [sys.executable, "-c", "import caller"]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return found.stdout.split()

    assert ask() == ["1", "0"]
    assert ask() == ["1", "1"]
    (tmp_path / "called.py").write_text(CALLED.format(20))
    assert ask() == ["20", "0"]
