"""Draws from one curve's posterior by the no-U-turn sampler, the model compiled once and kept.

What lives here: the store of compiled models, where chains begin, and running nutpie or PyMC's own
sampler. What does not: the density (`models`), and what is said of the draws (`fitting`).

The posterior of an onset may have several modes, one between each pair of checkpoints, and no chain
can be relied on to cross between them. So chains begin at draws of a short tempered population
(sequential Monte Carlo from the prior; Del Moral, Doucet and Jasra 2006), which finds modes in
about their proportions; chains that then disagree show in R-hat.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emergence_stats.curves.families import Family
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import half_cauchy_at
from emergence_stats.nuts.covariance import base_kind, is_correlated, is_measured
from emergence_stats.nuts.data import CurveData
from emergence_stats.nuts.models import (
    coordinate_names,
    curve_model,
    log_density,
    pieces,
)

Array = np.ndarray

MAX_COMPILED = 32
# Particles times points of the population in which chains begin, and bounds on the particles.
POPULATION_WORK = 60_000
POPULATION = (128, 1000)
MOVES = 4
# Real curves take some tens; one without noise, whose density has hardly a bound, a million.
MAX_TEMPERATURES = 500
# Mass matrix: with stairs under the onset a diagonal one diverged least.
ADAPTATION = "diag"
# One evaluation of this many numbers at a time.
CHUNK = 500_000


class CannotSampleError(InputError):
    """A curve's posterior is too narrow for chains, or its density not finite where they begin."""

    def __init__(self, what: str, noise: str) -> None:
        super().__init__(
            f"curve: {what} under {base_kind(noise)!r} noise; a curve that hardly varies, or has "
            "no noise, is for compare(..., engine='quadrature')"
        )


@dataclass
class Compiled:
    """A model with the function that gives its log density and gradient.

    Attributes
    ----------
    model : pymc.Model
    evaluate : callable
        Coordinates, shape (coordinate,), to log density and gradient, for the data last set.
    num_fits : int
        How many curves it has served.
    """

    model: Any
    evaluate: Callable[[Array], tuple[float, Array]]
    num_fits: int = 0

    def set_data(self, data: CurveData) -> None:
        """The curve that comes next; of any length."""
        import pymc as pm

        with self.model:
            pm.set_data(data.named())
        self.num_fits += 1


COMPILED: OrderedDict[tuple[Any, ...], Compiled] = OrderedDict()


def compile_model(family: Family, noise: str, data: CurveData, logarithmic: bool) -> Compiled:
    """The model of this family and kind of noise, compiled if it was not before, set to the data.

    The number of points needs no other; noise of two parts (`measured_noise`) is another kind.
    """
    # By identity too, for a name may be registered anew; the family is kept alive by the model.
    key = (family, noise, logarithmic)
    found = COMPILED.pop(key, None)
    if found is None:
        model = curve_model(family, noise, data, logarithmic)
        found = Compiled(model, _evaluator(model))
    COMPILED[key] = found
    while len(COMPILED) > MAX_COMPILED:
        COMPILED.popitem(last=False)
    found.set_data(data)
    return found


def _evaluator(model: Any) -> Callable[[Array], tuple[float, Array]]:
    function = model.logp_dlogp_function(ravel_inputs=True)
    function.set_extra_values({})
    compiled_function = function._pytensor_function

    def evaluate(x: Array) -> tuple[float, Array]:
        value, gradient = compiled_function(x)
        return float(value), gradient

    return evaluate


def density_of(
    family: Family, noise: str, data: CurveData, logarithmic: bool
) -> Callable[[Array], Array]:
    """The log density for many coordinates at once: shape (draw, coordinate) to (draw,)."""
    size = data.step.size
    # A covariance matrix each, where there is one.
    dense = is_measured(noise) and is_correlated(noise)
    chunk = max(1, CHUNK // (size * size if dense else size))

    def evaluate(x: Array) -> Array:
        out = np.empty(len(x))
        with np.errstate(all="ignore"):
            for low in range(0, len(x), chunk):
                columns = list(x[low : low + chunk].T[:, :, None])
                value = log_density(family, noise, data, logarithmic, columns)
                out[low : low + chunk] = value[:, 0]
        return np.where(np.isfinite(out), out, -np.inf)

    return evaluate


def prior_draws(
    family: Family, noise: str, num_draws: int, generator: np.random.Generator
) -> Array:
    """Coordinates drawn from their prior, shape (draw, coordinate)."""
    priors = {p.name: p.prior for p in family.free}
    columns = []
    for k, name in enumerate(coordinate_names(family, noise)):
        share = generator.uniform(1e-9, 1.0 - 1e-9, num_draws)
        if name in priors and k > 0:
            columns.append(priors[name].quantile(share))
        elif name in ("onset", "share_odds", "rho_odds"):
            columns.append(np.log(share) - np.log1p(-share))
        elif name in ("log_noise", "log_wander"):
            columns.append(np.log(half_cauchy_at(share)))
        else:
            columns.append(generator.normal(size=num_draws))
    return np.column_stack(columns)


def population(
    family: Family,
    noise: str,
    data: CurveData,
    logarithmic: bool,
    generator: np.random.Generator,
) -> Array:
    """Coordinates roughly distributed as the posterior, over all of its modes.

    Raises
    ------
    CannotSampleError
        If the posterior is so narrow that the way there from the prior does not end.
    """
    size = int(np.clip(POPULATION_WORK // data.step.size, *POPULATION))
    density = density_of(family, noise, data, logarithmic)

    def log_prior(x: Array) -> Array:
        with np.errstate(all="ignore"):
            at = pieces(family, noise, data, logarithmic, list(x.T[:, :, None]))
            total = at.log_prior[:, 0]
            if noise == "student_t":
                # Steps of a and b have no prior of their own: a normal one stands in for it.
                steps = x[:, -2:] if family.emerges else x[:, -1:]
                total = total - 0.5 * (steps**2).sum(axis=1)
        return total

    x = prior_draws(family, noise, size, generator)
    prior, full = log_prior(x), density(x)
    temperature = 0.0
    for _ in range(MAX_TEMPERATURES):
        gain = np.where(np.isfinite(full), full - prior, -1e300)
        step = _next_temperature(gain, 1.0 - temperature)
        temperature += step
        weight = np.exp(step * (gain - gain.max()))
        chosen = _systematic(weight / weight.sum(), generator)
        x, prior, full = x[chosen], prior[chosen], full[chosen]
        for _ in range(MOVES):
            # Differences of two others (ter Braak 2006) keep to ridges, and at full length
            # step from mode to mode.
            pair = generator.integers(size, size=(2, size))
            length = 2.38 / np.sqrt(2.0 * x.shape[1]) * generator.choice([0.3, 1.0], size)
            length[generator.random(size) < 0.1] = 1.0
            trial = x + length[:, None] * (x[pair[0]] - x[pair[1]])
            trial += 1e-4 * generator.normal(size=x.shape)
            there_prior, there = log_prior(trial), density(trial)
            better = temperature * (there - full) + (1.0 - temperature) * (there_prior - prior)
            accept = np.log(generator.random(size)) < np.where(np.isnan(better), -np.inf, better)
            x = np.where(accept[:, None], trial, x)
            prior, full = np.where(accept, there_prior, prior), np.where(accept, there, full)
        if temperature >= 1.0:
            return x
    raise CannotSampleError("its posterior is too narrow to sample", noise)


def _next_temperature(gain: Array, left: float) -> float:
    """The step at which half of the population still counts."""

    def effective(step: float) -> float:
        weight = np.exp(step * (gain - gain.max()))
        return float(weight.sum() ** 2 / (weight**2).sum() / weight.size)

    if effective(left) >= 0.5:
        return left
    low, high = 0.0, left
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= 0.5 else (low, middle)
    return min(left, max(high, 1e-6))


def _systematic(weight: Array, generator: np.random.Generator) -> Array:
    points = (np.arange(weight.size) + generator.random()) / weight.size
    return np.minimum(np.searchsorted(np.cumsum(weight), points), weight.size - 1)


@dataclass(frozen=True)
class Chains:
    """What the sampler gives.

    Attributes
    ----------
    coordinates : ndarray, shape (chain, draw, coordinate)
    diverging : ndarray of bool, shape (chain, draw)
    num_steps : ndarray of int, shape (chain, draw)
        Gradients taken for each draw.
    step_size : ndarray, shape (chain, draw)
    log_density : ndarray, shape (chain, draw)
    sampler : {"nutpie", "pymc"}
    target_accept : float
        What it was asked to accept.
    """

    coordinates: Array
    diverging: Array
    num_steps: Array
    step_size: Array
    log_density: Array
    sampler: str
    target_accept: float


def draw_chains(
    found: Compiled,
    starts: Array,
    *,
    num_draws: int,
    num_tune: int,
    seed: int,
    target_accept: float,
    progress: bool,
) -> Chains:
    """Chains from `starts` (chain, coordinate), by nutpie where it is installed."""
    try:
        import nutpie
    except ImportError:
        return _draw_with_pymc(found, starts, num_draws, num_tune, seed, target_accept, progress)
    from nutpie.compiled_pyfunc import from_pyfunc

    num_chains, num_coordinates = starts.shape
    waiting = [start.copy() for start in starts]
    model = from_pyfunc(
        num_coordinates,
        lambda: found.evaluate,
        lambda *_: lambda x: {"coordinates": np.array(x)},
        [np.dtype("float64")],
        [(num_coordinates,)],
        ["coordinates"],
        make_initial_point_fn=lambda _: waiting.pop(0),
    )
    tree = nutpie.sample(
        model,
        draws=num_draws,
        tune=num_tune,
        chains=num_chains,
        # One chain after another: the compiled function has one place for its results.
        cores=1,
        seed=seed,
        save_warmup=False,
        progress_bar=progress,
        target_accept=target_accept,
        adaptation=ADAPTATION,
    )
    return _chains_of(tree, "logp", "nutpie", target_accept)


def _draw_with_pymc(
    found: Compiled,
    starts: Array,
    num_draws: int,
    num_tune: int,
    seed: int,
    target_accept: float,
    progress: bool,
) -> Chains:
    import pymc as pm

    with found.model:
        tree = pm.sample(
            draws=num_draws,
            tune=num_tune,
            chains=len(starts),
            cores=1,
            random_seed=seed,
            init="adapt_diag",
            initvals=[{"coordinates": start} for start in starts],
            nuts_sampler="pymc",
            target_accept=target_accept,
            progressbar=progress,
            compute_convergence_checks=False,
        )
    return _chains_of(tree, "lp", "pymc", target_accept)


def _chains_of(tree: Any, log_density: str, sampler: str, target_accept: float) -> Chains:
    """What both samplers return, the log density under the name that each has for it."""
    stats = tree["sample_stats"]
    return Chains(
        np.array(tree["posterior"]["coordinates"].values),
        np.array(stats["diverging"].values, dtype=bool),
        np.array(stats["n_steps"].values, dtype=int),
        np.array(stats["step_size"].values),
        np.array(stats[log_density].values),
        sampler,
        target_accept,
    )
