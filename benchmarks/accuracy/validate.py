"""Longer statistical checks of what the package claims, against answers known by construction.

    python -m benchmarks.accuracy.validate

Ten minutes on two cores. Expected: 0.1% wrong verdicts and none strongly wrong (p > 0.95 for the
wrong law) of 1,440 curves; onsets and orders held by 88 to 97% of 89% intervals in each cell;
gradient flow's orders within 0.05; learning coefficients within 5%. Writes
`results/validation.json`.
"""

from __future__ import annotations

import time

import numpy as np
import torch
import xarray as xr
from scipy.integrate import solve_ivp

import emergence_stats as es
from benchmarks.record import write_result

COMMAND = "python -m benchmarks.accuracy.validate"
STEP = np.unique(np.round(np.concatenate([np.geomspace(1, 3000, 40), np.arange(100, 3001, 100)])))
NUM_CURVES = 120


def ar1(generator: np.random.Generator, shape: tuple[int, int], correlation: float) -> np.ndarray:
    """Stationary noise of unit variance along the last axis."""
    noise = generator.normal(size=shape)
    for index in range(1, shape[1]):
        fresh = np.sqrt(1 - correlation**2) * noise[:, index]
        noise[:, index] = correlation * noise[:, index - 1] + fresh
    return noise


def stack(values: np.ndarray, step: np.ndarray = STEP) -> xr.DataArray:
    return xr.DataArray(values, dims=("curve", "step"), coords={"step": step})


def verdicts(
    generator: np.random.Generator, noise_assumed: str = "ar1"
) -> list[dict[str, float | str]]:
    rows = []
    for sd in (0.005, 0.02, 0.1):
        for correlation in (0.0, 0.8):
            for truth in ("exponential", "power_law"):
                onset = np.exp(generator.uniform(np.log(20), np.log(800), NUM_CURVES))
                timescale = onset * np.exp(generator.uniform(np.log(0.2), np.log(2), NUM_CURVES))
                kappa = np.zeros(NUM_CURVES)
                if truth == "power_law":
                    kappa = generator.uniform(0.5, 4.0, NUM_CURVES)
                curves = es.relaxation(
                    STEP,
                    onset=onset[:, None],
                    timescale=timescale[:, None],
                    kappa=kappa[:, None],
                    baseline=0.1,
                    amplitude=0.8,
                )
                noise = 0.8 * sd * ar1(generator, curves.shape, correlation)
                result = es.compare(stack(curves + noise), noise=noise_assumed).dataset
                chance = result["probability"]
                other = "exponential" if truth == "power_law" else "power_law"
                emerging = chance.sel(family=["exponential", "power_law"]).sum("family")
                right = (chance.sel(family=truth) / emerging).values
                wrong = chance.sel(family=other).values
                verdict = result["verdict"].values

                def covered(name: str, value: np.ndarray, result: xr.Dataset = result) -> float:
                    low, high = (result[name].isel(quantile=index).values for index in (0, 2))
                    return float(((low <= value) & (value <= high)).mean())

                row: dict[str, float | str] = {
                    "truth": truth,
                    "noise_share_of_amplitude": sd,
                    "noise_correlation": correlation,
                    "curves": NUM_CURVES,
                    "right_verdict": float((verdict == truth).mean()),
                    "undecided": float((verdict == "undecided").mean()),
                    "misfit": float((verdict == "misfit").mean()),
                    "no_emergence": float((verdict == "no_emergence").mean()),
                    "wrong_verdict": float((verdict == other).mean()),
                    "strongly_wrong": float((wrong > 0.95).mean()),
                    "mean_log_score": float(np.log(np.maximum(right, 1e-300)).mean()),
                    "onset_coverage_89": covered("onset", onset),
                }
                if truth == "power_law":
                    row["order_coverage_89"] = covered("order", kappa + 2)
                rows.append(row)
                print(row, flush=True)
    return rows


def false_onsets(generator: np.random.Generator) -> dict[str, float]:
    shape = (NUM_CURVES, STEP.size)
    kinds = {
        "independent": generator.normal(size=shape),
        "ar1_0.8": ar1(generator, shape, 0.8),
        "random_walk": generator.normal(size=shape).cumsum(1),
    }
    rates = {}
    for name, noise in kinds.items():
        chance = es.detect_onset(stack(0.1 + 0.01 * noise)).probability
        rates[f"{name}_above_0.9"] = float((chance > 0.9).mean())
    return rates


def gradient_flow(generator: np.random.Generator) -> list[dict[str, float]]:
    rows = []
    repeats = 20
    for order in (2.5, 3.0, 4.0, 6.0):
        onset = 100.0
        flow = solve_ivp(
            lambda _, q, order=order: -0.01 * q ** (order - 1),
            (0, STEP[-1] - onset),
            [1.0],
            t_eval=np.maximum(STEP[onset < STEP] - onset, 0),
            rtol=1e-10,
            atol=1e-12,
        )
        clean = np.zeros(STEP.size)
        clean[onset < STEP] = 1 - flow.y[0]
        noise = 0.01 * generator.normal(size=(repeats, STEP.size))
        found = es.compare(stack(clean + noise), noise="ar1").dataset["order"]
        low, middle, high = (found.isel(quantile=index).values for index in range(3))
        rows.append(
            {
                "order": order,
                "curves": repeats,
                "median_estimate": float(np.median(middle)),
                "covered_89": float(((low <= order) & (order <= high)).mean()),
            }
        )
        print(rows[-1], flush=True)
    return rows


def learning_coefficients() -> list[dict[str, float | str]]:
    """Linear regression: E[n beta (L - L*)] = 1/2 sum h/(h + gamma), h = n beta times curvature."""
    rows = []
    for parameters in (5, 20, 80):
        generator = torch.Generator().manual_seed(parameters)
        number = 2000
        inputs = torch.randn(number, parameters, generator=generator, dtype=torch.float64)
        inputs *= torch.linspace(0.2, 2.0, parameters, dtype=torch.float64)
        targets = torch.randn(number, 1, generator=generator, dtype=torch.float64)
        solution = torch.linalg.lstsq(inputs, targets).solution
        model = torch.nn.Linear(parameters, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            model.weight.copy_(solution.T)

        def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
            return ((model(batch[0]) - batch[1]) ** 2).mean()

        localisation, heat = 10.0, number / np.log(number)
        curvature = heat * torch.linalg.eigvalsh(2 * inputs.T @ inputs / number).numpy()
        truth = 0.5 * float((curvature / (curvature + localisation)).sum())
        for sampler in ("sgld", "psgld", "mala"):
            start = time.perf_counter()
            result = es.estimate_llc(
                model,
                loss,
                (inputs, targets),
                sampler=sampler,
                num_chains=4,
                num_draws=2000,
                batch_size=number if sampler == "mala" else 200,
                localisation=localisation,
                seed=1,
                progress=False,
            )
            rows.append(
                {
                    "parameters": parameters,
                    "sampler": sampler,
                    "expected": truth,
                    "estimate": float(result.llc),
                    "standard_error": float(result.standard_error),
                    "relative_error": float(result.llc / truth - 1),
                    "verdict": str(result.diagnostics["verdict"]),
                    "seconds": time.perf_counter() - start,
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    generator = np.random.default_rng(20260)
    figures = {
        "learning_coefficients": learning_coefficients(),
        "gradient_flow": gradient_flow(generator),
        "false_onsets": false_onsets(generator),
        "verdicts": verdicts(generator),
    }
    write_result("validation", COMMAND, figures, packages=("scipy", "xarray"))


if __name__ == "__main__":
    main()
