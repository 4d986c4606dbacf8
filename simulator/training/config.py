"""Everything that determines a training run, in one place.

What lives here: `TrainingConfig`, its presets, reading it from TOML and JSON, and comparing two.
What does not: what the fields do (the packages of their names use them).
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

from emergence_stats.checks import check_number
from emergence_stats.errors import InputError, StorageError, first_line, nearest
from simulator.physics.system import ParticleSystem


def _field(
    default: Any,
    text: str = "",
    *,
    least: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    text = text or f"one of {', '.join(choices)}"
    limits = {"least": least, "above": above, "choices": choices}
    return field(default=default, metadata={"help": text, **limits})


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

    # The particles
    num_particles: int = _field(16, "particles in the box")
    dimension: int = _field(2, "2 for discs, 3 for spheres")
    radius: float = _field(0.06, "particle radius, in box lengths")
    box: float = _field(1.0, "side of the square or cubic box")
    gravity: float = _field(1.0, "acceleration along minus the last axis")
    stiffness: float = _field(2000.0, "contact spring constant; 0 lets particles pass through")
    wall_stiffness: float = _field(2000.0, "spring constant of the walls")
    damping: float = _field(2.0, "contact damping constant")
    mass: float = _field(1.0, "particle mass")
    speed: float = _field(1.0, "initial root-mean-square speed along each axis", least=0)
    time_step: float = _field(0.001, "time step of the reference physics", above=0)
    interval: float = _field(0.1, "time the network has to predict ahead", above=0)

    # The data
    train_systems: int = _field(2048, "independent systems simulated for training", least=1)
    test_systems: int = _field(256, "independent systems held out", least=1)
    intervals_per_system: int = _field(8, "successive intervals taken from each system", least=1)
    data_seed: int = _field(0, "seed of the physics; shared by all runs")
    shuffled_labels: bool = _field(False, "train on other samples' changes: nothing to learn")

    # The network
    width: int = _field(64, "width of the residual stream", least=1)
    depth: int = _field(3, "number of blocks", least=1)
    num_heads: int = _field(4, "attention heads in each block", least=1)
    expansion: int = _field(2, "width of the perceptrons, in units of `width`", least=1)

    # Training
    optimiser: str = _field("adam", choices=("adam", "adamw", "sgd"))
    learning_rate: float = _field(1e-3, "peak learning rate", above=0)
    momentum: float = _field(0.0, "momentum of sgd; 0 is plain gradient descent", least=0)
    weight_decay: float = _field(0.0, "weight decay", least=0)
    schedule: str = _field("constant", choices=("constant", "cosine", "linear"))
    warmup_steps: int = _field(0, "steps over which the learning rate rises from 0", least=0)
    batch_size: int = _field(128, "transitions in a batch", least=1)
    num_steps: int = _field(3000, "optimiser steps", least=1)
    seeds: tuple[int, ...] = _field((0,), "one run for each seed")
    device: str = _field(
        "auto", "auto takes a GPU when PyTorch sees one", choices=("auto", "cpu", "cuda")
    )

    # Evaluation
    evaluations_per_decade: int = _field(
        12, "log-spaced evaluations for each factor of ten", least=0
    )
    evaluate_every: int = _field(0, "evaluate at every multiple of this too; 0 for none", least=0)
    evaluation_samples: int = _field(512, "held-out transitions that each evaluation uses", least=1)
    contact_range: float = _field(1.5, "neighbours are within this many diameters", above=0)
    distance_bins: int = _field(24, "bins of the attention-distance correlation", least=1)

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.width % self.num_heads:
            raise InputError(
                f"width: {self.width} does not divide evenly into num_heads={self.num_heads} "
                f"heads; use {self.num_heads * max(1, round(self.width / self.num_heads))}"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds: {self.seeds}; give at least one, each once and not negative")
        if self.batch_size > self.num_samples:
            raise InputError(
                f"batch_size: {self.batch_size} exceeds the {self.num_samples} transitions of the "
                "training set; raise train_systems or lower batch_size"
            )
        _ = self.system  # its own checks name the physical fields

    @property
    def system(self) -> ParticleSystem:
        """The particles this configuration describes."""
        names = [item.name for item in dataclasses.fields(ParticleSystem)]
        return ParticleSystem(**{name: getattr(self, name) for name in names})

    @property
    def num_samples(self) -> int:
        """How many transitions a run is trained on."""
        return self.train_systems * self.intervals_per_system

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
    """The names and values of a TOML file, to be given to `from_mapping`."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"config: no file {path}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config: {path} is not valid TOML ({first_line(error)})") from error


def read_configuration(path: str | Path) -> TrainingConfig:
    """The configuration kept in an output folder's `configuration.json`."""
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


# What a value must be, by its field's type, and how that is said.
_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    str: (str, "a word"),
    bool: (bool, "true or false"),
    tuple[int, ...]: (int, "whole numbers such as [0, 1]"),
}


def _check_fields(config: TrainingConfig) -> None:
    """Numbers must be numbers, which TOML and JSON do not see to, and within their limits."""
    hints = get_type_hints(TrainingConfig)
    for item in dataclasses.fields(config):
        value, hint = getattr(config, item.name), hints[item.name]
        kind, expected = _KINDS[hint]
        parts = value if isinstance(value, tuple) and item.name == "seeds" else [value]
        if (item.name == "seeds") != isinstance(value, tuple) or not all(
            isinstance(one, kind) and isinstance(one, bool) == (kind is bool) for one in parts
        ):
            raise InputError(f"{item.name}: {value!r}; give {expected}")
        least, above, choices = (item.metadata[name] for name in ("least", "above", "choices"))
        if choices and value not in choices:
            raise InputError(f"{item.name}: {value!r} is not available{nearest(value, choices)}")
        if hint is float:
            # 1 and 1.0 are the same configuration.
            object.__setattr__(config, item.name, check_number(item.name, value))
        if least is not None and value < least:
            wanted = f"at least {least}" if least else "0 or more"
            raise InputError(f"{item.name}: {value}; give {wanted}")
        if above is not None and value <= above:
            raise InputError(f"{item.name}: {value}; must be positive")


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
