"""What does an attention head look at?

What lives here: the scores of a head computed from its attention weights and the particles' places:
the collision score, the attention-distance correlation, and the rank correlation of attention with
contact. What does not: running the network (`model`) and the effect of removing a head
(`experiments.assessment`).

Each score is a ratio of sums over samples. Pairs within one sample are not independent, so every
standard error is taken over samples (or over the systems they come from) by linearisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from emergence_stats.checks import PROB
from emergence_stats.errors import InputError


def collision_score(
    attention: ArrayLike, positions: ArrayLike, *, diameter: float, contact_range: float = 1.5
) -> xr.Dataset:
    """How much of a head's attention to others falls on particles about to collide?

    The mean, over queries with at least one neighbour within `contact_range` diameters, of the
    share of the query's attention to other particles that falls on those neighbours. A head that
    ignores distance scores the `baseline`, the mean share of other particles within range.

    Parameters
    ----------
    attention : array_like, shape (sample, ..., query, key)
        Attention weights; further axes (layer, head) are scored one by one.
    positions : array_like, shape (sample, particle, axis)
        Centres, in the units of `diameter`.
    diameter : float
        Particle diameter.
    contact_range : float
        Centre distance, in diameters, within which a particle counts as a neighbour.

    Returns
    -------
    xarray.Dataset
        `collision_score` and its standard error over samples `collision_score_sd`, with the
        dimensions of the further axes; `baseline` is an attribute of the score. NaN where no
        query has a neighbour.

    Raises
    ------
    InputError
        If shapes disagree, numbers are not finite, or a length is not positive.

    Examples
    --------
    >>> places = np.array([[[0.0, 0.0], [1.2, 0.0], [9.0, 0.0]]])
    >>> on_neighbour = np.array([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]])
    >>> float(collision_score(on_neighbour, places, diameter=1.0)["collision_score"])
    1.0
    """
    weights, distance = _check(attention, positions, diameter)
    if not (np.isfinite(contact_range) and contact_range > 0):
        raise InputError(f"contact_range: {contact_range}; give a positive number of diameters")
    others = ~np.eye(distance.shape[-1], dtype=bool)
    near = (distance < contact_range * diameter) & others  # (sample, query, key)
    asked = near.any(-1)  # (sample, query)
    number = asked.sum(-1).astype(float)  # (sample,)
    inside = np.where(near, weights, 0.0).sum(-1)
    total = np.where(others, weights, 0.0).sum(-1)
    share = np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)
    score, error = ratio_with_error((share * asked).sum(-1), number)
    in_range = near.sum(-1) / (near.shape[-1] - 1)  # share of the other particles, by query
    baseline, _ = ratio_with_error(in_range.sum(-1), number)
    return _label(
        "collision_score",
        score,
        error,
        ("collision score", "standard error of the collision score over samples"),
        _dims(score),
        baseline=float(baseline),
        units="share of attention",
        contact_range=f"{contact_range} diameters",
    )


def attention_distance_correlation(
    attention: ArrayLike, positions: ArrayLike, *, diameter: float, edges: ArrayLike | None = None
) -> xr.Dataset:
    """How does a head's attention depend on distance?

    g(r), the mean attention on particles at distance r divided by the mean attention over all
    pairs, self excluded: 1 everywhere for a head that ignores distance.

    Parameters
    ----------
    attention : array_like, shape (sample, ..., query, key)
    positions : array_like, shape (sample, particle, axis)
    diameter : float
        Particle diameter, in the units of `positions`.
    edges : array_like, shape (bin + 1,), optional
        Increasing bin edges in diameters; 24 equal bins from contact to the largest distance when
        left out. Pairs outside all bins count for the mean only.

    Returns
    -------
    xarray.Dataset
        `attention_distance_correlation` (..., distance), its standard error over samples
        `attention_distance_correlation_sd`, and the bin centres in diameters as `distance`. NaN
        for bins without pairs.

    Raises
    ------
    InputError
        If shapes disagree, numbers are not finite, or edges do not increase.

    Examples
    --------
    >>> places = np.random.default_rng(0).random((8, 5, 2))
    >>> indifferent = np.full((8, 5, 5), 0.2)
    >>> g = attention_distance_correlation(indifferent, places, diameter=0.1, edges=[0, 5, 15])
    >>> g["attention_distance_correlation"].values
    array([1., 1.])
    """
    weights, distance = _check(attention, positions, diameter)
    if edges is None:
        edges = np.linspace(1.0, max(2.0, float(distance.max() / diameter)), 25)
    edges = np.asarray(edges, dtype=float)
    if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges) > 0).all():
        raise InputError(f"edges: {edges}; give at least two increasing distances in diameters")
    samples, particles, _ = distance.shape
    bins = edges.size - 1
    others = np.broadcast_to(~np.eye(particles, dtype=bool), distance.shape)
    which = np.searchsorted(edges, distance / diameter, side="right") - 1
    inside = others & (which >= 0) & (which < bins)
    # The last column, of each sample's pairs outside all bins, counts for the mean only.
    index = np.where(inside, which, bins) + (bins + 1) * np.arange(samples)[:, None, None]

    def add_up(values: NDArray) -> NDArray:
        total = np.bincount(index.ravel(), values.ravel(), samples * (bins + 1))
        return total.reshape(samples, bins + 1)

    leading = weights.shape[:-3]
    heads = weights.reshape(-1, *distance.shape)
    mass = np.stack([add_up(np.where(others, one, 0.0)) for one in heads])
    mass = mass.reshape(*leading, samples, bins + 1)
    pairs = add_up(others.astype(float))  # (sample, bin)
    pairs[:, pairs.sum(0) == 0] = np.nan  # bins without pairs
    per_bin = mass.sum(-2) / pairs.sum(0)  # (..., bin)
    overall = mass.sum((-2, -1)) / others.sum()  # (...)
    correlation = per_bin / overall[..., None]
    # Linearised ratio of two ratios: each sample's pull through its bin less through the mean.
    share = mass.sum((-2, -1))[..., None, None]
    through_bin = (mass - per_bin[..., None, :] * pairs) / (pairs.sum(0) * overall[..., None, None])
    through_mean = (mass.sum(-1) - overall[..., None] * others[0].sum())[..., None] / share
    pull = through_bin - correlation[..., None, :] * through_mean
    error = np.sqrt((pull**2).sum(-2) * samples / max(1, samples - 1))
    centres = xr.Variable(
        "distance",
        0.5 * (edges[1:] + edges[:-1]),
        {"long_name": "centre distance", "units": "diameters"},
    )
    return _label(
        "attention_distance_correlation",
        correlation[..., :-1],
        error[..., :-1],
        ("attention-distance correlation g(r)", "standard error of g(r) over samples"),
        (*_dims(overall), "distance"),
        baseline=1.0,
        units="1",
    ).assign_coords(distance=centres)


def contact_rank_correlation(
    attention: ArrayLike, contact: ArrayLike, *, cluster: ArrayLike, prob: float = PROB
) -> xr.Dataset:
    """Does a head attend more to the pairs that touch during the coming interval?

    The rank-biserial correlation 2 P(A_touching > A_other) - 1 over ordered pairs of different
    particles: Spearman's idea for one binary variable, but reaching 1 however rare contacts are.

    Parameters
    ----------
    attention : array_like, shape (sample, ..., query, key)
    contact : array_like of bool, shape (sample, particle, particle)
        Whether each pair touches during the interval.
    cluster : array_like, shape (sample,)
        Which independent system each sample comes from; the interval allows for dependence within.
    prob : float
        Probability of the interval.

    Returns
    -------
    xarray.Dataset
        `contact_rank_correlation` and its `_lower` and `_upper` bounds; NaN where no pair, or
        every pair, touches.

    References
    ----------
    Cureton (1956), Psychometrika 21, 287; the clustered variance is that of Obuchowski (1997),
    Biometrics 53, 567, in linearised form.

    Examples
    --------
    >>> touching = np.zeros((1, 3, 3), dtype=bool)
    >>> touching[0, 0, 1] = touching[0, 1, 0] = True
    >>> result = contact_rank_correlation(touching + 0.0, touching, cluster=[0])
    >>> float(result["contact_rank_correlation"])
    1.0
    """
    weights = np.asarray(attention, dtype=float)
    touching = np.asarray(contact, dtype=bool)
    groups = np.asarray(cluster)
    if weights.ndim < 3 or touching.shape != (weights.shape[0], *weights.shape[-2:]):
        raise InputError(
            f"contact: shape {touching.shape} does not go with attention of shape "
            f"{weights.shape}; give (sample, particle, particle)"
        )
    if groups.shape != touching.shape[:1]:
        raise InputError(f"cluster: shape {groups.shape}; give one label a sample")
    particles = touching.shape[-1]
    pairs = np.broadcast_to(~np.eye(particles, dtype=bool), touching.shape)
    label = touching[pairs]  # (pair,)
    _, group = np.unique(np.repeat(groups, particles * (particles - 1)), return_inverse=True)
    heads = np.moveaxis(weights, 0, -3)
    found = [_rank_biserial(one[pairs], label, group) for one in heads.reshape(-1, *touching.shape)]
    estimate, error = np.array(found).T.reshape(2, *heads.shape[:-3])
    half = stats.norm.ppf(0.5 + prob / 2) * error
    text = {"units": "1", "long_name": "rank correlation of attention with contact"}
    return xr.Dataset(
        {
            f"contact_rank_correlation{end}": (_dims(estimate), values, text)
            for end, values in (
                ("", estimate),
                ("_lower", np.clip(estimate - half, -1, 1)),
                ("_upper", np.clip(estimate + half, -1, 1)),
            )
        },
        attrs={"probability": prob},
    )


def _rank_biserial(
    values: NDArray[np.floating], label: NDArray[np.bool_], group: NDArray[np.integer]
) -> tuple[float, float]:
    """The correlation and its standard error over groups."""
    positives, negatives = values[label], values[~label]
    if not (positives.size and negatives.size):
        return np.nan, np.nan
    low, high = np.sort(negatives), np.sort(positives)
    below = (np.searchsorted(low, positives) + np.searchsorted(low, positives, "right")) / 2
    above = (np.searchsorted(high, negatives) + np.searchsorted(high, negatives, "right")) / 2
    win = below / negatives.size  # for each touching pair, the share of others it beats
    lose = 1 - above / positives.size  # for each other pair, the share of touching ones above it
    area = float(win.mean())
    number = int(group.max()) + 1
    pull = np.bincount(group[label], (win - area) / positives.size, number)
    pull += np.bincount(group[~label], (lose - area) / negatives.size, number)
    if number < 2:
        return 2 * area - 1, np.nan
    return 2 * area - 1, 2 * float(np.sqrt((pull**2).sum() * number / (number - 1)))


def ratio_with_error(numerator: NDArray, denominator: NDArray) -> tuple[NDArray, NDArray]:
    """Sum over samples (last axis) of one over that of the other, and its standard error.

    Both are NaN where the denominators sum to 0.
    """
    total = denominator.sum()
    if total == 0:
        empty = np.full(numerator.shape[:-1], np.nan)
        return empty, empty
    ratio = numerator.sum(-1) / total
    rest = numerator - ratio[..., None] * denominator
    samples = denominator.size
    return ratio, np.sqrt((rest**2).sum(-1) * samples / max(1, samples - 1)) / total


def _dims(values: NDArray) -> tuple[str, ...]:
    """Names of the further axes of attention weights."""
    return ("run", "layer", "head")[3 - values.ndim :]


def _label(
    name: str,
    values: NDArray,
    errors: NDArray,
    long_names: tuple[str, str],
    dims: tuple[str, ...],
    *,
    baseline: float,
    **attrs: Any,
) -> xr.Dataset:
    """A score and its standard error as a dataset."""
    score, error = ({"long_name": long_name, **attrs} for long_name in long_names)
    return xr.Dataset(
        {name: (dims, values, {**score, "baseline": baseline}), f"{name}_sd": (dims, errors, error)}
    )


def _check(
    attention: ArrayLike, positions: ArrayLike, diameter: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Attention weights as (..., sample, query, key), and all distances."""
    weights = np.asarray(attention, dtype=float)
    places = np.asarray(positions, dtype=float)
    if places.ndim != 3:
        raise InputError(
            f"positions: shape {places.shape}; give (sample, particle, axis), with a sample axis "
            "of length 1 for a single state"
        )
    samples, particles, _ = places.shape
    if weights.ndim < 3 or weights.shape[0] != samples or weights.shape[-2:] != (particles,) * 2:
        raise InputError(
            f"attention: shape {weights.shape} does not go with positions of shape "
            f"{places.shape}; give ({samples}, ..., {particles}, {particles})"
        )
    if particles < 2:
        raise InputError("positions: one particle has no others to attend to; give at least two")
    if not (np.isfinite(weights).all() and np.isfinite(places).all()):
        raise InputError("attention, positions: hold NaN or infinity; remove those samples")
    if not (np.isfinite(diameter) and diameter > 0):
        raise InputError(f"diameter: {diameter}; give a positive length")
    distance = np.linalg.norm(places[:, :, None] - places[:, None, :], axis=-1)
    return np.moveaxis(weights, 0, -3), distance
