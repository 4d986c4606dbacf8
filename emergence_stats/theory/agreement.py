"""One potential? Does the order seen in the dynamics agree with the measured degeneracy?

What lives here: the test that 1/n, implied by the order, equals a measured change of the learning
coefficient, as a posterior of the difference; it can come out against, and it can come out
undecided. What does not: the order (`orders`), the coefficient (`emergence_stats.degeneracy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import PROB, QUANTILES, check_positive, check_prob, check_share
from emergence_stats.errors import InputError
from emergence_stats.results import BOUNDS, Result, as_table, medians_and_bounds, select_one
from emergence_stats.theory.drawing import plot_agreement
from emergence_stats.theory.orders import implied_learning_coefficient, order_draws

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Agreement(Result):
    """Whether two measurements of one potential agree.

    Attributes
    ----------
    dataset : xarray.Dataset
        Over the curves' own dimensions: `difference` (1/n less the measured change) and `implied`
        (1/n) by `quantile`; `measured` and `standard_error`; `probability_within` (that the
        difference is smaller than the tolerance), `probability_above` (that 1/n is the larger),
        both given that a law holds; `probability_of_order` (that one does; 1 where the order's
        posterior does not say); `verdict` in {"agree", "disagree", "undecided"}; `implied_draw`
        (the draws of 1/n).
    """

    kind = "agreement"
    _by_curve = "verdict"

    def summary(self) -> pd.DataFrame:
        """One row a curve: verdict, probabilities, and medians with 89% intervals."""
        data = self.dataset
        columns = {
            name: data[name]
            for name in (
                "verdict", "probability_within", "probability_above", "probability_of_order",
            )
        }  # fmt: skip
        columns |= medians_and_bounds(data, ("difference", "implied"))
        for name in ("measured", "standard_error"):
            columns[name] = data[name]
        return as_table(columns)

    def interval(self, prob: float = PROB) -> xr.DataArray:
        """Between which values does 1/n less the measured change lie? See `Result.interval`."""
        data, shares = self.dataset, check_prob(prob)
        found = xr.apply_ufunc(
            lambda draws, sd: _mixture_quantiles(shares, draws, sd),
            data["implied_draw"] - data["measured"],
            data["standard_error"],
            input_core_dims=[["draw"], []],
            output_core_dims=[["bound"]],
            vectorize=True,
        )
        return found.assign_coords(bound=list(BOUNDS)).rename("difference")

    def plot(self, **selection: Any) -> Figure:
        """Densities of both, and of their difference beside the tolerance, for one curve."""
        return plot_agreement(select_one(self.dataset, self._dims, selection))


def agreement(
    order: Any,
    llc_change: ArrayLike | xr.DataArray,
    standard_error: ArrayLike | xr.DataArray,
    *,
    tolerance: float = 0.1,
    threshold: float = 0.9,
) -> Agreement:
    """Does the order seen in the dynamics imply the change of the learning coefficient measured?

    The posterior of d = 1/n - change: each draw of n gives a normal distribution with the measured
    coefficient's standard error, and their mixture is used exactly, without further sampling.
    "agree" where P(|d| < tolerance) reaches the threshold, "disagree" where P(|d| > tolerance)
    does, "undecided" where the measurements are too coarse for either, as with a standard error
    well above the tolerance. A comparison also says how probable it is that the curve follows
    either law at all, and both probabilities are times that: a curve without a law has no order
    that could agree or disagree.

    1/n lies between 0 and 1/2, so a change of the whole network's coefficient by more than that, or
    a fall, disagrees with a single coordinate, whatever the order: then several coordinates
    changed, or the picture does not hold.

    Parameters
    ----------
    order : Comparison, Fit, HierarchicalComparison, or xarray.DataArray with dimension `draw`
        Posterior of the order (`orders.order_draws`).
    llc_change : float or xarray.DataArray
        Measured change of the learning coefficient that is to be explained, over the curves' own
        dimensions.
    standard_error : float or xarray.DataArray
        Its standard error, positive; of a difference of two estimates, the root of the sum of
        squares.
    tolerance : float
        Difference that would still be called agreement. The default tells order 2 (1/2) from order
        3 (1/3), but not 3 from 4 (1/4), nor 4 from any above.
    threshold : float
        Probability from which there is a verdict.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError
        If draws or measurements cannot be used, or their dimensions do not match.

    References
    ----------
    Hitchcock, Delaney, Manton, Scalzo and Zhu (2025), arXiv 2504.11830, for the claim; Kruschke
    (2018), Rejecting or accepting parameter values in Bayesian estimation, Advances in Methods and
    Practices in Psychological Science 1, 270-280, for verdicts by a region of practical
    equivalence.

    Examples
    --------
    >>> draws = xr.DataArray(np.linspace(3.8, 4.2, 41), dims="draw")
    >>> print(agreement(draws, 0.24, 0.02).dataset["verdict"].item())
    agree
    >>> print(agreement(draws, 17.0, 0.8).dataset["verdict"].item())
    disagree
    >>> print(agreement(draws, 0.24, 0.5).dataset["verdict"].item())
    undecided
    """
    width = check_positive("tolerance", tolerance)
    threshold = check_share("threshold", threshold)
    if threshold <= 0.5:
        raise InputError(f"threshold: {threshold:g}; a verdict needs more than 0.5")
    draws = order_draws(order)
    if "chain" in draws.dims:
        draws = draws.stack(all_draws=("chain", "draw")).drop_vars(["all_draws", "chain", "draw"])
        draws = draws.rename(all_draws="draw")
    draws = draws.drop_vars("draw", errors="ignore")
    implied = implied_learning_coefficient(draws).transpose(..., "draw")
    dims = implied.dims[:-1]
    measured = _match_labels("llc_change", llc_change, implied)
    error = _match_labels("standard_error", standard_error, implied)
    if not (error > 0).all():
        raise InputError(
            f"standard_error: {float(error.min()):g}; must be positive (an estimate without one "
            "cannot be tested)"
        )
    shape = implied.shape[:-1]
    rows = implied.values.reshape(-1, implied.sizes["draw"])
    centre = rows - measured.values.reshape(-1, 1)
    sd = error.values.reshape(-1, 1)
    below, inside, quantiles = np.empty(len(rows)), np.empty(len(rows)), np.empty((len(rows), 3))
    for i, (c, s) in enumerate(zip(centre, sd, strict=True)):
        quantiles[i] = _mixture_quantiles(QUANTILES, c, float(s[0]))
        below[i] = inside[i] = np.nan
        if np.isfinite(quantiles[i]).all():
            c = c[np.isfinite(c)]
            below[i] = _mixture_cdf(0.0, c, s)
            inside[i] = _mixture_cdf(width, c, s) - _mixture_cdf(-width, c, s)
    law = np.ones(shape)
    if "probability_of_order" in implied.coords:
        like = implied.isel(draw=0, drop=True)
        law = implied["probability_of_order"].broadcast_like(like).transpose(*dims).values
    joint = law.ravel()
    verdict = np.where(
        joint * inside >= threshold,
        "agree",
        np.where(joint * (1.0 - inside) >= threshold, "disagree", "undecided"),
    )
    present = np.where(np.isfinite(rows), rows, np.nan)
    spread = np.full((len(rows), 3), np.nan)
    some = np.isfinite(present).any(axis=1)
    spread[some] = np.nanquantile(present[some], QUANTILES, axis=1).T
    coords = {
        name: c.variable  # as an array it would bring its own coordinates
        for name, c in implied.coords.items()
        if "draw" not in c.dims and name != "probability_of_order"
    }
    dataset = xr.Dataset(
        {
            "verdict": (dims, verdict.reshape(shape)),
            "probability_of_order": (dims, law),
            "probability_within": (dims, inside.reshape(shape)),
            "probability_above": (dims, (1.0 - below).reshape(shape)),
            "difference": ((*dims, "quantile"), quantiles.reshape(*shape, 3)),
            "implied": ((*dims, "quantile"), spread.reshape(*shape, 3)),
            "measured": (dims, measured.values),
            "standard_error": (dims, error.values),
            "implied_draw": ((*dims, "draw"), implied.values),
        },
        coords={**coords, "quantile": list(QUANTILES)},
        attrs={"tolerance": width, "threshold": threshold},
    )
    dataset["difference"].attrs = {"long_name": "1/n less the measured change", "units": "1"}
    dataset["implied"].attrs = {"long_name": "learning coefficient implied, 1/n", "units": "1"}
    return Agreement(dataset)


def _match_labels(
    name: str, given: ArrayLike | xr.DataArray, implied: xr.DataArray
) -> xr.DataArray:
    like = implied.isel(draw=0, drop=True)
    if not isinstance(given, xr.DataArray):
        if np.ndim(given) != 0:
            raise InputError(
                f"{name}: an array without names; give one number, or an xarray.DataArray over "
                f"{like.dims}"
            )
        try:
            given = xr.DataArray(float(given))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise InputError(f"{name}: {given!r}; give a number") from None
    extra = set(given.dims) - set(like.dims)
    if extra:
        raise InputError(f"{name}: dimensions {sorted(map(str, extra))} that the order has not")
    try:
        _, found = xr.align(like, given, join="exact", copy=False)
    except ValueError as problem:
        raise InputError(f"{name}: labels differ from the order's ({problem})") from None
    found = found.reset_coords(drop=True).broadcast_like(like).transpose(*like.dims)
    if np.isinf(found.values).any():
        raise InputError(f"{name}: holds infinity; must be finite, or NaN where not measured")
    return found.astype(float)


def _mixture_cdf(at: float, centre: np.ndarray, sd: np.ndarray) -> float:
    from scipy.special import ndtr

    return float(ndtr((at - centre) / sd).mean())


def _mixture_quantiles(shares: Sequence[float], centre: np.ndarray, sd: float) -> np.ndarray:
    """Of normal distributions about the finite centres; NaN where there are none."""
    from scipy.optimize import brentq

    centre = centre[np.isfinite(centre)]
    if not centre.size or not np.isfinite(sd):
        return np.full(len(shares), np.nan)
    low, high = centre.min() - 8.0 * sd, centre.max() + 8.0 * sd

    def excess(x: float, p: float) -> float:
        return _mixture_cdf(x, centre, np.array(sd)) - p

    return np.array([brentq(excess, low, high, (p,), xtol=1e-10 * sd) for p in shares])
