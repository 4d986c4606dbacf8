"""Claim (d): does the order of the dynamics agree with the change of the learning coefficient?

What lives here: the test, for the whole network and for single heads. What does not: what it rests
on (`dynamics`, `degeneracy`, `emergence_stats.theory.agreement`).

One coordinate in V ~ |q|^n relaxes with the order n and adds 1/n to the learning coefficient.
Where several coordinates move together, or multiply, the coefficient may change by more; so that
it changes by more is no proof against a potential of each, but against *one*. That it changes by
less proves nothing either: coefficients are localised here, which hides what is degenerate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.checks import PROB
from emergence_stats.theory.agreement import agreement
from simulator.study.intervals import summarise_draws

TOLERANCE = 0.1


def check_potential(
    dynamics: dict[str, Any], degeneracy: dict[str, Any], heads: xr.Dataset, *, seed: int = 0
) -> dict[str, Any]:
    """For one arm, and the late part of its rises, does one potential fit?

    Returns
    -------
    dict
        `implied`, the posterior of 1/n; `network` and `collision_head`, each with the change
        measured, its interval and standard error between runs, and the verdict of the test;
        `rank_correlation` over the heads that are followed, of 1/n with the refined coefficient's
        change, its interval over runs. `missing` where there is no posterior of an order.
    """
    late = dynamics.get("steps", {}).get("late", {})
    draws = late.get("population", {}).get("order_draws")
    if draws is None:
        return {"missing": late.get("population", {}).get("missing", "no collision heads")}
    order = xr.DataArray(np.array(draws), dims="draw")
    implied = summarise_draws(1.0 / order.values)
    found: dict[str, Any] = {"implied": implied}
    changes = {
        "network": degeneracy["change"],
        "collision_head": degeneracy["refined"].get("change_collision"),
    }
    for name, change in changes.items():
        if change is None or not np.isfinite(change["upper"]):
            found[name] = {"missing": "fewer than two runs"}
            continue
        from scipy import stats

        half, upper = 0.5 * (change["upper"] - change["lower"]), 0.5 + 0.5 * PROB
        # Normal, and as wide as Student's interval with its few degrees of freedom.
        error = half / stats.norm.ppf(upper)
        result = agreement(order, change["mean"], error, tolerance=TOLERANCE).dataset
        found[name] = {
            "change": change["mean"],
            "lower": change["lower"],
            "upper": change["upper"],
            "standard_error": half / stats.t.ppf(upper, change["number"] - 1),
            "tolerance": TOLERANCE,
            "probability_within": float(result["probability_within"]),
            "verdict": _verdict(str(result["verdict"].item()), change["mean"], implied["median"]),
        }
    found["rank_correlation"] = rank_correlation(late, heads, seed=seed)
    return found


def _verdict(found: str, change: float, implied: float) -> str:
    """Localisation lowers a coefficient, so that one below 1/n tells nothing against it."""
    return "undecided" if found == "disagree" and change < implied else found


def rank_correlation(late: dict[str, Any], heads: xr.Dataset, *, seed: int = 0) -> dict[str, Any]:
    """Spearman's, of each followed head's 1/n with the change of its refined coefficient.

    Of the medians of the heads' own posteriors given the population; its interval from runs drawn
    anew with all their heads (a bootstrap of clusters), for heads of one run are alike.
    """
    from scipy import stats

    orders = late.get("population", {}).get("member_order", {})
    if "llc" not in heads or not heads.sizes.get("pair", 0):
        return {"missing": "no heads are followed"}
    rows: dict[int, list[tuple[float, float]]] = {}
    for pair in heads["pair"].values:
        one = heads.sel(pair=pair, kind="collision")
        run = int(one["run"])
        name = f"run {run} head {one['collision_head'].item()}"
        llc = one["llc"].dropna("step")
        if name in orders and llc.size >= 2:
            rows.setdefault(run, []).append((1.0 / orders[name][1], float(llc[-1] - llc[0])))
    number = sum(len(each) for each in rows.values())
    if number < 5 or len(rows) < 3:
        missing = f"{number} heads of {len(rows)} runs with both; 5 of 3 are needed"
        return {"missing": missing, "heads": number}
    random = np.random.default_rng(seed)
    runs, values = list(rows), []
    for _ in range(2000):
        drawn = [row for k in random.integers(len(runs), size=len(runs)) for row in rows[runs[k]]]
        implied, change = np.array(drawn).T
        if np.ptp(implied) > 0 and np.ptp(change) > 0:
            values.append(float(stats.spearmanr(implied, change).statistic))
    if not values:
        return {"missing": "all heads have one order or one change", "heads": number}
    return {
        **summarise_draws(values),
        "probability_positive": float(np.mean(np.array(values) > 0.0)),
        "heads": number,
    }
