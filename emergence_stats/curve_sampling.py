"""From one curve's data to chains: where they begin, stairs under the onset, and the sampler.

What lives here: the sampler's options, and the one way that leads from data to draws, for `fit` and
for `compare`. What does not: the parts themselves (`sampling`), the density (`models`), what is
made of the draws (`draws`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emergence_stats import labelled, sampling
from emergence_stats.errors import InputError
from emergence_stats.families import Family
from emergence_stats.models import CurveData
from emergence_stats.sampling import CannotSampleError

# Share of its draws in which a chain must move; a healthy one moves in nearly all.
MIN_MOVED = 0.1


@dataclass(frozen=True)
class SamplerOptions:
    """How long and how carefully to sample.

    Attributes
    ----------
    num_chains, num_draws, num_tune : int
        Chains, draws kept of each, and steps of adaptation before.
    target_accept : float
        Nearer 1 takes shorter steps.
    seed : int
        The same seed gives the same draws.
    """

    num_chains: int = 4
    num_draws: int = 1000
    num_tune: int = 1000
    target_accept: float = 0.95
    seed: int = 0

    def checked(self) -> SamplerOptions:
        """The same, if all can be used.

        Examples
        --------
        >>> SamplerOptions(num_draws=200).checked().num_draws
        200
        """
        labelled.checked_share("target_accept", self.target_accept)
        for name, least in (("num_chains", 2), ("num_draws", 50), ("num_tune", 50), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name}: {value!r}; give a whole number of at least {least}")
        return self


def sample_curve(
    family: Family,
    noise: str,
    data: CurveData,
    logarithmic: bool,
    options: SamplerOptions,
    generator: np.random.Generator,
    progress: bool = False,
) -> tuple[CurveData, sampling.Chains]:
    """Draws from one curve's posterior, and the data with the stairs that their onsets stand on.

    The model of this family and kind of noise is compiled only where it was not before.

    Raises
    ------
    CannotSampleError
        If the posterior is too narrow for chains to move, or the density or its gradient is not
        finite where they would begin: of curves that hardly vary, or have no noise.
    """
    first = sampling.population(family, noise, data, logarithmic, generator)
    data = sampling.with_stairs(family, noise, data, logarithmic, first)
    picked = first[generator.choice(len(first), options.num_chains, replace=False)]
    starts = sampling.on_stairs(family, noise, data, picked)
    found = sampling.compiled(family, noise, data, logarithmic)
    for value, gradient in map(found.evaluate, starts):
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise CannotSampleError("its posterior has no finite density where chains begin", noise)
    chains = sampling.draw_chains(
        found,
        starts,
        num_draws=int(options.num_draws),
        num_tune=int(options.num_tune),
        seed=int(options.seed),
        target_accept=float(options.target_accept),
        progress=progress,
    )
    moved = (np.diff(chains.coordinates, axis=1) != 0.0).any(axis=2).mean(axis=1)
    if not np.isfinite(chains.coordinates).all() or moved.min() < MIN_MOVED:
        raise CannotSampleError("chains cannot move over its posterior", noise)
    return data, chains
