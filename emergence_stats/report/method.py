"""How the results were made: configuration, versions, definitions, references.

What lives here: the last section's contents. What does not: results (`sections`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import xarray as xr

from emergence_stats.report.records import Findings

PACKAGES = ("numpy", "scipy", "xarray", "zarr", "torch", "pymc", "arviz", "matplotlib")

DEFINITIONS = (
    (
        "Collision score",
        "Mean, over particles with at least one neighbour within the contact range, of the share "
        "of their attention to other particles that falls within that range. Its baseline, the "
        "score of a head that ignores distance, is the mean share of other particles in range.",
    ),
    (
        "Attention-distance correlation g(r)",
        "Mean attention to particles at distance r divided by the mean attention over all pairs, "
        "self excluded; 1 everywhere for a head that ignores distance.",
    ),
    (
        "Relaxation law",
        "y(t) = a + b (1 − q(t)), with q = 1 before the onset t₀ and "
        "q = (1 + κ (t − t₀)/τ)^(−1/κ) after it: the motion of a coordinate down an effective "
        "potential of order n = κ + 2 under gradient flow. κ = 0 is the exponential, κ > 0 a power "
        "law with exponent α = 1/κ = 1/(n − 2).",
    ),
    (
        "Onset",
        "The step t₀ at which the score leaves its baseline; given as posterior median with its "
        "89% interval, and with the probability that there is an onset at all.",
    ),
    (
        "Local learning coefficient (LLC)",
        "λ = nβ (E[L(w)] − L(w*)) under the posterior localised at the checkpoint w*, with "
        "β = 1/log n; smaller means a more degenerate, that is less complex, solution. It is "
        "defined at a minimum of the loss, so early checkpoints may be diagnosed as not being one.",
    ),
    (
        "Rollout error",
        "Root mean square distance between predicted and true centres when the network is applied "
        "to its own predictions, in particle diameters.",
    ),
    (
        "89% interval",
        "From the 5.5% to the 94.5% quantile of the posterior, or the range that a normal "
        "approximation gives the same probability.",
    ),
)

REFERENCES = (
    "Hitchcock, Delaney, Manton, Scalzo, Zhu (2025). Emergence of Computational Structure in a "
    "Neural Network Physics Simulator. arXiv 2504.11830.",
    "Lau, Furman, Wang, Murfet, Wei (2023). The Local Learning Coefficient: A Singularity-Aware "
    "Complexity Measure. arXiv 2308.12108.",
)


@dataclass(frozen=True)
class Method:
    """What the last section shows.

    Attributes
    ----------
    toml : str
        The configuration as a TOML file; empty where none was recorded.
    command : str
        What trains and analyses the same again.
    versions : tuple of (package, version)
    time_axis : str
    definitions, references : tuple
    """

    toml: str
    command: str
    versions: tuple[tuple[str, str], ...]
    time_axis: str
    definitions: tuple[tuple[str, str], ...] = DEFINITIONS
    references: tuple[str, ...] = REFERENCES


def read_method(trajectory: xr.Dataset, findings: Findings) -> Method:
    """What is recorded of how the trajectory was made, and what computed this report."""
    recorded = str(trajectory.attrs.get("version", "")) or "not recorded"
    versions = [("emergence-stats, training", recorded)]
    for package in ("emergence-stats", *PACKAGES):
        try:
            versions.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return Method(
        toml=as_toml(findings.configuration),
        command="emergence demo --config configuration.toml --output runs/again",
        versions=tuple(versions),
        time_axis=str(trajectory.attrs.get("time_axis", "")) or "optimiser steps",
    )


def as_toml(values: Mapping[str, Any]) -> str:
    """Plain values as the lines of a TOML file; what TOML cannot hold is left out.

    Examples
    --------
    >>> print(as_toml({"width": 64, "learning_rate": 0.001, "seeds": [0, 1], "device": "auto"}))
    width = 64
    learning_rate = 0.001
    seeds = [0, 1]
    device = "auto"
    """
    lines = []
    for key, value in values.items():
        bare = key.replace("-", "").replace("_", "")
        name = key if bare.isascii() and bare.isalnum() else json.dumps(key)
        text = _toml_value(value)
        if text is not None:
            lines.append(f"{name} = {text}")
    return "\n".join(lines)


def _toml_value(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # TOML wants a digit on both sides of the point and writes infinity its own way.
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        parts = [_toml_value(item) for item in value]
        return None if None in parts else f"[{', '.join(str(part) for part in parts)}]"
    return None
