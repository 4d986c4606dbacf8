"""Can the checkpoints planned tell the families apart, and where should the next ones be?

What lives here: `identifiability`, an experiment on simulated curves before the real one, and its
tables. What does not: drawing the curves (`simulation`), judging them (`comparison`), the picture
(`plots`). The module does not bear the function's name, which an import of it would hide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from emergence_stats.checks import check_share, check_whole
from emergence_stats.comparison.comparison import compare
from emergence_stats.curves.families import Family, get_family
from emergence_stats.curves.priors import step_axis
from emergence_stats.curves.simulation import autoregressive, signal, simulate_curves
from emergence_stats.data.labels import gather
from emergence_stats.errors import InputError, nearest

Array = np.ndarray

STRONG = 0.95
MAX_CANDIDATES = 12


def identifiability(
    step: ArrayLike,
    sd: ArrayLike,
    *,
    families: Sequence[str] = ("exponential", "power_law"),
    noise: str = "ar1",
    correlation: float = 0.0,
    number: int = 100,
    parameters: Mapping[str, ArrayLike] | None = None,
    candidates: ArrayLike | None = None,
    proposal_curves: int = 24,
    threshold: float = 0.9,
    step_prior: str = "log",
    known_sd: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Can these checkpoints tell the families apart, and which further one would help most?

    Parametric bootstrap cross-fitting: curves are simulated from each family in turn, and every
    one is given to `compare`. The rows of the confusion matrix are the truth, its columns what
    was said. Then a candidate checkpoint at a time is added to the first of these curves, with
    the same parameters and noise, and they are judged again: the gain is how much the log
    probability of the truth (among `families`, a priori equally likely) rises on average, which
    is the information in nats that the checkpoint adds about the family.

    Parameters
    ----------
    step : array_like, shape (step,)
        The checkpoints planned: increasing, not negative, at least eight.
    sd : array_like
        Standard deviation of the noise; a number, or one a step. The curves have amplitude 1 unless
        `parameters` say otherwise, so that it is a share of the amplitude.
    families : sequence of str
        The truths to tell apart; at least two. "flat" may be among them.
    noise : str
        What `compare` is to allow for. Not its default, "auto": the simulated noise is known to be
        AR(1), or independent where `correlation` is 0.
    correlation : float
        Of the simulated noise at neighbouring checkpoints, however far apart; in [0, 1).
    number : int
        Curves simulated from each family.
    parameters : mapping of str to array_like, optional
        What is known of the curves to come: the families' parameters, `baseline` and `amplitude`
        by name, each a number or one a curve (draws of an earlier result, say), used for every
        family that has it. All others are drawn from the priors of `compare`, so that many a rise
        is over between two checkpoints or has hardly begun at the last.
    candidates : array_like, optional
        Steps to try as the next checkpoint; an empty list for none. By default the middles of the
        widest gaps (on the axis of `step_prior`) and two steps beyond the end, twelve at most.
    proposal_curves : int
        On how many curves of each family candidates are tried; at most `number`.
    threshold : float
        See `compare`.
    step_prior : {"log", "linear"}
        See `compare`.
    known_sd : bool
        Whether `compare` is told `sd`, as where it was measured. Measurement errors are
        independent, so leave `correlation` at 0 with it.
    seed : int
        The same seed gives the same answer.
    progress : bool
        Show progress bars.

    Returns
    -------
    xarray.Dataset
        Over `truth`: `confusion` by `verdict`, `probability_of_truth` (mean; "no emergence" is one
        of the alternatives), `log_score` (mean log probability of the truth among `families`, in
        nats; 0 is certainty), `undecided`, `strongly_wrong` (another of `families` has more
        than 0.95), each with its `_standard_error`. Over `candidate`, in order of step: `gain`
        with its standard error, `log_odds_gain` and `rank` (0 is the best). The single curves:
        `probability(truth, curve, family)`, `single_verdict(truth, curve)`, and what made them.
        `planning.summary`, `planning.proposals` and `plots.plot_identifiability` show it.

    Raises
    ------
    InputError
        If an argument cannot be used; the message says what to do.

    Notes
    -----
    The cost is that of `compare` on `len(families) * (number + candidates * proposal_curves)`
    curves, 776 by default: about half a minute on two cores. The gain of a candidate includes
    that priors follow the checkpoints, as they will in the comparison to come. Ranks of candidates
    whose gains differ by less than their standard errors are chance.

    References
    ----------
    Wagenmakers, Ratcliff, Gomez and Iverson (2004), Assessing model mimicry using the parametric
    bootstrap, Journal of Mathematical Psychology 48, 28-50.

    Examples
    --------
    >>> import numpy as np
    >>> known = {"onset": 100.0, "half_time": 100.0, "kappa": 3.0}
    >>> plan = identifiability(
    ...     np.arange(0, 2000, 50), 0.01, number=8, parameters=known, candidates=[]
    ... )
    >>> plan["confusion"].sel(truth="power_law", verdict="power_law").item()
    1.0
    """
    truths = tuple(dict.fromkeys([families] if isinstance(families, str) else families))
    if len(truths) < 2:
        raise InputError(f"families: {list(truths)}; name at least two to tell apart")
    chosen = [get_family(name) for name in truths]
    threshold = check_share("threshold", threshold)
    check_whole("proposal_curves", proposal_curves, 0)
    given = {"baseline": 0.0, "amplitude": 1.0, **(parameters or {})}
    known = {name for family in chosen for name in _names(family)}
    for name in given:
        if name not in known:
            raise InputError(
                f"parameters: none of {list(truths)} has {name!r}{nearest(str(name), known)}"
            )
    generators = np.random.default_rng(seed).spawn(len(truths))
    made = [
        simulate_curves(
            family.name,
            step,
            number=number,
            sd=sd,
            noise="ar1",
            correlation=correlation,
            step_prior=step_prior,
            parameters={name: given[name] for name in given if name in _names(family)},
            seed=generator,
        )
        for family, generator in zip(chosen, generators, strict=True)
    ]
    planned = np.asarray(step, dtype=float)
    spread = np.broadcast_to(np.asarray(sd, dtype=float), planned.shape)
    options: dict[str, Any] = {
        "families": truths,
        "noise": noise,
        "threshold": threshold,
        "step_prior": step_prior,
        "progress": progress,
    }
    fresh = np.stack([g.normal(size=(number, planned.size)) for g in generators])
    curves = _curves(chosen, made, planned, spread, fresh, correlation)
    result = compare(_labelled(curves, planned, spread if known_sd else None), **options).dataset
    dataset = _confusion(result, made, truths)
    dataset = dataset.assign_coords(planned_step=("planned", planned))
    dataset["sd"] = "planned", spread, {"long_name": "standard deviation of the noise"}
    few = min(int(proposal_curves), number)
    tried = _candidates(planned, candidates, step_prior) if few else np.zeros(0)
    if tried.size:
        # Noise at the candidates comes last, so that which are tried changes nothing else.
        extra = np.stack([g.normal(size=(number, 1)) for g in generators])[:, :few]
        before = dataset["log_probability_of_truth"].values[:, :few]
        log_spread = np.log(spread)
        union = np.union1d(planned, tried)
        longer = np.full((tried.size, len(truths), few, union.size), np.nan)
        for k, candidate in enumerate(tried):
            place = int(np.searchsorted(planned, candidate))
            steps = np.insert(planned, place, candidate)
            sds = np.exp(np.interp(steps, planned, log_spread))
            noises = np.insert(fresh[:, :few], place, extra[..., 0], axis=2)
            longer[k][..., np.searchsorted(union, steps)] = _curves(
                chosen, made, steps, sds, noises, correlation
            )
        sds = np.exp(np.interp(union, planned, log_spread))
        again = compare(_labelled(longer, union, sds if known_sd else None), **options).dataset
        after = _log_share(again["log_evidence"], truths)
        dataset = dataset.merge(_gains(before, np.stack(after, axis=-2), tried))
    dataset.attrs = {
        "kind": "identifiability",
        "number": int(number),
        "proposal_curves": few,
        "curves_compared": len(truths) * (number + few * tried.size),
        "noise": noise,
        "correlation": float(correlation),
        "threshold": threshold,
        "step_prior": step_prior,
        "seed": seed,
    }
    return dataset


def summary(dataset: xr.Dataset) -> pd.DataFrame:
    """One row a truth: how often which verdict, and how sure, with standard errors."""
    columns = {
        f"verdict_{verdict}": dataset["confusion"].sel(verdict=verdict).to_series()
        for verdict in dataset["verdict"].values
    }
    for name in ("probability_of_truth", "log_score", "undecided", "strongly_wrong"):
        for suffix in ("", "_standard_error"):
            columns[name + suffix] = dataset[name + suffix].to_series()
    return pd.DataFrame(columns)


def proposals(dataset: xr.Dataset) -> pd.DataFrame:
    """The candidates, best first: the information each adds, in nats, with its standard error."""
    if "gain" not in dataset:
        raise InputError("dataset: no candidates were tried; give some, and proposal_curves > 0")
    names = ["gain", "gain_standard_error", "log_odds_gain", "log_odds_gain_standard_error", "rank"]
    return dataset[names].to_dataframe()[names].sort_values("rank")


def _names(family: Family) -> tuple[str, ...]:
    return (*(p.name for p in family.parameters), "baseline", "amplitude")


def _curves(
    families: Sequence[Family],
    made: Sequence[xr.Dataset],
    step: Array,
    spread: Array,
    fresh: Array,
    correlation: float,
) -> Array:
    """Scores of the simulated truths at any steps, shape (truth, curve, step)."""
    scores = []
    for family, truth, noise in zip(families, made, fresh, strict=True):
        values = {name: truth[name].values[: len(noise)] for name in _names(family)}
        scores.append(signal(family, values, step) + spread * autoregressive(noise, correlation))
    return np.stack(scores)


def _labelled(values: Array, step: Array, sd: Array | None) -> xr.DataArray:
    dims = ("candidate", "truth", "curve", "step")[-values.ndim :]
    coords: dict[str, Any] = {"step": step}
    if sd is not None:
        coords["sd"] = "step", sd
    return xr.DataArray(values, dims=dims, coords=coords)


def _log_share(log_evidence: xr.DataArray, truths: Sequence[str]) -> list[Array]:
    """Log probability of each truth on its own curves, the families equally likely beforehand."""
    among = log_evidence.sel(family=list(truths))
    total = np.logaddexp.reduce(among.values, axis=among.get_axis_num("family"))
    return [
        among.isel(truth=k).sel(family=name).values - total[..., k, :]
        for k, name in enumerate(truths)
    ]


def _confusion(
    result: xr.Dataset, made: Sequence[xr.Dataset], truths: tuple[str, ...]
) -> xr.Dataset:
    number = result.sizes["curve"]
    names = ["no_emergence" if name == "flat" else name for name in truths]
    verdicts = [*dict.fromkeys([*names, "undecided", "no_emergence", "misfit"])]
    said = result["verdict"].transpose("truth", "curve").values
    probability = result["probability"].transpose("truth", "curve", "family")
    own = np.stack([probability.isel(truth=k).sel(family=t) for k, t in enumerate(truths)])
    other = np.stack(
        [
            probability.isel(truth=k).sel(family=[t for t in truths if t != name]).max("family")
            for k, name in enumerate(truths)
        ]
    )
    log_share = np.stack(_log_share(result["log_evidence"], truths))
    dataset = xr.Dataset(
        coords={"truth": list(truths), "verdict": verdicts, "family": result["family"].values}
    )
    counts = np.stack([(said == verdict).sum(axis=1) for verdict in verdicts], axis=1)
    shares = {
        "confusion": (("truth", "verdict"), counts),
        "undecided": ("truth", (said == "undecided").sum(axis=1)),
        "strongly_wrong": ("truth", (other > STRONG).sum(axis=1)),
    }
    for name, (dims, count) in shares.items():
        dataset[name] = dims, count / number, {"units": "1"}
        dataset[f"{name}_standard_error"] = dims, _share_error(count, number), {"units": "1"}
    for name, values, units in (
        ("probability_of_truth", own, "1"),
        ("log_score", log_share, "nats"),
    ):
        error = values.std(axis=1, ddof=1 if number > 1 else 0) / np.sqrt(number)
        dataset[name] = "truth", values.mean(axis=1), {"units": units}
        dataset[f"{name}_standard_error"] = "truth", error, {"units": units}
    dataset["probability"] = probability.dims, probability.values
    dataset["single_verdict"] = ("truth", "curve"), said
    dataset["log_probability_of_truth"] = ("truth", "curve"), log_share, {"units": "nats"}
    for name in dict.fromkeys(name for t in truths for name in _names(get_family(t))):
        true = np.stack([m[name].values if name in m else np.full(number, np.nan) for m in made])
        dataset[f"true_{name}"] = ("truth", "curve"), true
    return dataset


def _share_error(count: Array, number: int) -> Array:
    """Standard deviation of a share after `count` of `number`, uniform before: never zero."""
    return np.sqrt((count + 1.0) * (number - count + 1.0) / (number + 3.0)) / (number + 2.0)


def _candidates(planned: Array, given: ArrayLike | None, step_prior: str) -> Array:
    if given is not None:
        tried = np.unique(np.asarray(given, dtype=float).ravel())
        if not np.isfinite(tried).all() or (tried < 0).any():
            raise InputError(f"candidates: {given!r}; give finite steps that are not negative")
        for twice in np.intersect1d(tried, planned)[:1]:
            raise InputError(f"candidates: {twice:g} is planned already; leave it out")
        return tried
    curves, _ = gather(xr.DataArray(0.0 * planned, dims="step", coords={"step": planned}))
    axis = step_axis(curves, step_prior)
    position = axis.step_to_position(planned)
    widest = np.sort(np.argsort(-np.diff(position), kind="stable")[: MAX_CANDIDATES - 2])
    middle = axis.position_to_step(0.5 * (position[widest] + position[widest + 1]))
    beyond = np.array([2.0 * planned[-1] - planned[-2], 2.0 * planned[-1]])
    tried = np.concatenate([middle, beyond])
    if (planned == np.round(planned)).all():
        tried = np.round(tried)
    return np.setdiff1d(tried, planned)


def _gains(before: Array, after: Array, tried: Array) -> xr.Dataset:
    """Paired differences, (truth, curve) before and (candidate, truth, curve) after."""
    gain = after - before
    # Of two or more families, against all others together.
    odds = gain - (_log_rest(after) - _log_rest(before))
    dataset = xr.Dataset(coords={"candidate": ("candidate", tried, {"units": "steps"})})
    for name, values in (("gain", gain), ("log_odds_gain", odds)):
        number = values.shape[-1]
        variance = values.var(axis=-1, ddof=1 if number > 1 else 0) / number
        error = np.sqrt(variance.sum(axis=-1)) / values.shape[1]
        dataset[name] = "candidate", values.mean(axis=(1, 2)), {"units": "nats"}
        dataset[f"{name}_standard_error"] = "candidate", error, {"units": "nats"}
    order = np.argsort(-dataset["gain"].values, kind="stable")
    dataset["rank"] = "candidate", np.argsort(order, kind="stable")
    return dataset


def _log_rest(log_share: Array) -> Array:
    """log(1 - p) from log p, also where p rounds to 1."""
    return np.log(np.maximum(-np.expm1(log_share), 1e-300))
