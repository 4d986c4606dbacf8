"""The best segmentation of a series too long for all of them, by penalised search.

What lives here: levels that change in a long series, found by PELT of the package ruptures, and how
sure each position is given its neighbours. What does not: the sum over all segmentations
(`one_curve`), which also says how sure the number of changes is.

Correlation is estimated before anything is known of the changes, from medians of differences over
one and two points (Chakar et al. 2017), which a few changes do not move, and filtered out; the
scale of what remains likewise. A change has to reduce the squared residuals by 3 log n times their
variance (the modified BIC of Zhang and Siegmund 2007).

References
----------
Killick, Fearnhead and Eckley (2012), JASA 107, 1590-1598. Chakar, Lebarbier, Levy-Leduc and Robin
(2017), A robust approach for estimating change-points in the mean of an AR(1) process, Bernoulli
23, 1408-1447. Zhang and Siegmund (2007), Biometrics 63, 22-32.
"""

from __future__ import annotations

import numpy as np

from emergence_stats.data.arrays import CurveArrays
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import LEVEL_SD, RESOLUTION
from emergence_stats.segmentation.one_curve import OneCurve, Options, prepare

Array = np.ndarray

# Median of the absolute value of a standard normal.
NORMAL_MEDIAN = 0.6744897501960817
PENALTY_PER_LOG_POINT = 3.0
# Of the segments between two changes, in points, where noise is correlated.
SHORTEST = 3


def check(model: str, noise: str, variance: str, prior: Array | None, arrays: CurveArrays) -> None:
    """Refuses what this search does not do."""
    wrong = {
        "model": model != "constant" and f"{model!r} segments",
        "noise": noise in ("ou", "ou_log") and f"{noise!r} noise",
        "variance": variance != "shared" and "a variance of each segment's own",
        "max_changes": prior is not None and "a limited number of changes",
        "curves": arrays.sd is not None and "known sd",
    }
    for name, what in wrong.items():
        if what:
            raise InputError(
                f"{name}: method='pelt' is not for {what}; it finds levels that change in evenly "
                "correlated noise. Choose method='exact'"
            )


def search(one: CurveArrays, options: Options) -> OneCurve:
    """The best segmentation of one curve."""
    import ruptures

    curve = prepare(one, options)
    y = curve.y
    n = y.size
    rho = _correlation(y) if curve.correlated else 0.0
    filtered = np.concatenate([[y[0] * np.sqrt(1.0 - rho * rho)], y[1:] - rho * y[:-1]])
    spread = float(np.median(np.abs(np.diff(filtered[1:])))) / (NORMAL_MEDIAN * np.sqrt(2.0))
    sd = max(spread, RESOLUTION)
    found = ruptures.KernelCPD(kernel="linear", min_size=options.min_points).fit(filtered / sd)
    ends = found.predict(pen=PENALTY_PER_LOG_POINT * np.log(n))
    if curve.correlated:
        # Filtered, a level's first point is off by rho times the jump: what it is taken to begin
        # and to end is one change.
        ends = [end for k, end in enumerate(ends) if k == 0 or end - ends[k - 1] > SHORTEST]
        ends[-1] = n
    starts = np.array([0, *ends[:-1]])
    ends = np.array(ends)
    position = np.zeros((starts.size - 1, n))
    for j in range(starts.size - 1):
        low, high = starts[j], ends[j + 1]
        position[j, low:high] = _position(
            filtered[low:high], sd, 1.0 - rho, curve.log_share[low:high], options.min_points
        )
    level, level_sd = np.empty(starts.size), np.empty(starts.size)
    for j, (low, high) in enumerate(zip(starts, ends, strict=True)):
        precision = (high - low) * (1.0 - rho) ** 2 / sd**2 + LEVEL_SD**-2
        level[j] = filtered[low:high].sum() * (1.0 - rho) / sd**2 / precision
        level_sd[j] = precision**-0.5
    scale, centre = float(one.scale[0]), float(one.centre[0])
    level, level_sd = level * scale + centre, level_sd * scale
    return OneCurve(
        number=starts.size - 1,
        number_probability=None,
        log_evidence=None,
        log_marginal=np.nan,
        inclusion=position.sum(axis=0),
        first_change=position[0] if len(position) else np.zeros(n),
        change_probability=position,
        mean=np.repeat(level, ends - starts),
        mean_sd=np.repeat(level_sd, ends - starts),
        segment_from=level,
        segment_to=level,
        noise_sd=sd / np.sqrt(1.0 - rho * rho) * scale,
        noise_correlation=rho,
        model=options.model,
    )


def _correlation(y: Array) -> float:
    one = float(np.median(np.abs(y[1:] - y[:-1])))
    two = float(np.median(np.abs(y[2:] - y[:-2])))
    if one == 0.0:
        return 0.0
    # Differences over one point have variance 2 (1 - rho), over two 2 (1 - rho^2), of the noise's.
    return float(np.clip((two / one) ** 2 - 1.0, 0.0, 0.999))


def _position(z: Array, sd: float, weight: float, log_share: Array, min_points: int) -> Array:
    """Posterior of the one change in a stretch, levels integrated out."""
    n = z.size
    count = np.arange(1, n)
    below = np.cumsum(z)[:-1] * weight / sd
    above = z.sum() * weight / sd - below
    ratio = (sd / LEVEL_SD) ** 2

    def half(total: Array, points: Array) -> Array:
        precision = points * weight**2 + ratio
        return 0.5 * total**2 / precision - 0.5 * np.log(precision)

    value = half(below, count) + half(above, n - count) + log_share[1:]
    value[(count < min_points) | (n - count < min_points)] = -np.inf
    value = np.exp(value - value.max())
    return np.concatenate([[0.0], value / value.sum()])
