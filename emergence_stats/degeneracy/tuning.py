"""Which step size, metric and localisation suit this landscape?

What lives here: the curvature and gradient noise at w*, and the rules that turn them into settings.
What does not: the chains that are then run (`llc`).

The rules, for settings left to us:

- *localisation*: the prior is as wide as the parameters themselves, gamma = 1 / rms(w*)^2 (1 where
  the parameters are zero). Where some direction may be flat, it is raised to the weakest gamma at
  which that direction still relaxes `RELAXATIONS` times within the draws asked for; otherwise the
  trace would drift throughout. A direction much softer than gamma is then not counted.
- *step size*: at most `STIFFNESS` divided by the largest curvature of the potential (in the
  sampler's metric), measured at w* and again where a short pilot run has led; and so small that the
  minibatch noise heats the stiffest direction by at most `HEATING`. What bias remains is estimated
  and subtracted (`samplers`). A pilot whose loss is not finite quarters the step.
- *MALA*: a pilot run moves the step until the acceptance is 0.57; but at most one divided by the
  largest curvature, since in few dimensions that acceptance is met by steps so large that the
  chain rarely enters, and then rarely leaves, the steep parts of a degenerate potential.
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
    mala_build,
    psgld_build,
    psgld_preconditioner,
    sgld_build,
)
from emergence_stats.errors import InputError

STIFFNESS = 0.5
HEATING = 0.25
RELAXATIONS = 12.0
ACCEPTANCE = 0.574
_DENSE_UP_TO = 64
_POWER_ITERATIONS = 12
_PILOT_CHAINS = 2
_NOISE_BATCHES = 8
_PILOT_PURPOSE = 1


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
    if sampler == "psgld":
        return psgld_build(
            posterior.potential,
            step_size,
            second_moment=second_moment,
            floor=_metric_floor(posterior.localisation),
            adaptation_steps=None if adapt else 0,
        )
    return sgld_build(posterior.potential, step_size)


def _metric_floor(localisation: float) -> float:
    # A direction without loss feels the localisation alone, whose gradient has this size.
    return max(math.sqrt(localisation), 1e-5)


def largest_curvature(
    landscape: LossLandscape,
    position: Tensor,
    rows: Tensor,
    *,
    scale: float,
    localisation: float,
    metric: Tensor | None = None,
    seed: int = 0,
) -> tuple[float, Tensor]:
    """Which is the stiffest direction of the potential, and how stiff is it?

    Power iteration on ``G^(1/2) (scale * H + localisation) G^(1/2)``, the Hessian-vector products
    by central differences of the gradient over the width the posterior has in that direction.

    Parameters
    ----------
    position : Tensor, shape (parameter,)
    rows : Tensor, shape (batch,)
        Samples over which the Hessian is taken.
    metric : Tensor, shape (parameter,), optional
        The diagonal of G.

    Returns
    -------
    tuple of (float, Tensor of shape (parameter,))
    """
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(landscape.num_parameters, generator=generator, dtype=torch.float64)
    vector = vector.to(position)
    vector /= torch.linalg.vector_norm(vector)
    root = None if metric is None else metric.sqrt()
    widest = 1e-2 * max(float(torch.linalg.vector_norm(position)), 1.0)
    width = 0.1 * widest
    curvature = 0.0
    for _ in range(_POWER_ITERATIONS):
        direction = vector if root is None else vector * root
        length = max(float(torch.linalg.vector_norm(direction)), 1e-30)
        offset = direction * (width / length)
        _, gradients = landscape.batch_gradients(
            torch.stack([position + offset, position - offset]), rows
        )
        product = (gradients[0] - gradients[1]) * (0.5 * scale * length / width)
        product = product.add_(direction, alpha=localisation)
        if root is not None:
            product *= root
        previous, curvature = curvature, float(torch.linalg.vector_norm(product))
        if not math.isfinite(curvature) or curvature == 0.0:
            break
        vector = product / curvature
        stiffness = curvature * length**-2  # back to the plain metric, for the width
        width = min(widest, 0.5 / math.sqrt(max(stiffness, 1e-30)))
        if abs(curvature - previous) < 0.02 * curvature:
            break
    return curvature, vector


def _softest_curvature(landscape: LossLandscape, rows: Tensor) -> float:
    """Smallest Hessian eigenvalue at w*, by a dense Hessian where that is cheap, else 0."""
    count = landscape.num_parameters
    if count > _DENSE_UP_TO:
        return 0.0
    width = 1e-3 * max(float(torch.linalg.vector_norm(landscape.centre)), 1.0)
    steps = torch.eye(count, dtype=landscape.centre.dtype, device=landscape.device) * width
    positions = torch.cat([landscape.centre + steps, landscape.centre - steps])
    _, gradients = landscape.batch_gradients(positions, rows)
    hessian = (gradients[:count] - gradients[count:]).double() / (2.0 * width)
    return max(0.0, float(torch.linalg.eigvalsh(0.5 * (hessian + hessian.T))[0]))


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
    heat, noise = _gradient_noise(landscape, vector, scale, batch_size, seed)
    if localisation is None:
        localisation, reasons["localisation"] = _choose_localisation(
            landscape, rows, stiffest, heat, scale, num_steps
        )
    else:
        reasons["localisation"] = "as given"
    posterior = LocalisedPosterior(landscape, inverse_temperature, localisation)
    second_moment = None
    if step_size is not None and sampler != "psgld":
        reasons["step_size"] = "as given"
        return Tuning(posterior, step_size, None, measured, reasons)

    if sampler == "psgld":
        # Thermal motion adds about one curvature to the squared gradient; the pilot refines it.
        second_moment = (noise + localisation)[None]
    given = step_size
    tuned = _tune_step(
        posterior, sampler, stiffest + localisation, heat, second_moment, rows, batch_size, seed
    )
    step_size, second_moment, curvature, reason = tuned
    measured["largest_potential_curvature_in_metric"] = curvature
    measured["heating_by_minibatch_noise"] = heat * step_size if sampler == "sgld" else math.nan
    if given is not None:
        step_size, reason = given, "as given"
    reasons["step_size"] = reason
    return Tuning(posterior, step_size, second_moment, measured, reasons)


def _gradient_noise(
    landscape: LossLandscape, vector: Tensor, scale: float, batch_size: int, seed: int
) -> tuple[float, Tensor]:
    """What does a minibatch add at w*, from a few independent ones?

    Returns the relative heating of the direction `vector` per unit of step size, a quarter of the
    variance of the potential's gradient along it, and the mean squared gradient of each parameter.
    """
    if batch_size >= landscape.num_samples:
        return 0.0, torch.zeros_like(landscape.centre)
    streams = Streams(seed, _NOISE_BATCHES, landscape.device, purpose=_PILOT_PURPOSE)
    index = streams.batch(landscape.num_samples, batch_size)
    assert index is not None
    _, gradients = landscape.batch_gradients(landscape.centre.expand(_NOISE_BATCHES, -1), index)
    heat = 0.25 * scale**2 * float((gradients @ vector).var())
    return heat, (scale * gradients).square_().mean(dim=0)


def _choose_localisation(
    landscape: LossLandscape,
    rows: Tensor,
    stiffest: float,
    heat: float,
    scale: float,
    num_steps: int,
) -> tuple[float, str]:
    square = float(landscape.centre.double().square().mean())
    width = square if square > 1e-8 else 1.0
    natural = 1.0 / width
    share = min(0.25, RELAXATIONS / (STIFFNESS * num_steps))
    # step_size * gamma * num_steps = RELAXATIONS, for the step that each of the two limits allows.
    needed = max(share / (1.0 - share) * stiffest, RELAXATIONS / num_steps * heat / HEATING)
    needed -= scale * _softest_curvature(landscape, rows)
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
) -> tuple[float, Tensor | None, float, str]:
    landscape = posterior.landscape
    if stiffest <= 0.0:
        raise InputError(
            "localisation is 0 and the loss is flat at w*, so no step size suits; give a "
            "localisation above zero"
        )
    if sampler == "mala":
        return _tune_mala(posterior, stiffest, seed)
    floor = _metric_floor(posterior.localisation)

    def curvature_at(position: Tensor) -> float:
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
        )[0]

    curvature = stiffest if second_moment is None else curvature_at(landscape.centre)
    step_size = STIFFNESS / curvature
    reason = f"{STIFFNESS} over the largest curvature"
    if sampler == "sgld" and heat * step_size > HEATING:
        step_size = HEATING / heat
        reason = f"minibatch noise heats the stiffest direction by {HEATING:.0%}"
    for _ in range(12):
        state = _pilot(posterior, sampler, step_size, second_moment, batch_size, seed)
        if state is None:
            step_size *= 0.25
            reason = "reduced until a pilot run stayed finite"
            continue
        if second_moment is not None:
            second_moment = state.second_moment.mean(dim=0, keepdim=True)
        found = curvature_at(state.position[0])
        curvature = max(curvature, found) if second_moment is None else found
        if step_size * found <= 1.5 * STIFFNESS:
            if second_moment is not None:
                step_size = STIFFNESS / found
            return step_size, second_moment, curvature, reason
        step_size = min(STIFFNESS / found, 0.5 * step_size)
        reason = f"{STIFFNESS} over the largest curvature where a pilot run led"
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
) -> Any:
    """Where do a few steps lead? None when the loss stops being finite."""
    landscape = posterior.landscape
    adapt = sampler == "psgld"
    steps = 60 if adapt else 20
    kernel = build_kernel(sampler, posterior, step_size, second_moment, adapt=adapt)
    streams = Streams(seed, _PILOT_CHAINS, landscape.device, purpose=_PILOT_PURPOSE + 1)
    state = kernel.init(landscape.centre.expand(_PILOT_CHAINS, -1))
    for _ in range(steps):
        index = streams.batch(landscape.num_samples, batch_size)
        state, info = kernel.step(state, index, streams)
        if not bool(torch.isfinite(info.excess_loss).all()):
            return None
    return state if bool(torch.isfinite(state.position).all()) else None


def still_finite(
    tuning: Tuning, sampler: str, step_size: float, batch_size: int, seed: int
) -> bool:
    """Does a short run with this step size keep the loss finite?"""
    state = _pilot(tuning.posterior, sampler, step_size, tuning.second_moment, batch_size, seed)
    return state is not None


def _tune_mala(
    posterior: LocalisedPosterior, stiffest: float, seed: int
) -> tuple[float, Tensor | None, float, str]:
    """Stochastic approximation of the step at which the acceptance is 0.574."""
    landscape = posterior.landscape
    logarithm = math.log(STIFFNESS / stiffest)
    streams = Streams(seed, _PILOT_CHAINS, landscape.device, purpose=_PILOT_PURPOSE + 1)
    position = landscape.centre.expand(_PILOT_CHAINS, -1)
    state: Any = mala_build(posterior.potential, 1.0).init(position)
    later: list[float] = []
    pilot_steps = 120
    for count in range(pilot_steps):
        kernel = mala_build(posterior.potential, math.exp(logarithm))
        state, info = kernel.step(state, None, streams)
        assert info.acceptance is not None
        gain = 2.0 / (1.0 + count) ** 0.6
        logarithm += gain * (float(info.acceptance.mean()) - ACCEPTANCE)
        if count >= pilot_steps // 2:
            later.append(logarithm)
    step_size = math.exp(sum(later) / len(later))
    if step_size * stiffest > 1.0:
        return 1.0 / stiffest, None, stiffest, "one over the largest curvature"
    return step_size, None, stiffest, f"acceptance {ACCEPTANCE} in a pilot run of MALA"
