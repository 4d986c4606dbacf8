r"""How far does an estimate at one localisation depend on it?

What lives here: the change at half the localisation, told by the chains of one run in two ways.
What does not: whether it matters (`refinements`).

1. *From the draws.* The localised posterior is an exponential family in gamma, so that ::

       d lambda / d log gamma = -(gamma / 2) Cov(n*beta*(L - L*), |w - w*|^2)

   whatever the loss; the change at half of gamma is that times -log 2, to first order. Draws are
   not reweighted, as the weights have no variance in a flat direction.
2. *From the curvature at w\**, where many flat directions drown the covariance in the noise of
   |w - w*|^2. With curvatures x of n*beta*L there, a quadratic loss changes by ::

       trace f(H_U),    f(x + gamma) = 1/2 x (gamma/2) / ((x + gamma/2) (x + gamma))

   H_U the Hessian of the potential. A few Lanczos steps from random vectors give the quadratic form
   (`minibatch_noise.quadratic_form`), in which flat directions do not count.

Both see little of directions much softer than the localisation: without it the change is larger.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from emergence_stats.degeneracy.chains import Chains
from emergence_stats.degeneracy.chains.minibatch_noise import hessian_rows, quadratic_form
from emergence_stats.degeneracy.judgement.estimator import summarise

_FEWEST_VECTORS, _MOST_VECTORS = 3, 8
_STABLE = 4.0  # the largest curvature, times the step, at which a chain stays


def change_from_draws(
    trace: NDArray[np.float64], squared_distance: NDArray[np.float64], localisation: float
) -> tuple[float, float]:
    """By how much would the estimate move at half the localisation, to first order?

    Parameters
    ----------
    trace : ndarray, shape (chain, draw)
        n*beta*(L(w) - L(w*)), burn-in removed.
    squared_distance : ndarray, shape (chain, draw)
        |w - w*|^2; NaN at draws that do not enter.
    localisation : float
        gamma.

    Returns
    -------
    tuple of (float, float)
        The change and its standard error; NaN where there are too few draws.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> x, gamma = np.array([1.0, 5.0, 1e4]), 5.0
    >>> w = generator.normal(size=(4, 5000, 3)) / np.sqrt(x + gamma)
    >>> change, error = change_from_draws((0.5 * x * w**2).sum(-1), (w**2).sum(-1), gamma)
    >>> exact = 0.5 * np.log(2) * (x * gamma / (x + gamma) ** 2).sum()
    >>> bool(abs(change - exact) < 4 * error)
    True
    """
    product = change_by_draw(trace, squared_distance, localisation)
    if product.shape[1] < 4 or not np.isfinite(product).all():
        return math.nan, math.nan
    found = summarise(product)
    return found.llc, found.standard_error


def change_by_draw(
    trace: NDArray[np.float64], squared_distance: NDArray[np.float64], localisation: float
) -> NDArray[np.float64]:
    """What each draw with a distance adds to it: their mean is the change."""
    taken = np.isfinite(squared_distance).all(axis=0)
    losses, distances = trace[:, taken], squared_distance[:, taken]
    product = (losses - losses.mean()) * (distances - distances.mean())
    return 0.5 * math.log(2.0) * localisation * product


def change_from_curvature(
    chains: Chains, *, batch_size: int, seed: int, error: float
) -> tuple[float, float]:
    """The same from the Hessian at w*, by as many random vectors as it takes to know it so well.

    Parameters
    ----------
    chains : Chains
        For their posterior and step.
    batch_size, seed : int
        Of the samples over which the Hessian is taken.
    error : float
        Standard error that will do.

    Returns
    -------
    tuple of (float, float)
        The change and its standard error, from the spread between vectors.
    """
    posterior = chains.tuning.posterior
    gamma, centre = posterior.localisation, posterior.landscape.centre
    rows = hessian_rows(posterior, batch_size, seed)
    generator = torch.Generator().manual_seed(seed)
    found: list[float] = []
    spread = math.inf
    while len(found) < _FEWEST_VECTORS or (len(found) < _MOST_VECTORS and spread > error):
        vector = torch.randn(len(centre), generator=generator, dtype=centre.dtype).to(centre)
        share = quadratic_form(
            posterior,
            centre[None],
            vector[None],
            lambda total: 0.25 * gamma * (total - gamma) / (total * (total - 0.5 * gamma)),
            rows,
            _STABLE / chains.step_size,
        )
        found.append(float(share) * len(centre))
        if len(found) > 1:
            spread = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    return float(np.mean(found)), spread
