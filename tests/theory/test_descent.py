"""Orders of real gradient descent on small losses, as theory has them."""

from __future__ import annotations

import numpy as np
import xarray as xr

import emergence_stats as es

RATE = 0.002
BEFORE = 1000


def descend(depth, *, target, start, steps):
    """Product w_1 ... w_N of a scalar deep linear network, by gradient descent from `start`."""
    w, out, at = np.full(depth, start), [], BEFORE
    for step in steps:
        for _ in range(at, step):
            product = w.prod()
            w = w - RATE * (product - target) * product / w
        at = max(at, step)
        out.append(w.copy())
    return np.array(out)


def measured(scores, steps):
    noise = 0.005 * np.random.default_rng(3).normal(size=(len(scores), steps.size))
    return xr.DataArray(
        np.array([score * (1 / np.ptp(score)) for score in scores]) + noise,
        dims=("score", "step"),
        coords={"step": steps},
    )


def test_degenerate_minima_give_their_orders():
    """L = (w_1 w_2 w_3)^2 / 2 with all alike is w^6 / 2; its product has order 4 - 2/3; and w^4."""
    steps = np.unique(
        np.r_[np.arange(125, BEFORE + 1, 125), BEFORE + np.geomspace(50, 60_000, 40)].astype(int)
    )
    three, two = (descend(n, target=0.0, start=1.0, steps=steps) for n in (3, 2))
    curves = measured([three[:, 0], three.prod(axis=1), two[:, 0]], steps)
    result = es.compare(curves).dataset
    order = result["order"].transpose("score", "quantile").values
    for (low, _, high), theory in zip(order, (6.0, 4.0 - 2.0 / 3.0, 4.0), strict=True):
        assert low <= theory <= high
        assert high - low < 1.0
    assert (result["verdict"] == "power_law").all()


def test_escape_from_a_saddle_is_no_relaxation():
    """p' = 2 p (1 - p) for two layers (Saxe et al. 2014): logistic; exponential once past half."""
    rate, start = 2.0 * RATE, 0.03**2
    half = BEFORE + np.log(1.0 / start - 1.0) / rate
    whole = np.linspace(half - 2000, half + 2000, 40).astype(int)
    score = descend(2, target=1.0, start=0.03, steps=whole).prod(axis=1)
    theory = 1.0 / (1.0 + np.exp(-rate * (whole - half)))
    assert np.abs(score - theory).max() < 0.01
    families = ("exponential", "power_law", "logistic")
    result = es.compare(measured([score], whole), families=families, step_prior="linear").dataset
    assert result["verdict"].item() == "logistic"
    after = np.linspace(half, half + 4000, 40).astype(int)
    score = descend(2, target=1.0, start=0.03, steps=after).prod(axis=1)
    result = es.compare(measured([score], after), step_prior="linear").dataset
    assert result["verdict"].item() == "exponential"
