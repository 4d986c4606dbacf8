"""How long a step may a sampler take here? Short pilot runs tell.

What lives here: the step size, and a preconditioned sampler's metric, by the rules on `tuning`'s
page. What does not: localisation (`tuning`), and what curvature and noise are (`stiffness`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import Streams, mala_build, psgld_preconditioner
from emergence_stats.degeneracy.tuning.kernels import (
    CHARACTER,
    PRECONDITIONED,
    Character,
    build_kernel,
    metric_floor,
)
from emergence_stats.degeneracy.tuning.stiffness import gradient_noise, largest_curvature
from emergence_stats.errors import InputError

STIFFNESS = 0.5
HEATING = 0.25
ACCEPTANCE = 0.574
PILOT_PURPOSE = 1
_PILOT_CHAINS = 2
# n*beta*(L - L*) is half the number of parameters in a quadratic minimum, at most all of them where
# the loss grows like |w - w*|, and with few of them five times as much by chance: a pilot beyond
# this has left, and curvature and noise there are not those of the posterior. (From the saddle of
# w1^2 w2^2 four of thirty BAOAB pilots led so far that steps of 1e-14 to 1e-88 were chosen.)
_LEFT, _LEFT_AT_LEAST = 10.0, 40.0
_MOST_AT_ONCE = 8.0  # by which a step is shortened before the next pilot says whether it is enough


def tune_step(
    posterior: LocalisedPosterior,
    sampler: str,
    stiffest: float,
    heat: float,
    second_moment: Tensor | None,
    rows: Tensor,
    batch_size: int,
    seed: int,
) -> tuple[float, Tensor | None, float, float, str]:
    """Step size, metric, curvature in that metric, heating per unit of step (-1: unknown), why."""
    landscape = posterior.landscape
    if stiffest <= 0.0:
        raise InputError(
            "localisation is 0 and the loss is flat at w*, so no step size suits; give a "
            "localisation above zero"
        )
    if sampler == "mala":
        return _tune_mala(posterior, stiffest, rows, seed)
    floor = metric_floor(posterior.localisation)
    character = CHARACTER.get(sampler, Character())
    stiffness = STIFFNESS * character.stability
    heat = heat * character.noise if sampler not in PRECONDITIONED else -1.0

    def stiffest_at(position: Tensor) -> tuple[float, Tensor]:
        metric = None
        if second_moment is not None:
            metric = psgld_preconditioner(second_moment[0], floor)
        return largest_curvature(
            landscape,
            position,
            rows,
            scale=posterior.scale,
            localisation=posterior.localisation,
            metric=metric,
            seed=seed,
        )

    curvature = stiffest if second_moment is None else stiffest_at(landscape.centre)[0]
    step_size = stiffness / curvature
    reason = f"{stiffness:.3g} over the largest curvature"
    by_noise = f"minibatch noise heats the stiffest direction by {HEATING:.0%}"
    if heat * step_size > HEATING:
        step_size, reason = HEATING / heat, by_noise
    for _ in range(12):
        led = pilot(posterior, sampler, step_size, second_moment, batch_size, seed)
        if led is None:
            step_size *= 0.25
            reason = "reduced until a pilot run stayed near w*"
            continue
        place, second_moment = led
        found, vector = stiffest_at(place)
        if not math.isfinite(found):  # finite still, and on its way out
            step_size *= 0.25
            reason = "reduced until a pilot run stayed where the curvature is finite"
            continue
        curvature = max(curvature, found) if second_moment is None else found
        if step_size * found <= 1.5 * stiffness:
            if second_moment is not None:
                return stiffness / found, second_moment, curvature, heat, reason
            # Where every sample is fitted, minibatches agree at w* and only there.
            there = gradient_noise(
                landscape,
                place,
                vector,
                scale=posterior.scale,
                batch_size=batch_size,
                seed=seed,
                purpose=PILOT_PURPOSE + 2,
            )
            if not math.isfinite(there):  # also on its way out
                step_size *= 0.25
                reason = "reduced until a pilot run stayed where the gradient noise is finite"
                continue
            heat = max(heat, there * character.noise)
            if heat * step_size > HEATING:
                step_size, reason = HEATING / heat, by_noise + " where a pilot run led"
            return step_size, second_moment, curvature, heat, reason
        step_size = min(max(stiffness / found, step_size / _MOST_AT_ONCE), 0.5 * step_size)
        reason = f"{stiffness:.3g} over the largest curvature where a pilot run led"
    raise InputError(
        f"no step size down to {step_size:.1e} keeps the loss finite near w*; raise localisation "
        f"(now {posterior.localisation:.3g}) or set step_size"
    )


def pilot(
    posterior: LocalisedPosterior,
    sampler: str,
    step_size: float,
    second_moment: Tensor | None,
    batch_size: int,
    seed: int,
) -> tuple[Tensor, Tensor | None] | None:
    """Where do a few steps lead? None when the loss rises beyond what a posterior knows.

    Returns where the first chain is, and the mean over chains of a metric's second moment.
    """
    landscape = posterior.landscape
    adapt = sampler in PRECONDITIONED
    kernel = build_kernel(sampler, posterior, step_size, second_moment, adapt=adapt)
    streams = Streams(seed, _PILOT_CHAINS, landscape.device, purpose=PILOT_PURPOSE + 1)
    state: Any = kernel.init(landscape.centre.expand(_PILOT_CHAINS, -1))
    for _ in range(60 if adapt else 20):
        index = streams.batch(landscape.num_samples, batch_size)
        state, info = kernel.step(state, index, streams)
        if not bool(torch.isfinite(info.excess_loss).all()):
            return None
    index = streams.batch(landscape.num_samples, batch_size)
    if not bool(torch.isfinite(state.position).all()) or _left(posterior, state.position, index):
        return None
    return state.position[0], state.second_moment.mean(dim=0, keepdim=True) if adapt else None


def _left(posterior: LocalisedPosterior, positions: Tensor, index: Tensor | None) -> bool:
    """Whether some chain has more loss than the posterior knows."""
    landscape = posterior.landscape
    beyond = max(_LEFT * landscape.num_parameters, _LEFT_AT_LEAST) / posterior.scale
    if index is not None:
        excess = landscape.excess(landscape.batch_losses(positions, index), index)
        if bool((excess < beyond).all()):
            return False
    # On a minibatch it may be the noise, so all samples are asked.
    return not bool((landscape.full_losses(positions) - landscape.initial_loss < beyond).all())


def _tune_mala(
    posterior: LocalisedPosterior, stiffest: float, rows: Tensor, seed: int
) -> tuple[float, Tensor | None, float, float, str]:
    """Stochastic approximation of the step at which the acceptance is 0.574."""
    landscape = posterior.landscape
    logarithm = math.log(STIFFNESS / stiffest)
    streams = Streams(seed, _PILOT_CHAINS, landscape.device, purpose=PILOT_PURPOSE + 1)
    position = landscape.centre.expand(_PILOT_CHAINS, -1)
    state: Any = mala_build(posterior.potential, 1.0).init(position)
    later: list[float] = []
    pilot_steps = 120
    for count in range(pilot_steps):
        kernel = mala_build(posterior.potential, math.exp(logarithm), vary=False)
        state, info = kernel.step(state, None, streams)
        assert info.acceptance is not None
        gain = 2.0 / (1.0 + count) ** 0.6
        logarithm += gain * (float(info.acceptance.mean()) - ACCEPTANCE)
        if count >= pilot_steps // 2:
            later.append(logarithm)
    step_size = math.exp(sum(later) / len(later))
    for place in state.position:
        found, _ = largest_curvature(
            landscape,
            place,
            rows,
            scale=posterior.scale,
            localisation=posterior.localisation,
            seed=seed,
        )
        stiffest = max(stiffest, found)
    if step_size * stiffest > 1.0:
        return 1.0 / stiffest, None, stiffest, -1.0, "one over the largest curvature"
    return step_size, None, stiffest, -1.0, f"acceptance {ACCEPTANCE} in a pilot run of MALA"
