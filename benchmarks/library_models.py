"""Checkpoints of the models people train, for what is measured on them.

What lives here: small models of torch, timm and Hugging Face, and this package's own, each with
loss and data, trained for some hundred steps so that w* is no random place, and plain SGLD on them,
one chain after another, as the unit of cost. What does not: what is measured on them.
"""

from __future__ import annotations

import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH = 64


class Case(NamedTuple):
    """A model, its loss, its data, and for how many steps of Adam it is trained."""

    model: nn.Module
    loss: Callable[[nn.Module, Any], Tensor]
    data: tuple[Tensor, ...]
    training_steps: int = 600


def classification_loss(model: nn.Module, batch: Any) -> Tensor:
    """Cross entropy of labels, or of the next token at every place."""
    logits = model(batch[0])
    logits = getattr(logits, "logits", logits)
    return functional.cross_entropy(logits.flatten(0, -2), batch[1].flatten())


def read_digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1,797 images of 8 by 8, and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return torch.tensor(found.images / 16.0, dtype=torch.float32), torch.tensor(found.target)


def read_bytes(number: int = 500, length: int = 32) -> tuple[Tensor, Tensor]:
    """Sequences of the standard library's source, each byte below 128, and the next bytes."""
    codes = np.frombuffer(Path(string.__file__).read_bytes(), dtype=np.uint8).astype(np.int64) % 128
    starts = np.random.default_rng(0).integers(0, len(codes) - length - 1, number)
    rows = torch.from_numpy(codes[starts[:, None] + np.arange(length + 1)])
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


class Encoder(nn.Module):
    """`nn.TransformerEncoder` of two layers over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.readout = nn.Linear(32, 10)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (image, class)."""
        return self.readout(self.encoder(self.embedding(rows)).mean(dim=1))


class Recurrent(nn.Module):
    """An LSTM that reads bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 32)
        self.lstm = nn.LSTM(32, 64, batch_first=True)
        self.readout = nn.Linear(64, 128)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (sequence, place, byte)."""
        return self.readout(self.lstm(self.embedding(codes))[0])


def _vision_transformer() -> Case:
    from timm.models import VisionTransformer

    images, labels = read_digits()
    model = VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=10, embed_dim=48, depth=2, num_heads=4
    )
    return Case(model, classification_loss, (images[:, None], labels))


def _gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = GPT2Config(
        vocab_size=128, n_positions=32, n_embd=48, n_layer=2, n_head=4, attn_implementation="sdpa"
    )
    return Case(GPT2LMHeadModel(settings), classification_loss, read_bytes())


def _modular_addition() -> Case:
    one, other = torch.meshgrid(torch.arange(29), torch.arange(29), indexing="ij")
    pairs = torch.stack([one, other], dim=-1).reshape(-1, 2)
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:504]]
    model = nn.Sequential(
        nn.Embedding(29, 64), nn.Flatten(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 29)
    )
    return Case(model, classification_loss, (pairs, pairs.sum(dim=1) % 29))


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

    return Case(network, loss, (made.states, made.changes))


CASES: dict[str, Callable[[], Case]] = {
    "perceptron": _modular_addition,
    "encoder": lambda: Case(Encoder(), classification_loss, read_digits()),
    "lstm": lambda: Case(Recurrent(), classification_loss, read_bytes()),
    "vision transformer": _vision_transformer,
    "gpt2": _gpt2,
    "particle transformer": _particles,
}


def trained(name: str, folder: Path) -> Case:
    """The case of this name; what was trained is kept in the folder."""
    torch.manual_seed(0)
    made = CASES[name]()
    path = folder / f"{name.replace(' ', '-')}.pt"
    if path.exists():
        made.model.load_state_dict(torch.load(path, weights_only=True))
    else:
        steps = made.training_steps
        optimiser = torch.optim.Adam(made.model.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            rows = torch.randint(len(made.data[0]), (128,))
            optimiser.zero_grad()
            made.loss(made.model, [leaf[rows] for leaf in made.data]).backward()
            optimiser.step()
            schedule.step()
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(made.model.state_dict(), path)
    made.model.eval()
    return made


def plain_sgld(case: Case, num_steps: int, step_size: float, localisation: float) -> float:
    """Processor seconds of so many steps of SGLD as anyone would write them, a chain by itself."""
    model, begun = case.model, time.process_time()
    moving = [one for one in model.parameters() if one.requires_grad]
    centre = [one.detach().clone() for one in moving]
    number = len(case.data[0])
    scale = number / np.log(number)
    for _ in range(num_steps):
        rows = torch.randint(number, (min(BATCH, number),))
        loss = case.loss(model, [leaf[rows] for leaf in case.data])
        gradients = torch.autograd.grad(loss, moving)
        with torch.no_grad():
            for one, gradient, start in zip(moving, gradients, centre, strict=True):
                drift = scale * gradient + localisation * (one - start)
                one.add_(drift, alpha=-0.5 * step_size)
                one.add_(torch.randn_like(one), alpha=step_size**0.5)
    with torch.no_grad():
        for one, start in zip(moving, centre, strict=True):
            one.copy_(start)
    return time.process_time() - begun
