"""One family fitted to one curve by the no-U-turn sampler: draws, predictions, evidence.

What lives here: `fit` and its result. What does not: comparing families by what they predict
(`forecasting`), the density (`models`), the sampler (`sampling`), what is made of its draws
(`draws`), and the quadrature, which `compare` uses by default, quicker and without Monte Carlo
error.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import PROB, check_option, check_prob, check_steps_to_predict
from emergence_stats.curves.families import get_family
from emergence_stats.curves.priors import STEP_PRIORS, step_axis
from emergence_stats.data.labels import averaged_over, gather
from emergence_stats.drawing import fine_steps
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import NOISES, SAMPLED_NOISES
from emergence_stats.nuts.covariance import noise_kind
from emergence_stats.nuts.data import curve_data
from emergence_stats.nuts.draws import build_tree
from emergence_stats.nuts.one_curve import SamplerOptions, sample_curve
from emergence_stats.nuts.plots import plot_fit
from emergence_stats.results import Result, interval_of_draws, read, stamp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

MAX_PREDICTED = 2000


class Fit(Result):
    """Posterior draws of one family on one curve.

    Attributes
    ----------
    tree : xarray.DataTree
        Groups `posterior` (in the curve's own units), `sample_stats`, `posterior_predictive`,
        `log_likelihood` (of each point given those before it), `observed_data`, and `evidence`.
        The root's attributes hold family, noise and step prior.
    """

    kind = "fit"

    def __init__(self, tree: xr.DataTree) -> None:
        self._stored = stamp(tree, self.kind)

    @property
    def tree(self) -> xr.DataTree:
        """All groups."""
        return self._stored

    @property
    def dataset(self) -> xr.Dataset:
        """The posterior draws."""
        return self.tree["posterior"].to_dataset()

    @property
    def family(self) -> str:
        """Which family was fitted."""
        return str(self.tree.attrs["family"])

    @property
    def log_evidence(self) -> float:
        """Log marginal likelihood by bridge sampling, comparable with that of `compare`."""
        return float(self.tree["evidence"]["log_evidence"])

    @property
    def log_evidence_error(self) -> float:
        """Its Monte Carlo standard error."""
        return float(self.tree["evidence"]["log_evidence_error"])

    @property
    def problems(self) -> list[str]:
        """Why not to believe this fit, in words; empty where nothing was noticed."""
        return list(json.loads(self.tree.attrs["problems"]))

    def summary(self) -> pd.DataFrame:
        """Mean, sd, 89% interval, effective sample size and R-hat of every parameter.

        The column `noise` says which noise they were found under.
        """
        import arviz as az

        table = az.summary(self.tree, ci_prob=PROB, ci_kind="eti", round_to="none")
        return table.assign(noise=str(self.tree.attrs["noise"]))

    def interval(self, prob: float = PROB) -> xr.Dataset:
        """Between which values does each parameter lie? See `Result.interval`."""
        return interval_of_draws(self.dataset, prob, ["chain", "draw"])

    def predict(self, steps: ArrayLike, *, prob: float = PROB) -> xr.Dataset:
        """Where is the curve, without its noise, at these steps, also beyond the data?

        Parameters
        ----------
        steps : array_like, shape (step,)
            Finite, not negative.
        prob : float
            Probability of the equal-tailed band.

        Returns
        -------
        xarray.Dataset
            `mean`, `lower`, `upper` over `step`.

        Raises
        ------
        InputError
            If a step is negative or not finite, or `prob` not between 0 and 1.
        """
        shares = check_prob(prob)
        at = check_steps_to_predict(steps)
        family = get_family(self.family)
        draws = self.dataset.data_vars
        flat = {str(name): v.values.reshape(-1, 1) for name, v in draws.items()}
        stride = -(-len(flat["baseline"]) // MAX_PREDICTED)
        flat = {name: value[::stride] for name, value in flat.items()}
        level = np.broadcast_to(flat["baseline"], (len(flat["baseline"]), at.size))
        if family.shape is not None:
            values = [flat[p.name] for p in family.parameters]
            level = level + flat["amplitude"] * family.shape(at, *values)
        lower, upper = np.quantile(level, shares, axis=0)
        return xr.Dataset(
            {
                "mean": ("step", level.mean(axis=0)),
                "lower": ("step", lower),
                "upper": ("step", upper),
            },
            coords={"step": at},
        )

    def plot(self, *, log_x: bool | None = None) -> Figure:
        """Data, the posterior band, and the onset's draws along the axis."""
        data = xr.Dataset({"observed": self.tree["observed_data"]["score"]}, attrs=self.tree.attrs)
        onset = self.dataset["onset"].values.ravel() if "onset" in self.dataset else None
        title = (
            f"{self.family.replace('_', ' ')}, log evidence {self.log_evidence:.2f} "
            f"± {self.log_evidence_error:.2f}"
        )
        return plot_fit(data, self.predict(fine_steps(data, log_x)), onset, title, log_x)

    @classmethod
    def from_netcdf(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a stored result; see `Result.from_netcdf`."""
        return cls(read(path, cls.kind, xr.open_datatree))

    def _note(self) -> str:
        words = "; ".join(self.problems) or "nothing to distrust was noticed"
        return f"{self.family}, noise {self.tree.attrs['noise']}: {words}"

    def __repr__(self) -> str:
        return f"<Fit ({self.family})>"


def fit(
    curve: xr.DataArray,
    family: str = "power_law",
    *,
    noise: str = "ar1",
    step_prior: str = "log",
    value_range: tuple[float, float] | None = None,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_tune: int = 1000,
    target_accept: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Fit:
    """What are the parameters of this curve, given a family, and what will it do next?

    The same priors and likelihood as `compare`, sampled by NUTS in PyMC (by nutpie where it is
    installed), with baseline and amplitude integrated out and drawn afterwards.

    Parameters
    ----------
    curve : xarray.DataArray, shape (step,)
        One curve, as `compare` takes it, with an `sd` coordinate where that is known. Noise then
        has the two parts that it has there, at the cost of a covariance matrix a step where the
        wandering is correlated: for tens of points, not for thousands. Proportional and Student-t
        noise have the known sd times one common factor only.
    family : str
        A name from `emergence_stats.curves.families.FAMILIES`.
    noise : {"ar1", "independent", "ou", "ou_log", "proportional", "student_t"}
        Besides those of `compare`: independent noise whose sd grows with what has emerged, from a
        share q of its final value; and independent noise with heavy tails.
    step_prior : {"log", "linear"}
        See `detect_onset`.
    value_range : (float, float), optional
        See `compare`.
    num_chains, num_draws, num_tune : int
        Chains, draws kept of each, and steps of adaptation before.
    target_accept : float, optional
        Of the sampler; nearer 1 takes shorter steps. By default 0.95, or 0.99 where the rise may
        lie wholly between two checkpoints, whose posterior has a steep wall; and where a transition
        still diverges the next of 0.95, 0.99, 0.998. Which it was is in `tree.attrs`.
    seed : int
        The same seed gives the same draws.
    progress : bool
        Show the sampler's progress bar.

    Returns
    -------
    Fit

    Raises
    ------
    InputError
        If the curve or an option cannot be used; the message says what to do.

    References
    ----------
    Hoffman and Gelman (2014), The No-U-Turn Sampler, JMLR 15; Meng and Wong (1996), Simulating
    ratios of normalizing constants via a simple identity, Statistica Sinica 6.

    Examples
    --------
    >>> import numpy as np, emergence_stats as es
    >>> step = np.geomspace(10, 5000, 30)
    >>> rise = es.relaxation(step, onset=300.0, timescale=200.0, kappa=0.0)
    >>> noise = 0.02 * np.random.default_rng(0).normal(size=step.size)
    >>> fitted = es.fit(
    ...     es.curve(rise + noise, step), "exponential", num_chains=2, num_draws=300, num_tune=300
    ... )
    >>> bool(abs(fitted.tree["posterior"]["onset"].mean() - 300) < 30)
    True
    """
    check_option("noise", noise, (*NOISES, *SAMPLED_NOISES))
    check_option("step_prior", step_prior, STEP_PRIORS)
    options = SamplerOptions(num_chains, num_draws, num_tune, target_accept, seed).check()
    chosen = get_family(family)
    arrays, labels = gather(curve, value_range)
    if arrays.num_points.size != 1:
        raise InputError(
            f"curve: holds {arrays.num_points.size} curves over {labels.dims}; choose one, such as "
            f"curve.isel({', '.join(f'{dim}=0' for dim in labels.dims)})"
        )
    averaged = averaged_over(curve)
    logarithmic = step_prior == "log"
    kind = noise_kind(noise, arrays.sd is not None)
    data = curve_data(arrays, step_axis(arrays, step_prior), kind)
    generator = np.random.default_rng([seed, 1])
    data, chains = sample_curve(chosen, kind, data, logarithmic, options, generator, progress)
    return Fit(build_tree(chosen, kind, data, logarithmic, chains, generator, averaged))


def compare_fits(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """Which fit predicts left-out points best?

    Leave-one-out cross-validation by Pareto-smoothed importance sampling, through `arviz.compare`.
    With correlated noise a point is predicted from those before it. For small differences and fewer
    than a hundred points its standard errors are too small, which is said in a warning.

    Parameters
    ----------
    fits : mapping of name to Fit
        At least two, of one curve.

    Returns
    -------
    pandas.DataFrame
        As `arviz.compare` gives it, unrounded; its column `warning` is true where importance
        sampling failed (Pareto k above its threshold).

    Raises
    ------
    InputError
        If there are fewer than two fits, or their curves differ.

    References
    ----------
    Vehtari, Gelman and Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27; Sivula, Magnusson and Vehtari (2020),
    arXiv 2008.10296.
    """
    import arviz as az

    if len(fits) < 2:
        raise InputError(f"fits: {len(fits)} given; at least two are needed to compare")
    curves = [f.tree["observed_data"].to_dataset() for f in fits.values()]
    if not all(curve.equals(curves[0]) for curve in curves[1:]):
        raise InputError("fits: of different curves; fit every family to the same one")
    number = curves[0].sizes["step"]
    if number < 100:
        warnings.warn(
            f"{number} points: with fewer than a hundred the standard errors of leave-one-out "
            "differences are too small (Sivula, Magnusson and Vehtari 2020)",
            UserWarning,
            stacklevel=2,
        )
    return az.compare({name: f.tree for name, f in fits.items()}, round_to="none")
