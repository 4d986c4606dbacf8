"""From a sampler's chains to everything that is kept of a fit, in the curve's own units.

What lives here: named parameters, replicas, point-wise log likelihoods, the evidence, and what
there is to distrust, as one DataTree. What does not: the density (`models`), sampling (`sampling`),
bridge sampling (`bridge`), the result that users see (`fitting`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import xarray as xr

from emergence_stats.curves.families import Family
from emergence_stats.nuts import covariance as measured_noise
from emergence_stats.nuts import models, sampling
from emergence_stats.nuts.data import CurveData
from emergence_stats.nuts.linear import eliminate

Array = np.ndarray

# Replicas and point-wise log likelihoods are kept for so many draws that they fit in memory.
MAX_KEPT = 20_000_000
MIN_EFFECTIVE = 400.0
MAX_RHAT = 1.01


@dataclass(frozen=True)
class DrawnCurves:
    """What each draw says of the curve and of its noise, point by point, in the curve's own units.

    Attributes
    ----------
    level, scale : ndarray, shape (draw, point)
        The curve without its noise, and that noise's sd or, with heavy tails, its scale.
    decay, innovation_sd : ndarray, shape (draw, point)
        How much of the noise is left from the point before, and the sd of what is new, relative to
        its sd. The latter apart, for where the former rounds to 1 it is still positive.
    degrees : ndarray, shape (draw, 1), or None
        Degrees of freedom, of noise with heavy tails.
    root : ndarray, shape (draw, point, point), or None
        Cholesky factor of the noise's covariance over scale^2, where it has two parts of which one
        wanders; decay and innovation_sd are then not used.
    """

    level: Array
    scale: Array
    decay: Array
    innovation_sd: Array
    degrees: Array | None
    root: Array | None = None

    def take(self, rows: slice | Array) -> DrawnCurves:
        """The same for some of the draws."""
        return DrawnCurves(
            self.level[rows],
            self.scale[rows],
            self.decay[rows],
            self.innovation_sd[rows],
            None if self.degrees is None else self.degrees[rows],
            None if self.root is None else self.root[rows],
        )


def build_tree(
    family: Family,
    noise: str,
    data: CurveData,
    logarithmic: bool,
    chains: sampling.Chains,
    generator: np.random.Generator,
    averaged: str,
) -> xr.DataTree:
    """Everything that is kept of these chains; see `fitting.Fit`."""
    from emergence_stats.nuts.bridge import bridge_sample

    bridge = bridge_sample(
        chains.coordinates, sampling.density_of(family, noise, data, logarithmic), seed=0
    )
    num_chains, num_draws, _ = chains.coordinates.shape
    step = np.asarray(data.step)
    stride = max(1, -(-num_chains * num_draws * step.size // MAX_KEPT))
    variables, replicated, pointwise = [], [], []
    for chain in chains.coordinates:
        found, drawn = parameters(family, noise, data, logarithmic, chain, generator)
        variables.append(found)
        kept = drawn.take(slice(None, None, stride))
        pointwise.append(log_likelihoods(data, kept))
        replicated.append(replicas(kept, generator)[0])
    coords = {"chain": np.arange(num_chains), "draw": np.arange(num_draws)}
    thin = {**coords, "draw": coords["draw"][::stride], "step": step}
    draws = ("chain", "draw")
    posterior = xr.Dataset(
        {name: (draws, np.stack([v[name] for v in variables])) for name in variables[0]},
        coords=coords,
    )
    stats = xr.Dataset(
        {
            "diverging": (draws, chains.diverging),
            "n_steps": (draws, chains.num_steps),
            "step_size": (draws, chains.step_size),
            "lp": (draws, chains.log_density),
        },
        coords=coords,
    )
    values = np.asarray(data.y) * data.scale + data.centre
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": stats,
            "posterior_predictive": xr.Dataset(
                {"score": ((*draws, "step"), np.stack(replicated))}, coords=thin
            ),
            "log_likelihood": xr.Dataset(
                {"score": ((*draws, "step"), np.stack(pointwise))}, coords=thin
            ),
            "observed_data": xr.Dataset({"score": ("step", values)}, coords={"step": step}),
            "evidence": xr.Dataset(
                {
                    "log_evidence": bridge.log_evidence,
                    "log_evidence_error": bridge.error,
                    "half_difference": bridge.half_difference,
                }
            ),
        }
    )
    tree.attrs.update(
        family=family.name,
        noise=measured_noise.base_kind(noise),
        step_prior="log" if logarithmic else "linear",
        sampler=chains.sampler,
        target_accept=chains.target_accept,
        averaged_over=averaged,
        problems=json.dumps(problems(posterior, int(chains.diverging.sum()), bridge.error)),
    )
    return tree


def parameters(
    family: Family,
    noise: str,
    data: CurveData,
    logarithmic: bool,
    chain: Array,
    generator: np.random.Generator,
    seen: CurveData | None = None,
) -> tuple[dict[str, Array], DrawnCurves]:
    """Named draws of one chain, and what each of them says of every point.

    Baseline and amplitude are given the points of `seen` alone where that is given.
    """
    num_draws, points = len(chain), np.asarray(data.step).size
    level, scale = np.empty((2, num_draws, points))
    decay, innovation_sd = np.zeros((num_draws, points)), np.ones((num_draws, points))
    parts: list[dict[str, Array]] = []
    dense = measured_noise.is_correlated(noise) and measured_noise.is_measured(noise)
    root = np.empty((num_draws, points, points)) if dense else None
    chunk = max(1, sampling.CHUNK // (points * points if dense else points))
    for low in range(0, num_draws, chunk):
        rows = slice(low, low + chunk)
        columns = list(chain[rows].T[:, :, None])
        at = models.pieces(family, noise, data, logarithmic, columns)
        known = data if seen is None else seen
        given = at if seen is None else models.pieces(family, noise, seen, logarithmic, columns)
        linear = eliminate(known.y, given.shape if family.emerges else None, given.noise)
        number = len(columns[0])
        if noise == "student_t":
            a_step, b_step = columns[-2 if family.emerges else -1], columns[-1]
        else:
            a_step, b_step = generator.normal(size=(2, number, 1))
        a, b = linear.values(at.noise.log_sigma, a_step, b_step)
        sigma = np.exp(at.noise.log_sigma)
        named = {
            parameter.name: np.broadcast_to(value, (number, 1))
            for parameter, value in zip(family.parameters, at.parameters, strict=True)
        }
        if family.derived is not None:
            named |= family.derived(*at.parameters)
        if "kappa" in named:
            named |= {"order": named["kappa"] + 2.0, "exponent": 1.0 / named["kappa"]}
        named["baseline"] = a * data.scale + data.centre
        if family.emerges:
            named["amplitude"] = b * data.scale
            named["plateau"] = named["baseline"] + named["amplitude"]
        named["noise_sd"] = sigma * data.scale
        if measured_noise.is_measured(noise):
            named["noise_sd"] = sigma * at.wander * data.scale
            named["sd_factor"] = sigma / data.noise_scale
        if measured_noise.is_correlated(noise):
            named["noise_correlation"] = np.exp(at.log_rho)
        elif noise == "proportional":
            named["noise_share"] = at.noise_share
        elif noise == "student_t":
            named["degrees_of_freedom"] = at.degrees
        parts.append({name: np.array(value[:, 0]) for name, value in named.items()})
        level[rows] = (a + b * at.shape) * data.scale + data.centre
        scale[rows] = sigma / at.noise.weight * data.scale
        if root is not None:
            root[rows] = at.noise.root
        elif measured_noise.is_correlated(noise):
            decay[rows, 1:] = at.noise.decay
            innovation_sd[rows, 1:] = np.sqrt(at.noise.innovation)
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    degrees = found["degrees_of_freedom"][:, None] if noise == "student_t" else None
    return found, DrawnCurves(level, scale, decay, innovation_sd, degrees, root)


def innovations(data: CurveData, drawn: DrawnCurves) -> Array:
    """What is new at each point beyond those before it, of unit scale under the model."""
    values = np.asarray(data.y) * data.scale + data.centre
    residual = (values - drawn.level) / drawn.scale
    if drawn.root is not None:
        return measured_noise.whiten(drawn.root, residual)
    fresh = residual.copy()
    fresh[:, 1:] = residual[:, 1:] - drawn.decay[:, 1:] * residual[:, :-1]
    return fresh / drawn.innovation_sd


def log_likelihoods(data: CurveData, drawn: DrawnCurves) -> Array:
    """Log likelihood of each point given those before it, one draw a row."""
    fresh = innovations(data, drawn)
    if drawn.degrees is None:
        log_p = -0.5 * fresh**2 - 0.5 * np.log(2.0 * np.pi)
    else:
        from scipy.stats import t

        log_p = t.logpdf(fresh, drawn.degrees)
    spread = drawn.innovation_sd
    if drawn.root is not None:
        spread = np.diagonal(drawn.root, axis1=1, axis2=2)
    return log_p - np.log(drawn.scale * spread)


def replicas(drawn: DrawnCurves, generator: np.random.Generator) -> tuple[Array, Array]:
    """A curve from each draw's model, and the innovations that it was made of."""
    if drawn.degrees is None:
        fresh = generator.normal(size=drawn.level.shape)
    else:
        fresh = generator.standard_t(np.broadcast_to(drawn.degrees, drawn.level.shape))
    if drawn.root is not None:
        return drawn.level + drawn.scale * np.einsum("dij,dj->di", drawn.root, fresh), fresh
    noise = fresh.copy()
    for i in range(1, noise.shape[1]):
        noise[:, i] = drawn.decay[:, i] * noise[:, i - 1] + drawn.innovation_sd[:, i] * fresh[:, i]
    return drawn.level + drawn.scale * noise, fresh


def problems(posterior: xr.Dataset, diverging: int, evidence_error: float) -> list[str]:
    """Why not to believe these draws, in words; empty where nothing was noticed."""
    import arviz as az

    words = []
    if diverging:
        words.append(f"{diverging} divergent transitions: raise target_accept")
    # Of unit size, for the squares of curves in the largest units would overflow.
    scaled = posterior / abs(posterior).max().where(abs(posterior).max() > 0, 1.0)
    varying = scaled[[name for name in scaled.data_vars if float(scaled[name].std()) > 0]]
    rhat = max(float(value) for value in az.rhat(varying).data_vars.values())
    if rhat > MAX_RHAT:
        words.append(f"chains disagree (R-hat {rhat:.3f}): draw and tune longer")
    effective = min(float(value) for value in az.ess(varying).data_vars.values())
    if effective < MIN_EFFECTIVE:
        words.append(f"only {effective:.0f} effective draws: draw longer")
    if not evidence_error <= 0.1:
        words.append(f"log evidence uncertain by {evidence_error:.2f}: draw longer")
    return words
