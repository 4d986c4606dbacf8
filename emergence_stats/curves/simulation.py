"""Curves whose truth is known, drawn from the very beliefs that `compare` holds.

What lives here: drawing curves of any family, their parameters from the priors or as given, and
the noise on them. What does not: the priors themselves (`priors`, `families`, `noise.beliefs`),
what is then made of the curves (`planning`, the benchmarks).

Because the parameters come from the priors of the comparison, quantiles and probabilities found for
such curves are calibrated if and only if the computation is right (Talts et al. 2018, Validating
Bayesian inference algorithms with simulation-based calibration).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import check_option, check_whole
from emergence_stats.curves.families import Family, get_family
from emergence_stats.curves.priors import STEP_PRIORS, step_axis
from emergence_stats.data.labels import gather
from emergence_stats.errors import InputError, nearest
from emergence_stats.noise.beliefs import (
    AMPLITUDE_SD,
    BASELINE_SD,
    FACTOR_WIDTH,
    NOISE_SCALE,
    NOISES,
    half_cauchy_at,
)

Array = np.ndarray


def simulate_curves(
    family: str,
    step: ArrayLike,
    *,
    number: int,
    sd: ArrayLike | None = None,
    noise: str = "independent",
    correlation: ArrayLike | None = None,
    excess: ArrayLike | bool | None = None,
    step_prior: str = "log",
    value_range: tuple[float, float] = (0.0, 1.0),
    parameters: Mapping[str, ArrayLike] | None = None,
    seed: int | np.random.Generator = 0,
) -> xr.Dataset:
    """What might curves of this family look like, and which parameters made each of them?

    y = a + b f + e, with the fraction completed f as the family has it. What is not given is drawn
    from the priors of `compare(..., value_range=value_range, step_prior=step_prior)`: the
    nonlinear parameters as the family declares them; a about the middle of the range with sd one
    range; b about 0 with sd two ranges; the correlation rho of the noise uniform on (0, 1); and its
    sd such that what is new from point to point is half-Cauchy with scale 5% of the range.

    Parameters
    ----------
    family : str
        A name from `emergence_stats.curves.families.FAMILIES`.
    step : array_like, shape (step,)
        Increasing, not negative, at least eight.
    number : int
        How many curves.
    sd : array_like, optional
        Standard deviation of the noise, in the units of the score; a number, one a step, or one a
        curve as an array of shape (number, 1). Drawn where it is left out. With `excess` it is what
        is known of each measurement, and goes with the curves as their coordinate `sd`.
    noise : {"independent", "ar1"}
        Whether the noise is correlated from one point to the next, however far apart they are.
    correlation : array_like, optional
        Of neighbouring points, in [0, 1), for "ar1"; a number, or one a curve. Drawn where it is
        left out.
    excess : bool or array_like, optional
        The model that `compare` has where `sd` is known: s (sd_i z_i + t u_i), z independent and u
        of unit variance and correlated as `noise` says. True draws t sqrt(1 - rho^2), half-Cauchy
        with the root mean square of `sd` as its scale; a number, or one a curve, is s t itself. The
        common factor s is drawn, log s / 0.25 having a hyperbolic secant density, unless
        `parameters` has `sd_factor`.
    step_prior : {"log", "linear"}
        Where the onset is equally likely: see `detect_onset`.
    value_range : (float, float)
        The range the score is expected to take, in whose units the priors are.
    parameters : mapping of str to array_like, optional
        Fixed parameters by name: the family's own, `baseline` and `amplitude`, and with `excess`
        `sd_factor`; each a number or one a curve.
    seed : int or numpy.random.Generator
        The same seed gives the same curves.

    Returns
    -------
    xarray.Dataset
        `score(curve, step)`, ready for `compare`; `signal(curve, step)`, the same without noise;
        and by `curve` the family's parameters and what it derives from them (such as `timescale`),
        `baseline`, `amplitude`, `noise_sd` (also by step where `sd` is) and `noise_correlation`.
        With `excess` the latter two are of that, `noise_sd` being s t, and `sd_factor` is s.

    Raises
    ------
    InputError
        If an argument cannot be used; the message says which and why.

    Examples
    --------
    >>> import numpy as np
    >>> made = simulate_curves("power_law", np.arange(1, 41), number=3, parameters={"kappa": 2.0})
    >>> dict(made["score"].sizes)
    {'curve': 3, 'step': 40}
    >>> made["kappa"].values
    array([2., 2., 2.])
    """
    chosen = get_family(family)
    check_option("noise", noise, NOISES)
    check_option("step_prior", step_prior, STEP_PRIORS)
    check_whole("number", number, 1)
    if noise == "independent" and correlation is not None:
        raise InputError(
            "correlation: given for independent noise; ask for noise='ar1' or leave it out"
        )
    two_parts = excess is not None and excess is not False
    if two_parts and sd is None:
        raise InputError("excess: what is it beside? Give the measurements' sd too")
    given = dict(parameters or {})
    _check_names(given, chosen, two_parts)
    generator = np.random.default_rng(seed)
    curves, _ = gather(_blank(step), value_range)
    at = curves.step[0]
    axis = step_axis(curves, step_prior).take(np.zeros(number, dtype=np.int64))
    values: dict[str, Array] = {}
    for parameter in chosen.parameters:
        # Always drawn, so that fixing one parameter leaves the others as they were.
        share = generator.uniform(size=number)
        if parameter.name in given:
            values[parameter.name] = _one_each(parameter.name, given[parameter.name], number)
        elif parameter.prior.free:
            z = parameter.prior.quantile(share)
            values[parameter.name] = parameter.prior.value(z, axis)
        else:
            values[parameter.name] = parameter.prior.value(share, axis)
    scale = float(curves.scale[0])
    linear = {
        "baseline": float(curves.centre[0]) + scale * BASELINE_SD * generator.normal(size=number),
        "amplitude": scale * AMPLITUDE_SD * generator.normal(size=number),
    }
    for name in linear:
        if name in given:
            linear[name] = _one_each(name, given[name], number)
    if not chosen.emerges:
        linear["amplitude"] = np.zeros(number)
    rho, spread = _noise(generator, number, noise, correlation, sd, scale, at.size)
    clean = signal(chosen, values | linear, at)
    fresh = generator.normal(size=(number, at.size))
    if two_parts:
        own, factor = _wandering(generator, number, excess, spread, rho, given.get("sd_factor"))
        wandering = autoregressive(generator.normal(size=fresh.shape), rho)
        error = factor[:, None] * spread * fresh + own[:, None] * wandering
        linear |= {"sd_factor": factor}
    else:
        error = spread * autoregressive(fresh, rho)
    derived = chosen.derived(*values.values()) if chosen.derived is not None else {}
    named = {**values, **derived, **linear, "noise_correlation": rho}
    dataset = xr.Dataset(
        {
            "score": (("curve", "step"), clean + error),
            "signal": (("curve", "step"), clean),
            **{name: ("curve", value) for name, value in named.items()},
            "noise_sd": _by_curve_or_step(own[:, None] if two_parts else spread),
        },
        coords={"curve": np.arange(number), "step": np.asarray(step)},
        attrs={"kind": "simulated curves", "family": family, "noise": noise},
    )
    if two_parts:
        wide = np.broadcast_to(spread, (number, at.size))
        dataset = dataset.assign_coords(sd=(("curve", "step"), wide))
    for parameter in chosen.parameters:
        dataset[parameter.name].attrs.update(
            long_name=parameter.meaning, units=parameter.units, fixed=int(parameter.name in given)
        )
    dataset["step"].attrs["units"] = "steps"
    return dataset


def signal(family: Family, parameters: Mapping[str, Array], step: Array) -> Array:
    """The curves without noise: a + b f at every step, shape (curve, step).

    Examples
    --------
    >>> values = {"onset": np.array([1.0]), "half_time": np.array([2.0]),
    ...     "baseline": np.array([0.1]), "amplitude": np.array([1.0])}
    >>> signal(get_family("sudden_exponential"), values, np.array([0.0, 3.0, 5.0])).round(3)
    array([[0.1 , 0.6 , 0.85]])
    """
    baseline = np.asarray(parameters["baseline"])[:, None]
    if family.shape is None:
        return np.broadcast_to(baseline, (baseline.size, step.size)).copy()
    columns = [np.asarray(parameters[p.name])[:, None] for p in family.parameters]
    # Far tails of the priors underflow to a rise that is over at once, as they should.
    with np.errstate(under="ignore", over="ignore"):
        fraction = family.shape(step[None], *columns)
    return baseline + np.asarray(parameters["amplitude"])[:, None] * fraction


def autoregressive(fresh: Array, correlation: ArrayLike) -> Array:
    """Stationary AR(1) noise of unit variance from independent normals, shape (curve, step).

    Examples
    --------
    >>> autoregressive(np.array([[1.0, 0.0, 0.0]]), 0.5)
    array([[1.  , 0.5 , 0.25]])
    """
    rho = np.broadcast_to(np.asarray(correlation, dtype=float), fresh.shape[:1])
    out = fresh.copy()
    for index in range(1, fresh.shape[1]):
        out[:, index] = rho * out[:, index - 1] + np.sqrt(1.0 - rho**2) * fresh[:, index]
    return out


def _noise(
    generator: np.random.Generator,
    number: int,
    noise: str,
    correlation: ArrayLike | None,
    sd: ArrayLike | None,
    scale: float,
    num_steps: int,
) -> tuple[Array, Array]:
    """Correlation (curve,) and sd, (curve, 1) or (curve, step)."""
    uniform, share = generator.uniform(size=(2, number))
    rho = np.zeros(number)
    if noise == "ar1":
        rho = uniform if correlation is None else _one_each("correlation", correlation, number)
        if not ((rho >= 0.0) & (rho < 1.0)).all():
            raise InputError(f"correlation: {correlation!r}; must be at least 0 and below 1")
    if sd is None:
        return rho, (NOISE_SCALE * scale * half_cauchy_at(share) / np.sqrt(1.0 - rho**2))[:, None]
    spread = np.asarray(sd, dtype=float)
    try:
        width = 1 if spread.ndim == 0 or spread.shape[-1] == 1 else num_steps
        spread = np.broadcast_to(spread, (number, width))
    except ValueError:
        raise InputError(
            f"sd: shape {spread.shape}; give a number, one for each of {num_steps} steps, or an "
            f"array of shape ({number}, 1), one for each curve"
        ) from None
    if not (np.isfinite(spread) & (spread > 0)).all():
        raise InputError(f"sd: {sd!r}; must be positive and finite")
    return rho, spread


def _wandering(
    generator: np.random.Generator,
    number: int,
    excess: ArrayLike | bool | None,
    spread: Array,
    rho: Array,
    given_factor: ArrayLike | None,
) -> tuple[Array, Array]:
    """The wandering's sd, s t, and the common factor s, (curve,) each."""
    share, angle = generator.uniform(size=(2, number))
    factor = half_cauchy_at(share) ** FACTOR_WIDTH
    if given_factor is not None:
        factor = _one_each("sd_factor", given_factor, number)
        if not (factor > 0).all():
            raise InputError(f"sd_factor: {given_factor!r}; must be positive")
    if excess is True:
        size = np.sqrt((spread**2).mean(axis=1))
        return factor * size * half_cauchy_at(angle) / np.sqrt(1.0 - rho**2), factor
    own = _one_each("excess", np.asarray(excess), number)
    if not (own >= 0).all():
        raise InputError(f"excess: {excess!r}; must be zero or positive")
    return own, factor


def _by_curve_or_step(spread: Array) -> tuple[str | tuple[str, ...], Array]:
    if spread.shape[1] == 1:
        return "curve", spread[:, 0]
    return ("curve", "step"), spread


def _blank(step: ArrayLike) -> xr.DataArray:
    """A curve of nothing, for its steps to be checked as a measured one's are."""
    at = np.asarray(step)
    if at.ndim != 1:
        raise InputError(f"step: shape {at.shape}; give one row of steps")
    return xr.DataArray(np.zeros(at.size), dims="step", coords={"step": at})


def _one_each(name: str, given: ArrayLike, number: int) -> Array:
    value = np.asarray(given, dtype=float)
    if value.shape not in ((), (1,), (number,)):
        raise InputError(f"{name}: shape {value.shape}; give a number or one for each of {number}")
    if not np.isfinite(value).all():
        raise InputError(f"{name}: {given!r} must be finite")
    return np.array(np.broadcast_to(value, (number,)))


def _check_names(given: Mapping[str, ArrayLike], family: Family, two_parts: bool) -> None:
    valid = [p.name for p in family.parameters] + ["baseline", "amplitude"]
    valid += ["sd_factor"] * two_parts
    for name in given:
        if name not in valid:
            raise InputError(
                f"parameters: {family.name} has no {name!r}{nearest(str(name), valid)}"
            )
