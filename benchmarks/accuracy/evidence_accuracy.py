"""Log evidences by quadrature beside nested sampling and dense integration.

    python -m benchmarks.accuracy.evidence_accuracy

A quarter of an hour on one core. Expected: 20 of 20 within 0.05 nats of dynesty, within 0.03 of
dense sums. Writes `results/evidence_accuracy.json`.

Curves of 8 to 60 points, noise 0.5 to 20% of the rise, independent or AR(1), by five families. The
likelihood is written anew; no code of the package's integration is used. Nested sampling errs by
sqrt(H / live points), H nats being what the data add to the prior, so a pilot run of 250 live
points says where the posterior lies, and the run that counts has a Student t prior there and the
ratio of the true prior to it in its likelihood: the same integral with H below 1 (posterior
repartitioning: Chen, Hobson, Das and Gelderblom 2019, Statistics and Computing 29, 835-850).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import xarray as xr
from scipy.special import gammaln, ndtr, ndtri, stdtrit

import emergence_stats as es
from benchmarks.accuracy import exact
from benchmarks.record import write_result
from emergence_stats.curves.families import get_family

Array = np.ndarray

COMMAND = "python -m benchmarks.accuracy.evidence_accuracy"
LIVE = 1500
PILOT = 250
RUNS = 2
# Degrees of freedom of the prior about the pilot's posterior.
HEAVY = 3.0
KINDS = {"flat": 0, "exponential": 1, "power_law": 2, "stretched_exponential": 3, "logistic": 4}

# (points, spacing, noise over rise, noise, correlation made, family that made it, family asked)
CASES: tuple[tuple[int, str, float, str, float, str, str], ...] = (
    (8, "even", 0.05, "independent", 0.0, "exponential", "exponential"),
    (8, "log", 0.2, "ar1", 0.0, "power_law", "power_law"),
    (10, "uneven", 0.01, "ar1", 0.3, "exponential", "exponential"),
    (12, "log", 0.02, "independent", 0.0, "power_law", "exponential"),
    (12, "even", 0.1, "ar1", 0.6, "power_law", "power_law"),
    (14, "uneven", 0.005, "independent", 0.0, "exponential", "exponential"),
    (16, "log", 0.03, "ar1", 0.5, "power_law", "power_law"),
    (16, "even", 0.2, "independent", 0.0, "flat", "flat"),
    (16, "uneven", 0.1, "ar1", 0.8, "flat", "exponential"),
    (20, "log", 0.05, "independent", 0.0, "stretched_exponential", "stretched_exponential"),
    (20, "even", 0.02, "ar1", 0.4, "logistic", "logistic"),
    (24, "uneven", 0.05, "independent", 0.0, "power_law", "power_law"),
    (24, "log", 0.1, "ar1", 0.7, "exponential", "stretched_exponential"),
    (30, "even", 0.01, "independent", 0.0, "power_law", "power_law"),
    (30, "uneven", 0.2, "ar1", 0.2, "logistic", "logistic"),
    (36, "log", 0.005, "ar1", 0.5, "power_law", "power_law"),
    (40, "even", 0.1, "independent", 0.0, "exponential", "power_law"),
    (48, "uneven", 0.03, "ar1", 0.8, "exponential", "exponential"),
    (60, "log", 0.05, "ar1", 0.6, "power_law", "exponential"),
    (60, "even", 0.02, "independent", 0.0, "logistic", "power_law"),
)


def make_step(points: int, spacing: str, generator: np.random.Generator) -> Array:
    if spacing == "even":
        return np.linspace(100.0, 6000.0, points)
    if spacing == "log":
        return np.geomspace(20.0, 6000.0, points)
    return np.sort(generator.choice(np.arange(2, 120), points, replace=False)) * 50.0


def make_curve(case: tuple[int, str, float, str, float, str, str], seed: int) -> xr.DataArray:
    points, spacing, sd, _, correlation, truth, _ = case
    generator = np.random.default_rng([seed, 7])
    step = make_step(points, spacing, generator)
    level = np.zeros(points)
    if truth != "flat":
        onset = float(np.quantile(step, generator.uniform(0.2, 0.5)))
        half = float(generator.uniform(0.05, 0.25) * (step[-1] - step[0]))
        further = {"power_law": (1.5,), "stretched_exponential": (0.7,)}.get(truth, ())
        shape = get_family(truth).shape
        assert shape is not None
        level = shape(step, onset, half, *further)
    noise = generator.normal(size=points)
    for i in range(1, points):
        noise[i] = correlation * noise[i - 1] + np.sqrt(1.0 - correlation**2) * noise[i]
    return es.curve(level + sd * noise, step)


@numba.njit(cache=True, error_model="numpy")
def _log_likelihood(kind, onset, half, extra, sigma, rho, step, y, f):
    """Dense formula, y = a + b f + e, a ~ Normal(0, 1), b ~ Normal(0, 2), units of the range."""
    n = y.size
    for i in range(n):
        e = max(step[i] - onset, 0.0) / half
        if kind == 0:
            f[i] = 0.0
        elif kind == 1:
            f[i] = -np.expm1(-np.log(2.0) * e)
        elif kind == 2:
            f[i] = -np.expm1(-np.log1p((2.0**extra - 1.0) * e) / extra)
        elif kind == 3:
            f[i] = -np.expm1(-np.log(2.0) * e**extra)
        else:
            f[i] = 0.5 + 0.5 * np.tanh((step[i] - onset) / half - 1.0)
    fresh = np.sqrt(1.0 - rho * rho)
    g11, g12, g22, h1, h2, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        if i == 0:
            one, two, new = 1.0, f[0], y[0]
        else:
            one = (1.0 - rho) / fresh
            two, new = (f[i] - rho * f[i - 1]) / fresh, (y[i] - rho * y[i - 1]) / fresh
        g11 += one * one
        g12 += one * two
        g22 += two * two
        h1 += one * new
        h2 += two * new
        yy += new * new
    # Posterior precision of (a, b), and the determinant |C| = |R| sigma^2n |1 + X'R^-1 X S|.
    v = sigma * sigma
    p11, p12, p22 = g11 / v + 1.0, g12 / v, g22 / v + 0.25
    det = p11 * p22 - p12 * p12
    quad = yy / v - (p22 * h1 * h1 - 2.0 * p12 * h1 * h2 + p11 * h2 * h2) / (v * v * det)
    return (
        -0.5 * quad
        - 0.5 * np.log(4.0 * det)
        - n * np.log(sigma)
        - (n - 1) * np.log(fresh)
        - 0.5 * n * np.log(2.0 * np.pi)
    )


def problem(
    curve: xr.DataArray, family: str, noise: str
) -> tuple[Callable[[Array], float], int, float]:
    """Log likelihood on the unit cube, its dimension, and what the change of units adds to it."""
    step, values = curve["step"].values.astype(float), curve.values
    middle, unit = 0.5 * (values.max() + values.min()), np.ptp(values)
    y, room = (values - middle) / unit, np.empty(values.size)
    kind = KINDS[family]
    offset = step[1] if step[0] == 0.0 else 0.0
    low, high = np.log(step[0] + offset), np.log(step[-1] + offset)
    short, span = np.log(0.1 * np.diff(step).min()), np.log(step[-1] - step[0])
    further = {"power_law": 1, "stretched_exponential": 1}.get(family, 0)
    shaped = 0 if family == "flat" else 2 + further
    dim = shaped + 1 + (noise == "ar1")

    def transform(cube: Array) -> Array:
        u = np.clip(cube, 1e-12, 1.0 - 1e-12)
        out = np.empty(6)
        out[:3] = 1.0
        if shaped:
            out[0] = np.exp(low + u[0] * (high - low)) - offset
            out[1] = np.exp(0.5 * (short + span) + (span - short) / 3.29 * ndtri(u[1]))
        if family == "power_law":
            out[2] = 2.0 * ndtri(0.5 + 0.5 * u[2])
        elif family == "stretched_exponential":
            out[2] = np.exp(0.5 * ndtri(u[2]))
        out[4] = u[-1] if noise == "ar1" else 0.0
        out[3] = 0.05 * np.tan(0.5 * np.pi * u[shaped]) / np.sqrt(1.0 - out[4] ** 2)
        return out[:5]

    def log_likelihood(cube: Array) -> float:
        p = transform(cube)
        value = _log_likelihood(kind, p[0], p[1], p[2], max(p[3], 1e-9), p[4], step, y, room)
        return value if np.isfinite(value) else -1e300

    return log_likelihood, dim, -values.size * np.log(unit)


def nested_sampling(
    log_likelihood: Callable[[Array], float], dim: int, live: int, seed: int, stop: float
) -> Any:
    """dynesty's results on the unit cube."""
    import dynesty

    sampler = dynesty.NestedSampler(
        log_likelihood,
        lambda u: u,
        dim,
        nlive=live,
        sample="rwalk" if dim > 1 else "unif",
        bound="multi",
        rstate=np.random.default_rng(seed),
    )
    sampler.run_nested(print_progress=False, dlogz=stop)
    return sampler.results


def by_dynesty(
    curve: xr.DataArray, family: str, noise: str, *, live: int, seed: int = 0
) -> tuple[float, float]:
    """Log evidence by one plain run, and dynesty's error of it."""
    log_likelihood, dim, unit = problem(curve, family, noise)
    found = nested_sampling(log_likelihood, dim, live, seed, 1e-3)
    return float(found.logz[-1] + unit), float(found.logzerr[-1])


def by_dynesty_about_a_pilot(
    curve: xr.DataArray, family: str, noise: str, *, live: int, seed: int
) -> Array:
    """Log evidence, dynesty's error of it, and the information left, of each run about a pilot's
    posterior: shape (run, 3)."""
    log_likelihood, dim, unit = problem(curve, family, noise)
    pilot = nested_sampling(log_likelihood, dim, PILOT, seed, 1e-2)
    weight = np.exp(pilot.logwt - pilot.logz[-1])
    weight /= weight.sum()
    # In coordinates in which the prior is standard normal.
    normal = ndtri(np.clip(pilot.samples_u, 1e-12, 1.0 - 1e-12))
    mean = weight @ normal
    factor = np.linalg.cholesky((weight[:, None] * (normal - mean)).T @ (normal - mean))
    constant = gammaln(0.5 * (HEAVY + 1.0)) - gammaln(0.5 * HEAVY) - 0.5 * np.log(HEAVY * np.pi)
    constant = dim * (constant + 0.5 * np.log(2.0 * np.pi)) - np.log(np.diag(factor)).sum()

    def repartitioned(cube: Array) -> float:
        t = stdtrit(HEAVY, np.clip(cube, 1e-12, 1.0 - 1e-12))
        x = mean + factor @ t
        log_t = -0.5 * (HEAVY + 1.0) * np.log1p(t * t / HEAVY).sum()
        value = log_likelihood(ndtr(x)) - 0.5 * float(x @ x) - log_t - constant
        return max(value, -1e300)

    found = [
        nested_sampling(repartitioned, dim, live, seed + 1 + k, 1e-2).asdict() for k in range(RUNS)
    ]
    rows = [[one[name][-1] for name in ("logz", "logzerr", "information")] for one in found]
    return np.array(rows) + np.array([unit, 0.0, 0.0])


def by_brute_force(curve: xr.DataArray, family: str, noise: str) -> tuple[float, float]:
    """Dense integration in the units of the curve's own range: the value and its error."""
    values = curve.values
    unit = np.ptp(values)
    if family == "flat":
        return _flat_by_brute_force(values, unit, noise)
    scaled = (values - values.min()) / unit
    value, error, _ = exact.log_evidence(
        scaled, curve["step"].values.astype(float), family, noise=noise
    )
    return value - values.size * np.log(unit), error


def _flat_by_brute_force(values: Array, unit: float, noise: str) -> tuple[float, float]:
    """A grid over the shares of the priors of sigma and rho; its error by halving the grid."""
    y, room, none = (values - 0.5 * (values.max() + values.min())) / unit, values * 0.0, values
    found = []
    for size in (1000, 2000):
        share = (np.arange(size) + 0.5) / size
        rhos = share[::10] if noise == "ar1" else np.zeros(1)
        terms = [
            _log_likelihood(0, 0.0, 1.0, 1.0, sigma / np.sqrt(1.0 - rho**2), rho, none, y, room)
            for rho in rhos
            for sigma in 0.05 * np.tan(0.5 * np.pi * share)
        ]
        top = max(terms)
        found.append(top + np.log(np.mean(np.exp(np.array(terms) - top))))
    return found[1] - values.size * np.log(unit), abs(found[1] - found[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", type=int, default=LIVE)
    options = parser.parse_args()
    rows = []
    for index, case in enumerate(CASES):
        points, spacing, sd, noise, correlation, truth, family = case
        curve = make_curve(case, index)
        start = time.perf_counter()
        asked = ("exponential",) if family == "flat" else (family,)
        found = es.compare(curve, families=asked, noise=noise).dataset.sel(family=family)
        ours = float(found["log_evidence"])
        checkable = family == "flat" or family in exact.REST_GRID
        runs = by_dynesty_about_a_pilot(curve, family, noise, live=options.live, seed=100 * index)
        theirs = float(runs[:, 0].mean())
        error = float(np.sqrt((runs[:, 1] ** 2).sum()) / RUNS)
        row: dict[str, Any] = {
            "points": points,
            "spacing": spacing,
            "noise_over_rise": sd,
            "noise": noise,
            "correlation": correlation,
            "made_by": truth,
            "family": family,
            "quadrature": ours,
            "quadrature_own_error": float(found["log_evidence_error"]),
            "dynesty": theirs,
            "dynesty_error": error,
            "dynesty_runs": runs[:, 0].tolist(),
            "dynesty_runs_error": runs[:, 1].tolist(),
            "dynesty_information": float(runs[:, 2].mean()),
            "difference": ours - theirs,
        }
        if checkable:
            brute, brute_error = by_brute_force(curve, family, noise)
            row |= {
                "brute_force": brute,
                "brute_force_error": brute_error,
                "difference_from_brute_force": ours - brute,
            }
        row["seconds"] = round(time.perf_counter() - start, 1)
        rows.append(row)
        print(index, row, flush=True)
    difference = np.array([float(row["difference"]) for row in rows])
    errors = np.array([float(row["dynesty_error"]) for row in rows])
    runs = np.array([row["dynesty_runs"] for row in rows])
    runs_error = np.array([row["dynesty_runs_error"] for row in rows])
    scatter = (runs[:, 1] - runs[:, 0]) / np.sqrt((runs_error**2).sum(axis=1))
    brute_difference = np.array([float(r.get("difference_from_brute_force", 0)) for r in rows])
    figures = {
        "live_points": options.live,
        "runs": RUNS,
        "curves": len(rows),
        "largest_difference": float(np.abs(difference).max()),
        "within_0.05": int((np.abs(difference) <= 0.05).sum()),
        "curves_with_brute_force": sum("brute_force" in row for row in rows),
        "largest_difference_from_brute_force": float(np.abs(brute_difference).max()),
        "largest_brute_force_error": max(float(r.get("brute_force_error", 0)) for r in rows),
        "largest_difference_over_dynesty_error": float((np.abs(difference) / errors).max()),
        "largest_dynesty_error": float(errors.max()),
        "root_mean_square_difference": float(np.sqrt((difference**2).mean())),
        "root_mean_square_dynesty_error": float(np.sqrt((errors**2).mean())),
        # 1 where dynesty's estimate of its own error is right.
        "root_mean_square_difference_of_runs_over_error": float(np.sqrt((scatter**2).mean())),
        "rows": rows,
    }
    write_result("evidence_accuracy", COMMAND, figures, packages=("scipy", "dynesty"))


if __name__ == "__main__":
    main()
