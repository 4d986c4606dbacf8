"""The stochastic-gradient Nosé-Hoover thermostat."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.samplers.base import Kernel, Potential, Randomness, StepInfo, dot

DIFFUSION = 0.1
THERMOSTAT_RATE = 0.01


class SGNHTState(NamedTuple):
    """State of the stochastic-gradient Nosé-Hoover thermostat.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
    velocity : Tensor, shape (chain, parameter)
        How far the last step went.
    friction : Tensor, shape (chain,), double precision
        The thermostat.
    """

    position: Tensor
    velocity: Tensor
    friction: Tensor


def sgnht_init(position: Tensor, *, diffusion: float = DIFFUSION) -> SGNHTState:
    """Start every chain at the rows of `position`, at rest, the friction where noise is absent."""
    friction = torch.full(position.shape[:1], diffusion, dtype=torch.float64)
    return SGNHTState(position.clone(), torch.zeros_like(position), friction.to(position.device))


def sgnht_step(
    state: SGNHTState,
    index: Tensor | None,
    randomness: Randomness,
    *,
    potential: Potential,
    step_size: float,
    diffusion: float = DIFFUSION,
    thermostat_rate: float = THERMOSTAT_RATE,
    temperature: float = 1.0,
) -> tuple[SGNHTState, StepInfo]:
    """One step of Hamiltonian dynamics whose friction keeps the temperature.

    ``v <- (1 - a) v - (step_size / 2) grad U(w) + sqrt(diffusion step_size temperature) xi``
    ``w <- w + v``
    ``a <- a + thermostat_rate ((1 - a / 2) |v|^2 / (d temperature step_size / 2) - 1)``

    `sghmc_step` with a friction per chain that rises until minibatch noise of unknown size is
    carried off: exactly so when that noise is the same in every direction. Targets
    exp(-U / temperature) as step_size -> 0. Two departures from the paper: the rate of the
    thermostat, there step_size / 2, is a number of its own, so that rescaling the parameters
    changes nothing; and the factor 1 - a / 2, which tends to 1 there, makes d the mean of
    w . grad U at any step. The thermostat knows the sum over directions only. What the stiffest and
    noisiest are too hot by,

        B(part) = (step_size / (8 a)) E[g . part] - ((1 - a) / (2 a)) E[v . part]

    (`sghmc_step`; a is at least the diffusion here), the others are too cold by, so the mean loss
    term exceeds its value under the target by ``B(g_loss) - f B(g)``, f being the share of the loss
    in U.

    References
    ----------
    Ding, Fang, Babbush, Chen, Skeel and Neven (2014), Bayesian sampling using stochastic gradient
    thermostats, NeurIPS 27.
    """
    value = potential(state.position, index)
    noise, gradient, pull = randomness.normal(state.position), value.gradient, value.pull
    friction = state.friction[:, None].to(state.velocity.dtype)
    # In few dimensions the friction passes through zero; without noise its mean is the diffusion.
    carried = state.friction.clamp(min=diffusion)
    heat, drag = step_size / (8.0 * carried), (1.0 - carried) / (2.0 * carried)
    of_all = heat * dot(gradient, gradient) - drag * dot(state.velocity, gradient)
    of_pull = heat * dot(gradient, pull) - drag * dot(state.velocity, pull)
    share = (value.scale * value.excess_loss / value.energy.clamp(min=1e-30)).clamp(0.0, 1.0)
    noise.mul_((diffusion * step_size * temperature) ** 0.5)
    velocity = noise.add_(gradient, alpha=-0.5 * step_size)
    velocity.addcmul_(state.velocity, 1.0 - friction)
    warmth = dot(velocity, velocity) * (1.0 - 0.5 * state.friction)
    warmth /= velocity.shape[-1] * 0.5 * step_size * (temperature or 1.0)
    following = SGNHTState(
        state.position + velocity,
        velocity,
        state.friction + thermostat_rate * (warmth - 1.0),
    )
    return following, StepInfo(value.excess_loss, (1.0 - share) * of_all - of_pull, None)


def sgnht_build(
    potential: Potential,
    step_size: float,
    *,
    diffusion: float = DIFFUSION,
    thermostat_rate: float = THERMOSTAT_RATE,
    temperature: float = 1.0,
) -> Kernel:
    """Bind the potential, the step size and the thermostat's hyperparameters."""
    step = partial(
        sgnht_step,
        potential=potential,
        step_size=step_size,
        diffusion=diffusion,
        thermostat_rate=thermostat_rate,
        temperature=temperature,
    )
    return Kernel(partial(sgnht_init, diffusion=diffusion), step)
