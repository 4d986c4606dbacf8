"""Data of the study's form whose truth is known.

What lives here: trajectories, tests of heads, sweeps and refined coefficients, made by hand for the
tests of `simulator.study`. What does not: tests.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

import emergence_stats as es

STEP = np.unique(np.r_[0, np.geomspace(1, 2000, 30).round(), np.arange(0, 2001, 50)]).astype(int)


def make_tests(passes, score=None):
    """What `measurements.assess_heads` gives, from (run, layer, head) flags."""
    passes = np.asarray(passes)
    score = np.where(passes, 0.8, 0.15) if score is None else np.asarray(score)
    dims = ("run", "layer", "head")
    return xr.Dataset(
        {"is_collision_head": (dims, passes), "collision_score": (dims, score)},
        coords={dim: np.arange(size) for dim, size in zip(dims, passes.shape, strict=True)},
    )


def make_trajectory(rises, seed=0):
    """A trajectory in which head (0, k) of run r follows ``rises[r][k]`` (None stays flat)."""
    random = np.random.default_rng(seed)
    values = np.full((len(rises), STEP.size, 1, len(rises[0])), 0.1)
    for run, heads in enumerate(rises):
        for head, law in enumerate(heads):
            if law is not None:
                rise = es.relaxation(STEP, **law)
                values[run, :, 0, head] += 0.7 * rise
    values += 0.005 * random.normal(size=values.shape)
    return xr.Dataset(
        {
            "collision_score": (("run", "step", "layer", "head"), values, {"baseline": 0.1}),
            "learning_rate": (("run", "step"), np.full(values.shape[:2], 1e-3)),
        },
        coords={
            "run": np.arange(len(rises)),
            "step": STEP,
            "layer": [0],
            "head": np.arange(len(rises[0])),
        },
    )


def make_sweep(onset, change, runs=3, seed=0, sd=0.4):
    step = np.unique(np.geomspace(10, 2000, 24).round()).astype(int)
    random = np.random.default_rng(seed)
    values = np.array(
        [
            change * es.relaxation(step, onset=onset + 10.0 * run, timescale=200.0, kappa=0.0)
            for run in range(runs)
        ]
    )
    values += sd * random.normal(size=values.shape)
    dims = ("run", "step")
    return xr.Dataset(
        {
            "llc": (dims, values),
            "llc_standard_error": (dims, np.full(values.shape, sd)),
            "verdict": (dims, np.full(values.shape, "reliable", dtype=object)),
        },
        coords={"run": np.arange(runs), "step": step},
    )


def make_heads(collision, control, orders=None):
    """Refined coefficients: first checkpoint 1, the last as given, one pair a run."""
    last = np.stack([collision, control], axis=1)
    values = np.stack([np.ones_like(last), last], axis=-1)
    dims = ("pair", "kind", "step")
    return xr.Dataset(
        {"llc": (dims, values), "llc_standard_error": (dims, np.full(values.shape, 0.05))},
        coords={
            "pair": np.arange(len(last)),
            "kind": ["collision", "control"],
            "step": [10, 2000],
            "run": ("pair", np.arange(len(last))),
            "collision_head": ("pair", np.full(len(last), "0.0")),
            "control_head": ("pair", np.full(len(last), "0.1")),
        },
    )


def make_dynamics(order, orders=None):
    draws = np.linspace(order - 0.2, order + 0.2, 41)
    return {
        "steps": {
            "late": {"population": {"order_draws": draws.tolist(), "member_order": orders or {}}}
        }
    }
