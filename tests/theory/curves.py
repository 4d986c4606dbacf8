"""Curves with orders that are known."""

from __future__ import annotations

import numpy as np
import xarray as xr

import emergence_stats as es

STEP = np.unique(np.geomspace(1.0, 20_000.0, 60).round())


def heads(kappas, sd=0.02):
    generator = np.random.default_rng(0)
    rise = [es.relaxation(STEP, onset=300.0, timescale=200.0, kappa=k) for k in kappas]
    return xr.DataArray(
        np.array(rise) + sd * generator.normal(size=(len(rise), STEP.size)),
        dims=("head", "step"),
        coords={"step": STEP, "head": np.arange(len(rise)) + 10},
    )
