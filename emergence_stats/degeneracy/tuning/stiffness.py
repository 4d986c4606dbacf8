"""How stiff is the potential, and how noisy are its minibatch gradients?

What lives here: the largest curvature by power iteration, the smallest where that is cheap, and the
variance of minibatch gradients, each measured for the choice of settings (`tuning`). What does not:
spectra with error bars, which describe a landscape rather than a step size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.samplers import Streams

_DENSE_UP_TO = 64
_POWER_ITERATIONS = 12
# The standard error of a variance from so many is a quarter of it (with 8, half of it, and steps
# of one network differed twofold by seed).
_NOISE_BATCHES = 32


def largest_curvature(
    landscape: LossLandscape,
    position: Tensor,
    rows: Tensor,
    *,
    scale: float,
    localisation: float,
    metric: Tensor | None = None,
    start: Tensor | None = None,
    seed: int = 0,
) -> tuple[float, Tensor]:
    """Which is the stiffest direction of the potential, and how stiff is it?

    Power iteration on ``G^(1/2) (scale * H + localisation) G^(1/2)``, the Hessian-vector products
    by central differences of the gradient over the width the posterior has in that direction.

    Parameters
    ----------
    position : Tensor, shape (parameter,)
    rows : Tensor, shape (batch,)
        Samples over which the Hessian is taken.
    metric : Tensor, shape (parameter,), optional
        The diagonal of G.
    start : Tensor, shape (parameter,), optional
        A direction to begin with, such as the stiffest one nearby; a random one when left out.

    Returns
    -------
    tuple of (float, Tensor of shape (parameter,))
    """
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(len(position), generator=generator, dtype=torch.float64).to(position)
    vector /= torch.linalg.vector_norm(vector)
    if start is not None:  # with a little of any other direction, which may have become stiffer
        vector = (start + 0.1 * vector) / torch.linalg.vector_norm(start + 0.1 * vector)
    root = None if metric is None else metric.sqrt()
    widest = 1e-2 * max(float(torch.linalg.vector_norm(position)), 1.0)
    width = 0.1 * widest
    curvature = 0.0
    for _ in range(_POWER_ITERATIONS):
        direction = vector if root is None else vector * root
        length = max(float(torch.linalg.vector_norm(direction)), 1e-30)
        offset = direction * (width / length)
        places = torch.stack([position + offset, position - offset])
        ahead, behind = landscape.batch_gradients(places, rows)[1]
        product = (ahead - behind).mul_(0.5 * scale * length / width)
        product.add_(direction, alpha=localisation)
        if root is not None:
            product *= root
        previous, curvature = curvature, float(torch.linalg.vector_norm(product))
        if not math.isfinite(curvature) or curvature == 0.0:
            break
        vector = product.div_(curvature)
        stiffness = curvature * length**-2  # back to the plain metric, for the width
        width = min(widest, 0.5 / math.sqrt(max(stiffness, 1e-30)))
        if abs(curvature - previous) < 0.02 * curvature:
            break
    return curvature, vector


def softest_curvature(landscape: LossLandscape, rows: Tensor) -> float:
    """Smallest Hessian eigenvalue at w*, by a dense Hessian where that is cheap, else 0."""
    count = landscape.num_parameters
    if count > _DENSE_UP_TO:
        return 0.0
    width = 1e-3 * max(float(torch.linalg.vector_norm(landscape.centre)), 1.0)
    steps = torch.eye(count, dtype=landscape.centre.dtype, device=landscape.device) * width
    positions = torch.cat([landscape.centre + steps, landscape.centre - steps])
    _, gradients = landscape.batch_gradients(positions, rows)
    hessian = (gradients[:count] - gradients[count:]).double() / (2.0 * width)
    return max(0.0, float(torch.linalg.eigvalsh(0.5 * (hessian + hessian.T))[0]))


def gradient_noise(
    landscape: LossLandscape,
    position: Tensor,
    vector: Tensor,
    *,
    scale: float,
    batch_size: int,
    seed: int,
    purpose: int,
    squares: Tensor | None = None,
) -> float:
    """What does a minibatch add to the gradient here, from a few independent ones?

    Returns the relative heating of the direction `vector` per unit of step size, a quarter of the
    variance of the potential's gradient along it. The mean squared gradient of each parameter is
    added to `squares`.
    """
    if batch_size >= landscape.num_samples:
        return 0.0
    streams = Streams(seed, _NOISE_BATCHES, landscape.device, purpose=purpose)
    index = streams.batch(landscape.num_samples, batch_size)
    assert index is not None
    along = []
    for rows in index.split(landscape.chains_at_once(_NOISE_BATCHES)):
        for gradient in landscape.batch_gradients(position.expand(len(rows), -1), rows)[1]:
            along.append(float(gradient @ vector))
            if squares is not None:
                squares.addcmul_(gradient, gradient, value=scale**2 / _NOISE_BATCHES)
    variance = torch.tensor(along, dtype=torch.float64).var()
    return 0.25 * scale**2 * float(variance)
