"""The Metropolis-adjusted Langevin algorithm, the reference over the full data.

Every fourth step is shorter than asked for, by `SHORTER` in turn. Where a degenerate potential
turns steep, a step that suits its flat part is refused both on the way in and on the way out, and
chains enter the steep part rarely and then stay for long. A sequence of steps fixed beforehand
leaves the target as exact as one length does.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.samplers.base import Kernel, Potential, Randomness, StepInfo

SHORTER = (0.25, 0.0625, 0.015625)
_EVERY = 4


class MALAState(NamedTuple):
    """State of the Metropolis-adjusted Langevin algorithm.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
    gradient : Tensor, shape (chain, parameter)
        grad U there.
    energy, excess_loss : Tensor, shape (chain,)
        U and L(w) - L(w*) there.
    steps_taken : int
    """

    position: Tensor
    gradient: Tensor
    energy: Tensor
    excess_loss: Tensor
    steps_taken: int = 0


def mala_init(position: Tensor, *, potential: Potential) -> MALAState:
    """Start every chain at the rows of `position`, where the potential is evaluated once."""
    value = potential(position, None)
    return MALAState(position.clone(), value.gradient, value.energy, value.excess_loss)


def mala_step(
    state: MALAState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
) -> tuple[MALAState, StepInfo]:
    """One Metropolis-adjusted Langevin step, exact at any step size.

    The proposal is that of `sgld_step`, accepted with probability
    ``min(1, exp(U(w) - U(w') + log q(w | w') - log q(w' | w)))``. Only the full data make it exact,
    so `index` must be None.

    References
    ----------
    Roberts and Tweedie (1996), Exponential convergence of Langevin distributions and their discrete
    approximations. In high dimension an acceptance rate of 0.574 is best (Roberts and Rosenthal
    1998).
    """
    if index is not None:
        raise ValueError("MALA needs the potential over all samples; give index=None")
    noise = randomness.normal(state.position)
    position = torch.add(state.position, state.gradient, alpha=-0.5 * step_size)
    position.add_(noise, alpha=step_size**0.5)
    value = potential(position, None)
    # With r = (step/2)(g + g'), log q(w|w') - log q(w'|w) = (2 sqrt(step) r.xi - |r|^2) / (2 step):
    # the squared noise cancels on paper, not after rounding in many dimensions.
    gradient, energy = value.gradient, value.energy
    mean_gradient = (state.gradient + gradient).mul_(0.5 * step_size).double()
    cross = (mean_gradient * noise).sum(dim=-1)
    ratio = (2.0 * step_size**0.5 * cross - mean_gradient.square().sum(dim=-1)) / (2.0 * step_size)
    log_acceptance = state.energy - energy + ratio
    # A proposal of infinite or undefined energy is never accepted.
    acceptance = torch.nan_to_num(log_acceptance, nan=-torch.inf).clamp(max=0.0).exp()
    accepted = randomness.uniform() < acceptance
    column = accepted[:, None]
    following = MALAState(
        torch.where(column, position, state.position),
        torch.where(column, gradient, state.gradient),
        torch.where(accepted, energy, state.energy),
        torch.where(accepted, value.excess_loss, state.excess_loss),
        state.steps_taken + 1,
    )
    return following, StepInfo(following.excess_loss, torch.zeros_like(acceptance), acceptance)


def mala_build(potential: Potential, step_size: float, *, vary: bool = True) -> Kernel:
    """Bind the potential and the step size; every fourth step is shorter unless `vary` is False."""
    step = partial(_varied_step if vary else mala_step, potential=potential, step_size=step_size)
    return Kernel(partial(mala_init, potential=potential), step)


def _varied_step(
    state: MALAState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
) -> tuple[MALAState, StepInfo]:
    round_, place = divmod(state.steps_taken, _EVERY)
    if place == _EVERY - 1:
        step_size *= SHORTER[round_ % len(SHORTER)]
    return mala_step(state, index, randomness, potential=potential, step_size=step_size)
