"""Stochastic-gradient Langevin dynamics in an RMSprop metric."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emergence_stats.degeneracy.compiled import block_sum, step_kernel
from emergence_stats.degeneracy.samplers.base import (
    Kernel,
    Potential,
    Randomness,
    StepInfo,
    dot,
    in_one_pass,
    moved,
    one_a_chain,
    own,
    read_by_kernel,
    single,
)
from emergence_stats.degeneracy.samplers.philox import BLOCK, normals, room_for_normals


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


def resting_metric(
    second_moment: Tensor | None, floor: float, adaptation_steps: int | None
) -> Tensor | None:
    """The metric where it never changes, so that no step works it out again."""
    if second_moment is None or adaptation_steps != 0:
        return None
    return psgld_preconditioner(second_moment, floor)


def psgld_init(
    position: Tensor, second_moment: Tensor | None = None, *, copied: bool = True
) -> PSGLDState:
    """Start at the rows of `position`; without a second moment the first gradient supplies it.

    At a minimum that gradient is zero and the first step would be enormous: give a second moment.
    It is copied unless no step will write over it.
    """
    if second_moment is None:
        return PSGLDState(position.clone(), torch.zeros_like(position), 0)
    moments = second_moment.expand_as(position)
    moments = moments.clone(memory_format=torch.contiguous_format) if copied else moments
    return PSGLDState(position.clone(), moments, 1)


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
    resting: Tensor | None = None,
    overwrite: bool = False,
) -> tuple[PSGLDState, StepInfo]:
    """One step of SGLD in the RMSprop metric.

    ``v <- decay * v + (1 - decay) * (grad U)^2``,  ``G = 1 / (sqrt(v) + floor)``
    ``w <- w - (step_size / 2) * G * grad U(w) + sqrt(step_size * temperature * G) * xi``

    Prior and loss pass through the same metric, so the target is that of `sgld_step`. A metric that
    keeps following the position would need a further drift term, which the paper drops; here the
    metric stops moving after `adaptation_steps` instead (never, when None), and the target is then
    exact as step_size -> 0. `resting` is one that never moves (`resting_metric`).

    References
    ----------
    Li, Chen, Carlson and Carin (2016), Preconditioned stochastic gradient Langevin dynamics for
    deep neural networks, arXiv:1512.07666.
    """
    value = potential(state.position, index)
    noise_size = (step_size * temperature) ** 0.5
    second_moment = state.second_moment
    if resting is not None and len(resting) == 1 and in_one_pass(value, randomness):
        position = own(state.position, overwrite)
        heat, room = one_a_chain(position)
        read, scaling = read_by_kernel(position, value, randomness), resting[0].numpy()
        _one_pass(*read, scaling, *single(0.5 * step_size, noise_size), room)
    elif resting is None and second_moment.is_contiguous() and in_one_pass(value, randomness):
        taken = state.steps_taken
        moves = adaptation_steps is None or taken < adaptation_steps
        share = 1.0 if taken == 0 else (1.0 - decay) * moves
        position, second_moment = (own(one, overwrite) for one in (state.position, second_moment))
        heat, room = one_a_chain(position)
        read = read_by_kernel(position, value, randomness)
        numbers = single(share, floor, 0.5 * step_size, noise_size)
        _one_pass_adapting(*read, second_moment.numpy(), *numbers, room)
    else:
        noise, gradient = randomness.normal(state.position), value.gradient
        if resting is None:
            taken = state.steps_taken
            second_moment = followed(second_moment, gradient, taken, decay, adaptation_steps)
            metric = psgld_preconditioner(second_moment, floor)
        else:
            metric = resting
        drift = gradient * metric
        heat = dot(drift, gradient) - dot(drift, value.pull)
        position = moved(
            state.position, noise.mul_(metric.sqrt()), noise_size, drift, -0.5 * step_size
        )
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
        resting=resting_metric(second_moment, floor, adaptation_steps),
    )
    init = partial(psgld_init, second_moment=second_moment, copied=adaptation_steps != 0)
    return Kernel(init, step, partial(step, overwrite=True))


@step_kernel
def _one_pass(
    position: np.ndarray,
    loss_gradient: np.ndarray,
    centre: np.ndarray,
    scale: float,
    localisation: float,
    draws: np.ndarray,
    keys: np.ndarray,
    metric: np.ndarray,
    half_step: float,
    noise_size: float,
    heat: np.ndarray,
) -> None:
    """`psgld_step` over `position` in a metric that rests; `heat` is g . G (g - pull)."""
    noise, numbers = room_for_normals()
    for chain in range(len(position)):
        total = 0.0
        for first in range(0, len(centre), BLOCK):
            normals(noise, numbers, first, draws[chain], keys[chain])
            size = min(BLOCK, len(centre) - first)
            w, w_star = position[chain, first : first + size], centre[first : first + size]
            of_loss, scaled = (
                loss_gradient[chain, first : first + size],
                metric[first : first + size],
            )
            for i in range(size):
                pull = localisation * (w[i] - w_star[i])
                g = scale * of_loss[i] + pull
                drift = scaled[i] * g
                w[i] = w[i] - half_step * drift + noise_size * np.sqrt(scaled[i]) * noise[i]
                noise[i] = drift * (g - pull)
            total += block_sum(noise, size)
        heat[chain] = total
        draws[chain] += 1


@step_kernel
def _one_pass_adapting(
    position: np.ndarray,
    loss_gradient: np.ndarray,
    centre: np.ndarray,
    scale: float,
    localisation: float,
    draws: np.ndarray,
    keys: np.ndarray,
    second_moment: np.ndarray,
    share: float,
    floor: float,
    half_step: float,
    noise_size: float,
    heat: np.ndarray,
) -> None:
    """The same in a metric of each chain's own, of which this gradient makes so large a share."""
    noise, numbers = room_for_normals()
    one = np.float32(1.0)
    for chain in range(len(position)):
        total = 0.0
        for first in range(0, len(centre), BLOCK):
            normals(noise, numbers, first, draws[chain], keys[chain])
            size = min(BLOCK, len(centre) - first)
            w, w_star = position[chain, first : first + size], centre[first : first + size]
            of_loss = loss_gradient[chain, first : first + size]
            v = second_moment[chain, first : first + size]
            for i in range(size):
                pull = localisation * (w[i] - w_star[i])
                g = scale * of_loss[i] + pull
                v[i] = v[i] + share * (g * g - v[i])
                scaled = one / (np.sqrt(v[i]) + floor)
                drift = scaled * g
                w[i] = w[i] - half_step * drift + noise_size * np.sqrt(scaled) * noise[i]
                noise[i] = drift * (g - pull)
            total += block_sum(noise, size)
        heat[chain] = total
        draws[chain] += 1
