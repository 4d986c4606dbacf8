"""Stochastic-gradient Langevin dynamics in an RMSprop metric."""

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


class PSGLDState(NamedTuple):
    """State of preconditioned SGLD.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
    second_moment : Tensor, shape (chain, parameter)
        Running mean of the squared gradient of U.
    steps_taken : int
    """

    position: Tensor
    second_moment: Tensor
    steps_taken: int


def psgld_preconditioner(second_moment: Tensor, floor: float) -> Tensor:
    """Which metric scales each parameter's step: ``1 / (sqrt(second_moment) + floor)``."""
    return second_moment.sqrt().add_(floor).reciprocal_()


def followed(
    second_moment: Tensor, gradient: Tensor, steps_taken: int, decay: float, steps: int | None
) -> Tensor:
    """The running mean of squared gradients after one more, or as it is once `steps` are taken."""
    if steps_taken == 0:
        return gradient.square()
    if steps is None or steps_taken < steps:
        return torch.lerp(second_moment, gradient.square(), 1.0 - decay)
    return second_moment


def psgld_init(position: Tensor, second_moment: Tensor | None = None) -> PSGLDState:
    """Start at the rows of `position`; without a second moment the first gradient supplies it.

    At a minimum that gradient is zero and the first step would be enormous: give a second moment.
    """
    if second_moment is None:
        return PSGLDState(position.clone(), torch.zeros_like(position), 0)
    return PSGLDState(position.clone(), second_moment.expand_as(position), 1)


def psgld_step(
    state: PSGLDState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
    floor: float = 1e-5,
    decay: float = 0.99,
    adaptation_steps: int | None = None,
    temperature: float = 1.0,
) -> tuple[PSGLDState, StepInfo]:
    """One step of SGLD in the RMSprop metric.

    ``v <- decay * v + (1 - decay) * (grad U)^2``,  ``G = 1 / (sqrt(v) + floor)``
    ``w <- w - (step_size / 2) * G * grad U(w) + sqrt(step_size * temperature * G) * xi``

    Prior and loss pass through the same metric, so the target is that of `sgld_step`. A metric that
    keeps following the position would need a further drift term, which the paper drops; here the
    metric stops moving after `adaptation_steps` instead (never, when None), and the target is then
    exact as step_size -> 0.

    References
    ----------
    Li, Chen, Carlson and Carin (2016), Preconditioned stochastic gradient Langevin dynamics for
    deep neural networks, arXiv:1512.07666.
    """
    value = potential(state.position, index)
    noise, gradient = randomness.normal(state.position), value.gradient
    second_moment = followed(
        state.second_moment, gradient, state.steps_taken, decay, adaptation_steps
    )
    metric = psgld_preconditioner(second_moment, floor)
    drift = gradient * metric
    heat = dot(drift, gradient) - dot(drift, value.pull)
    noise_size = (step_size * temperature) ** 0.5
    position = moved(state.position, noise.mul_(metric.sqrt()), noise_size, drift, -0.5 * step_size)
    following = PSGLDState(position, second_moment, state.steps_taken + 1)
    return following, StepInfo(value.excess_loss, 0.125 * step_size * heat, None)


def psgld_build(
    potential: Potential,
    step_size: float,
    *,
    second_moment: Tensor | None = None,
    floor: float = 1e-5,
    decay: float = 0.99,
    adaptation_steps: int | None = None,
    temperature: float = 1.0,
) -> Kernel:
    """Bind the potential, the step size and the metric's hyperparameters."""
    step = partial(
        psgld_step,
        potential=potential,
        step_size=step_size,
        floor=floor,
        decay=decay,
        adaptation_steps=adaptation_steps,
        temperature=temperature,
    )
    return Kernel(partial(psgld_init, second_moment=second_moment), step)
