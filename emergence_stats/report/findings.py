"""What was found, as plain numbers: the one reading of the datasets that everything else shares.

What lives here: finding the structure's record, and taking each head's, each run's and each
checkpoint's numbers out of the datasets, with None or NaN where something was not computed. What
does not: the records themselves (`records`), judging them (`decision`), sentences and pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import metadata
from statistics import NormalDist
from typing import Any, Required, TypedDict

import numpy as np
import xarray as xr

from emergence_stats.checks import PROB, QUANTILES
from emergence_stats.errors import InputError
from emergence_stats.report.catalogue import Catalogue
from emergence_stats.report.records import (
    Findings,
    Head,
    LearningCoefficient,
    LossTrend,
    Quantity,
    Structure,
)
from emergence_stats.report.wording import Interval

DIMS = ("run", "step", "layer", "head")
# A head's score is called declining when it has lost this share of its rise since its peak, and
# by this many standard errors (the peak is the largest of many, so few would not do).
DECLINE_SHARE = 0.15
DECLINE_STANDARD_ERRORS = 4.0
# Half width of a normal interval in standard deviations.
NORMAL_WIDTH = NormalDist().inv_cdf(0.5 + PROB / 2)


def find_structure(trajectory: xr.Dataset) -> Structure:
    """The record for this trajectory's score: an installed package's, or one of neutral words.

    Packages offer theirs through the entry-point group `emergence_stats.structures`.

    Raises
    ------
    InputError
        If the trajectory has no variable by run, step, layer and head.
    """
    for entry in metadata.entry_points(group="emergence_stats.structures"):
        structure: Structure = entry.load()
        if structure.score in trajectory:
            return structure
    names = [
        str(name)
        for name, array in trajectory.items()
        if set(array.dims) == set(DIMS) and not str(name).endswith("_sd")
    ]
    if not names:
        raise InputError(
            f"trajectory: no variable has the dimensions {', '.join(DIMS)} of a score among "
            f"{[str(name) for name in trajectory]}; add those missing with expand_dims"
        )
    score = min(names, key=lambda name: "baseline" not in trajectory[name].attrs)
    return Structure(score, quantities=(Quantity("Score", score, decimals=3),))


class Results(TypedDict, total=False):
    """What a report is made from, as keyword arguments; all but the trajectory may be missing.

    Attributes
    ----------
    trajectory : xarray.Dataset
        As `emergence_stats.open_trajectory` reads it: a score by run, step, layer and head, and
        losses.
    assessment : xarray.Dataset or None
        What was tested of each head: `passes` by run, layer, head and test, the structure's
        quantities with `_lower` and `_upper`, and the attribute `criterion`.
    comparison : xarray.Dataset or None
        By run, layer and head: verdict, probability of each family and posterior quantiles.
    onset : xarray.Dataset or None
        By run, layer and head: probability, median, lower and upper, in steps.
    llc : xarray.Dataset or None
        By run and step: llc, llc_standard_error and llc_verdict.
    structure : Structure or None
        What the scores are about; where missing, what an installed package says of the
        trajectory's score, or neutral words.
    """

    trajectory: Required[xr.Dataset]
    assessment: xr.Dataset | None
    comparison: xr.Dataset | None
    onset: xr.Dataset | None
    llc: xr.Dataset | None
    structure: Structure | None


def read_findings(
    trajectory: xr.Dataset,
    assessment: xr.Dataset | None = None,
    comparison: xr.Dataset | None = None,
    onset: xr.Dataset | None = None,
    llc: xr.Dataset | None = None,
    structure: Structure | None = None,
) -> Findings:
    """What do these datasets say, head by head and run by run? Arguments as `Results` has them.

    Raises
    ------
    InputError
        If the trajectory has no score by run, step, layer and head.
    """
    structure = structure or find_structure(trajectory)
    if structure.score not in trajectory:
        raise InputError(f"trajectory: has no variable {structure.score!r}, the structure's score")
    score = trajectory[structure.score]
    missing = [dim for dim in DIMS if dim not in score.dims]
    if missing:
        raise InputError(
            f"trajectory: {structure.score} has dimensions {tuple(score.dims)}, without "
            f"{', '.join(missing)}; add them with expand_dims"
        )
    runs, layers, numbers = (
        tuple(int(label) for label in score.get_index(dim)) for dim in ("run", "layer", "head")
    )
    heads = []
    for run in runs:
        for layer in layers:
            for number in numbers:
                where = {"run": run, "layer": layer, "head": number}
                given = (Entries(one, **where) for one in (trajectory, assessment))
                fitted = (Entries(one, **where) for one in (comparison, onset))
                heads.append(_read_head(structure, *given, *fitted))
    heads.sort(
        key=lambda one: (
            not one.emerged,
            not one.passes,
            -one.score.median if math.isfinite(one.score.median) else math.inf,
        )
    )
    tested = any(head.passes is not None for head in heads)
    chosen = any(head.emerged if tested else head.rise_found for head in heads)
    assessed = {head.run for head in heads if head.passes is not None}
    return Findings(
        structure=structure,
        words=Catalogue("en", structure).words,
        trajectory=trajectory,
        assessment=assessment,
        comparison=comparison,
        runs=runs,
        assessed_runs=tuple(run for run in runs if run in assessed),
        heads=tuple(heads),
        basis=("tests" if tested else "rise") if chosen else "score",
        baseline=_read_baseline(structure.score, trajectory, assessment),
        losses=tuple(trend for run in runs if (trend := _read_loss(trajectory, run)) is not None),
        llc=_read_llc(llc),
        stopped=_json_mapping(trajectory.attrs.get("stopped")),
        last_step=int(trajectory.get_index("step")[-1]),
        configuration=_json_mapping(trajectory.attrs.get("configuration")),
    )


class Entries:
    """What a dataset holds at some labels; None or NaN where a variable or a label is missing."""

    def __init__(self, dataset: xr.Dataset | None, **where: Any) -> None:
        self.where = where
        self.dataset = None if dataset is None else _select(dataset, where)

    def array(self, name: str, **labels: Any) -> xr.DataArray | None:
        """A variable, at further labels."""
        if self.dataset is None or name not in self.dataset:
            return None
        found = _select(self.dataset[[name]], labels) if labels else self.dataset
        return None if found is None else found[name]

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a curve where it was measured."""
        array = self.array(name)
        if array is None or array.dims != ("step",):
            return np.zeros(0), np.zeros(0)
        values = np.asarray(array.values, dtype=float)
        good = np.isfinite(values)
        return np.asarray(array.get_index("step"), dtype=float)[good], values[good]

    def number(self, name: str, **labels: Any) -> float:
        """A single number."""
        array = self.array(name, **labels)
        return math.nan if array is None or array.ndim else _as_float(array.values)

    def word(self, name: str) -> str | None:
        """A single text."""
        array = self.array(name)
        text = "" if array is None or array.ndim else str(array.item())
        return None if text in ("", "nan", "None") else text

    def bounds(self, name: str, **labels: Any) -> Interval | None:
        """A variable with its `_lower` and `_upper` fellows."""
        found = Interval(
            *(self.number(f"{name}{end}", **labels) for end in ("", "_lower", "_upper"))
        )
        return None if math.isnan(found.median) else found

    def quantiles(self, name: str) -> Interval | None:
        """A variable with a `quantile` dimension: its middle and its two ends."""
        array = self.array(name)
        if array is None or array.dims != ("quantile",) or array.size < 3:
            return None
        values = np.sort(np.asarray(array.values, dtype=float))
        found = Interval(float(values[values.size // 2]), float(values[0]), float(values[-1]))
        return None if math.isnan(found.median) else found


def _select(dataset: xr.Dataset, where: Mapping[str, Any]) -> xr.Dataset | None:
    places = {}
    for dim, label in where.items():
        if dim in dataset.dims:
            found = np.flatnonzero(np.asarray(dataset.get_index(dim)) == label)
            if not found.size:
                return None
            places[dim] = int(found[0])
    return dataset.isel(places)


def _read_head(
    structure: Structure, measured: Entries, assessed: Entries, compared: Entries, dated: Entries
) -> Head:
    steps, scores = measured.curve(structure.score)
    _, spread = measured.curve(f"{structure.score}_sd")
    if spread.size != scores.size:
        spread = np.full(scores.size, math.nan)
    score = assessed.bounds(structure.score)
    if score is None:
        last, error = (scores[-1], spread[-1]) if scores.size else (math.nan, math.nan)
        ends = (last, last - NORMAL_WIDTH * error, last + NORMAL_WIDTH * error)
        score = Interval(*(float(end) for end in ends))
    families = compared.array("probability")
    probability = {}
    if families is not None and families.dims == ("family",):
        probability = {
            str(name): float(value)
            for name, value in zip(families.get_index("family"), families.values, strict=True)
        }
    changed = dated.number("probability")
    if math.isnan(changed):
        changed = 1.0 - probability.get("flat", math.nan)
    quantities = tuple(_read_quantity(assessed, one) for one in structure.quantities)
    return Head(
        **measured.where,
        steps=steps,
        scores=scores,
        spread=spread,
        score=score,
        passes=_all_true(assessed.array("passes")),
        tests=tuple(
            _all_true(assessed.array("passes", test=one.test)) if one.test else None
            for one in structure.quantities
        ),
        quantities=quantities,
        by_bounds=_reach_thresholds(structure, assessed, quantities),
        verdict=compared.word("verdict"),
        direction=compared.word("direction"),
        probability=probability,
        onset_probability=changed,
        onset=_read_onset(dated, compared),
        order=compared.quantiles("order"),
        exponent=compared.quantiles("exponent"),
        plateau=compared.quantiles("plateau"),
        fraction_complete=compared.quantiles("fraction_complete"),
        misfit_p_value=compared.number("misfit_p_value"),
        declined=_has_declined(scores, spread),
        late_change=_late_change(steps, scores),
    )


def _read_baseline(score: str, *datasets: xr.Dataset | None) -> float:
    """As the first dataset has it that has it."""
    found = [
        _as_float(dataset[score].attrs.get("baseline"))
        for dataset in datasets
        if dataset is not None and score in dataset
    ]
    return next((value for value in found if not math.isnan(value)), math.nan)


def _read_quantity(assessed: Entries, quantity: Quantity) -> Interval | None:
    found = assessed.bounds(quantity.variable, **quantity.labels)
    if found is None or not quantity.over:
        return found
    whole = assessed.number(quantity.over, **quantity.labels)
    return Interval(*(value / whole for value in found)) if whole > 0 else None


def _all_true(array: xr.DataArray | None) -> bool | None:
    if array is None:
        return None
    values = np.asarray(array.values, dtype=float)
    return None if np.isnan(values).any() else bool(values.all())


def _reach_thresholds(
    structure: Structure, assessed: Entries, quantities: tuple[Interval | None, ...]
) -> bool:
    attrs = {} if assessed.dataset is None else assessed.dataset.attrs
    reached = [
        found is not None and found.lower >= _as_float(attrs.get(quantity.threshold))
        for quantity, found in zip(structure.quantities, quantities, strict=True)
        if quantity.threshold
    ]
    return bool(reached) and all(reached)


def _read_onset(dated: Entries, compared: Entries) -> Interval | None:
    """Median and 89% interval of the onset, from its own analysis or from the comparison."""
    found = Interval(*(dated.number(name) for name in ("median", "lower", "upper")))
    if found.known:
        return found
    steps, mass = dated.array("onset_step"), dated.array("cumulative")
    if steps is not None and mass is not None and steps.ndim == mass.ndim == 1:
        shares, places = np.asarray(mass.values, float), np.asarray(steps.values, float)
        if np.isfinite(shares).all() and np.isfinite(places).all() and shares[-1] > shares[0]:
            lower, median, upper = np.interp(QUANTILES, shares / shares[-1], places)
            if math.isfinite(found.median):
                median = found.median
            return Interval(float(median), float(lower), float(upper))
    other = compared.quantiles("onset")
    return other if math.isnan(found.median) or other is not None else found


def _has_declined(scores: np.ndarray, spread: np.ndarray) -> bool:
    """Whether the end lies clearly below the peak, each a mean of three measurements."""
    if scores.size < 8 or not np.isfinite(spread).all():
        return False
    smooth = np.convolve(scores, np.ones(3) / 3, mode="valid")
    top = int(np.argmax(smooth))
    drop, rise = smooth[top] - smooth[-1], smooth[top] - scores[0]
    error = float(np.hypot(spread[top + 1], spread[-2])) / math.sqrt(3)
    return bool(drop > DECLINE_SHARE * rise and drop > DECLINE_STANDARD_ERRORS * error)


def _quarters(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was measured in the third and in the last quarter of the steps."""
    share = steps / steps[-1] if steps.size and steps[-1] > 0 else np.zeros(steps.size)
    return values[(share > 0.5) & (share <= 0.75)], values[share > 0.75]


def _late_change(steps: np.ndarray, scores: np.ndarray) -> float:
    third, last = _quarters(steps, scores)
    if third.size < 2 or last.size < 2 or last.mean() <= scores[0]:
        return math.nan
    return float((last.mean() - third.mean()) / (last.mean() - scores[0]))


def _read_loss(trajectory: xr.Dataset, run: int) -> LossTrend | None:
    steps, values = Entries(trajectory, run=run).curve("test_loss")
    if not values.size:
        return None
    third, last = _quarters(steps, values)
    change = error = math.nan
    if last.size >= 2 and third.size >= 2 and third.mean() > 0:
        change = float(last.mean() / third.mean() - 1)
        relative = [part.std(ddof=1) / math.sqrt(part.size) / part.mean() for part in (last, third)]
        error = (1 + change) * math.hypot(*relative)
    return LossTrend(run, float(values[0]), float(values[-1]), int(steps[-1]), change, error)


def _read_llc(llc: xr.Dataset | None) -> tuple[LearningCoefficient, ...]:
    if llc is None or "llc" not in llc or set(llc["llc"].dims) != {"run", "step"}:
        return ()
    found = []
    for run in llc["llc"].get_index("run"):
        for step in llc["llc"].get_index("step"):
            here = Entries(llc, run=run, step=step)
            value, verdict = here.number("llc"), here.word("llc_verdict")
            if not math.isnan(value) or verdict is not None:
                error = here.number("llc_standard_error")
                verdict = verdict or "not judged"
                found.append(LearningCoefficient(int(run), int(step), value, error, verdict))
    return tuple(found)


def _json_mapping(text: Any) -> dict[str, Any]:
    """A JSON object from an attribute; empty where it is missing or damaged."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
