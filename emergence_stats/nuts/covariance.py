"""Measured noise, which also wanders, for the sampler: dense covariances.

What lives here: the covariance of `measured`, written for NumPy arrays and PyTensor variables
alike, and what the density needs of it. What does not: the density (`models`); the quadrature's own
way to the same numbers, a Kalman filter (`measured`, `kalman`), whose loops a gradient would take
slowly.

In units of the common factor times `CurveData.noise_scale` the noise has the covariance

    D + tau^2 R,   D_ii = 1 / unit_i^2,   R_ij = rho^|g_i - g_j|  (or the unit matrix)

with tau sqrt(1 - rho^2) half-Cauchy of scale the root mean square of D's square roots. A Cholesky
factor of it is taken at every step: quick for tens of points, out of the question for thousands.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emergence_stats.noise.beliefs import CORRELATED, NOISES

Array = np.ndarray
# NumPy arrays or PyTensor variables.
Tensor = Any

PREFIX = "measured_"


def noise_kind(noise: str, measured: bool) -> str:
    """What `models` calls this noise: of two parts where sd are known, in the quadrature's kinds.

    Examples
    --------
    >>> noise_kind("ar1", True), noise_kind("student_t", True), noise_kind("ou", False)
    ('measured_ar1', 'student_t', 'ou')
    """
    return PREFIX + noise if measured and noise in NOISES else noise


def is_measured(kind: str) -> bool:
    """Whether this is noise of two parts."""
    return kind.startswith(PREFIX)


def is_correlated(kind: str) -> bool:
    """Whether noise remembers."""
    return base_kind(kind) in CORRELATED


def base_kind(kind: str) -> str:
    """What users call it."""
    return kind.removeprefix(PREFIX)


def wander_scale(unit: Tensor) -> Tensor:
    """Scale of the wandering's prior: the root mean square of the measured sd."""
    return np.sqrt((unit**-2.0).mean())


def root_of(unit: Tensor, gap: Tensor, log_rho: Tensor, tau: Tensor) -> Tensor:
    """Cholesky factor of D + tau^2 R; NaN where rounding leaves none. Shape (draw, point, point).

    The first gap is not used; `log_rho` and `tau` have shape (draw, 1), or none in PyTensor.
    """
    place = (gap * 1.0).cumsum(axis=-1)
    apart = abs(place[:, None] - place[None, :])
    correlated = (tau * tau)[..., None] * np.exp(log_rho[..., None] * apart)
    if isinstance(correlated, np.ndarray):
        return _numpy_root(correlated + np.diag(unit**-2.0))
    import pytensor.tensor as pt
    from pytensor.tensor.linalg import cholesky

    return cholesky(correlated + pt.diag(unit**-2.0), on_error="nan")


def _numpy_root(covariance: Array) -> Array:
    good = np.isfinite(covariance).all(axis=(-2, -1))
    covariance = np.where(good[..., None, None], covariance, np.eye(covariance.shape[-1]))
    root = np.full(covariance.shape, np.nan)
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        for k, one in enumerate(covariance):
            try:
                root[k] = np.linalg.cholesky(one)
            except np.linalg.LinAlgError:
                good[k] = False
    return np.where(good[..., None, None], root, np.nan)


def whiten(root: Tensor, x: Tensor) -> Tensor:
    """root^-1 x along the last axis."""
    if isinstance(root, np.ndarray):
        usable = np.isfinite(root[..., :1, :1])
        safe = np.where(usable, root, np.eye(root.shape[-1]))
        solved = np.linalg.solve(safe, np.broadcast_to(x, root.shape[:-1])[..., None])[..., 0]
        return np.where(usable[..., 0], solved, np.nan)
    from pytensor.tensor.linalg import solve_triangular

    return solve_triangular(root, x, lower=True)


def log_determinant(root: Tensor) -> Tensor:
    """Of the covariance; shape (draw, 1), or none in PyTensor."""
    if isinstance(root, np.ndarray):
        return 2.0 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1, keepdims=True)
    import pytensor.tensor as pt

    return 2.0 * pt.log(pt.diagonal(root)).sum()
