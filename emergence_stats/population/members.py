"""Each member's likelihood of onset and half-time at a few values of kappa.

What lives here: choosing those values, finding the posterior of every member at each, and handing
both to the array core (`population`). What does not: anything the members have in common, labels.

With kappa held fixed a posterior is found quickly and its tails in kappa are never at stake: far
from a member's own order the likelihood is still known. Of a gradual rise the take-off is a third
parameter, each member's own, and integrated out under the prior that it has in `compare`: its
posterior's points keep onset and half-time only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from emergence_stats.curves.families import KAPPA, LAWS, Family, get_family
from emergence_stats.curves.priors import StepAxis, step_axis
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.population.population import KAPPA_OFFSET, NUM_CELLS, Members, gaussian_cells
from emergence_stats.quadrature.evidence import Batch, posterior

Array = np.ndarray

# 98% of the half-normal prior lies below 4.7; a population's tail reaches further.
LARGEST_KAPPA = 12.0
NUM_KAPPA, MAX_KAPPA = 12, 36
# Points are gathered into cells, so the grids behind them must be finer than for evidences.
TOLERANCE = 0.01
# Of points drawn evenly, where rises are gradual: a standard error, some three times their own.
DRAWN_TOLERANCE = 0.02


@dataclass(frozen=True)
class MemberLikelihoods:
    """What the population's integral needs.

    Attributes
    ----------
    members : Members
    error : ndarray, shape (member,)
        Estimate of the error of a member's log evidences.
    axis : StepAxis
        The one axis all members' onsets are placed on; one entry.
    """

    members: Members
    error: Array
    axis: StepAxis


def common_axis(curves: CurveArrays, step_prior: str) -> StepAxis:
    """One axis for all curves, from the first step of any to the last, one entry a curve."""
    own = step_axis(curves, step_prior)
    first = int(np.argmin(own.first))
    same = np.ones(own.first.size)
    return StepAxis(
        own.first[first] * same,
        own.last.max() * same,
        own.shortest_gap.min() * same,
        own.offset[first] * same,
        own.logarithmic,
    )


def relaxation_at(kappa: float, laws: tuple[str, str] = LAWS[0]) -> Family:
    """A pair of laws with kappa known: the power law, or where kappa is 0 the exponential.

    Examples
    --------
    >>> at_one = relaxation_at(1.0, ("sudden_exponential", "sudden_power_law"))
    >>> at_one.shape(np.array([20.0]), np.array([0.0]), np.array([10.0])).round(3)
    array([0.667])
    >>> [parameter.name for parameter in relaxation_at(1.0).parameters]
    ['onset', 'half_time', 'takeoff']
    """
    exponential, power_law = map(get_family, laws)
    if kappa == 0.0:
        return exponential
    whole, at = power_law.shape, power_law.parameters.index(KAPPA)
    assert whole is not None

    def shape(step: Array, *others: Array) -> Array:
        return whole(step, *others[:at], kappa, *others[at:])

    others = power_law.parameters[:at] + power_law.parameters[at + 1 :]
    name = f"{power_law.name}_at_{kappa:.6g}"
    return replace(power_law, name=name, parameters=others, shape=shape, derived=None)


def member_likelihoods(
    curves: CurveArrays,
    *,
    laws: tuple[str, str] = LAWS[0],
    noise: str = "ar1",
    step_prior: str = "log",
    report: Callable[[int], None] | None = None,
) -> MemberLikelihoods:
    """Likelihoods of every curve on one axis, at kappas as dense as the curves need.

    Parameters
    ----------
    curves : CurveArrays
    laws : (str, str)
        A pair of `families.LAWS`.
    noise : {"ar1", "independent"}
    step_prior : {"log", "linear"}
    report : callable, optional
        Called with 1 after each kappa.

    Returns
    -------
    MemberLikelihoods
    """
    axis = common_axis(curves, step_prior)
    batch = Batch(curves, axis, noise)
    tell = report or (lambda number: None)
    found: dict[float, tuple[Array, Array, list[tuple[Array, Array, Array]]]] = {}
    ends = np.log(KAPPA_OFFSET), np.log(LARGEST_KAPPA + KAPPA_OFFSET)
    wanted = [float(place) for place in np.linspace(*ends, NUM_KAPPA)]
    while wanted:
        for place in wanted:
            kappa = max(float(np.exp(place)) - KAPPA_OFFSET, 0.0) if place > ends[0] else 0.0
            with np.errstate(under="ignore", over="ignore"):
                found[place] = _at(batch, relaxation_at(kappa, laws))
            tell(1)
        places = np.array(sorted(found))
        wanted = _gaps(places, np.stack([found[p][0] for p in places], axis=1))
        wanted = wanted[: MAX_KAPPA - len(found)]
    ordered = sorted(found)
    values = np.maximum(np.exp(ordered) - KAPPA_OFFSET, 0.0)
    values[0] = 0.0
    cells = [found[p][2] for p in ordered]
    stacked = [
        np.stack([np.stack([cells[g][i][part] for g in range(len(ordered))]) for i in range(n)])
        for n in (curves.num_points.size,)
        for part in range(3)
    ]
    evidence = np.stack([found[p][0] for p in ordered], axis=1)
    return MemberLikelihoods(
        Members(values, stacked[0] + evidence[:, :, None], stacked[1], stacked[2]),
        _typical_error(evidence, np.stack([found[p][1] for p in ordered], axis=1)),
        axis.take(np.array([0])),
    )


def _typical_error(evidence: Array, error: Array) -> Array:
    """Errors of the log evidences where a member's kappa is likely to be."""
    weight = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    return (weight * error).sum(axis=1) / weight.sum(axis=1)


def _gaps(places: Array, evidence: Array) -> list[float]:
    """Middles of the intervals in which some member's log evidence bends too much to interpolate.

    A parabola through points 8 nats of second difference apart is 2.8 standard deviations between
    points, and a spline through its logarithm still good to a few hundredths of a nat.
    """
    slope = np.diff(evidence, axis=1) / np.diff(places)
    bend = np.abs(np.diff(slope, axis=1))
    matters = evidence > evidence.max(axis=1, keepdims=True) - 15.0
    # Also where all together are high: there a common kappa would lie.
    joint = evidence.sum(axis=0)
    matters |= joint > joint.max() - 15.0
    wanted = []
    for g in range(places.size - 1):
        width = places[g + 1] - places[g]
        near = [bend[:, k] for k in (g - 1, g) if 0 <= k < bend.shape[1]]
        curved = np.max(near, axis=0) * width > 8.0
        if width > 0.02 and (curved & (matters[:, g] | matters[:, g + 1])).any():
            wanted.append(float(0.5 * (places[g] + places[g + 1])))
    return wanted


def _at(batch: Batch, family: Family) -> tuple[Array, Array, list[tuple[Array, Array, Array]]]:
    """Log evidence, its error and cells of every member at one kappa."""
    found = posterior(family, batch, DRAWN_TOLERANCE if family.gradual else TOLERANCE)
    cells = []
    for c in range(batch.curves.num_points.size):
        part = slice(found.start[c], found.start[c + 1])
        position, half_time = found.z[part, 0], found.z[part, 1]
        # An onset at the very end of its axis stands for those near it.
        inside = position[(position > 0.0) & (position < 1.0)]
        low, high = (
            (inside.min() / 3.0, 1.0 - (1.0 - inside.max()) / 3.0)
            if inside.size
            else (
                1e-3,
                1.0 - 1e-3,
            )
        )
        position = np.clip(position, low, high)
        log_odds = np.log(position) - np.log1p(-position)
        log_prior = (
            np.log(position) + np.log1p(-position) - 0.5 * half_time**2 - 0.5 * np.log(2.0 * np.pi)
        )
        point = np.ascontiguousarray(np.column_stack([log_odds, half_time]))
        cells.append(gaussian_cells(point, found.weight[part], log_prior, NUM_CELLS))
    return found.log_integral, found.error, cells
