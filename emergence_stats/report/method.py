"""How the results were made: configuration and versions.

What does not live here: results (`sections`), and the definitions, which are in the template.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import metadata
from typing import Any

PACKAGES = ("numpy", "scipy", "xarray", "zarr", "torch", "pymc", "arviz", "matplotlib")


def list_versions(training: str) -> list[tuple[str, str]]:
    """Packages and their versions: what trained, then what computed this report."""
    versions = [("emergence-stats, training", training)]
    for package in ("emergence-stats", *PACKAGES):
        try:
            versions.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_toml(values: Mapping[str, Any]) -> str:
    """Plain values as the lines of a TOML file; what TOML cannot hold is left out.

    Examples
    --------
    >>> print(write_toml({"width": 64, "learning_rate": 0.001, "seeds": [0, 1], "device": "auto"}))
    width = 64
    learning_rate = 0.001
    seeds = [0, 1]
    device = "auto"
    """
    lines = []
    for key, value in values.items():
        bare = key.replace("-", "").replace("_", "")
        name = key if bare.isascii() and bare.isalnum() else json.dumps(key)
        text = _write_value(value)
        if text is not None:
            lines.append(f"{name} = {text}")
    return "\n".join(lines)


def _write_value(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # TOML writes infinity its own way.
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, int | str):
        return json.dumps(value)
    if isinstance(value, list):
        parts = [_write_value(item) for item in value]
        return None if None in parts else f"[{', '.join(str(part) for part in parts)}]"
    return None
