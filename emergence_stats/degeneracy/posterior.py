"""The localised tempered posterior, and the one page where its scaling is explained.

What lives here: the density that every sampler in this package targets, and its convention. What
does not: the loss as a function of a flat vector (`landscape`), and how to sample (`samplers`).

The convention
--------------
Data are n samples; L_n(w) is the *mean* loss over them; w* is the checkpoint. The target is

    p(w)  proportional to  exp( -n*beta * L_n(w) - (gamma / 2) * |w - w*|^2 )

so that the potential, its gradient and the estimate are

    U(w)      = n*beta * (L_n(w) - L_n(w*)) + (gamma / 2) * |w - w*|^2
    grad U(w) = n*beta * grad L_n(w) + gamma * (w - w*)
    lambda    = n*beta * ( E_p[L_n(w)] - L_n(w*) )

- **n is the number of samples in the data**, never the batch size. A minibatch of b samples enters
  only as an unbiased estimate of L_n and of its gradient: `loss_fn` returns the mean over the
  batch, and that mean is multiplied by the same n*beta whatever b is.
- **beta**, the inverse temperature, is 1 / log n unless given (Watanabe 2013): then lambda as
  defined above tends to the learning coefficient as n grows.
- **gamma**, the localisation, keeps the chain near w*. Near a non-degenerate minimum with Hessian
  eigenvalues h_i the expectation is known,

      lambda_gamma = 1/2 * sum_i  n*beta*h_i / (n*beta*h_i + gamma),

  which is d/2 when gamma is small beside every n*beta*h_i: a direction counts to the extent that
  the data hold it more firmly than the localisation does. Comparing two checkpoints therefore asks
  for the same n, beta and gamma at both.
- **The learning coefficient of a checkpoint** is, here, lambda at beta = 1 / log n and at the
  localisation of one rule (`tuning.burnin`), which looks at the checkpoint and its data only. With
  many samples it is the coefficient of singular learning theory, and what localisation is left
  hardly matters. A network of tens of thousands of parameters has none of its own at a few thousand
  samples: lambda goes on growing as gamma falls, in inverse proportion where localisation alone
  decides, and it is quoted *at* its localisation. `estimate_llc` and `sweep_llc` give this number.
  The slope of the mean loss against temperature, of `llc_by_temperature`, is the same number where
  the loss is quadratic about its minimum, and another where it is not; it is the one to take where
  w* is no minimum.
- **Losses are recorded as differences** L_batch(w) - L_batch(w*) on the *same* batch. Their mean is
  that of L_n(w) - L_n(w*), since batches are drawn independently of w, and the part of the
  minibatch noise that both share cancels. L_n(w*) itself is computed over all samples.
- **A batch whose loss is not the mean of its samples' losses**, such as a mean over tokens of which
  samples have different numbers, has no L_n of its own: L_n(w) is then the mean loss of batches
  drawn at random, which minibatches estimate without bias and, "over all samples", one partition
  into such batches does. From the loss of all tokens together it differs by a part in b.
- **Batches** are drawn afresh at every step, with replacement. Working through an epoch without
  replacement would make the loss on the next batch a held-out loss, a bias of the order of lambda.

References
----------
Watanabe (2013), A widely applicable Bayesian information criterion, arXiv:1208.6338.
Lau, Furman, Wang, Murfet and Wei (2023), The local learning coefficient, arXiv:2308.12108.
Wang, Hoogland, van Wingerden, Furman and Murfet (2024), Differentiation and specialization of
attention heads via the refined local learning coefficient, arXiv:2410.02984.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.errors import InputError


class PotentialValue(NamedTuple):
    """What the potential at the positions of all chains is made of.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
        Where it was evaluated.
    loss_gradient : Tensor, shape (chain, parameter)
        grad L, from a minibatch or from all samples.
    excess_loss : Tensor, shape (chain,), double precision
        L(w) - L(w*) on the same samples.
    centre : Tensor, shape (parameter,)
        w*.
    scale : float
        n*beta.
    localisation : float
        gamma.
    """

    position: Tensor
    loss_gradient: Tensor
    excess_loss: Tensor
    centre: Tensor
    scale: float = 1.0
    localisation: float = 0.0

    @property
    def pull(self) -> Tensor:
        """The part of grad U that the localisation exerts, gamma * (w - w*)."""
        return (self.position - self.centre).mul_(self.localisation)

    @property
    def gradient(self) -> Tensor:
        """The gradient of U, shape (chain, parameter)."""
        return self.pull.add_(self.loss_gradient, alpha=self.scale)

    @property
    def energy(self) -> Tensor:
        """U, up to the same minibatch noise, shape (chain,), double precision."""
        distance = torch.linalg.vector_norm(self.position - self.centre, dim=-1).double()
        return self.scale * self.excess_loss + 0.5 * self.localisation * distance.square()


class LocalisedPosterior(NamedTuple):
    """Which density do the chains sample?

    Attributes
    ----------
    landscape : LossLandscape
        The loss as a function of the moving parameters.
    inverse_temperature : float
        beta.
    localisation : float
        gamma, in units of one over a squared parameter.
    """

    landscape: LossLandscape
    inverse_temperature: float
    localisation: float

    @property
    def scale(self) -> float:
        """n*beta, what multiplies a mean loss."""
        return self.landscape.num_samples * self.inverse_temperature

    def potential(self, positions: Tensor, index: Tensor | None = None) -> PotentialValue:
        """U and grad U for every chain.

        Parameters
        ----------
        positions : Tensor, shape (chain, parameter)
        index : Tensor, shape (chain, batch), optional
            The samples of each chain's minibatch; all samples when left out.
        """
        landscape = self.landscape
        if index is None:
            losses, gradient = landscape.full_gradients(positions)
            excess = losses - landscape.initial_loss
        else:
            losses, gradient = landscape.batch_gradients(positions, index)
            excess = landscape.excess(losses, index)
        return PotentialValue(
            positions, gradient, excess, landscape.centre, self.scale, self.localisation
        )


def default_inverse_temperature(num_samples: int) -> float:
    """Which beta makes the estimate tend to the learning coefficient: 1 / log n.

    Examples
    --------
    >>> round(default_inverse_temperature(8192), 4)
    0.111
    """
    if num_samples < 3:
        raise InputError(
            f"data holds {num_samples} samples, too few for beta = 1 / log n; give at least 3 "
            "samples or set inverse_temperature"
        )
    return 1.0 / math.log(num_samples)
