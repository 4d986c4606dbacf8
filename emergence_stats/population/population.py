"""What a population of curves has in common, from each member's own likelihood.

What lives here: the array core of `compare_hierarchical`. A member is known by its likelihood of
(onset, half-time) at a few values of kappa, each kept as a mixture of Gaussian cells; what is its
own alone, such as the take-off, has been integrated out. Plain arrays only. What does not: the sum
over kappa (`orders`), the integral over the population's onset and half-time (`importance`), how a
member's likelihood is found (`members`) and every label (`hierarchical`), the same by Markov chains
(`joint`).

Model, with x the log odds of the onset's position on its axis and h the standardised log half-time:

    x_i ~ Normal(m_x, s_x),    m_x ~ Logistic(0, 1) (the position is uniform),  s_x ~ HalfNormal(1)
    h_i ~ Normal(m_h, s_h),    m_h ~ Normal(0, 1),                         s_h ~ HalfNormal(0.5)
    exponential         kappa_i = 0
    common_exponent     kappa_i = kappa ~ HalfNormal(KAPPA_SCALE), as in `families`
    varying_exponent    log kappa_i ~ Normal(mu, s),  mu ~ Normal(0.06, 0.9),  s ~ HalfNormal(0.7)

The last three numbers give a single member about the mean and spread of log kappa that it has under
the same half-normal prior (0.06 and 1.11).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from emergence_stats.noise.compiling import kernel

Array = np.ndarray

HYPOTHESES = ("exponential", "common_exponent", "varying_exponent")
ONSET_SPREAD = 1.0
HALF_TIME_SPREAD = 0.5
MU_MEAN, MU_SD = 0.06, 0.9
ORDER_SPREAD = 0.7
# Cells that a member's likelihood at one kappa is kept in.
NUM_CELLS = 192
# How much a cell's mass counts beside its width when cells are cut.
TAIL = 0.25
PAIRS = ((0, 0), (0, 1), (1, 1))
# log(kappa + this) is the scale on which log likelihoods are smooth down to kappa = 0.
KAPPA_OFFSET = 0.2


@dataclass(frozen=True)
class Members:
    """Each member's likelihood of (x, h) at each kappa: sum over cells of mass times a Gaussian.

    Attributes
    ----------
    kappa : ndarray, shape (grid,)
        Increasing; the first is 0.
    log_mass : ndarray, shape (member, grid, cell)
    mean : ndarray, shape (member, grid, cell, 2)
    covariance : ndarray, shape (member, grid, cell, 3)
        Of x, of x with h, of h.
    """

    kappa: Array
    log_mass: Array
    mean: Array
    covariance: Array


@numba.njit(cache=True)
def _cells(point: Array, mass: Array, num: int) -> Array:
    """Owner cell of each point: one cell after another is cut at its median along its longer side.

    The next is the one with most of mass^TAIL times its width: with the mass alone all tails would
    lie in a few wide cells.
    """
    owner = np.zeros(mass.size, dtype=np.int64)
    priority, axes = np.zeros(num), np.zeros(num, dtype=np.int64)
    fresh = np.array([0])
    count = 1
    while True:
        for cell in fresh:
            rows = np.flatnonzero(owner == cell)
            total = mass[rows].sum()
            widest = 0.0
            for a in range(2):
                values = point[rows, a]
                mean = (mass[rows] * values).sum() / total
                spread = (mass[rows] * (values - mean) ** 2).sum() / total
                if spread > widest:
                    axes[cell], widest = a, spread
            priority[cell] = total**TAIL * np.sqrt(widest) if rows.size > 1 else 0.0
        best = np.argmax(priority[:count])
        if count == num or priority[best] == 0.0:
            return owner
        rows = np.flatnonzero(owner == best)
        order = rows[np.argsort(point[rows, axes[best]])]
        half = 0.5 * mass[order].sum()
        running, cut = 0.0, 0
        while cut < order.size - 1 and running + 0.5 * mass[order[cut]] < half:
            running += mass[order[cut]]
            cut += 1
        cut = max(cut, 1)
        for k in range(cut, order.size):
            owner[order[k]] = count
        fresh = np.array([best, count])
        count += 1


def gaussian_cells(
    point: Array, weight: Array, log_prior: Array, num_cells: int = NUM_CELLS
) -> tuple[Array, Array, Array]:
    """Turns weighted points of a posterior into a smooth mixture for the likelihood behind it.

    Dividing a posterior by the prior it was found under gives the likelihood, up to the evidence.
    Points are gathered into cells, smaller where there is more posterior mass; each becomes a
    Gaussian with the cell's mean, and its covariance widened by a half so that neighbours overlap,
    plus a share of the whole posterior's so that a cell of one point has a width. For a Gaussian
    member the log likelihood given the population is then good to 0.05 (sd, 2 member sd away or
    nearer) where the population is a third as wide as the member or wider, and to 0.15 where it is
    a point.

    Parameters
    ----------
    point : ndarray, shape (point, 2)
    weight : ndarray, shape (point,)
        Sums to 1.
    log_prior : ndarray, shape (point,)
    num_cells : int

    Returns
    -------
    log_mass : ndarray, shape (cell,)
        -inf for cells not needed.
    mean : ndarray, shape (cell, 2)
    covariance : ndarray, shape (cell, 3)

    Examples
    --------
    >>> point = np.random.default_rng(0).normal(size=(5000, 2))
    >>> log_mass, mean, covariance = gaussian_cells(point, np.full(5000, 2e-4), np.zeros(5000))
    >>> float(np.exp(log_mass).sum())
    1.0
    """
    centre = weight @ point
    away = point - centre
    # 1e-10 where all points agree.
    whole = (away * weight[:, None]).T @ away + np.diag([1e-10, 1e-10])
    factor = np.linalg.cholesky(whole)
    # Onset and half-time of a member hang together: cells are cut where they do not.
    unit = np.ascontiguousarray(np.linalg.solve(factor, away.T).T)
    owner = _cells(unit, weight, num_cells)
    ratio = np.where(weight > 0, weight * np.exp(log_prior.min() - log_prior), 0.0)
    mass = np.bincount(owner, ratio, num_cells)
    safe = np.where(mass > 0, mass, 1.0)
    mean = np.stack([np.bincount(owner, ratio * unit[:, a], num_cells) for a in (0, 1)], 1)
    mean /= safe[:, None]
    away = unit - mean[owner]
    inner = np.stack(
        [np.bincount(owner, ratio * away[:, a] * away[:, b], num_cells) for a, b in PAIRS], 1
    )
    inner /= safe[:, None]
    added = 0.5 * inner + np.array([1.0, 0.0, 1.0]) / num_cells
    # All drawn towards the mean, so that the variances stay what they were.
    share = np.bincount(owner, weight, num_cells) / weight.sum()
    mean *= np.sqrt(np.maximum(1.0 - share @ added[:, [0, 2]], 0.0))
    inner += added
    blocks = np.stack([inner[:, [0, 1]], inner[:, [1, 2]]], axis=1)
    back = factor @ blocks @ factor.T
    with np.errstate(divide="ignore"):
        log_mass = np.log(mass) - log_prior.min()
    covariance = np.stack([back[:, a, b] for a, b in PAIRS], axis=1)
    return log_mass, centre + mean @ factor.T, covariance


@kernel()
def cell_terms(
    log_mass: Array, mean: Array, covariance: Array, eta: Array, exponent: Array, out: Array
) -> tuple[float, float]:
    """Each cell's part of a member's likelihood given m_x, s_x, m_h, s_h.

    Fills `out` with the parts relative to a common factor (`exponent` is scratch) and returns the
    log of their sum, and how many cells carry it.
    """
    var_x, var_h = eta[1] * eta[1], eta[3] * eta[3]
    for k in range(log_mass.size):
        xx = covariance[k, 0] + var_x
        xh = covariance[k, 1]
        hh = covariance[k, 2] + var_h
        inverse = 1.0 / (xx * hh - xh * xh)
        dx, dh = mean[k, 0] - eta[0], mean[k, 1] - eta[2]
        quad = (hh * dx * dx - 2.0 * xh * dx * dh + xx * dh * dh) * inverse
        exponent[k] = log_mass[k] - 0.5 * quad
        out[k] = np.sqrt(inverse)
    best = exponent.max()
    total = squares = 0.0
    for k in range(log_mass.size):
        if exponent[k] > best - 40.0:
            out[k] *= np.exp(exponent[k] - best)
            total += out[k]
            squares += out[k] * out[k]
        else:
            out[k] = 0.0
    return best + np.log(total) - np.log(2.0 * np.pi), total * total / squares


@numba.njit(cache=True, nogil=True)
def _member_log_likelihood(
    log_mass: Array, mean: Array, covariance: Array, eta: Array, out: Array, cells: Array
) -> None:
    scratch, part = np.zeros(log_mass.shape[2]), np.zeros(log_mass.shape[2])
    for e in range(eta.shape[0]):
        for i in range(log_mass.shape[0]):
            for g in range(log_mass.shape[1]):
                out[e, i, g], cells[e, i, g] = cell_terms(
                    log_mass[i, g], mean[i, g], covariance[i, g], eta[e], scratch, part
                )


def member_log_likelihood(members: Members, eta: Array) -> tuple[Array, Array]:
    """Log likelihood of each member given its population, and the cells that carry it.

    Parameters
    ----------
    members : Members
    eta : ndarray, shape (draw, 4)
        m_x, s_x, m_h, s_h.

    Returns
    -------
    log_likelihood, effective_cells : ndarray, shape (draw, member, grid)
    """
    shape = (len(eta), *members.log_mass.shape[:2])
    out, cells = np.empty(shape), np.empty(shape)
    _member_log_likelihood(
        members.log_mass, members.mean, members.covariance, np.ascontiguousarray(eta), out, cells
    )
    return out, cells


def spread_of(coordinate: Array, scale: float) -> Array:
    """Half-normal quantile of a standard normal coordinate: smooth down to a spread of zero."""
    # -ndtri(ndtr(-z) / 2), the accurate tail of (1 + ndtr(z)) / 2.
    return np.asarray(-scale * ndtri(0.5 * ndtr(-coordinate)))


def spread_coordinate(spread: float, scale: float) -> float:
    """The coordinate of a spread: the inverse of `spread_of`.

    Examples
    --------
    >>> round(float(spread_of(np.array(spread_coordinate(0.3, 1.0)), 1.0)), 12)
    0.3
    """
    return float(-ndtri(2.0 * ndtr(-spread / scale)))


def hyperparameters(coordinate: Array) -> Array:
    """m_x, s_x, m_h, s_h from four coordinates that are standard normal before the data."""
    z = np.clip(coordinate, -8.0, 8.0)
    return np.stack(
        [
            log_ndtr(z[:, 0]) - log_ndtr(-z[:, 0]),
            spread_of(z[:, 1], ONSET_SPREAD),
            z[:, 2],
            spread_of(z[:, 3], HALF_TIME_SPREAD),
        ],
        axis=1,
    )
