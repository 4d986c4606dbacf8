"""Which step size, metric and localisation suit this landscape?

What lives here: the rules that turn curvature and gradient noise into settings. What does not: how
those two are measured (`stiffness`), the pilot runs (`pilots`), and the chains then run (`llc`).

The rules, for settings left to us:

- *localisation*: the prior is as wide as the parameters themselves, gamma = 1 / rms(w*)^2 (1 where
  the parameters are zero). Where some direction may be flat, it is raised to the weakest gamma at
  which that direction still relaxes `RELAXATIONS` times within the draws asked for; otherwise the
  trace would drift throughout. A direction much softer than gamma is then not counted.
- *step size*: at most `STIFFNESS` divided by the largest curvature of the potential (in the
  sampler's metric), measured at w* and again where a short pilot run has led; and so small that the
  minibatch noise heats the stiffest direction by at most `HEATING`. Samplers other than SGLD scale
  both limits by their `CHARACTER`. What bias remains is estimated and subtracted (`samplers`). A
  pilot that leaves for a loss no posterior knows quarters the step. Where chains then show a loss
  that is not quadratic, and a correction too large to be trusted there, the step is shortened once
  more, with as many more steps to a draw; and where they have not come to rest, and the correction
  leaves room, it is lengthened (`judgement.fitting_step`).
- *MALA*: a pilot run moves the step until the acceptance is 0.57; but at most one divided by the
  largest curvature, at w* or where the pilot ended, since in few dimensions that acceptance is met
  by steps so large that the chain rarely enters, and then rarely leaves, the steep parts of a
  degenerate potential.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from emergence_stats.degeneracy.landscape import LossLandscape
from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import Kernel
from emergence_stats.degeneracy.samplers.sghmc import FRICTION
from emergence_stats.degeneracy.tuning.kernels import (
    CHARACTER,
    PRECONDITIONED,
    Character,
    build_kernel,
)
from emergence_stats.degeneracy.tuning.pilots import (
    HEATING,
    PILOT_PURPOSE,
    STIFFNESS,
    pilot,
    tune_step,
)
from emergence_stats.degeneracy.tuning.stiffness import (
    gradient_noise,
    largest_curvature,
    softest_curvature,
)

RELAXATIONS = 12.0


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
    friction : float
        Of Hamiltonian samplers.
    """

    posterior: LocalisedPosterior
    step_size: float
    second_moment: Tensor | None
    measured: dict[str, float]
    reasons: dict[str, str]
    friction: float = FRICTION

    def kernel(self, sampler: str, step_size: float | None = None) -> Kernel:
        """The sampler with these settings, or with another step size."""
        return build_kernel(
            sampler,
            self.posterior,
            self.step_size if step_size is None else step_size,
            self.second_moment,
            friction=self.friction,
        )


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
    second_moment = None
    if sampler in PRECONDITIONED:
        second_moment = torch.zeros_like(landscape.centre)[None]
    heat = gradient_noise(
        landscape,
        landscape.centre,
        vector,
        scale=scale,
        batch_size=batch_size,
        seed=seed,
        purpose=PILOT_PURPOSE,
        squares=None if second_moment is None else second_moment[0],
    )
    raised = False
    if localisation is None:
        localisation, raised, reasons["localisation"] = _choose_localisation(
            landscape, sampler, rows, stiffest, heat, scale, num_steps
        )
    else:
        reasons["localisation"] = "as given"
    posterior = LocalisedPosterior(landscape, inverse_temperature, localisation)
    if step_size is not None and second_moment is None:
        reasons["step_size"] = "as given"
        return Tuning(posterior, step_size, None, measured, reasons)

    if second_moment is not None:
        # Thermal motion adds about one curvature to the squared gradient; the pilot refines it.
        second_moment += localisation
    given = step_size
    tuned = tune_step(
        posterior, sampler, stiffest + localisation, heat, second_moment, rows, batch_size, seed
    )
    step_size, second_moment, curvature, heat, reason = tuned
    measured["largest_potential_curvature_in_metric"] = curvature
    measured["heating_by_minibatch_noise"] = heat * step_size if heat >= 0.0 else math.nan
    if given is not None:
        step_size, reason = given, "as given"
    reasons["step_size"] = reason
    if second_moment is None and raised:
        quickness = CHARACTER.get(sampler, Character()).speed * num_steps
        relaxations = step_size * localisation * quickness
        if relaxations < 0.9 * RELAXATIONS:
            short = f"with the step that pilots then allowed, {relaxations:.2g} times"
            reasons["localisation"] += f"; {short}"
    return Tuning(posterior, step_size, second_moment, measured, reasons)


def _choose_localisation(
    landscape: LossLandscape,
    sampler: str,
    rows: Tensor,
    stiffest: float,
    heat: float,
    scale: float,
    num_steps: int,
) -> tuple[float, bool, str]:
    """Localisation, whether it had to be raised so that flat directions relax, and why."""
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
        why = "one over the mean squared parameter: as wide as the parameters themselves"
        return natural, False, why
    why = (
        f"raised from {natural:.3g} (one over the mean squared parameter), so that flat directions "
        f"relax {RELAXATIONS:.0f} times in {num_steps} steps; with more draws it can be weaker"
    )
    return needed, True, why


def still_finite(
    tuning: Tuning, sampler: str, step_size: float, batch_size: int, seed: int
) -> bool:
    """Does a short run with this step size keep the loss finite?"""
    found = pilot(tuning.posterior, sampler, step_size, tuning.second_moment, batch_size, seed)
    return found is not None
