"""More than one coordinate: products of powers.

What lives here: gradient flow in such a product along its balanced ray, where one coordinate is
left, and where it ends from anywhere else. What does not: learning coefficients (`exact`), deep
linear networks (`saddles`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from emergence_stats.checks import check_numbers, check_positive, check_positive_numbers
from emergence_stats.errors import InputError
from emergence_stats.theory.potential import EffectivePotential

Array = np.ndarray


def balanced_potential(
    exponents: Sequence[float], *, strength: float = 1.0, start: float = 1.0
) -> EffectivePotential:
    """Which effective potential does a product of powers have along its balanced ray?

        K(w) = g |w_1|^k_1 ... |w_d|^k_d,     w_i = sqrt(k_i / n) q,   n = k_1 + ... + k_d

    w_i^2 / k_i - w_j^2 / k_j is conserved by gradient flow, so a flow on that ray stays there, and
    with the distance q from the origin K = c q^n / n, c = n g prod (k_i / n)^(k_i / 2).

    **The order is the sum of the exponents, the learning coefficient is not 1/n**: it is
    1 / max k_i (`exact.normal_crossing`), since K vanishes on whole planes. A relaxation of order n
    beside a learning coefficient above 1/n is therefore what a product of coordinates on the ray
    looks like. Off the ray the flow ends on a plane w_j = 0 with the others away from zero: there
    both see k_j alone, the late order is k_j and the *local* learning coefficient 1/k_j, so that
    they agree again, while for a while before the order is that of the sum (`end_of_flow`).

    Parameters
    ----------
    exponents : sequence of float
        k_i of the loss, positive, their sum at least 2.
    strength : float
        g > 0.
    start : float
        Distance from the origin at the start.

    Raises
    ------
    InputError
        If an exponent is not positive, or they sum to less than 2.

    References
    ----------
    Watanabe (2009), Algebraic Geometry and Statistical Learning Theory (normal crossings); the
    conserved differences: Du, Hu and Lee (2018), Algorithmic regularization in learning deep
    homogeneous models, arXiv 1806.00900.

    Examples
    --------
    >>> from emergence_stats.theory.exact import normal_crossing
    >>> potential = balanced_potential([2, 2])       # (w_1 w_2)^2
    >>> potential.order, potential.learning_coefficient, normal_crossing([2, 2])[0]
    (4.0, 0.25, 0.5)
    """
    k = np.atleast_1d(check_positive_numbers("exponents", exponents))
    n = float(k.sum()) if k.size else 0.0
    if n < 2.0:
        raise InputError(f"exponents: sum to {n:g}; at least 2 is needed for a smooth minimum")
    g = check_positive("strength", strength)
    log_c = math.log(n * g) + float((0.5 * k * np.log(k / n)).sum())
    return EffectivePotential(n, strength=math.exp(log_c), start=start)


def conserved_differences(weights: ArrayLike, exponents: Sequence[float]) -> np.ndarray:
    """Which numbers does gradient flow in a product of powers leave unchanged?

        w_i^2 / k_i - w_1^2 / k_1,   i = 2, ..., d

    Parameters
    ----------
    weights : array_like, shape (..., coordinate)
    exponents : sequence of float
        k_i > 0.

    Returns
    -------
    numpy.ndarray, shape (..., coordinate - 1)

    References
    ----------
    Du, Hu and Lee (2018), arXiv 1806.00900; Arora, Cohen and Hazan (2018), On the optimization of
    deep networks, arXiv 1802.06509.

    Examples
    --------
    >>> conserved_differences([1.0, 2.0], [2, 2])
    array([1.5])
    """
    w, k = (
        check_numbers("weights", weights),
        np.atleast_1d(check_positive_numbers("exponents", exponents)),
    )
    if w.ndim == 0 or k.ndim != 1 or w.shape[-1] != k.size:
        raise InputError(f"weights: shape {w.shape} does not end in the {k.size} exponents")
    scaled = w**2 / k
    return np.asarray(scaled[..., 1:] - scaled[..., :1])


class FlowEnd(NamedTuple):
    """Where gradient flow in a product of powers comes to rest.

    Attributes
    ----------
    weights : numpy.ndarray, shape (coordinate,)
        Zero where a coordinate vanishes, else what is left of it, with its sign.
    order : float
        Of the last part of the relaxation: the sum of the vanishing coordinates' exponents.
    learning_coefficient : float
        Local, at these weights: 1 over the largest exponent among those that vanish.
    """

    weights: Array
    order: float
    learning_coefficient: float


def end_of_flow(weights: ArrayLike, exponents: Sequence[float]) -> FlowEnd:
    """Where does gradient flow in a product of powers end, and what does one see there?

    The smallest of w_i^2 / k_i vanishes and takes the same off all others, by
    `conserved_differences`. From a generic start that is one coordinate j: order k_j and local
    coefficient 1/k_j agree. Equal ones vanish together: the order is their sum, the coefficient 1
    over the largest, and the two agree no more.

    Parameters
    ----------
    weights : array_like, shape (coordinate,)
        At the start, none of them zero.
    exponents : sequence of float
        k_i > 0.

    Returns
    -------
    FlowEnd

    Raises
    ------
    InputError
        If a weight is zero, where the flow rests already, or the shapes do not fit.

    References
    ----------
    Du, Hu and Lee (2018), arXiv 1806.00900, for what is conserved; Watanabe (2009), Algebraic
    Geometry and Statistical Learning Theory, for the coefficient of a normal crossing.

    Examples
    --------
    >>> end_of_flow([1.0, 2.0], [2, 2])
    FlowEnd(weights=array([0.        , 1.73205081]), order=2.0, learning_coefficient=0.5)
    >>> end_of_flow([1.0, 1.0], [2, 2])[1:]
    (4.0, 0.5)
    """
    conserved_differences(weights, exponents)  # which checks both
    w, k = check_numbers("weights", weights), np.asarray(exponents, dtype=float)
    if w.ndim != 1 or (w == 0.0).any():
        raise InputError("weights: give one row of numbers, none of them zero, where nothing moves")
    size = w**2 / k
    left = size - size.min()
    gone = left <= 1e-12 * size
    kept = np.where(gone, 0.0, np.sign(w) * np.sqrt(k * np.where(gone, 0.0, left)))
    return FlowEnd(kept, float(k[gone].sum()), 1.0 / float(k[gone].max()))
