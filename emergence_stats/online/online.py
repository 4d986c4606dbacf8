"""Has it begun? A verdict after every new checkpoint, for many curves at once.

What lives here: `OnlineOnset`, which follows curves while they are measured, and `detect_online`,
which plays finished curves to it. What does not: the filter on plain arrays (`filter`); the
onset of a curve that is complete, with everything it says (`onset`). The onset of a curve that is
watched is its first change; before the data it is as `curves.families.ONSET` has it.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from emergence_stats import results
from emergence_stats.checks import check_option, check_range, check_share, check_whole
from emergence_stats.curves.priors import STEP_PRIORS
from emergence_stats.errors import InputError
from emergence_stats.online import filter as online_kernels
from emergence_stats.online import state as online_state
from emergence_stats.online.state import OnlineState

Array = np.ndarray

MODELS = ("joined", "constant", "linear", "log_linear")
NOISES = ("ar1", "independent")
# Half of the width of an 89% interval of a normal distribution, in standard deviations.
HALF_WIDTH = 1.598


class OnlineOnset:
    """After each checkpoint: how probable is it that the structure has begun to emerge?

    Bayesian online changepoint detection (Adams and MacKay 2007) with noise common to all segments
    of a curve and summed over. Memory a curve is constant, whatever the number of checkpoints.

    Parameters
    ----------
    last_step : float
        The step at which training is planned to end; it may go on.
    value_range : (float, float)
        The range the score is expected to take: (0, 1) for an accuracy or another share. Levels
        and noise are believed to be in proportion to it. It cannot be read off data yet to come.
    first_step : float
        Where the logarithmic axis begins; nothing is taken to change before. By default 1.
    model : {"joined", "constant", "linear", "log_linear"}
        Segments: lines that meet, the first of them level (so a rise is expected to start from
        where the curve is); levels; lines in step or in log step that need not meet.
    noise : {"ar1", "independent"}
        Whether residuals may be correlated.
    step_prior : {"log", "linear"}
        Whether an onset is, before the data, equally likely in equal ratios of steps or in equal
        differences; lines that meet are lines on that axis.
    prior_probability : float
        That there will be an onset at all.
    further_changes : float
        Expected number of changes after the first, over the whole of training.
    min_points : int, optional
        Points a change has to last before it counts, so that one outlying point is no onset. By
        default 2, and 3 for lines that meet, of which two can reach any one point.
    threshold : float
        Probability from which the onset is said to have begun. See `benchmarks/results/online.md`
        for false alarms and delays at several.
    beginnings : int
        How many beginnings of the last segment are kept apart in memory.

    Examples
    --------
    >>> import numpy as np, emergence_stats as es
    >>> watch = es.OnlineOnset(last_step=2000, value_range=(0, 1))
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=40)
    >>> for step, error in zip(range(50, 2050, 50), noise):
    ...     score = 0.1 + es.relaxation(step, onset=800, timescale=200, kappa=0, amplitude=0.5)
    ...     found = watch.update(step, score + error)
    ...     if found["begun"]:
    ...         break
    >>> step, bool(found["lower"] < 800 < found["upper"])
    (950, True)
    """

    def __init__(
        self,
        *,
        last_step: float,
        value_range: tuple[float, float],
        first_step: float = 1.0,
        model: str = "joined",
        noise: str = "ar1",
        step_prior: str = "log",
        prior_probability: float = 0.5,
        further_changes: float = 4.0,
        min_points: int | None = None,
        threshold: float = 0.95,
        beginnings: int = 16,
    ) -> None:
        check_option("model", model, MODELS)
        check_option("noise", noise, NOISES)
        check_option("step_prior", step_prior, STEP_PRIORS)
        low, high = check_range(value_range)
        if min_points is None:
            min_points = 3 if model == "joined" else 2
        first, last = float(first_step), float(last_step)
        if not (np.isfinite(last) and 0.0 <= first < last):
            raise InputError(
                f"last_step: {last_step!r} with first_step={first_step!r}; give a finite number of "
                "steps above the first"
            )
        if step_prior == "log" and first == 0.0:
            raise InputError("first_step: 0 has no logarithm; give 1, or step_prior='linear'")
        if not (np.isfinite(further_changes) and further_changes >= 0):
            raise InputError(f"further_changes: {further_changes!r}; give a number from 0 on")
        self._options: dict[str, Any] = {
            "last_step": last,
            "value_range": (low, high),
            "first_step": first,
            "model": model,
            "noise": noise,
            "step_prior": step_prior,
            "prior_probability": check_share("prior_probability", prior_probability),
            "further_changes": float(further_changes),
            "min_points": check_whole("min_points", min_points, 1),
            "threshold": check_share("threshold", threshold),
            "beginnings": check_whole("beginnings", beginnings, 3),
        }
        self._settings = online_state.settings(
            correlated=noise == "ar1",
            model={"joined": online_state.JOINED, "constant": online_state.CONSTANT}.get(
                model, online_state.LINEAR
            ),
            min_points=int(min_points),
            onset_probability=float(prior_probability),
            further_changes=float(further_changes),
            line_end=self._line_place(last),
        )
        self._state: OnlineState | None = None
        self._template = xr.DataArray(0.0)
        self._alarm = np.zeros(0)
        self._last = -np.inf

    @property
    def step(self) -> float:
        """The last step seen; minus infinity before the first."""
        return self._last

    @property
    def options(self) -> dict[str, Any]:
        """What was asked for, by name."""
        return dict(self._options)

    def update(self, step: float, scores: xr.DataArray | Array | float) -> xr.Dataset:
        """One more checkpoint of every curve.

        Parameters
        ----------
        step : float
            Above that of the call before.
        scores : xarray.DataArray, array or number
            Any dimensions besides `step`, the same at every call. A curve whose score is NaN is
            not measured at this checkpoint, and its answer stays as it was.

        Returns
        -------
        xarray.Dataset
            For every curve `probability` (that a change has begun and lasted `min_points` points),
            `begun` (whether that passes the threshold now), `alarm_step` (the step at which it
            first did, NaN before), and, given that there is a change, `onset`, `lower` and `upper`
            in steps: mean and 89% interval on the axis of the prior, as of a normal distribution.
            `level` and `projected`, each with `_sd`: the score without noise, now and, if the
            present segment goes on, at `last_step`.

        Raises
        ------
        InputError
            If the step does not increase, a score is infinite, or dimensions have changed. The
            state is then as it was.
        """
        at = float(step)
        if not (np.isfinite(at) and at >= 0 and at > self._last):
            raise InputError(
                f"step: {step!r} after {self._last:g}; steps are finite and increase from call to "
                "call"
            )
        given = scores if isinstance(scores, xr.DataArray) else xr.DataArray(np.asarray(scores))
        if "step" in given.dims:
            raise InputError(
                "scores: has a 'step' dimension; give one checkpoint at a time, or use "
                "es.detect_online(curves, ...)"
            )
        if not (np.issubdtype(given.dtype, np.number) or given.dtype == bool):
            raise InputError(f"scores: values of type {given.dtype}; scores are real numbers")
        given = given.astype(float)
        if np.isinf(given.values).any():
            raise InputError(f"scores: infinite at step {at:g}; use NaN for what is not measured")
        if self._state is None:
            self._template = given.drop_vars("step", errors="ignore")
            self._state = online_state.init(given.size, self._options["beginnings"], self._settings)
            self._alarm = np.full(given.size, np.nan)
        elif given.dims != self._template.dims or given.shape != self._template.shape:
            raise InputError(
                f"scores: sizes {dict(given.sizes)}, where they were "
                f"{dict(self._template.sizes)} before; use NaN for what is not measured"
            )
        low, high = self._options["value_range"]
        y = (given.values.ravel() - 0.5 * (low + high)) / (high - low)
        line = self._line_place(at)
        self._state, found = online_kernels.step(
            self._state, self._settings, y, self._place(at), line
        )
        self._last = at
        begun = found[:, 0] >= self._options["threshold"]
        self._alarm = np.where(begun & np.isnan(self._alarm), at, self._alarm)
        return self._label(found, begun)

    def _place(self, step: float) -> float:
        first, last = self._options["first_step"], self._options["last_step"]
        if self._options["step_prior"] == "linear":
            return max(step - first, 0.0) / (last - first)
        return float(np.log(max(step, first) / first) / np.log(last / first))

    def _line_place(self, step: float) -> float:
        if self._options["model"] == "log_linear":
            first = max(self._options["first_step"], 1e-300)
            return float(np.log(max(step, first) / first))
        return self._place(step) if self._options["model"] == "joined" else step

    def _steps(self, place: Array) -> Array:
        first, last = self._options["first_step"], self._options["last_step"]
        if self._options["step_prior"] == "linear":
            return first + place * (last - first)
        return first * np.exp(np.minimum(place, 600.0) * np.log(last / first))

    def _label(self, found: Array, begun: Array) -> xr.Dataset:
        middle, half = found[:, 1], HALF_WIDTH * found[:, 2]
        values = {
            "probability": (found[:, 0], "probability that a change has begun", "1"),
            "begun": (begun, "whether that passes the threshold", "1"),
            "alarm_step": (self._alarm, "step at which it first did", "steps"),
            "onset": (self._steps(middle), "onset, given that there is one", "steps"),
            "lower": (self._steps(np.maximum(middle - half, 0.0)), "its lower bound", "steps"),
            "upper": (
                np.minimum(self._steps(middle + half), self._last),
                "its upper bound",
                "steps",
            ),
        }
        low, high = self._options["value_range"]
        for k, (name, what) in enumerate(
            (("level", "score without noise"), ("projected", "the same at the last step"))
        ):
            mean, sd = found[:, 3 + 2 * k], found[:, 4 + 2 * k]
            values[name] = (mean * (high - low) + 0.5 * (low + high), what, "score")
            values[f"{name}_sd"] = (sd * (high - low), f"its standard deviation: {what}", "score")
        shape, dims = self._template.shape, self._template.dims
        return xr.Dataset(
            {
                name: (dims, value.reshape(shape), {"long_name": long_name, "units": units})
                for name, (value, long_name, units) in values.items()
            },
            coords={**self._template.coords, "step": self._last},
            attrs={"kind": "online onset", "threshold": self._options["threshold"]},
        )

    def to_netcdf(self, path: str | os.PathLike[str]) -> None:
        """Stores everything the next checkpoint needs; `OnlineOnset.from_netcdf` goes on from it.

        Raises
        ------
        InputError
            If nothing has been seen yet.
        """
        if self._state is None:
            raise InputError("update: call it once at least before storing; nothing is seen yet")
        fields = {
            f"state_{name}": ([f"{name}_{k}" for k in range(value.ndim)], value)
            for name, value in self._state._asdict().items()
        }
        options = {k: v for k, v in self._options.items() if k != "value_range"}
        low, high = self._options["value_range"]
        dataset = xr.Dataset(
            {**fields, "alarm": ("curve", self._alarm), "template": self._template},
            attrs={**options, "low": low, "high": high, "last": self._last, "kind": "online state"},
        )
        results.save(dataset, path)

    @classmethod
    def from_netcdf(cls, path: str | os.PathLike[str]) -> OnlineOnset:
        """Goes on where another stopped."""
        stored = results.load(path, "online state")
        options = {
            k: v.item() if isinstance(v, np.generic) else v
            for k, v in stored.attrs.items()
            if k not in ("kind", "low", "high", "last")
        }
        again = cls(value_range=(stored.attrs["low"], stored.attrs["high"]), **options)
        again._state = OnlineState(
            *(np.ascontiguousarray(stored[f"state_{name}"].values) for name in OnlineState._fields)
        )
        again._template = stored["template"]
        again._alarm = stored["alarm"].values.copy()
        again._last = float(stored.attrs["last"])
        return again


def detect_online(curves: xr.DataArray, **options: Any) -> xr.Dataset:
    """What would have been said after each checkpoint, had these curves been watched?

    Parameters
    ----------
    curves : xarray.DataArray
        A `step` dimension with increasing steps; other dimensions tell curves apart.
    **options
        Those of `OnlineOnset`; `last_step` is the last step by default.

    Returns
    -------
    xarray.Dataset
        What `OnlineOnset.update` returns, with a `step` dimension.

    Raises
    ------
    InputError
        If curves or options cannot be used.

    Examples
    --------
    >>> import numpy as np, emergence_stats as es
    >>> step = np.arange(50, 2050, 50)
    >>> rise = es.relaxation(step, onset=800, timescale=200, kappa=0, amplitude=0.5)
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=step.size)
    >>> told = detect_online(es.curve(rise + noise, step), value_range=(0, 1))
    >>> float(told["alarm_step"][-1])
    950.0
    """
    if not isinstance(curves, xr.DataArray) or "step" not in curves.dims:
        raise InputError(
            "curves: give an xarray.DataArray with a 'step' dimension, such as "
            "es.curve(values, step) makes"
        )
    if "step" not in curves.coords or curves.sizes["step"] == 0:
        raise InputError("curves: 'step' has no coordinate, or no entries")
    ordered = curves.transpose(..., "step")
    ordered = ordered.drop_vars(
        [n for n, c in ordered.coords.items() if n != "step" and "step" in c.dims]
    )
    steps = ordered["step"].values
    watch = OnlineOnset(**{"last_step": float(steps[-1]), **options})
    told = [watch.update(at, ordered.isel(step=k, drop=True)) for k, at in enumerate(steps)]
    found = xr.concat(told, "step", coords="different", compat="equals", join="exact")
    return found.transpose(..., "step")
