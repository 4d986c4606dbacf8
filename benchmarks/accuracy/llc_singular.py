"""What `es.estimate_llc` says by itself at the deepest singularities of linear networks.

    python -m benchmarks.accuracy.llc_singular

Five minutes on one core. Expected: within 5% of the hardly localised posterior in the median, 10%
at worst, none wrongly reliable. Writes `results/llc_singular.json`.

Twenty networks of two and of three layers whose product has rank r, r from zero, all in the same r
hidden directions, from 1,000 to 100,000 samples, the singular values of the product from 1 to one
over 1 to 100. The reference samples the tempered posterior under a localisation of 0.02 over the
mean squared parameter: two layers by block Gibbs sampling, which is exact; three by Hamiltonian
Monte Carlo over the whole data, 16 chains, whose standard error is given.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import emergence_stats as es
from benchmarks.accuracy.llc_gibbs import half_squared_error, sample_by_gibbs, two_layers
from benchmarks.record import write_result

COMMAND = "python -m benchmarks.accuracy.llc_singular"
NUMBER, SEED = 20, 11
HARDLY = 0.02  # localisation of the reference, times the mean squared parameter
_CHAINS, _LEAPS = 16, 40


def three_layers(
    widths: tuple[int, ...], rank: int, num_samples: int, condition: float, seed: int
) -> tuple[nn.Sequential, tuple[torch.Tensor, torch.Tensor], list[NDArray[np.float64]]]:
    """Network, data, and its layers."""
    rng = np.random.default_rng(seed)
    frames = [np.linalg.qr(rng.normal(size=(n, n)))[0][:, :rank] for n in widths]
    values = np.geomspace(1.0, 1.0 / condition, rank) ** (1.0 / 3.0) if rank else np.zeros(0)
    pairs = list(zip(frames[1:], frames[:-1], strict=True))
    layers = [(out * values) @ into.T for out, into in pairs]
    model = nn.Sequential(
        *(nn.Linear(layer.shape[1], layer.shape[0], bias=False) for layer in layers)
    )
    inputs = torch.randn(num_samples, widths[0], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for linear, layer in zip(model, layers, strict=True):
            linear.weight.copy_(torch.as_tensor(layer))
        return model, (inputs, model(inputs)), layers


def sample_by_hmc(
    layers: list[NDArray[np.float64]],
    inputs: torch.Tensor,
    scale: float,
    localisation: float,
    num_draws: int,
    seed: int,
) -> tuple[float, float]:
    """The mean of n*beta*(L - L*) and its standard error, from chains of their own."""
    rng = np.random.default_rng(seed)
    double = inputs.double().numpy()
    held = double.T @ double / len(double)
    target = layers[2] @ layers[1] @ layers[0]

    def potential(w: list[Any]) -> tuple[Any, Any, list[Any]]:
        product = w[2] @ w[1] @ w[0]
        off = (product - target) @ held
        loss = 0.5 * scale * np.sum(off * (product - target), axis=(1, 2))
        t = np.swapaxes
        slopes = [
            t(w[2] @ w[1], 1, 2) @ off,
            t(w[2], 1, 2) @ off @ t(w[0], 1, 2),
            off @ t(w[1] @ w[0], 1, 2),
        ]
        away = [one - centre for one, centre in zip(w, layers, strict=True)]
        energy = loss + 0.5 * localisation * sum(np.sum(one**2, axis=(1, 2)) for one in away)
        return (
            loss,
            energy,
            [scale * s + localisation * a for s, a in zip(slopes, away, strict=True)],
        )

    where = [np.repeat(layer[None], _CHAINS, axis=0) for layer in layers]
    loss, energy, slope = potential(where)
    size, trace = 0.3 / math.sqrt(scale), []
    for draw in range(num_draws + num_draws // 3):
        speed = [rng.normal(size=one.shape) for one in where]
        before = energy + 0.5 * sum(np.sum(v**2, axis=(1, 2)) for v in speed)
        w, g, step = where, slope, size * rng.uniform(0.6, 1.2)
        for _ in range(_LEAPS):
            speed = [v - 0.5 * step * s for v, s in zip(speed, g, strict=True)]
            w = [one + step * v for one, v in zip(w, speed, strict=True)]
            new_loss, new_energy, g = potential(w)
            speed = [v - 0.5 * step * s for v, s in zip(speed, g, strict=True)]
        after = new_energy + 0.5 * sum(np.sum(v**2, axis=(1, 2)) for v in speed)
        with np.errstate(over="ignore", invalid="ignore"):
            chance = np.nan_to_num(np.exp(np.minimum(before - after, 0.0)))
        taken = rng.uniform(size=_CHAINS) < chance
        pick = taken[:, None, None]
        where = [np.where(pick, new, old) for new, old in zip(w, where, strict=True)]
        slope = [np.where(pick, new, old) for new, old in zip(g, slope, strict=True)]
        loss, energy = np.where(taken, new_loss, loss), np.where(taken, new_energy, energy)
        if draw < num_draws // 3:
            size *= math.exp(0.05 * (float(chance.mean()) - 0.8))
        else:
            trace.append(loss)
    means = np.mean(trace, axis=0)
    return float(means.mean()), float(means.std(ddof=1)) / math.sqrt(_CHAINS)


def measure(number: int) -> dict[str, Any]:
    """One network."""
    rng = np.random.default_rng([SEED, number])
    deep = number % 5 >= 3
    widths = tuple(int(n) for n in rng.integers(3, 9 if deep else 10, 4 if deep else 3))
    rank = int(rng.integers(0, min(widths))) if number % 3 else 0
    num_samples = int(rng.choice([1000, 10_000, 100_000]))
    condition = float(rng.choice([1, 10, 100]))
    scale = num_samples / math.log(num_samples)
    if deep:
        model, data, layers = three_layers(widths, rank, num_samples, condition, number)
        size = float(np.mean(np.square(np.concatenate([one.ravel() for one in layers]))))
        held = HARDLY / (size if size > 1e-8 else 1.0)
        truth, error = sample_by_hmc(layers, data[0], scale, held, 3000, number)
    else:
        found = two_layers(widths, rank, num_samples, condition, number)  # type: ignore[arg-type]
        model, data = found.model, found.data
        trace = np.stack(
            [
                sample_by_gibbs(found, scale, HARDLY / found.mean_square, 3000, s)
                for s in (0, 1, 2, 3)
            ]
        )[:, 300:]
        truth, error = float(trace.mean()), float(trace.mean(axis=1).std(ddof=1)) / 2.0
    begun = time.process_time()
    result = es.estimate_llc(model, half_squared_error, data, progress=False, seed=number)
    seconds, d = time.process_time() - begun, result.diagnostics
    limit, multiplicity = es.exact.deep_linear_network(list(widths), rank)
    return {
        "widths": "-".join(map(str, widths)),
        "rank": rank,
        "samples": num_samples,
        "condition": int(condition),
        "llc": round(result.llc, 3),
        "standard_error": round(result.standard_error, 3),
        "hardly_localised": round(truth, 3),
        "its_standard_error": round(error, 3),
        "relative_error": round(result.llc / truth - 1.0, 4),
        "infinite_n": float(limit),
        "multiplicity": int(multiplicity),
        "localisation": d["localisation"],
        "draws": d["num_draws"],
        "judgement": result.judgement,
        "processor_seconds": round(seconds, 1),
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for number in range(NUMBER):
        rows.append(measure(number))
        print(rows[-1], flush=True)
    off = np.abs([row["relative_error"] for row in rows])
    print(f"median {np.median(off):.1%}, worst {off.max():.1%}")
    write_result("llc_singular", COMMAND, {"rows": rows})


if __name__ == "__main__":
    main()
