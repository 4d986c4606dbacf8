"""What the study trains and measures, and how much of it.

What lives here: `StudyPlan`, its presets, and the arms: the same box, network and seeds, trained in
different ways. What does not: carrying it out (`measurements`, `run`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from emergence_stats.checks import check_whole
from emergence_stats.errors import InputError, nearest
from simulator.training.config import TrainingConfig
from simulator.training.config import preset as training_preset

# Momentum 0.9 moves ten times as far a step as plain descent: a learning rate of 1 in all.
_SGD: dict[str, Any] = {"optimiser": "sgd", "learning_rate": 0.1, "momentum": 0.9}
_NO_CONTACTS: dict[str, Any] = {"stiffness": 0.0}
_SHUFFLED: dict[str, Any] = {"shuffled_labels": True}

# What each arm changes. The first is the one the paper's claims are about; a control is compared
# with the arm that was trained as it was.
ARMS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": _SGD,
    "cosine": {"schedule": "cosine"},
    "no_contacts": _NO_CONTACTS,
    "shuffled": _SHUFFLED,
    "no_contacts_sgd": _SGD | _NO_CONTACTS,
    "shuffled_sgd": _SGD | _SHUFFLED,
}
# In which a collision head should appear, so that curves and refined coefficients are asked of it.
WITH_HEADS = ("adam", "sgd", "cosine")
# In which the coefficient is followed: the two optimisers, and labels that cannot be learned.
WITH_SWEEP = ("adam", "sgd", "shuffled", "shuffled_sgd")


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """How much is trained and measured.

    Parameters
    ----------
    training : TrainingConfig
        Of the arm "adam"; its seeds are those of every arm.
    arms : tuple of str
        Which of `ARMS` are trained.
    sweep_checkpoints : int
        At how many checkpoints of a run the whole network's learning coefficient is taken, evenly
        spread over the logarithm of the step.
    sweep_from : int
        The first of them.
    head_checkpoints, heads_from : int
        At how many the refined coefficient of every head that is followed is, and the first of
        them.
    followed_heads : int
        At most how many collision heads of a run, the largest scores first, and as many controls.
    curvature_checkpoints, curvature_samples, curvature_seeds : int
        At how many checkpoints of how many seeds the Hessian's spectrum is, and over how many
        training transitions.
    chains, draws, batch_size : int
        Of every estimate of a learning coefficient.
    inverse_temperatures : tuple of float
        At which every estimate samples, in units of 1 / log n. The coefficient is the slope of the
        mean loss over them (`emergence_stats.llc_by_temperature`), for which no checkpoint has to
        be a minimum: those of a run under way are none, those of descent with momentum least.
    localisation : float
        Of every estimate, at its coldest temperature, so that they can be compared; see
        `simulator.experiments.landscape`.

    Examples
    --------
    >>> len(study("standard").training.seeds), study("short").arm("sgd").optimiser
    (5, 'sgd')
    """

    training: TrainingConfig
    sweep_checkpoints: int
    sweep_from: int
    head_checkpoints: int
    heads_from: int
    followed_heads: int
    curvature_checkpoints: int
    curvature_samples: int
    curvature_seeds: int
    chains: int
    draws: int
    batch_size: int
    localisation: float
    inverse_temperatures: tuple[float, ...] = (1.0, 0.5)
    arms: tuple[str, ...] = tuple(ARMS)

    def __post_init__(self) -> None:
        for name in (
            "sweep_checkpoints", "head_checkpoints", "followed_heads", "curvature_checkpoints",
            "curvature_samples", "curvature_seeds", "chains", "draws", "batch_size", "sweep_from",
            "heads_from",
        ):  # fmt: skip
            check_whole(name, getattr(self, name), 1)
        if len({*self.inverse_temperatures}) < 2 or not all(
            isinstance(one, int | float) and 0.0 < one < float("inf")
            for one in self.inverse_temperatures
        ):
            raise InputError(
                f"inverse_temperatures: {self.inverse_temperatures}; give at least two different "
                "numbers above zero, in units of 1 / log n"
            )
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown or not self.arms or len(set(self.arms)) != len(self.arms):
            raise InputError(
                f"arms: {self.arms}; give some of {', '.join(ARMS)}, each once"
                f"{nearest(unknown[0], ARMS) if unknown else ''}"
            )
        if len(self.training.seeds) < 2:
            raise InputError(
                "training: has one seed; effects are told between seeds, give 2 or more"
            )
        for name in ("sweep_from", "heads_from"):
            if getattr(self, name) >= self.training.num_steps:
                raise InputError(
                    f"{name}: {getattr(self, name)} is not before the last step, "
                    f"{self.training.num_steps}"
                )

    def arm(self, name: str) -> TrainingConfig:
        """The configuration of one arm."""
        if name not in self.arms:
            raise InputError(f"arm: {name!r} is not one of this study{nearest(name, self.arms)}")
        return self.training.replace(**ARMS[name])

    def control_of(self, name: str, control: str) -> str | None:
        """The arm that is this one with one of the controls' changes and no other, if there is one.

        Parameters
        ----------
        name : str
        control : {"no_contacts", "shuffled"}

        Examples
        --------
        >>> plan = study("standard")
        >>> plan.control_of("adam", "shuffled"), plan.control_of("sgd", "shuffled")
        ('shuffled', 'shuffled_sgd')
        >>> plan.control_of("cosine", "shuffled")  # None was trained so
        """
        wanted = self.arm(name).replace(
            **{"no_contacts": _NO_CONTACTS, "shuffled": _SHUFFLED}[control]
        )
        alike = [arm for arm in self.arms if arm != name and self.arm(arm) == wanted]
        return alike[0] if alike else None

    def replace(self, **changes: Any) -> StudyPlan:
        """The same plan with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def spread_steps(self, number: int, start: int) -> list[int]:
        """So many of the evaluated steps, evenly over log step from `start` to the last."""
        steps = self.training.evaluation_steps()
        steps = steps[steps >= start]
        wanted = np.geomspace(steps[0], steps[-1], number)
        nearest_one = np.abs(np.log(steps)[None] - np.log(wanted)[:, None]).argmin(axis=1)
        return sorted({int(step) for step in steps[nearest_one]})


_TRAINING = training_preset("demo").replace(
    num_steps=3000, evaluations_per_decade=16, evaluate_every=100
)

STUDIES: dict[str, StudyPlan] = {
    "standard": StudyPlan(
        # The rules (which window is late, which heads are followed, how an onset is dated) were
        # made on seeds 0 to 4, mended on 5 to 9 and first held on 10 to 14, with more steps and
        # draws. At these nobody looked before the rules and the amounts stood.
        training=_TRAINING.replace(seeds=[15, 16, 17, 18, 19], num_steps=2400),
        sweep_checkpoints=30,
        sweep_from=10,
        head_checkpoints=2,
        heads_from=100,
        followed_heads=6,  # all: of twelve heads each needs one that is none, to be compared with
        curvature_checkpoints=5,
        curvature_samples=128,
        curvature_seeds=5,
        chains=2,
        draws=72,
        batch_size=64,
        localisation=30_000.0,
    ),
    "short": StudyPlan(
        training=_TRAINING.replace(seeds=[5, 6, 7], num_steps=1000, evaluations_per_decade=12),
        sweep_checkpoints=8,
        sweep_from=30,
        head_checkpoints=2,
        heads_from=100,
        followed_heads=1,
        curvature_checkpoints=2,
        curvature_samples=128,
        curvature_seeds=2,
        chains=2,
        draws=64,
        batch_size=64,
        localisation=30_000.0,
        # The controls of the arm the claims are about alone, to be done in a quarter of an hour.
        arms=("adam", "sgd", "cosine", "no_contacts", "shuffled"),
    ),
}


def study(name: str) -> StudyPlan:
    """A named plan.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in STUDIES:
        raise InputError(f"preset: {name!r} is not defined{nearest(name, STUDIES)}")
    return STUDIES[name]
