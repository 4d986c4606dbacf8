"""Claim (b): does the loss landscape change its degeneracy when the heads emerge?

What lives here: the lag between onsets of the coefficient and of the strongest head, how much
of its change falls into the rise of the heads, the refined coefficients of collision heads beside
their controls, and the curvature before and after. What does not: sampling (`measurements`).

Everything is told between runs: of each run one number, and Student's interval of their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

import emergence_stats as es
from simulator.study.intervals import mean_over_runs

# A head's rise is taken to last from its onset until it has covered this much of it.
COVERED = 0.9
# Of a run, below which the onset of its coefficient is not asked for.
FEWEST_ESTIMATES = 8


def date_onsets(trajectory: xr.Dataset, tests: xr.Dataset, sweep: xr.Dataset) -> xr.Dataset:
    """When a run's strongest collision head and its learning coefficient began to change.

    The strongest, of the largest score at the end, and not the first: the earliest of several
    uncertain onsets is early by chance.

    Returns
    -------
    xarray.Dataset
        By run: `head_onset` and `network_onset` (posterior medians, steps),
        `rise_end` (the step at which that head has covered nine tenths of its rise),
        `lag_lower`, `lag`, `lag_upper` (steps by which the coefficient follows the head),
        `probability_head_first`, `log_bayes_factor_same` (one onset over two),
        `probability_network` (that the coefficient has an onset at all). NaN for runs without a
        collision head, and what the coefficient's onset is needed for where there are fewer than
        `FEWEST_ESTIMATES`.
    """
    names = ("head_onset", "network_onset", "rise_end", "lag_lower", "lag", "lag_upper",
             "probability_head_first", "log_bayes_factor_same", "probability_network")  # fmt: skip
    runs = [int(run) for run in sweep["run"].values]
    rows = [dict.fromkeys(names, np.nan) for _ in runs]
    first = float(sweep["step"].min())
    for run, row in zip(runs, rows, strict=True):
        network = _network_onset(sweep.sel(run=run, drop=True))
        if network is not None:
            row["probability_network"] = float(network.probability)
            row["network_onset"] = float(network.median)
        passes = tests["is_collision_head"].sel(run=run)
        if not bool(passes.any()):
            continue
        # Over the same stretch of training, so that both onsets are as likely anywhere before.
        scores = trajectory["collision_score"].sel(run=run, drop=True).dropna("step")
        scores = scores.where(scores["step"] >= first, drop=True)
        last = tests["collision_score"].sel(run=run).where(passes).transpose("layer", "head").values
        layer, head = np.unravel_index(np.nanargmax(last), last.shape)
        one = scores.isel(layer=layer, head=head, drop=True)
        found = es.detect_onset(one)
        row["head_onset"] = float(found.median)
        row["rise_end"] = _rise_end(one, row["head_onset"])
        if network is not None:
            lag = found.lag(network)
            row |= {
                "lag_lower": float(lag["lower"]),
                "lag": float(lag["median"]),
                "lag_upper": float(lag["upper"]),
                "probability_head_first": float(lag["probability_before"]),
                "log_bayes_factor_same": float(lag["log_bayes_factor_same"]),
            }
    values = {name: ("run", [row[name] for row in rows]) for name in names}
    return xr.Dataset(values, coords={"run": runs})


def _network_onset(sweep: xr.Dataset) -> es.Onset | None:
    """When one run's coefficient began to change; None where too few estimates tell."""
    known = sweep["llc"].assign_coords(sd=("step", sweep["llc_standard_error"].values))
    known = known.dropna("step")
    if known.sizes["step"] < FEWEST_ESTIMATES:
        return None
    # Each estimate has random numbers of its own, so their errors are independent.
    return es.detect_onset(known, noise="independent")


def _rise_end(curve: xr.DataArray, onset: float) -> float:
    step, value = curve["step"].values, curve.values
    start = float(np.interp(onset, step, value))
    level = start + COVERED * (float(value.max()) - start)
    return float(step[np.argmax((value >= level) & (step >= onset))])


def measure_degeneracy(
    sweep: xr.Dataset, times: xr.Dataset, heads: xr.Dataset, shuffled: xr.Dataset | None
) -> dict[str, Any]:
    """The answers for one arm.

    Parameters
    ----------
    sweep, shuffled : xarray.Dataset
        Whole-network coefficients of the arm, and of the runs on shuffled labels trained alike.
    times : xarray.Dataset
        From `onsets`.
    heads : xarray.Dataset
        From `measurements.sweep_heads`.

    Returns
    -------
    dict
        `lag_log10`, the mean over runs of log10 of the ratio of onsets, coefficient over head;
        `lag_steps` by run; `change`, of the coefficient from that head's onset to the last
        checkpoint; `change_shuffled`, the same steps without anything to learn;
        `change_beyond_shuffled`, their difference in pairs; `share_in_rise`, of the whole
        change, what falls between onset and `rise_end`, and `share_of_time`, what would if it were
        even in log step; `refined`, see `contrast_refined`; `reliable`, the share of estimates
        without a complaint.
    """
    found: dict[str, Any] = {}
    ratio = times["network_onset"].values / times["head_onset"].values
    found["lag_log10"] = mean_over_runs(np.log10(ratio))
    found["lag_steps"] = {
        str(int(run)): [
            float(times[name].sel(run=run)) for name in ("lag_lower", "lag", "lag_upper")
        ]
        for run in times["run"].values
    }
    found["probability_head_first"] = times["probability_head_first"].values.tolist()
    found["log_bayes_factor_same"] = times["log_bayes_factor_same"].values.tolist()
    found["probability_network_onset"] = times["probability_network"].values.tolist()
    change, other, beyond, share, even = [], [], [], [], []
    for run in times["run"].values:
        onset, end = (float(times[name].sel(run=run)) for name in ("head_onset", "rise_end"))
        if not np.isfinite(onset):
            continue
        llc = sweep["llc"].sel(run=run).dropna("step")
        before, after = _at(llc, onset), float(llc[-1])
        change.append(after - before)
        whole = after - float(llc[0])
        log_step = np.log(llc["step"].values)
        share.append((_at(llc, end) - before) / whole)
        even.append(
            (np.log(min(end, llc["step"].values[-1])) - np.log(onset))
            / (log_step[-1] - log_step[0])
        )
        if shuffled is not None and run in shuffled["run"].values:
            null = shuffled["llc"].sel(run=run).dropna("step")
            if null.size:
                other.append(float(null[-1]) - _at(null, onset))
                beyond.append(change[-1] - other[-1])
    found["change"] = mean_over_runs(change)
    found["change_shuffled"] = mean_over_runs(other)
    found["change_beyond_shuffled"] = mean_over_runs(beyond)
    found["share_in_rise"] = mean_over_runs(share)
    found["share_of_time"] = mean_over_runs(even)
    found["share_beyond_time"] = mean_over_runs(np.array(share) - np.array(even))
    found["refined"] = contrast_refined(heads)
    verdict = sweep["verdict"].values
    made = verdict != ""
    found["reliable"] = float((verdict[made] == "reliable").mean())
    late = sweep["verdict"].isel(step=slice(sweep.sizes["step"] // 2, None)).values
    found["reliable_late"] = float((late[late != ""] == "reliable").mean())
    return found


def _at(curve: xr.DataArray, step: float) -> float:
    """A curve's value at a step, linear in log step between checkpoints."""
    return float(np.interp(np.log(step), np.log(curve["step"].values), curve.values))


def contrast_refined(heads: xr.Dataset) -> dict[str, Any]:
    """Refined coefficients of collision heads against controls, averaged within runs.

    `last` and `change` (last less first checkpoint) of both kinds, and `last_difference`,
    `change_difference` of collision less control, in pairs.
    """
    if "llc" not in heads or not heads.sizes.get("pair", 0):
        return {"pairs": 0}
    values = heads["llc"].transpose(..., "step")
    measured = values.notnull()
    first = values.isel(step=measured.argmax("step"))
    last = values.isel(step=values.sizes["step"] - 1 - measured[..., ::-1].argmax("step"))
    last, first = last.drop_vars("step"), first.drop_vars("step")
    by_run = {"last": last, "change": last - first}
    found: dict[str, Any] = {"pairs": int(heads.sizes["pair"])}
    for name, each in by_run.items():
        mean = each.groupby("run").mean("pair")
        for kind in ("collision", "control"):
            found[f"{name}_{kind}"] = mean_over_runs(mean.sel(kind=kind).values)
        found[f"{name}_difference"] = mean_over_runs(
            (mean.sel(kind="collision") - mean.sel(kind="control")).values
        )
    return found


def contrast_curvature(curvature: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """The Hessian at the first and the last checkpoint, arm by arm, as ratios within runs."""
    found: dict[str, Any] = {}
    for arm, data in curvature.items():
        found[arm] = {"steps": [int(step) for step in data["step"].values]}
        for name in ("trace", "effective_rank", "null_dimension", "largest_eigenvalue"):
            values = data[name]
            first, last = (values.dropna("step", how="all").isel(step=place) for place in (0, -1))
            found[arm][name] = {
                "by_step": [mean_over_runs(values.sel(step=step).values) for step in data["step"]],
                "first": mean_over_runs(first.values),
                "last": mean_over_runs(last.values),
                "difference": mean_over_runs((last - first).values),
            }
    return found
