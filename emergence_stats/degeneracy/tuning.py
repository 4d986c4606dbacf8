"""Which step size, metric and localisation suit this landscape?

What lives here: the rules that turn curvature and gradient noise into settings. What does not: how
those two are measured (`stiffness`), and the chains that are then run (`llc`).

The rules, for settings left to us:

- *localisation*: the prior is as wide as the parameters themselves, gamma = 1 / rms(w*)^2 (1 where
  the parameters are zero). Where some direction may be flat, it is raised to the weakest gamma at
  which that direction still relaxes `RELAXATIONS` times within the draws asked for; otherwise the
  trace would drift throughout. A direction much softer than gamma is then not counted.
- *step size*: at most `STIFFNESS` divided by the largest curvature of the potential (in the
  sampler's metric), measured at w* and again where a short pilot run has led; and so small that the
  minibatch noise heats the stiffest direction by at most `HEATING`. Samplers other than SGLD scale
  both limits by their `CHARACTER`. What bias remains is estimated and subtracted (`samplers`). A
  pilot whose loss is not finite quarters the step.
- *MALA*: a pilot run moves the step until the acceptance is 0.57; but at most one divided by the
  largest curvature, at w* or where the pilot ended, since in few dimensions that acceptance is met
  by steps so large that the chain rarely enters, and then rarely leaves, the steep parts of a
  degenerate potential.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import (
    Kernel,
    Streams,
    adam_sgld_build,
    baoab_build,
    mala_build,
    psgld_build,
    psgld_preconditioner,
    sghmc_build,
    sgld_build,
    sgnht_build,
)
from emergence_stats.degeneracy.samplers.adam_sgld import MOMENTUM_DECAY
from emergence_stats.degeneracy.samplers.baoab import FRICTION as BAOAB_FRICTION
from emergence_stats.degeneracy.samplers.sghmc import FRICTION
from emergence_stats.degeneracy.samplers.sgnht import DIFFUSION
from emergence_stats.degeneracy.stiffness import (
    gradient_noise,
    largest_curvature,
    softest_curvature,
)
from emergence_stats.errors import InputError

STIFFNESS = 0.5
HEATING = 0.25
RELAXATIONS = 12.0
ACCEPTANCE = 0.574
PRECONDITIONED = ("psgld", "adam_sgld")
_PILOT_CHAINS = 2
_PILOT_PURPOSE = 1


class Character(NamedTuple):
    """How a sampler behaves beside SGLD with the same step size, near a quadratic minimum.

    Attributes
    ----------
    stability : float
        How much larger a step gives the same relative excess in the stiffest direction.
    noise : float
        How much more the noise of minibatches heats.
    speed : float
        How much faster a soft direction relaxes.
    """

    stability: float = 1.0
    noise: float = 1.0
    speed: float = 1.0


# From the closed forms in each sampler's docstring.
_HEAT = (2.0 - BAOAB_FRICTION) / (2.0 * BAOAB_FRICTION)
CHARACTER = {
    "adam_sgld": Character(stability=(1.0 - MOMENTUM_DECAY) / (1.0 + MOMENTUM_DECAY)),
    "sghmc": Character(2.0 - FRICTION, 1.0 / FRICTION, 1.0 / FRICTION),
    # No excess near a quadratic minimum; a quarter of the longest stable step leaves room.
    "baoab": Character(4.0, _HEAT, _HEAT),
    "sgnht": Character(2.0 - DIFFUSION, 1.0 / DIFFUSION, 1.0 / DIFFUSION),
}


class Tuning(NamedTuple):
    """Settings and how they came about.

    Attributes
    ----------
    posterior : LocalisedPosterior
    step_size : float
    second_moment : Tensor or None, shape (1, parameter)
        The metric of preconditioned SGLD.
    measured : dict
        Numbers on which the choices rest.
    reasons : dict of str to str
        A sentence for each setting.
    """

    posterior: LocalisedPosterior
    step_size: float
    second_moment: Tensor | None
    measured: dict[str, float]
    reasons: dict[str, str]

    def kernel(self, sampler: str, step_size: float | None = None) -> Kernel:
        """The sampler with these settings, or with another step size."""
        return build_kernel(
            sampler,
            self.posterior,
            self.step_size if step_size is None else step_size,
            self.second_moment,
        )


def build_kernel(
    sampler: str,
    posterior: LocalisedPosterior,
    step_size: float,
    second_moment: Tensor | None,
    *,
    adapt: bool = False,
) -> Kernel:
    """Bind a posterior and a step size to the named sampler."""
    if sampler == "mala":
        return mala_build(posterior.potential, step_size)
    if sampler in PRECONDITIONED:
        build = psgld_build if sampler == "psgld" else adam_sgld_build
        return build(
            posterior.potential,
            step_size,
            second_moment=second_moment,
            floor=_metric_floor(posterior.localisation),
            adaptation_steps=None if adapt else 0,
        )
    plain = {
        "sgld": sgld_build,
        "sghmc": sghmc_build,
        "sgnht": sgnht_build,
        "baoab": baoab_build,
    }
    return plain[sampler](posterior.potential, step_size)


def _metric_floor(localisation: float) -> float:
    # A direction without loss feels the localisation alone, whose gradient has this size.
    return max(math.sqrt(localisation), 1e-5)


def tune(
    landscape: LossLandscape,
    sampler: str,
    *,
    inverse_temperature: float,
    batch_size: int,
    num_steps: int,
    step_size: float | None,
    localisation: float | None,
    seed: int,
) -> Tuning:
    """Choose what the caller left open; see the module's page for the rules."""
    scale = landscape.num_samples * inverse_temperature
    generator = torch.Generator().manual_seed(seed)
    size = min(landscape.num_samples, max(batch_size, 256))
    rows = torch.randperm(landscape.num_samples, generator=generator)[:size].to(landscape.device)
    measured: dict[str, float] = {}
    reasons: dict[str, str] = {}

    stiffest, vector = largest_curvature(
        landscape, landscape.centre, rows, scale=scale, localisation=0.0, seed=seed
    )
    measured["largest_curvature_at_centre"] = stiffest / scale
    heat, noise = gradient_noise(
        landscape,
        landscape.centre,
        vector,
        scale=scale,
        batch_size=batch_size,
        seed=seed,
        purpose=_PILOT_PURPOSE,
    )
    if localisation is None:
        localisation, reasons["localisation"] = _choose_localisation(
            landscape, sampler, rows, stiffest, heat, scale, num_steps
        )
    else:
        reasons["localisation"] = "as given"
    posterior = LocalisedPosterior(landscape, inverse_temperature, localisation)
    second_moment = None
    if step_size is not None and sampler not in PRECONDITIONED:
        reasons["step_size"] = "as given"
        return Tuning(posterior, step_size, None, measured, reasons)

    if sampler in PRECONDITIONED:
        # Thermal motion adds about one curvature to the squared gradient; the pilot refines it.
        second_moment = (noise + localisation)[None]
    given = step_size
    tuned = _tune_step(
        posterior, sampler, stiffest + localisation, heat, second_moment, rows, batch_size, seed
    )
    step_size, second_moment, curvature, heat, reason = tuned
    measured["largest_potential_curvature_in_metric"] = curvature
    measured["heating_by_minibatch_noise"] = heat * step_size if heat >= 0.0 else math.nan
    if given is not None:
        step_size, reason = given, "as given"
    reasons["step_size"] = reason
    return Tuning(posterior, step_size, second_moment, measured, reasons)


def _choose_localisation(
    landscape: LossLandscape,
    sampler: str,
    rows: Tensor,
    stiffest: float,
    heat: float,
    scale: float,
    num_steps: int,
) -> tuple[float, str]:
    character = CHARACTER.get(sampler, Character())
    square = float(landscape.centre.double().square().mean())
    width = square if square > 1e-8 else 1.0
    natural = 1.0 / width
    quickness = character.speed * num_steps
    share = min(0.25, RELAXATIONS / (STIFFNESS * character.stability * quickness))
    # step_size * gamma * quickness = RELAXATIONS, for the step that each of the two limits allows.
    slowed_by_noise = RELAXATIONS / quickness * heat * character.noise / HEATING
    needed = max(share / (1.0 - share) * stiffest, slowed_by_noise)
    needed -= scale * softest_curvature(landscape, rows)
    if needed <= natural:
        return natural, "one over the mean squared parameter: as wide as the parameters themselves"
    return needed, (
        f"raised from {natural:.3g} (one over the mean squared parameter), so that flat directions "
        f"relax {RELAXATIONS:.0f} times in {num_steps} steps; with more draws it can be weaker"
    )


def _tune_step(
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
    floor = _metric_floor(posterior.localisation)
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
        pilot = _pilot(posterior, sampler, step_size, second_moment, batch_size, seed)
        if pilot is None:
            step_size *= 0.25
            reason = "reduced until a pilot run stayed finite"
            continue
        if second_moment is not None:
            moments = [state.second_moment.mean(dim=0, keepdim=True) for state in pilot]
            second_moment = torch.cat(moments).mean(dim=0, keepdim=True)
        place = pilot[0].position[0].clone()
        del pilot  # before anything else takes memory
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
            there, _ = gradient_noise(
                landscape,
                place,
                vector,
                scale=posterior.scale,
                batch_size=batch_size,
                seed=seed,
                purpose=_PILOT_PURPOSE + 2,
            )
            if not math.isfinite(there):  # also on its way out
                step_size *= 0.25
                reason = "reduced until a pilot run stayed where the gradient noise is finite"
                continue
            heat = max(heat, there * character.noise)
            if heat * step_size > HEATING:
                step_size, reason = HEATING / heat, by_noise + " where a pilot run led"
            return step_size, second_moment, curvature, heat, reason
        step_size = min(stiffness / found, 0.5 * step_size)
        reason = f"{stiffness:.3g} over the largest curvature where a pilot run led"
    raise InputError(
        f"no step size down to {step_size:.1e} keeps the loss finite near w*; raise localisation "
        f"(now {posterior.localisation:.3g}) or set step_size"
    )


def _pilot(
    posterior: LocalisedPosterior,
    sampler: str,
    step_size: float,
    second_moment: Tensor | None,
    batch_size: int,
    seed: int,
) -> list[Any] | None:
    """Where do a few steps lead? None when the loss stops being finite.

    States of as many chains together as are evaluated together.
    """
    landscape = posterior.landscape
    adapt = sampler in PRECONDITIONED
    steps = 60 if adapt else 20
    kernel = build_kernel(sampler, posterior, step_size, second_moment, adapt=adapt)
    step = kernel.step_over or kernel.step
    streams = Streams(seed, _PILOT_CHAINS, landscape.device, purpose=_PILOT_PURPOSE + 1)
    states = []
    for part in streams.split(landscape.chains_at_once(_PILOT_CHAINS)):
        state = kernel.init(landscape.centre.expand(len(part.draws), -1))
        for _ in range(steps):
            index = part.batch(landscape.num_samples, batch_size)
            state, info = step(state, index, part)
            if not bool(torch.isfinite(info.excess_loss).all()):
                return None
        if not bool(torch.isfinite(state.position).all()):
            return None
        states.append(state)
    return states


def still_finite(
    tuning: Tuning, sampler: str, step_size: float, batch_size: int, seed: int
) -> bool:
    """Does a short run with this step size keep the loss finite?"""
    pilot = _pilot(tuning.posterior, sampler, step_size, tuning.second_moment, batch_size, seed)
    return pilot is not None


def _tune_mala(
    posterior: LocalisedPosterior, stiffest: float, rows: Tensor, seed: int
) -> tuple[float, Tensor | None, float, float, str]:
    """Stochastic approximation of the step at which the acceptance is 0.574."""
    landscape = posterior.landscape
    logarithm = math.log(STIFFNESS / stiffest)
    streams = Streams(seed, _PILOT_CHAINS, landscape.device, purpose=_PILOT_PURPOSE + 1)
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
