"""Chains brought to rest, while the localisation and a step that suits are found.

What lives here: `burn_in`, the way from a checkpoint to where its posterior lives. What does not:
settings found at w* alone (`tuning`), and what chains record once they are there (`chains`).

Where chains come to rest the loss is curved otherwise than at w*, by a factor of ten in networks
that are trained on little, so the step follows the curvature while they go: short blocks of steps,
and after each the largest curvature where one chain stands.

The localisation left to us is a rule of the checkpoint and its data, and of nothing else, so that
every call asks about the same posterior; rms is the root of the mean squared parameter:

- *wide*, gamma = 1 / (4 rms)^2, where steps are so cheap that chains can go that far, and where
  under it they lose on average at most `LOCAL` of what training gained: the loss of a network with
  random numbers of the same size for parameters, less that of w*. The estimate is then hardly one
  of the localisation.
- *near*, gamma = (4 / rms)^2, otherwise: chains keep within about a quarter of the length of w*,
  and the estimate is the coefficient at that localisation. Under a wide one the parameters of such
  a network are mostly noise, and what is sampled is no longer the checkpoint's neighbourhood.
"""

from __future__ import annotations

import math
import time
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import Streams
from emergence_stats.degeneracy.samplers.baoab import FRICTION
from emergence_stats.degeneracy.tuning.kernels import CHARACTER, build_kernel
from emergence_stats.degeneracy.tuning.pilots import PILOT_PURPOSE, STIFFNESS
from emergence_stats.degeneracy.tuning.stiffness import largest_curvature
from emergence_stats.degeneracy.tuning.tuning import Tuning
from emergence_stats.errors import InputError

SAMPLER = "baoab"
WIDE, NEAR = 1.0 / 16.0, 16.0  # localisations, times the mean squared parameter
LOCAL = 0.5
_WIDE = "wide: a prior four times as wide as the parameters"
_NEAR = "near: chains keep within about a quarter of the length of w*"
_ROWS = 256  # samples of which curvatures are taken
_RANDOM_NETWORKS = 4
_FIRST_BLOCK, _LONGEST_BLOCK = 5, 100  # steps
_CAUTIOUS = 4.0  # by which the first step is shorter than the curvature at w* allows
_STEADY = 1.5  # by which the largest curvature may grow over a block
_LONGEST = 3  # times the steps asked for, while it grows by more
_SHORTENINGS = 12
_TURNS, _SLOWEST = 8.0, 300  # radians a flat direction turns, and steps waited for that
# With little, chains that burn in go far along flat directions; more heats less on the record.
_LITTLE_FRICTION, _MOST_FRICTION = 0.01, 0.9


class BurnIn(NamedTuple):
    """Where chains came to rest, and with which settings.

    Attributes
    ----------
    tuning : Tuning
    positions : Tensor, shape (chain, parameter)
    num_steps : int
        Taken on the way, those in vain included.
    """

    tuning: Tuning
    positions: Tensor
    num_steps: int


def burn_in(
    landscape: LossLandscape,
    *,
    inverse_temperature: float,
    localisation: float | Literal["wide", "near"] | None,
    num_chains: int,
    batch_size: int,
    num_steps: int,
    affordable: bool,
    seed: int,
    shorter: float = 1.0,
    until: float = math.inf,
) -> BurnIn:
    """Bring chains to rest and find their settings; see the module's page.

    Parameters
    ----------
    localisation : float, "wide" or "near", optional
        gamma; when left out, near, or wide if that is `affordable` and the rule allows it.
    affordable : bool
        Whether chains can take the thousand steps or more that a wide one needs.
    num_steps : int
        Steps that a chain takes at least.
    shorter : float
        By how much steps are shorter than the curvature allows.
    until : float
        Of `time.monotonic`, when to stop at the next block.

    Raises
    ------
    InputError
        If no step keeps the loss finite.
    """
    scale = landscape.num_samples * inverse_temperature
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(landscape.num_samples, generator=generator)[:_ROWS]
    rows = rows.to(landscape.device)
    gained = math.inf
    if isinstance(localisation, int | float):
        gamma, why = float(localisation), "as given"
    else:
        size = mean_square(landscape)
        wide = affordable if localisation is None else localisation == "wide"
        gamma, why = (WIDE / size, _WIDE) if wide else (NEAR / size, _NEAR)
        if wide and localisation is None:
            gained = gained_by_training(landscape, rows)
    curvature, vector = largest_curvature(
        landscape, landscape.centre, rows, scale=scale, localisation=0.0, seed=seed
    )
    at_centre = curvature
    if not curvature + gamma > 0.0:
        raise InputError(
            "localisation is 0 and the loss is flat at w*, so no step size suits; give a "
            "localisation above zero"
        )
    stiffness = STIFFNESS * CHARACTER[SAMPLER].stability / shorter
    step_size = stiffness / (_CAUTIOUS * curvature + gamma)
    streams = Streams(seed, num_chains, landscape.device, purpose=PILOT_PURPOSE)
    positions = landscape.centre.expand(num_chains, -1)
    # n*beta*(L - L*) is half the number of parameters near a quadratic minimum.
    beyond = 10.0 * max(landscape.num_parameters, 4) + 1e3
    taken = settled = shortened = 0
    block, steady, wanted = _FIRST_BLOCK, False, num_steps
    while settled < wanted or (not steady and settled < _LONGEST * wanted):
        posterior = LocalisedPosterior(landscape, inverse_temperature, gamma)
        positions, excess = _run_block(posterior, step_size, positions, streams, batch_size, block)
        taken, settled = taken + block, settled + block
        if not scale * excess < beyond or not bool(torch.isfinite(positions).all()):
            shortened += 1
            if shortened > _SHORTENINGS:
                raise InputError(
                    f"no step size down to {step_size:.1e} keeps the loss finite near w*; raise "
                    f"localisation (now {gamma:.3g}) or set step_size"
                )
            # What was seen on the way out is no curvature of the posterior's.
            stiffness, step_size, curvature = 0.5 * stiffness, 0.25 * step_size, at_centre
            block, settled = _FIRST_BLOCK, 0
            positions = landscape.centre.expand(num_chains, -1)
            continue
        if excess > LOCAL * gained:
            gamma, gained, curvature = NEAR / size, math.inf, at_centre
            why = f"{_NEAR}; under a wide one they lose more than {LOCAL:.0%} of what it learned"
            block, settled = _FIRST_BLOCK, 0
        before = curvature
        for position in positions if affordable else positions[:1]:
            found, vector = largest_curvature(
                landscape, position, rows, scale=scale, localisation=0.0, seed=seed, start=vector
            )
            curvature = max(curvature, found)
        steady = curvature <= _STEADY * before
        step_size = min(stiffness / (curvature + gamma), 4.0 * step_size)
        # A flat direction turns by that much a step, and relaxes in some turns.
        turn = math.sqrt(0.5 * step_size * gamma)
        wanted = max(num_steps, int(_TURNS / max(turn, _TURNS / _SLOWEST)))
        block = min(2 * block, _LONGEST_BLOCK) if steady else _FIRST_BLOCK
        if time.monotonic() > until:
            break
    measured = {
        "largest_curvature_at_centre": at_centre / scale,
        "largest_potential_curvature_in_metric": curvature + gamma,
    }
    reasons = {
        "localisation": why,
        "step_size": f"{stiffness:.3g} over the largest curvature where chains came to rest",
    }
    posterior = posterior._replace(localisation=gamma)
    noisy = batch_size < landscape.num_samples
    friction = fitting_friction(gamma, step_size, FRICTION if noisy else _LITTLE_FRICTION)
    return BurnIn(Tuning(posterior, step_size, None, measured, reasons, friction), positions, taken)


def fitting_friction(localisation: float, step_size: float, least: float = FRICTION) -> float:
    """The friction at which a direction four times as stiff as a flat one relaxes fastest.

    Such a direction turns by ``sqrt(2 step_size gamma)`` a step. Softer ones count for little, and
    more friction heats less by minibatch noise. Under a weak localisation some is left.
    """
    return min(max(2.0 * math.sqrt(2.0 * step_size * localisation), least), _MOST_FRICTION)


def mean_square(landscape: LossLandscape) -> float:
    """Of the moving parameters of w*; 1 where all are zero."""
    size = float(landscape.centre.double().square().mean())
    return size if size > 1e-8 else 1.0


def is_wide(posterior: LocalisedPosterior) -> bool:
    """Whether the localisation is hardly stronger than the wide one, if at all."""
    return posterior.localisation * mean_square(posterior.landscape) < 2.0 * WIDE


def gained_by_training(landscape: LossLandscape, rows: Tensor) -> float:
    """By how much is the loss of these samples lower than with random parameters of their size?"""
    generator = torch.Generator().manual_seed(0)
    everywhere = float(landscape.centre.square().mean()) > 1e-8

    def redrawn(values: Tensor) -> Tensor:
        size = float(values.double().square().mean().sqrt()) if everywhere else 1.0
        return size * torch.randn(values.shape, generator=generator).to(values)

    named = landscape.as_dict(landscape.centre)
    trials = []
    for _ in range(_RANDOM_NETWORKS):
        parameters = {name: redrawn(values) for name, values in named.items()}
        with torch.no_grad():
            trials.append(float(landscape.loss_at(parameters, landscape.samples.take(rows))))
    return sorted(trials)[len(trials) // 2] - landscape.initial_loss


def _run_block(
    posterior: LocalisedPosterior,
    step_size: float,
    positions: Tensor,
    streams: Streams,
    batch_size: int,
    num_steps: int,
) -> tuple[Tensor, float]:
    """Where so many steps lead, and the mean excess loss over the second half of them."""
    friction = fitting_friction(posterior.localisation, step_size, least=_LITTLE_FRICTION)
    kernel = build_kernel(SAMPLER, posterior, step_size, None, friction=friction)
    state: Any = kernel.init(positions)
    seen = []
    with torch.no_grad():
        for _ in range(num_steps):
            index = streams.batch(posterior.landscape.num_samples, batch_size)
            state, info = kernel.step(state, index, streams)
            seen.append(info.excess_loss.mean())
    return state.position, float(torch.stack(seen[num_steps // 2 :]).mean())
