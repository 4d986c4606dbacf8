"""From one curve's data to chains: where they begin, stairs under the onset, and the sampler.

What lives here: the sampler's options, and the one way that leads from data to draws, for `fit` and
for `compare`. What does not: the parts themselves (`sampling`), the density (`models`), what is
made of the draws (`draws`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emergence_stats.checks import check_share, check_whole
from emergence_stats.curves.families import Family
from emergence_stats.nuts import models, sampling, stairs
from emergence_stats.nuts.data import CurveData
from emergence_stats.nuts.sampling import CannotSampleError

# Share of its draws in which a chain must move; a healthy one moves in nearly all.
MIN_MOVED = 0.1
# Tried in turn until no transition diverges; where a rise may lie wholly between two checkpoints
# from the second on.
TARGETS = (0.95, 0.99, 0.998)
# That it may lie there is said by this share of the first draws; with more noise than this beside
# the amplitude there is no wall to speak of, and short steps are dear.
WITHIN_GAP = 0.05
WALLED = 0.2


@dataclass(frozen=True)
class SamplerOptions:
    """How long and how carefully to sample.

    Attributes
    ----------
    num_chains, num_draws, num_tune : int
        Chains, draws kept of each, and steps of adaptation before.
    target_accept : float, optional
        Nearer 1 takes shorter steps. Where it is None, `TARGETS` are tried.
    seed : int
        The same seed gives the same draws.
    """

    num_chains: int = 4
    num_draws: int = 1000
    num_tune: int = 1000
    target_accept: float | None = None
    seed: int = 0

    def check(self) -> SamplerOptions:
        """The same, if all can be used.

        Examples
        --------
        >>> SamplerOptions(num_draws=200).check().num_draws
        200
        """
        if self.target_accept is not None:
            check_share("target_accept", self.target_accept)
        for name, least in (("num_chains", 2), ("num_draws", 50), ("num_tune", 50), ("seed", 0)):
            check_whole(name, getattr(self, name), least)
        return self


def may_fall_within_gap(
    family: Family, noise: str, data: CurveData, logarithmic: bool, draws: np.ndarray
) -> bool:
    """Whether the rise may be over between two checkpoints, so that steps must be short.

    The half-time T then has an upper wall, where what is left of the rise at the next checkpoint
    shows in the noise: with R that share and s the noise beside the amplitude, the log density
    falls by half (R / s)^2 a point, and R falls doubly exponentially with log T. So the wall is
    about 1 / (2 log 1/s) wide in log T, and below it the prior alone holds T, over a factor of ten
    or so. A step fit for the latter meets the wall, once in some thousand draws, with an error that
    has no bound: a divergence.

    Parameters
    ----------
    data : CurveData
        With stairs; its `sharpness` is s.
    draws : ndarray, shape (draw, coordinate)
        Roughly of the posterior, of the density without stairs.
    """
    if not family.emerges or data.sharpness > WALLED:
        return False
    bare = stairs.without_stairs(data)
    with np.errstate(all="ignore"):
        done = models.pieces(family, noise, bare, logarithmic, list(draws.T[:, :, None])).shape
    during = (done > data.sharpness) & (done < 1.0 - data.sharpness)
    return bool((~during.any(axis=1)).mean() > WITHIN_GAP)


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
        finite, or is flat, where they would begin: of curves that hardly vary, or have no noise.
    """
    first = sampling.population(family, noise, data, logarithmic, generator)
    data = stairs.with_stairs(family, noise, data, logarithmic, first)
    picked = first[generator.choice(len(first), options.num_chains, replace=False)]
    starts = stairs.on_stairs(family, noise, data, picked)
    found = sampling.compile_model(family, noise, data, logarithmic)
    for value, gradient in map(found.evaluate, starts):
        # nutpie takes no start at which a slope is 0, as where a correlation is 1 but for rounding.
        if not (np.isfinite(value) and np.isfinite(gradient).all() and gradient.all()):
            raise CannotSampleError(
                "its posterior has no finite density and slope where chains begin", noise
            )
    targets: tuple[float, ...] = TARGETS
    if options.target_accept is not None:
        targets = (float(options.target_accept),)
    elif may_fall_within_gap(family, noise, data, logarithmic, first):
        targets = TARGETS[1:]
    for target_accept in targets:
        chains = sampling.draw_chains(
            found,
            starts,
            num_draws=int(options.num_draws),
            num_tune=int(options.num_tune),
            seed=int(options.seed),
            target_accept=target_accept,
            progress=progress,
        )
        if not chains.diverging.any():
            break
    moved = (np.diff(chains.coordinates, axis=1) != 0.0).any(axis=2).mean(axis=1)
    if not np.isfinite(chains.coordinates).all() or moved.min() < MIN_MOVED:
        raise CannotSampleError("chains cannot move over its posterior", noise)
    return data, chains
