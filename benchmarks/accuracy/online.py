"""Online onsets: false alarms, delay and speed.

    python -m benchmarks.accuracy.online

Under a minute on two cores. Expected at threshold 0.95: false alarms in 0, 0.2 and 4% of flat runs,
a delay of 3 to 5 checkpoints. Writes `results/online.json` and `online.md`.

- False alarms: 1,000 flat runs of 100 checkpoints, independent, AR(1) 0.8 and random-walk noise of
  2%; the share in which the probability ever reaches a threshold.
- Delay: 1,200 relaxations of orders 2, 3 and 5 with noise of 1, 3 and 10%, beside a rule of
  dashboards: three standard deviations above the mean of the first ten points.
- Gradual rises: 300 logistic ones; the alarm, in checkpoints after half height.
- Speed: one more checkpoint of 10,000 curves, beside ruptures' PELT run again on each curve.
"""

from __future__ import annotations

import time

import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.record import RESULTS, write_result
from emergence_stats.curves.shapes import timescale_from_half_time
from emergence_stats.curves.simulation import autoregressive

COMMAND = "python -m benchmarks.accuracy.online"
AGAIN = "ruptures PELT, run again on the whole curve"
THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.99)
LOG = np.geomspace(10.0, 10_000.0, 100)
EVEN = np.arange(1.0, 101.0) * 100.0
HOW = {"value_range": (0.0, 1.0)}
MODELS = {
    "lines that meet, AR(1) (default)": {"model": "joined", "noise": "ar1"},
    "lines that meet, independent": {"model": "joined", "noise": "independent"},
    "levels, AR(1)": {"model": "constant", "noise": "ar1"},
}


def curves_of(values: np.ndarray, step: np.ndarray) -> xr.DataArray:
    return xr.DataArray(values, dims=("curve", "step"), coords={"step": step})


def prior_of(step: np.ndarray) -> dict:
    if step is LOG:
        return {"step_prior": "log", "first_step": float(step[0])}
    return {"step_prior": "linear", "first_step": 0.0}


def rule_of_three(values: np.ndarray) -> np.ndarray:
    """First point above the mean and three standard deviations of the first ten; -1 for none."""
    first = values[:, :10]
    above = values > (first.mean(axis=1) + 3.0 * first.std(axis=1, ddof=1))[:, None]
    above[:, :10] = False
    return np.where(above.any(axis=1), above.argmax(axis=1), -1)


def false_alarms() -> dict:
    generator = np.random.default_rng(1)
    found: dict[str, dict] = {}
    for noise, rho in (("independent", 0.0), ("AR(1) 0.8", 0.8), ("random walk", None)):
        for step in (EVEN, LOG):
            fresh = generator.normal(size=(500, step.size))
            values = fresh.cumsum(axis=1) if rho is None else autoregressive(fresh, rho)
            values = 0.3 + 0.02 * values
            for name, options in MODELS.items():
                told = es.detect_online(curves_of(values, step), **HOW, **options, **prior_of(step))
                highest = told["probability"].max("step").values
                row = found.setdefault(name, {}).setdefault(noise, {})
                for threshold in THRESHOLDS:
                    row.setdefault(str(threshold), []).extend(highest >= threshold)
            row = found.setdefault("three standard deviations", {}).setdefault(noise, {})
            row.setdefault("rule", []).extend(rule_of_three(values) >= 0)
    return {
        name: {
            noise: {t: round(float(np.mean(alarms)), 4) for t, alarms in row.items()}
            for noise, row in by.items()
        }
        for name, by in found.items()
    }


def delays(threshold: float = 0.95) -> dict:
    generator = np.random.default_rng(2)
    rows: dict[str, dict[str, list]] = {}
    for sd in (0.01, 0.03, 0.1):
        for step in (EVEN, LOG):
            number = 200
            place = generator.uniform(0.3, 0.6, number) * (step.size - 1)
            onset = np.interp(place, np.arange(step.size), step)[:, None]
            # From 2 to 20 checkpoints.
            later = np.interp(
                place + np.exp(generator.uniform(*np.log([2.0, 20.0]), number)),
                np.arange(step.size),
                step,
            )
            half = later[:, None] - onset
            kappa = generator.choice([0.0, 1.0, 3.0], size=(number, 1))
            timescale = timescale_from_half_time(half, kappa)
            clean = es.relaxation(step, onset=onset, timescale=timescale, kappa=kappa)
            values = 0.2 + 0.5 * (clean + sd * generator.normal(size=clean.shape))
            alarms = {"three standard deviations": rule_of_three(values)}
            for name, options in MODELS.items():
                told = es.detect_online(
                    curves_of(values, step), **HOW, **options, **prior_of(step), threshold=threshold
                )
                begun = told["probability"].values >= threshold
                alarms[name] = np.where(begun.any(axis=1), begun.argmax(axis=1), -1)
            for name, at in alarms.items():
                row = rows.setdefault(f"{name}, noise {sd:g}", {})
                early = (at >= 0) & (at < place)
                good = at >= place
                row.setdefault("early", []).extend(early)
                row.setdefault("missed", []).extend(at < 0)
                row.setdefault("delay", []).extend(at[good] - place[good])
                done = clean[np.arange(number), np.maximum(at, 0)]
                row.setdefault("over", []).extend(done[good])
    return {
        name: {
            "runs": len(row["missed"]),
            "before_the_onset": round(float(np.mean(row["early"])), 4),
            "none": round(float(np.mean(row["missed"])), 4),
            "median_delay_checkpoints": round(float(np.median(row["delay"])), 2),
            "upper_delay_checkpoints": round(float(np.quantile(row["delay"], 0.9)), 2),
            "median_share_over": round(float(np.median(row["over"])), 3),
        }
        for name, row in rows.items()
    }


def gradual(number: int = 300) -> dict:
    """Logistic rises from 0 to 1: the alarm, in checkpoints after half height."""
    generator = np.random.default_rng(11)
    middle, width = (
        generator.uniform(2000.0, 8000.0, number),
        generator.uniform(100.0, 800.0, number),
    )
    noise = generator.choice([0.005, 0.02, 0.05], number)[:, None]
    values = 1.0 / (1.0 + np.exp((middle[:, None] - EVEN) / width[:, None]))
    values += noise * generator.normal(size=values.shape)
    told = es.detect_online(curves_of(values, EVEN), last_step=float(EVEN[-1]), **HOW)
    alarm = told["alarm_step"].isel(step=-1).values
    after = (alarm - middle) / 100.0
    return {
        "rises": number,
        "never": int(np.isnan(alarm).sum()),
        "median": float(np.nanmedian(after)),
        "largest": float(np.nanmax(after)),
        "within_five": float((after <= 5.0).mean()),
    }


def speed(number: int = 10_000) -> dict:
    import ruptures

    generator = np.random.default_rng(3)
    values = 0.2 + 0.02 * generator.normal(size=(number, EVEN.size))
    values[: number // 2, 60:] += 0.4 * (1.0 - np.exp(-np.arange(40) / 8.0))
    found = {}
    for name, options in MODELS.items():
        watch = es.OnlineOnset(last_step=float(EVEN[-1]), **HOW, **options, **prior_of(EVEN))
        spent = []
        for k, step in enumerate(EVEN):
            begun = time.perf_counter()
            watch.update(step, values[:, k])
            spent.append(time.perf_counter() - begun)
        # The first call compiles.
        found[name] = {
            "median_seconds": round(float(np.median(spent[1:])), 4),
            "largest_seconds": round(float(np.max(spent[1:])), 4),
            "bytes_a_curve": int(sum(a.nbytes for a in watch._state) / number),
        }
    begun = time.perf_counter()
    for row in values[:200]:
        ruptures.Pelt(model="l2", min_size=2, jump=1).fit(row[:, None]).predict(
            pen=3.0 * 0.02**2 * np.log(row.size)
        )
    again = (time.perf_counter() - begun) / 200 * number
    found[AGAIN] = {"seconds": round(again, 2)}
    best = found["lines that meet, AR(1) (default)"]["median_seconds"]
    found["ratio_to_ruptures"] = round(again / best, 1)
    return found


def main() -> None:
    alarms, late, rises, fast = false_alarms(), delays(), gradual(), speed()
    write_result(
        "online",
        COMMAND,
        {"false_alarms": alarms, "delays": late, "gradual_rises": rises, "speed": fast},
        ("ruptures",),
    )
    lines = [
        "# Online onsets\n",
        f"`{COMMAND}`; what each part is stands in `benchmarks/accuracy/online.py`.\n",
        "False alarms: share of 1,000 flat runs of 100 checkpoints in which the probability ever "
        "reaches the threshold.\n",
        "| method | noise | " + " | ".join(map(str, THRESHOLDS)) + " |",
        "| --- | --- | " + " | ".join("---" for _ in THRESHOLDS) + " |",
        *(
            f"| {name} | {noise} | "
            + " | ".join(f"{100 * row.get(str(t), row.get('rule')):.1f}%" for t in THRESHOLDS)
            + " |"
            for name, by in alarms.items()
            for noise, row in by.items()
        ),
        "\nDelay at threshold 0.95, independent noise as a share of the rise:\n",
        "| method | before the onset | never | delay in checkpoints, median (90%) | rise over |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {name} | {100 * row['before_the_onset']:.1f}% | {100 * row['none']:.1f}% | "
            f"{row['median_delay_checkpoints']:.1f} ({row['upper_delay_checkpoints']:.1f}) | "
            f"{100 * row['median_share_over']:.0f}% |"
            for name, row in late.items()
        ),
        f"\nOf {rises['rises']} logistic rises with noise of 0.5 to 5%, "
        f"{100 * rises['within_five']:.0f}% raise the alarm within five checkpoints of half height "
        f"(median {rises['median']:+.1f}, latest {rises['largest']:+.1f}).",
        "\nOne more checkpoint of 10,000 curves: "
        + "; ".join(
            f"{name} {row['median_seconds']:.2f} s (at most {row['largest_seconds']:.2f} s, "
            f"{row['bytes_a_curve'] / 1000:.0f} kB a curve)"
            for name, row in fast.items()
            if isinstance(row, dict) and "median_seconds" in row
        )
        + f". ruptures' PELT on each whole curve again: {fast[AGAIN]['seconds']:.1f} s, "
        f"{fast['ratio_to_ruptures']:.0f} times the default's.",
    ]
    (RESULTS / "online.md").write_text("\n".join(lines) + "\n")
    print((RESULTS / "online.md").read_text())


if __name__ == "__main__":
    main()
