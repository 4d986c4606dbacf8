"""Particles in a box, and a small transformer that learns to simulate them.

What lives here: the public names and nothing else, each imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.condition import Condition as Condition
    from simulator.conditions import run_conditions as run_conditions
    from simulator.config import TrainingConfig as TrainingConfig
    from simulator.config import preset as preset
    from simulator.contrasts import paired_contrast as paired_contrast
    from simulator.contrasts import steps_to_emergence as steps_to_emergence
    from simulator.dataset import generate_transitions as generate_transitions
    from simulator.heads import attention_distance_correlation as attention_distance_correlation
    from simulator.heads import collision_score as collision_score
    from simulator.model import ParticleTransformer as ParticleTransformer
    from simulator.model import rollout as rollout
    from simulator.physics import ParticleSystem as ParticleSystem
    from simulator.physics import simulate as simulate
    from simulator.runs import train as train

_HOME = {
    "Condition": "condition",
    "ParticleSystem": "physics",
    "ParticleTransformer": "model",
    "TrainingConfig": "config",
    "attention_distance_correlation": "heads",
    "collision_score": "heads",
    "generate_transitions": "dataset",
    "paired_contrast": "contrasts",
    "preset": "config",
    "rollout": "model",
    "run_conditions": "conditions",
    "simulate": "physics",
    "steps_to_emergence": "contrasts",
    "train": "runs",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
