"""Watching a run: has the part we want emerged, is it under way, or does it stall?

What lives here: `Monitor`, which turns the online detector's numbers into a word a curve, keeps the
scores, and says on request when it will be done. What does not: the detector (`online`), the
comparison behind the forecast (`comparison`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import ndtr

from emergence_stats import results
from emergence_stats.checks import check_number, check_range
from emergence_stats.errors import InputError
from emergence_stats.online.online import OnlineOnset

STATUSES = ("not yet", "emerging", "emerged", "stalled")


class Monitor:
    """Has it emerged, is it emerging, does it stall, and when will it be done?

    After every checkpoint each curve has one of these words:

    - "not yet": nothing has begun, as far as the threshold asks;
    - "emerging": it has begun, and is expected to reach the target by the last step if it goes on;
    - "emerged": it has begun and its level is beyond the target, each with a probability above the
      threshold. Without a target, having begun is all that is asked;
    - "stalled": it has begun, and if its present course goes on to the last step, the probability
      of being beyond the target there is below one minus the threshold.

    What has begun stays so: a later fall is told by "stalled", not by "not yet".

    Parameters
    ----------
    last_step : float
        The step at which training is planned to end.
    value_range : (float, float)
        The range the score is expected to take.
    target : float, optional
        The score that is wanted; one below `baseline` is to be fallen to.
    baseline : float, optional
        The score before anything has emerged. Needed only to know which way the target lies; by
        default the lower end of the range.
    **options
        Further ones of `OnlineOnset`, such as `noise`, `model`, `threshold`.

    Examples
    --------
    >>> import numpy as np, emergence_stats as es
    >>> watch = es.Monitor(last_step=2000, value_range=(0, 1), target=0.5)
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=40)
    >>> words = []
    >>> for step, error in zip(range(50, 2050, 50), noise):
    ...     score = 0.1 + es.relaxation(step, onset=800, timescale=200, kappa=0, amplitude=0.5)
    ...     words.append(watch.update(step, score + error)["status"].item())
    >>> list(dict.fromkeys(words))
    ['not yet', 'emerging', 'emerged']
    """

    def __init__(
        self,
        *,
        last_step: float,
        value_range: tuple[float, float],
        target: float | None = None,
        baseline: float | None = None,
        **options: Any,
    ) -> None:
        self._online = OnlineOnset(last_step=last_step, value_range=value_range, **options)
        low, high = check_range(value_range)
        self._baseline = low if baseline is None else check_number("baseline", baseline)
        self._target = None if target is None else check_number("target", target)
        if self._target is not None and not low <= self._target <= high:
            raise InputError(f"target: {target!r} lies outside value_range={value_range!r}")
        if self._target is not None and self._target == self._baseline:
            raise InputError(
                f"target: {target!r} equals the baseline, so that nothing has to emerge; give "
                "baseline= if the lower end of the range is not it"
            )
        self._scores: list[xr.DataArray] = []
        self._told: xr.Dataset | None = None

    @property
    def scores(self) -> xr.DataArray:
        """All scores so far, with a `step` dimension: what `compare` takes."""
        if not self._scores:
            raise InputError("update: call it once at least; nothing is seen yet")
        return xr.concat(self._scores, "step").transpose(..., "step")

    def update(self, step: float, scores: xr.DataArray | np.ndarray | float) -> xr.Dataset:
        """One more checkpoint.

        Parameters
        ----------
        step : float
            Above that of the call before.
        scores : xarray.DataArray, array or number
            One score a curve; NaN where not measured.

        Returns
        -------
        xarray.Dataset
            What `OnlineOnset.update` returns, with `status` and, where there is a target,
            `probability_of_target` (that the level is beyond it now) and
            `probability_of_target_at_end` (if the present course goes on).

        Raises
        ------
        InputError
            As `OnlineOnset.update`; nothing is changed then.
        """
        told = self._online.update(step, scores)
        kept = scores if isinstance(scores, xr.DataArray) else xr.DataArray(np.asarray(scores))
        kept = kept.astype(float).drop_vars("step", errors="ignore")
        self._scores.append(kept.assign_coords(step=float(step)))
        threshold = told.attrs["threshold"]
        begun = np.isfinite(told["alarm_step"])
        if self._target is None:
            status = xr.where(begun, "emerged", "not yet")
        else:
            now = self._beyond(told["level"], told["level_sd"])
            then = self._beyond(told["projected"], told["projected_sd"])
            told["probability_of_target"] = now.assign_attrs(
                long_name="probability that the level is beyond the target", units="1"
            )
            told["probability_of_target_at_end"] = then.assign_attrs(
                long_name="the same at the last step, on the present course", units="1"
            )
            status = xr.where(
                ~begun,
                "not yet",
                xr.where(
                    now >= threshold,
                    "emerged",
                    xr.where(then < 1.0 - threshold, "stalled", "emerging"),
                ),
            )
        told["status"] = status
        self._told = told.assign_attrs(kind="monitor")
        return self._told

    def _beyond(self, mean: xr.DataArray, sd: xr.DataArray) -> xr.DataArray:
        assert self._target is not None
        way = 1.0 if self._target > self._baseline else -1.0
        return xr.apply_ufunc(
            lambda m, s: ndtr(way * (m - self._target) / np.maximum(s, 1e-300)), mean, sd
        )

    def forecast(self, **options: Any) -> xr.Dataset:
        """When will it be done? The families of `compare` on all that has been measured.

        Parameters
        ----------
        **options
            Those of `compare`; the range is the monitor's.

        Returns
        -------
        xarray.Dataset
            By `quantile` (of 89% intervals and the median) `onset`, `plateau`, `fraction_complete`
            and `time_to_99_percent` (a step), given that something emerges;
            `probability_of_onset`; `verdict` and `largest_departure`, for a forecast is as good as
            the fit. Where there is a target, `target_reached` by `bound`: see `time_to` of
            `Comparison`.

        Raises
        ------
        InputError
            If there are fewer than eight checkpoints.
        """
        from emergence_stats.comparison.comparison import compare

        options = {"value_range": self._online.options["value_range"], **options}
        result = compare(self.scores, **options)
        names = (
            "onset",
            "plateau",
            "fraction_complete",
            "time_to_99_percent",
            "probability_of_onset",
            "verdict",
            "largest_departure",
        )
        found = result.dataset[list(names)].assign_attrs(kind="forecast")
        if self._target is not None:
            reached = result.time_to(levels=[self._target])["step_reached"]
            found["target_reached"] = reached.isel(level=0, drop=True)
        return found

    def summary(self) -> pd.DataFrame:
        """One row a curve: its status, since when, how probable, and its level."""
        if self._told is None:
            raise InputError("update: call it once at least; nothing is seen yet")
        names = ["status", "probability", "alarm_step", "onset", "lower", "upper", "level"]
        table = self._told[names].drop_vars("step")
        if not table.dims:
            return pd.DataFrame({name: [table[name].item()] for name in names})
        return table.to_dataframe()[names]

    def _repr_html_(self) -> str:
        if self._told is None:
            return "<div><b>Monitor</b>, nothing seen yet</div>"
        table = self.summary().to_html(max_rows=50, float_format=lambda value: f"{value:.4g}")
        return f"<div><b>Monitor</b> at step {self._online.step:g}{table}</div>"

    def to_netcdf(self, path: str | os.PathLike[str]) -> None:
        """Stores scores and settings; `Monitor.from_netcdf` goes on from them."""
        options = self._online.options
        low, high = options.pop("value_range")
        given = {"target": self._target, "baseline": self._baseline}
        dataset = xr.Dataset(
            {"scores": self.scores},
            attrs={
                **{f"option_{key}": value for key, value in options.items()},
                **{key: value for key, value in given.items() if value is not None},
                "low": low,
                "high": high,
                "kind": "monitor",
            },
        )
        # Complete before it takes the old one's place, so that a kill loses nothing.
        part = Path(f"{os.fspath(path)}.part")
        results.save(dataset, part)
        os.replace(part, path)

    @classmethod
    def from_netcdf(cls, path: str | os.PathLike[str]) -> Monitor:
        """Goes on where another stopped, by playing the stored scores to a new one."""
        stored = results.load(path, "monitor")
        plain = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in stored.attrs.items()
        }
        again = cls(
            value_range=(plain["low"], plain["high"]),
            target=plain.get("target"),
            baseline=plain["baseline"],
            **{k.removeprefix("option_"): v for k, v in plain.items() if k.startswith("option_")},
        )
        scores = stored["scores"].transpose("step", ...)
        for k, step in enumerate(scores["step"].values):
            again.update(float(step), scores.isel(step=k, drop=True))
        return again
