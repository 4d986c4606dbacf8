"""What a sweep is asked for: checked, and described so that another call can be told apart.

What lives here: the checks of `sweep_llc`'s options and parts, and what must be the same of two
calls that fill one store. What does not: the sweep (`sweep`) and the store (`store`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from emergence_stats import __version__
from emergence_stats.degeneracy.landscape.batches import SamplesAsNeeded, SampleTree
from emergence_stats.degeneracy.llc import estimate_llc
from emergence_stats.degeneracy.sweep.workers import Job, build_from
from emergence_stats.degeneracy.temperature import llc_by_temperature
from emergence_stats.errors import InputError, nearest

ALL = "all"
# Given by the sweep itself, so not among the options.
_OWN = {"model", "loss_fn", "data", "parts", "progress", "watch_samples"}
_FINGERPRINT_SAMPLES = 256


def describe_settings(
    job: Job, samples: SampleTree | SamplesAsNeeded, stored: xr.Dataset | None
) -> dict[str, Any]:
    """What must not change between two calls that fill one store."""
    model = build_from(job)
    shapes = [f"{name} {tuple(value.shape)}" for name, value in model.named_parameters()]
    # What the loss function does is told from what it gives at a fixed point: the model with every
    # parameter set to a pattern, on the first samples.
    with torch.no_grad():
        for count, value in enumerate(model.parameters(), 1):
            pattern = torch.linspace(-1.0, 1.0, value.numel() or 1)[: value.numel()]
            value.copy_(0.1 * (pattern + 0.1 * math.sin(count)).reshape(value.shape))
    model.eval()
    first = samples.take(slice(0, min(samples.num_samples, _FINGERPRINT_SAMPLES)))
    try:
        with torch.no_grad():
            number = float(job.loss_fn(model, first))
    except Exception:  # what is wrong with it, the first estimate says
        number = math.nan
    settings = {
        **{name: _describe(value) for name, value in job.options.items()},
        "parts": {name: _describe(value) for name, value in job.parts.items()},
        "data": _describe(samples.marks()),
        "parameters of the model": hashlib.sha256("\n".join(shapes).encode()).hexdigest()[:16],
        "loss at a fixed point": number if math.isfinite(number) else str(number),
        "package version": __version__,
    }
    if stored is not None:
        before = json.loads(stored.attrs["settings"]).get("loss at a fixed point")
        # Sums may run in another order on another processor.
        if isinstance(before, float) and math.isclose(before, number, rel_tol=1e-4):
            settings["loss at a fixed point"] = before
    return settings


def check_parts(parts: Any) -> dict[str, Any]:
    """Patterns or masks by name; all parameters as `ALL` where none were given."""
    if parts is None:
        return {ALL: None}
    if not isinstance(parts, Mapping) or not parts:
        raise InputError(
            f"parts: got {parts!r}; give a mapping of names to patterns, such as "
            '{"head": ["head.*"], "all": None}'
        )
    checked = {}
    for name, patterns in parts.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"parts: {name!r} is no name; the keys of parts are names")
        checked[name] = [patterns] if isinstance(patterns, str) else patterns
    return checked


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses what no estimate of the sweep could be given."""
    several = "inverse_temperatures" in options
    estimator: Callable[..., Any] = llc_by_temperature if several else estimate_llc
    valid = {*inspect.signature(estimator).parameters} - _OWN
    for name in options:
        if name not in valid:
            raise InputError(f"{name}: no argument of {estimator.__name__}{nearest(name, valid)}")
    seed = options.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, got {seed!r}")


def _describe(value: Any) -> Any:
    """A value as something JSON can hold and that differs when the value does."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu().contiguous() if isinstance(value, Tensor) else value
        tensor = torch.as_tensor(array).contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        head = f"{tensor.dtype} {tuple(tensor.shape)} "
        return head + hashlib.sha256(raw).hexdigest()[:16]
    if isinstance(value, Mapping):
        return {str(key): _describe(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_describe(inner) for inner in value]
    return repr(value)
