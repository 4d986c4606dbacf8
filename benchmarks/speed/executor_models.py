"""Checkpoints on which ways to evaluate losses and gradients are compared.

What lives here: small models of each kind people bring, with data, trained for a few seconds so
that w* is no random place. What does not: what is timed on them (`executor`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Case(NamedTuple):
    """A model, its loss, its data, and how many draws of how large batches it is given."""

    model: nn.Module
    loss: Callable[[nn.Module, Any], Tensor]
    data: tuple[Tensor, ...]
    draws: int = 300
    batch: int = 64
    training_steps: int = 200


def _classification(model: nn.Module, batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def _regression(model: nn.Module, batch: Any) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[1])


def _linear(width: int, draws: int = 300) -> Case:
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise([width] * 4)))
    inputs = torch.randn(5000, width)
    with torch.no_grad():
        return Case(model, _regression, (inputs, model(inputs)), draws, training_steps=0)


def _particles() -> Case:
    from simulator.data.generation import generate_transitions
    from simulator.data.transitions import Transitions
    from simulator.network.model import ParticleTransformer
    from simulator.training.config import preset

    config = preset("demo")
    made = Transitions.of(
        generate_transitions(
            config.system,
            num_systems=250,
            num_intervals=8,
            interval=config.interval,
            time_step=config.time_step,
            speed=config.speed,
            seed=0,
        )
    )
    network = ParticleTransformer()
    network.set_scales(made.states, made.changes)

    def loss(model: Any, batch: Any) -> Tensor:
        return functional.mse_loss(model(batch[0]), model.normalised_change(batch[1]))

    return Case(network, loss, (made.states, made.changes), 100)


def _bytes(length: int) -> tuple[Tensor, Tensor]:
    """Sequences of this project's own text, each byte below 128."""
    root = Path(__file__).parents[2]
    text = b"".join(path.read_bytes() for path in sorted((root / "docs").glob("*.md")))
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) % 128
    starts = np.random.default_rng(0).integers(0, len(codes) - length - 1, 2000)
    rows = torch.from_numpy(codes[starts[:, None] + np.arange(length + 1)])
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def _gpt2(width: int, layers: int, length: int, draws: int, batch: int) -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = GPT2Config(
        vocab_size=128, n_positions=length, n_embd=width, n_layer=layers, n_head=4
    )

    def loss(model: Any, batch: Any) -> Tensor:
        logits = model(batch[0]).logits
        return functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())

    return Case(GPT2LMHeadModel(settings), loss, _bytes(length), draws, batch)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 24)
        self.lstm = nn.LSTM(24, 72, batch_first=True)
        self.readout = nn.Linear(72, 128)

    def forward(self, codes: Tensor) -> Tensor:
        return self.readout(self.lstm(self.embedding(codes))[0])


def _lstm() -> Case:
    def loss(model: Any, batch: Any) -> Tensor:
        return functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    return Case(_Recurrent(), loss, _bytes(16))


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.images / 16.0, dtype=torch.float32), torch.tensor(found.target)


def _vision_transformer() -> Case:
    from timm.models import VisionTransformer

    images, labels = _digits()
    model = VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=10, embed_dim=48, depth=3, num_heads=4,
        mlp_ratio=2.0,
    )  # fmt: skip
    return Case(model, _classification, (images[:, None], labels), 100)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.readout = nn.Linear(32, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.readout(self.encoder(self.embedding(rows)).mean(dim=1))


def _encoder() -> Case:
    return Case(_Encoder(), _classification, _digits())


def _modular_addition() -> Case:
    one, other = torch.meshgrid(torch.arange(53), torch.arange(53), indexing="ij")
    pairs = torch.stack([one, other], dim=-1).reshape(-1, 2)
    model = nn.Sequential(
        nn.Embedding(53, 48), nn.Flatten(), nn.Linear(96, 128), nn.ReLU(), nn.Linear(128, 53)
    )
    return Case(model, _classification, (pairs, pairs.sum(dim=1) % 53))


CASES: dict[str, Callable[[], Case]] = {
    "linear network, 1k": lambda: _linear(18),
    "linear network, 100k": lambda: _linear(183),
    "linear network, 1M": lambda: _linear(577, 200),
    "particle transformer, 100k": _particles,
    "GPT-2, 0.1M": lambda: _gpt2(48, 3, 16, 100, 64),
    "GPT-2, 2M": lambda: _gpt2(200, 4, 16, 30, 32),
    "timm vision transformer, 60k": _vision_transformer,
    "LSTM, 40k": _lstm,
    "nn.TransformerEncoder, 18k": _encoder,
    "perceptron on modular addition, 24k": _modular_addition,
}


def case(name: str, folder: Path) -> Case:
    """The case of this name; what was trained is kept in the folder."""
    torch.manual_seed(0)
    made = CASES[name]()
    path = folder / f"{''.join(filter(str.isalnum, name))}.pt"
    if path.exists():
        made.model.load_state_dict(torch.load(path, weights_only=True))
    elif made.training_steps:
        optimiser = torch.optim.Adam(made.model.parameters(), 2e-3)
        for _ in range(made.training_steps):
            rows = torch.randint(len(made.data[0]), (128,))
            optimiser.zero_grad()
            made.loss(made.model, [leaf[rows] for leaf in made.data]).backward()
            optimiser.step()
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(made.model.state_dict(), path)
    return made
