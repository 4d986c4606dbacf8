"""Claim (c): along which law do the heads' scores rise?

What lives here: the laws compared head by head, the population of heads compared as one, the late
part of each rise by itself, the axis of gradient-flow time, and the averaged curve as a warning.
What does not: inference (`emergence_stats`) and words (`page`).

Two windows are asked about. "whole" is every evaluation: the curve with its beginning. "late" is
each head's curve from half of its rise on, where a relaxation into a potential is at its purest:
how the rise began cannot speak there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats as es
from emergence_stats.theory.gradient_time import with_time_axis
from emergence_stats.theory.orders import order_draws
from simulator.experiments.stages import map_in_processes
from simulator.study.intervals import summarise_draws

LAWS = ("exponential", "power_law", "stretched_exponential", "logistic")
WINDOWS = ("whole", "late")
# The same for single heads and for the population of them.
NOISE = "ar1"
# Of the curves of a population, above which neither law being theirs makes its order mean little.
MANY_MISFITS = 0.25
LEAST_POINTS = 12
LEAST_HEADS = 3


def head_curves(trajectory: xr.Dataset, tests: xr.Dataset) -> xr.DataArray:
    """The scores of the collision heads, one curve a member, to their runs' last evaluation."""
    scores = trajectory["collision_score"].stack(member=("run", "layer", "head"))
    passes = tests["is_collision_head"].stack(member=("run", "layer", "head"))
    chosen = scores.isel(member=np.flatnonzero(passes.sel(member=scores["member"]).values))
    names = [f"run {run} head {layer}.{head}" for run, layer, head in chosen["member"].values]
    runs = [int(run) for run, _, _ in chosen["member"].values]
    chosen = chosen.drop_vars(["member", "run", "layer", "head"]).transpose("member", "step")
    return chosen.assign_coords(member=names, run=("member", runs))


def late_part(curves: xr.DataArray) -> xr.DataArray:
    """Each curve from half of its rise on, NaN before.

    Half of the way from the first value to the largest, at its last crossing from below.
    """
    values = curves.transpose("member", "step").values
    start = values[:, :1]
    half = start + 0.5 * (np.nanmax(values, axis=1, keepdims=True) - start)
    below = np.where(np.isnan(values), False, values < half)
    last_below = np.where(
        below.any(axis=1), values.shape[1] - 1 - below[:, ::-1].argmax(axis=1), -1
    )
    keep = np.arange(values.shape[1])[None] > last_below[:, None]
    return curves.transpose("member", "step").where(xr.DataArray(keep, dims=("member", "step")))


def compare_laws(curves: xr.DataArray, window: str) -> dict[str, Any]:
    """Which law does each head follow, and do they share an order?

    Parameters
    ----------
    curves : xarray.DataArray, shape (member, step)
    window : {"whole", "late"}

    Returns
    -------
    dict
        `heads`; `law`, the mean over heads of each law's probability given that something emerged,
        and `neither`, of the laws that are not power law or exponential; `verdicts` counted when
        only these two are compared; `alarms`, heads whose curve looks like neither; `population`,
        the three hypotheses' probabilities and the common order with its interval, or why there
        is none; `order_draws` of it, of the late window as wide as runs differ (`widened`).
    """
    if window == "late":
        curves = late_part(curves)
    enough = curves.notnull().sum("step") >= LEAST_POINTS
    # A constant tail has nothing to relax.
    enough &= curves.max("step") > curves.min("step")
    curves = curves.isel(member=np.flatnonzero(enough.values))
    found: dict[str, Any] = {"heads": int(curves.sizes["member"])}
    if not found["heads"]:
        return found
    every = es.compare(curves, families=LAWS, noise=NOISE).dataset
    probability = every["probability"]
    given = probability.drop_sel(family="flat") / (1.0 - probability.sel(family="flat"))
    mean = given.mean("member")
    found["law"] = {str(name): float(mean.sel(family=name)) for name in LAWS}
    found["neither"] = 1.0 - found["law"]["exponential"] - found["law"]["power_law"]
    found["by_head"] = {
        str(member): {str(n): float(given.sel(member=member, family=n)) for n in LAWS}
        for member in given["member"].values
    }
    two = es.compare(curves, noise=NOISE).dataset
    names, counts = np.unique(two["verdict"].values.astype(str), return_counts=True)
    found["verdicts"] = {str(n): int(c) for n, c in zip(names, counts, strict=True)}
    found["alarms"] = found["verdicts"].get("misfit", 0)
    found["population"] = compare_population(curves, between_runs=window == "late")
    return found


def misfits_are_many(found: dict[str, Any]) -> bool:
    """Whether so many curves look like neither law that an order of theirs means little."""
    return bool(found["alarms"] > MANY_MISFITS * found["heads"])


def widen(implied: np.ndarray, without_one: list[float]) -> tuple[np.ndarray, float]:
    """Draws of 1/n spread as widely as runs differ, and by how much; heads of a run are alike.

    Parameters
    ----------
    implied : ndarray, shape (draw,)
        Drawn as if the heads were independent.
    without_one : list of float
        The median without each of the runs in turn.

    Returns
    -------
    tuple of (ndarray, float)
        The draws, moved away from their median by the ratio of the jackknife's standard error to
        their own standard deviation, where that is above one, and that ratio. 1/n stays between 0
        and 1/2.

    References
    ----------
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 11.

    Examples
    --------
    >>> draws, ratio = widen(np.linspace(0.29, 0.31, 101), [0.28, 0.30, 0.32])
    >>> round(ratio, 1), round(float(np.ptp(draws)), 2)
    (3.9, 0.08)
    """
    values = np.array(without_one)
    spread = float(np.std(implied, ddof=1))
    if values.size < 2 or not spread > 0.0:
        return implied, 1.0
    error = np.sqrt((values.size - 1) * np.mean((values - values.mean()) ** 2))
    ratio = max(1.0, float(error) / spread)
    middle = np.median(implied)
    return np.clip(middle + ratio * (implied - middle), 1e-3, 0.5), ratio


def compare_population(curves: xr.DataArray, *, between_runs: bool) -> dict[str, Any]:
    """The heads as one population; the order's draws are widened where runs are to differ."""
    from emergence_stats.errors import InputError

    if curves.sizes["member"] < LEAST_HEADS:
        return {"missing": f"fewer than {LEAST_HEADS} heads"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of members left out, which `left_out` says
            result = es.compare_hierarchical(curves, noise=NOISE)
    except InputError as error:  # too few of them emerge within the window
        return {"missing": str(error)}
    data = result.dataset
    draws = order_draws(result).values
    ratio = 1.0
    if between_runs and "run" in curves.coords:
        implied, ratio = widen(1.0 / draws, _without_one_run(curves))
        draws = 1.0 / implied
    names = ("lower", "median", "upper")
    return {
        "verdict": str(data["verdict"].item()),
        "probability": {
            str(name): float(data["probability"].sel(hypothesis=name))
            for name in data["hypothesis"].values
        },
        "order": summarise_draws(draws),
        "common_order": dict(zip(names, data["common_order"].values.tolist(), strict=True)),
        "widened_by": ratio,
        "left_out": int(data["num_left_out"]),
        "misfits": int(data["num_misfit"]),
        "trusted": bool(data["trusted"]),
        "member_order": {
            str(member): data["member_order"].sel(member=member).values.tolist()
            for member in data["member"].values[data["included"].values]
        },
        "order_draws": draws.tolist(),
    }  # fmt: skip


def _without_one_run(curves: xr.DataArray) -> list[float]:
    """The median of 1/n without each run in turn, where what is left tells one."""
    medians = []
    for run in np.unique(curves["run"].values):
        rest = curves.isel(member=np.flatnonzero(curves["run"].values != run))
        found = compare_population(rest, between_runs=False)
        if "order" in found:
            medians.append(1.0 / found["order"]["median"])
    return medians


def compare_mean_curve(curves: xr.DataArray) -> dict[str, Any]:
    """What the mean over the heads would have said, taken at its word.

    By window, and between the "two laws" or the "four laws": `verdict`, `law` and `order`.
    """
    mean = curves.mean("member", keep_attrs=True).drop_vars("run", errors="ignore")
    late = late_part(mean.expand_dims("member")).isel(member=0, drop=True).dropna("step")
    choices = {"two laws": ("exponential", "power_law"), "four laws": LAWS}
    found: dict[str, Any] = {}
    for window, curve in {"whole": mean, "late": late}.items():
        if curve.size < LEAST_POINTS:
            continue
        found[window] = {}
        for name, families in choices.items():
            result = es.compare(curve, families=families, noise=NOISE).dataset
            given = result["probability"].drop_sel(family="flat")
            found[window][name] = {
                "verdict": str(result["verdict"].item()),
                "law": {str(n): float(given.sel(family=n)) for n in families},
                "order": [float(value) for value in result["order"].values.ravel()],
            }
    return found


def compare_dynamics(
    trajectories: Mapping[str, xr.Dataset], tests: Mapping[str, xr.Dataset], *, workers: int = 1
) -> dict[str, dict[str, Any]]:
    """All of the above for every arm, in steps and in gradient-flow time.

    Parameters
    ----------
    trajectories, tests : mapping of str to xarray.Dataset
        By arm, as training leaves them and from `measurements.assess_heads`.
    workers : int
        Processes.

    Returns
    -------
    dict
        By arm: `steps`, and `gradient_flow_time` where the learning rate changes, each with what
        `laws` finds in every window; `averaged`; or `missing` where no head passes.
    """
    found: dict[str, dict[str, Any]] = {}
    asked: list[tuple[str, str, str, xr.DataArray]] = []
    for arm, trajectory in trajectories.items():
        curves = head_curves(trajectory, tests[arm])
        found[arm] = {"steps": {}}
        if not curves.sizes["member"]:
            found[arm]["missing"] = "no collision head in this arm"
            continue
        axes = {"steps": curves}
        rate = trajectory["learning_rate"]
        if "run" in rate.dims:  # the schedule is the same for every run; some may have ended early
            rate = rate.isel(run=int(np.argmax(rate.notnull().sum("step").values)), drop=True)
        if float(rate.max()) > (1 + 1e-6) * float(rate.min()):
            axes["gradient_flow_time"] = with_time_axis(curves, rate).drop_vars("optimiser_step")
        for axis, timed in axes.items():
            found[arm][axis] = dict.fromkeys(WINDOWS)
            asked += [(arm, axis, window, timed) for window in WINDOWS]
        found[arm]["averaged"] = compare_mean_curve(curves)
    asked.sort(key=lambda one: one[2] != "late")  # the long ones first: each run is left out once
    answers = map_in_processes(_laws, [(curves, window) for _, _, window, curves in asked], workers)
    for (arm, axis, window, _), answer in zip(asked, answers, strict=True):
        found[arm][axis][window] = answer
    return found


def _laws(given: tuple[xr.DataArray, str]) -> dict[str, Any]:
    return compare_laws(*given)


def contrast_orders(dynamics: dict[str, Any], *, reference: str = "adam") -> dict[str, Any]:
    """How much the population's order differs between ways of training, and between time axes.

    Returns
    -------
    dict
        By a name such as "sgd less adam, late": `median`, `lower`, `upper` of the difference of
        orders, drawn independently from the two posteriors, `probability_positive`, and
        `curves_fit`, whether most curves of both look like one of the two laws.
    """
    posteriors, misfits = {}, {}
    for arm, found in dynamics.items():
        for axis in ("steps", "gradient_flow_time"):
            for window, one in found.get(axis, {}).items():
                draws = one.get("population", {}).get("order_draws")
                if draws is not None:
                    name = arm if axis == "steps" else f"{arm} in gradient-flow time"
                    posteriors[name, window] = np.array(draws)
                    misfits[name, window] = misfits_are_many(one)
    random = np.random.default_rng(0)
    contrasts = {}
    for (name, window), draws in posteriors.items():
        other = posteriors.get((reference, window))
        if name == reference or other is None:
            continue
        difference = (
            random.permutation(draws)[: len(other)] - random.permutation(other)[: len(draws)]
        )
        contrasts[f"{name} less {reference}, {window}"] = {
            **summarise_draws(difference),
            "curves_fit": not (misfits[name, window] or misfits[reference, window]),
            # Both may be exactly 2, the exponential: half of such ties.
            "probability_positive": float(
                (difference > 0.0).mean() + 0.5 * (difference == 0.0).mean()
            ),
        }
    return contrasts
