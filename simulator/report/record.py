"""What the report is told of collision heads: their score, tests, words, sections and picture.

What does not live here: what is said of every structure alike (`emergence_stats.report`).
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from emergence_stats.report import Quantity, Structure
from simulator.report.scene import draw_picture
from simulator.report.sections import write_sections

WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))

COLLISION_HEADS = Structure(
    score="collision_score",
    words=WORDS,
    quantities=(
        Quantity("1. Collision score", "collision_score", "score", "least_score", decimals=3),
        Quantity(
            "2. Rank correlation", "contact_rank_correlation", "rank_correlation",
            "rank_correlation",
        ),
        Quantity(
            "3. Loss rise, colliding", "ablation_loss_rise", "ablation", "loss_rise",
            labels={"particles": "colliding"}, over="intact_loss",
        ),
        Quantity(
            "Loss rise, free", "ablation_loss_rise", labels={"particles": "free"},
            over="intact_loss",
        ),
    ),
    note=(
        "Loss rises, on colliding and on free particles, when the head’s output is replaced by its "
        "mean, are multiples of the intact network’s loss on the same particles."
    ),
    definitions=(
        (
            "Collision score",
            "Mean, over particles with at least one neighbour within the contact range, of the "
            "share of their attention to other particles that falls within that range. Its "
            "baseline, the score of a head that ignores distance, is the mean share of other "
            "particles in range.",
        ),
        (
            "Attention-distance correlation g(r)",
            "Mean attention to particles at distance r divided by the mean attention over all "
            "pairs, self excluded; 1 everywhere for a head that ignores distance.",
        ),
        (
            "Rollout error",
            "Root mean square distance between predicted and true centres when the network is "
            "applied to its own predictions, in particle diameters.",
        ),
    ),
    references=(
        "Hitchcock, Delaney, Manton, Scalzo, Zhu (2025). Emergence of Computational Structure in a "
        "Neural Network Physics Simulator. arXiv 2504.11830.",
    ),
    command="emergence demo --config configuration.toml --output runs/again",
    sections=write_sections,
    picture=draw_picture,
)  # fmt: skip
