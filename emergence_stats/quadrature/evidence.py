"""From curves as plain arrays to the evidence and posterior of one family, a batch at a time.

What lives here: scaling curves to their priors' units, and joining a family's shape and priors, the
likelihood and the integration. What does not: the likelihood and the integration themselves
(`likelihood`, `integrate`), what is then said of each curve (`summaries`), labels and verdicts
(`compare`, `onset`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from emergence_stats.curves.families import Family
from emergence_stats.curves.priors import StepAxis, step_axis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.noise.beliefs import CORRELATED, RESOLUTION
from emergence_stats.noise.whitening import typical_gaps
from emergence_stats.quadrature import autoregressive, climbing, conditionals, measured
from emergence_stats.quadrature.integrate import CoarseGrid
from emergence_stats.quadrature.likelihood import Curves, gauss_rules
from emergence_stats.quadrature.over_onset import CUT_AWAY, Posterior, integrate_over_onset
from emergence_stats.quadrature.smooth import integrate_smoothly

Array = np.ndarray

# Where sd are measured, `noise_sd` is of the wandering beside them, and `sd_factor`
# what all of them are to be multiplied by.
LINEAR_PARAMETERS = ("baseline", "amplitude", "noise_sd", "noise_correlation", "sd_factor")
# Points a family's coarse grid takes along the parameter after the onset, and any further one.
COARSE = (16, 4)
# A shape that varies by less over a curve's points is a constant to the kernels' precision.
LEVEL = 3e-5


class Batch:
    """A batch of curves in the kernel's units, and the likelihood of any family on it."""

    def __init__(self, curves: CurveArrays, axis: StepAxis, noise: str) -> None:
        self.curves, self.axis = curves, axis
        self.correlated = noise in CORRELATED
        self.gap = typical_gaps(curves.step, curves.num_points, noise, axis.offset)
        # Even gaps make Ornstein-Uhlenbeck noise autoregressive, which is quicker.
        self.even = bool((self.gap == 1.0).all())
        width = curves.step.shape[1]
        self.climbs = self.correlated and not self.even and width > autoregressive.MAX_UNEVEN
        padded = np.arange(width)[None] >= curves.num_points[:, None]
        self.y = (curves.values - curves.centre[:, None]) / curves.scale[:, None]
        self.y[padded] = 0.0
        self.measured = curves.sd is not None
        self.variance = np.ones((1, 1))
        if curves.sd is not None:
            self.variance = (curves.sd / curves.scale[:, None]) ** 2 + RESOLUTION**2
            self.variance[padded] = 1.0
        self.log_unit = curves.num_points * np.log(curves.scale)
        # Only where the axis reaches beyond it can a sudden rise be over before a curve begins.
        self.overhang = bool((axis.first < curves.step[:, 0]).any())

    def shape(self, family: Family, who: Array, z: Array) -> Array:
        """Fraction completed at every point, one row for each row of z; 0 where nothing emerges."""
        if family.shape is None:
            return np.zeros((who.size, self.curves.step.shape[1]))
        parameters = self.parameters(family, who, z)
        shape = family.shape(self.curves.step[who], *(p[:, None] for p in parameters))
        return np.ascontiguousarray(shape)

    def parameters(self, family: Family, who: Array, z: Array) -> list[Array]:
        """Values of the nonlinear parameters at coordinates z."""
        axis = self.axis.take(who)
        column = iter(z.T)
        return [p.prior.value(next(column) if p.prior.free else z, axis) for p in family.parameters]

    def log_likelihood(self, family: Family) -> Callable[[Array, Array, Array], Array]:
        """The function of (curve, z, cutoff) that `quadrature.integrate` wants."""
        curves, width = self.kernel_curves(family), self.curves.step.shape[1]
        chunk = max(64, 400_000 // width)
        work = autoregressive.log_likelihood
        if self.measured:
            work = measured.log_likelihood
        elif self.climbs:
            work = climbing.log_likelihood

        def evaluate(who: Array, z: Array, cutoff: Array) -> Array:
            out = np.empty(who.size)
            for low in range(0, who.size, chunk):
                part = slice(low, low + chunk)
                rows = who[part]
                shape = self.shape(family, rows, z[part])
                if self.overhang or family.gradual:
                    self.keep_apart(shape, rows)
                work(shape, rows, curves, cutoff[part], out[part])
            return out

        return evaluate

    def kernel_curves(self, family: Family) -> Curves:
        """The batch as kernels take it."""
        linear = 2 if family.emerges else 1
        return Curves(
            self.y,
            self.variance,
            self.gap,
            self.curves.num_points,
            self.log_unit,
            *gauss_rules(self.curves.num_points, linear),
            linear,
            self.measured,
            self.correlated,
            self.even,
        )

    def keep_apart(self, shape: Array, who: Array) -> None:
        """Tilts shapes that are constant but not 0 over their curve's points, in place.

        A constant rise and the baseline act through their sum alone. That is no difficulty for the
        priors, which hold both, but for the kernels' determinants, in which it is the difference of
        nearly equal numbers; a tilt far below any noise keeps them apart.
        """
        place = np.arange(shape.shape[1])[None] / (self.curves.num_points[who, None] - 1.0)
        inside = place <= 1.0
        low = np.where(inside, shape, np.inf).min(axis=1)
        high = np.where(inside, shape, -np.inf).max(axis=1)
        constant = (high - low < LEVEL) & (low > 0.0)
        shape[constant] = low[constant, None] + LEVEL * place[constant]

    def draw_linear(self, family: Family, who: Array, z: Array, random: Array) -> Array:
        """Draws of `LINEAR_PARAMETERS` in the curves' own units."""
        out = np.ones((who.size, 5))
        if not who.size:
            return out
        work = conditionals.draw_conditionals
        if self.measured:
            work = measured.draw_conditionals
        elif self.climbs:
            work = conditionals.draw_conditionals_by_climbing
        work(self.shape(family, who, z), who, self.kernel_curves(family), random, out)
        out[:, :3] *= self.curves.scale[who, None]
        out[:, 0] += self.curves.centre[who]
        return out


def family_posterior(
    family: Family,
    curves: CurveArrays,
    *,
    noise: str = "ar1",
    step_prior: str = "log",
    tolerance: float = 0.03,
) -> Posterior:
    """One family's evidence and posterior over its nonlinear parameters, curve by curve."""
    return posterior(family, Batch(curves, step_axis(curves, step_prior), noise), tolerance)


def posterior(family: Family, batch: Batch, tolerance: float = 0.03) -> Posterior:
    """The same for a batch already prepared."""
    num_curves = batch.curves.num_points.size
    evaluate = batch.log_likelihood(family)
    if not family.emerges:
        every, nothing = np.arange(num_curves), np.zeros(num_curves)
        value = evaluate(every, np.zeros((num_curves, 0)), nothing - np.inf)
        return Posterior(
            log_integral=value,
            error=nothing,
            curve=every,
            z=np.zeros((num_curves, 0)),
            weight=nothing + 1.0,
            start=np.arange(num_curves + 1),
            onset_curve=every[:0],
            onset_position=nothing[:0],
            onset_log_density=nothing[:0],
            num_evaluated=every * 0 + 1,
        )
    if family.sudden:
        return _sum_over_gaps(batch, evaluate)
    priors = [parameter.prior for parameter in family.free[1:]]
    if family.gradual:
        return integrate_smoothly(evaluate, priors, batch.curves.num_points, tolerance=tolerance)
    sizes = [32] if len(priors) == 1 else [COARSE[0], *[COARSE[1]] * (len(priors) - 1)]
    # None where only the onset is unknown.
    sizes = sizes[: len(priors)]
    axes = [
        prior.quantile((np.arange(size) + 0.5) / size)
        for prior, size in zip(priors, sizes, strict=True)
    ]
    coarse = CoarseGrid.of(axes)

    def log_prior(z: Array) -> Array:
        return sum((p.log_density(z[:, k]) for k, p in enumerate(priors)), np.zeros(len(z)))

    def log_likelihood(who: Array, position: Array, z: Array, cutoff: Array) -> Array:
        return evaluate(who, np.column_stack([position, z]), cutoff)

    checkpoints = [
        batch.axis.take(np.array([c])).step_to_position(batch.curves.step[c, :n])
        for c, n in enumerate(batch.curves.num_points)
    ]
    return integrate_over_onset(log_likelihood, log_prior, coarse, checkpoints, tolerance=tolerance)


def _sum_over_gaps(batch: Batch, evaluate: Callable[[Array, Array, Array], Array]) -> Posterior:
    """Where only the gap in which the onset lies matters, its evidence is a sum."""
    count = batch.curves.num_points
    who = np.repeat(np.arange(count.size), count - 1)
    edges = [
        batch.axis.take(np.array([c])).step_to_position(batch.curves.step[c, :n])
        for c, n in enumerate(count)
    ]
    low = np.concatenate([edge[:-1] for edge in edges])
    width = np.concatenate([np.diff(edge) for edge in edges])
    middle = low + 0.5 * width
    density = evaluate(who, middle[:, None], np.full(who.size, -np.inf))
    start = np.r_[0, np.cumsum(count - 1)]
    log_mass = density + np.log(width)
    total = np.logaddexp.reduceat(log_mass, start[:-1])
    return Posterior(
        log_integral=total,
        error=np.full(count.size, CUT_AWAY),
        curve=who,
        z=middle[:, None],
        weight=np.exp(log_mass - total[who]),
        start=start,
        onset_curve=np.repeat(who, 2),
        # Just inside either end of the gap, between which the density is even.
        onset_position=(low[:, None] + width[:, None] * np.array([1e-9, 1.0 - 1e-9])).ravel(),
        onset_log_density=np.repeat(density, 2),
        num_evaluated=count - 1,
    )
