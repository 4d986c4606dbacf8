"""One curve as a PyMC model: its log density in unconstrained coordinates, compiled once and kept.

What lives here: the log density itself, written once for NumPy arrays and PyTensor variables alike;
the PyMC model made of it; the store of compiled models. What does not: running the sampler and what
is said of its draws (`fitting`), the evidence from them (`bridge`), the families (`families`).

Priors and likelihood are those of `likelihood`, in the same units, so both engines have one
posterior and one evidence, that of `excess` where standard deviations are measured
(`measured_noise`); but with proportional and Student-t noise these have one common factor only.
Baseline a and amplitude b are integrated in closed form and drawn afterwards: what is left has
three to seven dimensions, no funnel in the amplitude, and in the onset only kinks of the first
derivative, which a leapfrog step crosses with an error of the second order.
Coordinates, all on the whole real line:

    onset        a staircase of log odds along the axis, see `stairs`
    others       as the family's priors say
    log_noise    log(sigma sqrt(1 - rho^2) / scale) / width where no sd is known, else
                 log(sigma / scale) / width; hyperbolic secant
    rho_odds     log odds of rho                                     (ar1, ou, ou_log)
    log_excess   log(t sqrt(1 - rho^2) / its scale), hyperbolic secant     (measured sd)
    share_odds   log odds of q, sd_i = sigma (q + (1 - q) |f_i|)     (proportional)
    log_degrees  log((nu - 1) / 4), standard normal                  (student_t)
    baseline_step, amplitude_step                                    (student_t)
                 a and b in units of their spread under normal noise, about its best fit

With Student-t noise nothing linear can be integrated in closed form, hence the last line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from emergence_stats import measured_noise
from emergence_stats.errors import InputError, first_line
from emergence_stats.evidence import CurveArrays
from emergence_stats.families import Family
from emergence_stats.likelihood import (
    AMPLITUDE_SD,
    BASELINE_SD,
    FACTOR_WIDTH,
    NOISE_SCALE,
    RESOLUTION,
)
from emergence_stats.priors import StepAxis

Array = np.ndarray
# NumPy arrays or PyTensor variables.
Tensor = Any

NOISE_KINDS = ("independent", "ar1", "ou", "ou_log", "proportional", "student_t")
CORRELATED = ("ar1", "ou", "ou_log", "measured_ar1", "measured_ou", "measured_ou_log")
DEGREES_MEDIAN = 4.0
_LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class CurveData:
    """One curve in the model's units, and all its priors may know of it.

    Attributes
    ----------
    step : shape (point,)
    y : shape (point,)
        (value - centre) / scale.
    unit : shape (point,)
        1/w, relative precision of each point; 1 where no sd is known.
    gap : shape (point,)
        From the point before, in typical gaps; the first is not used.
    first, last, shortest_gap, offset : shape ()
        As in `priors.StepAxis`.
    noise_scale, noise_width : shape ()
        Prior of the noise sd.
    innovation : shape ()
        1 where that prior is about what is new from point to point, 0 where about sigma itself.
    centre, scale : shape ()
        Back to the curve's own units.
    stair_width, stair_reach, stair_rate, stair_home : shape (stair,)
        Of the onset's coordinate, see `stairs`.
    sharpness : shape ()
        Share of the half-time within which the likelihood tells onsets apart.
    """

    step: Tensor
    y: Tensor
    unit: Tensor
    gap: Tensor
    first: Tensor
    last: Tensor
    shortest_gap: Tensor
    offset: Tensor
    noise_scale: Tensor
    noise_width: Tensor
    innovation: Tensor
    centre: Tensor
    scale: Tensor
    stair_width: Tensor
    stair_reach: Tensor
    stair_rate: Tensor
    stair_home: Tensor
    sharpness: Tensor

    def axis(self, logarithmic: bool) -> StepAxis:
        """What priors may know."""
        return StepAxis(self.first, self.last, self.shortest_gap, self.offset, logarithmic)

    def until(self, num_points: int) -> CurveData:
        """The first points only, with priors that still know the whole curve's steps and range."""
        cut = {name: getattr(self, name)[:num_points] for name in ("step", "y", "unit", "gap")}
        return CurveData(**({f.name: getattr(self, f.name) for f in fields(self)} | cut))

    def named(self) -> dict[str, Array]:
        """By name, as arrays of floating-point numbers."""
        return {f.name: np.asarray(getattr(self, f.name), dtype=float) for f in fields(self)}


def curve_data(curves: CurveArrays, axis: StepAxis, noise: str, curve: int = 0) -> CurveData:
    """One curve of a batch as the model takes it."""
    n = int(curves.num_points[curve])
    step = curves.step[curve, :n]
    scale, centre = float(curves.scale[curve]), float(curves.centre[curve])
    known = curves.sd is not None
    if curves.sd is not None:
        log_sd = np.log(curves.sd[curve, :n] / scale)
        noise_scale = float(np.exp(log_sd.mean()))
        unit = noise_scale / np.exp(log_sd)
    else:
        noise_scale, unit = NOISE_SCALE, np.ones(n)
    return CurveData(
        step=step,
        y=(curves.values[curve, :n] - centre) / scale,
        unit=unit,
        gap=_gaps(step, float(axis.offset[curve]), noise),
        first=float(axis.first[curve]),
        last=float(axis.last[curve]),
        shortest_gap=float(axis.shortest_gap[curve]),
        offset=float(axis.offset[curve]),
        noise_scale=noise_scale,
        noise_width=FACTOR_WIDTH if known else 1.0,
        innovation=0.0 if known else 1.0,
        centre=centre,
        scale=scale,
        stair_width=np.ones(1),
        stair_reach=np.zeros(1),
        stair_rate=np.ones(1),
        stair_home=np.ones(1),
        sharpness=1.0,
    )


def _gaps(step: Array, offset: float, noise: str) -> Array:
    gap = np.ones(step.size)
    kind = measured_noise.base_kind(noise)
    if kind in ("ou", "ou_log"):
        gap[1:] = np.diff(step if kind == "ou" else np.log(step + offset))
        gap[1:] /= np.median(gap[1:])
    return gap


def coordinate_names(family: Family, noise: str) -> tuple[str, ...]:
    """What each coordinate of the density is called, in order.

    Examples
    --------
    >>> from emergence_stats.families import get_family
    >>> coordinate_names(get_family("power_law"), "ar1")
    ('onset', 'half_time', 'kappa', 'log_noise', 'rho_odds')
    """
    names = [*(p.name for p in family.free), "log_noise"]
    if measured_noise.has_excess(noise):
        names.append("log_excess")
    if noise in CORRELATED:
        names.append("rho_odds")
    elif noise == "proportional":
        names.append("share_odds")
    elif noise == "student_t":
        names += ["log_degrees", "baseline_step"] + ["amplitude_step"] * family.emerges
    return tuple(names)


def _total(x: Tensor) -> Tensor:
    """Sum over points: shape (draw, 1) of arrays, () of PyTensor variables."""
    return x.sum(axis=-1, keepdims=isinstance(x, np.ndarray))


def _first(x: Tensor) -> Tensor:
    return x[..., :1] if isinstance(x, np.ndarray) else x[0]


def _log_sigmoid(x: Tensor) -> Tensor:
    return 0.5 * (x - abs(x)) - np.log1p(np.exp(-abs(x)))


def _sigmoid(x: Tensor) -> Tensor:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _log_gamma(x: Tensor) -> Tensor:
    if isinstance(x, np.ndarray):
        from scipy.special import gammaln

        return gammaln(x)
    import pytensor.tensor as pt

    return pt.gammaln(x)


@dataclass(frozen=True)
class Pieces:
    """What the density is made of at given coordinates, for draws of a and b and replicas.

    With arrays, coordinates have the shape (draw, 1) and points follow along the last axis.
    """

    parameters: list[Tensor]
    shape: Tensor
    weight: Tensor
    log_sigma: Tensor
    decay: Tensor
    innovation: Tensor
    log_determinant: Tensor
    log_rho: Tensor
    noise_share: Tensor
    degrees: Tensor
    excess: Tensor
    root: Tensor
    log_prior: Tensor


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
        centre = stairs(data, _extent(family, parameters, data))
        position, log_slope = onset_position(remaining["onset"], centre, data)
        log_prior = log_prior + log_slope
        parameters.insert(0, _onset(position, data, logarithmic))
    shape = family.shape(data.step, *parameters) if family.shape is not None else 0.0 * data.step
    s = remaining["log_noise"]
    log_prior = log_prior - abs(s) - np.log1p(np.exp(-2.0 * abs(s))) + np.log(2.0 / np.pi)
    log_sigma = np.log(data.noise_scale) + data.noise_width * s
    weight = data.unit
    decay: Tensor = 0.0
    innovation: Tensor = 1.0
    log_determinant: Tensor = 0.0
    log_rho: Tensor = -np.inf
    noise_share: Tensor = 1.0
    degrees: Tensor = np.inf
    excess: Tensor = 0.0
    root: Tensor = None
    log_left: Tensor = 0.0
    if noise in CORRELATED:
        odds = remaining["rho_odds"]
        log_rho = _log_sigmoid(odds)
        # log(1 - rho^2), without cancellation where rho is near 1.
        log_left = _log_sigmoid(-odds) + np.log1p(np.exp(log_rho))
        # Density (2 / pi) (1 - rho^2)^(-1/2), times d rho / d odds = rho (1 - rho).
        log_prior = log_prior + np.log(2.0 / np.pi) - 0.5 * log_left + log_rho + _log_sigmoid(-odds)
        log_sigma = log_sigma - 0.5 * data.innovation * log_left
        if not measured_noise.has_excess(noise):
            decay = np.exp(log_rho * data.gap[1:])
            innovation = -np.expm1(2.0 * log_rho * data.gap[1:])
            log_determinant = _total(np.log(innovation))
    if measured_noise.has_excess(noise):
        x = remaining["log_excess"]
        log_prior = log_prior - abs(x) - np.log1p(np.exp(-2.0 * abs(x))) + np.log(2.0 / np.pi)
        excess = measured_noise.excess_scale(data.unit) * np.exp(x - 0.5 * log_left)
        if noise in CORRELATED:
            root = measured_noise.root_of(data.unit, data.gap, log_rho, excess)
            log_determinant = measured_noise.log_determinant(root)
            weight = 0.0 * data.unit + 1.0
        else:
            weight = (data.unit**-2.0 + excess * excess) ** -0.5
            log_determinant = -2.0 * _total(np.log(weight))
    elif noise == "proportional":
        odds = remaining["share_odds"]
        log_prior = log_prior + _log_sigmoid(odds) + _log_sigmoid(-odds)
        noise_share = _sigmoid(odds)
        level = noise_share + (1.0 - noise_share) * abs(shape)
        weight = weight / level
        log_determinant = 2.0 * _total(np.log(level))
    elif noise == "student_t":
        z = remaining["log_degrees"]
        log_prior = log_prior - 0.5 * z * z - 0.5 * _LOG_2PI
        degrees = 1.0 + DEGREES_MEDIAN * np.exp(z)
    return Pieces(
        parameters,
        shape,
        weight,
        log_sigma,
        decay,
        innovation,
        log_determinant,
        log_rho,
        noise_share,
        degrees,
        excess,
        root,
        log_prior,
    )


def _extent(family: Family, others: list[Tensor], data: CurveData) -> Tensor:
    """How many steps the shape takes to change: its first parameter in steps after the onset."""
    for parameter, value in zip(family.parameters[1:], others, strict=True):
        if parameter.units == "steps" and parameter.prior.free:
            return value
    return data.shortest_gap


def stairs(data: CurveData, extent: Tensor) -> Tensor:
    """Where on the onset's coordinate each stair stands, shape (..., stair).

    The onset's position on its axis is sum_g w_g S(x - c_g), S the logistic function and w_g the
    widths of the intervals between chosen checkpoints. Where T, in which the shape changes, is
    short beside these, the likelihood has a cliff at each checkpoint and, with one point within
    the rise, a ridge along which T shrinks with the distance to it. Stairs placed

        c_(g+1) - c_g = 2 log(1 + w / (s T))

    apart magnify a checkpoint's neighbourhood so that x is the logarithm of the distance to it:
    cliffs turn gentle and ridges straight. Where T is long the stairs merge into an even slope.
    It is a smooth bijection whatever the widths, so they are chosen as serves the sampler best.
    """
    apart = 2.0 * np.log1p(data.stair_reach / (data.sharpness * extent * data.stair_rate))
    centre = apart.cumsum(axis=-1)
    # The stair called home stays put as T changes.
    return centre - (centre * data.stair_home).sum(axis=-1, keepdims=True)


def onset_centres(family: Family, noise: str, data: CurveData, coordinates: list[Tensor]) -> Tensor:
    """Where the stairs stand, given all coordinates."""
    named = dict(zip(coordinate_names(family, noise), coordinates, strict=True))
    axis = data.axis(False)
    others = [p.prior.value(named.get(p.name), axis) for p in family.parameters[1:]]
    return stairs(data, _extent(family, others, data))


def onset_position(x: Tensor, centre: Tensor, data: CurveData) -> tuple[Tensor, Tensor]:
    """Position on the axis at coordinate x, and the log of its derivative."""
    away = x - centre
    slope = np.exp(-abs(away)) / (1.0 + np.exp(-abs(away))) ** 2
    position = _total(data.stair_width * _sigmoid(away))
    return position, np.log(_total(data.stair_width * slope))


def _onset(position: Tensor, data: CurveData, logarithmic: bool) -> Tensor:
    if not logarithmic:
        return data.first + position * (data.last - data.first)
    low, high = np.log(data.first + data.offset), np.log(data.last + data.offset)
    return np.exp(low + position * (high - low)) - data.offset


@dataclass(frozen=True)
class Linear:
    """Normal posterior of (a, b) given everything else, by two steps of elimination.

    b is normal with mean `amplitude` and sd sigma / sqrt(amplitude_precision); given b, a is normal
    with mean `baseline` - `slope` b and sd sigma / sqrt(baseline_precision).
    """

    baseline: Tensor
    baseline_precision: Tensor
    slope: Tensor
    amplitude: Tensor
    amplitude_precision: Tensor
    left: Tensor


def eliminate(family: Family, data: CurveData, at: Pieces) -> Linear:
    """Whitened least squares with the priors of a and b as two more observations."""

    def product(x: Tensor, z: Tensor) -> Tensor:
        if isinstance(at.decay, float):
            return _total(x * z)
        new_x = x[..., 1:] - at.decay * x[..., :-1]
        new_z = new_x if z is x else z[..., 1:] - at.decay * z[..., :-1]
        return _first(x * z) + _total(new_x * new_z / at.innovation)

    def white(x: Tensor) -> Tensor:
        x = x * at.weight
        return x if at.root is None else measured_noise.whitened(at.root, x)

    variance = np.exp(2.0 * at.log_sigma)
    one, y = white(0.0 * data.y + 1.0), white(data.y)
    g11 = product(one, one) + variance / BASELINE_SD**2
    h1 = product(one, y)
    left = product(y, y) - h1 * h1 / g11 + RESOLUTION**2 * _total(one * one)
    if not family.emerges:
        return Linear(h1 / g11, g11, 0.0, 0.0, np.inf, left)
    f = white(at.shape)
    g12 = product(one, f)
    slope = g12 / g11
    precision = product(f, f) + variance / AMPLITUDE_SD**2 - slope * g12
    h2 = product(f, y) - slope * h1
    return Linear(h1 / g11, g11, slope, h2 / precision, precision, left - h2 * h2 / precision)


def linear_values(family: Family, at: Pieces, linear: Linear, a: Tensor, b: Tensor) -> Any:
    """Baseline and amplitude from standard normal numbers a and b, in the model's units."""
    sigma = np.exp(at.log_sigma)
    amplitude = 0.0 * sigma
    if family.emerges:
        amplitude = linear.amplitude + sigma * b / np.sqrt(linear.amplitude_precision)
    baseline = linear.baseline - linear.slope * amplitude
    return baseline + sigma * a / np.sqrt(linear.baseline_precision), amplitude


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
    linear = eliminate(family, data, at)
    num_points = (0.0 * data.y + 1.0).sum()
    total = at.log_prior - num_points * np.log(data.scale) - 0.5 * at.log_determinant
    log_spread = -0.5 * np.log(linear.baseline_precision)
    num_linear = 1
    if family.emerges:
        log_spread = log_spread - 0.5 * np.log(linear.amplitude_precision)
        num_linear = 2
    if noise != "student_t":
        log_prior_sd = np.log(BASELINE_SD) + (np.log(AMPLITUDE_SD) if family.emerges else 0.0)
        return (
            total
            - 0.5 * num_points * _LOG_2PI
            - (num_points - num_linear) * at.log_sigma
            + log_spread
            - log_prior_sd
            - 0.5 * linear.left * np.exp(-2.0 * at.log_sigma)
        )
    steps = coordinates[-num_linear:]
    a, b = linear_values(family, at, linear, steps[0], steps[-1])
    residual = (data.y - a - b * at.shape) * at.weight * np.exp(-at.log_sigma)
    nu = at.degrees
    log_norm = (
        _log_gamma(0.5 * nu + 0.5) - _log_gamma(0.5 * nu) - 0.5 * np.log(np.pi * nu) - at.log_sigma
    )
    tails = _total(np.log1p(residual * residual / nu))
    total = total + num_points * log_norm - 0.5 * (nu + 1.0) * tails
    total = total - 0.5 * num_points * RESOLUTION**2 * np.exp(-2.0 * at.log_sigma)
    total = total - 0.5 * (a / BASELINE_SD) ** 2 - np.log(BASELINE_SD) - 0.5 * _LOG_2PI
    if family.emerges:
        total = total - 0.5 * (b / AMPLITUDE_SD) ** 2 - np.log(AMPLITUDE_SD) - 0.5 * _LOG_2PI
    # From the density of (a, b) to that of their steps.
    return total + num_linear * at.log_sigma + log_spread


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
        held = CurveData(**{name: pm.Data(name, value) for name, value in data.named().items()})
        x = pm.Flat("coordinates", shape=len(names), dims="coordinate")
        try:
            density = log_density(
                family, noise, held, logarithmic, [x[k] for k in range(len(names))]
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
