"""Claim (a): do attention heads become collision detectors, and only where particles collide?

What lives here: shares of runs and heads with intervals, against the arms in which none may appear.
What does not: the tests a head must pass (`simulator.experiments.assessment`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.checks import PROB
from simulator.study.intervals import mean_over_runs, share


def count_structures(
    tests: Mapping[str, xr.Dataset], controls: Mapping[str, str | None], *, prob: float = PROB
) -> dict[str, Any]:
    """In what share of runs and of heads did a collision detector emerge, arm by arm?

    Parameters
    ----------
    tests : mapping of str to xarray.Dataset
        Per arm, from `measurements.assess_heads`.
    controls : mapping of str to str or None
        Of each arm, the one trained alike in which none may appear (`StudyPlan.control_of`).
    prob : float
        Of every interval.

    Returns
    -------
    dict
        By arm `runs`: `share` with its interval (Jeffreys) and counts; `heads_a_run`: mean with an
        interval between runs; where there is a `control`, its name, how many heads pass in it, and
        `probability_more_than_control`, that this arm's share of runs exceeds its.
    """
    found: dict[str, Any] = {}
    for arm, one in tests.items():
        has = _with_a_head(one)
        number = one["is_collision_head"].sum(["layer", "head"])
        entry: dict[str, Any] = {
            "runs": share(int(has.sum()), has.size, prob=prob),
            "heads": int(number.sum()),
            "heads_in_all": int(one["is_collision_head"].size),
            "heads_a_run": mean_over_runs(number.values, prob=prob),
            "heads_by_run": number.values.astype(int).tolist(),
            "largest_score_by_run": one["collision_score"].max(["layer", "head"]).values.tolist(),
        }
        control = controls.get(arm)
        if control is not None:
            entry["control"] = control
            entry["heads_in_control"] = int(tests[control]["is_collision_head"].sum())
            entry["probability_more_than_control"] = _larger_share(
                has, _with_a_head(tests[control])
            )
        found[arm] = entry
    return found


def _with_a_head(tests: xr.Dataset) -> np.ndarray:
    return np.asarray(tests["is_collision_head"].any(["layer", "head"]).values)


def _larger_share(first: np.ndarray, second: np.ndarray) -> float:
    """P(p1 > p2) of two binomial shares under Jeffreys priors, by quadrature over p2."""
    from scipy import integrate, stats

    one, two = (
        stats.beta(0.5 + group.sum(), 0.5 + group.size - group.sum()) for group in (first, second)
    )
    # Over the quantiles of p2, where the density's poles at 0 and 1 do not show.
    value, _ = integrate.quad(lambda u: one.sf(two.ppf(u)), 0.0, 1.0, limit=200)
    return float(value)
