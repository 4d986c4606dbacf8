"""How well does a family forecast a curve from its beginning? Leave-future-out cross-validation.

What lives here: `compare_forecasts`, refitting a curve's first points for `arviz.lfo_cv`, and the
likelihood of what came after. What does not: the sampler (`one_curve`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats import SamplingWrapper

from emergence_stats.checks import check_option
from emergence_stats.curves.families import Family, get_family
from emergence_stats.curves.priors import STEP_PRIORS, step_axis
from emergence_stats.data.labels import MIN_POINTS, gather
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import NOISES, SAMPLED_NOISES
from emergence_stats.nuts.covariance import noise_kind
from emergence_stats.nuts.data import CurveData, curve_data
from emergence_stats.nuts.draws import build_tree, log_likelihoods, parameters
from emergence_stats.nuts.one_curve import SamplerOptions, sample_curve
from emergence_stats.nuts.sampling import Chains

Array = np.ndarray

# Each fit is (data, with stairs, of the points seen; chains).
Fitted = tuple[CurveData, Chains]


def compare_forecasts(
    curve: xr.DataArray,
    families: Sequence[str] = ("exponential", "power_law"),
    *,
    min_points: int | None = None,
    horizon: int = 1,
    method: str = "approx",
    noise: str = "ar1",
    step_prior: str = "log",
    value_range: tuple[float, float] | None = None,
    num_chains: int = 4,
    num_draws: int = 500,
    num_tune: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Which family forecasts this curve best from its beginning?

    Leave-future-out cross-validation through `arviz.lfo_cv`: each family is fitted to the first
    points and scored on the next ones, again and again as points are added. Between refits the
    draws are carried forward by Pareto-smoothed importance sampling, as long as that works.

    Parameters
    ----------
    curve : xarray.DataArray, shape (step,)
        One curve, as `fit` takes it. The priors know the steps and the range of the whole of it.
    families : sequence of str
        Names from `emergence_stats.curves.families.FAMILIES`; at least two.
    min_points : int, optional
        Points given before the first forecast; by default half of them, and at least eight.
    horizon : int
        How many points ahead are scored together, each given those before it.
    method : {"approx", "exact"}
        "exact" refits before every forecast, in seconds each.
    noise, step_prior, value_range, num_chains, num_draws, num_tune, seed
        See `fit`.

    Returns
    -------
    pandas.DataFrame
        By family, the best first: `elpd` (expected log predictive density, summed over forecasts),
        its standard error `se`, `elpd_diff` from the best with its error `dse`, `num_forecasts`,
        `num_refits`, the largest `pareto_k` of what was carried forward, and `warning`, true where
        more than half of the forecasts needed a refit.

    Raises
    ------
    InputError
        If the curve or an option cannot be used; the message says what to do.

    References
    ----------
    Buerkner, Gabry and Vehtari (2020), Approximate leave-future-out cross-validation for Bayesian
    time series models, Journal of Statistical Computation and Simulation 90.

    Examples
    --------
    >>> import warnings, numpy as np, emergence_stats as es
    >>> step = np.arange(0, 1000, 50)
    >>> rise = es.relaxation(step, onset=150, timescale=100, kappa=0)
    >>> curve = es.curve(rise + 0.01 * np.random.default_rng(0).normal(size=20), step)
    >>> with warnings.catch_warnings(action="ignore"):  # of few forecasts
    ...     table = compare_forecasts(
    ...         curve, ("flat", "exponential"), min_points=16, num_draws=100, num_tune=200
    ...     )
    >>> table.index[0], int(table["num_forecasts"].iloc[0])
    ('exponential', 4)
    """
    check_option("noise", noise, (*NOISES, *SAMPLED_NOISES))
    check_option("step_prior", step_prior, STEP_PRIORS)
    check_option("method", method, ("approx", "exact"))
    options = SamplerOptions(num_chains, num_draws, num_tune, seed=seed).check()
    chosen = [get_family(name) for name in dict.fromkeys(families)]
    if len(chosen) < 2:
        raise InputError(f"families: {families!r}; at least two are needed to compare")
    arrays, labels = gather(curve, value_range)
    if arrays.num_points.size != 1:
        raise InputError(
            f"curve: holds {arrays.num_points.size} curves over {labels.dims}; choose one"
        )
    number = int(arrays.num_points[0])
    first = max(MIN_POINTS, number // 2) if min_points is None else min_points
    for name, value, least, most in (
        ("horizon", horizon, 1, number - MIN_POINTS),
        ("min_points", first, MIN_POINTS, number - horizon),
    ):
        if not isinstance(value, int | np.integer) or not least <= value <= most:
            raise InputError(
                f"{name}: {value!r}; of {number} points give a whole number from {least} to {most}"
            )
    forecasts = number - horizon + 1 - first
    if forecasts < 100:
        warnings.warn(
            f"{forecasts} forecasts: with fewer than a hundred the standard errors of their "
            "differences are too small (Sivula, Magnusson and Vehtari 2020)",
            UserWarning,
            stacklevel=2,
        )
    kind = noise_kind(noise, arrays.sd is not None)
    data = curve_data(arrays, step_axis(arrays, step_prior), kind)
    found = {
        family.name: leave_future_out(
            FirstPoints(
                family,
                kind,
                data,
                step_prior == "log",
                options,
                np.random.default_rng([seed, 2, k]),
            ),
            int(first),
            int(horizon),
            method,
        )
        for k, family in enumerate(chosen)
    }
    best = max(found, key=lambda name: float(found[name].elpd))
    rows = {}
    for name, one in sorted(found.items(), key=lambda item: -float(item[1].elpd)):
        apart = (found[best].elpd_i - one.elpd_i).values
        carried = one.pareto_k is not None and bool(np.isfinite(one.pareto_k).any())
        rows[name] = {
            "elpd": float(one.elpd),
            "se": float(one.se),
            "elpd_diff": float(apart.sum()),
            "dse": float(np.sqrt(apart.size * apart.var())),
            "num_forecasts": int(one.n_data_points),
            "num_refits": int(one.n_refits),
            "pareto_k": float(np.nanmax(one.pareto_k)) if carried else np.nan,
            "warning": bool(one.warning),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


class FirstPoints(SamplingWrapper):
    """Fits a family to the first points of a curve and tells how probable the later ones were.

    Attributes
    ----------
    data : CurveData
        The whole curve. Priors know its steps and its range also where only some points are seen,
        as they do in `compare`; what a and b are given is the points seen alone.
    """

    def __init__(
        self,
        family: Family,
        noise: str,
        data: CurveData,
        logarithmic: bool,
        options: SamplerOptions,
        generator: np.random.Generator,
    ) -> None:
        super().__init__(model=None)
        self.family, self.noise, self.data = family, noise, data
        self.logarithmic, self.options, self.generator = logarithmic, options, generator

    def whole(self) -> xr.DataTree:
        """The fit of all points."""
        data, chains = self.sample(np.arange(self.data.step.size))
        return build_tree(
            self.family, self.noise, data, self.logarithmic, chains, self.generator, ""
        )

    def sel_observations(self, idx: Array) -> tuple[Array, Array]:
        """Indices kept and indices left out."""
        return np.setdiff1d(np.arange(self.data.step.size), idx), np.asarray(idx)

    def sample(self, modified_observed_data: Array) -> Fitted:
        """Chains given the first points."""
        seen = self.data.until(len(modified_observed_data))
        return sample_curve(
            self.family, self.noise, seen, self.logarithmic, self.options, self.generator
        )

    def get_inference_data(self, fitted_model: Fitted) -> xr.DataTree:
        """The chains with the names that ArviZ knows, and the likelihood of every point."""
        seen, chains = fitted_model
        # The onset's coordinate stands on the stairs chosen for the points seen.
        stairs = {
            f.name: getattr(seen, f.name)
            for f in fields(CurveData)
            if f.name.startswith("stair") or f.name == "sharpness"
        }
        every = replace(self.data, **stairs)
        named, likelihood = [], []
        for chain in chains.coordinates:
            found, drawn = parameters(
                self.family, self.noise, every, self.logarithmic, chain, self.generator, seen
            )
            named.append(found)
            likelihood.append(log_likelihoods(self.data, drawn))
        draws = ("chain", "draw")
        posterior = {name: (draws, np.stack([n[name] for n in named])) for name in named[0]}
        return xr.DataTree.from_dict(
            {
                "posterior": xr.Dataset(posterior),
                "log_likelihood": xr.Dataset(
                    {"score": ((*draws, "step"), np.stack(likelihood))},
                    coords={"step": np.asarray(self.data.step)},
                ),
            }
        )

    def log_likelihood__i(self, excluded_obs: Array, idata__i: Any) -> xr.DataArray:
        """Log likelihood of each point left out, given those before it."""
        return idata__i["log_likelihood"]["score"].isel(step=excluded_obs)


def leave_future_out(wrapper: FirstPoints, min_points: int, horizon: int, method: str) -> Any:
    """`arviz.lfo_cv` of one family; an `ELPDData` with its values by point."""
    import arviz as az

    return az.lfo_cv(
        wrapper.whole(),
        wrapper,
        min_observations=min_points,
        forecast_horizon=horizon,
        time_dim="step",
        pointwise=True,
        method=method,
    )
