"""From a saddle into a minimum: the solution of ds/dt = s^a (1 - s)^(1 + kappa), and its slopes.

What lives here: the share s of the way done, for any take-off a in [0, 2] and order n = kappa + 2
of the arrival, by compiled kernels on plain arrays. What does not: what onset and half-time are to
a curve (`shapes`, `families`), the same for PyTensor variables (`flow_op`), deep linear networks,
of which it is a mode where kappa is 0 and a = 2 - 2/L (`theory.saddles`).

In the log odds l = log(s / (1 - s)) the flow is one integral,

    t(l) = int_0^l exp(kappa log(1 + e^x) - (1 - a) log(1 + e^-x)) dx,

of a smooth function, which beyond `NODES` is exp((1 - a) l) on the left and exp(kappa l) on the
right. Between, it is added up from node to node by two-point Hermite quadrature, for its
derivatives are at hand, and inverted within a cell as an exponential is, with a cubic that mends
the slope at both ends. Both err by 1e-6 of s and less up to kappa = 3, and by 3e-5 at 8.

Time u is counted so that the tangent at the steepest point, s = a / (a + 1 + kappa), leaves s = 0
at u = 0, and s = 1/2 at u = 1.

The flow is Blumberg's hyperlogistic growth. A mode of a deep linear network of L layers leaves its
saddle with a = 2 - 2/L and arrives with kappa = 0 (Saxe, McClelland and Ganguli); L = 2 is the
logistic curve, where Richards's growth ds/dt = s (1 - s^v) / v, with v = 1, meets it too.

References
----------
Richards (1959), A flexible growth function for empirical use, Journal of Experimental Botany 10,
290-301. Blumberg (1968), Logistic growth rate functions, Journal of Theoretical Biology 21, 42-44.
Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep
linear neural networks, ICLR, arXiv 1312.6120.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from emergence_stats.noise.compiling import kernel

Array = np.ndarray

_WIDTH, _REACH = 0.25, 9.0
NODES = np.arange(-_REACH, _REACH + 0.5 * _WIDTH, _WIDTH)
_HALF = NODES.size // 2
_SHARE = 1.0 / (1.0 + np.exp(-NODES))
_UP, _DOWN = np.logaddexp(0.0, NODES), np.logaddexp(0.0, -NODES)
# Of Gauss's rule with three points on (-1/2, 1/2).
_GAUSS = np.array([-0.5 * np.sqrt(0.6), 0.0, 0.5 * np.sqrt(0.6)])
_WEIGHT = np.array([5.0, 8.0, 5.0]) / 18.0
# Take-offs are kept off 0, where the steepest point is the beginning itself; orders off what
# overflows.
_LEAST_TAKEOFF, _LARGEST_KAPPA = 1e-9, 60.0
_LONGEST = 1e300


def flow_share(u: Any, takeoff: Any, kappa: Any) -> Array:
    """The share s of the way done at times u; all arguments broadcast.

    Examples
    --------
    >>> flow_share(np.array([0.0, 1.0, 2.0]), 1.0, 0.0).round(4)
    array([0.1192, 0.5   , 0.8808])
    """
    u, takeoff, kappa = (np.asarray(x, dtype=float) for x in (u, takeoff, kappa))
    shape = np.broadcast_shapes(u.shape, takeoff.shape, kappa.shape)
    # One clock serves all points of a row.
    one = len(shape) > 0 and all(x.ndim == 0 or x.shape[-1] == 1 for x in (takeoff, kappa))
    rows, points = (shape[:-1], shape[-1]) if one else (shape, 1)
    out = np.empty((int(np.prod(rows)), points))
    clocks = (_flat(x[..., 0] if one and x.ndim else x, rows) for x in (takeoff, kappa))
    share_done(_flat(u, shape).reshape(out.shape), *clocks, out)
    return out.reshape(shape)


def _flat(x: Any, shape: tuple[int, ...]) -> Array:
    """A copy in this shape, as one row."""
    return np.array(np.broadcast_to(x, shape), dtype=float).reshape(-1)


def read_clock(shares: Any, takeoff: Any, kappa: Any) -> tuple[Array, Array]:
    """The times u at which these shares are done, and the units of t in one of u.

    Parameters
    ----------
    shares : array_like, shape (share,)
    takeoff, kappa : array_like
        These broadcast.

    Returns
    -------
    times : ndarray, shape (share, ...)
    unit : ndarray
        Of the flow as it is written above.

    Examples
    --------
    >>> times, unit = read_clock([0.5, 0.9], [0.0, 1.0], 0.0)
    >>> times.round(3)
    array([[1.   , 1.   ],
           [3.322, 2.099]])
    >>> unit.round(4)
    array([0.6931, 2.    ])
    """
    shape = np.broadcast_shapes(np.shape(takeoff), np.shape(kappa))
    asked = np.asarray(shares, dtype=float)
    times, unit = np.empty((asked.size, int(np.prod(shape)))), np.empty(int(np.prod(shape)))
    log_odds = np.log(asked) - np.log1p(-asked)
    read_clocks(log_odds, _flat(takeoff, shape), _flat(kappa, shape), times, unit)
    return times.reshape(asked.size, *shape), unit.reshape(shape)


class Clock(NamedTuple):
    """Time at each node, dt/dl there, and where it begins: t = start (1 - u)."""

    time: Array
    slope: Array
    start: float


@kernel(inline="always")
def _slope(x: float, takeoff: float, kappa: float) -> float:
    """dt/dl at log odds x."""
    down = np.log1p(np.exp(-abs(x))) + 0.5 * (abs(x) - x)
    return np.exp(kappa * (down + x) - (1.0 - takeoff) * down)


@kernel(inline="always")
def _powered(y: float, rate: float) -> float:
    """(exp(rate y) - 1) / rate."""
    return y if abs(rate * y) < 1e-9 else np.expm1(rate * y) / rate


@kernel(inline="always")
def _logged(y: float, rate: float) -> float:
    """Its inverse; infinite where there is none."""
    if abs(rate * y) < 1e-9:
        return y
    if rate * y <= -1.0:
        return -np.inf if rate > 0.0 else np.inf
    return np.log1p(rate * y) / rate


@kernel()
def _wind(takeoff: float, kappa: float, latest: float, time: Array, slope: Array) -> Clock:
    """The clock of one flow, in this memory; nodes after time u = `latest` are left at infinity."""
    last = NODES.size - 1
    fall = 1.0 - takeoff
    steepest = np.log(takeoff) - np.log1p(kappa)
    time[_HALF], slope[_HALF] = 0.0, np.exp((kappa - fall) * _UP[_HALF])
    for i in range(_HALF, 0, -1):
        slope[i - 1] = np.exp(kappa * _UP[i - 1] - fall * _DOWN[i - 1])
        time[i - 1] = time[i] - _cell(i - 1, slope, fall, kappa)
    share = takeoff / (takeoff + 1.0 + kappa)
    start, end = 0.0, np.inf
    for i in range(_HALF, last + 1):
        if start == 0.0 and NODES[i] > steepest:
            at = _time_at(steepest, takeoff, kappa, time, slope)
            start = at - share**fall * (1.0 - share) ** (-1.0 - kappa)
            end = start * (1.0 - latest)
        if i == last:
            break
        if time[i] > end:
            time[i + 1 :] = np.inf
            break
        slope[i + 1] = np.exp(kappa * _UP[i + 1] - fall * _DOWN[i + 1])
        time[i + 1] = time[i] + _cell(i, slope, fall, kappa)
    return Clock(time, slope, start)


@kernel(inline="always")
def _cell(i: int, slope: Array, fall: float, kappa: float) -> float:
    """Two-point Hermite quadrature with first and second derivatives."""
    total = 0.0
    for j in range(2):
        s = _SHARE[i + j]
        rate = fall * (1.0 - s) + kappa * s
        bend = rate * rate + s * (1.0 - s) * (kappa - fall)
        sign = 1.0 - 2.0 * j
        total += slope[i + j] * (0.5 + sign * 0.1 * _WIDTH * rate + _WIDTH**2 / 120.0 * bend)
    return _WIDTH * total


@kernel(inline="always")
def _time_at(x: float, takeoff: float, kappa: float, time: Array, slope: Array) -> float:
    """The time t at log odds x."""
    last = NODES.size - 1
    if x <= NODES[0]:
        return time[0] + slope[0] * _powered(x - NODES[0], 1.0 - takeoff)
    if x >= NODES[last]:
        return time[last] + slope[last] * _powered(x - NODES[last], kappa)
    i = min(int((x + _REACH) / _WIDTH), last - 1)
    width, total = x - NODES[i], 0.0
    for j in range(3):
        total += _WEIGHT[j] * _slope(NODES[i] + width * (0.5 + _GAUSS[j]), takeoff, kappa)
    return time[i] + width * total


@kernel(inline="always")
def _log_odds_at(t: float, takeoff: float, kappa: float, clock: Clock, i: int) -> float:
    """The log odds at time t, which lies in cell i, or before the first (-1), or after the last."""
    time, slope = clock.time, clock.slope
    last = NODES.size - 1
    if i < 0:
        return NODES[0] + _logged((t - time[0]) / slope[0], 1.0 - takeoff)
    if i >= last:
        return NODES[last] + _logged((t - time[last]) / slope[last], kappa)
    width = time[i + 1] - time[i]
    done = (t - time[i]) / width
    rate = np.log(slope[i + 1] / slope[i]) / _WIDTH
    # What an exponential would take for the cell; its slope differs by one factor at both ends.
    unit = _powered(_WIDTH, rate)
    x = _logged(done * unit, rate)
    factor = width / (slope[i] * unit) - 1.0
    return NODES[i] + x + factor * x * (1.0 - x / _WIDTH) * (1.0 - 2.0 * x / _WIDTH)


@kernel(inline="always")
def _bounded(t: float) -> float:
    """Kept off infinity, of which 0 times is no number."""
    return min(max(t, -_LONGEST), _LONGEST)


@kernel(inline="always")
def _cell_of(t: float, time: Array, i: int) -> int:
    """The cell in which t lies, from a guess on; -1 before the first, the last node after."""
    last = time.size - 1
    if not t > time[0]:
        return -1
    i = max(i, 0)
    while i < last and t >= time[i + 1]:
        i += 1
    while i > 0 and t < time[i]:
        i -= 1
    return i


@kernel()
def share_done(u: Array, takeoff: Array, kappa: Array, out: Array) -> None:
    """The share s at times u, shape (row, point), for one take-off and kappa a row."""
    time, slope = np.empty(NODES.size), np.empty(NODES.size)
    for r in range(u.shape[0]):
        a, k = max(takeoff[r], _LEAST_TAKEOFF), min(kappa[r], _LARGEST_KAPPA)
        clock = _wind(a, k, u[r].max(), time, slope)
        i = 0
        for p in range(u.shape[1]):
            t = _bounded(clock.start * (1.0 - u[r, p]))
            i = _cell_of(t, time, i)
            out[r, p] = 1.0 / (1.0 + np.exp(-_log_odds_at(t, a, k, clock, i)))


@kernel()
def read_clocks(log_odds: Array, takeoff: Array, kappa: Array, times: Array, unit: Array) -> None:
    """Times u at these log odds, shape (share, row), and what one u is of t, for each row."""
    time, slope = np.empty(NODES.size), np.empty(NODES.size)
    for r in range(takeoff.size):
        a, k = max(takeoff[r], _LEAST_TAKEOFF), min(kappa[r], _LARGEST_KAPPA)
        clock = _wind(a, k, np.inf, time, slope)
        unit[r] = -clock.start
        for j in range(log_odds.size):
            times[j, r] = 1.0 - _time_at(log_odds[j], a, k, time, slope) / clock.start


@kernel()
def share_and_slopes(u: Array, takeoff: float, kappa: float, out: Array) -> None:
    """s, ds/du, ds/da and ds/dkappa at times u; rows of `out`, shape (4, point)."""
    a, k = max(takeoff, _LEAST_TAKEOFF), min(kappa, _LARGEST_KAPPA)
    clock = _wind(a, k, u.max(), np.empty(NODES.size), np.empty(NODES.size))
    fall = 1.0 - a
    share = a / (a + 1.0 + k)
    top = np.log(a) - np.log1p(k)
    # The start's own derivatives: of t at the steepest point, and of what the tangent takes to it.
    reach = share**fall * (1.0 - share) ** (-1.0 - k)
    by_a, by_k = _slopes_at(top, a, k)
    here = share**fall * (1.0 - share) ** -k
    by_a += here / a - reach * (-np.log(share) + fall * (1.0 - share) / a + (1.0 + k) * share / a)
    by_k -= here / (1.0 + k) - reach * (np.log1p(-share) + fall / (a + 1.0 + k) + share)
    i = 0
    for p in range(u.size):
        t = _bounded(clock.start * (1.0 - u[p]))
        i = _cell_of(t, clock.time, i)
        x = _log_odds_at(t, a, k, clock, i)
        s = 1.0 / (1.0 + np.exp(-x))
        out[0, p] = s
        # So far off nothing moves it.
        if not (s > 0.0 and s < 1.0 and abs(t) < 1e50):
            out[1:, p] = 0.0
            continue
        speed = s**a * (1.0 - s) ** (1.0 + k)
        one, two = _slopes_at(x, a, k)
        out[1, p] = -clock.start * speed
        out[2, p] = ((1.0 - u[p]) * by_a - one) * speed
        out[3, p] = ((1.0 - u[p]) * by_k - two) * speed


@kernel()
def _slopes_at(x: float, takeoff: float, kappa: float) -> tuple[float, float]:
    """Derivatives of t(x) with respect to the take-off and kappa."""
    cells = int(abs(x) / _WIDTH) + 1
    width = x / cells
    by_takeoff, by_kappa = 0.0, 0.0
    for i in range(cells):
        for j in range(3):
            at = width * (i + 0.5 + _GAUSS[j])
            value = _WEIGHT[j] * width * _slope(at, takeoff, kappa)
            down = np.log1p(np.exp(-abs(at))) + 0.5 * (abs(at) - at)
            by_takeoff += value * down
            by_kappa += value * (down + at)
    return by_takeoff, by_kappa
