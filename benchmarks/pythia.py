"""Real curves: which abilities of Pythia models emerge, by which law, which cannot be told?

Run with ``python -m benchmarks.pythia [--data PATH]`` (a few minutes on two cores). Reads a table
of zero-shot accuracies over training (columns model, task, step, accuracy, standard_error; Biderman
et al. 2023, arXiv 2304.01373), by default ``../shared/data/pythia_evals.csv``. Writes
``benchmarks/results/pythia.json``, ``pythia_curves.csv`` and ``pythia.png``.

Each of the 27 checkpoints is scored on the same questions, so the standard errors are those of a
common sample of questions, too, and overstate how much a curve scatters around its course; the
noise prior lets the data say so within a factor of about two. Noise is taken as independent, which
takes slow drifts for emergence: probabilities of an onset are too high where scores hardly move.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import emergence_stats as es
from benchmarks.record import RESULTS, write_result

COMMAND = "python -m benchmarks.pythia"
DATA = Path(__file__).parents[2] / "shared" / "data" / "pythia_evals.csv"
LAWS = ("exponential", "power_law")
WIDE = (*LAWS, "stretched_exponential", "logistic_log", "exponential_decline")
SHOWN = 10


def read_curves(path: Path) -> xr.DataArray:
    """Accuracy over (model, task, step) with its standard error as the coordinate `sd`."""
    table = pd.read_csv(path).set_index(["model", "task", "step"]).sort_index()
    data = table.to_xarray()
    accuracy, error = data["accuracy"], data["standard_error"]
    # Questions in each task, from accuracy and standard error where neither is 0; where nothing
    # was answered rightly, half a right answer stands for what might have been.
    number = (accuracy * (1.0 - accuracy) / error.where(error > 0) ** 2).median("step") + 1.0
    half = 0.5 / (number + 1.0)
    sd = error.where(error > 0, np.sqrt(half * (1.0 - half) / number))
    return accuracy.astype(float).assign_coords(sd=sd).assign_attrs(long_name="zero-shot accuracy")


def counts(verdict: xr.DataArray) -> dict[str, int]:
    names, number = np.unique(verdict.values, return_counts=True)
    return {str(name): int(n) for name, n in zip(names, number, strict=True)}


def summarise(curves: xr.DataArray, laws: xr.Dataset, wide: xr.Dataset) -> dict[str, object]:
    mmlu = np.array(["hendrycksTest" in str(task) for task in curves["task"].values])
    figures: dict[str, object] = {
        "curves": int(np.prod(curves.shape[:2])),
        "checkpoints": curves.sizes["step"],
    }
    for name, chosen in (("multiple_subject_test", mmlu), ("other_tasks", ~mmlu)):
        part, broad = laws.isel(task=chosen), wide.isel(task=chosen)
        emerged = part["probability_of_onset"] > 0.9
        figures[name] = {
            "curves": int(emerged.size),
            "emerged_p_above_0.9": int(emerged.sum()),
            "verdicts_two_laws": counts(part["verdict"]),
            "verdicts_wide": counts(broad["verdict"]),
            "misfit_two_laws": int((part["misfit_p_value"] < 0.05).sum()),
            "misfit_wide": int((broad["misfit_p_value"] < 0.05).sum()),
            "misfit_wide_among_emerged": int(((broad["misfit_p_value"] < 0.05) & emerged).sum()),
        }
    return figures


def table_of(laws: xr.Dataset, wide: xr.Dataset) -> pd.DataFrame:
    columns = {
        "p_onset": laws["probability_of_onset"],
        "log_bayes_factor": laws["log_bayes_factor"],
        "verdict": laws["verdict"],
        "misfit_p_value": laws["misfit_p_value"],
        "verdict_wide": wide["verdict"],
        "misfit_p_value_wide": wide["misfit_p_value"],
    }
    for suffix, index in (("lower", 0), ("median", 1), ("upper", 2)):
        columns[f"onset_{suffix}"] = wide["onset"].isel(quantile=index, drop=True)
        columns[f"order_{suffix}"] = laws["order"].isel(quantile=index, drop=True)
    return xr.Dataset(columns).to_dataframe().round(4)


def draw(result: es.Comparison, table: pd.DataFrame, path: Path) -> list[str]:
    """The emerged curves in which the laws differ most, and those where the alarm rings loudest."""
    from matplotlib.figure import Figure

    emerged = table[table["p_onset"] > 0.9]
    loud = emerged.sort_values("misfit_p_value_wide").index[: SHOWN // 2]
    rest = emerged.drop(loud)
    clear = rest["log_bayes_factor"].abs().sort_values(ascending=False).index
    chosen = [*loud, *clear[: SHOWN - len(loud)]]
    figure = Figure(figsize=(15, 6), layout="constrained")
    fine = np.unique(np.concatenate([[0.0], np.geomspace(1, 143_000, 200)]))
    for axes, (model, task) in zip(figure.subplots(2, SHOWN // 2).flat, chosen, strict=True):
        data = result.dataset.sel(model=model, task=task)
        band = result.predict(fine, model=model, task=task)
        axes.fill_between(fine, band["lower"], band["upper"], color="#0072B2", alpha=0.25, lw=0)
        axes.plot(fine, band["mean"], color="#0072B2", lw=1)
        observed = data["observed"]
        axes.errorbar(
            observed["step"], observed, yerr=data["observed_sd"], fmt=".", color="0.15", lw=0.7
        )
        axes.set_xscale("symlog", linthresh=1)
        row = table.loc[(model, task)]
        axes.set_title(
            f"{model} {task}\n{str(row['verdict_wide']).replace('_', ' ')}, log BF "
            f"{row['log_bayes_factor']:.1f}, alarm p {row['misfit_p_value_wide']:.2f}",
            fontsize=8,
        )
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.savefig(path, dpi=110)
    return [f"{model} {task}" for model, task in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    path = parser.parse_args().data
    if not path.exists():
        raise SystemExit(f"{path}: not there; give the table of accuracies with --data")
    curves = read_curves(path)
    # Standard errors here differ by a factor of fifty within a curve. Correlated noise would be so
    # uneven, too, and a nearly constant one of that shape can take the place of a rise.
    laws = es.compare(curves, families=LAWS, noise="independent", progress=True)
    wide = es.compare(curves, families=WIDE, noise="independent", progress=True)
    table = table_of(laws.dataset, wide.dataset)
    table.to_csv(RESULTS / "pythia_curves.csv")
    figures = summarise(curves, laws.dataset, wide.dataset)
    figures["shown"] = draw(wide, table, RESULTS / "pythia.png")
    write_result("pythia", COMMAND, figures, packages=("xarray", "pandas"))


if __name__ == "__main__":
    main()
