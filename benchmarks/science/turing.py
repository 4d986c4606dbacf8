"""Changepoints of the Turing Change Point Dataset: ours, ruptures, Rbeast and none.

    python -m benchmarks.science.turing --data FOLDER

A minute on two cores. Expected: covering 0.664 and F1 0.688 by default, 0.696 and 0.806 with
segments chosen by evidence. Writes `results/turing.json` and `turing.md`.

The 28 series that may be redistributed, five annotators each (van den Burg and Williams 2020, arXiv
2003.06222), and the two scores of that paper: the covering of each annotator's segments, and F1
with a margin of five points. Published figures are over all 42 series, so every method is run here
on the same 28, and nothing is tuned to a series.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

import emergence_stats as es
from benchmarks.record import RESULTS, write_result

COMMAND = "python -m benchmarks.science.turing"
MARGIN = 5
PUBLISHED = {
    "binary segmentation": (0.672, 0.698),
    "PELT": (0.652, 0.674),
    "AMOC": (0.668, 0.653),
    "none": (0.566, 0.645),
}


def matched(true: set[int], found: set[int], margin: int = MARGIN) -> int:
    """How many true changes have a found one of their own within the margin.

    Examples
    --------
    >>> matched({0, 10, 12}, {0, 11})
    2
    """
    left, count = set(found), 0
    for change in sorted(true):
        near = sorted((abs(change - x), x) for x in left if abs(change - x) <= margin)
        if near:
            left.remove(near[0][1])
            count += 1
    return count


def f_score(annotations: Iterable[Iterable[int]], found: Iterable[int]) -> float:
    """F1 of changes found against several annotators.

    Examples
    --------
    >>> f_score([[10], []], [10])
    1.0
    >>> round(f_score([[10], []], []), 3)
    0.857
    """
    everyone = [{0, *each} for each in annotations]
    ours = {0, *found}
    precision = matched(set().union(*everyone), ours) / len(ours)
    recall = float(np.mean([matched(each, ours) / len(each) for each in everyone]))
    return 2.0 * precision * recall / (precision + recall)


def covering(annotations: Iterable[Iterable[int]], found: Iterable[int], length: int) -> float:
    """How well the segments found cover those of each annotator.

    Examples
    --------
    >>> covering([[5]], [5], 10)
    1.0
    >>> covering([[5]], [], 10)
    0.5
    """
    scores = []
    ours = segments(found, length)
    for each in annotations:
        total = 0.0
        for low, high in segments(each, length):
            shares = [
                max(0, min(high, b) - max(low, a)) / (max(high, b) - min(low, a)) for a, b in ours
            ]
            total += (high - low) * max(shares)
        scores.append(total / length)
    return float(np.mean(scores))


def segments(changes: Iterable[int], length: int) -> list[tuple[int, int]]:
    edges = sorted({0, length, *changes})
    return list(pairwise(edges))


def segmented(y: np.ndarray, **options: str) -> es.Segmentation:
    return es.segment(es.curve(y, np.arange(1.0, y.size + 1)), step_prior="linear", **options)


def by_us(y: np.ndarray, **options: str) -> list[int]:
    return places(segmented(y, **options))


def places(found: es.Segmentation) -> list[int]:
    steps = found.changes.values
    # The first point after each median, as points are numbered from 0 and steps from 1.
    return sorted({int(np.ceil(step)) - 1 for step in steps[np.isfinite(steps)]})


def standardised(y: np.ndarray) -> np.ndarray:
    return (y - y.mean()) / y.std()


def by_ruptures(y: np.ndarray, search: str, cost: str, unit_noise: bool = False) -> list[int]:
    import ruptures

    z = standardised(y)[:, None]
    kind = {"pelt": ruptures.Pelt, "binseg": ruptures.Binseg}[search]
    # The Bayesian information criterion with noise of the standard deviation that differences show,
    # or, as the published defaults had it, the modified one with that of the whole series.
    noise = np.median(np.abs(np.diff(z[:, 0]))) / (0.6745 * np.sqrt(2.0))
    parameters, unit = (2, max(noise, 1e-3) ** 2) if cost == "l2" else (3, 1.0)
    if unit_noise:
        parameters, unit = 3, 1.0
    penalty = parameters * np.log(y.size) * unit
    jumps = kind(model=cost, min_size=2, jump=1).fit(z).predict(pen=penalty)
    return [int(j) for j in jumps[:-1]]


def by_rbeast_places(y: np.ndarray) -> list[int]:
    import Rbeast

    # On Python 3.13 it writes of options it does not find, harmlessly and at length.
    kept = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        out = Rbeast.beast(
            y, season="none", quiet=True, print_progress=False, print_options=False, mcmc_seed=1
        )
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)
    number = round(float(np.ravel(out.trend.ncp_median)[0]))
    likely = np.ravel(out.trend.cp)[:number]
    # Of a series without times, points are numbered from 1.
    return sorted({int(p) - 1 for p in likely[np.isfinite(likely)]})


METHODS: dict[str, Callable[[np.ndarray], list[int]]] = {
    "ours, constant, AR(1) (default)": by_us,
    "ours, constant, independent": partial(by_us, noise="independent"),
    "ours, linear, AR(1)": partial(by_us, model="linear"),
    "ours, linear, independent": partial(by_us, model="linear", noise="independent"),
    "ours, constant, own variances": partial(by_us, variance="segment"),
    "ours, linear, own variances": partial(by_us, model="linear", variance="segment"),
    "ours, all by evidence": partial(by_us, model="auto", variance="auto"),
    "ours, constant, penalised (PELT)": partial(by_us, method="pelt"),
    "ruptures PELT, l2": partial(by_ruptures, search="pelt", cost="l2"),
    "ruptures PELT, normal": partial(by_ruptures, search="pelt", cost="normal"),
    "ruptures binary segmentation, l2": partial(by_ruptures, search="binseg", cost="l2"),
    "ruptures PELT, l2, 3 log n": partial(by_ruptures, search="pelt", cost="l2", unit_noise=True),
    "ruptures binary segmentation, l2, 3 log n": partial(
        by_ruptures, search="binseg", cost="l2", unit_noise=True
    ),
    "Rbeast, trend": by_rbeast_places,
    "none": lambda _: [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tcpd"))
    options = parser.parse_args()
    if not options.data.exists():
        print(f"{options.data}: not there, so left out; name the data by --data")
        return
    annotations = json.loads((options.data / "annotations.json").read_text())
    series = [
        json.loads(path.read_text())
        for path in sorted(options.data.glob("*.json"))
        if path.name != "annotations.json"
    ]
    rows: dict[str, dict[str, list]] = {}
    for name, method in METHODS.items():
        per = {}
        begun = time.perf_counter()
        for one in series:
            raw = np.array([np.nan if v is None else v for v in one["series"][0]["raw"]], float)
            there = np.flatnonzero(np.isfinite(raw))
            found = [int(there[i]) for i in method(raw[there])]
            marks = list(annotations[one["name"]].values())
            per[one["name"]] = [covering(marks, found, raw.size), f_score(marks, found), found]
        scores = np.array([row[:2] for row in per.values()])
        spent = time.perf_counter() - begun
        rows[name] = {
            "covering": round(float(scores[:, 0].mean()), 3),
            "f1": round(float(scores[:, 1].mean()), 3),
            "seconds": round(spent, 2),
            "series": {k: [round(v[0], 3), round(v[1], 3), v[2]] for k, v in per.items()},
        }
        print(f"{name:36s} {rows[name]['covering']:.3f} {rows[name]['f1']:.3f} {spent:7.2f} s")
    write_result(
        "turing",
        COMMAND,
        {"num_series": len(series), "margin": MARGIN, "methods": rows, "published": PUBLISHED},
        ("ruptures", "Rbeast"),
    )
    lines = [
        f"# Turing Change Point Dataset, {len(series)} series\n",
        f"`{COMMAND}`; scores as in van den Burg and Williams (2020), arXiv 2003.06222.\n",
        "| method | covering | F1 | seconds |",
        "| --- | --- | --- | --- |",
        *(
            f"| {k} | {v['covering']:.3f} | {v['f1']:.3f} | {v['seconds']} |"
            for k, v in rows.items()
        ),
        "\nPublished, at default settings, over all 42 series:\n",
        "| method | covering | F1 |",
        "| --- | --- | --- |",
        *(f"| {k} | {a} | {b} |" for k, (a, b) in PUBLISHED.items()),
    ]
    (RESULTS / "turing.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
