"""Samplers bound to a posterior, and how their steps compare.

What lives here: a kernel by name, and the numbers by which a rule for SGLD's step becomes one for
another sampler's. What does not: the algorithms (`samplers`), and the rules (`tuning`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from emergence_stats.degeneracy.posterior import LocalisedPosterior
from emergence_stats.degeneracy.samplers import (
    Kernel,
    adam_sgld_build,
    baoab_build,
    mala_build,
    psgld_build,
    sghmc_build,
    sgld_build,
    sgnht_build,
)
from emergence_stats.degeneracy.samplers.adam_sgld import MOMENTUM_DECAY
from emergence_stats.degeneracy.samplers.sghmc import FRICTION
from emergence_stats.degeneracy.samplers.sgnht import DIFFUSION

PRECONDITIONED = ("psgld", "adam_sgld")


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
_HEAT = (2.0 - FRICTION) / (2.0 * FRICTION)  # of BAOAB
CHARACTER = {
    "adam_sgld": Character(stability=(1.0 - MOMENTUM_DECAY) / (1.0 + MOMENTUM_DECAY)),
    "sghmc": Character(2.0 - FRICTION, 1.0 / FRICTION, 1.0 / FRICTION),
    # No excess near a quadratic minimum; a quarter of the longest stable step leaves room.
    "baoab": Character(4.0, _HEAT, _HEAT),
    "sgnht": Character(2.0 - DIFFUSION, 1.0 / DIFFUSION, 1.0 / DIFFUSION),
}


def build_kernel(
    sampler: str,
    posterior: LocalisedPosterior,
    step_size: float,
    second_moment: Tensor | None,
    *,
    friction: float = FRICTION,
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
            floor=metric_floor(posterior.localisation),
            adaptation_steps=None if adapt else 0,
        )
    if sampler in ("sghmc", "baoab"):
        build_with_friction = sghmc_build if sampler == "sghmc" else baoab_build
        return build_with_friction(posterior.potential, step_size, friction=friction)
    plain = {"sgld": sgld_build, "sgnht": sgnht_build}
    return plain[sampler](posterior.potential, step_size)


def metric_floor(localisation: float) -> float:
    """The gradient below which a preconditioned sampler's metric grows no more."""
    # A direction without loss feels the localisation alone, whose gradient has this size.
    return max(math.sqrt(localisation), 1e-5)
