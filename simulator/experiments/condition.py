"""What one way of training changes: `Condition`.

What lives here: its fields, and what they come to for one run. What does not: training under it
(`conditions`), what is done to a network (`interventions`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from emergence_stats.checks import check_whole
from emergence_stats.errors import InputError
from simulator.experiments.interventions import Head
from simulator.network.model import ParticleTransformer

Prepare = Callable[[ParticleTransformer], None]


@dataclass(frozen=True)
class Condition:
    """One way of training, told apart from the others by what it changes.

    Parameters
    ----------
    name : str
        Label along the dimension `condition`.
    changes : mapping
        Fields of the configuration and their values under this condition, such as
        ``{"weight_decay": 0.01, "optimiser": "adamw"}`` or ``{"stiffness": 0.0}``.
    prepare : callable, or mapping of int to callable, optional
        Called with the fresh network before training, which it changes in place (transplants a
        head, takes over trained parameters); one for all seeds, or one for each.
    held : sequence of (int, int), mapping of int to such, or {"largest", "smallest"}
        Layer and head of heads that stay as they are from the step `held_from` on, for all seeds or
        for each; or the one head whose collision score is then the run's largest or smallest.
    held_from : int
        0, after `prepare`, or the step from which the rest trains on without them. Where a score
        chooses the head, a step at which the run is evaluated.
    dropout : float
        See `interventions.add_dropout`.
    augmented : bool
        Whether each batch is mirrored at random, see `interventions.augment`.
    data_share : float
        Share of the training systems that is used, above 0 and up to 1: the first of them.

    Examples
    --------
    >>> Condition("decay", {"weight_decay": 0.01}).changes["weight_decay"]
    0.01
    >>> Condition("formed head frozen", held="largest", held_from=350).held
    'largest'
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    prepare: Prepare | Mapping[int, Prepare] | None = None
    held: Sequence[Head] | Mapping[int, Sequence[Head]] | Literal["largest", "smallest"] = ()
    held_from: int = 0
    dropout: float = 0.0
    augmented: bool = False
    data_share: float = 1.0

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise InputError(f"name: {self.name!r}; give the condition a name")
        if not 0.0 < self.data_share <= 1.0:
            raise InputError(f"data_share: {self.data_share}; give a share above 0 and up to 1")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"dropout: {self.dropout}; give at least 0 and less than 1")
        if isinstance(self.held, str) and self.held not in ("largest", "smallest"):
            raise InputError(
                f"held: {self.held!r}; give pairs of layer and head, or 'largest' or 'smallest'"
            )
        check_whole("held_from", self.held_from, 0)

    def check_steps(self, steps: np.ndarray) -> None:
        """Refuses a `held_from` that does not fit the evaluated steps of a run."""
        if not self.held:
            return
        start = self.held_from
        if start >= steps[-1]:
            raise InputError(f"held_from: {start} is not before the last step, {steps[-1]}")
        if isinstance(self.held, str) and start not in steps:
            near = sorted(steps[np.abs(steps - start).argsort()[:2]].tolist())
            raise InputError(
                f"held_from: {start} is no evaluated step, so no score could choose the head; take "
                f"one such as {' or '.join(map(str, near))}"
            )

    def prepare_network(self, model: ParticleTransformer, seed: int) -> None:
        """What is done to a fresh network of this seed, in place."""
        if self.prepare is not None:
            _of_seed("prepare", self.prepare, seed)(model)

    def heads_to_hold(self, seed: int, scores: np.ndarray | None) -> Sequence[Head]:
        """The heads that are held, by their scores (layer, head) where those choose."""
        if not isinstance(self.held, str):
            return _of_seed("held", self.held, seed)
        assert scores is not None  # `check_steps` saw to it
        best = np.argmax(scores if self.held == "largest" else -scores)
        layer, head = np.unravel_index(int(best), scores.shape)
        return [(int(layer), int(head))]

    def description(self, seed: int | None = None) -> dict[str, Any]:
        """For JSON, of all seeds or of one; of `prepare` only whether there is one."""
        shown = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name not in ("name", "prepare")
        }
        shown["changes"] = dict(self.changes)
        held = self.held
        if seed is not None and not isinstance(held, str):
            held = _of_seed("held", held, seed)
        if isinstance(held, Mapping):
            shown["held"] = {str(one): [list(head) for head in held[one]] for one in held}
        elif not isinstance(held, str):
            shown["held"] = [list(head) for head in held]
        return {**shown, "prepared": self.prepare is not None}


def _of_seed[Value](name: str, given: Value | Mapping[int, Value], seed: int) -> Value:
    if not isinstance(given, Mapping):
        return given
    if seed not in given:
        raise InputError(f"{name}: has nothing for seed {seed}, only for {sorted(given)}")
    return given[seed]
