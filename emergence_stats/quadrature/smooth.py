"""Integration where a rise is gradual, so that the onset is a coordinate like the others.

What lives here: one grid over all parameters of a family whose shape has no kink at the onset, and
the onset's marginal density from it. What does not: the grids (`integrate`), families with a kink,
for which the onset is gone through by itself (`over_onset`), the likelihood (`likelihood`).

Every parameter has a coordinate that is standard normal before the data, so that posteriors fall as
fast as a Gaussian in all directions, also where the data say little, and a grid need not reach far:
with exponential tails in four directions, a twelfth of the mass can lie below a thousandth of the
highest density. A grid of some hundreds of points says where the mass is; points drawn in its cells
say how much it is, whatever kinks there are within cells, and are the posterior's draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emergence_stats.curves.priors import Prior
from emergence_stats.quadrature.grid import LogLikelihood
from emergence_stats.quadrature.integrate import CoarseGrid, integrate
from emergence_stats.quadrature.over_onset import CUT_AWAY, Posterior

Array = np.ndarray

# Points of the first look, by the number of parameters, and that beyond it.
FIRST_LOOK = {2: 256, 3: 512, 4: 1024}
MOST_LOOKED = 2048
# How far (nats) the grid is followed below the highest point, and points drawn in it, at first.
CUT, DRAWN = 7.0, 1024
# Places of the onset between those of the grid at which its density is given.
BETWEEN = 6
# Below the density at a grid's rim, in nats: negligible.
NOTHING = 50.0


def integrate_smoothly(
    log_likelihood: LogLikelihood,
    priors: Sequence[Prior],
    num_points: Array,
    *,
    tolerance: float = 0.03,
) -> Posterior:
    """What is each curve's evidence, with the onset uniform on its axis, and where is its mass?

    Parameters
    ----------
    log_likelihood : callable
        Of (curve, coordinates, cutoff), the first coordinate the position on the onset's axis.
    priors : sequence of Prior
        Of the other parameters.
    num_points : ndarray of int, shape (curve,)
    tolerance : float
        Relative standard error at which no more points are drawn.

    Returns
    -------
    Posterior
    """
    dim = 1 + len(priors)
    curve = np.arange(num_points.size)
    coarse = CoarseGrid.scattered(dim, FIRST_LOOK.get(dim, MOST_LOOKED))
    none = np.zeros((0, dim))

    def by_normal(who: Array, normal: Array, cutoff: Array) -> Array:
        return log_likelihood(who, _coordinates(normal, priors), cutoff)

    found = integrate(
        by_normal,
        _log_normal,
        coarse,
        curve,
        np.full(curve.size, -np.inf),
        15.0 + num_points,
        (curve[:0], none, np.zeros((0, dim, dim))),
        tolerance=tolerance,
        cut=CUT,
        sampled=DRAWN,
    )
    assert found.marginal is not None
    order = np.argsort(found.problem, kind="stable")
    owner = found.problem[order]
    return Posterior(
        log_integral=found.log_integral,
        error=found.error + CUT_AWAY,
        curve=owner,
        z=_coordinates(found.z[order], priors),
        weight=found.weight[order],
        start=np.searchsorted(owner, np.arange(curve.size + 1)),
        **_onset_density(*found.marginal, curve.size),
        num_evaluated=found.count,
    )


def _coordinates(normal: Array, priors: Sequence[Prior]) -> Array:
    """The onset's position and the other parameters' coordinates at standard normal ones."""
    from scipy.special import ndtr

    share = np.clip(ndtr(normal), 1e-300, 1.0 - 1e-16)
    columns = [p.quantile(share[:, k]) for k, p in enumerate(priors, start=1)]
    return np.column_stack([share[:, 0], *columns])


def _log_normal(normal: Array) -> Array:
    dim = normal.shape[1]
    return -0.5 * (normal * normal).sum(axis=1) - 0.5 * dim * np.log(2.0 * np.pi)


def _onset_density(
    problem: Array, place: Array, log_density: Array, count: int
) -> dict[str, Array]:
    """The onset's density per unit of position: between a grid's places its logarithm is smooth."""
    from scipy.interpolate import CubicSpline
    from scipy.special import ndtr

    parts: list[tuple[Array, Array, Array]] = []
    for c in range(count):
        mine = np.flatnonzero((problem == c) & np.isfinite(log_density))
        x, y = place[mine], log_density[mine]
        width = np.diff(x).min() if x.size > 1 else 1e-3
        # Beyond the grid's rim there is nothing.
        x = np.r_[x[0] - width, x, x[-1] + width]
        y = np.r_[y[0] - NOTHING, y, y[-1] - NOTHING]
        fine = np.arange(BETWEEN * (x.size - 1) + 1) / BETWEEN
        at = np.interp(fine, np.arange(x.size), x)
        value = np.interp(at, x, y)
        if x.size > 4:
            inner = (at >= x[1]) & (at <= x[-2])
            value[inner] = CubicSpline(x[1:-1], y[1:-1])(at[inner])
        position = ndtr(at)
        value -= _log_normal(at[:, None])
        new = np.diff(position, prepend=0.0) > 0.0
        position, value = position[new & (position < 1.0)], value[new & (position < 1.0)]
        ends = y.max() - NOTHING
        parts.append(
            (
                np.full(position.size + 2, c),
                np.r_[0.0, position, 1.0],
                np.r_[ends, value, ends],
            )
        )
    curve, position, density = (np.concatenate(column) for column in zip(*parts, strict=True))
    return {"onset_curve": curve, "onset_position": position, "onset_log_density": density}
