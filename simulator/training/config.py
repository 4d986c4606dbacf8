"""Everything that determines a training run, in one place.

What lives here: `TrainingConfig`, its presets, reading it from TOML and JSON, and comparing two.
What does not: what the fields do (each is used by the module its comment group names).
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from emergence_stats.errors import InputError, StorageError, first_line, nearest
from simulator.physics.system import ParticleSystem

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
DEVICES = ("auto", "cpu", "cuda")


def _field(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Which system, data, network and optimiser a run uses.

    Every field can be given on the command line (``--learning-rate 3e-4``) or in a TOML file
    (``learning_rate = 3e-4``); two runs with equal configurations give equal results.

    Raises
    ------
    InputError
        If a value cannot be used; the message names the field.

    Examples
    --------
    >>> TrainingConfig(width=32, seeds=(0, 1)).replace(depth=2).depth
    2
    >>> TrainingConfig(width=30)
    Traceback (most recent call last):
        ...
    emergence_stats.errors.InputError: width: 30 does not divide evenly into num_heads=4 heads; ...
    """

    # The particles (simulator.physics.simulation)
    num_particles: int = _field(16, "particles in the box")
    dimension: int = _field(2, "2 for discs, 3 for spheres")
    radius: float = _field(0.06, "particle radius, in box lengths")
    box: float = _field(1.0, "side of the square or cubic box")
    gravity: float = _field(1.0, "acceleration along minus the last axis")
    stiffness: float = _field(2000.0, "contact spring constant; 0 lets particles pass through")
    wall_stiffness: float = _field(2000.0, "spring constant of the walls")
    damping: float = _field(2.0, "contact damping constant")
    mass: float = _field(1.0, "particle mass")
    speed: float = _field(1.0, "initial root-mean-square speed along each axis")
    time_step: float = _field(0.001, "time step of the reference physics")
    interval: float = _field(0.1, "time the network has to predict ahead")

    # The data (simulator.data.generation)
    train_systems: int = _field(2048, "independent systems simulated for training")
    test_systems: int = _field(256, "independent systems held out")
    intervals_per_system: int = _field(8, "successive intervals taken from each system")
    data_seed: int = _field(0, "seed of the physics; shared by all runs")
    shuffled_labels: bool = _field(False, "train on other samples' changes: nothing to learn")

    # The network (simulator.network.model)
    width: int = _field(64, "width of the residual stream")
    depth: int = _field(3, "number of blocks")
    num_heads: int = _field(4, "attention heads in each block")
    expansion: int = _field(2, "width of the perceptrons, in units of `width`")

    # Training (simulator.training.loop)
    optimiser: str = _field("adam", f"one of {', '.join(OPTIMISERS)}")
    learning_rate: float = _field(1e-3, "peak learning rate")
    momentum: float = _field(0.0, "momentum of sgd; 0 is plain gradient descent")
    weight_decay: float = _field(0.0, "weight decay")
    schedule: str = _field("constant", f"one of {', '.join(SCHEDULES)}")
    warmup_steps: int = _field(0, "steps over which the learning rate rises from 0")
    batch_size: int = _field(128, "transitions in a batch")
    num_steps: int = _field(3000, "optimiser steps")
    seeds: tuple[int, ...] = _field((0,), "one run for each seed")
    device: str = _field("auto", "auto takes a GPU when PyTorch sees one")

    # Evaluation (simulator.network.heads)
    evaluations_per_decade: int = _field(12, "log-spaced evaluations for each factor of ten")
    evaluate_every: int = _field(0, "evaluate at every multiple of this too; 0 for none")
    evaluation_samples: int = _field(512, "held-out transitions that each evaluation uses")
    contact_range: float = _field(1.5, "neighbours are within this many diameters")
    distance_bins: int = _field(24, "bins of the attention-distance correlation")

    def __post_init__(self) -> None:
        _check_types(self)
        for name in (
            "train_systems", "test_systems", "intervals_per_system", "width", "depth",
            "num_heads", "expansion", "batch_size", "num_steps", "evaluation_samples",
            "distance_bins",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)}; give at least 1")
        for name in ("learning_rate", "time_step", "interval", "contact_range"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: {getattr(self, name)}; give a positive number")
        for name in (
            "momentum", "weight_decay", "warmup_steps", "evaluations_per_decade",
            "evaluate_every", "speed",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise InputError(f"{name}: {getattr(self, name)}; give 0 or more")
        for name, valid in (
            ("optimiser", OPTIMISERS),
            ("schedule", SCHEDULES),
            ("device", DEVICES),
        ):
            value = getattr(self, name)
            if value not in valid:
                raise InputError(f"{name}: {value!r} is not available{nearest(value, valid)}")
        if self.width % self.num_heads:
            raise InputError(
                f"width: {self.width} does not divide evenly into num_heads={self.num_heads} "
                f"heads; use {self.num_heads * max(1, round(self.width / self.num_heads))}"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds: {self.seeds}; give at least one, each once")
        if min(self.seeds) < 0:
            raise InputError(f"seeds: {self.seeds}; seeds are not negative")
        if self.batch_size > self.train_systems * self.intervals_per_system:
            raise InputError(
                f"batch_size: {self.batch_size} exceeds the "
                f"{self.train_systems * self.intervals_per_system} transitions of the training "
                "set; raise train_systems or lower batch_size"
            )
        _ = self.system  # its own checks name the physical fields

    @property
    def system(self) -> ParticleSystem:
        """The particles this configuration describes."""
        return ParticleSystem(
            num_particles=self.num_particles,
            radius=self.radius,
            box=self.box,
            gravity=self.gravity,
            stiffness=self.stiffness,
            wall_stiffness=self.wall_stiffness,
            damping=self.damping,
            mass=self.mass,
            dimension=self.dimension,
        )

    def evaluation_steps(self) -> np.ndarray:
        """At which optimiser steps everything is measured: 0, the log-spaced, the dense, the last.

        Examples
        --------
        >>> TrainingConfig(num_steps=100, evaluations_per_decade=2, evaluate_every=50,
        ...                ).evaluation_steps()
        array([  0,   1,   3,  10,  32,  50, 100])
        """
        steps = {0, self.num_steps}
        if self.evaluations_per_decade:
            number = int(self.evaluations_per_decade * math.log10(self.num_steps)) + 1
            exponents = np.arange(number) / self.evaluations_per_decade
            steps.update(int(step) for step in np.round(10**exponents))
        if self.evaluate_every:
            steps.update(range(0, self.num_steps, self.evaluate_every))
        return np.array(sorted(step for step in steps if step <= self.num_steps))

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the update that leads from `step` to the next."""
        rate = self.learning_rate
        if step < self.warmup_steps:
            return rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        if self.schedule == "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "linear":
            return rate * (1 - progress)
        return rate

    def replace(self, **changes: Any) -> TrainingConfig:
        """The same configuration with some fields changed; unknown names are refused."""
        return from_mapping({**dataclasses.asdict(self), **changes})

    def to_json(self) -> str:
        """The whole configuration as JSON, as it is kept beside the results."""
        return json.dumps(dataclasses.asdict(self))


def preset(name: str) -> TrainingConfig:
    """A named configuration to start from.

    Raises
    ------
    InputError
        If there is none of that name.

    Examples
    --------
    >>> len(preset("standard").seeds)
    5
    """
    if name not in PRESETS:
        raise InputError(f"preset: {name!r} is not defined{nearest(name, PRESETS)}")
    return PRESETS[name]


def from_mapping(
    values: Mapping[str, Any], *, base: TrainingConfig | None = None
) -> TrainingConfig:
    """A configuration from names and values, on top of `base`.

    Raises
    ------
    InputError
        If a name is not a field (the nearest one is suggested) or a value cannot be used.

    Examples
    --------
    >>> from_mapping({"lerning_rate": 0.1})
    Traceback (most recent call last):
        ...
    emergence_stats.errors.InputError: 'lerning_rate' is not a field of the configuration; did ...
    """
    valid = [item.name for item in dataclasses.fields(TrainingConfig)]
    for name in values:
        if name not in valid:
            raise InputError(f"{name!r} is not a field of the configuration{nearest(name, valid)}")
    given = dataclasses.asdict(base) if base else {}
    given.update(values)
    if isinstance(given.get("seeds"), list):
        given["seeds"] = tuple(given["seeds"])
    return TrainingConfig(**given)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The names and values of a TOML file, to be given to `from_mapping`.

    Raises
    ------
    InputError
        If there is no such file, or it is not TOML (the line is named).
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"config: no file {path}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is not valid TOML ({first_line(error)})") from error


def read_configuration(path: str | Path) -> TrainingConfig:
    """The configuration kept in an output folder's `configuration.json`.

    Raises
    ------
    StorageError
        If the file is missing or cannot be read.
    """
    try:
        return from_mapping(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: no readable configuration ({first_line(error)}); give a folder that "
            "`emergence train` has written"
        ) from error


def differing_fields(first: TrainingConfig, second: TrainingConfig) -> list[str]:
    """Which fields differ, as 'name: first -> second'.

    Examples
    --------
    >>> differing_fields(TrainingConfig(), TrainingConfig(depth=2))
    ['depth: 3 -> 2']
    """
    return [
        f"{item.name}: {getattr(first, item.name)} -> {getattr(second, item.name)}"
        for item in dataclasses.fields(TrainingConfig)
        if getattr(first, item.name) != getattr(second, item.name)
    ]


def _check_types(config: TrainingConfig) -> None:
    """Numbers must be numbers: TOML and JSON would let a string through unnoticed."""
    hints = get_type_hints(TrainingConfig)
    for item in dataclasses.fields(config):
        value, kind = getattr(config, item.name), hints[item.name]
        if kind is int:
            good = isinstance(value, int) and not isinstance(value, bool)
        elif kind is float:
            good = isinstance(value, int | float) and not isinstance(value, bool)
            if good and not math.isfinite(value):
                raise InputError(f"{item.name}: {value}; give a finite number")
            if good:  # 1 and 1.0 are the same configuration
                object.__setattr__(config, item.name, float(value))
        elif kind is bool:
            good = isinstance(value, bool)
        elif kind is str:
            good = isinstance(value, str)
        else:
            good = isinstance(value, tuple) and all(
                isinstance(one, int) and not isinstance(one, bool) for one in value
            )
        if not good:
            expected = {
                int: "a whole number",
                float: "a number",
                str: "a word",
                bool: "true or false",
            }.get(kind, "whole numbers such as [0, 1]")
            raise InputError(f"{item.name}: {value!r}; give {expected}")


PRESETS: dict[str, TrainingConfig] = {
    "demo": TrainingConfig(
        seeds=(0, 1), num_steps=2500, evaluations_per_decade=16, evaluate_every=50
    ),
    "standard": TrainingConfig(
        seeds=(0, 1, 2, 3, 4), num_steps=20_000, train_systems=8192, evaluate_every=200
    ),
    "large": TrainingConfig(
        seeds=(0, 1, 2),
        num_particles=32,
        radius=0.045,
        width=128,
        depth=4,
        num_heads=8,
        num_steps=50_000,
        train_systems=32_768,
        schedule="cosine",
        warmup_steps=200,
        evaluate_every=500,
    ),
}
# The control: the same box, walls and network, with particles that pass through each other.
PRESETS["control"] = PRESETS["standard"].replace(stiffness=0.0)
