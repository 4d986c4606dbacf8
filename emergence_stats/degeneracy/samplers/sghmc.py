"""Stochastic-gradient Hamiltonian Monte Carlo with friction."""

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
)

FRICTION = 0.1


class SGHMCState(NamedTuple):
    """State of stochastic-gradient Hamiltonian Monte Carlo.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
    velocity : Tensor, shape (chain, parameter)
        How far the last step went.
    """

    position: Tensor
    velocity: Tensor


def sghmc_init(position: Tensor) -> SGHMCState:
    """Start every chain at the rows of `position`, at rest."""
    return SGHMCState(position.clone(), torch.zeros_like(position))


def sghmc_step(
    state: SGHMCState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
    friction: float = FRICTION,
    temperature: float = 1.0,
) -> tuple[SGHMCState, StepInfo]:
    """One step of Hamiltonian dynamics with friction.

    ``v <- (1 - a) v - (step_size / 2) grad U(w) + sqrt(a step_size temperature) xi``
    ``w <- w + v``,  ``a`` the friction

    This is the paper's form with learning rate step_size / 2 and no estimate of the gradient noise,
    whose heat is reported instead; with a = 1 it is `sgld_step`. Soft directions relax 1 / a times
    as fast as SGLD's, and minibatch noise heats 1 / a times as much. For a quadratic U with
    curvature h and gradient noise of variance s^2, E[h w^2] is ::

        (1 + step_size s^2 / (4 a)) / (1 - step_size h / (4 (2 - a)))

    so that the excess of the mean loss term over its value under the target is exactly

        (step_size / (8 a)) E[g . g_loss] - ((1 - a) / (2 a)) E[v . g_loss],   g_loss = g - pull,

    the second term telling the curvature's share of E[g . g_loss] from the noise's.

    References
    ----------
    Chen, Fox and Guestrin (2014), Stochastic gradient Hamiltonian Monte Carlo, arXiv:1402.4102,
    equation 15.
    """
    value = potential(state.position, index)
    keep, noise_size = 1.0 - friction, (friction * step_size * temperature) ** 0.5
    noise, gradient, pull = randomness.normal(state.position), value.gradient, value.pull
    # E[g . g_loss] and E[v . g_loss], each as a difference that needs no further vector.
    heat = dot(gradient, gradient) - dot(gradient, pull)
    work = dot(state.velocity, gradient) - dot(state.velocity, pull)
    velocity = noise.mul_(noise_size).add_(gradient, alpha=-0.5 * step_size)
    velocity.add_(state.velocity, alpha=keep)
    position = state.position + velocity
    bias = heat * (step_size / (8.0 * friction)) - work * (keep / (2.0 * friction))
    return SGHMCState(position, velocity), StepInfo(value.excess_loss, bias, None)


def sghmc_build(
    potential: Potential,
    step_size: float,
    *,
    friction: float = FRICTION,
    temperature: float = 1.0,
) -> Kernel:
    """Bind the potential, the step size and the friction."""
    step = partial(
        sghmc_step,
        potential=potential,
        step_size=step_size,
        friction=friction,
        temperature=temperature,
    )
    return Kernel(sghmc_init, step)
