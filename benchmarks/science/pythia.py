"""Which abilities of Pythia models emerge, by which law, and which cannot be told?

    python -m benchmarks.science.pythia [--data TABLE]

Over ten minutes on two cores. Expected: an onset in 40 of 56 curves, power law 18, exponential 1,
undecided 34. TABLE has the columns model, task, step, accuracy, standard_error (Biderman et al.
2023, arXiv 2304.01373). Writes `results/pythia.json`, `.md`, `.png` and `pythia_curves.csv`.

Checkpoints are scored on the same questions, so the standard errors are those of a common sample of
questions too and overstate how a curve scatters; the noise prior lets the data say so. The two laws
are compared on all curves, wider families on all but the 57-subject test.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import emergence_stats as es
from benchmarks.record import RESULTS, write_result

COMMAND = "python -m benchmarks.science.pythia"
DATA = Path(__file__).parents[3] / "shared" / "data" / "pythia_evals.csv"
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


def of_subject_test(task: np.ndarray) -> np.ndarray:
    return np.array(["hendrycksTest" in str(name) for name in task])


def summarise(laws: xr.Dataset, wide: xr.Dataset) -> dict[str, Any]:
    subject = of_subject_test(laws["task"].values)
    figures: dict[str, Any] = {
        "curves": int(laws["verdict"].size),
        "checkpoints": int(laws["observed"].sizes["step"]),
    }
    for name, chosen in (("multiple_subject_test", subject), ("other_tasks", ~subject)):
        part = laws.isel(task=chosen)
        emerged = part["probability_of_onset"] > 0.9
        misfit = part["misfit_p_value"] < 0.05
        figures[name] = {
            "curves": int(emerged.size),
            "emerged_p_above_0.9": int(emerged.sum()),
            "verdicts_two_laws": counts(part["verdict"]),
            "verdicts_two_laws_of_emerged": counts(part["verdict"].where(emerged, "not emerged")),
            "misfit_two_laws": int(misfit.sum()),
        }
    misfit = wide["misfit_p_value"] < 0.05
    figures["other_tasks_wide"] = {
        "verdicts_wide": counts(wide["verdict"]),
        "misfit_wide": int(misfit.sum()),
        "misfit_wide_among_emerged": int((misfit & (wide["probability_of_onset"] > 0.9)).sum()),
    }
    return figures


def table_of(laws: xr.Dataset, wide: xr.Dataset) -> pd.DataFrame:
    """One row a curve; what the wider families say is missing where they were not compared."""

    def frame(data: xr.Dataset, columns: dict[str, xr.DataArray]) -> pd.DataFrame:
        for name in ("onset", "order"):
            for suffix, index in (("lower", 0), ("median", 1), ("upper", 2)):
                columns[f"{name}_{suffix}"] = data[name].isel(quantile=index, drop=True)
        return xr.Dataset(columns).to_dataframe()

    two = frame(
        laws,
        {
            "p_onset": laws["probability_of_onset"],
            "log_bayes_factor": laws["log_bayes_factor"],
            "verdict": laws["verdict"],
            "misfit_p_value": laws["misfit_p_value"],
        },
    )
    more = frame(wide, {"verdict": wide["verdict"], "misfit_p_value": wide["misfit_p_value"]})
    more = more[["verdict", "misfit_p_value", "onset_lower", "onset_median", "onset_upper"]]
    return two.join(more.add_suffix("_wide")).round(4)


def written_up(figures: dict[str, Any], table: pd.DataFrame, shown: list[str]) -> str:
    """The findings in words, and every curve outside the subject test."""
    other, subject = figures["other_tasks"], figures["multiple_subject_test"]
    wide = figures["other_tasks_wide"]

    def listed(verdicts: dict[str, int]) -> str:
        return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in verdicts.items())

    rows = [
        "| model | task | p(onset) | onset, 89% (steps) | two laws | log BF | order, 89% | wide |",
        "|---|---|---|---|---|---|---|---|",
    ]
    chosen = table[table["verdict_wide"].notna()].reset_index().sort_values(["task", "model"])
    for row in chosen.to_dict("records"):
        onset = "{onset_median_wide:.0f} ({onset_lower_wide:.0f} to {onset_upper_wide:.0f})"
        order = "{order_median:.2f} ({order_lower:.2f} to {order_upper:.2f})"
        rows.append(
            f"| {row['model']} | {row['task']} | {row['p_onset']:.3f} | {onset.format(**row)} | "
            f"{row['verdict'].replace('_', ' ')} | {row['log_bayes_factor']:.1f} | "
            f"{order.format(**row)} | {row['verdict_wide'].replace('_', ' ')} |"
        )
    families = ", ".join(name.replace("_", " ") for name in WIDE)
    text = f"""# Which abilities of Pythia models emerge, and by which law

`{COMMAND}`; accuracies of Biderman et al. (2023), arXiv 2304.01373, at {figures["checkpoints"]}
checkpoints. Noise: measured standard errors and a first-order autoregressive excess. Onsets are
those of the wider comparison ({families}).

Of {other["curves"]} curves outside the 57-subject test {other["emerged_p_above_0.9"]} emerge
(probability above 0.9). Between two laws: {listed(other["verdicts_two_laws"])}. With the wider
families: {listed(wide["verdicts_wide"])}. The posterior predictive alarm rings in
{other["misfit_two_laws"]} of them under the two laws, in {wide["misfit_wide"]} under the wider
families.

Of {subject["curves"]} curves of the subject test {subject["emerged_p_above_0.9"]} emerge. Between
two laws: {listed(subject["verdicts_two_laws"])}. Alarm: {subject["misfit_two_laws"]}.

![ten curves](pythia.png)

Shown: {", ".join(shown)}.
"""
    return "\n".join([text, *rows, ""])


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
    laws = es.compare(curves, families=LAWS, noise="ar1", progress=True)
    few = curves.isel(task=~of_subject_test(curves["task"].values))
    wide = es.compare(few, families=WIDE, noise="ar1", progress=True)
    table = table_of(laws.dataset, wide.dataset)
    table.to_csv(RESULTS / "pythia_curves.csv")
    figures = summarise(laws.dataset, wide.dataset)
    shown = draw(wide, table[table["verdict_wide"].notna()], RESULTS / "pythia.png")
    (RESULTS / "pythia.md").write_text(written_up(figures, table, shown))
    figures["shown"] = shown
    write_result("pythia", COMMAND, figures, packages=("xarray", "pandas"))


if __name__ == "__main__":
    main()
