"""What products of a symmetric matrix with vectors tell of its spectrum.

What lives here: Lanczos runs with full reorthogonalisation, the share of a spectrum that lies near
zero, and the Hutch++ trace. What does not: the Hessian whose products they are (`curvature`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal, solve_banded
from torch import Tensor

Array = NDArray[np.float64]


def lanczos(
    products: Callable[[Tensor], Tensor], start: Tensor, num_steps: int
) -> tuple[Array, Array, float]:
    """The tridiagonal matrix that H becomes on the Krylov space of `start`.

    Parameters
    ----------
    products : callable
        H times the rows of a matrix.
    start : Tensor, shape (parameter,)
    num_steps : int

    Returns
    -------
    tuple of (ndarray, ndarray, float)
        Diagonal (step,), off-diagonal (step - 1,), and the next off-diagonal entry, with which the
        residual of a Ritz vector is bounded. Shorter where the Krylov space is exhausted.

    Notes
    -----
    Every new vector is made orthogonal to all before it, twice; without that, rounding lets
    converged eigenvalues appear again, and their weights would be wrong.
    """
    basis = torch.empty(num_steps, len(start), dtype=start.dtype, device=start.device)
    diagonal: list[float] = []
    beside: list[float] = []
    basis[0] = start / torch.linalg.vector_norm(start)
    tolerance = 50.0 * torch.finfo(start.dtype).eps
    for step in range(num_steps):
        vector = products(basis[step][None])[0]
        diagonal.append(float(vector.double() @ basis[step].double()))
        for _ in range(2):
            before = basis[: step + 1]
            vector = vector - before.T @ (before @ vector)
        length = float(torch.linalg.vector_norm(vector.double()))
        scale = max(map(abs, [*diagonal, *beside]))
        if length <= tolerance * scale or step + 1 == num_steps:
            break
        beside.append(length)
        basis[step + 1] = vector / length
    return np.array(diagonal), np.array(beside), length


def weight_within(
    diagonal: Array, beside: Array, residual: float, bound: float
) -> tuple[float, float]:
    """Between which values does the weight of eigenvalues in [-bound, bound] lie?

    The inequalities of Chebyshev, Markov and Stieltjes: of all measures with the moments that a
    Lanczos run knows, the quadrature with a node fixed at x (Golub 1973) has the least weight below
    x and, with the node's own, the greatest up to x.

    Parameters
    ----------
    diagonal, beside, residual
        As `lanczos` returns them.
    bound : float

    Returns
    -------
    tuple of (float, float)
        Least and greatest share of the start vector's squared length.

    Examples
    --------
    Eigenvalues 0 (weight 0.5), 1 and 2 are known exactly after three steps:

    >>> matrix = torch.diag(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    >>> start = torch.tensor([2.0**0.5, 1.0, 1.0], dtype=torch.float64)
    >>> run = lanczos(lambda rows: rows @ matrix, start, 3)
    >>> [round(value, 6) for value in weight_within(*run, 0.1)]
    [0.5, 0.5]
    """
    scale = max(float(np.abs(diagonal).max()), float(np.abs(beside).max(initial=0.0)), 1e-300)
    if residual <= 1e-5 * scale:  # exhausted: the nodes are the eigenvalues
        values, vectors = eigh_tridiagonal(diagonal, beside)
        inside = float((vectors[0] ** 2)[np.abs(values) <= bound].sum())
        return inside, inside

    def below(x: float) -> tuple[float, float]:
        last = np.zeros(len(diagonal))
        last[-1] = residual**2
        bands = np.vstack([[0.0, *beside], diagonal - x, [*beside, 0.0]])
        shift = float(solve_banded((1, 1), bands, last)[-1])
        values, vectors = eigh_tridiagonal([*diagonal, x + shift], [*beside, residual])
        fixed = int(np.abs(values - x).argmin())
        weights = vectors[0] ** 2
        return float(weights[:fixed].sum()), float(weights[: fixed + 1].sum())

    low, high = below(-bound), below(bound)
    return max(high[0] - low[1], 0.0), min(high[1] - low[0], 1.0)


def hutch_plus_plus(
    products: Callable[[Tensor], Tensor], num_probes: int, generator: torch.Generator
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Trace, squared Frobenius norm and effective rank, each with a standard error.

    With Q an orthonormal basis of H S and P = 1 - Q Q', S and G random signs:

        trace H    =  trace(Q' H Q)  +  E[ (P g)' H (P g) ]
        |H|_F^2    =  |H Q|_F^2      +  E[ |H P g|^2 ]

    The expectations are means over the columns of G, from which the errors are had; that of their
    ratio by the jackknife.

    Parameters
    ----------
    products : HessianProducts
    num_probes : int
        Columns of S and of G.
    generator : torch.Generator
    """
    centre = products.landscape.centre  # type: ignore[attr-defined]
    size = len(centre)

    def signs() -> Tensor:
        bits = torch.randint(0, 2, (num_probes, size), generator=generator, dtype=torch.int8)
        return (2 * bits - 1).to(centre)

    sketch = products(signs())
    basis = torch.linalg.qr(sketch.double().T, mode="reduced").Q.to(centre)  # (parameter, probe)
    inside = products(basis.T.contiguous())  # rows H q
    rest = signs()
    rest = rest - (rest @ basis) @ basis.T
    outside = products(rest)
    trace_inside = float((inside.double() * basis.T.double()).sum())
    square_inside = float(inside.double().square().sum())
    trace_each = (outside.double() * rest.double()).sum(dim=1).cpu().numpy()
    square_each = outside.double().square().sum(dim=1).cpu().numpy()
    trace = trace_inside + float(trace_each.mean())
    square = square_inside + float(square_each.mean())
    left_out_trace = trace_inside + _means_without(trace_each)
    left_out_square = square_inside + _means_without(square_each)
    ratios = left_out_trace**2 / np.maximum(left_out_square, 1e-300)
    ratio = trace**2 / square if square > 0 else 0.0
    return (
        (trace, standard_error(trace_each)),
        (square, standard_error(square_each)),
        (ratio, (num_probes - 1) / math.sqrt(num_probes) * float(ratios.std(ddof=1))),
    )


def _means_without(values: Array) -> Array:
    return (values.sum() - values) / (len(values) - 1)


def standard_error(values: Array) -> float:
    """Of the mean of independent values."""
    return float(values.std(ddof=1)) / math.sqrt(len(values))
