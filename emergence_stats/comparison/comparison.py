"""Power law or exponential, or nothing, or none of these? One call, one labelled result.

What lives here: `compare` and its result. What does not: the families (`families`), the evidences
(`evidence` and what it stands on), the onset on its own (`onset`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import (
    PROB,
    check_option,
    check_prob,
    check_share,
    check_steps_to_predict,
)
from emergence_stats.comparison.analysis import (
    analyse_curves,
    describe_assumptions,
    onset_interval,
)
from emergence_stats.comparison.plots import plot_comparison
from emergence_stats.comparison.summaries import weighted_quantile
from emergence_stats.comparison.variables import label_summaries
from emergence_stats.curves.completion import completion
from emergence_stats.curves.families import get_family, mean_curve, nonlinear_names
from emergence_stats.drawing import fine_steps
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import SAMPLED_NOISES
from emergence_stats.results import Result, as_table, medians_and_bounds, select, select_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENGINES = ("quadrature", "pymc")


class Comparison(Result):
    """How each curve goes: probabilities, verdicts, and what follows for its parameters.

    Attributes
    ----------
    dataset : xarray.Dataset
        Over the curves' own dimensions: `log_evidence`, `log_evidence_error` (an estimate of
        its numerical error) and `probability` by `family`; `log_bayes_factor` (power law over
        exponential, natural logarithm); `verdict`; by `quantile` the posterior of `onset`,
        `half_time`, `timescale`, `amplitude`, `baseline`, `plateau`, `fraction_complete`,
        `time_to_99_percent`, averaged over the emerging families by their probabilities and given
        that something emerges, and `kappa`, `exponent`, `order` given the power law;
        `probability_of_onset`, `probability_rising`, `direction`; `misfit_p_value`; in ranges of
        the curve, `residual_share`, the root mean square of what the model's mean leaves, and
        `largest_departure`, the largest of that over three neighbours; `averaged`;
        `noise` (and `noise_probability` where it was chosen by evidence); the onset's density;
        weighted posterior draws; the curves themselves as `observed`; and, where they were
        sampled, `sampling_problems` by `family`, empty where nothing is to be distrusted.
    """

    kind = "comparison"
    _by_curve = "verdict"

    def summary(self) -> pd.DataFrame:
        """One row a curve: verdict, probabilities, medians and 89% intervals, and alarms."""
        data = self.dataset
        columns: dict[str, xr.DataArray] = {"verdict": data["verdict"]}
        for family in data["family"].values:
            columns[f"p_{family}"] = data["probability"].sel(family=family, drop=True)
        columns["log_bayes_factor"] = data["log_bayes_factor"]
        columns["log_evidence_error"] = data["log_evidence_error"].max("family")
        shown = ("onset", "timescale", "order", "exponent", "fraction_complete", "plateau")
        columns |= medians_and_bounds(data, shown)
        for name in ("direction", "misfit_p_value", "residual_share", "averaged", "noise"):
            columns[name] = data[name]
        if "sampling_problems" in data:
            columns["sampling_problems"] = _by_curve(data["sampling_problems"])
        return as_table(columns)

    def interval(self, prob: float = PROB) -> xr.DataArray:
        """Between which steps does the onset lie, given that there is one? As `Onset.interval`."""
        return onset_interval(self.dataset, prob)

    def predict(self, steps: ArrayLike, *, prob: float = PROB, **selection: Any) -> xr.Dataset:
        """Where is the curve, without its noise, at these steps, also beyond the data?

        Averaged over all families, no emergence included, by their probabilities.

        Parameters
        ----------
        steps : array_like, shape (step,)
            Finite, not negative.
        prob : float
            Probability of the equal-tailed band.
        **selection
            Labels that choose curves, such as `run=0`; all by default.

        Returns
        -------
        xarray.Dataset
            `mean`, `lower`, `upper` over the curves' dimensions and `step`.
        """
        shares = check_prob(prob)
        at = check_steps_to_predict(steps)
        data = select(self.dataset, self._dims, selection)
        dims = data["verdict"].dims
        shape = tuple(data.sizes[dim] for dim in dims)
        draws = data["draw_value"].values.reshape(-1, *data["draw_value"].shape[-2:])
        owner = data["draw_family"].values.reshape(len(draws), -1)
        weight = data["draw_weight"].values.reshape(len(draws), -1)
        families = [get_family(str(name)) for name in data["family"].values]
        names = nonlinear_names(families)
        band = np.empty((3, len(draws), at.size))
        for c in range(len(draws)):
            level = np.empty((draws.shape[1], at.size))
            for f in np.unique(owner[c]):
                mine = owner[c] == f
                level[mine] = mean_curve(families[f], names, draws[c, mine], at)
            band[0, c] = weight[c] @ level
            for k in range(at.size):
                band[1:, c, k] = weighted_quantile(level[:, k], weight[c], shares)
        coords = dict(data["verdict"].coords)
        return xr.Dataset(
            {
                name: ((*dims, "step"), values.reshape(*shape, at.size))
                for name, values in zip(("mean", "lower", "upper"), band, strict=True)
            },
            coords={**coords, "step": at},
        )

    def time_to(
        self,
        fractions: ArrayLike = (0.5, 0.9, 0.99),
        *,
        levels: ArrayLike | None = None,
        prob: float = PROB,
        **selection: Any,
    ) -> xr.Dataset:
        """When is each of these shares of the rise done, or each level reached, and is it already?

        Given that something emerges, averaged over the emerging families with a plateau. While a
        rise is under way its plateau is the least certain thing about it: a level is forecast far
        better than a share of the way to a plateau unknown.

        Parameters
        ----------
        fractions : array_like, shape (fraction,)
            Shares of the way from baseline to plateau.
        levels : array_like, shape (level,), optional
            Scores to be reached instead.
        prob : float
            Probability of the equal-tailed interval.
        **selection
            Labels that choose curves, such as `run=0`; all by default.

        Returns
        -------
        xarray.Dataset
            Over the curves' dimensions and `fraction` or `level`: `step_reached` by `bound`
            ("lower", "median", "upper"), infinite where it may never be or is more than ten times
            the last measured step away, which no data support; `chance_reached` by the last
            measured step; `step_passed`, where the points themselves, three at a time, passed it
            for good, NaN where they have not. NaN where no family has a plateau. Beside them
            `verdict` and `largest_departure`: a forecast is as good as the fit.
        """
        data = select(self.dataset, self._dims, selection)
        dims = tuple(map(str, data["verdict"].dims))
        return completion(data, dims, fractions, levels, prob)

    def plot(self, *, log_x: bool | None = None, **selection: Any) -> Figure:
        """Data, posterior band, the onset's density along the axis, and residuals.

        Parameters
        ----------
        log_x : bool, optional
            Logarithmic step axis; by default where the onset's prior is.
        **selection
            Labels that choose one curve, such as `run=0, head=3`.
        """
        chosen = Comparison(select_one(self.dataset, self._dims, selection))
        band = chosen.predict(fine_steps(chosen.dataset, log_x))
        return plot_comparison(chosen.dataset, band, log_x)

    def _note(self) -> str:
        return describe_assumptions(self.dataset)


def compare(
    curves: xr.DataArray,
    *,
    families: Sequence[str] = ("exponential", "power_law"),
    noise: str = "auto",
    engine: str = "quadrature",
    step_prior: str = "log",
    prior_probability: Mapping[str, float] | None = None,
    threshold: float = 0.9,
    misfit_threshold: float = 0.05,
    value_range: tuple[float, float] | None = None,
    tolerance: float = 0.03,
    num_chains: int = 4,
    num_draws: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Did each curve relax along a power law or exponentially, or did nothing emerge in it?

    Every family's marginal likelihood, "flat" (no emergence) always among them, and from these the
    probabilities. A verdict is given where one family reaches the threshold and the curve looks
    like what that family would produce; otherwise "undecided" or "misfit". On few noisy points
    "undecided" is the answer to expect.

    Parameters
    ----------
    curves : xarray.DataArray
        A `step` dimension with increasing steps and at least eight points that are not NaN; each
        entry of the other dimensions is a curve of its own. NaN points are dropped curve by curve,
        and noise correlation counts the points that are left. A coordinate `sd` gives known
        measurement standard deviations: the noise then is independent with those, plus an excess
        of the run's own, of unknown sd and correlated as `noise` says, all times one common factor
        believed near 1. Attribute
        `averaged_over` says that the curves are means, which earns a warning.
    families : sequence of str
        Names from `emergence_stats.curves.families.FAMILIES`.
    noise : {"auto", "ar1", "independent", "ou", "ou_log", "proportional", "student_t"}
        Whether residuals may be correlated, and how the correlation falls: from one point to the
        next, or with the distance in steps or in log steps (Ornstein-Uhlenbeck), which matters
        where checkpoints are unevenly spaced. "auto" takes for each curve the kind of greatest
        evidence among these four, by quadrature (`noise_choice`), and the result says which
        (`noise`) and how probable each is (`noise_probability`). The last two, which `fit`
        describes, are for "pymc" only and never chosen.
    engine : {"quadrature", "pymc"}
        How evidences and posteriors are found. "quadrature" is deterministic and quick. "pymc"
        samples each family on each curve as `fit` does, in some seconds each: evidences are by
        bridge sampling, `log_evidence_error` is their Monte Carlo standard error, and what the
        sampler found wanting is in `sampling_problems`. Its model is compiled once and serves all
        curves. Known sd it takes as `fit` does. A curve that cannot be sampled, such as a constant
        one, is left to the quadrature, which `sampling_problems` says. The noise of "auto" is
        chosen by quadrature first, and each curve sampled under its own kind.
    step_prior : {"log", "linear"}
        See `detect_onset`.
    prior_probability : mapping, optional
        Of every family, "flat" included. By default half for "flat", the rest shared evenly.
    threshold : float
        Probability from which a family is the verdict.
    misfit_threshold : float
        Posterior predictive p-value below which the verdict is "misfit", where the model's mean is
        also somewhere more than a tenth of the curve's range away from it. More than a fifth is a
        misfit whatever correlated noise explains, unless neighbouring points scatter as much.
    value_range : (float, float), optional
        The range the score is expected to take; by default that of each curve. The priors scale
        with it: baseline about its middle with sd one range, amplitude about 0 with sd two ranges,
        noise sd half-Cauchy of scale 5% of it.
    tolerance : float
        For "quadrature": relative error, of a rule of half the points, at which it stops refining.
    num_chains, num_draws, seed : int
        For "pymc", as in `fit`; draws are a chain's, after as many steps of adaptation.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If the curves or an option cannot be used; the message says what to do.

    References
    ----------
    Heathcote, Brown and Mewhort (2000), The power law repealed, Psychonomic Bulletin & Review 7,
    185-207: why an average must not be classified.

    Examples
    --------
    >>> import numpy as np, emergence_stats as es
    >>> step = np.arange(0, 6000, 50)
    >>> rise = es.relaxation(step, onset=500.0, timescale=200.0, kappa=2.0)
    >>> noise = 0.01 * np.random.default_rng(0).normal(size=step.size)
    >>> result = es.compare(es.curve(rise + noise, step))
    >>> print(result.dataset["verdict"].item())
    power_law
    """
    check_option("engine", engine, ENGINES)
    threshold = check_share("threshold", threshold)
    misfit_threshold = check_share("misfit_threshold", misfit_threshold)
    asked: dict[str, Any] = {
        "families": families,
        "noise": noise,
        "step_prior": step_prior,
        "prior_probability": prior_probability,
        "value_range": value_range,
        "progress": progress,
    }
    if engine == "pymc":
        # Not needed for the quadrature, and PyMC takes seconds to import.
        from emergence_stats.comparison.by_sampling import sample_curves
        from emergence_stats.nuts.one_curve import SamplerOptions

        options = SamplerOptions(num_chains, num_draws, num_tune=num_draws, seed=seed).check()
        analysis = sample_curves(curves, options=options, **asked)
    elif noise in SAMPLED_NOISES:
        raise InputError(f"noise: {noise!r} has no quadrature; sample it, with engine='pymc'")
    else:
        analysis = analyse_curves(curves, tolerance=tolerance, what="Comparing curves", **asked)
    return Comparison(label_summaries(analysis, threshold, misfit_threshold))


def _by_curve(problems: xr.DataArray) -> xr.DataArray:
    """All families' problems in one text a curve."""
    names = [str(name) for name in problems["family"].values]

    def join(row: np.ndarray) -> str:
        return "; ".join(f"{name}: {text}" for name, text in zip(names, row, strict=True) if text)

    values = problems.transpose(..., "family").values
    texts = np.array([join(row) for row in values.reshape(-1, len(names))])
    like = problems.isel(family=0, drop=True)
    return like.copy(data=texts.reshape(like.shape))
