"""Stochastic-gradient Langevin dynamics."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import Tensor

from emergence_stats.degeneracy.samplers.base import (
    Kernel,
    Potential,
    Randomness,
    StepInfo,
    dot,
    moved,
)


class SGLDState(NamedTuple):
    """Attributes: position, shape (chain, parameter)."""

    position: Tensor


def sgld_init(position: Tensor) -> SGLDState:
    """Start every chain at the rows of `position`."""
    return SGLDState(position.clone())


def sgld_step(
    state: SGLDState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
    temperature: float = 1.0,
) -> tuple[SGLDState, StepInfo]:
    """One step of stochastic-gradient Langevin dynamics.

    ``w <- w - (step_size / 2) * grad U(w) + sqrt(step_size * temperature) * xi``

    Targets exp(-U / temperature) as step_size -> 0. At a finite step it is too wide: the squared
    norm is stationary only if E[w . grad U] = d + (step_size / 4) E|grad U|^2, where the gradient
    is the noisy one. For a quadratic U = (n*beta H + gamma)/2 that gives, direction by direction,
    the excess of the mean loss term over its value under the target,

        (step_size / 8) * E[grad U . (grad U - pull)],    pull = gamma (w - w*),

    exactly with exact gradients, and up to the share of minibatch noise in directions softer than
    gamma otherwise. The info carries the term inside the expectation.

    References
    ----------
    Welling and Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics.
    """
    value = potential(state.position, index)
    noise, gradient = randomness.normal(state.position), value.gradient
    heat = dot(gradient, gradient) - dot(gradient, value.pull)
    noise_size = (step_size * temperature) ** 0.5
    position = moved(state.position, noise, noise_size, gradient, -0.5 * step_size)
    return SGLDState(position), StepInfo(value.excess_loss, 0.125 * step_size * heat, None)


def sgld_build(potential: Potential, step_size: float, *, temperature: float = 1.0) -> Kernel:
    """Bind the potential and the step size."""
    step = partial(sgld_step, potential=potential, step_size=step_size, temperature=temperature)
    return Kernel(sgld_init, step)
