"""Stochastic-gradient Langevin dynamics with Adam's averaged gradient and metric."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.samplers.base import (
    Kernel,
    Potential,
    Randomness,
    StepInfo,
    dot,
    moved,
)
from emergence_stats.degeneracy.samplers.psgld import (
    followed,
    psgld_preconditioner,
)

# Adam's own 0.9 lags ten steps behind and so multiplies the effect of a finite step by 19 (see
# `adam_sgld_step`); 0.5 averages over two and multiplies it by 3.
MOMENTUM_DECAY = 0.5


class AdamSGLDState(NamedTuple):
    """State of Adam-preconditioned SGLD.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
    momentum : Tensor, shape (chain, parameter)
        Running mean of the loss term's gradient.
    second_moment : Tensor, shape (chain, parameter)
        Running mean of the squared gradient of U.
    steps_taken : int
    """

    position: Tensor
    momentum: Tensor
    second_moment: Tensor
    steps_taken: int


def adam_sgld_init(position: Tensor, second_moment: Tensor | None = None) -> AdamSGLDState:
    """Start at the rows of `position`, the averaged gradient at zero, as at a minimum.

    Without a second moment the first gradient supplies it, as in `psgld_init`.
    """
    momentum = torch.zeros_like(position)
    if second_moment is None:
        return AdamSGLDState(position.clone(), momentum, torch.zeros_like(position), 0)
    moments = second_moment.expand_as(position)
    return AdamSGLDState(position.clone(), momentum, moments, 1)


def adam_sgld_step(
    state: AdamSGLDState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
    floor: float = 1e-5,
    momentum_decay: float = MOMENTUM_DECAY,
    decay: float = 0.99,
    adaptation_steps: int | None = None,
    temperature: float = 1.0,
) -> tuple[AdamSGLDState, StepInfo]:
    """One step of SGLD whose drift is Adam's.

    ``m <- b m + (1 - b) (grad U - pull)``, ``v <- decay v + (1 - decay) (grad U)^2``
    ``w <- w - (step_size / 2) G (m + pull) + sqrt(step_size temperature G) xi``,
    ``G = 1 / (sqrt(v) + floor)``, ``b`` the momentum decay

    Targets exp(-U / temperature) as step_size -> 0 once the metric rests (`psgld_step`). The exact
    pull of the localisation is not averaged. Stationarity of |w|^2 and of w . m gives, near a
    quadratic minimum, the excess of the mean loss term over its value under the target,

        (step_size / 8) E[m G (m + pull)] + (step_size / 4) (b / (1 - b)) E[m G m],

    exactly without localisation, noise of the minibatch included: the averaging does not lower the
    heat of that noise, and its lag widens the draws by (1 + b) / (1 - b) times what SGLD does. That
    is why `MOMENTUM_DECAY` is less than Adam's.

    References
    ----------
    Kingma and Ba (2015), Adam, arXiv:1412.6980. Kim, Song and Liang (2020), Stochastic gradient
    Langevin dynamics algorithms with adaptive drifts, arXiv:2009.09535.
    """
    value = potential(state.position, index)
    noise, gradient, pull = randomness.normal(state.position), value.gradient, value.pull
    second_moment = followed(
        state.second_moment, gradient, state.steps_taken, decay, adaptation_steps
    )
    metric = psgld_preconditioner(second_moment, floor)
    momentum = torch.lerp(state.momentum, gradient - pull, 1.0 - momentum_decay)
    drift = momentum + pull
    scaled = momentum * metric
    lag = momentum_decay / (1.0 - momentum_decay)
    bias = 0.125 * step_size * (dot(scaled, drift) + 2.0 * lag * dot(scaled, momentum))
    noise_size = (step_size * temperature) ** 0.5
    drift.mul_(metric)
    position = moved(state.position, noise.mul_(metric.sqrt()), noise_size, drift, -0.5 * step_size)
    following = AdamSGLDState(position, momentum, second_moment, state.steps_taken + 1)
    return following, StepInfo(value.excess_loss, bias, None)


def adam_sgld_build(
    potential: Potential,
    step_size: float,
    *,
    second_moment: Tensor | None = None,
    floor: float = 1e-5,
    momentum_decay: float = MOMENTUM_DECAY,
    decay: float = 0.99,
    adaptation_steps: int | None = None,
    temperature: float = 1.0,
) -> Kernel:
    """Bind the potential, the step size and the hyperparameters of drift and metric."""
    step = partial(
        adam_sgld_step,
        potential=potential,
        step_size=step_size,
        floor=floor,
        momentum_decay=momentum_decay,
        decay=decay,
        adaptation_steps=adaptation_steps,
        temperature=temperature,
    )
    return Kernel(partial(adam_sgld_init, second_moment=second_moment), step)
