"""Writing a benchmark's figures with what is needed to repeat them."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """The processor's own name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_result(name: str, command: str, figures: dict[str, Any], packages: tuple[str, ...] = ()):
    """Writes `results/NAME.json` with the date, the versions and the command."""
    versions = {
        package: importlib.metadata.version(package)
        for package in ("emergence-stats", "numpy", "torch", "numba", *packages)
    }
    record = {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "versions": versions,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": os.cpu_count(),
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path
