"""What did a condition change? Differences within seeds, with intervals.

What lives here: when a run's heads have emerged, and contrasts between conditions paired over
seeds. What does not: training under conditions (`conditions`).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from emergence_stats.checks import PROB, check_share
from emergence_stats.errors import InputError

LEVEL = 0.5


def steps_to_emergence(trajectory: xr.Dataset, *, level: float = LEVEL) -> xr.DataArray:
    """At which step does the first head of a run score this share of the way from baseline to 1?

    Parameters
    ----------
    trajectory : xarray.Dataset
        With `collision_score`, and its baseline as an attribute or as `score_baseline`.
    level : float
        Share of the way, between 0 and 1; the default is that of `assessment`.

    Returns
    -------
    xarray.DataArray
        By condition (where there is one) and run: the first evaluated step at which it holds. The
        coordinate `reached` is false where it never did: the value then is the last step, and a
        lower bound.

    Raises
    ------
    InputError
        If there is no score or no baseline.
    """
    share = check_share("level", level)
    if "collision_score" not in trajectory:
        raise InputError("trajectory: has no variable 'collision_score'")
    score = trajectory["collision_score"]
    if "score_baseline" in trajectory:
        baseline = trajectory["score_baseline"]
    elif "baseline" in score.attrs:
        baseline = xr.DataArray(float(score.attrs["baseline"]))
    else:
        raise InputError("trajectory: collision_score has no attribute 'baseline'")
    heads = [dim for dim in score.dims if dim in ("layer", "head")]
    there = (score >= baseline + share * (1.0 - baseline)).any(heads)
    reached = there.any("step")
    first = trajectory["step"][there.argmax("step")].drop_vars("step")
    result = first.where(reached, trajectory["step"].values[-1]).astype(float)
    dims = [dim for dim in score.dims if dim not in ("step", *heads)]
    result = result.transpose(*dims).rename("steps_to_emergence")
    result.attrs = {"long_name": "first step with a head above the level", "units": "steps"}
    return result.assign_coords(reached=reached.transpose(*dims))


def paired_contrast(
    values: xr.DataArray, baseline: str, *, ratio: bool = False, prob: float = PROB
) -> xr.Dataset:
    """How far is each condition from the baseline, seed by seed?

        d_s = value(condition, s) - value(baseline, s),   mean(d) -+ t_(n-1) sd(d) / sqrt(n)

    Differences are taken to be normal between seeds; the interval is also the posterior's under the
    usual reference prior, from which the probability comes. With ``ratio=True`` the same is done
    with logarithms, and exponentiated.

    Parameters
    ----------
    values : xarray.DataArray
        Dimensions `condition`, `run` and possibly more, each of which gets contrasts of its own. A
        boolean coordinate `reached` marks values that are lower bounds (`steps_to_emergence`).
    baseline : str
        The condition to hold the others against.
    ratio : bool
        For steps, losses and other positive values.
    prob : float
        Probability of the interval.

    Returns
    -------
    xarray.Dataset
        By the other conditions: `effect` (mean difference or ratio), `lower`, `upper`,
        `probability_larger` than the baseline's, `num_pairs` with both values present, and
        `num_censored` pairs in which either is a bound: where that is not 0, the effect is too. NaN
        with fewer than two pairs, and interval and probability NaN where all differences are equal.

    Raises
    ------
    InputError
        If dimensions or the baseline are missing, or a ratio is asked of values that are not
        positive.

    References
    ----------
    Student (1908), The probable error of a mean, Biometrika 6, 1-25.

    Examples
    --------
    >>> values = xr.DataArray(
    ...     [[1.0, 2.0, 3.0], [1.9, 3.1, 4.0]],
    ...     dims=("condition", "run"), coords={"condition": ["plain", "decay"]},
    ... )
    >>> result = paired_contrast(values, "plain")
    >>> float(result["effect"].sel(condition="decay").round(3)), int(result["num_pairs"][0])
    (1.0, 3)
    """
    from scipy import stats

    prob = check_share("prob", prob)
    if not {"condition", "run"} <= set(values.dims) or "condition" not in values.coords:
        raise InputError(
            f"values: dimensions {values.dims}; 'condition', with labels, and 'run' are needed"
        )
    names = [str(name) for name in values["condition"].values]
    if baseline not in names:
        raise InputError(f"baseline: {baseline!r} is not a condition; there are {names}")
    if ratio and bool((values <= 0).any()):
        raise InputError("ratio: values of zero or below have none; use differences")
    measure: xr.DataArray = xr.apply_ufunc(np.log, values) if ratio else values
    others = measure.sel(condition=[name for name in names if name != baseline])
    difference = others - measure.sel(condition=baseline, drop=True)
    number = difference.notnull().sum("run")
    enough = number >= 2
    mean = difference.mean("run").where(enough)
    # Of a single pair there is no sd; the divisor is only kept from being 0.
    spread = (difference - difference.mean("run")) ** 2
    degrees = (number - 1).clip(min=1)
    error = (spread.sum("run") / degrees / number.clip(min=1)) ** 0.5
    # Equal differences say nothing of how they vary; rounding makes them equal up to 1e-12.
    scale = float(np.abs(measure.values[np.isfinite(measure.values)]).max(initial=0.0))
    error = error.where(enough & (error > 1e-12 * scale))
    half = error * xr.apply_ufunc(stats.t.ppf, 0.5 + 0.5 * prob, degrees)
    larger = xr.apply_ufunc(stats.t.cdf, mean / error, degrees)
    result = xr.Dataset({"effect": mean, "lower": mean - half, "upper": mean + half})
    if ratio:
        result = result.map(np.exp)
    result["probability_larger"] = larger
    result["num_pairs"] = number
    if "reached" in values.coords:
        reached = values["reached"]
        both = reached.sel(condition=others["condition"]) & reached.sel(
            condition=baseline, drop=True
        )
        result["num_censored"] = (difference.notnull() & ~both).sum("run")
    else:
        result["num_censored"] = xr.zeros_like(number)
    result["effect"].attrs = {
        "long_name": f"{'ratio to' if ratio else 'difference from'} {baseline}, paired over runs",
        "units": "1" if ratio else str(values.attrs.get("units", "")),
    }
    result.attrs = {"baseline": baseline, "probability": prob}
    return result.drop_vars("reached", errors="ignore")
