"""Populations whose truth is known, and fewer points for tests that ask little of their accuracy.

What lives here: `heads` and `scattered`, curves; `fewer_points`. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import xarray as xr

import emergence_stats as es
from emergence_stats.population import importance

STEP = np.unique(np.geomspace(1.0, 20_000.0, 60).round())
# Of one head after another; 1 and 4/3 are of deep linear networks of two and three layers.
TAKEOFFS = np.array([0.5, 1.0, 4.0 / 3.0])


def heads(seed, *, kappa, timescale, onset=300.0, sd=0.02, step=STEP, gradual=False):
    generator = np.random.default_rng(seed)
    onset, timescale, kappa = np.broadcast_arrays(onset, timescale, kappa)
    takeoff = gradual * np.resize(TAKEOFFS, onset.size)
    clean = [
        es.relaxation(step, onset=o, timescale=t, kappa=k, takeoff=a)
        for o, t, k, a in zip(onset, timescale, kappa, takeoff, strict=True)
    ]
    noisy = np.array(clean) + sd * generator.normal(size=(len(clean), step.size))
    return xr.DataArray(
        noisy, dims=("head", "step"), coords={"step": step, "head": np.arange(len(clean))}
    )


def scattered(seed, kappa, **options):
    """Heads whose onsets and timescales differ too."""
    generator = np.random.default_rng(1000 + seed)
    timescale = 200.0 * np.exp(0.5 * generator.normal(size=kappa.size))
    onset = 300.0 * np.exp(0.3 * generator.normal(size=kappa.size))
    return heads(seed, kappa=kappa, timescale=timescale, onset=onset, **options)


@contextmanager
def fewer_points() -> Iterator[None]:
    """Half of the points: probabilities of the hypotheses change by a hundredth at most."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("NUM_ADAPT", 192), ("MAX_ROUNDS", 5), ("NUM_POINTS", 768)):
            patch.setattr(importance, name, value)
        yield
