"""What is said of rises that training made, and how good are forecasts of them?

    python -m benchmarks.science.real_rises [--run FOLDER]

Three sources: modular addition (`results/modular_addition.csv`), the collision heads of
`make demo` (`results/demo_heads.csv`, read anew from its folder with --run), and evaluations of
Pythia models without the subject test (`pythia_evals.csv`, Biderman et al. 2023). For each:
verdicts, what the mean of the law leaves, and the log evidence of the better gradual law over the
best of four sudden or fixed shapes. For the first two, whose ends are known, every rise is cut
where a tenth, a quarter, a half, three quarters and nine tenths of it were done, and the levels of
50, 90 and 99% forecast from what is left; the truth is where the whole curve passed them. That
scores lie between about 0 and 1 is told (`value_range`). Ten minutes on two cores. Writes
`results/real_rises.json` and `.png`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import emergence_stats as es
from benchmarks.record import RESULTS, write_result
from benchmarks.science.pythia import DATA, of_subject_test, read_curves
from emergence_stats.curves.completion import crossing

COMMAND = "python -m benchmarks.science.real_rises"
HEADS = RESULTS / "demo_heads.csv"
OLD = ("sudden_exponential", "sudden_power_law", "stretched_exponential", "logistic")
# A head that rises by less is none that watches collisions.
LEAST_RISE = 0.3
# Of accuracies, and about those of the collision score.
LIMITS = (0.0, 1.0)
SEEN = (0.1, 0.25, 0.5, 0.75, 0.9)
ASKED = (0.5, 0.9, 0.99)


def from_rows(table: pd.DataFrame, value: str) -> xr.DataArray:
    wide = table.pivot_table(index="curve", columns="step", values=value)
    return xr.DataArray(
        wide.to_numpy(),
        dims=("curve", "step"),
        coords={"curve": wide.index.to_numpy(), "step": wide.columns.to_numpy(dtype=float)},
    )


def keep_heads(folder: str) -> None:
    """Scores of the heads that rise, as rows."""
    scores = es.open_trajectory(folder)["collision_score"]
    stacked = scores.stack(curve=("run", "layer", "head")).dropna("curve", how="all").load()
    rise = stacked.isel(step=-1) - stacked.isel(step=0)
    rows = [
        {"curve": f"seed {run} layer {layer} head {head}", "step": int(step), "score": float(y)}
        for (run, layer, head) in stacked["curve"].values[rise.values > LEAST_RISE]
        for step, y in scores.sel(run=run, layer=layer, head=head).to_series().dropna().items()
    ]
    pd.DataFrame(rows).to_csv(HEADS, index=False, float_format="%.6g")


def read_sources() -> dict[str, xr.DataArray]:
    addition = pd.read_csv(RESULTS / "modular_addition.csv").rename(columns={"seed": "curve"})
    pythia = read_curves(DATA)
    pythia = pythia.sel(task=~of_subject_test(pythia["task"].values))
    return {
        "modular addition, accuracy": from_rows(addition, "test_accuracy"),
        "demo's collision heads": from_rows(pd.read_csv(HEADS), "score"),
        "Pythia's evaluations": pythia,
    }


def describe(curves: xr.DataArray) -> tuple[xr.Dataset, dict[str, Any]]:
    found = es.compare(curves).dataset
    names, number = np.unique(found["verdict"].values, return_counts=True)
    figures: dict[str, Any] = {
        "curves": int(found["verdict"].size),
        "verdicts": {str(name): int(n) for name, n in zip(names, number, strict=True)},
        "residual_share": quantiles(found["residual_share"]),
        "largest_departure": quantiles(found["largest_departure"]),
    }
    own = found["log_evidence"].sel(family=["exponential", "power_law"]).max("family")
    # Under the same noise, lest a difference be of that.
    dims = [str(d) for d in found["verdict"].dims]
    gain = []
    for place in np.ndindex(*found["verdict"].shape):
        at = dict(zip(dims, place, strict=True))
        old = es.compare(curves.isel(at), families=OLD, noise=str(found["noise"].isel(at).item()))
        best = old.dataset["log_evidence"].sel(family=list(OLD)).max()
        gain.append(float(own.isel(at) - best))
    figures["log_evidence_over_the_best_of_four_old_families"] = quantiles(gain)
    return found, figures


def quantiles(values: Any) -> dict[str, float]:
    low, middle, high = np.quantile(np.asarray(values), [0.1, 0.5, 0.9])
    return {"10%": float(low), "median": float(middle), "90%": float(high)}


def score_forecasts(curves: xr.DataArray) -> list[dict[str, Any]]:
    """One row for every curve, cut, and share asked for."""
    rows = []
    for values in curves.values:
        there = np.isfinite(values)
        step, score = curves["step"].values[there], values[there]
        first, last = score[:5].mean(), score[-5:].mean()

        def passed(share: float, step=step, score=score, first=first, last=last) -> float:
            return crossing(step, score, first + share * (last - first), last > first)

        truth = {share: passed(share) for share in ASKED}
        for seen in SEEN:
            kept = step <= passed(seen)
            if kept.sum() < 8:
                continue
            result = es.compare(es.curve(score[kept], step[kept]), value_range=LIMITS)
            levels = [first + share * (last - first) for share in ASKED]
            said = result.time_to(levels=levels)["step_reached"].values
            for share, (low, middle, high) in zip(ASKED, said, strict=True):
                if share <= seen or not np.isfinite(truth[share]):
                    continue
                rows.append(
                    {
                        "seen": seen,
                        "asked": share,
                        "told": bool(np.isfinite(middle)),
                        "holds": bool(low <= truth[share] <= high),
                        "bounded": bool(np.isfinite(high)),
                        "error": float(abs(middle / truth[share] - 1.0)),
                    }
                )
    return rows


def summarise_forecasts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    out = {}
    for share in ASKED:
        for seen in SEEN:
            own = [r for r in rows if r["seen"] == seen and r["asked"] == share]
            if own:
                told = [r["error"] for r in own if r["told"]]
                out[f"{share:.0%} asked, {seen:.0%} seen"] = {
                    "forecasts": len(own),
                    "told": len(told),
                    "with_an_upper_bound": sum(r["bounded"] for r in own),
                    "interval_holds_the_truth": float(np.mean([r["holds"] for r in own])),
                    "median_error": float(np.median(told)) if told else None,
                }
    return out


def draw(found: dict[str, tuple[xr.DataArray, xr.Dataset]]) -> None:
    """Of the curves in which something emerges, those furthest from their laws' mean."""
    from matplotlib.figure import Figure

    rows = []
    for name, (curves, data) in found.items():
        dims = [str(d) for d in data["verdict"].dims]
        for place in np.ndindex(*data["verdict"].shape):
            at = dict(zip(dims, place, strict=True))
            if data["probability_of_onset"].isel(at) > 0.9:
                rows.append((float(data["largest_departure"].isel(at)), name, at, curves, data))
    rows.sort(key=lambda row: -row[0])
    figure = Figure(figsize=(13.0, 5.6), layout="constrained")
    for axis, (departure, name, at, curves, data) in zip(
        figure.subplots(2, 5).ravel(), rows[:10], strict=True
    ):
        one = es.Comparison(data.isel(at))
        values = curves.isel(at).dropna("step")
        step = values["step"].values.astype(float)
        axis.plot(step, values, ".", ms=3)
        axis.plot(step, one.predict(step)["mean"].values)
        axis.set_xscale("symlog", linthresh=max(1.0, float(np.median(np.diff(step)))))
        verdict = str(data["verdict"].isel(at).item()).replace("_", " ")
        axis.set_title(f"{name}\n{verdict}, {departure:.0%} off", fontsize=8)
    figure.savefig(RESULTS / "real_rises.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="folder of `make demo`, to read the heads anew")
    options = parser.parse_args()
    if options.run:
        keep_heads(options.run)
    figures: dict[str, Any] = {}
    found = {}
    forecasts = []
    for name, curves in read_sources().items():
        data, figures[name] = describe(curves)
        found[name] = (curves, data)
        if not name.startswith("Pythia"):
            forecasts += [{**row, "source": name} for row in score_forecasts(curves)]
        print(name, figures[name])
    figures["forecasts"] = {
        name: summarise_forecasts([row for row in forecasts if row["source"] == name])
        for name in figures
        if not name.startswith("Pythia")
    }
    for name, table in figures["forecasts"].items():
        print(name)
        for asked, row in table.items():
            print("  ", asked, row)
    draw(found)
    write_result("real_rises", COMMAND, figures)


if __name__ == "__main__":
    main()
