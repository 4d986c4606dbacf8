"""The hierarchical model with orders that vary, as a PyMC model sampled by NUTS.

What lives here: the full joint model of all members and their population, its parametrisation and
its sampling. What does not: evidences and the other hypotheses (`importance`), labels
(`hierarchical`). Priors are those of `population` and `noise.beliefs`; PyMC is
imported when first sampled with.

Baseline and amplitude are integrated out in closed form, member by member; noise scale,
correlation and, where rises are gradual, take-off are sampled. A member's coordinate is neither
centred nor non-centred but

    x_i = (u_i m_i + m / s^2) / (u_i + 1 / s^2) + (u_i + 1 / s^2)^(-1/2) * e_i,   u_i = 1 / sd_i^2

with m_i and sd_i from the member's own posterior: non-centred where the member says little beside
its population or the population is narrow, centred where it says much. The density is that of
x_i ~ Normal(m, s) whatever m_i and sd_i are, so they change how well the chains mix and nothing
else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from emergence_stats.curves import shapes
from emergence_stats.curves.families import HALF_TIME, LAWS, TAKEOFF
from emergence_stats.curves.priors import StepAxis
from emergence_stats.noise.beliefs import FACTOR_WIDTH, NOISE_SCALE, log_sech
from emergence_stats.nuts.linear import Noise, eliminate, log_likelihood
from emergence_stats.population.importance import PopulationPosterior
from emergence_stats.population.population import (
    HALF_TIME_SPREAD,
    MU_MEAN,
    MU_SD,
    ONSET_SPREAD,
    ORDER_SPREAD,
)
from emergence_stats.quadrature.evidence import Batch

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray
# PyTensor variables.
Tensor = Any

COORDINATES = ("onset", "half_time", "kappa")


@dataclass(frozen=True)
class JointDraws:
    """Draws of the joint model, laid out as in `PopulationPosterior`, chains one after another.

    Attributes
    ----------
    tree : xarray.DataTree
        What PyMC returned: posterior and sampling statistics.
    population : ndarray, shape (draw, 6)
    member : ndarray, shape (draw, member, 3)
    effective_size : ndarray, shape (6,)
        Effective number of draws behind the mean of each population parameter.
    largest_rhat : float
    num_divergent : int
    """

    tree: xr.DataTree
    population: Array
    member: Array
    effective_size: Array
    largest_rhat: float
    num_divergent: int


def joint_model(
    batch: Batch, own_mean: Array, own_sd: Array, laws: tuple[str, str] = LAWS[0]
) -> Any:
    """The PyMC model of all members of a batch, with orders that vary between them.

    Parameters
    ----------
    batch : Batch
        Every member on one step axis.
    own_mean, own_sd : ndarray, shape (member, 3)
        Of each member's own x, h and log kappa; see the module.
    laws : (str, str)
        A pair of `families.LAWS`.

    Returns
    -------
    pymc.Model
    """
    import pymc as pm
    import pytensor.tensor as pt

    num = batch.curves.num_points.size
    with pm.Model(coords={"member": np.arange(num), "coordinate": list(COORDINATES)}) as model:
        centre = [
            pm.Logistic("onset_centre", 0.0, 1.0),
            pm.Normal("half_time_centre", 0.0, 1.0),
            pm.Normal("kappa_centre", MU_MEAN, MU_SD),
        ]
        scale = [ONSET_SPREAD, HALF_TIME_SPREAD, ORDER_SPREAD]
        spread = pm.HalfNormal("spread", np.array(scale), dims="coordinate")
        away = pm.Flat("away", dims=("member", "coordinate"))
        own, shared, middle = 1.0 / own_sd**2, 1.0 / spread**2, pt.stack(centre)
        width = (own + shared) ** -0.5
        value = (own * own_mean + shared * middle) * width**2 + width * away
        pm.Deterministic("value", value, dims=("member", "coordinate"))
        prior = -0.5 * ((value - middle) / spread) ** 2 - pt.log(spread) + pt.log(width)
        pm.Potential("prior", prior.sum())
        noise = pm.Flat("log_noise", dims="member")
        pm.Potential("noise_prior", log_sech(noise).sum())
        if batch.correlated:
            rho = pm.Uniform("correlation", 0.0, 1.0, dims="member")
        else:
            rho = np.zeros(num)
        structure = _noise(batch, noise, rho)
        odds = None if laws == LAWS[1] else pm.Logistic("takeoff_odds", 0.0, 1.0, dims="member")
        linear = eliminate(pt.as_tensor(batch.y), _shape(batch, value, odds), structure)
        likelihood = log_likelihood(linear, structure, batch.curves.num_points)
        pm.Potential("likelihood", likelihood.sum())
    return model


def _shape(batch: Batch, value: Tensor, takeoff_odds: Tensor | None) -> Tensor:
    """Fraction completed, one row a member; of sudden rises without odds."""
    import pytensor.tensor as pt

    axis: StepAxis = batch.axis
    position = pt.sigmoid(value[:, 0])
    if axis.logarithmic:
        low, high = np.log(axis.first + axis.offset), np.log(axis.last + axis.offset)
        onset = pt.exp(low + position * (high - low)) - axis.offset
    else:
        onset = axis.first + position * axis.span
    step = batch.curves.step
    values = [onset, HALF_TIME.prior.value(value[:, 1], axis), pt.exp(value[:, 2])]
    if takeoff_odds is None:
        return shapes.power_law_shape(step, *(column[:, None] for column in values))
    values.append(TAKEOFF.prior.value(takeoff_odds, axis))
    # The flow's operation takes one curve.
    rows = [
        shapes.gradual_power_law_shape(step[i], *(v[i] for v in values)) for i in range(len(step))
    ]
    return pt.stack(rows)


def _noise(batch: Batch, log_noise: Tensor, rho: Tensor) -> Noise:
    """Of all members; points that a member does not have weigh nothing."""
    import pytensor.tensor as pt

    count = batch.curves.num_points
    there = np.arange(batch.y.shape[1])[None] < count[:, None]
    weight = pt.as_tensor(np.where(there, batch.variance**-0.5, 0.0))
    log_determinant = np.where(there, np.log(batch.variance), 0.0).sum(axis=1)
    # One factor common to a member's standard deviations, and no wandering of its own.
    log_sigma = FACTOR_WIDTH * log_noise
    if not batch.measured:
        log_sigma = np.log(NOISE_SCALE) + log_noise - 0.5 * pt.log(1.0 - rho**2)
    if not batch.correlated:
        return Noise(log_sigma, weight, log_determinant=log_determinant)
    decay = rho[:, None] if batch.even else rho[:, None] ** batch.gap[:, 1:]
    decay = pt.where(there[:, 1:], decay, 0.0)
    innovation = 1.0 - decay**2
    log_determinant = log_determinant + pt.log(innovation).sum(axis=1)
    return Noise(log_sigma, weight, decay, innovation, log_determinant)


def sample_joint(
    batch: Batch,
    own_mean: Array,
    own_sd: Array,
    *,
    laws: tuple[str, str] = LAWS[0],
    num_chains: int = 4,
    num_draws: int = 500,
    seed: int = 0,
    sampler: str | None = None,
    progress: bool = False,
) -> JointDraws:
    """Draws from the joint posterior by NUTS, with nutpie where it is installed.

    Parameters
    ----------
    batch, own_mean, own_sd, laws
        See `joint_model`.
    num_chains, num_draws : int
        Draws are a chain's; as many again are spent on its warm-up.
    seed : int
    sampler : {"nutpie", "pymc"}, optional
        By default nutpie where it is installed. It compiles for longer, 10 to 25 s, and then draws
        faster, which pays from a dozen members on.
    progress : bool

    Returns
    -------
    JointDraws
    """
    import arviz as az
    import pymc as pm

    if sampler is None:
        sampler = "nutpie" if importlib.util.find_spec("nutpie") else "pymc"
    with joint_model(batch, own_mean, own_sd, laws), _quiet():
        tree = pm.sample(
            draws=num_draws,
            tune=num_draws,
            chains=num_chains,
            cores=1,
            random_seed=seed,
            nuts_sampler=sampler,
            target_accept=0.9,
            progressbar=progress,
            compute_convergence_checks=False,
        )
    posterior = tree["posterior"].dataset
    flat = posterior.stack(sample=("chain", "draw"))
    names = [f"{name}_centre" for name in COORDINATES]
    population = np.empty((flat.sizes["sample"], 6))
    size = np.empty(6)
    hyper = posterior[[*names, "spread"]]
    effective = az.ess(hyper, method="mean")
    rhat = az.rhat(hyper)
    for k, name in enumerate(names):
        population[:, 2 * k] = flat[name].values
        population[:, 2 * k + 1] = flat["spread"].values[k]
        size[2 * k : 2 * k + 2] = float(effective[name]), float(effective["spread"][k])
    member = flat["value"].transpose("sample", "member", "coordinate").values.copy()
    member[:, :, 2] = np.exp(member[:, :, 2])
    return JointDraws(
        tree=tree,
        population=population,
        member=member,
        effective_size=size,
        largest_rhat=max(float(rhat[name].max()) for name in rhat.data_vars),
        num_divergent=int(tree["sample_stats"]["diverging"].sum()),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the sampler's own log lines; what matters is in the result."""
    log = logging.getLogger("pymc")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def join(posterior: PopulationPosterior, joint: JointDraws) -> tuple[PopulationPosterior, Array]:
    """The posterior with the chains' draws for orders that vary, and how far the engines differ.

    Returns
    -------
    posterior : PopulationPosterior
        As many draws as before.
    disagreement : ndarray, shape (6,)
        Difference of the engines' means of the population's parameters, in standard errors.
    """
    number = posterior.population.shape[1]
    kept = np.linspace(0, len(joint.population) - 1, number).round().astype(int)
    population, member = posterior.population.copy(), posterior.member.copy()
    before = population[2]
    # Draws of the reweighting are resampled: no more are independent than are effective.
    independent = min(float(posterior.effective_size[2]), number)
    error = np.sqrt(
        joint.population.var(axis=0) / joint.effective_size + before.var(axis=0) / independent
    )
    disagreement = (joint.population.mean(axis=0) - before.mean(axis=0)) / error
    population[2], member[2] = joint.population[kept], joint.member[kept]
    return replace(posterior, population=population, member=member), disagreement
