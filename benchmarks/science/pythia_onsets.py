"""When do four abilities begin in Pythia models, and does size hasten them?

    python -m benchmarks.science.pythia_onsets [--data TABLE]

A minute on two cores; TABLE as in `pythia`. Writes `results/pythia_onsets.json`, `.md` and `.png`:
onsets of LAMBADA, ARC-easy, PIQA and SciQ by size with 89% intervals, the probability that the
larger of two neighbouring sizes begins first, Kendall's tau over draws, and whether all share one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import stats

import emergence_stats as es
from benchmarks.record import RESULTS, write_result
from benchmarks.science.pythia import DATA, read_curves

COMMAND = "python -m benchmarks.science.pythia_onsets"
TASKS = {"lambada": "LAMBADA", "arc_easy": "ARC-easy", "piqa": "PIQA", "sciq": "SciQ"}
UNITS = {"m": 1e6, "b": 1e9}


def size_of(model: str) -> float:
    """Parameters, from the model's name.

    Examples
    --------
    >>> size_of("pythia-1.4b")
    1400000000.0
    """
    name = model.lower().removeprefix("pythia-").removesuffix("-deduped")
    return float(name[:-1]) * UNITS[name[-1]]


def chosen_curves(path: Path) -> xr.DataArray:
    curves = read_curves(path)
    names = [str(t) for t in curves["task"].values]
    found = {short: [n for n in names if n.startswith(short)] for short in TASKS}
    missing = [short for short, matches in found.items() if not matches]
    if missing:
        raise SystemExit(f"{path}: no task called {missing} among {sorted(names)}")
    curves = curves.sel(task=[matches[0] for matches in found.values()])
    curves = curves.assign_coords(task=list(TASKS.values()))
    order = np.argsort([size_of(str(m)) for m in curves["model"].values])
    return curves.isel(model=order)


def trend(onset: es.Onset, task: str, number: int = 2_000) -> list[float]:
    """Kendall's tau of onset with size: median and 89% interval over draws of the onsets."""
    one = onset.dataset.sel(task=task)
    share = np.random.default_rng(0).random((one.sizes["model"], number))
    draws = np.array(
        [
            np.interp(s, c, x)
            for s, c, x in zip(
                share, one["cumulative"].values, one["onset_step"].values, strict=True
            )
        ]
    )
    tau = [stats.kendalltau(np.arange(len(draws)), column).statistic for column in draws.T]
    low, middle, high = np.quantile(tau, [0.055, 0.5, 0.945])
    return [round(float(v), 3) for v in (middle, low, high)]


def picture(onset: es.Onset, path: Path) -> None:
    from matplotlib.figure import Figure

    interval = onset.interval(0.89)
    size = np.array([size_of(str(m)) for m in onset.dataset["model"].values])
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    for axes, task in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, TASKS.values(), strict=True
    ):
        median = onset.median.sel(task=task).values
        low, high = (interval.sel(task=task, bound=b).values for b in ("lower", "upper"))
        p = onset.probability.sel(task=task).values
        for x, m, lo, hi, share in zip(size, median, low, high, p, strict=True):
            axes.plot([x, x], [lo, hi], color="#D55E00", lw=2, alpha=0.2 + 0.8 * share)
            axes.plot(x, m, "o", color="#0072B2", alpha=0.2 + 0.8 * share)
        axes.set(xscale="log", yscale="log", title=task)
        axes.grid(alpha=0.2)
    figure.supxlabel("parameters")
    figure.supylabel("onset, step (89% interval; faint where an onset is doubtful)")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    if not options.data.exists():
        print(f"{options.data}: not there, so left out; name the data by --data")
        return
    curves = chosen_curves(options.data)
    onset = es.detect_onset(curves)
    interval = onset.interval(0.89)
    common = onset.common("model").dataset
    before = onset.order("model")
    tasks = {}
    lines = [
        "# When four abilities begin in Pythia models\n",
        f"`{COMMAND}`. Accuracies of Biderman et al. (2023), arXiv 2304.01373; onset with 89% "
        "interval, relaxations under AR(1) noise beside the standard errors.\n",
        "| task | model | p(onset) | onset, step | 89% interval | before the next smaller |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    models = [str(m) for m in curves["model"].values]
    for task in TASKS.values():
        rows = []
        for k, model in enumerate(models):
            one = {"task": task, "model": model}
            low, high = (float(interval.sel(**one, bound=b)) for b in ("lower", "upper"))
            larger_first = None
            if k:
                larger_first = float(before.sel(task=task, model=model, model_other=models[k - 1]))
            rows.append(
                {
                    "model": model,
                    "probability": round(float(onset.probability.sel(one)), 3),
                    "onset": round(float(onset.median.sel(one)), 1),
                    "lower": round(low, 1),
                    "upper": round(high, 1),
                    "before_next_smaller": None if larger_first is None else round(larger_first, 3),
                }
            )
            shown = "" if larger_first is None else f"{larger_first:.2f}"
            lines.append(
                f"| {task} | {model} | {rows[-1]['probability']:.2f} | {rows[-1]['onset']:.0f} | "
                f"{low:.0f} to {high:.0f} | {shown} |"
            )
        group = common.sel(task=task)
        tasks[task] = {
            "models": rows,
            "kendall_tau_with_size": trend(onset, task),
            **{
                name: round(float(group[name]), 3)
                for name in group.data_vars
                if name not in ("location", "density")
            },
        }
    lines += [
        "\nOver model sizes, those without an onset saying nothing:\n",
        "| task | onset with size, Kendall's tau | common onset, step | 89% interval | scatter, "
        "log10 step | log Bayes factor of one shared onset | of a common one with scatter |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            "| {} | {:.2f} ({:.2f} to {:.2f}) ".format(task, *t["kendall_tau_with_size"])
            + f"| {t['median']:.0f} | {t['lower']:.0f} to {t['upper']:.0f} | "
            f"{t['spread']:.2f} ({t['spread_lower']:.2f} to {t['spread_upper']:.2f}) | "
            f"{t['log_bayes_factor_shared']:.1f} | {t['log_bayes_factor_common']:.1f} |"
            for task, t in tasks.items()
        ),
        "\nBayes factors are over onsets that lie anywhere, independently.\n",
        "![Onsets against size](pythia_onsets.png)",
    ]
    picture(onset, RESULTS / "pythia_onsets.png")
    (RESULTS / "pythia_onsets.md").write_text("\n".join(lines) + "\n")
    write_result("pythia_onsets", COMMAND, {"tasks": tasks})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
