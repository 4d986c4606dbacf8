"""Gradient-flow time: what optimiser steps are worth.

What lives here: steps to summed learning rate and back, for arrays and for stored trajectories.
What does not: how far descent departs from the flow (`descent`), noise of minibatches (`noise`).
For Adam the summed learning rate is a convenience, not the time of any flow, as its steps are
rescaled. Descent with momentum m follows the flow 1 / (1 - m) times as fast once it has gathered
way: multiply its rates by that (the order does not change with the unit of time).
"""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import check_numbers
from emergence_stats.errors import InputError

Array = np.ndarray
TIME_ATTRS = {"long_name": "gradient-flow time (summed learning rate)", "units": "1"}


@overload
def gradient_flow_time(step: xr.Dataset, learning_rate: None = None) -> xr.DataArray: ...
@overload
def gradient_flow_time(step: ArrayLike, learning_rate: xr.DataArray) -> xr.DataArray: ...
@overload
def gradient_flow_time(step: ArrayLike, learning_rate: ArrayLike) -> np.ndarray: ...


def gradient_flow_time(
    step: ArrayLike | xr.Dataset, learning_rate: ArrayLike | xr.DataArray | None = None
) -> np.ndarray | xr.DataArray:
    """How much gradient-flow time has passed at these steps?

        T(s) = eta_0 + eta_1 + ... + eta_(s-1)

    w_(s+1) = w_s - eta_s grad L(w_s) is Euler's method for dw/dT = -grad L with these time steps.

    Parameters
    ----------
    step : array_like, shape (step,), or xarray.Dataset
        Increasing, not negative; or a trajectory with a variable `learning_rate`.
    learning_rate : float, array_like of shape (step,), or xarray.DataArray with dimension `step`
        Rate of the update that follows each step; a DataArray's own steps must be those of `step`.
        Between recorded steps it is taken to be linear, before the first constant; where all steps
        are recorded the sum is exact.

    Returns
    -------
    numpy.ndarray or xarray.DataArray
        In the shape of `learning_rate`, or of `step` where that is one number; a DataArray where
        one was given. Points at which the rate was not yet recorded (NaN) stay NaN.

    Raises
    ------
    InputError
        If steps do not increase, shapes disagree, or a rate is negative or infinite.

    References
    ----------
    Hairer, Lubich and Wanner (2006), Geometric Numerical Integration, chapter IX (Euler's method as
    an approximation of the flow); the sum between recorded steps is the trapezoidal rule less the
    Euler-Maclaurin end term, exact for a linear rate.

    Examples
    --------
    >>> gradient_flow_time([0, 10, 100], 0.1)
    array([ 0.,  1., 10.])
    >>> gradient_flow_time([0, 1, 2, 3], [0.4, 0.3, 0.2, 0.1])
    array([0. , 0.4, 0.7, 0.9])
    """
    if isinstance(step, xr.Dataset):
        if "learning_rate" not in step:
            raise InputError(
                f"step: this dataset has no variable 'learning_rate' among {sorted(map(str, step))}"
            )
        learning_rate = step["learning_rate"]
        if "step" not in learning_rate.coords:
            raise InputError("step: the dataset's 'step' has no coordinate")
        step = learning_rate["step"].values
    if learning_rate is None:
        raise InputError("learning_rate: missing; give one number or the rate at each step")
    steps = _checked_steps(step)
    if isinstance(learning_rate, xr.DataArray) and learning_rate.ndim:
        if "step" not in learning_rate.dims:
            raise InputError(f"learning_rate: no 'step' dimension among {learning_rate.dims}")
        ordered = learning_rate.transpose(..., "step")
        if "step" in ordered.coords and not np.array_equal(ordered["step"].values, steps):
            raise InputError(
                "learning_rate: recorded at other steps than those asked about; take "
                "learning_rate.interp(step=...) at them, or gradient_flow_time at its own"
            )
        total = _sum_rates(steps, _rates(ordered.values))
        result = ordered.copy(data=total).rename("gradient_flow_time")
        result.attrs = dict(TIME_ATTRS)
        return result.transpose(*learning_rate.dims)
    return _sum_rates(steps, _rates(learning_rate))


def step_at_time(time: ArrayLike, step: ArrayLike, learning_rate: ArrayLike) -> np.ndarray:
    """At which step, not rounded, has this much gradient-flow time passed? The inverse.

    Parameters
    ----------
    time : array_like
        Not negative, and not beyond that of the last step.
    step : array_like, shape (step,)
    learning_rate : float or array_like, shape (step,)
        As in `gradient_flow_time`. Where the rate is zero for a while, the first step is given.

    Returns
    -------
    numpy.ndarray
        In the shape of `time`.

    Raises
    ------
    InputError
        If a time is negative or beyond the last step, or steps and rates cannot be used.

    References
    ----------
    As `gradient_flow_time`.

    Examples
    --------
    >>> step_at_time([0.4, 0.7, 0.9], [0, 1, 2, 3], [0.4, 0.3, 0.2, 0.1]).round(9)
    array([1., 2., 3.])
    """
    steps, times = _checked_steps(step), check_numbers("time", time)
    rates = _rates(learning_rate)
    if rates.ndim > 1:
        raise InputError(f"learning_rate: shape {rates.shape}; give one number or a row of rates")
    reached = _sum_rates(steps, rates)
    rates = np.broadcast_to(rates, reached.shape)
    if not np.isfinite(reached).all():
        raise InputError("learning_rate: holds NaN; leave out the steps without a rate")
    # A segment before the first recorded step, at its rate.
    at = np.concatenate([[0.0], steps]) if steps[0] > 0 else steps
    sums = np.concatenate([[0.0], reached]) if steps[0] > 0 else reached
    rate = np.concatenate([rates[:1], rates]) if steps[0] > 0 else rates
    slack = 1e-12 * sums[-1]
    if (times < 0.0).any() or (times > sums[-1] + slack).any():
        raise InputError(
            f"time: {times[(times < 0) | (times > sums[-1] + slack)][0]:g} is outside 0 to "
            f"{sums[-1]:g}, the gradient-flow time of step {at[-1]:g}"
        )
    k = np.clip(np.searchsorted(sums, times, side="left") - 1, 0, max(at.size - 2, 0))
    if at.size == 1:
        return np.full(times.shape, at[0])
    width, change = at[k + 1] - at[k], rate[k + 1] - rate[k]
    # T grows by u (rate - change / 2 width) + u^2 change / (2 width); the stable root for u.
    half = change / (2.0 * width)
    linear = rate[k] - half
    wanted = np.clip(times - sums[k], 0.0, None)
    root = np.sqrt(np.maximum(linear**2 + 4.0 * half * wanted, 0.0))
    below = linear + root
    u = np.where(wanted > 0.0, 2.0 * wanted / np.where(below > 0.0, below, 1.0), 0.0)
    return np.asarray(at[k] + np.minimum(u, width))


def with_time_axis(curves: xr.DataArray, learning_rate: ArrayLike | xr.DataArray) -> xr.DataArray:
    """The same curves against gradient-flow time, so that `es.compare` fits them there.

    Parameters
    ----------
    curves : xarray.DataArray
        With a `step` dimension and coordinate.
    learning_rate : float, array_like or xarray.DataArray
        As in `gradient_flow_time`, the same for all curves.

    Returns
    -------
    xarray.DataArray
        `step` holds gradient-flow time (its attributes say so), the optimiser's steps are the
        coordinate `optimiser_step`. Steps during which no time passes are left out.

    Raises
    ------
    InputError
        If the learning rate differs between the curves (choose those of one schedule), or there is
        no `step`.

    References
    ----------
    As `gradient_flow_time`.

    Examples
    --------
    >>> curve = xr.DataArray([0.0, 0.5, 0.6], dims="step", coords={"step": [0, 100, 200]})
    >>> with_time_axis(curve, [0.02, 0.01, 0.0])["step"].values
    array([0.   , 1.505, 2.01 ])
    """
    if "step" not in curves.dims or "step" not in curves.coords:
        raise InputError("curves: no 'step' dimension with a coordinate; see es.curve")
    if isinstance(learning_rate, xr.DataArray) and learning_rate.ndim > 1:
        flat = learning_rate.stack(_all=[d for d in learning_rate.dims if d != "step"])
        first = flat.isel(_all=0, drop=True)
        every = flat.transpose("_all", "step").values
        if not np.array_equal(every, np.broadcast_to(first.values, every.shape), equal_nan=True):
            raise InputError(
                "learning_rate: differs between runs, so there is no common time axis; select runs "
                "of one schedule"
            )
        learning_rate = xr.DataArray(
            first.values, dims="step", coords={"step": first["step"].values}
        )
    time = np.asarray(gradient_flow_time(curves["step"].values, learning_rate), dtype=float)
    moved = np.isfinite(time)
    moved[1:] &= np.diff(time, prepend=-1.0)[1:] > 0.0
    steps = curves["step"].values
    result = curves.assign_coords(optimiser_step=("step", steps)).isel(step=np.flatnonzero(moved))
    result = result.assign_coords(step=("step", time[moved], dict(TIME_ATTRS)))
    return result


def _checked_steps(step: ArrayLike) -> Array:
    steps = check_numbers("step", step)
    if steps.ndim != 1 or steps.size == 0:
        raise InputError(f"step: shape {steps.shape}; give a row of steps")
    if steps[0] < 0 or (np.diff(steps) <= 0).any():
        raise InputError("step: must increase and not be negative; sort the steps")
    return steps


def _rates(learning_rate: ArrayLike) -> Array:
    try:
        return np.asarray(learning_rate, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"learning_rate: {learning_rate!r}; give numbers") from None


def _sum_rates(steps: Array, rates: Array) -> Array:
    if rates.ndim == 0:
        rates = np.broadcast_to(rates, steps.shape)
    if rates.shape[-1] != steps.size:
        raise InputError(
            f"learning_rate: {rates.shape[-1]} values along the last dimension for {steps.size} "
            "steps; give one for each step"
        )
    if (rates < 0).any() or np.isinf(rates).any():
        raise InputError("learning_rate: must be finite and not negative")
    width = np.diff(steps)
    # Of whole steps from a to b, the rates at a, ..., b - 1.
    part = width * 0.5 * (rates[..., 1:] + rates[..., :-1]) - 0.5 * np.diff(rates, axis=-1)
    first = steps[0] * rates[..., :1]
    return np.concatenate([first, first + np.cumsum(part, axis=-1)], axis=-1)
