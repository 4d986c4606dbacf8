"""Do the error bars of `es.curvature` hold the dense Hessian's values?

    python -m benchmarks.accuracy.curvature

Half a minute on one core. Expected: trace, Frobenius norm and effective rank within two error bars
in 90 to 97% of 30 seeds. Writes `results/curvature.json`.
"""

from __future__ import annotations

import math
import time

import numpy as np
import scipy.sparse.linalg
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev

import emergence_stats as es
from benchmarks.record import write_result
from emergence_stats.degeneracy.curvature import HessianProducts
from emergence_stats.degeneracy.landscape import LossLandscape

COMMAND = "python -m benchmarks.accuracy.curvature"
SEEDS = 30
PROBES, LANCZOS = 8, 32
NAMES = ("trace", "frobenius_norm", "effective_rank", "null_dimension")


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def trained(kind: str) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """A perceptron near a minimum; `linear` is overparametrised, with a null space behind a gap."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x = torch.randn(512, 12, generator=generator)
    if kind == "linear":
        model = nn.Sequential(nn.Linear(12, 24, bias=False), nn.Linear(24, 12, bias=False))
        return model, (x, model(x).detach())
    model = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 12))
    y = torch.sin(x) + 0.1 * torch.randn(512, 12, generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(1500):
        optimiser.zero_grad()
        loss(model, (x, y)).backward()
        optimiser.step()
    return model, (x, y)


def dense(model: nn.Module, data) -> np.ndarray:
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def at(flat):
        pieces = flat.split([value.numel() for value in parameters.values()])
        named = {
            name: piece.reshape(value.shape)
            for piece, (name, value) in zip(pieces, parameters.items(), strict=True)
        }
        return loss(lambda x: functional_call(model, named, (x,)), data)

    flat = torch.cat([value.reshape(-1) for value in parameters.values()])
    return jacrev(grad(at), chunk_size=64)(flat).detach().numpy()


def examine(kind: str) -> dict:
    model, data = trained(kind)
    double = model.double(), tuple(part.double() for part in data)
    values = np.linalg.eigvalsh(dense(*double))
    model, data = trained(kind)  # in single precision, as a user would give it
    truth = {
        "trace": values.sum(),
        "frobenius_norm": math.sqrt((values**2).sum()),
        "effective_rank": values.sum() ** 2 / (values**2).sum(),
        "null_dimension": float((np.abs(values) <= 1e-4 * np.abs(values).max()).sum()),
    }
    score: dict[str, list[float]] = {name: [] for name in NAMES}
    relative: dict[str, list[float]] = {name: [] for name in NAMES}
    started = time.process_time()
    for seed in range(SEEDS):
        found = es.curvature(model, loss, data, num_probes=PROBES, num_lanczos=LANCZOS, seed=seed)
        assert found.attrs["method"] == "stochastic"
        for name in NAMES:
            difference = float(found[name]) - truth[name]
            score[name].append(abs(difference) / float(found[f"{name}_error"]))
            relative[name].append(abs(difference) / truth[name])
    seconds = (time.process_time() - started) / SEEDS
    products = HessianProducts(LossLandscape(model, loss, data))
    size = products.landscape.num_parameters

    def matvec(vector):
        row = torch.from_numpy(vector.astype(np.float32).reshape(1, -1))
        return products(row)[0].double().numpy()

    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec, dtype=np.float64)
    peer = scipy.sparse.linalg.eigsh(
        operator, k=1, which="LA", v0=np.ones(size), return_eigenvectors=False
    )
    return {
        "parameters": size,
        "dense": {**truth, "largest": float(values[-1]), "smallest": float(values[0])},
        "median_relative_error": {k: float(np.median(v)) for k, v in relative.items()},
        "share_within_two_error_bars": {
            k: float(np.mean(np.array(v) <= 2.0)) for k, v in score.items()
        },
        "largest_eigenvalue_relative_error": abs(
            float(found["largest_eigenvalue"]) / values[-1] - 1
        ),
        "largest_eigenvalue_of_arpack_relative_error": abs(float(peer[0]) / values[-1] - 1),
        "seconds": seconds,
    }


def main() -> None:
    torch.set_num_threads(1)
    results = {kind: examine(kind) for kind in ("tanh", "linear")}
    for kind, result in results.items():
        print(kind, result)
    settings = {"seeds": SEEDS, "num_probes": PROBES, "num_lanczos": LANCZOS}
    print(write_result("curvature", COMMAND, {**settings, "networks": results}, ("scipy",)))


if __name__ == "__main__":
    main()
