"""Grokking of modular addition: ten seeds of a small network.

    python -m benchmarks.science.modular_addition

A network of one hidden layer on the sum of two embedded numbers learns a + b modulo 59 from two
fifths of all pairs by AdamW with weight decay, full batch, and generalises long after it has
learned them by heart (Power et al. 2022; a network of this kind is in Gromov 2023). Ten minutes on
one core. Writes `results/modular_addition.csv`: accuracy and loss on the pairs held out and on
those trained on, at 121 steps. What is said of the curves: `real_rises`.

References
----------
Power et al. (2022), Grokking: generalization beyond overfitting on small algorithmic datasets,
arXiv 2201.02177.

Gromov (2023), Grokking modular arithmetic, arXiv 2301.02679.
"""

from __future__ import annotations

import pandas as pd
import torch

from benchmarks.record import RESULTS

CURVES = RESULTS / "modular_addition.csv"
MODULUS, TRAINED_SHARE = 59, 0.4
WIDTH, HIDDEN = 64, 256
STEPS, EVALUATE_EVERY = 6000, 50
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1.0


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(MODULUS, WIDTH)
        self.hidden = torch.nn.Linear(2 * WIDTH, HIDDEN)
        self.out = torch.nn.Linear(HIDDEN, MODULUS)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        both = self.embedding(pairs).flatten(1)
        return self.out(torch.relu(self.hidden(both)))


def train(seed: int) -> pd.DataFrame:
    """One seed: a row for every evaluation."""
    torch.manual_seed(seed)
    numbers = torch.arange(MODULUS)
    pairs = torch.cartesian_prod(numbers, numbers)
    answers = pairs.sum(dim=1) % MODULUS
    order = torch.randperm(len(pairs))
    cut = int(TRAINED_SHARE * len(pairs))
    trained, held_out = order[:cut], order[cut:]
    network = Network()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)
    )
    rows = []
    for step in range(STEPS + 1):
        if step % EVALUATE_EVERY == 0:
            with torch.no_grad():
                row: dict[str, float] = {"seed": seed, "step": step}
                for name, which in (("train", trained), ("test", held_out)):
                    logits = network(pairs[which])
                    right = logits.argmax(dim=1) == answers[which]
                    loss = torch.nn.functional.cross_entropy(logits, answers[which])
                    row |= {f"{name}_accuracy": float(right.float().mean())}
                    row |= {f"{name}_loss": float(loss)}
            rows.append(row)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(pairs[trained]), answers[trained])
        loss.backward()
        optimizer.step()
    return pd.DataFrame(rows)


def train_all() -> None:
    """Ten seeds, kept as rows."""
    curves = pd.concat([train(seed) for seed in range(10)])
    curves.to_csv(CURVES, index=False, float_format="%.6g")


if __name__ == "__main__":
    train_all()
