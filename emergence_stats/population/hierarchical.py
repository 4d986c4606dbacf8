"""Is there a common exponent among many curves? One call, one labelled result.

What lives here: `compare_hierarchical` and its result. What does not: each member's likelihood
(`members`), the population model (`population`), its integrals (`importance`)
and Markov chains (`joint`), pictures (`plots`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from emergence_stats.checks import PROB, check_option, check_share, check_whole
from emergence_stats.comparison.analysis import describe_assumptions
from emergence_stats.comparison.comparison import compare
from emergence_stats.curves.families import LAWS
from emergence_stats.curves.priors import STEP_PRIORS
from emergence_stats.data.arrays import CurveArrays
from emergence_stats.data.labels import Labels, averaged_over, gather, progress_report
from emergence_stats.errors import InputError
from emergence_stats.noise.beliefs import NOISES
from emergence_stats.population.importance import PopulationPosterior, infer_population
from emergence_stats.population.members import common_axis, member_likelihoods
from emergence_stats.population.plots import plot_hierarchical
from emergence_stats.population.population import HYPOTHESES
from emergence_stats.population.result import (
    OVER_MEMBERS,
    member_variables,
    population_variables,
)
from emergence_stats.quadrature.evidence import Batch
from emergence_stats.results import (
    Result,
    as_table,
    interval_of_draws,
    medians_and_bounds,
    select_one,
    table_html,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENGINES = ("reweighting", "pymc")
SAMPLERS = ("nutpie", "pymc")
LEAST_MEMBERS = 3
# Below this many cells of its likelihood a member is known by the tail of one alone.
FEW_CELLS = 3.0


class HierarchicalComparison(Result):
    """What the members of a population have in common, and what each is in its light.

    Attributes
    ----------
    dataset : xarray.Dataset
        By `hypothesis`: `log_evidence`, `log_evidence_error`, `probability` (equal before the
        data), `effective_size`, and the population's `onset_centre`, `half_time_centre` (steps),
        `onset_spread` (sd of the log odds of its position), `half_time_spread` (sd of the natural
        logarithm) by `quantile`. By `quantile` alone: `common_order`, given that there is one;
        `population_order` (of the median member) and `order_spread` (sd of log kappa between
        members), given that orders vary. Over the members' own dimensions: `included`;
        `member_order` given that orders vary, `member_onset`, `member_half_time` over all
        hypotheses by their probabilities, each drawn towards the others, and beside them
        `own_order`, `own_onset`, `own_half_time` of the curve alone; `effective_cells`;
        `own_verdict`. `verdict` names a hypothesis, or "undecided". `draw` holds joint draws of
        the population's parameters and `observed` the curves.
    tree : xarray.DataTree, optional
        The chains, where the engine was "pymc"; not stored by `to_netcdf`.
    """

    kind = "hierarchical comparison"
    _by_curve = "verdict"

    def __init__(self, dataset: xr.Dataset, tree: Any = None) -> None:
        super().__init__(dataset)
        self.tree = tree

    def summary(self) -> pd.DataFrame:
        """One row a population: verdict, probabilities, orders with 89% intervals, distrust."""
        data = self.dataset
        columns: dict[str, xr.DataArray] = {"verdict": data["verdict"]}
        for name in HYPOTHESES:
            columns[f"p_{name}"] = data["probability"].sel(hypothesis=name, drop=True)
        columns["log_evidence_error"] = data["log_evidence_error"].max("hypothesis")
        columns |= medians_and_bounds(data, ("common_order", "population_order", "order_spread"))
        for name in ("num_members", "num_left_out", "num_misfit", "trusted"):
            columns[name] = data[name]
        columns["noise"] = xr.full_like(data["verdict"], str(data.attrs["noise"]), dtype="U16")
        return as_table(columns)

    def interval(self, prob: float = PROB) -> xr.DataArray:
        """Between which values does each of a population's parameters lie? See `Result.interval`.

        Returns
        -------
        xarray.DataArray
            By `hypothesis` and `parameter`, given that hypothesis.
        """
        return interval_of_draws(self.dataset["draw"], prob, "draw_number")

    def members(self) -> pd.DataFrame:
        """One row a member: its parameters in the light of the others, and on its own."""
        data = self.dataset
        columns: dict[str, xr.DataArray] = {
            "included": data["included"],
            "own_verdict": data["own_verdict"],
        }
        shown = [f"{prefix}_{name}" for name in OVER_MEMBERS for prefix in ("member", "own")]
        return as_table(columns | medians_and_bounds(data, shown))

    def plot(self, **selection: Any) -> Figure:
        """The hypotheses' probabilities, the population's order, and each member's order.

        Parameters
        ----------
        **selection
            Labels that choose one population, such as `layer=0`.
        """
        return plot_hierarchical(select_one(self.dataset, self._dims, selection))

    def _note(self) -> str:
        return describe_assumptions(self.dataset)

    def _repr_html_(self) -> str:
        return super()._repr_html_() + table_html("Members", self.members())


def compare_hierarchical(
    curves: xr.DataArray,
    *,
    over: str | Sequence[str] | None = None,
    families: Sequence[str] = LAWS[0],
    noise: str = "ar1",
    step_prior: str = "log",
    value_range: tuple[float, float] | None = None,
    threshold: float = 0.9,
    engine: str = "reweighting",
    num_chains: int = 4,
    num_draws: int = 500,
    sampler: str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> HierarchicalComparison:
    """Do these curves share an exponent, do their exponents vary, or are all exponential?

    The members are never averaged. Each has its own onset, half-time, take-off, level, amplitude
    and noise; log odds of the onset's position and log half-times are normal between members, with
    unknown centre and spread. Three hypotheses differ in kappa alone: 0 for all; one for all; log
    kappa normal between members. Members are taken to be exchangeable: runs and heads are pooled
    alike.

    "reweighting" finds each member's likelihood on its own, at fixed kappas, and integrates the
    population over the product (Hogg, Myers and Bovy 2010): p(D | eta) is the product over members
    of Z_i times the mean, over the member's posterior, of p(theta | eta) / p_0(theta). "pymc" does
    the same and then draws from the joint model with varying orders by NUTS; populations and
    members given that orders vary are then the chains', and `disagreement` says how far, in Monte
    Carlo standard errors, the two engines' population means are apart.

    Parameters
    ----------
    curves : xarray.DataArray
        As in `compare`. Curves in which nothing emerges (probability of "flat" above one half) are
        left out, with a warning that names them.
    over : str or sequence of str, optional
        Dimensions pooled into one population; all but `step` by default. Others give one result
        each.
    families : (str, str)
        As in `compare`, each member's take-off integrated out under the prior that it has there (by
        "pymc" sampled); or ("sudden_exponential", "sudden_power_law"), relaxations that begin at a
        step.
    noise, step_prior, value_range
        See `compare`.
    threshold : float
        Probability from which a hypothesis is the verdict.
    engine : {"reweighting", "pymc"}
    num_chains, num_draws : int
        For "pymc"; draws are a chain's.
    sampler : {"nutpie", "pymc"}, optional
        For "pymc": nutpie where it is installed, by default.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    HierarchicalComparison

    Raises
    ------
    InputError
        If the curves are averages, fewer than three of them emerge, or an option cannot be used.

    References
    ----------
    Hogg, Myers and Bovy (2010), Inferring the eccentricity distribution, Astrophysical Journal 725,
    2166. Heathcote, Brown and Mewhort (2000), The power law repealed, Psychonomic Bulletin & Review
    7, 185. Murre and Chessa (2011), Power laws from individual differences in learning and
    forgetting, Psychonomic Bulletin & Review 18, 592.

    Examples
    --------
    >>> import numpy as np, xarray as xr, emergence_stats as es
    >>> step = np.arange(0, 3000, 60)
    >>> law = {"onset": 500.0, "kappa": 0.0, "takeoff": 1.0}
    >>> rises = [es.relaxation(step, timescale=t, **law) for t in (90, 200, 500)]
    >>> noise = 0.01 * np.random.default_rng(0).normal(size=(3, step.size))
    >>> heads = xr.DataArray(np.array(rises) + noise, dims=("head", "step"), coords={"step": step})
    >>> result = compare_hierarchical(heads)
    >>> print(result.dataset["verdict"].item())
    exponential
    """
    check_option("engine", engine, ENGINES)
    laws = _pair_of_laws(families)
    check_option("noise", noise, NOISES)
    check_option("step_prior", step_prior, STEP_PRIORS)
    threshold = check_share("threshold", threshold)
    if sampler is not None:
        check_option("sampler", sampler, SAMPLERS)
    for name, number, least in (
        ("num_chains", num_chains, 2),
        ("num_draws", num_draws, 50),
        ("seed", seed, 0),
    ):
        check_whole(name, number, least)
    arrays, labels = gather(curves, value_range)
    _refuse_averages(curves)
    pooled = _pooled_dims(labels.dims, over)
    left = [dim for dim in labels.dims if dim not in pooled]
    if left and engine == "pymc":
        raise InputError(
            f"over: {left} are left over; the engine 'pymc' takes one population a call, so select "
            "one, or use engine='reweighting'"
        )
    if labels.shape and min(np.prod([curves.sizes[dim] for dim in pooled]), 99) < LEAST_MEMBERS:
        raise InputError(
            f"curves: {dict(curves.sizes)}; a population needs at least {LEAST_MEMBERS} curves "
            f"along {list(pooled)}"
        )
    own = compare(
        curves, families=laws, noise=noise, step_prior=step_prior, value_range=value_range
    ).dataset
    own = own.transpose(*labels.dims, ...)
    included = (own["probability"].sel(family="flat") < 0.5).values.ravel()
    _warn_left_out(labels, included)
    # One row a population, one column a member, each a row of the arrays.
    index = np.arange(included.size).reshape(labels.shape)
    moved = np.moveaxis(index, [labels.dims.index(dim) for dim in left], range(len(left)))
    populations = moved.reshape(-1, int(np.prod([curves.sizes[dim] for dim in pooled])))
    results = []
    joint = None
    with progress_report(100 * len(populations), progress, "Pooling curves") as report:
        for rows in populations:
            rows = rows[included[rows]]
            if rows.size < LEAST_MEMBERS:
                raise InputError(
                    f"curves: something emerges in only {rows.size} of {populations.shape[1]} "
                    f"curves; a population needs at least {LEAST_MEMBERS} that emerge"
                )
            found, joint, size = _one(
                arrays.take(rows),
                laws,
                noise,
                step_prior,
                engine,
                num_chains,
                num_draws,
                sampler,
                seed,
                progress and engine == "pymc",
            )
            results.append((rows, *found, size))
            if report is not None:
                report(100)
    shape = tuple(curves.sizes[dim] for dim in left)
    dataset = population_variables(results, left, shape, threshold, FEW_CELLS)
    coords = {n: c for n, c in labels.coords.items() if set(map(str, c.dims)) <= set(labels.dims)}
    dataset = dataset.assign_coords(coords)
    member_variables(dataset, results, labels, own, included)
    labels.add_observed(dataset)
    counted = labels.fold(included.astype(int))
    dataset["num_members"] = xr.DataArray(counted[1], dims=counted[0]).sum(list(pooled))
    dataset["num_left_out"] = xr.DataArray(1 - counted[1], dims=counted[0]).sum(list(pooled))
    misfit = (own["verdict"] == "misfit").astype(int) * dataset["included"]
    dataset["num_misfit"] = misfit.sum(list(pooled))
    dataset.attrs = {
        "families": ", ".join(laws),
        "noise": noise,
        "step_prior": step_prior,
        "engine": engine,
        "averaged_over": "",
        "over": ", ".join(pooled),
        "threshold": threshold,
        "seed": seed,
    }
    if joint is None:
        return HierarchicalComparison(dataset)
    dataset.attrs["largest_rhat"] = joint.largest_rhat
    dataset.attrs["least_effective_size"] = float(joint.effective_size.min())
    dataset.attrs["num_divergent"] = joint.num_divergent
    return HierarchicalComparison(dataset, joint.tree)


def _one(
    curves: CurveArrays,
    laws: tuple[str, str],
    noise: str,
    step_prior: str,
    engine: str,
    num_chains: int,
    num_draws: int,
    sampler: str | None,
    seed: int,
    progress: bool,
) -> tuple[tuple[PopulationPosterior, Any, np.ndarray], Any, np.ndarray]:
    """One population: its posterior, axis and error, the chains and their effective sizes."""
    found = member_likelihoods(curves, laws=laws, noise=noise, step_prior=step_prior)
    posterior = infer_population(found.members, seed=seed)
    disagreement = np.full(6, np.nan)
    if engine == "reweighting":
        return (posterior, found.axis, found.error), None, disagreement
    from emergence_stats.population.joint import join, sample_joint

    vary = posterior.member[2].copy()
    vary[:, :, 2] = np.log(vary[:, :, 2])
    joint = sample_joint(
        Batch(curves, common_axis(curves, step_prior), noise),
        vary.mean(axis=0),
        vary.std(axis=0),
        laws=laws,
        num_chains=num_chains,
        num_draws=num_draws,
        seed=seed,
        sampler=sampler,
        progress=progress,
    )
    posterior, disagreement = join(posterior, joint)
    return (posterior, found.axis, found.error), joint, disagreement


def _pair_of_laws(families: Sequence[str]) -> tuple[str, str]:
    named = {families} if isinstance(families, str) else set(map(str, families))
    for pair in LAWS:
        if named == set(pair):
            return pair
    raise InputError(f"families: {families!r}; a population takes one of the pairs {list(LAWS)}")


def _refuse_averages(curves: xr.DataArray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        over = averaged_over(curves)
    if over:
        raise InputError(
            f"curves: their attribute averaged_over says they are means over {over}. A mean of "
            "exponentials with different rates is a power law to any curve fit (Heathcote, Brown "
            "and Mewhort 2000; Murre and Chessa 2011), so its exponent is that of no member and "
            "cannot be pooled; give the curves that were averaged"
        )


def _pooled_dims(dims: tuple[str, ...], over: str | Sequence[str] | None) -> tuple[str, ...]:
    if not dims:
        raise InputError(
            "curves: a single curve is no population; give several, along a dimension besides "
            "'step' (xr.concat(curves, 'head')), or use compare"
        )
    if over is None:
        return dims
    names = (over,) if isinstance(over, str) else tuple(over)
    wrong = [name for name in names if name not in dims]
    if wrong or not names or len(set(names)) < len(names):
        raise InputError(f"over: {list(names)}; name one or more of {list(dims)}, once each")
    return tuple(dim for dim in dims if dim in names)


def _warn_left_out(labels: Labels, included: np.ndarray) -> None:
    if included.all():
        return
    names = [labels.name(int(row)) for row in np.flatnonzero(~included)]
    shown = "; ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    warnings.warn(
        f"nothing emerges in {len(names)} of {included.size} curves, which are left out: {shown}",
        UserWarning,
        stacklevel=3,
    )
