"""Summing over all segmentations of a curve at once, given its noise.

What lives here: the two passes of dynamic programming, as compiled kernels on plain arrays. What
does not: the probability of one segment (`segments`), what is believed of the noise and
the sum over it (`noise`), labels (`segmentation`).

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

import numba
import numpy as np

from emergence_stats.noise.whitening import FAST
from emergence_stats.segmentation.segments import SUMS, line_of, segments_from

Array = np.ndarray

# Ends this far (nats) below the best are not visited; see `segments_from`. Not so where the number
# of changes is limited to fewer than the curve shows: what then matters may be anywhere.
MARGIN = 60.0
# Terms of the sum and segments of the mean curve less probable than this are left out.
NEGLIGIBLE = 1e-15


@numba.njit(cache=True, nogil=True, error_model="numpy")
def log_prior_total(share: Array, allowed: Array, min_points: int, max_changes: int) -> Array:
    """Log E_k: total prior weight of all ways to place k changes, for k up to `max_changes`.

    Parameters
    ----------
    share : ndarray, shape (point,)
        Weight of the gap before each point.
    allowed : ndarray of bool, shape (point,)
        Where a segment may begin.
    """
    n = share.size
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
            if following < n and allowed[following]:
                total += share[following] * ways[following]
            further[s] = total
        out[k] = scale + np.log(further[0]) if further[0] > 0.0 else -np.inf
        largest = further.max()
        if largest > 0.0:
            scale += np.log(largest)
            further /= largest
        ways = further
    return out


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def noise_tables(
    log_rho: float, gap: Array, variance: Array, factor: float, decay: Array, fresh: Array
) -> Array:
    """Fills correlations with the point before and what they leave; scales measured variances."""
    for i in range(gap.size):
        if log_rho == -np.inf:
            decay[i], fresh[i] = 0.0, 1.0
        else:
            decay[i] = np.exp(log_rho * gap[i])
            fresh[i] = -np.expm1(2.0 * log_rho * gap[i])
    return variance * (factor * factor)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def backward(
    y: Array,
    x: Array,
    variance: Array,
    decay: Array,
    fresh: Array,
    stationary: float,
    linear: bool,
    own_scale: bool,
    min_points: int,
    log_share: Array,
    margin: float,
    future: Array,
    scale: Array,
    log_next: Array,
) -> float:
    """Fills `future` (point + 1, k): Q_k(s) as multiples of exp(`scale`), and `log_next`.

    `log_share` is that of the gap before each point, -inf where no segment may begin. The largest
    k is found for s = 0 alone, as one change at least lies before any other s. Returns log Q_0(0),
    which may be too small beside the others to be kept with them.
    """
    n = y.size
    numbers = future.shape[1]
    log_weight = np.empty(n)
    unused = np.empty((1, SUMS))
    log_next[:n] = -np.inf
    log_next[n], scale[n] = 0.0, 0.0
    future[:] = 0.0
    for s in range(n - min_points, -1, -1):
        if s > 0 and log_share[s] == -np.inf:
            continue
        last, best = segments_from(
            s,
            y,
            x,
            variance,
            decay,
            fresh,
            stationary,
            linear,
            own_scale,
            min_points,
            log_next,
            margin if s > 0 else np.inf,
            log_weight,
            False,
            unused,
        )
        usable = numbers if s == 0 else max(numbers - 1, 1)
        row = future[s, :usable]
        for t in range(s + min_points - 1, min(last, n - 2) + 1):
            if log_weight[t] == -np.inf:
                continue
            term = np.exp(log_weight[t] + log_next[t + 1] - best)
            if term > NEGLIGIBLE:
                following = future[t + 1]
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
            log_next[s] = log_share[s] + scale[s]
    return log_weight[n - 1]


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def evidence_of_nodes(
    nodes: Array,
    y: Array,
    x: Array,
    variance: Array,
    gap: Array,
    linear: bool,
    own_scale: bool,
    min_points: int,
    log_share: Array,
    margin: float,
    max_changes: int,
    log_future: Array,
) -> None:
    """Log density of the curve with each number of changes, one row for each node of the noise.

    Columns of `nodes` are the factor of the measured sd, the variance of the other noise, and the
    log of its correlation. Without the prior total E_k, and without (2 pi)^(-n/2).
    """
    n = y.size
    future = np.empty((n + 1, max_changes + 1))
    scale, log_next = np.empty(n + 1), np.empty(n + 1)
    decay, fresh = np.empty(n), np.empty(n)
    for j in range(len(nodes)):
        scaled = noise_tables(nodes[j, 2], gap, variance, nodes[j, 0], decay, fresh)
        log_future[j, 0] = backward(
            y,
            x,
            scaled,
            decay,
            fresh,
            nodes[j, 1],
            linear,
            own_scale,
            min_points,
            log_share,
            margin,
            future,
            scale,
            log_next,
        )
        for k in range(1, max_changes + 1):
            log_future[j, k] = scale[0] + np.log(future[0, k])


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def posterior_of_nodes(
    nodes: Array,
    weight: Array,
    y: Array,
    x: Array,
    variance: Array,
    gap: Array,
    linear: bool,
    own_scale: bool,
    min_points: int,
    log_share: Array,
    margin: float,
    prior: Array,
    chosen: int,
    inclusion: Array,
    first: Array,
    position: Array,
    moments: Array,
) -> None:
    """Adds each node's posterior, times its weight, to what is wanted of all of them.

    Parameters
    ----------
    nodes, weight : ndarray
        As in `evidence_of_nodes`, and the posterior mass of each.
    prior : ndarray, shape (k,)
        Prior probability of each number of changes over E_k.
    chosen : int
        Number of changes for which `position` is wanted.
    inclusion, first : ndarray, shape (point,)
        Probability of a change in the gap before the point; of its being the first one.
    position : ndarray, shape (chosen, point)
        Joint probability of `chosen` changes in all and of the j-th being in that gap.
    moments : ndarray, shape (5, point + 1)
        Steps of the mean curve's intercept and slope, and of its square's three coefficients.
    """
    n = y.size
    numbers = prior.size
    future = np.empty((n + 1, numbers))
    past = np.empty((n + 1, numbers))
    ahead = np.empty((n + 1, numbers))
    scale, log_next = np.empty(n + 1), np.empty(n + 1)
    decay, fresh = np.empty(n), np.empty(n)
    log_weight = np.empty(n)
    sums = np.empty((n, SUMS))
    for node in range(len(nodes)):
        stationary = nodes[node, 1]
        scaled = noise_tables(nodes[node, 2], gap, variance, nodes[node, 0], decay, fresh)
        backward(
            y,
            x,
            scaled,
            decay,
            fresh,
            stationary,
            linear,
            own_scale,
            min_points,
            log_share,
            margin,
            future,
            scale,
            log_next,
        )
        total = 0.0
        for k in range(numbers):
            total += prior[k] * future[0, k]
        unit = weight[node] / total
        # What is ahead of point s once j changes are behind it; at the end nothing is.
        future[n, 0] = 1.0
        ahead[:] = 0.0
        for s in range(1, n + 1):
            if s < n and log_next[s] == -np.inf:
                continue
            for j in range(numbers):
                value = 0.0
                for k in range(numbers - j):
                    value += prior[j + k] * future[s, k]
                ahead[s, j] = value
        past[:] = 0.0
        past[0, 0] = unit
        for s in range(n - min_points + 1):
            if s > 0 and (log_next[s] == -np.inf or past[s].max() == 0.0):
                continue
            for j in range(1, numbers):
                value = past[s, j] * ahead[s, j]
                inclusion[s] += value
                if j == 1:
                    first[s] += value
                if j <= chosen:
                    position[j - 1, s] += past[s, j] * prior[chosen] * future[s, chosen - j]
            last, _ = segments_from(
                s,
                y,
                x,
                scaled,
                decay,
                fresh,
                stationary,
                linear,
                own_scale,
                min_points,
                log_next,
                margin,
                log_weight,
                True,
                sums,
            )
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
                    line = line_of(linear, own_scale, t - s + 1, x[s], x[t] - x[s], sums[t])
                    _add_line(moments, s, t, probability, line)


@numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _add_line(
    moments: Array,
    start: int,
    last: int,
    probability: float,
    line: tuple[float, float, float, float, float],
) -> None:
    """Adds a segment's mean and mean square to the steps of their coefficients."""
    intercept, slope, v0, v1, v2 = line
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
