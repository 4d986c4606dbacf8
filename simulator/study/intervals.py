"""Intervals of shares, of effects between runs, and of draws.

What lives here: the intervals the study's answers use, as plain numbers for JSON. What does not:
posteriors of curves (`emergence_stats`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emergence_stats.checks import PROB, QUANTILES

SUPPORTED = 0.9


def share(successes: int, number: int, *, prob: float = PROB) -> dict[str, Any]:
    """A binomial share with its equal-tailed interval under Jeffreys' prior.

    At 0 and at all, the end there is 0 or 1 (Brown, Cai and DasGupta 2001, Interval estimation for
    a binomial proportion, Statistical Science 16, 101-133).

    Examples
    --------
    >>> found = share(5, 5)
    >>> found["share"], round(found["lower"], 2), found["upper"]
    (1.0, 0.7, 1.0)
    """
    from scipy import stats

    posterior = stats.beta(0.5 + successes, 0.5 + number - successes)
    tail = 0.5 - 0.5 * prob
    return {
        "share": successes / number if number else math.nan,
        "lower": 0.0 if successes == 0 else float(posterior.ppf(tail)),
        "upper": 1.0 if successes == number else float(posterior.ppf(1.0 - tail)),
        "successes": successes,
        "number": number,
    }


def mean_over_runs(values: ArrayLike, *, prob: float = PROB) -> dict[str, Any]:
    """The mean of one number a run, Student's interval, and the probability that it is above 0.

    NaN values are left out. With fewer than two, or all equal, there is no interval (NaN).

    Examples
    --------
    >>> found = mean_over_runs([1.0, 2.0, 3.0])
    >>> found["mean"], round(found["lower"], 2), found["number"]
    (2.0, 0.41, 3)
    """
    from scipy import stats

    given = np.asarray(values, dtype=float).ravel()
    given = given[np.isfinite(given)]
    number = given.size
    mean = float(given.mean()) if number else math.nan
    lower = upper = positive = math.nan
    if number >= 2 and np.ptp(given) > 1e-12 * np.abs(given).max():
        error = given.std(ddof=1) / math.sqrt(number)
        half = error * stats.t.ppf(0.5 + 0.5 * prob, number - 1)
        lower, upper = mean - half, mean + half
        positive = float(stats.t.cdf(mean / error, number - 1))
    return {
        "mean": mean,
        "lower": float(lower),
        "upper": float(upper),
        "probability_positive": positive,
        "number": int(number),
    }


def summarise_draws(draws: NDArray[np.floating] | list[float]) -> dict[str, float]:
    """Median and interval of draws, NaN left out.

    Examples
    --------
    >>> summarise_draws(np.linspace(0.0, 1.0, 201))
    {'lower': 0.055, 'median': 0.5, 'upper': 0.945}
    """
    found = np.nanquantile(draws, QUANTILES)
    return {name: float(one) for name, one in zip(("lower", "median", "upper"), found, strict=True)}


def verdict(probability: float, *, threshold: float = SUPPORTED) -> str:
    """Is it "supported", "contradicted" or "undecided" by its probability?"""
    if not math.isfinite(probability):
        return "undecided"
    if probability >= threshold:
        return "supported"
    return "contradicted" if probability <= 1.0 - threshold else "undecided"
