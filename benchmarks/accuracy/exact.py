"""The exact Bayes classifier by brute force: an integrator that shares no code with the package.

What lives here: the evidence of the exponential and the power law on one curve by a dense grid
over every nonlinear parameter, log noise sd (and correlation) included; baseline and amplitude by
the Gaussian formula. The model is written out again from its documentation (`likelihood`,
`priors`), in units where the expected range of the score is (0, 1):

    y = a + b f + e,   a ~ Normal(1/2, 1),  b ~ Normal(0, 2),
    onset uniform in log step;  log half-time normal, 90% between a tenth of the shortest gap and
    the span;  kappa half-normal of scale 2;  rho uniform;
    sigma sqrt(1 - rho^2) half-Cauchy of scale 0.05.

Each nonlinear parameter but the onset is written as a quantile function of its share of the prior;
the onset by its place in the gap between two checkpoints, counted from the gap's end in half-times,
because a quick rise caught half way by a checkpoint fixes that ratio to within a hair. The space is
cut into cells, and those that could hold more than a given share of the total are cut again in half
along every axis, until cells hold about equal masses at most: first for low powers of the
likelihood, so that what is narrow is approached from what is wide. Then each cell is evaluated at a
fresh random point, twice: stratified sampling, whose error the two passes tell. Cells that prove to
hold far more than was thought are cut again, and the passes repeated.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from scipy.ndimage import maximum_filter
from scipy.special import ndtri

Array = np.ndarray
# centre, width, log likelihood at the centre, and the highest that may hide; one row a cell
Cells = tuple[Array, Array, Array, Array]

REST_GRID = {"exponential": (32,), "power_law": (24, 6)}
GAP_GRID = 8
PASSES = 2
ROUNDS = 4
# Powers of the likelihood for which cells are cut in turn, and multiples of SHARE.
TEMPERED = ((0.03, 2.0), (0.06, 2.0), (0.1, 2.0), (0.2, 2.0), (0.4, 2.0), (0.7, 2.0), (1.0, 1.0))
SPIKE = 30.0
# What may hide in a cell, in nats above its centre, at most.
HIDING = 60.0
FIRST_RHO = 8
SHARE = 1e-3
LEVELS = 16


@numba.njit(nogil=True, cache=True)
def _log_likelihoods(onset, half_time, kappa, rho, step, y, out):
    """Log marginal likelihood of each row; sigma by the trapezoidal rule in its logarithm."""
    n = step.size
    f, fw, yw, ow = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    spacing = min(0.2, 1.0 / np.sqrt(2.0 * n))
    for m in range(onset.size):
        for i in range(n):
            e = max(step[i] - onset[m], 0.0) / half_time[m]
            if kappa[m] == 0.0:
                f[i] = -np.expm1(-np.log(2.0) * e)
            else:
                f[i] = -np.expm1(-np.log1p(np.expm1(kappa[m] * np.log(2.0)) * e) / kappa[m])
        r = rho[m]
        left = np.sqrt(1.0 - r * r)
        ow[0], fw[0], yw[0] = 1.0, f[0], y[0]
        for i in range(1, n):
            ow[i] = (1.0 - r) / left
            fw[i] = (f[i] - r * f[i - 1]) / left
            yw[i] = (y[i] - r * y[i - 1]) / left
        g11, g12, g22, h1, h2, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            g11 += ow[i] * ow[i]
            g12 += ow[i] * fw[i]
            g22 += fw[i] * fw[i]
            h1 += ow[i] * yw[i]
            h2 += fw[i] * yw[i]
            yy += yw[i] * yw[i]
        # Bounds of sigma: well below the residuals of the best line, well above the whole curve.
        ridge = 1e-9 * (g11 + g22)
        det = (g11 + ridge) * (g22 + ridge) - g12 * g12
        rest = yy - ((g22 + ridge) * h1 * h1 - 2.0 * g12 * h1 * h2 + (g11 + ridge) * h2 * h2) / det
        low = 0.5 * np.log(max(rest, 1e-14 * yy) / n) - 2.5
        high = 0.5 * np.log(yy / n) + 3.0
        top, total = -np.inf, 0.0
        for k in range(int((high - low) / spacing) + 1):
            sigma = np.exp(low + k * spacing)
            v = sigma * sigma
            a11, a22 = g11 + v, g22 + 0.25 * v  # prior variances 1 and 4
            det = a11 * a22 - g12 * g12
            quad = yy - (a22 * h1 * h1 - 2.0 * g12 * h1 * h2 + a11 * h2 * h2) / det
            ratio = sigma * left / 0.05
            # log of: density of log sigma; |V|^(-1/2), where |v I + X S X'| = v^(n-2) det |S|
            # and |S| = 4.
            term = (
                np.log(2.0 / np.pi / (ratio + 1.0 / ratio))
                - 0.5 * (n - 2) * np.log(v)
                - 0.5 * np.log(4.0 * det)
                - 0.5 * max(quad, 0.0) / v
            )
            if term > top:
                total = total * np.exp(top - term) + 1.0
                top = term
            else:
                total += np.exp(term - top)
        # The innovations have variance v (1 - r^2): the determinant of R is that to the (n - 1).
        out[m] = (
            top + np.log(total * spacing) - 0.5 * n * np.log(2.0 * np.pi) - (n - 1) * np.log(left)
        )


def _evaluate(cube: Array, family: str, step: Array, y: Array) -> Array:
    """Log of likelihood and Jacobian at points of the cube, its first axis as long as the gaps."""
    gap = np.minimum(cube[:, 0].astype(int), step.size - 2)
    share = np.clip(cube[:, 1:], 1e-15, 1.0 - 1e-15)
    short, long = np.log(0.1 * np.diff(step).min()), np.log(step[-1] - step[0])
    half_time = np.exp(0.5 * (short + long) + (long - short) / 3.29 * ndtri(share[:, 0]))
    powered = family == "power_law"
    kappa = 2.0 * ndtri(0.5 + 0.5 * share[:, 1]) if powered else np.zeros(len(cube))
    used = 2 if powered else 1
    rho = share[:, used] if share.shape[1] > used else np.zeros(len(cube))
    # From the onset to the gap's end, logarithmic from a half-time on.
    reach = np.log1p(np.diff(step)[gap] / half_time)
    along = (cube[:, 0] - gap) * reach
    onset = step[gap + 1] - half_time * np.expm1(along)
    out = np.empty(len(cube))
    _log_likelihoods(onset, half_time, kappa, rho, step, y - 0.5, out)
    return out + np.log(half_time * reach) + along - np.log(onset * np.log(step[-1] / step[0]))


def _logsum(values: Array) -> float:
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()))


def log_evidence(
    values: Array,
    step: Array,
    family: str,
    *,
    noise: str = "independent",
    share: float = SHARE,
    seed: int = 0,
) -> tuple[float, float, int]:
    """Log evidence of one curve, its standard error (or infinity), and the cells used."""
    generator = np.random.default_rng(seed)
    gaps = step.size - 1
    sizes = REST_GRID[family] + ((FIRST_RHO,) if noise == "ar1" else ())
    edges = [
        np.linspace(0.0, gaps, GAP_GRID * gaps + 1),
        *(np.linspace(0.0, 1.0, size + 1) for size in sizes),
    ]
    dim = len(edges)
    corners = _mesh([np.array([-0.25, 0.25])] * dim)

    def within(centre: Array, width: Array) -> Array:
        """The same at a random point of each cell."""
        point = centre + (generator.uniform(size=centre.shape) - 0.5) * width
        return _evaluate(point, family, step, values)

    def halved(centre: Array, width: Array, parent: Array) -> tuple[Array, Array, Array, Array]:
        centre = (centre[:, None] + corners * width[:, None]).reshape(-1, dim)
        width = np.repeat(0.5 * width, len(corners), axis=0)
        here = _evaluate(centre, family, step, values)
        change = np.abs(here - np.repeat(parent, len(corners)))
        hidden = np.maximum(here + np.minimum(change, HIDING), within(centre, width))
        return centre, width, here, hidden

    centre = _mesh([0.5 * (e[1:] + e[:-1]) for e in edges])
    width = _mesh([np.diff(e) for e in edges])
    here = _evaluate(centre, family, step, values)
    # A neighbour higher up a slope says what may hide within a cell; so does a random point.
    around = maximum_filter(here.reshape([e.size - 1 for e in edges]), size=3, mode="nearest")
    hidden = np.maximum(here + np.minimum(around.ravel() - here, HIDING), within(centre, width))
    passes: list[float] = []
    cells = [(centre, width, here, hidden)]
    for turn in range(ROUNDS):
        for power, least in TEMPERED if turn == 0 else TEMPERED[-1:]:
            cells = _cut(cells, halved, power, share * least)
        centre, width, here, hidden = (np.concatenate(c) for c in zip(*cells, strict=True))
        passes = []
        volume = np.log(width).sum(axis=1)
        while len(passes) < PASSES:
            mass = within(centre, width) + volume
            passes.append(_logsum(mass))
            spike = mass > passes[-1] + np.log(SPIKE * share)
            if spike.any():
                break
        else:
            break
        # A cell that held far more than its centre told is cut up like any other.
        rest = centre[~spike], width[~spike], here[~spike], hidden[~spike]
        cells = [rest, halved(centre[spike], width[spike], here[spike])]
    sums = np.exp(np.array(passes) - max(passes))
    error = sums.std(ddof=1) / sums.mean() / np.sqrt(PASSES) if len(passes) > 1 else np.inf
    return float(max(passes) + np.log(sums.mean())), float(error), len(volume)


def _cut(
    cells: list[Cells], halved: Callable[[Array, Array, Array], Cells], power: float, share: float
) -> list[Cells]:
    """Cuts cells until none could hold more than a share of the likelihood to this power."""
    settled: list[Cells] = []
    active = tuple(np.concatenate(column) for column in zip(*cells, strict=True))
    for _ in range(LEVELS):
        centre, width, here, hidden = active
        volume = np.log(width).sum(axis=1)
        known = [power * c[2] + np.log(c[1]).sum(axis=1) for c in settled]
        total = _logsum(np.concatenate([power * here + volume, *known]))
        split = power * hidden + volume > total + np.log(share)
        settled.append((centre[~split], width[~split], here[~split], hidden[~split]))
        if not split.any():
            return settled
        active = halved(centre[split], width[split], here[split])
    return [*settled, active]


def _mesh(axes: list[Array]) -> Array:
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def log_bayes_factor(values: Array, step: Array, **options: object) -> tuple[float, float]:
    """Log evidence of the power law less that of the exponential, for one curve, and its error.

    The error is infinite where cells never settled: next to no noise, and a rise caught half way
    by one checkpoint, leave a ridge too narrow for this method.
    """
    powered, powered_error, _ = log_evidence(values, step, "power_law", **options)
    plain, plain_error, _ = log_evidence(values, step, "exponential", **options)
    return powered - plain, float(np.hypot(powered_error, plain_error))
