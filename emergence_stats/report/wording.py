"""How numbers are written: one rule for the page, the figures and the ten lines.

What lives here: formatting of values, intervals, probabilities, steps and counts. What does not:
sentences (`messages`, `summary`, `sections`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

MISSING = "–"


class Interval(NamedTuple):
    """A quantity with its interval.

    Attributes
    ----------
    median : float
        Median, or the estimate where there is no posterior.
    lower, upper : float
        Ends of the interval; NaN where unknown.
    """

    median: float
    lower: float = math.nan
    upper: float = math.nan

    @property
    def known(self) -> bool:
        """Whether both ends are known (an upper end may be infinite)."""
        return not any(math.isnan(value) for value in self)


def decimals_for(*values: float, digits: int = 3) -> int:
    """How many decimals show `digits` significant digits of the largest of these?

    Examples
    --------
    >>> decimals_for(0.345), decimals_for(12.3), decimals_for(0.0)
    (3, 1, 3)
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0.0:
        return digits
    return max(0, min(8, digits - 1 - math.floor(math.log10(largest))))


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals; a dash where there is none.

    Examples
    --------
    >>> fixed(-0.5, 2), fixed(float("nan"), 2), fixed(1234.5, 0)
    ('−0.50', '–', '1,234')
    """
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits.

    Examples
    --------
    >>> number(0.02345), number(1234.0), number(None), number(2.5e-9)
    ('0.0234', '1,234', '–', '2.5e−09')
    """
    if value is None:
        return MISSING
    value = float(value)
    if math.isfinite(value) and value != 0.0 and not 1e-6 <= abs(value) < 1e9:
        return f"{value:.{digits}g}".replace("-", "−")
    return fixed(value, decimals_for(value, digits=digits))


def interval(value: Interval | None, digits: int = 3, *, decimals: int | None = None) -> str:
    """Median with its interval in brackets; the bare median where the ends are unknown.

    Examples
    --------
    >>> interval(Interval(0.345, 0.31, 0.4)), interval(Interval(2.0)), interval(None)
    ('0.345 [0.310, 0.400]', '2.00', '–')
    """
    if value is None or math.isnan(value.median):
        return MISSING
    if decimals is not None:
        median, lower, upper = (fixed(end, decimals) for end in value)
    elif any(math.isfinite(end) and abs(end) >= 1e5 for end in value):
        median, lower, upper = (number(end, digits) for end in value)
    else:
        # The median sets the decimals: a long upper tail should not blur it.
        places = decimals_for(value.median, digits=digits)
        median, lower, upper = (fixed(end, places) for end in value)
    return f"{median} [{lower}, {upper}]" if value.known else median


def step(value: float) -> str:
    """A training step, rounded to a whole one.

    Examples
    --------
    >>> step(1234.4), step(float("nan"))
    ('1,234', '–')
    """
    return fixed(round(value) if math.isfinite(value) else value, 0)


def step_interval(value: Interval | None) -> str:
    """A step with its interval.

    Examples
    --------
    >>> step_interval(Interval(812.3, 740.1, 1034.7))
    '812 [740, 1,035]'
    """
    if value is None or math.isnan(value.median):
        return MISSING
    if not value.known:
        return step(value.median)
    return f"{step(value.median)} [{step(value.lower)}, {step(value.upper)}]"


def probability(value: float | None) -> str:
    """A probability to two decimals, never rounded to certainty.

    Examples
    --------
    >>> probability(0.934), probability(0.9999), probability(0.001), probability(1.0)
    ('0.93', '>0.99', '<0.01', '>0.99')
    """
    if value is None or math.isnan(value):
        return MISSING
    if value > 0.99:
        return ">0.99"
    if value < 0.01:
        return "<0.01"
    return f"{value:.2f}"


def percent(value: float) -> str:
    """A share as whole percent with its sign; one decimal below two percent.

    Examples
    --------
    >>> percent(-0.163), percent(0.004), percent(0.0)
    ('−16%', '+0.4%', '0%')
    """
    if math.isnan(value):
        return MISSING
    decimals = 1 if abs(value) < 0.02 else 0
    text = f"{100 * value:+,.{decimals}f}"
    if float(text.replace(",", "")) == 0.0:
        return "0%"
    return text.replace("-", "−") + "%"


def share(value: float) -> str:
    """A share without sign, as percent; below a tenth of a percent it says only so.

    Examples
    --------
    >>> share(0.063), share(8.7e-7), share(0.0344), share(0.0)
    ('6%', '<0.1%', '3.4%', '0%')
    """
    if math.isnan(value):
        return MISSING
    if 0 < value < 0.001:
        return "<0.1%"
    decimals = 1 if 0 < value < 0.05 else 0
    return f"{fixed(100 * value, decimals)}%"


def with_error(value: float, error: float) -> str:
    """An estimate and its standard error, to two digits of the error.

    Examples
    --------
    >>> with_error(12.345, 0.21), with_error(3.2, float("nan"))
    ('12.35 ± 0.21', '3.20')
    """
    if not math.isfinite(value):
        return MISSING
    if not math.isfinite(error) or error <= 0:
        return number(value)
    decimals = decimals_for(error, digits=2)
    return f"{fixed(value, decimals)} ± {fixed(error, decimals)}"


def count(how_many: int, one: str, many: str | None = None) -> str:
    """A count and its noun.

    Examples
    --------
    >>> count(1, "head"), count(3, "head"), count(0, "head")
    ('1 head', '3 heads', 'no heads')
    """
    noun = one if how_many == 1 else many or f"{one}s"
    return f"{how_many:,} {noun}" if how_many else f"no {noun}"


def join(parts: Sequence[str], comma: str = ", ", last: str = " and ") -> str:
    """Parts of a sentence with commas and a last word between.

    Examples
    --------
    >>> join(["a", "b", "c"])
    'a, b and c'
    """
    if len(parts) < 2:
        return "".join(parts)
    return comma.join(parts[:-1]) + last + parts[-1]
