"""What do gradual laws cost where rises begin with a kink?

    python -m benchmarks.accuracy.sudden_rises [--number N]

Curves of 16 points from the priors of `sudden_exponential` and `sudden_power_law`, as many of each,
of amplitude 1 with independent noise of 2%: the log score of power law against exponential by the
gradual laws, which integrate the take-off out, beside that of the sudden pair, which knows it.
Expected: 0.02 nats worse. Three minutes on two cores. Writes `results/sudden_rises.json`.
"""

from __future__ import annotations

import argparse

import numpy as np

import emergence_stats as es
from benchmarks.accuracy.classification import log_score, mean_and_error
from benchmarks.record import write_result
from emergence_stats.curves.simulation import simulate_curves

COMMAND = "python -m benchmarks.accuracy.sudden_rises"
STEP = np.geomspace(10.0, 10_000.0, 16)
PAIRS = {
    "sudden": ("sudden_exponential", "sudden_power_law"),
    "gradual": ("exponential", "power_law"),
}
STRONG = np.log(19.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=800)
    number = parser.parse_args().number // 2
    score: dict[str, list[np.ndarray]] = {name: [] for name in PAIRS}
    wrong = dict.fromkeys(PAIRS, 0)
    for powered, truth in enumerate(PAIRS["sudden"]):
        fixed = {"amplitude": np.ones(number), "baseline": np.zeros(number)}
        drawn = simulate_curves(truth, STEP, number=number, sd=0.02, parameters=fixed, seed=5)
        for name, families in PAIRS.items():
            found = es.compare(
                drawn["score"], families=families, value_range=(0.0, 1.0), noise="independent"
            )
            log_odds = found.dataset["log_bayes_factor"].values
            is_powered = np.full(number, bool(powered))
            score[name].append(log_score(log_odds, is_powered))
            wrong[name] += int((np.where(is_powered, log_odds, -log_odds) < -STRONG).sum())
    figures = {name: mean_and_error(np.concatenate(values)) for name, values in score.items()}
    worse = np.concatenate(score["sudden"]) - np.concatenate(score["gradual"])
    figures["gradual is worse by"] = mean_and_error(worse)
    record = {"number": 2 * number, "log_score": figures, "wrong_at_0.95": wrong}
    print(record)
    write_result("sudden_rises", COMMAND, record)


if __name__ == "__main__":
    main()
