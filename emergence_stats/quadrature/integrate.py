"""Deterministic integration of many smooth posteriors at once, each on a grid of its own.

What lives here: finding where the mass of exp(log prior + log likelihood) lies, laying a grid
over it, refining that, and the error estimate. Plain arrays; a few smooth coordinates on the whole
real line; a batch of independent problems in groups (a group shares one curve, so that problems
which cannot matter beside the best of their group are not worked out). What does not: the onset,
in which posteriors are not smooth (`over_onset`), what the coordinates mean (`families`), or the
likelihood (`likelihood`).

How it goes, for every problem side by side:

1. Coarse: the likelihood on a grid of equal prior mass, and its few highest local maxima.
2. Zoom: from each, a small grid; the likelihood is raised to a power small enough that several
   of its points count, and their mean and covariance say where and how wide the next is, until the
   power is one. This finds peaks far narrower than the grid, with correlated noise often on top of
   a wide plateau on which everything is explained as noise.
3. Final: a grid in the coordinates whitened by the narrowest mode that matters, filled outwards
   from all modes until the integrand is negligible everywhere on its rim.
4. Check: the even and the odd half of the grid, along each axis and each diagonal, are two
   independent integrations at twice the spacing. Where they differ by more than the tolerance the
   worst axis is halved.

The trapezoidal rule on a smooth, decaying integrand converges exponentially, so the grid is far
better than its halves, whose difference is reported as the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from emergence_stats.quadrature.cells import DrawnGrids
from emergence_stats.quadrature.grid import GrowingGrids, Integrals, LogLikelihood, LogPrior, ball

Array = np.ndarray

# Lattice spacing in units of the narrowest mode's spread. The trapezoidal rule integrates a
# Gaussian to 1e-8 at one standard deviation.
SPACING = 1.4
MAX_ZOOMS = 20
MAX_MODES = 3


@dataclass(frozen=True)
class CoarseGrid:
    """Where to look first: points of equal prior mass, on a product of axes.

    Attributes
    ----------
    points : ndarray, shape (node, coordinate)
    sizes : tuple of int
        Points along each axis; empty where they are scattered.
    spacing : ndarray, shape (coordinate,)
        Typical distance of neighbours.
    """

    points: Array
    sizes: tuple[int, ...]
    spacing: Array

    @classmethod
    def of(cls, axes: list[Array]) -> CoarseGrid:
        """The product of these axes."""
        if not axes:
            return cls(np.zeros((1, 0)), (), np.zeros(0))
        points = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
        spacing = np.array([np.median(np.diff(axis)) for axis in axes])
        return cls(points, tuple(axis.size for axis in axes), spacing)

    @classmethod
    def scattered(cls, dim: int, number: int) -> CoarseGrid:
        """Points spread evenly through a standard normal prior, best a power of 2 of them."""
        from scipy.special import ndtri
        from scipy.stats import qmc

        shares = qmc.Sobol(dim, rng=20_230_817).random(number)
        points = ndtri(np.clip(shares, 0.5 / number, 1.0 - 0.5 / number))
        return cls(points, (), np.full(dim, 0.5))


def integrate(
    log_likelihood: LogLikelihood,
    log_prior: LogPrior,
    coarse: CoarseGrid,
    group: Array,
    best_of_group: Array,
    slack: Array,
    hints: tuple[Array, Array, Array],
    *,
    tolerance: float,
    cut: float,
    max_nodes: int = 20_000,
    sampled: int = 0,
) -> Integrals:
    """What is the integral of prior times likelihood, problem by problem, and where is its mass?

    Parameters
    ----------
    log_likelihood, log_prior : callable
    coarse : CoarseGrid
    group : ndarray of int, shape (problem,)
    best_of_group : ndarray, shape (group,)
        The largest log integral known in each group; -inf where none is.
    slack : ndarray, shape (group,)
        Problems whose coarse grid lies further below the best of their group are not looked at.
    hints : tuple of ndarray
        Further places to look: (problem, coordinates, Cholesky factor of the spread there).
    tolerance : float
        Relative difference between half grids, in units of the group's best integral, at which
        refinement stops.
    cut : float
        How far, in nats, integrands are followed below their highest points. Problems further than
        that (and 2) below the best of their group keep a rough value.
    max_nodes : int
        Bound on points a problem. Beyond it the grid is left as it is and `error` tells.
    sampled : int
        If not 0, so many points are drawn in the cells of the grid (see `cells`),
        and the tolerance is of their relative standard error.

    Returns
    -------
    Integrals
    """
    num_problems, dim = group.size, coarse.points.shape[1]
    if dim == 0:
        who = np.arange(num_problems)
        value = log_likelihood(who, np.zeros((num_problems, 0)), np.full(num_problems, -np.inf))
        nothing = np.zeros(num_problems)
        none = np.zeros((num_problems, 0))
        return Integrals(
            value,
            nothing,
            who,
            none,
            nothing + 1.0,
            none,
            np.zeros((num_problems, 0, 0)),
            who * 0 + 1,
        )
    points, sizes = coarse.points, coarse.sizes
    who = np.repeat(np.arange(num_problems), len(points))
    tiled = np.tile(points, (num_problems, 1))
    value = log_likelihood(who, tiled, np.full(who.size, np.inf)).reshape(num_problems, -1)
    top = value.max(axis=1)
    rough = top + np.log(np.exp(value - top[:, None]).mean(axis=1))
    best = best_of_group.copy()
    np.maximum.at(best, group, rough)
    worth = np.flatnonzero(rough > best[group] - slack[group])
    height = value[worth] + log_prior(points)
    problem, start = _starts(height, sizes) if sizes else _scattered_starts(height, coarse)
    problem = np.concatenate([worth[problem], hints[0]])
    wide = np.broadcast_to(np.diag(coarse.spacing), (start.size, dim, dim))
    mode, factor, mass, peak = _zoom(
        log_likelihood,
        log_prior,
        np.concatenate([points[start], hints[1]]),
        np.concatenate([wide, hints[2]]),
        problem,
    )
    found = np.full(num_problems, -np.inf)
    np.maximum.at(found, problem, mass)
    np.maximum.at(rough, problem, mass)
    np.maximum.at(best, group, rough)
    worth = np.flatnonzero(rough > best[group] - cut - 2.0)
    place = np.full(num_problems, -1)
    place[worth] = np.arange(worth.size)
    kept = (place[problem] >= 0) & (mass > found[problem] - 5.0)
    problem, mode, factor = place[problem[kept]], mode[kept], factor[kept]
    # The narrowest mode that matters sets the grid: it resolves the wider ones too.
    volume = np.abs(np.linalg.det(factor))
    order = np.lexsort((volume, problem))
    first = order[np.unique(problem[order], return_index=True)[1]]

    def on_worth(who: Array, z: Array, cutoff: Array) -> Array:
        return log_likelihood(worth[who], z, cutoff)

    # Density, not mass: what is negligible at the best position's scale is so here.
    floor = best[group[worth]] - np.log(volume[first]) - 0.5 * cut + 1.5
    highest = np.full(worth.size, -np.inf)
    np.maximum.at(highest, problem, peak[kept])
    floor = np.minimum(floor, highest)
    grids = DrawnGrids if sampled else GrowingGrids
    grid = grids(on_worth, log_prior, mode[first], SPACING * factor[first], floor, cut, max_nodes)
    seeds = problem, mode
    if isinstance(grid, DrawnGrids):
        result = grid.sample(seeds, sampled, tolerance)
    else:
        result = grid.run(seeds, group[worth], best_of_group, tolerance)
    log_integral, error = rough, np.zeros(num_problems)
    log_integral[worth], error[worth] = result.log_integral, result.error
    modes = np.full((num_problems, dim), np.nan)
    factors = np.full((num_problems, dim, dim), np.nan)
    modes[worth], factors[worth] = result.mode, factor[first]
    count = np.full(num_problems, len(points))
    count[worth] += result.count
    marginal = result.marginal
    if marginal is not None:
        marginal = (worth[marginal[0]], *marginal[1:])
    return Integrals(
        log_integral,
        error,
        worth[result.problem],
        result.z,
        result.weight,
        modes,
        factors,
        count,
        marginal,
    )


def _starts(value: Array, sizes: tuple[int, ...]) -> tuple[Array, Array]:
    """The highest local maxima of the coarse grid: (problem, coarse point)."""
    grid = value.reshape(-1, *sizes)
    peak = np.ones(grid.shape, dtype=bool)
    for axis in range(1, grid.ndim):
        lower = [slice(None)] * grid.ndim
        upper = list(lower)
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        rises = grid[tuple(upper)] > grid[tuple(lower)]
        peak[tuple(lower)] &= ~rises
        peak[tuple(upper)] &= rises
    height = np.where(peak.reshape(value.shape), value, -np.inf)
    order = np.argsort(-height, axis=1)[:, :MAX_MODES]
    chosen = np.take_along_axis(height, order, axis=1)
    # A lower maximum of a coarse grid may still be the slope of the highest peak.
    good = chosen > chosen[:, :1] - 12.0
    good[:, 0] = True
    return np.nonzero(good)[0], order[good]


def _scattered_starts(height: Array, coarse: CoarseGrid) -> tuple[Array, Array]:
    """The highest of scattered points that are not near a higher one: (problem, coarse point)."""
    scaled = coarse.points / coarse.spacing
    problem, start = [], []
    for row, heights in enumerate(height):
        left = heights.copy()
        for _ in range(MAX_MODES):
            at = int(left.argmax())
            if not left[at] > heights.max() - 12.0:
                break
            problem.append(row)
            start.append(at)
            left[((scaled - scaled[at]) ** 2).sum(axis=1) < 2.0 * scaled.shape[1]] = -np.inf
    return np.array(problem, dtype=np.int64), np.array(start, dtype=np.int64)


@lru_cache(maxsize=8)
def _around(dim: int) -> tuple[Array, float]:
    """Points to look at around a centre, within a radius of 2.9, and the volume of each."""
    if dim < 3:
        return ball(dim, 2.9), 1.0
    from scipy.special import gamma, ndtri
    from scipy.stats import qmc

    # So many as a small moment needs; a full grid has hundreds in four dimensions.
    number = 48 * (dim - 1)
    shares = qmc.Sobol(dim + 1, rng=7).random(2**10)[:number]
    away = ndtri(np.clip(shares[:, :dim], 1e-9, 1.0 - 1e-9))
    away /= np.sqrt((away**2).sum(axis=1, keepdims=True))
    points = 2.9 * shares[:, dim:] ** (1.0 / dim) * away
    points[0] = 0.0
    return points, float(np.pi ** (0.5 * dim) / gamma(0.5 * dim + 1.0) * 2.9**dim / number)


def _zoom(
    log_likelihood: LogLikelihood,
    log_prior: LogPrior,
    centre: Array,
    factor: Array,
    problem: Array,
) -> tuple[Array, Array, Array, Array]:
    """Climbs each start to its mode: where it is, a Cholesky factor of its spread, its rough mass
    and height.
    """
    dim = centre.shape[1]
    target = {1: 2.5, 2: 4.0}.get(dim, 4.0 * dim)
    around, volume = _around(dim)
    # At a mode, scattered points reach further, so that a spread drawn in too far grows again.
    pace = np.full(problem.size, 0.8)
    at_mode, settled = (0.8, np.inf) if dim < 3 else (1.1, 0.25)
    mean, mass = centre.copy(), np.empty(problem.size)
    peak = np.empty(problem.size)
    factor = factor.copy()
    active = np.arange(problem.size)
    for _ in range(MAX_ZOOMS):
        step = pace[active, None, None] * factor[active]
        z = mean[active][:, None] + np.einsum("cij,kj->cki", step, around)
        flat = z.reshape(-1, dim)
        who = np.repeat(problem[active], len(around))
        prior = log_prior(flat).reshape(active.size, len(around))
        value = log_likelihood(who, flat, np.full(who.size, np.inf)).reshape(prior.shape)
        resolved, share = _sharpen(value, prior, target)
        value += prior
        top = value.max(axis=1)
        total = np.exp(value - top[:, None]).sum(axis=1)
        mass[active] = top + np.log(total * volume * np.abs(np.linalg.det(step)))
        centre = np.einsum("ck,ckd->cd", share, z)
        away = z - centre[:, None]
        spread = np.einsum("ck,cki,ckj->cij", share, away, away)
        # The points stand for cells, so no spread is smaller than a cell's.
        spread += volume ** (2.0 / dim) / 12.0 * step @ step.transpose(0, 2, 1)
        # Resolved, with the highest point well inside: this is the mode's own scale. Otherwise go
        # to the highest point, for the mode lies beyond it.
        highest = value.argmax(axis=1)
        inside = (around[highest] ** 2).sum(axis=1) <= 2.0
        rows = np.arange(active.size)
        mean[active] = np.where(inside[:, None], centre, z[rows, highest])
        larger = np.linalg.cholesky(spread)
        growth = np.log(np.abs(np.linalg.det(larger) / np.linalg.det(factor[active])))
        factor[active] = larger
        peak[active] = top
        pace[active] = np.where(resolved, at_mode, 0.8)
        active = active[~(resolved & inside & (growth < settled))]
        if not active.size:
            break
    return mean, factor, mass, peak


def _sharpen(log_likelihood: Array, log_prior: Array, target: float) -> tuple[Array, Array]:
    """Whether `target` points count, and their shares under the power at which so many would.

    Where fewer count, the likelihood is raised to a power below one, and the next points are drawn
    in step by step; the prior is not, beyond which there is nothing to look for.
    """
    log_likelihood = log_likelihood - log_likelihood.max(axis=1, keepdims=True)

    def shares(power: Array, who: Array) -> Array:
        height = power[:, None] * log_likelihood[who] + log_prior[who]
        weight = np.exp(height - height.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)

    every = np.arange(len(log_likelihood))
    share = shares(np.ones(every.size), every)
    resolved = 1.0 / (share**2).sum(axis=1) >= target
    short = np.flatnonzero(~resolved)
    if short.size:
        low, high = np.full(short.size, -30.0), np.zeros(short.size)
        for _ in range(12):
            middle = 0.5 * (low + high)
            enough = 1.0 / (shares(np.exp(middle), short) ** 2).sum(axis=1) >= target
            low, high = np.where(enough, middle, low), np.where(enough, high, middle)
        share[short] = shares(np.exp(low), short)
    return resolved, share
