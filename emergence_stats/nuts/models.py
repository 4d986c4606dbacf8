"""One curve as a PyMC model: its log density in unconstrained coordinates, compiled once and kept.

What lives here: the log density itself, written once for NumPy arrays and PyTensor variables alike,
and the PyMC model made of it. What does not: its data (`data`) and the stairs under the onset
(`onset_coordinate`); compiling it and running the sampler (`sampling`), what is said of the draws
(`draws`), the evidence from them (`bridge`), the families (`families`).

Priors of the noise are those of `noise.beliefs`, in the same units, so both engines have one
posterior and one evidence, also where standard deviations are measured (`covariance`); but with
proportional and Student-t noise these have one common factor only. Baseline a and amplitude b are
integrated in closed form and drawn afterwards: what is left has three to seven dimensions, no
funnel in the amplitude, and in the onset only kinks of the first derivative, which a leapfrog step
crosses with an error of the second order.
Coordinates, all on the whole real line:

    onset        a staircase of log odds along the axis, see `onset_stairs.stairs`
    others       as the family's priors say
    log_noise    log(sigma sqrt(1 - rho^2) / scale) / width where no sd is known, else
                 log(sigma / scale) / width; hyperbolic secant
    rho_odds     log odds of rho                                     (ar1, ou, ou_log)
    log_wander   log(t sqrt(1 - rho^2) / its scale), hyperbolic secant     (measured sd)
    share_odds   log odds of q, sd_i = sigma (q + (1 - q) |f_i|)     (proportional)
    log_degrees  log((nu - 1) / 4), standard normal                  (student_t)
    baseline_step, amplitude_step                                    (student_t)
                 a and b in units of their spread under normal noise, about its best fit

With Student-t noise nothing linear can be integrated in closed form, hence the last line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emergence_stats.curves.families import Family
from emergence_stats.errors import InputError, first_line
from emergence_stats.noise.beliefs import (
    DEGREES_MEDIAN,
    RESOLUTION,
    log_correlation,
    log_prior_odds,
    log_sech,
    log_sigmoid,
)
from emergence_stats.nuts import covariance
from emergence_stats.nuts.data import CurveData
from emergence_stats.nuts.linear import LOG_2PI, Noise, eliminate, log_likelihood
from emergence_stats.nuts.linear import log_prior as log_prior_of_linear
from emergence_stats.nuts.onset_coordinate import extent_of, onset_at, onset_position, stairs
from emergence_stats.nuts.universal import log_gamma, sigmoid, total_over_points

Array = np.ndarray
# NumPy arrays or PyTensor variables.
Tensor = Any


def coordinate_names(family: Family, noise: str) -> tuple[str, ...]:
    """What each coordinate of the density is called, in order.

    Examples
    --------
    >>> from emergence_stats.curves.families import get_family
    >>> coordinate_names(get_family("power_law"), "ar1")
    ('onset', 'half_time', 'kappa', 'takeoff', 'log_noise', 'rho_odds')
    """
    names = [*(p.name for p in family.free), "log_noise"]
    if covariance.is_measured(noise):
        names.append("log_wander")
    if covariance.is_correlated(noise):
        names.append("rho_odds")
    elif noise == "proportional":
        names.append("share_odds")
    elif noise == "student_t":
        names += ["log_degrees", "baseline_step"] + ["amplitude_step"] * family.emerges
    return tuple(names)


@dataclass(frozen=True)
class Pieces:
    """What the density is made of at given coordinates, for draws of a and b and replicas.

    With arrays, coordinates have the shape (draw, 1) and points follow along the last axis.
    """

    parameters: list[Tensor]
    shape: Tensor
    noise: Noise
    log_prior: Tensor
    log_rho: Tensor = -np.inf
    wander: Tensor = 0.0
    noise_share: Tensor = 1.0
    degrees: Tensor = np.inf


def pieces(
    family: Family, noise: str, data: CurveData, logarithmic: bool, coordinates: list[Tensor]
) -> Pieces:
    """Parameters, noise structure and log prior at given coordinates."""
    remaining = dict(zip(coordinate_names(family, noise), coordinates, strict=True))
    axis = data.axis(logarithmic)
    log_prior: Tensor = 0.0
    parameters: list[Tensor] = []
    for parameter in family.parameters[1:]:
        if parameter.prior.free:
            x = remaining[parameter.name]
            log_prior = log_prior + parameter.prior.log_density(x)
            parameters.append(parameter.prior.value(x, axis))
        else:
            parameters.append(parameter.prior.value(None, axis))
    if family.emerges:
        centre = stairs(data, extent_of(family, parameters, data))
        position, log_slope = onset_position(remaining["onset"], centre, data)
        log_prior = log_prior + log_slope
        parameters.insert(0, onset_at(position, data, logarithmic))
    shape = family.shape(data.step, *parameters) if family.shape is not None else 0.0 * data.step
    s = remaining["log_noise"]
    log_prior = log_prior + log_sech(s)
    log_sigma = np.log(data.noise_scale) + data.noise_width * s
    more: dict[str, Tensor] = {}
    log_rho: Tensor = -np.inf
    log_left: Tensor = 0.0
    if covariance.is_correlated(noise):
        odds = remaining["rho_odds"]
        log_rho, log_left = log_correlation(odds)
        log_prior = log_prior + log_prior_odds(odds)
        log_sigma = log_sigma - 0.5 * data.innovation * log_left
        more["log_rho"] = log_rho
    if covariance.is_measured(noise):
        x = remaining["log_wander"]
        log_prior = log_prior + log_sech(x)
        more["wander"] = covariance.wander_scale(data.unit) * np.exp(x - 0.5 * log_left)
        if covariance.is_correlated(noise):
            root = covariance.root_of(data.unit, data.gap, log_rho, more["wander"])
            log_determinant = covariance.log_determinant(root)
            one = 0.0 * data.unit + 1.0
            structure = Noise(log_sigma, one, log_determinant=log_determinant, root=root)
        else:
            weight = (data.unit**-2.0 + more["wander"] ** 2.0) ** -0.5
            log_determinant = -2.0 * total_over_points(np.log(weight))
            structure = Noise(log_sigma, weight, log_determinant=log_determinant)
    elif covariance.is_correlated(noise):
        innovation = -np.expm1(2.0 * log_rho * data.gap[1:])
        structure = Noise(
            log_sigma,
            data.unit,
            np.exp(log_rho * data.gap[1:]),
            innovation,
            total_over_points(np.log(innovation)),
        )
    elif noise == "proportional":
        odds = remaining["share_odds"]
        log_prior = log_prior + log_sigmoid(odds) + log_sigmoid(-odds)
        more["noise_share"] = sigmoid(odds)
        level = more["noise_share"] + (1.0 - more["noise_share"]) * abs(shape)
        log_determinant = 2.0 * total_over_points(np.log(level))
        structure = Noise(log_sigma, data.unit / level, log_determinant=log_determinant)
    else:
        structure = Noise(log_sigma, data.unit)
    if noise == "student_t":
        z = remaining["log_degrees"]
        log_prior = log_prior - 0.5 * z * z - 0.5 * LOG_2PI
        more["degrees"] = 1.0 + DEGREES_MEDIAN * np.exp(z)
    return Pieces(parameters, shape, structure, log_prior, **more)


def onset_centres(family: Family, noise: str, data: CurveData, coordinates: list[Tensor]) -> Tensor:
    """Where the stairs stand, given all coordinates."""
    named = dict(zip(coordinate_names(family, noise), coordinates, strict=True))
    axis = data.axis(False)
    others = [p.prior.value(named.get(p.name), axis) for p in family.parameters[1:]]
    return stairs(data, extent_of(family, others, data))


def log_density(
    family: Family, noise: str, data: CurveData, logarithmic: bool, coordinates: list[Tensor]
) -> Tensor:
    """Log prior density of the coordinates plus log likelihood, per unit of the curve's values.

    Its integral over all coordinates is the evidence.

    Parameters
    ----------
    coordinates : list of arrays, shape (draw, 1), or of PyTensor scalars
        In the order of `coordinate_names`.

    Returns
    -------
    array of shape (draw, 1), or PyTensor scalar
    """
    at = pieces(family, noise, data, logarithmic, coordinates)
    shape = at.shape if family.emerges else None
    linear = eliminate(data.y, shape, at.noise)
    num_points = (0.0 * data.y + 1.0).sum()
    total = at.log_prior - num_points * np.log(data.scale)
    if noise != "student_t":
        return total + log_likelihood(linear, at.noise, num_points)
    log_sigma = at.noise.log_sigma
    num_linear = 2 if family.emerges else 1
    steps = coordinates[-num_linear:]
    a, b = linear.values(log_sigma, steps[0], steps[-1])
    residual = (data.y - a - b * at.shape) * at.noise.weight * np.exp(-log_sigma)
    nu = at.degrees
    log_norm = log_gamma(0.5 * nu + 0.5) - log_gamma(0.5 * nu) - 0.5 * np.log(np.pi * nu)
    tails = total_over_points(np.log1p(residual * residual / nu))
    total = total + num_points * (log_norm - log_sigma) - 0.5 * (nu + 1.0) * tails
    total = total - 0.5 * num_points * RESOLUTION**2 * np.exp(-2.0 * log_sigma)
    total = total + log_prior_of_linear(a, b if family.emerges else None)
    # From the density of (a, b) to that of their steps.
    return total + num_linear * log_sigma + linear.log_spread


def curve_model(family: Family, noise: str, data: CurveData, logarithmic: bool) -> Any:
    """A `pymc.Model` whose one variable, `coordinates`, has `log_density` for its density.

    Data are `pymc.Data`, so one model serves curves of any length.

    Raises
    ------
    InputError
        If the family's shape or a prior cannot take PyTensor variables.
    """
    import pymc as pm

    names = coordinate_names(family, noise)
    with pm.Model(coords={"coordinate": names}) as model:
        shared = CurveData(**{name: pm.Data(name, value) for name, value in data.named().items()})
        x = pm.Flat("coordinates", shape=len(names), dims="coordinate")
        try:
            density = log_density(
                family, noise, shared, logarithmic, [x[k] for k in range(len(names))]
            )
            pm.Potential("log_density", density)
        except Exception as error:
            raise InputError(
                f"family {family.name!r}: its shape or a prior cannot be differentiated "
                f"({first_line(error)}); write it with NumPy's universal functions (np.exp, "
                "np.log1p, np.tanh, ...), operators and abs alone, without np.where, np.maximum "
                "or np.clip"
            ) from error
    return model
