"""Claim (d): does the order of the dynamics agree with the change of the learning coefficient?

What lives here: the test, for the whole network and for single heads. What does not: what it rests
on (`dynamics`, `degeneracy`, `emergence_stats.theory.agreement`).

One coordinate in V ~ |q|^n relaxes with the order n and adds 1/n to the learning coefficient.
Where several coordinates move together, or multiply, the coefficient may change by more; so that
it changes by more is no proof against a potential of each, but against *one*.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.theory.agreement import agreement
from simulator.study.intervals import PROB

TOLERANCE = 0.1


def one_potential(
    dynamics: dict[str, Any], degeneracy: dict[str, Any], heads: xr.Dataset, *, seed: int = 0
) -> dict[str, Any]:
    """For one arm, and the late part of its rises.

    Returns
    -------
    dict
        `implied`, the posterior of 1/n; `network` and `collision_head`, each with the change
        measured, its standard error between runs, and the verdict of the test; `rank_correlation`
        over the heads that are followed, of 1/n with the refined coefficient's change, its interval
        from draws of both. `missing` where there is no posterior of an order.
    """
    late = dynamics.get("steps", {}).get("late", {})
    draws = late.get("population", {}).get("order_draws")
    if draws is None:
        return {"missing": late.get("population", {}).get("missing", "no collision heads")}
    order = xr.DataArray(np.array(draws), dims="draw")
    tail = 0.5 - 0.5 * PROB
    low, middle, high = np.nanquantile(1.0 / order.values, [tail, 0.5, 1.0 - tail])
    found: dict[str, Any] = {
        "implied": {"lower": float(low), "median": float(middle), "upper": float(high)}
    }
    changes = {
        "network": degeneracy["change"],
        "collision_head": degeneracy["refined"].get("change_collision"),
    }
    for name, change in changes.items():
        if change is None or not np.isfinite(change["upper"]):
            found[name] = {"missing": "fewer than two runs"}
            continue
        # The standard error behind Student's interval; its few degrees of freedom widen the
        # interval, and the normal error used here is taken as wide.
        from scipy import stats

        half = 0.5 * (change["upper"] - change["lower"])
        error = half / stats.norm.ppf(0.5 + 0.5 * PROB)
        result = agreement(order, change["mean"], error, tolerance=TOLERANCE).dataset
        found[name] = {
            "change": change["mean"],
            "standard_error": error,
            "tolerance": TOLERANCE,
            "probability_within": float(result["probability_within"]),
            "verdict": str(result["verdict"].item()),
        }
    found["rank_correlation"] = rank_correlation(late, heads, seed=seed)
    return found


def rank_correlation(late: dict[str, Any], heads: xr.Dataset, *, seed: int = 0) -> dict[str, Any]:
    """Spearman's, of each followed head's 1/n with the change of its refined coefficient.

    Orders are drawn from the heads' own posteriors given the population, as normal in log kappa,
    changes as normal with their Monte Carlo errors.
    """
    from scipy import stats

    orders = late.get("population", {}).get("member_order", {})
    if "llc" not in heads or not heads.sizes.get("pair", 0):
        return {"missing": "no heads are followed"}
    rows = []
    for pair in heads["pair"].values:
        one = heads.sel(pair=pair, kind="collision")
        name = f"run {int(one['run'])} head {one['collision_head'].item()}"
        llc, error = one["llc"].dropna("step"), one["llc_standard_error"].dropna("step")
        if name not in orders or llc.size < 2:
            continue
        rows.append([*orders[name], float(llc[-1] - llc[0]), float(np.hypot(error[-1], error[0]))])
    if len(rows) < 5:
        return {"missing": f"{len(rows)} heads with both; 5 are needed", "heads": len(rows)}
    low, middle, high, change, error_ = np.array(rows).T
    random = np.random.default_rng(seed)
    z = stats.norm.ppf(0.5 + 0.5 * PROB)
    # An order of exactly 2, the exponential, is a kappa too small to see.
    low, middle, high = (np.maximum(one, 2.0 + 1e-4) for one in (low, middle, high))
    spread = (np.log(high - 2.0) - np.log(low - 2.0)) / (2.0 * z)
    kappa = np.exp(np.log(middle - 2.0) + spread * random.normal(size=(2000, len(rows))))
    moved = change + error_ * random.normal(size=kappa.shape)
    # The same heads are all there are: they are drawn anew too.
    index = random.integers(len(rows), size=kappa.shape)
    row = np.arange(len(kappa))[:, None]
    values = [
        stats.spearmanr(a, b).statistic
        for a, b in zip((1.0 / (2.0 + kappa))[row, index], moved[row, index], strict=True)
        if np.ptp(a) > 0 and np.ptp(b) > 0
    ]
    tail = 0.5 - 0.5 * PROB
    lower, median, upper = np.nanquantile(values, [tail, 0.5, 1.0 - tail])
    return {
        "median": float(median),
        "lower": float(lower),
        "upper": float(upper),
        "probability_positive": float(np.mean(np.array(values) > 0.0)),
        "heads": len(rows),
    }
