"""One family fitted to one curve by the no-U-turn sampler: draws, predictions, evidence.

What lives here: `fit`, its result, and leave-one-out comparison of several. What does not: the
density (`models`), the sampler (`sampling`), what is made of its draws (`draws`), and the
quadrature, which `compare` uses by default, quicker and without Monte Carlo error.
"""

from __future__ import annotations

import html
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats import labelled, models
from emergence_stats.curve_sampling import SamplerOptions, sample_curve
from emergence_stats.draws import build_tree
from emergence_stats.errors import InputError, StorageError, disk_errors, first_line
from emergence_stats.evidence import step_axis
from emergence_stats.families import get_family

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

MAX_PREDICTED = 2000


@dataclass(frozen=True)
class Fit:
    """Posterior draws of one family on one curve.

    Attributes
    ----------
    tree : xarray.DataTree
        Groups `posterior` (in the curve's own units), `sample_stats`, `posterior_predictive`,
        `log_likelihood` (of each point given those before it), `observed_data`, and `evidence`.
        The root's attributes hold family, noise and step prior.
    """

    tree: xr.DataTree

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
        """Mean, sd, 89% interval, effective sample size and R-hat of every parameter."""
        import arviz as az

        return az.summary(self.tree, ci_prob=0.89, ci_kind="eti", round_to="none")

    def predict(self, steps: ArrayLike, *, prob: float = 0.89) -> xr.Dataset:
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
        prob = labelled.checked_share("prob", prob)
        at = labelled.checked_steps_to_predict(steps)
        family = get_family(self.family)
        posterior = self.tree["posterior"].to_dataset()
        flat = {str(name): v.values.reshape(-1, 1) for name, v in posterior.data_vars.items()}
        stride = -(-len(flat["baseline"]) // MAX_PREDICTED)
        flat = {name: value[::stride] for name, value in flat.items()}
        level = np.broadcast_to(flat["baseline"], (len(flat["baseline"]), at.size))
        if family.shape is not None:
            values = [flat[p.name] for p in family.parameters]
            level = level + flat["amplitude"] * family.shape(at, *values)
        shares = [0.5 - 0.5 * prob, 0.5 + 0.5 * prob]
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
        from emergence_stats.plots import plot_fit

        return plot_fit(self, log_x)

    def to_netcdf(self, path: str | os.PathLike[str]) -> None:
        """Stores the result; `Fit.from_netcdf` reads it back exactly."""
        with disk_errors(Path(path)):
            self.tree.to_netcdf(path, engine="h5netcdf")

    @classmethod
    def from_netcdf(cls, path: str | os.PathLike[str]) -> Fit:
        """Reads a stored result.

        Raises
        ------
        StorageError
            If there is no such file, or it is not a stored fit.
        """
        if not Path(path).exists():
            raise StorageError(f"{os.fspath(path)}: no such file; give the path of a saved fit")
        try:
            with xr.open_datatree(path, engine="h5netcdf") as stored:
                tree = stored.load()
        except Exception as error:
            raise StorageError(
                f"{os.fspath(path)}: not a readable netCDF file ({first_line(error)})"
            ) from error
        if tree.attrs.get("kind") != "fit":
            raise StorageError(f"{os.fspath(path)}: not a stored fit")
        return cls(tree)

    def _repr_html_(self) -> str:
        words = "; ".join(self.problems) or "nothing to distrust was noticed"
        title = f"{self.family}, noise {self.tree.attrs['noise']}: {words}"
        return f"<div><b>Fit</b> ({html.escape(title)}){self.summary().to_html()}</div>"


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
    target_accept: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> Fit:
    """What are the parameters of this curve, given a family, and what will it do next?

    The same priors and likelihood as `compare`, sampled by NUTS in PyMC (by nutpie where it is
    installed), with baseline and amplitude integrated out and drawn afterwards.

    Parameters
    ----------
    curve : xarray.DataArray, shape (step,)
        One curve, as `compare` takes it, with an `sd` coordinate where that is known: noise then
        has those times one common factor, while the quadrature also allows for an excess over them.
    family : str
        A name from `emergence_stats.families.FAMILIES`.
    noise : {"ar1", "independent", "ou", "ou_log", "proportional", "student_t"}
        Besides those of `compare`: independent noise whose sd grows with what has emerged, from a
        share q of its final value; and independent noise with heavy tails.
    step_prior : {"log", "linear"}
        See `detect_onset`.
    value_range : (float, float), optional
        See `compare`.
    num_chains, num_draws, num_tune : int
        Chains, draws kept of each, and steps of adaptation before.
    target_accept : float
        Of the sampler; nearer 1 takes shorter steps.
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
    labelled.checked_option("noise", noise, models.NOISE_KINDS)
    labelled.checked_option("step_prior", step_prior, labelled.STEP_PRIORS)
    options = SamplerOptions(num_chains, num_draws, num_tune, target_accept, seed).checked()
    chosen = get_family(family)
    arrays, labels = labelled.gather(curve, value_range)
    if arrays.num_points.size != 1:
        raise InputError(
            f"curve: holds {arrays.num_points.size} curves over {labels.dims}; choose one, such as "
            f"curve.isel({', '.join(f'{dim}=0' for dim in labels.dims)})"
        )
    averaged = labelled.averaged_over(curve)
    logarithmic = step_prior == "log"
    data = models.curve_data(arrays, step_axis(arrays, step_prior), noise)
    generator = np.random.default_rng([seed, 1])
    data, chains = sample_curve(chosen, noise, data, logarithmic, options, generator, progress)
    return Fit(build_tree(chosen, noise, data, logarithmic, chains, generator, averaged))


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
