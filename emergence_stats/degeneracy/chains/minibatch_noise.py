"""How much does the noise of minibatch gradients add to the mean loss?

What lives here: that amount, for the samplers that do not report it exactly at each step. What does
not: the closed forms for one direction (`samplers`).

Noise xi of the gradient of U adds ``1/2 xi . (h / (h + gamma)) heating(h + gamma) . xi`` near a
quadratic minimum, h the curvatures of n*beta*L. A sampler sees |xi|^2 but not the curvature of the
directions it lies in; counted as if gamma were small beside them all, the noise of SGHMC was
subtracted in full. A few Lanczos steps from xi give the quadratic form of any function of the
Hessian (Golub and Meurant's Gauss quadrature) without its eigenvectors.

References
----------
Golub and Meurant (2010), Matrices, Moments and Quadrature with Applications, chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers.baoab import baoab_heating

_MOST_LANCZOS_STEPS = 12
_SETTLED = 0.01
_HESSIAN_SAMPLES = 256
# Of the distance from w*, over which gradients are differenced. On a trained transformer of 100,000
# parameters forward differences come within 0.4% of central ones three times as wide; at 0.05
# even central ones were 5% low, as the curvature changes over a chain's distance from w*.
_REACH = 1e-3


def unreported_bias(
    sampler: str, localisation: float, step_size: float, friction: float
) -> Callable[[Tensor], Tensor] | None:
    """What noise of unit variance in a direction of curvature h + gamma adds beyond the report.

    None for a sampler that reports it all (or does so as well as it is known).
    """
    if sampler == "sghmc":
        # It reports step / (8 a), which is right where gamma is small beside h.
        return lambda total: -step_size / (8.0 * friction) * localisation / total
    if sampler == "baoab":
        return lambda total: (
            0.5 * (1.0 - localisation / total) * baoab_heating(total, step_size, friction)
        )
    return None


def quadratic_form(
    posterior: LocalisedPosterior,
    positions: Tensor,
    vectors: Tensor,
    function: Callable[[Tensor], Tensor],
    rows: Tensor,
    largest: float,
    *,
    settled: float = _SETTLED,
) -> Tensor:
    """``xi . function(Hessian of U) . xi`` over ``|xi|^2``, one number a chain.

    Parameters
    ----------
    positions : Tensor, shape (chain, parameter)
    vectors : Tensor, shape (chain, parameter)
        xi.
    function : callable
        Of curvatures, which are held between gamma and `largest`.
    rows : Tensor, shape (batch,)
        Samples over which the Hessian is taken.
    largest : float
        The stiffest curvature for which the function has a meaning.
    settled : float
        The last Lanczos step changed the form by at most this share of it, or was the twelfth.
    """
    landscape, gamma = posterior.landscape, posterior.localisation
    away = torch.linalg.vector_norm(positions - landscape.centre, dim=-1, keepdim=True)
    smallest = 1e-3 * torch.linalg.vector_norm(landscape.centre).clamp(min=1.0)
    reach = torch.where(away > 0.0, _REACH * away, smallest)
    _, here = landscape.batch_gradients(positions, rows)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-30)
    unit, before = vectors / length, torch.zeros_like(vectors)
    # Two vectors of the basis are held: quadrature bears the orthogonality that is lost.
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    form = torch.full((len(unit),), math.nan, dtype=torch.float64)
    for _ in range(min(_MOST_LANCZOS_STEPS, landscape.num_parameters)):
        _, there = landscape.batch_gradients(positions + reach * unit, rows)
        product = (there - here) * (posterior.scale / reach) + gamma * unit
        if beside:
            product -= length * before
        along = (product * unit).sum(dim=-1, keepdim=True)
        diagonal.append(along[:, 0].double())
        last, form = form, _quadrature(diagonal, beside, function, gamma, largest)
        if float((form - last).abs().sum()) <= settled * float(form.abs().sum()):
            break
        product -= along * unit
        length = torch.linalg.vector_norm(product, dim=-1, keepdim=True)
        beside.append(length[:, 0].double())
        before, unit = unit, product / length.clamp(min=1e-30)
    return form


def _quadrature(
    diagonal: list[Tensor],
    beside: list[Tensor],
    function: Callable[[Tensor], Tensor],
    gamma: float,
    largest: float,
) -> Tensor:
    """The form as these Lanczos steps know it, one number a chain."""
    matrix = torch.diag_embed(torch.stack(diagonal, dim=-1))
    if beside:
        edge = torch.stack(beside, dim=-1)
        matrix += torch.diag_embed(edge, offset=1) + torch.diag_embed(edge, offset=-1)
    values, columns = torch.linalg.eigh(matrix.cpu())
    weight = columns[:, 0, :].square()
    return (weight * function(values.clamp(gamma, largest))).sum(dim=-1)


def hessian_rows(posterior: LocalisedPosterior, batch_size: int, seed: int) -> Tensor:
    """Samples for the Hessian: a batch of them, and at least a few hundred."""
    landscape = posterior.landscape
    generator = torch.Generator().manual_seed(seed)
    size = min(landscape.num_samples, max(batch_size, _HESSIAN_SAMPLES))
    return torch.randperm(landscape.num_samples, generator=generator)[:size].to(landscape.device)
