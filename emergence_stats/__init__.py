"""Statistics and theory of emergence in neural-network training.

What lives here: the public names and nothing else. Each is imported when first used, so that
``import emergence_stats`` stays quick and does not load torch, PyMC or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emergence_stats.comparison.comparison import Comparison as Comparison
    from emergence_stats.comparison.comparison import compare as compare
    from emergence_stats.comparison.planning import identifiability as identifiability
    from emergence_stats.curves.families import Family as Family
    from emergence_stats.curves.families import register_family as register_family
    from emergence_stats.curves.shapes import relaxation as relaxation
    from emergence_stats.curves.simulation import simulate_curves as simulate_curves
    from emergence_stats.data.trajectory import curve as curve
    from emergence_stats.data.trajectory import open_trajectory as open_trajectory
    from emergence_stats.degeneracy.curvature import curvature as curvature
    from emergence_stats.degeneracy.judgement.results import LLC as LLC
    from emergence_stats.degeneracy.judgement.results import LLCByTemperature as LLCByTemperature
    from emergence_stats.degeneracy.llc import estimate_llc as estimate_llc
    from emergence_stats.degeneracy.parts import attention_head as attention_head
    from emergence_stats.degeneracy.sweep.sweep import sweep_llc as sweep_llc
    from emergence_stats.degeneracy.temperature import llc_by_temperature as llc_by_temperature
    from emergence_stats.errors import InputError as InputError
    from emergence_stats.errors import StorageError as StorageError
    from emergence_stats.nuts.fitting import Fit as Fit
    from emergence_stats.nuts.fitting import fit as fit
    from emergence_stats.nuts.forecasting import compare_forecasts as compare_forecasts
    from emergence_stats.online.monitor import Monitor as Monitor
    from emergence_stats.online.online import OnlineOnset as OnlineOnset
    from emergence_stats.online.online import detect_online as detect_online
    from emergence_stats.onset.onset import Onset as Onset
    from emergence_stats.onset.onset import detect_onset as detect_onset
    from emergence_stats.population.hierarchical import (
        HierarchicalComparison as HierarchicalComparison,
    )
    from emergence_stats.population.hierarchical import compare_hierarchical as compare_hierarchical
    from emergence_stats.segmentation.segmentation import Segmentation as Segmentation
    from emergence_stats.segmentation.segmentation import segment as segment
    from emergence_stats.theory import exact as exact
    from emergence_stats.theory.potential import EffectivePotential as EffectivePotential

__version__ = "0.1.0"

_HOME = {
    "Comparison": "comparison.comparison",
    "EffectivePotential": "theory.potential",
    "Family": "curves.families",
    "Fit": "nuts.fitting",
    "HierarchicalComparison": "population.hierarchical",
    "InputError": "errors",
    "LLC": "degeneracy.judgement.results",
    "LLCByTemperature": "degeneracy.judgement.results",
    "Monitor": "online.monitor",
    "OnlineOnset": "online.online",
    "Onset": "onset.onset",
    "Segmentation": "segmentation.segmentation",
    "StorageError": "errors",
    "attention_head": "degeneracy.parts",
    "compare": "comparison.comparison",
    "compare_forecasts": "nuts.forecasting",
    "compare_hierarchical": "population.hierarchical",
    "curvature": "degeneracy.curvature",
    "curve": "data.trajectory",
    "detect_online": "online.online",
    "detect_onset": "onset.onset",
    "estimate_llc": "degeneracy.llc",
    "exact": "theory",
    "fit": "nuts.fitting",
    "identifiability": "comparison.planning",
    "llc_by_temperature": "degeneracy.temperature",
    "open_trajectory": "data.trajectory",
    "register_family": "curves.families",
    "relaxation": "curves.shapes",
    "segment": "segmentation.segmentation",
    "simulate_curves": "curves.simulation",
    "sweep_llc": "degeneracy.sweep.sweep",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
