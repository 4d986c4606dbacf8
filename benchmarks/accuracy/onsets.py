"""Onsets against the truth: coverage, error beside other methods, false onsets.

    python -m benchmarks.accuracy.onsets

Ten minutes on two cores. Expected: 89% intervals that hold 89 +- 1.4% of 500 onsets drawn from the
prior, a median error of 0.006 in log10 step (Rbeast 0.04, ruptures 0.05), false onsets in 0 to 2%
of flat curves. Writes `results/onsets.json` and `onsets.md`.

1. *Coverage* of 500 curves drawn from the prior of the model that is fitted.
2. *Error* on 960 relaxations at 26 log-spaced or 60 even checkpoints, noise 1, 3 and 10%, white
   or AR(1) 0.8, beside the first change by Rbeast and ruptures (BIC) and the first step past a
   tenth, or half, of the range. A method that finds nothing is given the middle of the (log) axis;
   curves that have not risen by half at the end are left out (893 remain), here and in 3.
3. *Other families*, by default and with the two relaxations alone.
4. *False onsets* of 300 flat curves each: independent, AR(1) 0.8 and random-walk noise.
"""

from __future__ import annotations

import time

import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.record import RESULTS, write_result
from benchmarks.science.turing import by_rbeast_places
from emergence_stats.curves.families import prior_probabilities, resolve_families
from emergence_stats.curves.simulation import autoregressive
from emergence_stats.onset.onset import ONSET_FAMILIES

COMMAND = "python -m benchmarks.accuracy.onsets"
LOG = np.unique(np.geomspace(1.0, 8_000.0, 27).round())
EVEN = np.arange(1.0, 61.0) * 100.0
FITTED = ("exponential", "power_law")
OTHERS = (
    "stretched_exponential",
    "two_exponentials",
    "logistic",
    "level_change",
    "slope_change",
    "exponential_decline",
    "power_law_decline",
)


def share(held: np.ndarray) -> dict[str, float]:
    p = float(np.mean(held))
    return {
        "share": round(p, 3),
        "standard_error": round(float(np.sqrt(p * (1 - p) / held.size)), 3),
        "curves": int(held.size),
    }


def held_by(onset: es.Onset, truth: np.ndarray) -> np.ndarray:
    interval = onset.interval(0.89)
    low, high = (interval.sel(bound=b).values for b in ("lower", "upper"))
    return (low <= truth) & (truth <= high)


def from_the_prior() -> dict:
    rows = []
    for k, (family, step) in enumerate((f, s) for f in FITTED for s in (LOG, EVEN)):
        prior = "log" if step is LOG else "linear"
        made = es.simulate_curves(family, step, number=125, noise="ar1", step_prior=prior, seed=k)
        # The very model, so that nothing else is believed: this family or nothing.
        names = resolve_families((family,))
        onset = es.detect_onset(
            made["score"],
            families=(family,),
            step_prior=prior,
            value_range=(0.0, 1.0),
            prior_probability=prior_probabilities(names, None),
        )
        rows.append(held_by(onset, made["onset"].values))
    return share(np.concatenate(rows))


def rises(family: str, step: np.ndarray, noise: float, rho: float, number: int, seed: int):
    """Curves whose onset lies in the inner part of the axis, of amplitude 1 after a baseline 0."""
    generator = np.random.default_rng(seed)
    low, high = np.quantile(step, [0.2, 0.7])
    if step is LOG:
        onset = np.exp(generator.uniform(*np.log([low, high]), size=number))
    else:
        onset = generator.uniform(low, high, size=number)
    made = es.simulate_curves(
        family,
        step,
        number=number,
        sd=noise,
        noise="ar1",
        correlation=rho,
        step_prior="log" if step is LOG else "linear",
        parameters={"onset": onset, "baseline": 0.0, "amplitude": 1.0},
        seed=generator,
    )
    # Drawn half-times may lie beyond the end: what has not risen by a half has no onset to date.
    risen = np.abs(made["signal"].isel(step=-1).values) > 0.5
    if family.endswith("_decline"):
        risen = made["signal"].max("step").values > 0.5
    return made.isel(curve=risen)


def middle(step: np.ndarray) -> float:
    return float(np.sqrt(step[0] * step[-1])) if step is LOG else float(0.5 * (step[0] + step[-1]))


def crossing(y: np.ndarray, step: np.ndarray, part: float) -> float | None:
    above = np.flatnonzero(y >= y.min() + part * (y.max() - y.min()))
    return float(step[above[0]])


def by_ruptures(y: np.ndarray, step: np.ndarray) -> float | None:
    import ruptures

    n = y.size
    search = ruptures.Binseg(model="l2", min_size=2, jump=1).fit(y[:, None])
    best, first = np.inf, None
    for number in range(8):
        ends = search.predict(n_bkps=number) if number else [n]
        parts = np.split(y, ends[:-1])
        squares = sum(float(((p - p.mean()) ** 2).sum()) for p in parts)
        bic = n * np.log(max(squares, 1e-12) / n) + (2 * number + 2) * np.log(n)
        if bic < best:
            best, first = bic, ends[0] if number else None
    if first is None:
        return None
    return float(0.5 * (step[first - 1] + step[first]))


def by_rbeast(y: np.ndarray, step: np.ndarray) -> float | None:
    places = by_rbeast_places(y)
    if not places:
        return None
    return float(0.5 * (step[max(places[0] - 1, 0)] + step[places[0]]))


PEERS = {
    "Rbeast, first change of the trend": by_rbeast,
    "ruptures, first change (BIC)": by_ruptures,
    "a tenth of the range": lambda y, step: crossing(y, step, 0.1),
    "half of the range": lambda y, step: crossing(y, step, 0.5),
}


def beside_peers() -> tuple[dict, dict]:
    errors: dict[str, dict[str, list]] = {}
    missed: dict[str, list] = {}
    held, cells, seed = [], {}, 100
    for step in (LOG, EVEN):
        for noise in (0.01, 0.03, 0.1):
            for rho in (0.0, 0.8):
                cell = f"{step.size} checkpoints, noise {noise:g}, AR(1) {rho:g}"
                inside = []
                for family in FITTED:
                    seed += 1
                    made = rises(family, step, noise, rho, 40, seed)
                    truth = made["onset"].values
                    onset = es.detect_onset(
                        made["score"], step_prior="log" if step is LOG else "linear"
                    )
                    inside.append(held_by(onset, truth))
                    found = {"ours": onset.median.values}
                    for name, method in PEERS.items():
                        told = [method(row, step) for row in made["score"].values]
                        missed.setdefault(name, []).extend(t is None for t in told)
                        found[name] = np.array([middle(step) if t is None else t for t in told])
                    missed.setdefault("ours", []).extend(onset.probability.values < 0.5)
                    for name, at in found.items():
                        error = np.abs(np.log10(np.maximum(at, 1.0) / truth))
                        errors.setdefault(name, {}).setdefault(cell, []).extend(error)
                cells[cell] = share(np.concatenate(inside))
                held.append(np.concatenate(inside))
                print(cell, cells[cell], flush=True)
    table = {
        name: {
            "median_error": round(float(np.median(np.concatenate(list(by.values())))), 4),
            "mean_error": round(float(np.mean(np.concatenate(list(by.values())))), 4),
            "finds_nothing": round(float(np.mean(missed[name])), 3),
            "cells": {cell: round(float(np.median(e)), 4) for cell, e in by.items()},
        }
        for name, by in errors.items()
    }
    return table, {"all": share(np.concatenate(held)), "cells": cells}


def other_families() -> dict:
    found = {}
    for k, family in enumerate(OTHERS):
        for name, families in (("default", ONSET_FAMILIES), ("relaxations", FITTED)):
            rows, errors = [], []
            for step, noise in ((LOG, 0.03), (EVEN, 0.03)):
                made = rises(family, step, noise, 0.0, 50, 500 + k)
                prior = "log" if step is LOG else "linear"
                onset = es.detect_onset(made["score"], step_prior=prior, families=families)
                rows.append(held_by(onset, made["onset"].values))
                errors.append(np.abs(np.log10(onset.median.values / made["onset"].values)))
            found.setdefault(family, {})[name] = share(np.concatenate(rows)) | {
                "median_error": round(float(np.median(np.concatenate(errors))), 4)
            }
        print(family, found[family], flush=True)
    return found


def flat_curves() -> dict:
    generator = np.random.default_rng(9)
    found = {}
    for name, rho in (("independent", 0.0), ("AR(1) 0.8", 0.8), ("random walk", None)):
        rows = []
        for step in (LOG, EVEN):
            fresh = generator.normal(size=(150, step.size))
            values = fresh.cumsum(axis=1) if rho is None else autoregressive(fresh, rho)
            curves = xr.DataArray(
                0.3 + 0.02 * values, dims=("curve", "step"), coords={"step": step}
            )
            onset = es.detect_onset(curves, step_prior="log" if step is LOG else "linear")
            rows.append(onset.dataset["emerged"].values)
        found[name] = share(np.concatenate(rows))
        print(name, found[name], flush=True)
    return found


def main() -> None:
    begun = time.perf_counter()
    prior = from_the_prior()
    print("from the prior", prior, flush=True)
    flat = flat_curves()
    table, coverage = beside_peers()
    others = other_families()
    write_result(
        "onsets",
        COMMAND,
        {
            "from_the_prior": prior,
            "coverage": coverage,
            "errors": table,
            "other_families": others,
            "false_onsets": flat,
            "seconds": round(time.perf_counter() - begun, 1),
        },
        ("ruptures", "Rbeast"),
    )
    lines = [
        "# Onsets\n",
        f"`{COMMAND}`; what each part is stands in `benchmarks/accuracy/onsets.py`.\n",
        f"Of {prior['curves']} curves from the prior, 89% intervals hold the onset in "
        f"{100 * prior['share']:.1f} ± {100 * prior['standard_error']:.1f}%.\n",
        "| method | median error, log10 step | mean error | finds nothing |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {row['median_error']:.3f} | {row['mean_error']:.3f} | "
            f"{100 * row['finds_nothing']:.0f}% |"
            for name, row in table.items()
        ),
        f"\n89% intervals on the same {coverage['all']['curves']} curves: "
        f"{100 * coverage['all']['share']:.1f}%; by cell, with each method's median error:\n",
        "| cell | coverage | " + " | ".join(table) + " |",
        "| --- | --- | " + " | ".join("---" for _ in table) + " |",
        *(
            f"| {cell} | {100 * row['share']:.0f}% | "
            + " | ".join(f"{table[name]['cells'][cell]:.3f}" for name in table)
            + " |"
            for cell, row in coverage["cells"].items()
        ),
        "\nCurves of other families (noise 3% of the rise); in brackets with the two relaxations "
        "alone:\n",
        "| family | averaged over by default | 89% intervals hold | median error, log10 step |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {'yes' if name in ONSET_FAMILIES else 'no'} | "
            f"{100 * row['default']['share']:.0f} ± {100 * row['default']['standard_error']:.0f}% "
            f"({100 * row['relaxations']['share']:.0f}%) | "
            f"{row['default']['median_error']:.3f} ({row['relaxations']['median_error']:.3f}) |"
            for name, row in others.items()
        ),
        "\nFlat curves said to have an onset at the default threshold:\n",
        "| noise | share |",
        "| --- | --- |",
        *(
            f"| {name} | {100 * row['share']:.1f} ± {100 * row['standard_error']:.1f}% |"
            for name, row in flat.items()
        ),
    ]
    (RESULTS / "onsets.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
