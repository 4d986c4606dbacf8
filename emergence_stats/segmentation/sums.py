"""Summing over all segmentations of a curve at once, given its noise.

What lives here: the two passes of dynamic programming, as compiled kernels on plain arrays. What
does not: the probability of one segment (`segments`), the sum over the noise (`noise_grid`), labels
(`segmentation`).

Let Q_k(s) be the density of the curve from point s on if a segment begins there and k changes
follow, and g_i the prior share of the gap before point i. Backwards (Fearnhead 2006),

    Q_0(s) = w(s, n - 1),    Q_k(s) = sum_t w(s, t) g_(t+1) Q_(k-1)(t + 1),

w(s, t) being the density of points s to t as one segment. With every w replaced by 1 the same
recursion gives E_k, the total of the prior over positions, so that Q_k(0) / E_k is the evidence of
k changes, wherever they are. Forwards, A_j(t) is the density of all before t with j changes, the
last just before t. Then A_j(t) Q_(k-j)(t) is proportional to the posterior of the j-th of k
changes, and everything else follows from the two.

Numbers are kept as multiples of exp(c(s)), the scale of point s. Of each start only those ends are
visited that can matter, so that where there are many changes the cost falls from n^2 to n times the
length of a segment.

References
----------
Fearnhead (2006), Exact and efficient Bayesian inference for multiple changepoint problems,
Statistics and Computing 16, 203-213.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from emergence_stats.noise.compiling import kernel
from emergence_stats.segmentation.segments import (
    SUMS,
    Noise,
    SegmentedCurve,
    mean_of,
    noise_at,
    segments_from,
)

Array = np.ndarray

# Ends this far (nats) below the best are not visited; see `segments_from`. Not so where the number
# of changes is limited to fewer than the curve shows: what then matters may be anywhere.
MARGIN = 60.0
# Terms of the sum and segments of the mean curve less probable than this are left out.
NEGLIGIBLE = 1e-15


class Future(NamedTuple):
    """What the pass backwards finds; a place to write, used again for each noise.

    Attributes
    ----------
    density : ndarray, shape (point + 1, k)
        Q_k(s) as multiples of exp(`scale`).
    scale, log_next : ndarray, shape (point + 1,)
        Log of the largest Q_k(s), and of it times the share of the gap before s.
    log_weight : ndarray, shape (point,)
        See `segments_from`.
    """

    density: Array
    scale: Array
    log_next: Array
    log_weight: Array


class Posterior(NamedTuple):
    """What is wanted of a curve, summed over noises.

    Attributes
    ----------
    inclusion, first : ndarray, shape (point,)
        Probability of a change in the gap before the point; of its being the first one.
    position : ndarray, shape (chosen, point)
        Joint probability of `chosen` changes in all and of the j-th being in that gap.
    moments : ndarray, shape (5, point + 1)
        Steps of the mean curve's intercept and slope, and of its square's three coefficients.
    """

    inclusion: Array
    first: Array
    position: Array
    moments: Array


@numba.njit(cache=True, nogil=True, error_model="numpy")
def log_prior_total(log_share: Array, min_points: int, max_changes: int) -> Array:
    """Log E_k: total prior weight of all ways to place k changes, for k up to `max_changes`.

    `log_share` is that of the gap before each point, -inf where no segment may begin.
    """
    n = log_share.size
    share = np.exp(log_share)
    ways = np.zeros(n + 1)
    for s in range(n):
        ways[s] = 1.0 if n - s >= min_points else 0.0
    out = np.empty(max_changes + 1)
    out[0] = np.log(ways[0])
    scale = 0.0
    for k in range(1, max_changes + 1):
        further = np.zeros(n + 1)
        total = 0.0
        for s in range(n - 1, -1, -1):
            following = s + min_points
            if following < n:
                total += share[following] * ways[following]
            further[s] = total
        out[k] = scale + np.log(further[0]) if further[0] > 0.0 else -np.inf
        largest = further.max()
        if largest > 0.0:
            scale += np.log(largest)
            further /= largest
        ways = further
    return out


@kernel()
def new_future(num_points: int, num_numbers: int) -> Future:
    """Room for numbers 0 to `num_numbers` - 1 of changes."""
    return Future(
        np.empty((num_points + 1, num_numbers)),
        np.empty(num_points + 1),
        np.empty(num_points + 1),
        np.empty(num_points),
    )


@kernel()
def backward(curve: SegmentedCurve, noise: Noise, future: Future) -> float:
    """Fills `future`.

    The largest k is found for s = 0 alone, as one change at least lies before any other s. Returns
    log Q_0(0), which may be too small beside the others to be kept with them.
    """
    density, scale, log_next, log_weight = future
    n, min_points = curve.y.size, curve.min_points
    numbers = density.shape[1]
    unused = np.empty((0, SUMS))
    log_next[:n] = -np.inf
    log_next[n], scale[n] = 0.0, 0.0
    density[:] = 0.0
    for s in range(n - min_points, -1, -1):
        if s > 0 and curve.log_share[s] == -np.inf:
            continue
        margin = curve.margin if s > 0 else np.inf
        last, best = segments_from(curve, noise, s, log_next, margin, log_weight, unused)
        usable = numbers if s == 0 else max(numbers - 1, 1)
        row = density[s, :usable]
        for t in range(s + min_points - 1, min(last, n - 2) + 1):
            if log_weight[t] == -np.inf:
                continue
            term = np.exp(log_weight[t] + log_next[t + 1] - best)
            if term > NEGLIGIBLE:
                following = density[t + 1]
                for k in range(1, usable):
                    row[k] += term * following[k - 1]
        if last == n - 1:
            row[0] = np.exp(log_weight[n - 1] - best)
        largest = row.max()
        # A reciprocal must not overflow.
        if largest < 1e-290:
            # Too few changes are left for what follows to be of any density.
            scale[s] = -np.inf
            continue
        row /= largest
        scale[s] = best + np.log(largest)
        if s > 0:
            log_next[s] = curve.log_share[s] + scale[s]
    return log_weight[n - 1]


@kernel()
def fill_evidence(curve: SegmentedCurve, nodes: Array, log_density: Array) -> None:
    """Fills the log density of the curve by node of the noise and number of changes.

    Columns of `nodes` are those of `noise_at`. Without the prior total E_k, and without
    (2 pi)^(-n/2).
    """
    future = new_future(curve.y.size, log_density.shape[1])
    for j in range(len(nodes)):
        log_density[j, 0] = backward(curve, noise_at(curve, nodes[j]), future)
        for k in range(1, log_density.shape[1]):
            log_density[j, k] = future.scale[0] + np.log(future.density[0, k])


@kernel()
def fill_posterior(
    curve: SegmentedCurve, nodes: Array, weight: Array, prior: Array, found: Posterior
) -> None:
    """Adds each node's posterior, times its weight, to what is wanted of all of them.

    Parameters
    ----------
    curve
    nodes, weight : ndarray
        As in `fill_evidence`, and the posterior mass of each.
    prior : ndarray, shape (k,)
        Prior probability of each number of changes over E_k.
    found : Posterior
    """
    x, n, min_points = curve.x, curve.y.size, curve.min_points
    numbers, chosen = prior.size, found.position.shape[0]
    future = new_future(n, numbers)
    density, scale, log_next, log_weight = future
    past, ahead = np.empty((n + 1, numbers)), np.empty((n + 1, numbers))
    sums = np.empty((n, SUMS))
    for node in range(len(nodes)):
        noise = noise_at(curve, nodes[node])
        backward(curve, noise, future)
        total = 0.0
        for k in range(numbers):
            total += prior[k] * density[0, k]
        unit = weight[node] / total
        # What is ahead of point s once j changes are behind it; at the end nothing is.
        density[n, 0] = 1.0
        ahead[:] = 0.0
        for s in range(1, n + 1):
            if s < n and log_next[s] == -np.inf:
                continue
            for j in range(numbers):
                value = 0.0
                for k in range(numbers - j):
                    value += prior[j + k] * density[s, k]
                ahead[s, j] = value
        past[:] = 0.0
        past[0, 0] = unit
        for s in range(n - min_points + 1):
            if s > 0 and (log_next[s] == -np.inf or past[s].max() == 0.0):
                continue
            for j in range(1, numbers):
                value = past[s, j] * ahead[s, j]
                found.inclusion[s] += value
                if j == 1:
                    found.first[s] += value
                if j <= chosen:
                    joint = past[s, j] * prior[chosen] * density[s, chosen - j]
                    found.position[j - 1, s] += joint
            last, _ = segments_from(curve, noise, s, log_next, curve.margin, log_weight, sums)
            for t in range(s + min_points - 1, last + 1):
                if log_weight[t] == -np.inf:
                    continue
                term = np.exp(log_weight[t] + log_next[t + 1] - scale[s])
                if term < NEGLIGIBLE:
                    continue
                probability = 0.0
                if t == n - 1:
                    for j in range(numbers):
                        probability += past[s, j] * prior[j]
                else:
                    for j in range(numbers - 1):
                        probability += past[s, j] * ahead[t + 1, j + 1]
                        past[t + 1, j + 1] += past[s, j] * term
                probability *= term
                if probability > 1e-9 * weight[node]:
                    span = x[t] - x[s]
                    mean = mean_of(curve.basis, curve.own_scale, t - s + 1, x[s], span, sums[t])
                    _add_mean(found.moments, s, t, probability, mean)


@kernel()
def _add_mean(
    moments: Array,
    start: int,
    last: int,
    probability: float,
    mean: tuple[float, float, float, float, float],
) -> None:
    """Adds a segment's mean and mean square to the steps of their coefficients."""
    intercept, slope, v0, v1, v2 = mean
    terms = (
        intercept,
        slope,
        v0 + intercept * intercept,
        v1 + 2.0 * intercept * slope,
        v2 + slope * slope,
    )
    for k in range(5):
        moments[k, start] += probability * terms[k]
        moments[k, last + 1] -= probability * terms[k]
