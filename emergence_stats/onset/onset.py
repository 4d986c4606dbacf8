"""When did it emerge? The onset's posterior, averaged over how the curve then goes.

What lives here: `detect_onset` and its result. What does not: the integration (`summaries` and what
it stands on) and its labels (`analysis`), which `compare` shares, so that both say the same of
the same curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from emergence_stats.checks import PROB, check_share
from emergence_stats.comparison.analysis import (
    STEPS,
    analyse_curves,
    describe_assumptions,
    onset_interval,
    onset_quantiles,
)
from emergence_stats.onset import relations
from emergence_stats.onset.plots import plot_onset
from emergence_stats.results import Result, as_table, select_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# As `compare` has them, so that the two agree: these begin at once or gently, as the data say.
ONSET_FAMILIES = ("exponential", "power_law")


class Onset(Result):
    """When each curve began to move, with its uncertainty.

    Attributes
    ----------
    dataset : xarray.Dataset
        For every curve `probability` (that there is an onset at all), `emerged` (whether that
        passes the threshold), `median`, and, over `onset_point`, `onset_step`, `density` (per
        step) and `cumulative`: the onset's posterior given that there is one. The points lie dense
        where the posterior is and reach over the whole span. `observed` holds the curves.
    """

    kind = "onset"
    _by_curve = "probability"

    @property
    def probability(self) -> xr.DataArray:
        """Probability that there is an onset at all."""
        return self.dataset["probability"]

    @property
    def median(self) -> xr.DataArray:
        """Posterior median of the onset, in steps, given that there is one."""
        return self.dataset["median"]

    def interval(self, prob: float = PROB) -> xr.DataArray:
        """Between which steps does the onset lie, given that there is one?

        Parameters
        ----------
        prob : float
            Posterior probability of the equal-tailed interval.

        Returns
        -------
        xarray.DataArray
            Dimension `bound` ("lower", "upper") besides those of the curves; in steps.
        """
        return onset_interval(self.dataset, prob)

    def lag(self, other: Onset, prob: float = PROB) -> xr.Dataset:
        """By how many steps does another series' onset follow this one, and may they be one?

        Does the learning coefficient change when a head's score does, or the test loss? Given
        that both have an onset, and that their noises are independent.

        Parameters
        ----------
        other : Onset
            Of other curves over the same training. Dimensions of the same name are matched by
            label, others are combined all with all.
        prob : float
            Posterior probability of the equal-tailed interval.

        Returns
        -------
        xarray.Dataset
            `lower`, `median`, `upper` of the other's onset less this one's, in steps;
            `probability_before` (that this one came first); `log_bayes_factor_same` (one onset for
            both, over two that lie anywhere); `probability_both` (that both have an onset).

        Raises
        ------
        InputError
            If labels or priors of the two do not match.

        Examples
        --------
        >>> import numpy as np, emergence_stats as es
        >>> step = np.arange(50, 2050, 50)
        >>> noise = 0.02 * np.random.default_rng(0).normal(size=(2, step.size))
        >>> rise = [es.relaxation(step, onset=t, timescale=200.0, kappa=0.0) for t in (600, 1000)]
        >>> score, loss = (es.curve(r + e, step) for r, e in zip(rise, noise))
        >>> lag = es.detect_onset(score).lag(es.detect_onset(1.0 - loss))
        >>> bool(abs(lag["median"] - 400) < 50), float(lag["probability_before"]) > 0.999
        (True, True)
        """
        return relations.lag(self.dataset, other.dataset, prob)

    def order(self, dim: str) -> xr.DataArray:
        """Which of the curves along a dimension began first?

        Returns
        -------
        xarray.DataArray
            Dimensions `dim` and `dim` with "_other" added: the probability that the first began
            before the second, given that both did. Onsets between the same two checkpoints are
            near one half, as nothing tells them apart.
        """
        return relations.order(self.dataset, dim)

    def common(self, dim: str, prob: float = PROB) -> relations.CommonOnset:
        """Do the curves along a dimension share one onset, and how far do theirs scatter?

        Three beliefs are compared: one onset for all; onsets normally distributed about a common
        one on the axis on which onsets are uniform, with a spread that is half-normal with a
        scale of a fifth of that axis; onsets that lie anywhere, independently.

        Parameters
        ----------
        dim : str
            Seeds, say, or heads of one run.
        prob : float
            Posterior probability of the intervals.

        Returns
        -------
        CommonOnset
        """
        return relations.common(self.dataset, dim, prob)

    def summary(self, prob: float = PROB) -> pd.DataFrame:
        """One row a curve: probability of an onset, its median and interval in steps."""
        interval = self.interval(prob)
        return as_table(
            {
                "emerged": self.dataset["emerged"],
                "probability": self.probability,
                "onset": self.median,
                "onset_lower": interval.sel(bound="lower", drop=True),
                "onset_upper": interval.sel(bound="upper", drop=True),
                "noise": self.dataset["noise"],
            }
        )

    def plot(self, *, log_x: bool | None = None, **selection: Any) -> Figure:
        """The curve with the density of its onset along the axis.

        Parameters
        ----------
        log_x : bool, optional
            Logarithmic step axis; by default where the onset's prior is.
        **selection
            Labels that choose one curve, such as `run=0, head=3`.
        """
        return plot_onset(select_one(self.dataset, self._dims, selection), log_x)

    def _note(self) -> str:
        return describe_assumptions(self.dataset)


def detect_onset(
    curves: xr.DataArray,
    *,
    families: Sequence[str] = ONSET_FAMILIES,
    noise: str = "auto",
    step_prior: str = "log",
    prior_probability: Mapping[str, float] | None = None,
    threshold: float = 0.9,
    value_range: tuple[float, float] | None = None,
    tolerance: float = 0.03,
    progress: bool = False,
) -> Onset:
    """Has something begun in these curves, and at which step?

    The posterior of a continuous onset, averaged over the families by their probabilities and over
    everything else they do not know (amplitude, timescale, order, noise), against the alternative
    that nothing happens. Between two checkpoints that bracket the rise it is as wide as they are
    apart.

    Parameters
    ----------
    curves : xarray.DataArray
        A `step` dimension with increasing steps and at least eight points that are not NaN; each
        entry of the other dimensions is a curve of its own. NaN points are dropped curve by curve.
        A coordinate `sd` gives known measurement standard deviations.
    families : sequence of str
        How a curve may go after its onset (`emergence_stats.curves.families.FAMILIES`): a change of
        level or slope, a relaxation, a gentle start. By default all of `ONSET_FAMILIES`, more than
        `compare` tells apart, since how a curve goes on says much of when it began.
    noise : {"ar1", "independent", "ou", "ou_log", "auto"}
        Whether residuals may be correlated, and how the correlation falls: from one point to the
        next, or with the distance in steps or in log steps (Ornstein-Uhlenbeck), which matters
        where checkpoints are unevenly spaced. "auto" takes for each curve the kind of greatest
        evidence, as `compare` does, and says which and how probable each is.
    step_prior : {"log", "linear"}
        Whether the onset is, before the data, equally likely in equal ratios of steps or in equal
        differences, between the first and the last step. Where the first step is 0 the logarithm is
        that of the step plus the second step.
    prior_probability : mapping, optional
        Of every family, "flat" included. By default half for "flat", the rest shared evenly.
    threshold : float
        Probability from which `emerged` is true.
    value_range : (float, float), optional
        The range the score is expected to take; by default that of each curve. The priors scale
        with it.
    tolerance : float
        Relative error, of a rule of half the points, at which the integration stops refining.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Onset

    Raises
    ------
    InputError
        If the curves or an option cannot be used; the message says what to do.

    Examples
    --------
    >>> import numpy as np, emergence_stats as es
    >>> step = np.arange(0, 2000, 100)
    >>> rise = es.relaxation(step, onset=700.0, timescale=150.0, kappa=0.0)
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=step.size)
    >>> onset = es.detect_onset(es.curve(rise + noise, step))
    >>> bool(onset.probability > 0.99), bool(abs(onset.median - 700) < 50)
    (True, True)
    """
    threshold = check_share("threshold", threshold)
    analysis = analyse_curves(
        curves,
        families=families,
        noise=noise,
        step_prior=step_prior,
        prior_probability=prior_probability,
        value_range=value_range,
        tolerance=tolerance,
        progress=progress,
        what="Detecting onsets",
    )
    dataset = analysis.onset_variables()
    dataset["emerged"] = dataset["probability"] >= threshold
    dataset["median"] = onset_quantiles(dataset, [0.5], "quantile").isel(quantile=0)
    dataset["median"].attrs.update(STEPS, long_name="posterior median of the onset")
    analysis.add_noise(dataset)
    analysis.request.labels.add_observed(dataset)
    dataset.attrs = {**analysis.request.attrs, "threshold": threshold}
    return Onset(dataset)
