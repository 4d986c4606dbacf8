"""From a population's draws to the labelled variables of `HierarchicalComparison`.

What lives here: units, quantiles, names and dimensions. What does not: inference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from emergence_stats.checks import QUANTILES
from emergence_stats.comparison.summaries import weighted_quantile
from emergence_stats.curves.families import HALF_TIME
from emergence_stats.curves.priors import StepAxis
from emergence_stats.data.labels import Labels
from emergence_stats.population.importance import PopulationPosterior
from emergence_stats.population.population import HYPOTHESES

Array = np.ndarray
# Rows of the arrays, posterior, step axis, errors of the members' evidences, disagreement.
Found = tuple[Array, PopulationPosterior, StepAxis, Array, Array]

POPULATION = (
    "onset_centre",
    "onset_spread",
    "half_time_centre",
    "half_time_spread",
    "order",
    "order_spread",
)
OVER_MEMBERS = ("order", "onset", "half_time")
_ATTRS = {
    "onset_centre": ("onset of the median member", "steps"),
    "onset_spread": ("sd between members of the log odds of the onset's position", "1"),
    "half_time_centre": ("half-time of the median member", "steps"),
    "half_time_spread": ("sd between members of the natural logarithm of the half-time", "1"),
    "common_order": ("order of the potential, given that all members share it", "1"),
    "population_order": ("order of the median member, given that orders vary", "1"),
    "order_spread": ("sd between members of log kappa, given that orders vary", "1"),
    "member_order": ("order of each member, given that orders vary", "1"),
    "member_onset": ("onset of each member in the light of the others", "steps"),
    "member_half_time": ("half-time of each member in the light of the others", "steps"),
}


def onset_step(log_odds: Array, axis: StepAxis) -> Array:
    """The step at these log odds of the position on the axis."""
    position = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -700.0, 700.0)))
    return np.asarray(axis.position_to_step(position))


def natural(population: Array, axis: StepAxis) -> Array:
    """Population draws in the units of the result, in the order of `POPULATION`."""
    out = population.copy()
    out[..., 0] = onset_step(population[..., 0], axis)
    out[..., 2] = HALF_TIME.prior.value(population[..., 2], axis)
    one = np.log(HALF_TIME.prior.value(np.array(1.0), axis))
    out[..., 3] *= one - np.log(HALF_TIME.prior.value(np.array(0.0), axis))
    out[..., 4] = 2.0 + np.exp(population[..., 4])
    return out


def population_variables(
    results: Sequence[Found],
    dims: Sequence[str],
    shape: tuple[int, ...],
    threshold: float,
    few_cells: float,
) -> xr.Dataset:
    """Everything said of the populations, one for each entry of the left-over dimensions."""
    dataset = xr.Dataset(
        coords={
            "hypothesis": list(HYPOTHESES),
            "quantile": list(QUANTILES),
            "parameter": list(POPULATION),
        }
    )

    def put(name: str, values: Sequence[Array], inner: Sequence[str] = ()) -> None:
        stacked = np.stack(values)
        folded = stacked.reshape(shape + stacked.shape[1:])
        dataset[name] = ((*dims, *inner), folded, _attributes(name))

    posteriors = [found[1] for found in results]
    evidence = np.stack([p.log_evidence for p in posteriors])
    probability = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    # The members' own errors are the same curves' under every hypothesis, yet not the same.
    member_error = np.array([[np.sqrt((found[3] ** 2).sum())] for found in results])
    error = np.hypot(np.stack([p.error for p in posteriors]), member_error)
    put("log_evidence", list(evidence), ["hypothesis"])
    put("log_evidence_error", list(error), ["hypothesis"])
    put("probability", list(probability), ["hypothesis"])
    put("effective_size", [p.effective_size for p in posteriors], ["hypothesis"])
    best = probability.argmax(axis=1)
    rows = np.arange(len(best))
    verdict = np.where(
        probability[rows, best] >= threshold, np.array(HYPOTHESES)[best], "undecided"
    )
    put("verdict", list(verdict))
    cells = np.array([p.effective_cells[b].min() for p, b in zip(posteriors, best, strict=True)])
    put("trusted", list((cells >= few_cells) & (error[rows, best] < 0.5)))
    draws = [natural(found[1].population, found[2]) for found in results]
    put("draw", draws, ["hypothesis", "draw_number", "parameter"])
    quantiles = [np.moveaxis(np.quantile(d, QUANTILES, axis=1), 0, -1) for d in draws]
    for k, name in enumerate(POPULATION[:4]):
        put(name, [q[:, k] for q in quantiles], ["hypothesis", "quantile"])
    put("common_order", [q[1, 4] for q in quantiles], ["quantile"])
    put("population_order", [q[2, 4] for q in quantiles], ["quantile"])
    put("order_spread", [q[2, 5] for q in quantiles], ["quantile"])
    put("disagreement", [found[4] for found in results], ["parameter"])
    return dataset


def member_variables(
    dataset: xr.Dataset,
    results: Sequence[Found],
    labels: Labels,
    own: xr.Dataset,
    included: Array,
) -> None:
    """Adds what is said of each member, NaN where it was left out."""
    size = (included.size, len(QUANTILES))
    values = {name: np.full(size, np.nan) for name in OVER_MEMBERS}
    cells = np.full((included.size, len(HYPOTHESES)), np.nan)
    flat = dataset["probability"].values.reshape(-1, len(HYPOTHESES))
    for probability, (rows, posterior, axis, _, _) in zip(flat, results, strict=True):
        member = posterior.member
        weight = np.repeat(probability, member.shape[1]) / member.shape[1]
        cells[rows] = posterior.effective_cells.T
        onset = onset_step(member[..., 0], axis)
        half_time = HALF_TIME.prior.value(member[..., 1], axis)
        for i, row in enumerate(rows):
            values["order"][row] = 2.0 + np.quantile(member[2, :, i, 2], QUANTILES)
            for name, draw in (("onset", onset), ("half_time", half_time)):
                values[name][row] = weighted_quantile(draw[:, :, i].ravel(), weight, QUANTILES)
    for name in OVER_MEMBERS:
        dataset[f"member_{name}"] = labels.fold(
            values[name], ("quantile",), _attributes(f"member_{name}")
        )
        dataset[f"own_{name}"] = (
            (*labels.dims, "quantile"),
            own[name].transpose(*labels.dims, "quantile").values,
            {"long_name": f"{name.replace('_', ' ')} of the curve on its own"},
        )
    dataset["effective_cells"] = labels.fold(cells, ("hypothesis",))
    dataset["included"] = labels.fold(included)
    dataset["own_verdict"] = (labels.dims, own["verdict"].values.astype(str))


def _attributes(name: str) -> dict[str, str]:
    if name not in _ATTRS:
        return {}
    return dict(zip(("long_name", "units"), _ATTRS[name], strict=True))
