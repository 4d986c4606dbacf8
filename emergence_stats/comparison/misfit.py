"""Does the curve look like what the model would produce, and how far is it from that?

What lives here: the two halves of the verdict "misfit": posterior predictive alarms, and what the
mean of the model leaves, whatever the noise is taken for. What does not: the posterior
(`summaries`) or the verdict (`variables`).

Replicas share their parameters, noise and correlation with a posterior draw, so what correlated
noise can explain raises no alarm. An alarm alone is no misfit: of precise curves it tells
differences that matter to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from emergence_stats.curves.families import Family, mean_curve, nonlinear_names
from emergence_stats.quadrature.evidence import Batch

Array = np.ndarray

# In ranges of the curve: a law whose mean is nowhere further away describes it; one whose mean is
# the second away does not, whatever noise would explain, unless neighbours scatter as much.
LARGEST_DEPARTURE, HOPELESS_DEPARTURE = 0.1, 0.2
SCATTER = 4.0


def measure_residuals(
    batch: Batch, families: Sequence[Family], draw: Array, draw_family: Array, weight: Array
) -> Array:
    """How far is the curve from the mean of the better of emergence and none?

    Parameters as those of `misfit_p_values`.

    Returns
    -------
    ndarray, shape (curve, 3)
        In ranges of the curve: the root mean square of the residuals, their largest mean over
        three neighbours, and the sd of such a mean if only what neighbours differ by were noise.
    """
    out = np.zeros((len(draw), 3))
    for c in range(len(draw)):
        _, fitted = _fitted_curves(batch, families, draw, draw_family, weight, c)
        values = batch.curves.values[c, : fitted.shape[1]]
        extent = np.ptp(values)
        if extent > 0.0:
            residual = (values - fitted.mean(axis=0)) / extent
            smooth = np.convolve(residual, np.full(3, 1.0 / 3.0), mode="valid")
            scatter = np.sqrt((np.diff(residual, 2) ** 2).mean() / 6.0)
            out[c] = np.sqrt((residual**2).mean()), abs(smooth).max(), scatter / np.sqrt(3.0)
    return out


def is_misfit(p_value: Array, residual: Array, emergence: Array, threshold: float) -> Array:
    """The verdict's rule, from alarms, residuals and the probability that anything emerges."""
    departure = residual[:, 1]
    hopeless = (departure > HOPELESS_DEPARTURE) & (departure > SCATTER * residual[:, 2])
    alarmed = (p_value < threshold) & (departure > LARGEST_DEPARTURE)
    return alarmed | (hopeless & (emergence > 0.5))


def _fitted_curves(
    batch: Batch,
    families: Sequence[Family],
    draw: Array,
    draw_family: Array,
    weight: Array,
    c: int,
) -> tuple[Array, Array]:
    """The draws of the better of emergence and none, and their curves without noise."""
    names, n = nonlinear_names(families), int(batch.curves.num_points[c])
    emerges = weight[c, draw_family[c] > 0].sum() >= 0.5
    rows = np.flatnonzero((draw_family[c] > 0) == emerges)
    fitted = np.empty((rows.size, n))
    for f in np.unique(draw_family[c, rows]):
        mine = draw_family[c, rows] == f
        fitted[mine] = mean_curve(families[f], names, draw[c, rows[mine]], batch.curves.step[c, :n])
    return rows, fitted


def misfit_p_values(
    batch: Batch,
    families: Sequence[Family],
    draw: Array,
    draw_family: Array,
    weight: Array,
) -> Array:
    """Could the better of emergence and none have produced this curve?

    Posterior predictive p-values of three alarms (correlated residuals, a jump, decline after the
    peak), the smallest of them times three.

    Parameters
    ----------
    batch : Batch
    families : sequence of Family
    draw, draw_family, weight : ndarray
        Draws as in `summaries.Summaries`.

    Returns
    -------
    ndarray, shape (curve,)
    """
    first = len(nonlinear_names(families))
    out = np.empty(len(draw))
    for c in range(len(draw)):
        n = int(batch.curves.num_points[c])
        rows, fitted = _fitted_curves(batch, families, draw, draw_family, weight, c)
        linear = draw[c, rows, first:]
        sign = np.sign(linear[:, 1].sum()) or 1.0
        scale = batch.curves.scale[c]
        out[c] = _alarms(
            batch.curves.values[c, :n] / scale,
            fitted / scale,
            linear[:, 4, None] ** 2 * batch.variance[c, :n] if batch.measured else np.zeros((1, 1)),
            batch.gap[c, :n],
            linear[:, 2] / scale,
            linear[:, 3],
            sign,
            np.zeros((2, n)),
            # The same for every curve, so that none depends on its neighbours in the batch.
            np.random.default_rng(5),
        )
    return out


@numba.njit(cache=True, nogil=True)
def _alarms(
    y: Array,
    fitted: Array,
    variance: Array,
    gap: Array,
    sd: Array,
    correlation: Array,
    sign: float,
    both: Array,
    generator: np.random.Generator,
) -> float:
    """Residual runs, jumps and decline after the peak, against replicas from the same draw.

    Innovations of the noise, and replicas made from theirs, by the filter that `noise.kalman`
    describes; without measured sd the measurement's variance is 0. Rows of `both` are the curve and
    a replica.
    """
    n = y.size
    exceed = np.zeros(3)
    for k in range(fitted.shape[0]):
        rho, square = correlation[k], sd[k] * sd[k]
        runs = np.zeros((2, 2))
        jump = np.zeros(2)
        last = np.zeros(2)
        # Expected noise now, given all before, of the curve and of the replica; its variance.
        ahead = np.zeros(2)
        expected, share = square, 0.0
        for i in range(n):
            if i > 0:
                decay = rho ** gap[i] if rho > 0.0 else 0.0
                expected = decay * decay * expected * (1.0 - share) + square * (1.0 - decay * decay)
            # A correlation that rounds to 1 leaves nothing new, and nothing to divide by.
            total = max(expected + (variance[k, i] if variance.size > 1 else 0.0), 1e-300)
            share, spread = expected / total, np.sqrt(total)
            fresh = generator.standard_normal()
            both[0, i] = y[i]
            both[1, i] = fitted[k, i] + ahead[1] + spread * fresh
            for which in range(2):
                error = both[which, i] - fitted[k, i] - ahead[which]
                value = error / spread
                runs[which, 0] += value * value
                if i > 0:
                    runs[which, 1] += value * last[which]
                jump[which] = max(jump[which], abs(value))
                last[which] = value
                after = rho ** gap[i + 1] if i + 1 < n and rho > 0.0 else 0.0
                ahead[which] = after * (ahead[which] + share * error)
                both[which, i] *= sign
        tail = max(3, n // 10)
        drop = np.zeros(2)
        for which in range(2):
            series = both[which]
            peak = -np.inf
            for i in range(1, n - 1):
                peak = max(peak, (series[i - 1] + series[i] + series[i + 1]) / 3.0)
            end = 0.0
            for i in range(n - tail, n):
                end += series[i] / tail
            drop[which] = peak - end
        # Compared without dividing, for where rounding leaves no residuals both sums are 0.
        if abs(runs[1, 1]) * runs[0, 0] >= abs(runs[0, 1]) * runs[1, 0]:
            exceed[0] += 1.0
        if jump[1] >= jump[0]:
            exceed[1] += 1.0
        if drop[1] >= drop[0]:
            exceed[2] += 1.0
    return min(1.0, 3.0 * (exceed.min() + 1.0) / (fitted.shape[0] + 1.0))
