"""Kernels that sample a potential: SGLD, RMSprop-preconditioned SGLD and MALA.

What lives here: for each kernel a frozen state, `init`, `step` and `build`, on the positions of all
chains stacked as (chain, parameter). What does not: the potential they sample (`posterior`, where
the scaling is explained) and the choice of step size (`tuning`).

State is what the next step needs; info is diagnostics only. Each step evaluates the potential once.
`step_size` is the variance of the noise that one step of plain SGLD adds to a parameter.

Every chain has a random stream of its own, drawn in the same order however chains are evaluated,
so a run does not depend on whether chains were stacked or taken in sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from emergence_stats.degeneracy.posterior import PotentialValue

Potential = Callable[[Tensor, Tensor | None], PotentialValue]


class Randomness(Protocol):
    """Where a step gets its random numbers."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (chain, parameter) of `like`."""

    def uniform(self) -> Tensor:
        """One uniform number a chain, double precision."""


class Streams:
    """One independent random stream a chain.

    Parameters
    ----------
    seed : int
    num_chains : int
    device : torch.device
    purpose : int
        Streams of the same seed and different purpose are independent of each other.
    """

    def __init__(
        self, seed: int, num_chains: int, device: torch.device | str = "cpu", purpose: int = 0
    ) -> None:
        self.device = torch.device(device)
        self._generators = []
        for child in np.random.SeedSequence([seed, purpose]).spawn(num_chains):
            generator = torch.Generator(self.device)
            generator.manual_seed(int(child.generate_state(1, np.uint64)[0] >> 1))
            self._generators.append(generator)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (chain, parameter) of `like`."""
        noise = torch.empty_like(like)
        for row, generator in zip(noise, self._generators, strict=True):
            row.normal_(generator=generator)
        return noise

    def uniform(self) -> Tensor:
        """One uniform number a chain, double precision."""
        draws = [
            torch.rand((), generator=generator, device=self.device, dtype=torch.float64)
            for generator in self._generators
        ]
        return torch.stack(draws)

    def batch(self, num_samples: int, batch_size: int) -> Tensor | None:
        """Which samples does each chain see next? None when a batch is all of them."""
        if batch_size >= num_samples:
            return None
        rows = [
            torch.randint(num_samples, (batch_size,), generator=generator, device=self.device)
            for generator in self._generators
        ]
        return torch.stack(rows)


class Kernel(NamedTuple):
    """A sampler with its hyperparameters bound.

    Attributes
    ----------
    init : callable
        ``init(position) -> state``
    step : callable
        ``step(state, index, randomness) -> (state, info)``
    """

    init: Callable[[Tensor], Any]
    step: Callable[[Any, Tensor | None, Randomness], tuple[Any, StepInfo]]


class StepInfo(NamedTuple):
    """What one step observed.

    Attributes
    ----------
    excess_loss : Tensor, shape (chain,)
        L(w) - L(w*) at the position *before* an SGLD step, on a batch drawn independently of it;
        for MALA at the position after it.
    discretisation_bias : Tensor, shape (chain,)
        How much the finite step and the noise of the minibatch gradient add to n*beta times the
        excess loss, on average, near a quadratic minimum; zero for MALA. See `sgld_step`.
    acceptance : Tensor or None, shape (chain,)
        Probability with which the proposal was accepted (MALA).
    """

    excess_loss: Tensor
    discretisation_bias: Tensor
    acceptance: Tensor | None


# ------------------------------------------------------------------------------------------- SGLD


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
    noise = randomness.normal(state.position)
    position = torch.add(state.position, value.gradient, alpha=-0.5 * step_size)
    position.add_(noise, alpha=(step_size * temperature) ** 0.5)
    bias = 0.125 * step_size * _dot(value.gradient, value.gradient - value.pull)
    return SGLDState(position), StepInfo(value.excess_loss, bias, None)


def sgld_build(potential: Potential, step_size: float, *, temperature: float = 1.0) -> Kernel:
    """Bind the potential and the step size."""
    step = partial(sgld_step, potential=potential, step_size=step_size, temperature=temperature)
    return Kernel(sgld_init, step)


# ------------------------------------------------------------------- RMSprop-preconditioned SGLD


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


def psgld_init(position: Tensor, second_moment: Tensor | None = None) -> PSGLDState:
    """Start at the rows of `position`; without a second moment the first gradient supplies it.

    At a minimum that gradient is zero and the first step would be enormous: give a second moment.
    """
    if second_moment is None:
        return PSGLDState(position.clone(), torch.zeros_like(position), 0)
    return PSGLDState(position.clone(), second_moment.expand_as(position).clone(), 1)


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
    noise = randomness.normal(state.position)
    squared = value.gradient.square()
    if state.steps_taken == 0:
        second_moment = squared
    elif adaptation_steps is None or state.steps_taken < adaptation_steps:
        second_moment = torch.lerp(state.second_moment, squared, 1.0 - decay)
    else:
        second_moment = state.second_moment
    metric = psgld_preconditioner(second_moment, floor)
    bias = 0.125 * step_size * _dot(value.gradient * metric, value.gradient - value.pull)
    position = torch.addcmul(state.position, metric, value.gradient, value=-0.5 * step_size)
    position.addcmul_(metric.sqrt_(), noise, value=(step_size * temperature) ** 0.5)
    following = PSGLDState(position, second_moment, state.steps_taken + 1)
    return following, StepInfo(value.excess_loss, bias, None)


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


# ------------------------------------------------------------------------------------------- MALA


class MALAState(NamedTuple):
    """State of the Metropolis-adjusted Langevin algorithm.

    Attributes
    ----------
    position : Tensor, shape (chain, parameter)
    gradient : Tensor, shape (chain, parameter)
        grad U there.
    energy, excess_loss : Tensor, shape (chain,)
        U and L(w) - L(w*) there.
    """

    position: Tensor
    gradient: Tensor
    energy: Tensor
    excess_loss: Tensor


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
    mean_gradient = (state.gradient + value.gradient).mul_(0.5 * step_size).double()
    cross = (mean_gradient * noise).sum(dim=-1)
    ratio = (2.0 * step_size**0.5 * cross - mean_gradient.square().sum(dim=-1)) / (2.0 * step_size)
    log_acceptance = state.energy - value.energy + ratio
    # A proposal of infinite or undefined energy is never accepted.
    acceptance = torch.nan_to_num(log_acceptance, nan=-torch.inf).clamp(max=0.0).exp()
    accepted = randomness.uniform() < acceptance
    column = accepted[:, None]
    following = MALAState(
        torch.where(column, position, state.position),
        torch.where(column, value.gradient, state.gradient),
        torch.where(accepted, value.energy, state.energy),
        torch.where(accepted, value.excess_loss, state.excess_loss),
    )
    return following, StepInfo(following.excess_loss, torch.zeros_like(acceptance), acceptance)


def mala_build(potential: Potential, step_size: float) -> Kernel:
    """Bind the potential and the step size."""
    return Kernel(
        partial(mala_init, potential=potential),
        partial(mala_step, potential=potential, step_size=step_size),
    )


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.vecdot(left, right, dim=-1).double()


SAMPLERS = ("sgld", "psgld", "mala")
