"""Particles in a box, and a small transformer that learns to simulate them.

What lives here: the public names and nothing else, each imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.data.generation import generate_transitions as generate_transitions
    from simulator.experiments.condition import Condition as Condition
    from simulator.experiments.conditions import run_conditions as run_conditions
    from simulator.experiments.contrasts import paired_contrast as paired_contrast
    from simulator.experiments.contrasts import steps_to_emergence as steps_to_emergence
    from simulator.network.heads import (
        attention_distance_correlation as attention_distance_correlation,
    )
    from simulator.network.heads import collision_score as collision_score
    from simulator.network.model import ParticleTransformer as ParticleTransformer
    from simulator.network.model import rollout as rollout
    from simulator.physics.simulation import simulate as simulate
    from simulator.physics.system import ParticleSystem as ParticleSystem
    from simulator.training.config import TrainingConfig as TrainingConfig
    from simulator.training.config import preset as preset
    from simulator.training.runs import train as train

_HOME = {
    "Condition": "experiments.condition",
    "ParticleSystem": "physics.system",
    "ParticleTransformer": "network.model",
    "TrainingConfig": "training.config",
    "attention_distance_correlation": "network.heads",
    "collision_score": "network.heads",
    "generate_transitions": "data.generation",
    "paired_contrast": "experiments.contrasts",
    "preset": "training.config",
    "rollout": "network.model",
    "run_conditions": "experiments.conditions",
    "simulate": "physics.simulation",
    "steps_to_emergence": "experiments.contrasts",
    "train": "training.runs",
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
