"""Orders from real stochastic gradient descent: does the fit give what theory predicts?

Run with ``python -m benchmarks.descent_orders`` (about 3 minutes on two cores). Writes
``benchmarks/results/descent_orders.json``.

What theory predicts, for a small learning rate (gradient flow, time in steps times the rate):

- *w^4*: dw/dt = -w^3, so w = w0 (1 + 2 w0^2 t)^(-1/2): order 4, kappa = 2.
- *Scalar deep linear network with nothing to learn*: L = (w_1 ... w_N)^2 / 2, all w_i = w alike
  (differences of squares are conserved: Saxe, McClelland and Ganguli 2014, arXiv 1312.6120). The
  minimum is degenerate: L = w^(2N)/2, so a weight relaxes with order 2N. Another score of the same
  run has another order: the product p = w^N obeys dp/dt = -N p^(3 - 2/N), hence order 4 - 2/N, and
  the loss p^2 order 3 - 1/N. It is the score as fitted whose order is found.
- *The same network with something to learn* (target 1), begun near its saddle at 0:
  dp/dt = N p^(2 - 2/N) (1 - p) (Saxe et al. 2014; Gidel, Bach and Lacoste-Julien 2019, arXiv
  1904.13262). Escape from the saddle is not relaxation: p grows like exp(2t) for N = 2, where the
  whole curve is a logistic one, and like (t* - t)^(-N/(N - 2)) for N > 2. From half height on it
  relaxes to a minimum that is not degenerate: exponential, order 2, whatever the depth.

Networks are trained by stochastic gradient descent on batches of 32 fresh examples x ~ Normal(0, 1)
with label noise, in NumPy; nothing is drawn from the formula. Scores are read with an error of 0.5%
at 40 checkpoints, log-spaced from the start of training, and eight before it at learning rate 0.
"""

from __future__ import annotations

import argparse

import numba
import numpy as np
import xarray as xr

import emergence_stats as es
from benchmarks.record import write_result

Array = np.ndarray

COMMAND = "python -m benchmarks.descent_orders"
BATCH = 32
READING_ERROR = 0.005
BEFORE = 1000
LAST = 1_000_000
LABEL_NOISE = 0.02
RATE = 0.002


def checkpoints(last: int = LAST, number: int = 40) -> Array:
    """Steps of measurement: eight before learning begins at step BEFORE, then log-spaced."""
    early = np.linspace(0.0, BEFORE, 9)[1:]
    late = BEFORE + np.geomspace(50.0, last - BEFORE, number)
    return np.unique(np.round(np.concatenate([early, late])).astype(int))


@numba.njit(cache=True)
def descend(
    depth: int,
    target: float,
    start: float,
    rate: float,
    steps: Array,
    generator: np.random.Generator,
) -> Array:
    """Weights at each of `steps`, shape (step, weight); learning begins at step BEFORE.

    Batch gradients of (w_1 ... w_N x - target x - e)^2 / 2 in every weight; for depth 1 of
    (w^2 x - e)^2 / 4, whose mean is w^4 / 4 and a constant.
    """
    w = np.full(depth, start)
    out = np.empty((steps.size, depth))
    at = 0
    for k in range(steps.size):
        while at < steps[k]:
            at += 1
            if at <= BEFORE:
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
    w = descend(depth, 0.0, 1.0, RATE, steps, generator)
    if depth == 1:
        return {"w^4, w": (4.0, read(w[:, 0], steps, generator))}
    product = np.prod(w, axis=1)
    name = f"deep linear, depth {depth}, nothing to learn"
    return {
        f"{name}: weight": (2.0 * depth, read(w[:, 0], steps, generator)),
        f"{name}: product": (4.0 - 2.0 / depth, read(product, steps, generator)),
        f"{name}: loss": (3.0 - 1.0 / depth, read(product**2, steps, generator)),
    }


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
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    seeds = range(options.seeds)
    rows = []
    for depth in (1, 2, 3, 4):
        runs = [relaxing(depth, seed) for seed in seeds]
        for name, (order, first) in runs[0].items():
            result = es.compare(_stacked([run[name][1] for run in runs]), noise="ar1").dataset
            found = result["order"].transpose("seed", "quantile").values
            fitted = es.fit(first, "power_law", seed=1)
            kappa = np.quantile(fitted.tree["posterior"]["kappa"].values, [0.055, 0.5, 0.945])
            rows.append(
                {
                    "score": name,
                    "predicted_order": order,
                    "median_order": float(np.median(found[:, 1])),
                    "interval_width": float(np.median(found[:, 2] - found[:, 0])),
                    "intervals_that_hold_it": int(
                        ((found[:, 0] <= order) & (order <= found[:, 2])).sum()
                    ),
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
    figures = {"reading_error": READING_ERROR, "batch": BATCH, "rows": rows}
    write_result("descent_orders", COMMAND, figures, packages=("pymc",))


def _counts(labels: Array) -> dict[str, int]:
    names, number = np.unique(labels.astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, number, strict=True)}


if __name__ == "__main__":
    main()
