"""How would the estimate read without localisation?

What lives here: the model of localisation's bias and its extrapolation to zero, on plain arrays.
What does not: the chains at several localisations (`llc`).

Near a minimum with curvatures h_i the expectation is ``1/2 sum_i n*beta*h_i / (n*beta*h_i +
gamma)`` (`posterior`): decreasing and convex in gamma, a mixture of ``x / (x + gamma)`` whose
weights are not negative. Such a mixture is fitted to the estimates; at gamma = 0 each component
counts its full weight. A direction held less firmly than a third of the weakest localisation cannot
be told from a flat one, and is not counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

SOFTEST = 1.0 / 3.0  # of the weakest localisation
_GRID = 40


def weights_at_zero(
    localisation: NDArray[np.float64], llc: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Which combination of the estimates is the one without localisation?

    The mixture's components are found by non-negative least squares; given them, its value at zero
    is linear in the estimates, and these are the coefficients, so that errors follow from the same
    combination of traces.

    Parameters
    ----------
    localisation : ndarray, shape (k,), increasing
    llc : ndarray, shape (k,)

    Returns
    -------
    ndarray, shape (k,)

    Examples
    --------
    >>> gamma = np.array([1.0, 2.0, 4.0, 8.0])
    >>> llc = 3.0 + 2.0 * 5.0 / (5.0 + gamma)     # three stiff directions, two of curvature 5
    >>> round(float(weights_at_zero(gamma, llc) @ llc), 1)
    5.0
    """
    scale = np.geomspace(SOFTEST * localisation[0], 1e4 * localisation[-1], _GRID)
    design = scale / (scale + localisation[:, None])  # (k, component)
    solution, _ = nnls(design, llc)
    active = solution > 0.0
    if not active.any():
        return np.eye(len(localisation))[0]
    # At zero every component is 1: the sum of the least-squares coefficients.
    return np.linalg.pinv(design[:, active]).sum(axis=0)
