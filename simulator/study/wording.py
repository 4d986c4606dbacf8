"""Numbers of the study as words: intervals and shares.

What lives here: how one number is written. What does not: what is said about it (`headline`,
`page`).
"""

from __future__ import annotations

from typing import Any

Numbers = dict[str, Any]


def percent(value: float | None) -> str:
    """A share in per cent."""
    return "none" if value is None else f"{value:.0%}"


def interval_of_change(change: Numbers) -> str:
    """A measured change with its interval."""
    low, middle, high = (f"{change[name]:.1f}" for name in ("lower", "change", "upper"))
    return f"{middle} ({low} to {high})"


def interval(found: Numbers, digits: int = 2) -> str:
    """Mean with its interval."""
    if found["mean"] is None:
        return "none"
    if found["lower"] is None:
        return f"{found['mean']:.{digits}f}"
    low, high = (f"{found[name]:.{digits}f}" for name in ("lower", "upper"))
    return f"{found['mean']:.{digits}f} ({low} to {high})"


def quantiles(found: Numbers) -> str:
    """A median with its interval."""
    return f"{found['median']:.2f} ({found['lower']:.2f} to {found['upper']:.2f})"


def number(value: float | None, digits: int) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def or_nan(value: float | None) -> float:
    """A number, NaN where JSON has none."""
    return float("nan") if value is None else float(value)
