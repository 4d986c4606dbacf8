"""How often did the curve change, and when? Any number of changepoints, with probabilities.

What lives here: `segment` for one call and its result. What does not: the sums over segmentations
and noise (`sums`, `noise_grid`), the penalised search for long series
(`penalised`), one onset of a relaxing curve (`onset`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from emergence_stats.checks import PROB, check_option, check_prob, check_whole
from emergence_stats.curves.priors import STEP_PRIORS, StepAxis
from emergence_stats.data.labels import gather, progress_report
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import NOISES
from emergence_stats.results import BOUNDS, Result, as_table, select_one
from emergence_stats.segmentation.models import SEGMENT_MODELS, VARIANCES, SegmentModel
from emergence_stats.segmentation.plots import plot_segmentation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUTO = "auto"
METHODS = ("exact", "pelt")
# The exact sums take minutes beyond.
MOST_POINTS = 20_000
STEPS = {"units": "steps"}


class Segmentation(Result):
    """Where each curve changed, how often, and how sure that is.

    Attributes
    ----------
    dataset : xarray.Dataset
        For every curve `number` (the most probable number of changes), `number_probability` and
        `log_evidence` by `num_changes`, `log_marginal`; by `step` `inclusion` (probability of a
        change between the measured point before and this one), `first_change` (of the first change
        being there), `mean` and `mean_sd` (the curve without noise, averaged over everything); by
        `change`, given `number` changes, `change_step` (posterior median) and, by `step` too,
        `change_probability` (of its lying between the point before and this one); by `segment`
        `segment_from` and `segment_to`, values at the ends of the segments between those medians;
        `noise_sd`, `noise_correlation`; `model` and `variance`, as asked for or chosen; `observed`.
    """

    kind = "segmentation"
    _by_curve = "number"

    @property
    def probability(self) -> xr.DataArray:
        """Probability that the curve changed at all; 1 or 0 where the search was penalised."""
        if "number_probability" not in self.dataset:
            return (self.dataset["number"] > 0).astype(float).rename("probability")
        none = self.dataset["number_probability"].sel(num_changes=0, drop=True)
        return (1.0 - none).rename("probability")

    @property
    def number(self) -> xr.DataArray:
        """The most probable number of changes."""
        return self.dataset["number"]

    @property
    def changes(self) -> xr.DataArray:
        """Posterior median of each change, in steps, given the most probable number of them."""
        return self.dataset["change_step"]

    def interval(self, prob: float = PROB) -> xr.DataArray:
        """Between which steps does each change lie, given the most probable number of them?

        Parameters
        ----------
        prob : float
            Posterior probability of the equal-tailed interval.

        Returns
        -------
        xarray.DataArray
            Dimensions `change` and `bound` ("lower", "upper") besides those of the curves.
        """
        found = self._quantiles("change_probability", check_prob(prob))
        return found.assign_coords(bound=list(BOUNDS))

    def first(self, prob: float = PROB) -> xr.Dataset:
        """When did the curve first change, however often it did, if it did?

        Returns
        -------
        xarray.Dataset
            `probability` that it changed, and `lower`, `median`, `upper` of the first change in
            steps, NaN where no change is possible.
        """
        low, high = check_prob(prob)
        found = self._quantiles("first_change", [low, 0.5, high])
        names = ("lower", "median", "upper")
        return xr.Dataset(
            {"probability": self.probability}
            | {name: found.isel(bound=k, drop=True) for k, name in enumerate(names)}
        )

    def _quantiles(self, name: str, shares: Sequence[float]) -> xr.DataArray:
        data = self.dataset
        return (
            xr.apply_ufunc(
                lambda p, y: _gap_quantiles(
                    p, y, data["step"].values, shares, data.attrs["step_prior"] == "log"
                ),
                data[name],
                data["observed"],
                input_core_dims=[["step"], ["step"]],
                output_core_dims=[["bound"]],
                vectorize=True,
            )
            .assign_attrs(STEPS)
            .rename(name)
        )

    def summary(self, prob: float = PROB) -> pd.DataFrame:
        """One row a change: its step with interval, the values on either side, and how sure.

        Curves without changes have one row, in which these are empty. `probability_of_number` is
        that of there being just so many changes as are listed.
        """
        interval = self.interval(prob)
        data = self.dataset
        upto = data.sizes["change"]
        before = data["segment_to"].isel(segment=slice(0, upto)).rename(segment="change")
        after = data["segment_from"].isel(segment=slice(1, upto + 1)).rename(segment="change")
        table = xr.Dataset(
            {
                "number": data["number"],
                "probability_of_number": self._probability_of_number(),
                "step": data["change_step"],
                "lower": interval.sel(bound="lower", drop=True),
                "upper": interval.sel(bound="upper", drop=True),
                "before": before.drop_vars("change", errors="ignore"),
                "after": after.drop_vars("change", errors="ignore"),
            }
        ).assign_coords(change=data["change"])
        frame = as_table(table.data_vars)
        change = frame.index.get_level_values("change")
        kept = (change.to_numpy() <= frame["number"].to_numpy()) | (change.to_numpy() == 1)
        return frame[kept]

    def _probability_of_number(self) -> xr.DataArray:
        if "number_probability" not in self.dataset:
            return xr.full_like(self.number, np.nan, dtype=float)
        return self.dataset["number_probability"].sel(num_changes=self.number, drop=True)

    def plot(self, *, log_x: bool | None = None, **selection: Any) -> Figure:
        """The curve, its segments and mean, and the density of its changes along the axis.

        Parameters
        ----------
        log_x : bool, optional
            Logarithmic step axis; by default where the prior of the changes is.
        **selection
            Labels that choose one curve, such as `run=0, head=3`.
        """
        return plot_segmentation(select_one(self.dataset, self._dims, selection), log_x)

    def _note(self) -> str:
        attrs = self.dataset.attrs
        return (
            f"{attrs['model']} segments, noise {attrs['noise']}, method {attrs['method']}, changes "
            f"uniform in {attrs['step_prior']} step"
        )


def _gap_quantiles(
    probability: np.ndarray,
    observed: np.ndarray,
    step: np.ndarray,
    shares: Sequence[float],
    logarithmic: bool,
) -> np.ndarray:
    """Quantiles of a change that is uniform, on the prior's axis, within each gap."""
    measured = np.isfinite(observed)
    cumulative, at = np.cumsum(probability[measured]), step[measured].astype(float)
    if not (np.isfinite(cumulative[-1]) and cumulative[-1] > 0):
        return np.full(len(shares), np.nan)
    cumulative /= cumulative[-1]
    axis = StepAxis.along(at, logarithmic)
    return axis.position_to_step(np.interp(shares, cumulative, axis.step_to_position(at)))


def segment(
    curves: xr.DataArray,
    *,
    model: str = "auto",
    noise: str = "ar1",
    step_prior: str = "log",
    max_changes: int | None = None,
    prior_probability: Sequence[float] | None = None,
    min_points: int | None = None,
    variance: str = "shared",
    method: str = "exact",
    value_range: tuple[float, float] | None = None,
    progress: bool = False,
) -> Segmentation:
    """How often did these curves change, and at which steps?

    The posterior over all segmentations, their number included, summed exactly by dynamic
    programming (Fearnhead 2006) and over level, slope and noise of the segments besides. Between
    two checkpoints that bracket a change its position is as uncertain as they are apart.

    Parameters
    ----------
    curves : xarray.DataArray
        A `step` dimension with increasing steps and at least eight points that are not NaN; each
        entry of the other dimensions is a curve of its own. NaN points are dropped curve by curve.
        A coordinate `sd` gives known measurement standard deviations.
    model : {"constant", "linear", "log_linear", "auto"}
        What a segment is: a level, or a line in step or in log step. Lines need not meet. "auto"
        takes for each curve the one under which it is most probable, at the work of all three: a
        gradual rise is a poor staircase, and noise that wanders then explains it as well. The
        penalised search knows levels only.
    noise : {"ar1", "independent", "ou", "ou_log"}
        As in `detect_onset`; the noise of a segment begins anew, whatever that before it was.
    step_prior : {"log", "linear"}
        Whether changes are, before the data, equally likely in equal ratios of steps or in equal
        differences.
    max_changes : int, optional
        By default as many as the curve shows.
    prior_probability : sequence of float, optional
        Of 0, 1, 2 ... changes. By default half for none, and each further one half as probable.
    min_points : int, optional
        The least points a segment has. By default 2 (constant) or 3 (lines), one more where every
        segment has its own noise.
    variance : {"shared", "segment", "auto"}
        Whether all segments have the same noise scale, or each its own, so that a change of the
        variance is a change. The latter is for curves without known sd. "auto" as for `model`.
    method : {"exact", "pelt"}
        All segmentations, in time that grows with the square of the number of points where nothing
        changes; or the best one by penalised search (PELT, Killick et al. 2012, of the package
        ruptures), for series of 10^5 points and more, with positions given their neighbours.
    value_range : (float, float), optional
        The range the score is expected to take; by default that of each curve. Levels have half of
        it as their prior sd.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Segmentation

    Raises
    ------
    InputError
        If the curves or an option cannot be used; the message says what to do.

    References
    ----------
    Fearnhead (2006), Exact and efficient Bayesian inference for multiple changepoint problems,
    Statistics and Computing 16, 203-213. Killick, Fearnhead and Eckley (2012), Optimal detection of
    changepoints with a linear computational cost, JASA 107, 1590-1598.

    Examples
    --------
    >>> import numpy as np, emergence_stats as es
    >>> step = np.arange(100, 4100, 100)
    >>> level = np.select([step < 1200, step < 3000], [0.1, 0.5], 0.4)
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=step.size)
    >>> found = es.segment(es.curve(level + noise, step))
    >>> int(found.number), found.changes.round(-1).values
    (2, array([1150., 2950.]))
    """
    from emergence_stats.segmentation import one_curve, penalised

    check_option("model", model, (*SEGMENT_MODELS, AUTO))
    check_option("noise", noise, NOISES)
    check_option("step_prior", step_prior, STEP_PRIORS)
    check_option("variance", variance, (*VARIANCES, AUTO))
    check_option("method", method, METHODS)
    prior = _check_prior(max_changes, prior_probability)
    arrays, labels = gather(curves, value_range)
    longest = int(arrays.num_points.max())
    if method == "exact" and longest > MOST_POINTS:
        raise InputError(
            f"method: 'exact' for {longest} points would take too long; choose method='pelt', or "
            "average neighbouring points"
        )
    if variance == "segment" and arrays.sd is not None:
        raise InputError(
            "variance: 'segment' is for curves without known sd; drop the coordinate with "
            "curves.drop_vars('sd'), or leave variance='shared'"
        )
    if method == "pelt" and model == AUTO:
        model = "constant"
    names = SEGMENT_MODELS if model == AUTO else (model,)
    scales = [own for own in VARIANCES if own == variance or variance == AUTO]
    if arrays.sd is not None:
        scales = scales[:1]
    models = [
        replace(SEGMENT_MODELS[one], own_scale=own == "segment") for one in names for own in scales
    ]
    candidates = [
        one_curve.Options(one, noise, step_prior, _check_points(min_points, one), prior)
        for one in models
    ]
    if method == "pelt":
        penalised.check(model, noise, variance, prior, arrays)
    work = penalised.search if method == "pelt" else one_curve.segment_one
    count = arrays.num_points.size
    with progress_report(count, progress, "Segmenting curves") as report:
        found = []
        for c in range(count):
            curve = arrays.take(np.array([c]))
            tried = [work(curve, options) for options in candidates]
            found.append(max(tried, key=lambda one: one.log_marginal))
            if report is not None:
                report(1)
    dataset = one_curve.as_dataset(found, arrays, labels)
    labels.add_observed(dataset)
    dataset["change_step"] = (
        Segmentation(dataset.assign_attrs(step_prior=step_prior))
        ._quantiles("change_probability", [0.5])
        .isel(bound=0)
    )
    dataset["change_step"].attrs.update(STEPS, long_name="posterior median of the change")
    dataset.attrs.update(
        model=model,
        noise=noise,
        step_prior=step_prior,
        variance=variance,
        method=method,
        min_points="least possible" if min_points is None else min_points,
        known_sd=int(arrays.sd is not None),
    )
    return Segmentation(dataset)


def _check_points(min_points: int | None, model: SegmentModel) -> int:
    """The least points a segment has."""
    if min_points is None:
        return model.usual_points
    return check_whole("min_points", min_points, model.fewest_points)


def _check_prior(
    max_changes: int | None, prior_probability: Sequence[float] | None
) -> np.ndarray | None:
    """Prior of 0, 1, ... changes where the caller limits their number."""
    if max_changes is not None:
        check_whole("max_changes", max_changes, 0)
    if prior_probability is None:
        return None if max_changes is None else 0.5 ** (1.0 + np.arange(max_changes + 1))
    try:
        prior = np.asarray(prior_probability, dtype=float)
    except (TypeError, ValueError):
        prior = np.zeros(0)
    good = prior.ndim == 1 and prior.size > 0 and bool((prior >= 0).all())
    if not good or abs(prior.sum() - 1.0) > 1e-6:
        raise InputError(
            f"prior_probability: {prior_probability!r}; give those of 0, 1, 2 ... changes, none "
            "negative, with sum 1"
        )
    if max_changes is not None and prior.size != max_changes + 1:
        raise InputError(
            f"prior_probability: {prior.size} numbers for max_changes={max_changes}; give "
            f"{max_changes + 1}, or leave max_changes out"
        )
    return prior
