"""What was found, as plain numbers: the one reading of the datasets that everything else shares.

What lives here: taking each head's, each run's and each checkpoint's numbers out of the datasets,
with None or NaN where something was not computed. What does not: the records themselves
(`records`), judging them (`summary`), sentences (`language`, `sections`), pictures (`figures`).
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats.errors import InputError
from emergence_stats.report.records import Findings, Head, LearningCoefficient, LossTrend
from emergence_stats.report.wording import Interval

# A head's score is called declining when it has lost this share of its rise since its peak, and
# by this many standard errors (the peak is the largest of many, so few would not do).
DECLINE_SHARE = 0.15
DECLINE_STANDARD_ERRORS = 4.0
NORMAL_89 = 1.598193  # half width of a normal 89% interval in standard deviations


def read_findings(
    trajectory: xr.Dataset,
    assessment: xr.Dataset | None = None,
    comparison: xr.Dataset | None = None,
    onset: xr.Dataset | None = None,
    llc: xr.Dataset | None = None,
) -> Findings:
    """What do these datasets say, head by head and run by run?

    Raises
    ------
    InputError
        If the trajectory has no `collision_score` by run, step, layer and head.
    """
    if "collision_score" not in trajectory:
        raise InputError(
            "trajectory: has no variable 'collision_score'; give the dataset that "
            "open_trajectory reads from a trained folder"
        )
    scores = trajectory["collision_score"]
    missing = [dim for dim in ("run", "step", "layer", "head") if dim not in scores.dims]
    if missing:
        raise InputError(
            f"trajectory: collision_score has dimensions {tuple(scores.dims)}, without "
            f"{', '.join(missing)}; add them with expand_dims"
        )
    runs, layers, numbers = (
        tuple(int(label) for label in scores.get_index(dim)) for dim in ("run", "layer", "head")
    )
    heads = [
        _read_head(run, layer, head, trajectory, assessment, comparison, onset)
        for run in runs
        for layer in layers
        for head in numbers
    ]
    heads.sort(
        key=lambda one: (
            not one.emerged,
            not one.passes,
            -one.score.median if math.isfinite(one.score.median) else math.inf,
        )
    )
    if any(head.passes is not None for head in heads):
        basis = "tests" if any(head.emerged for head in heads) else "score"
    else:
        basis = "rise" if any(head.rise_found for head in heads) else "score"
    assessed = {head.run for head in heads if head.passes is not None}
    return Findings(
        runs=runs,
        assessed_runs=tuple(run for run in runs if run in assessed),
        heads=tuple(heads),
        basis=basis,
        losses=tuple(trend for run in runs if (trend := _read_loss(trajectory, run)) is not None),
        llc=_read_llc(llc),
        stopped=_json_mapping(trajectory.attrs.get("stopped")),
        last_step=int(trajectory.get_index("step")[-1]),
        configuration=_json_mapping(trajectory.attrs.get("configuration")),
    )


def pick(dataset: xr.Dataset | None, name: str, **labels: Any) -> xr.DataArray | None:
    """A variable at these labels; None where the variable or a label is missing."""
    if dataset is None or name not in dataset:
        return None
    array = dataset[name]
    for dim, label in labels.items():
        if dim in array.dims:
            places = np.flatnonzero(np.asarray(array.get_index(dim)) == label)
            if places.size == 0:
                return None
            array = array.isel({dim: int(places[0])})
    return array


def measured(curve: xr.DataArray | None) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve where it was measured."""
    if curve is None or curve.dims != ("step",):
        return np.zeros(0), np.zeros(0)
    steps = np.asarray(curve.get_index("step"), dtype=float)
    values = np.asarray(curve.values, dtype=float)
    good = np.isfinite(values)
    return steps[good], values[good]


def _number(dataset: xr.Dataset | None, name: str, **labels: Any) -> float:
    array = pick(dataset, name, **labels)
    if array is None or array.ndim:
        return math.nan
    try:
        return float(array.values)
    except (TypeError, ValueError):
        return math.nan


def _bounds(dataset: xr.Dataset | None, name: str, **labels: Any) -> Interval | None:
    """A variable with its `_lower` and `_upper` fellows."""
    found = Interval(
        *(_number(dataset, f"{name}{end}", **labels) for end in ("", "_lower", "_upper"))
    )
    return None if math.isnan(found.median) else found


def _quantiles(dataset: xr.Dataset | None, name: str, **labels: Any) -> Interval | None:
    """A variable with a `quantile` dimension: its middle and its two ends."""
    array = pick(dataset, name, **labels)
    if array is None or array.dims != ("quantile",) or array.size < 3:
        return None
    values = np.sort(np.asarray(array.values, dtype=float))
    found = Interval(float(values[values.size // 2]), float(values[0]), float(values[-1]))
    return None if math.isnan(found.median) else found


def _truth(dataset: xr.Dataset | None, name: str, **labels: Any) -> bool | None:
    value = _number(dataset, name, **labels)
    return None if math.isnan(value) else bool(value)


def _word(dataset: xr.Dataset | None, name: str, **labels: Any) -> str | None:
    array = pick(dataset, name, **labels)
    if array is None or array.ndim:
        return None
    text = str(array.item())
    return None if text in ("", "nan", "None") else text


def _read_head(
    run: int,
    layer: int,
    head: int,
    trajectory: xr.Dataset,
    assessment: xr.Dataset | None,
    comparison: xr.Dataset | None,
    onset: xr.Dataset | None,
) -> Head:
    where = {"run": run, "layer": layer, "head": head}
    steps, curve = measured(pick(trajectory, "collision_score", **where))
    _, spread = measured(pick(trajectory, "collision_score_sd", **where))
    if spread.size != curve.size:
        spread = np.full(curve.size, math.nan)
    score = _bounds(assessment, "collision_score", **where)
    if score is None:
        last, error = (curve[-1], spread[-1]) if curve.size else (math.nan, math.nan)
        score = Interval(
            float(last), float(last - NORMAL_89 * error), float(last + NORMAL_89 * error)
        )
    baseline = math.nan
    for dataset in (trajectory, assessment):
        if math.isnan(baseline) and dataset is not None and "collision_score" in dataset:
            baseline = _as_float(dataset["collision_score"].attrs.get("baseline"))
    probability = pick(comparison, "probability", **where)
    by_family = {}
    if probability is not None and probability.dims == ("family",):
        by_family = {
            str(name): float(value)
            for name, value in zip(probability.get_index("family"), probability.values, strict=True)
        }
    changed = _number(onset, "probability", **where)
    if math.isnan(changed) and "flat" in by_family:
        changed = 1.0 - by_family["flat"]
    rank = _bounds(assessment, "contact_rank_correlation", **where)
    colliding, free = (_relative_rise(assessment, where, kind) for kind in ("colliding", "free"))
    return Head(
        **where,
        score=score,
        first_score=float(curve[0]) if curve.size else math.nan,
        baseline=baseline,
        passes=_truth(assessment, "is_collision_head", **where),
        tests=_tests(assessment, where),
        by_bounds=_by_bounds(assessment, score, rank, colliding),
        rank_correlation=rank,
        rise_colliding=colliding,
        rise_free=free,
        verdict=_word(comparison, "verdict", **where),
        direction=_word(comparison, "direction", **where),
        probability=by_family,
        onset_probability=changed,
        onset=_onset(onset, comparison, where),
        order=_quantiles(comparison, "order", **where),
        exponent=_quantiles(comparison, "exponent", **where),
        plateau=_quantiles(comparison, "plateau", **where),
        fraction_complete=_quantiles(comparison, "fraction_complete", **where),
        misfit_p_value=_number(comparison, "misfit_p_value", **where),
        peak=_peak(steps, curve, spread),
        late_change=_late_change(steps, curve),
    )


def _onset(
    onset: xr.Dataset | None, comparison: xr.Dataset | None, where: dict[str, int]
) -> Interval | None:
    """Median and 89% interval of the onset, from its own analysis or from the comparison."""
    found = Interval(*(_number(onset, name, **where) for name in ("median", "lower", "upper")))
    if found.known:
        return found
    steps, mass = (pick(onset, name, **where) for name in ("onset_step", "cumulative"))
    if steps is not None and mass is not None and steps.ndim == mass.ndim == 1:
        shares, places = np.asarray(mass.values, float), np.asarray(steps.values, float)
        if np.isfinite(shares).all() and np.isfinite(places).all() and shares[-1] > shares[0]:
            lower, median, upper = np.interp((0.055, 0.5, 0.945), shares / shares[-1], places)
            if math.isfinite(found.median):
                median = found.median
            return Interval(float(median), float(lower), float(upper))
    other = _quantiles(comparison, "onset", **where)
    if math.isnan(found.median) or other is not None:
        return other
    return found


def _tests(
    assessment: xr.Dataset | None, where: dict[str, int]
) -> tuple[bool | None, bool | None, bool | None]:
    """Each test by itself, where that was recorded."""
    score, rank_correlation, ablation = (
        _truth(assessment, "passes", **where, test=name)
        for name in ("score", "rank_correlation", "ablation")
    )
    return score, rank_correlation, ablation


def _relative_rise(
    assessment: xr.Dataset | None, where: dict[str, int], particles: str
) -> Interval | None:
    """The rise in loss on some particles, as a multiple of the intact loss where that is known."""
    rise = _bounds(assessment, "ablation_loss_rise", **where, particles=particles)
    intact = _number(assessment, "intact_loss", run=where["run"], particles=particles)
    if rise is None or not intact > 0:
        return rise
    return Interval(*(value / intact for value in rise))


def _by_bounds(
    assessment: xr.Dataset | None,
    score: Interval,
    rank_correlation: Interval | None,
    rise: Interval | None,
) -> bool:
    """Whether the lower bounds alone reach every recorded threshold."""
    if assessment is None or rank_correlation is None or rise is None:
        return False
    return all(
        quantity.lower >= _as_float(assessment.attrs.get(name))
        for quantity, name in (
            (score, "least_score"),
            (rank_correlation, "rank_correlation"),
            (rise, "loss_rise"),
        )
    )


def _peak(steps: np.ndarray, curve: np.ndarray, spread: np.ndarray) -> tuple[float, float] | None:
    """The peak, as a mean of three measurements, if the end lies clearly below it."""
    if curve.size < 8 or not np.isfinite(spread).all():
        return None
    smooth = np.convolve(curve, np.ones(3) / 3, mode="valid")
    top = int(np.argmax(smooth))
    drop, rise = smooth[top] - smooth[-1], smooth[top] - curve[0]
    error = float(np.hypot(spread[top + 1], spread[-2])) / math.sqrt(3)
    if drop > DECLINE_SHARE * rise and drop > DECLINE_STANDARD_ERRORS * error:
        return float(smooth[top]), float(steps[top + 1])
    return None


def _quarters(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was measured in the third and in the last quarter of the steps."""
    share = steps / steps[-1] if steps.size and steps[-1] > 0 else np.zeros(steps.size)
    return values[(share > 0.5) & (share <= 0.75)], values[share > 0.75]


def _late_change(steps: np.ndarray, curve: np.ndarray) -> float:
    third, last = _quarters(steps, curve)
    if third.size < 2 or last.size < 2 or last.mean() <= curve[0]:
        return math.nan
    return float((last.mean() - third.mean()) / (last.mean() - curve[0]))


def _read_loss(trajectory: xr.Dataset, run: int) -> LossTrend | None:
    steps, values = measured(pick(trajectory, "test_loss", run=run))
    if not values.size:
        return None
    middle, late = _quarters(steps, values)
    change = error = math.nan
    if late.size >= 2 and middle.size >= 2 and middle.mean() > 0:
        change = float(late.mean() / middle.mean() - 1)
        relative = [
            part.std(ddof=1) / math.sqrt(part.size) / part.mean() for part in (late, middle)
        ]
        error = (1 + change) * math.hypot(*relative)
    return LossTrend(run, float(values[0]), float(values[-1]), int(steps[-1]), change, error)


def _read_llc(llc: xr.Dataset | None) -> tuple[LearningCoefficient, ...]:
    if llc is None or "llc" not in llc or set(llc["llc"].dims) != {"run", "step"}:
        return ()
    found = []
    for run in llc["llc"].get_index("run"):
        for step in llc["llc"].get_index("step"):
            where = {"run": run, "step": step}
            value = _number(llc, "llc", **where)
            verdict = _word(llc, "llc_verdict", **where)
            if math.isnan(value) and verdict is None:
                continue
            found.append(
                LearningCoefficient(
                    int(run),
                    int(step),
                    value,
                    _number(llc, "llc_standard_error", **where),
                    verdict or "not judged",
                )
            )
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
