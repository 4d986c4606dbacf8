"""Does the fit give the order that theory predicts for real stochastic gradient descent?

    python -m benchmarks.accuracy.descent_orders

Five minutes on one core. Expected: medians within 2% of theory, 89% intervals that hold it in about
nine of ten. Writes `results/descent_orders.json`.

What theory predicts, for a small learning rate (gradient flow, time in steps times the rate):

- *w^4*: dw/dt = -w^3, order 4.
- *Scalar deep linear network with nothing to learn*: L = (w_1 ... w_N)^2 / 2, all w_i = w alike
  (Saxe, McClelland and Ganguli 2014, arXiv 1312.6120). A weight relaxes with order 2N, the product
  p = w^N with order 4 - 2/N, the loss with order 3 - 1/N: it is the score as fitted whose order is
  found.
- *The same network with something to learn*, begun near its saddle: dp/dt = N p^(2 - 2/N) (1 - p)
  (Gidel, Bach and Lacoste-Julien 2019, arXiv 1904.13262). From half height on it is exponential
  whatever the depth.

Networks learn in NumPy from batches of 32 fresh examples with label noise; nothing is drawn from
the formula. `shortfall` takes curves of the formula instead, with the onset at a checkpoint or
between two, and with time as uneven as a batch of 32 makes it.
"""

from __future__ import annotations

import argparse
from typing import Any

import numba
import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.record import write_result

Array = np.ndarray

COMMAND = "python -m benchmarks.accuracy.descent_orders"
BATCH = 32
READING_ERROR = 0.005
BEFORE = 1000
LAST = 1_000_000
# To the first checkpoint after BEFORE.
FIRST_GAP = 50
LABEL_NOISE = 0.02
RATE = 0.002


def checkpoints(last: int = LAST, number: int = 40) -> Array:
    """Steps of measurement: eight before learning begins at step BEFORE, then log-spaced."""
    early = np.linspace(0.0, BEFORE, 9)[1:]
    late = BEFORE + np.geomspace(FIRST_GAP, last - BEFORE, number)
    return np.unique(np.round(np.concatenate([early, late])).astype(int))


@numba.njit(cache=True)
def descend(
    depth: int,
    target: float,
    start: float,
    rate: float,
    steps: Array,
    generator: np.random.Generator,
    begin: int = BEFORE,
) -> Array:
    """Weights at each of `steps`, shape (step, weight); learning begins at step `begin`.

    Batch gradients of (w_1 ... w_N x - target x - e)^2 / 2 in every weight; for depth 1 of
    (w^2 x - e)^2 / 4, whose mean is w^4 / 4 and a constant.
    """
    w = np.full(depth, start)
    out = np.empty((steps.size, depth))
    at = 0
    for k in range(steps.size):
        while at < steps[k]:
            at += 1
            if at <= begin:
                continue
            product = w[0] ** 2 if depth == 1 else w.prod()
            slope = 0.0
            for _ in range(BATCH):
                x = generator.normal()
                slope += ((product - target) * x + LABEL_NOISE * generator.normal()) * x / BATCH
            if depth == 1:
                w[0] -= rate * slope * w[0]
            else:
                w -= rate * slope * product / w
        out[k] = w
    return out


def read(score: Array, steps: Array, generator: np.random.Generator) -> xr.DataArray:
    """The score as measured, with an error of 0.5% of its range."""
    return es.curve(
        score + READING_ERROR * np.ptp(score) * generator.normal(size=score.size), steps
    )


def relaxing(depth: int, seed: int) -> dict[str, tuple[float, xr.DataArray]]:
    """Scores of one run with a degenerate minimum, by name: predicted order and curve."""
    generator = np.random.default_rng([depth, seed])
    steps = checkpoints()
    begin = BEFORE + int(generator.integers(FIRST_GAP))
    w = descend(depth, 0.0, 1.0, RATE, steps, generator, begin)
    return scores_of(depth, w[:, 0], np.prod(w, axis=1), steps, generator)


def scores_of(
    depth: int, weight: Array, product: Array, steps: Array, generator: np.random.Generator
) -> dict[str, tuple[float, xr.DataArray]]:
    """What is read of a run, by name: predicted order and curve."""
    if depth == 1:
        return {"w^4, w": (4.0, read(weight, steps, generator))}
    name = f"deep linear, depth {depth}, nothing to learn"
    return {
        f"{name}: weight": (2.0 * depth, read(weight, steps, generator)),
        f"{name}: product": (4.0 - 2.0 / depth, read(product, steps, generator)),
        f"{name}: loss": (3.0 - 1.0 / depth, read(product**2, steps, generator)),
    }


def by_formula(
    depth: int, seed: int, *, at_checkpoint: bool, uneven: bool
) -> dict[str, tuple[float, xr.DataArray]]:
    """The same by gradient flow, its time even or as uneven as batches make it."""
    generator = np.random.default_rng([depth, seed, 3])
    steps = checkpoints()
    begin = BEFORE + (0 if at_checkpoint else int(generator.integers(FIRST_GAP)))
    lengths = np.diff(np.maximum(steps - begin, 0), prepend=0).astype(float)
    if uneven:
        freedom = BATCH * lengths
        lengths = np.where(freedom > 0, generator.chisquare(np.maximum(freedom, 1)) / BATCH, 0.0)
    time = RATE * np.cumsum(lengths)
    power = max(2 * depth - 2, 2)
    weight = (1.0 + power * time) ** (-1.0 / power)
    return scores_of(depth, weight, weight**depth, steps, generator)


def orders_of(runs: list[dict[str, tuple[float, xr.DataArray]]], name: str) -> Array:
    """Lower end, median and upper end of each run's order, shape (run, 3)."""
    curves = _stacked([run[name][1] for run in runs])
    return es.compare(curves, noise="ar1").dataset["order"].transpose("seed", "quantile").values


def coverage(held: list[Array], runs: list[Array]) -> dict[str, float | int]:
    """Share of intervals that hold the order, with a standard error by run."""
    inside, run = np.concatenate(held), np.concatenate(runs)
    number = np.unique(run)
    shares = np.array([inside[run == one].sum() for one in number])
    sizes = np.array([(run == one).sum() for one in number])
    share = shares.sum() / sizes.sum()
    error = np.sqrt(((shares - share * sizes) ** 2).sum()) / sizes.sum()
    return {
        "intervals": int(inside.size),
        "held": int(inside.sum()),
        "share": float(share),
        "standard_error_by_run": float(error),
        "standard_error_if_independent": float(np.sqrt(share * (1.0 - share) / inside.size)),
    }


def shortfall(number: int) -> list[dict[str, Any]]:
    """Coverage and bias of curves of the formula, by where learning begins and how time runs."""
    rows = []
    for at_checkpoint in (True, False):
        for uneven in (False, True):
            held, owner, apart = [], [], {}
            for depth in (1, 2, 3, 4):
                runs = [
                    by_formula(depth, seed, at_checkpoint=at_checkpoint, uneven=uneven)
                    for seed in range(number)
                ]
                for name, (order, _) in runs[0].items():
                    found = orders_of(runs, name)
                    held.append((found[:, 0] <= order) & (order <= found[:, 2]))
                    owner.append(1000 * depth + np.arange(number))
                    # An 89% interval is 3.2 standard deviations wide.
                    apart[name] = (found[:, 1] - order) / ((found[:, 2] - found[:, 0]) / 3.2)
            kinds = ("weight", "product", "loss")
            by_kind = {
                kind: np.stack([apart[n] for n in apart if n.endswith(kind)]) for kind in kinds
            }
            pairs = [
                np.corrcoef(by_kind[a][k], by_kind[b][k])[0, 1]
                for k in range(3)
                for a, b in (("weight", "product"), ("weight", "loss"), ("product", "loss"))
            ]
            rows.append(
                {
                    "begins": "at a checkpoint" if at_checkpoint else "between two",
                    "time": "as in batches of 32" if uneven else "even",
                    **coverage(held, owner),
                    "bias_in_posterior_sd": {k: float(v.mean()) for k, v in by_kind.items()},
                    "scatter_in_posterior_sd": {k: float(v.std()) for k, v in by_kind.items()},
                    "mean_correlation_of_scores_of_a_run": float(np.mean(pairs)),
                }
            )
            print(rows[-1], flush=True)
    return rows


def escaping(depth: int, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """One run begun near its saddle: the product over all steps, and from half height on."""
    generator = np.random.default_rng([depth, seed, 2])
    start = {2: 0.03, 3: 0.15, 4: 0.25}[depth]
    # From a first, coarse look: when it has escaped.
    coarse = np.arange(BEFORE, BEFORE + 30_000, 20)
    p = np.prod(
        descend(depth, 1.0, start, RATE, coarse, np.random.default_rng([depth, seed, 1])), axis=1
    )
    half = int(coarse[np.argmax(p > 0.5)])
    width = int(coarse[np.argmax(p > 0.95)]) - half
    whole = np.linspace(max(half - 6 * width, BEFORE), half + 6 * width, 48).round().astype(int)
    after = (half + np.linspace(0.0, 6.0 * width, 40)).round().astype(int)
    curves = []
    for steps in (whole, after):
        w = descend(depth, 1.0, start, RATE, steps, np.random.default_rng([depth, seed, 1]))
        curves.append(read(np.prod(w, axis=1), steps, generator))
    return curves[0], curves[1]


def _stacked(curves: list[xr.DataArray]) -> xr.DataArray:
    return xr.concat(curves, dim="seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--formula", type=int, default=40, help="runs of the formula in each case")
    options = parser.parse_args()
    seeds = range(options.seeds)
    rows: list[dict[str, Any]] = []
    held, owner = [], []
    for depth in (1, 2, 3, 4):
        runs = [relaxing(depth, seed) for seed in seeds]
        for name, (order, first) in runs[0].items():
            result = es.compare(_stacked([run[name][1] for run in runs]), noise="ar1").dataset
            found = result["order"].transpose("seed", "quantile").values
            fitted = es.fit(first, "power_law", seed=1)
            inside = (found[:, 0] <= order) & (order <= found[:, 2])
            held.append(inside)
            owner.append(1000 * depth + np.arange(options.seeds))
            kappa = np.quantile(fitted.tree["posterior"]["kappa"].values, [0.055, 0.5, 0.945])
            rows.append(
                {
                    "score": name,
                    "predicted_order": order,
                    "median_order": float(np.median(found[:, 1])),
                    "interval_width": float(np.median(found[:, 2] - found[:, 0])),
                    "intervals_that_hold_it": int(inside.sum()),
                    "runs": options.seeds,
                    "verdicts": _counts(result["verdict"].values),
                    "fit_of_first_run": {
                        "lower": float(kappa[0] + 2.0),
                        "median": float(kappa[1] + 2.0),
                        "upper": float(kappa[2] + 2.0),
                        "problems": fitted.problems,
                    },
                }
            )
            print(rows[-1], flush=True)
    for depth in (2, 3, 4):
        both = [escaping(depth, seed) for seed in seeds]
        for k, (what, families) in enumerate(
            (
                ("all of it", ("exponential", "power_law", "logistic")),
                ("from half height on", ("exponential", "power_law")),
            )
        ):
            # Each run has steps of its own.
            found = [
                es.compare(pair[k], families=families, noise="ar1", step_prior="linear").dataset
                for pair in both
            ]
            rows.append(
                {
                    "score": f"deep linear, depth {depth}, from its saddle: product, {what}",
                    "predicted": "exponential, order 2"
                    if k
                    else (
                        "logistic"
                        if depth == 2
                        else "none of these exactly: it escapes by a power law"
                    ),
                    "mean_probability": {
                        str(name): float(
                            np.mean([f["probability"].sel(family=name) for f in found])
                        )
                        for name in found[0]["family"].values
                    },
                    "verdicts": _counts(np.array([f["verdict"].item() for f in found])),
                    "order_lower_quantile_given_power_law": float(
                        np.median([f["order"].values[0] for f in found])
                    ),
                    "runs": options.seeds,
                }
            )
            print(rows[-1], flush=True)
    figures = {
        "reading_error": READING_ERROR,
        "batch": BATCH,
        "coverage_89": coverage(held, owner),
        "rows": rows,
        "shortfall": shortfall(options.formula),
    }
    print(figures["coverage_89"], flush=True)
    write_result("descent_orders", COMMAND, figures, packages=("pymc",))


def _counts(labels: Array) -> dict[str, int]:
    names, number = np.unique(labels.astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, number, strict=True)}


if __name__ == "__main__":
    main()
