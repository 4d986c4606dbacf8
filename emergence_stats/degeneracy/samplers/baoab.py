"""Underdamped Langevin dynamics by the BAOAB splitting."""

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
)

FRICTION = 0.1


class BAOABState(NamedTuple):
    """State of underdamped Langevin dynamics.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
    velocity : Tensor, shape (chain, parameter)
        In units of one step, before the kick that the gradient at `position` gives.
    """

    position: Tensor
    velocity: Tensor


def baoab_init(position: Tensor) -> BAOABState:
    """Start every chain at the rows of `position`, at rest."""
    return BAOABState(position.clone(), torch.zeros_like(position))


def baoab_step(
    state: BAOABState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
    friction: float = FRICTION,
    temperature: float = 1.0,
) -> tuple[BAOABState, StepInfo]:
    """One step of underdamped Langevin dynamics: kick, drift, friction, drift.

    ``v <- v - (step_size / 2) grad U(w)``, the two half kicks of neighbouring steps in one
    ``w <- w + v / 2``
    ``v <- c v + sqrt((1 - c^2) (step_size / 2) temperature) xi``,  ``c`` one less the friction
    ``w <- w + v / 2``

    The positions at which the gradient is taken have exactly the target's covariance where U is
    quadratic, at any stable step (``step_size h < 8``), so nothing is subtracted for the step; off
    a quadratic the error is of second order in the step (of fourth where friction is high), where
    that of SGLD and SGHMC is of first. Minibatch noise heats as in `sghmc_step`; what it adds is
    `baoab_heating`, from the noise measured along the chains (`minibatch_noise`).

    References
    ----------
    Leimkuhler and Matthews (2013), Rational construction of stochastic numerical methods for
    molecular sampling, Applied Mathematics Research eXpress 2013, 34-56.
    """
    value = potential(state.position, index)
    keep = 1.0 - friction
    noise_size = ((1.0 - keep**2) * 0.5 * step_size * temperature) ** 0.5
    noise = randomness.normal(state.position)
    kicked = torch.add(state.velocity, value.gradient, alpha=-0.5 * step_size)
    position = torch.add(state.position, kicked, alpha=0.5)
    velocity = noise.mul_(noise_size).add_(kicked, alpha=keep)
    position.add_(velocity, alpha=0.5)
    info = StepInfo(value.excess_loss, torch.zeros_like(value.excess_loss), None)
    return BAOABState(position, velocity), info


def baoab_heating(curvature: Tensor, step_size: float, friction: float = FRICTION) -> Tensor:
    """By how much does gradient noise of unit variance raise E[h w^2] in a direction?

    ``(step_size / 2) (2 - a) / (4 a) / (1 - step_size h / 8)``: the fixed point of the covariance
    of position and velocity, to which the kick adds the noise.

    Examples
    --------
    >>> round(float(baoab_heating(torch.tensor(0.0), 0.1, friction=1.0)), 4)  # step / 8
    0.0125
    """
    gain = 0.125 * step_size * (2.0 - friction) / friction
    return gain / (1.0 - 0.125 * step_size * curvature)


def baoab_build(
    potential: Potential,
    step_size: float,
    *,
    friction: float = FRICTION,
    temperature: float = 1.0,
) -> Kernel:
    """Bind the potential, the step size and the friction."""
    step = partial(
        baoab_step,
        potential=potential,
        step_size=step_size,
        friction=friction,
        temperature=temperature,
    )
    return Kernel(baoab_init, step)
