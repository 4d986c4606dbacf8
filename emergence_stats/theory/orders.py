"""From exponent to order to learning coefficient, with posteriors carried through.

What lives here: the two maps alpha = 1/(n-2) and lambda = 1/n on numbers, arrays, labelled draws
and results, and the draws of the order that a result holds. What does not: inference of the order
(`es.compare`, `es.fit`), or the test against a measured coefficient (`agreement`).

A quantile goes through a monotone map, a mean does not: so draws are transformed, and summaries are
made of what comes out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import check_positive, check_whole
from emergence_stats.curves.families import LAWS
from emergence_stats.errors import InputError

# Whether the family has an order of its own, or is of order 2.
_FAMILIES_WITH_ORDER = {name: bool(k) for pair in LAWS for k, name in enumerate(pair)}


def order_draws(result: Any, *, num_draws: int = 2000) -> xr.DataArray:
    """What does this result say of the order, as draws of equal weight?

    The exponential counts as order 2 with its own probability, so the posterior has an atom there.

    Parameters
    ----------
    result : Comparison, Fit, HierarchicalComparison or xarray.DataArray
        A DataArray of draws is checked and returned. A comparison's draws are given that one of the
        exponential and the power law holds; a hierarchical one's are those of the *population's*
        order: 2, the common order or the median member's, by the three probabilities.
    num_draws : int
        How many are made of weighted draws, by systematic resampling (deterministic).

    Returns
    -------
    xarray.DataArray
        Dimension `draw` (`chain` and `draw` of a fit), and the curves' own. NaN where no law with
        an order is left, or a draw is of neither law. A comparison's carry the coordinate
        `probability_of_order`, that of either law.

    Raises
    ------
    InputError
        If the result holds no order.

    References
    ----------
    Douc, Cappe and Moulines (2005), Comparison of resampling schemes for particle filtering, ISPA,
    64-69.

    Examples
    --------
    >>> import emergence_stats as es
    >>> step = np.arange(0, 6000, 100)
    >>> rise = es.relaxation(step, onset=500.0, timescale=200.0, kappa=2.0)
    >>> noise = 0.01 * np.random.default_rng(0).normal(size=step.size)
    >>> draws = order_draws(es.compare(es.curve(rise + noise, step)))
    >>> draws.dims, bool(3.0 < draws.median() < 5.0)
    (('draw',), True)
    """
    number = check_whole("num_draws", num_draws, 1)
    if isinstance(result, xr.DataArray):
        return _checked_draws(result)
    tree = getattr(result, "tree", None)
    if tree is not None:
        return _of_fit(tree)
    dataset = getattr(result, "dataset", None)
    if isinstance(dataset, xr.Dataset) and "draw_family" in dataset:
        return _of_comparison(dataset, number)
    if isinstance(dataset, xr.Dataset) and "hypothesis" in dataset.dims:
        return _of_population(dataset, number)
    raise InputError(
        f"result: {type(result).__name__} holds no draws of an order; give what es.compare, es.fit "
        "or es.compare_hierarchical returns, or an xarray.DataArray of draws"
    )


def order_from_exponent(exponent: Any, *, observable_power: float = 1.0) -> Any:
    """Which order has this exponent? n = 2 + 1/alpha; 2 for an infinite exponent (exponential).

    Parameters
    ----------
    exponent : float, array_like or xarray.DataArray
        alpha > 0. Draws go through one by one.
    observable_power : float
        p > 0 where the exponent is that of a quantity that goes as q^p, which falls p times as
        steeply: n = 2 + p/alpha. Of the loss, q^n, it is n = 2 alpha / (alpha - 1).

    Returns
    -------
    float, numpy.ndarray or xarray.DataArray
        As it was given. NaN stays NaN.

    Raises
    ------
    InputError
        If an exponent or the power is not positive.

    References
    ----------
    The closed form of `EffectivePotential`.

    Examples
    --------
    >>> order_from_exponent([0.5, float("inf")])
    array([4., 2.])
    >>> order_from_exponent(1.0, observable_power=2.0)  # of q^2, where q falls as t^(-1/2)
    4.0
    """
    values = _values("exponent", exponent)
    if (values <= 0).any():
        raise InputError(f"exponent: {np.nanmin(values):g}; must be positive")
    power = check_positive("observable_power", observable_power)
    return _like(exponent, 2.0 + power / values, "order", "order of the effective potential")


def exponent_from_order(order: Any) -> Any:
    """Which exponent has this order? alpha = 1/(n-2), infinite at n = 2.

    Parameters
    ----------
    order : float, array_like, xarray.DataArray, or a result that `order_draws` takes
        n >= 2.

    Returns
    -------
    float, numpy.ndarray or xarray.DataArray

    Raises
    ------
    InputError
        If an order is below 2.

    References
    ----------
    The closed form of `EffectivePotential`.

    Examples
    --------
    >>> exponent_from_order(np.array([2.0, 4.0]))
    array([inf, 0.5])
    """
    order, values = _orders(order)
    with np.errstate(divide="ignore"):
        found = 1.0 / (values - 2.0)
    return _like(order, found, "exponent", "exponent alpha of the power law")


def implied_learning_coefficient(order: Any, *, observable_power: float = 1.0) -> Any:
    """Which learning coefficient does a potential of this order have? lambda = 1/n.

    It is what the one coordinate adds to the network's coefficient at the minimum. Where several
    coordinates multiply and vanish together, the order is the sum of their exponents and this is a
    lower bound (`products.balanced_potential`).

    The order must be that of the *coordinate*. A curve that goes as q^p relaxes with 1/p times the
    exponent's inverse, so from the order n' seen in it follows n = 2 + p (n' - 2): give p as
    `observable_power`. The loss of the potential itself goes as q^n; of it n = 2 / (3 - n').

    Parameters
    ----------
    order : float, array_like, xarray.DataArray, or a result that `order_draws` takes
        n >= 2.
    observable_power : float
        p > 0, of the coordinate in the curve in which the order was seen; 1 is a score linear in
        it.

    Returns
    -------
    float, numpy.ndarray or xarray.DataArray
        Between 0 and 1/2.

    Raises
    ------
    InputError
        If an order is below 2, or the power not positive.

    References
    ----------
    Watanabe (2009), Algebraic Geometry and Statistical Learning Theory (the coefficient of |q|^n);
    the power by the closed form of `EffectivePotential`.

    Examples
    --------
    >>> implied_learning_coefficient(4)
    0.25
    >>> draws = xr.DataArray([2.0, 4.0], dims="draw")
    >>> implied_learning_coefficient(draws).values
    array([0.5 , 0.25])
    >>> round(implied_learning_coefficient(10 / 3, observable_power=3.0), 9)  # of q^3, n = 6
    0.166666667
    """
    order, values = _orders(order)
    power = check_positive("observable_power", observable_power)
    return _like(
        order,
        1.0 / (2.0 + power * (values - 2.0)),
        "learning_coefficient",
        "implied learning coefficient 1/n",
    )


def _orders(order: Any) -> tuple[Any, np.ndarray]:
    if hasattr(order, "tree") or (
        hasattr(order, "dataset") and not isinstance(order, xr.DataArray)
    ):
        order = order_draws(order)
    values = _values("order", order)
    if (values < 2.0).any():
        raise InputError(f"order: {np.nanmin(values):g}; must be at least 2")
    return order, values


def _values(name: str, given: ArrayLike | xr.DataArray) -> np.ndarray:
    if given is None or isinstance(given, bool):
        raise InputError(f"{name}: {given!r}; give numbers or draws")
    try:
        return np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name}: {type(given).__name__}; give numbers or draws") from None


def _like(given: Any, values: np.ndarray, name: str, long_name: str) -> Any:
    if isinstance(given, xr.DataArray):
        result = given.copy(data=values).rename(name)
        result.attrs = {"long_name": long_name, "units": "1"}
        return result
    return float(values) if np.ndim(given) == 0 else values


def _checked_draws(draws: xr.DataArray) -> xr.DataArray:
    values = _values("result", draws)
    if "draw" not in draws.dims:
        raise InputError(f"result: no 'draw' dimension among {draws.dims}")
    if (values < 2.0).any():
        raise InputError(f"result: holds the order {np.nanmin(values):g}; orders are at least 2")
    return draws


def _of_fit(tree: xr.DataTree) -> xr.DataArray:
    family, posterior = tree.attrs.get("family"), tree["posterior"].to_dataset()
    if "order" in posterior:
        draws = posterior["order"]
    elif not _FAMILIES_WITH_ORDER.get(str(family), True):
        draws = xr.full_like(posterior["onset"], 2.0).rename("order")
    else:
        raise InputError(f"result: a fit of {family!r}, which has no order; fit 'power_law'")
    draws.attrs = {"long_name": "order of the effective potential", "units": "1"}
    return draws


def _of_comparison(dataset: xr.Dataset, number: int) -> xr.DataArray:
    names = [str(name) for name in dataset["family"].values]
    if not any(name in _FAMILIES_WITH_ORDER for name in names):
        raise InputError(
            f"result: families {names} have no order; compare with 'power_law' among them"
        )
    owner = dataset["draw_family"].transpose(..., "draw")
    kappa = xr.zeros_like(owner, dtype=float)
    if "kappa" in dataset["parameter"].values:
        kappa = dataset["draw_value"].sel(parameter="kappa", drop=True).transpose(*owner.dims)
    order = xr.full_like(owner, np.nan, dtype=float)
    for family, has_own in _FAMILIES_WITH_ORDER.items():
        if family in names:
            order = order.where(owner != names.index(family), 2.0 + kappa if has_own else 2.0)
    weight = dataset["draw_weight"].transpose(*owner.dims).where(order.notnull(), 0.0)
    shape = owner.shape[:-1]
    rows = [
        _resample(o, w, number)
        for o, w in zip(
            order.values.reshape(-1, owner.sizes["draw"]),
            weight.values.reshape(-1, owner.sizes["draw"]),
            strict=True,
        )
    ]
    laws = [name for name in names if name in _FAMILIES_WITH_ORDER]
    probability = dataset["probability"].sel(family=laws).sum("family")
    coords = {name: c for name, c in probability.coords.items() if "draw" not in c.dims}
    return xr.DataArray(
        np.reshape(rows, (*shape, number)),
        dims=owner.dims,
        coords={**coords, "probability_of_order": (owner.dims[:-1], probability.values)},
        name="order",
        attrs={"long_name": "order of the effective potential", "units": "1"},
    )


def _of_population(dataset: xr.Dataset, number: int) -> xr.DataArray:
    draws = dataset["draw"].sel(parameter="order", drop=True)
    draws = draws.transpose(..., "hypothesis", "draw_number")
    # By definition; the column holds something else there.
    draws = draws.where(draws["hypothesis"] != "exponential", 2.0)
    probability = dataset["probability"].transpose(..., "hypothesis")
    shape = draws.shape[:-2]
    values = draws.values.reshape(-1, draws.shape[-2] * draws.shape[-1])
    weights = np.repeat(
        probability.values.reshape(-1, draws.shape[-2]) / draws.shape[-1], draws.shape[-1], axis=1
    )
    rows = [_resample(o, w, number) for o, w in zip(values, weights, strict=True)]
    others = draws.dims[:-2]
    return xr.DataArray(
        np.reshape(rows, (*shape, number)),
        dims=(*others, "draw"),
        coords={dim: dataset[dim] for dim in others if dim in dataset.coords},
        name="order",
        attrs={"long_name": "order of the effective potential, population", "units": "1"},
    )


def _resample(values: np.ndarray, weight: np.ndarray, number: int) -> np.ndarray:
    """Systematic resampling: each value floor(w n) or ceil(w n) times; NaN without weight."""
    if not weight.sum() > 0:
        return np.full(number, np.nan)
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weight[order])
    place = (np.arange(number) + 0.5) / number * cumulative[-1]
    chosen = values[order][np.searchsorted(cumulative, place)]
    # The rows are shuffled, always alike, so that thinning them does no harm.
    return np.asarray(np.random.default_rng(0).permutation(chosen))
