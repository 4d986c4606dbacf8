"""A traced computation carried out again and again in memory laid out once.

What lives here: `Replay`, and the `Recipe` by which one is laid out for inputs elsewhere. What does
not: how a graph becomes a recipe (`recording`), when a function is traced (`tracing`), and which
(`landscape`).

Profiles of chains named three costs besides arithmetic: calling an operator takes longer than a
small product; views, constants and shapes are worked out anew though they never change; and fresh
memory costs a page fault every four kilobytes. Here a view is kept as it is, as is whatever does
not depend on the inputs, and for each of the other operators remains one call that writes where the
result belongs, in memory shared by results that are not needed at the same time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

# Named alike in `torch`, where calling them costs less than what the traced operator does.
_IN_TORCH = {
    "mm", "bmm", "addmm", "baddbmm", "add", "sub", "mul", "div", "pow", "sum", "mean", "cat",
    "stack", "neg", "exp", "log", "sqrt", "rsqrt", "square", "tanh", "sigmoid", "index_select",
}  # fmt: skip
# Operators that compute in the place they are given (many only copy to it, or resize it first).
_IN_PLACE_GIVEN = {
    "_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data", "gelu",
    "gelu_backward", "silu", "silu_backward", "tanh_backward", "sigmoid_backward",
    "threshold_backward",
}  # fmt: skip
_COPIES = {"clone", "_to_copy"}
_SUMS_OF_PRODUCTS = {"mm": "addmm", "bmm": "baddbmm"}  # what adds them to something


class Room:
    """Memory that replays share of which one runs at a time, each writing before it reads.

    Attributes
    ----------
    free : list of Tensor of bytes
        For values that are needed while a replay runs.
    """

    def __init__(self) -> None:
        self.free: list[Tensor] = []
        self._kept: dict[Any, Tensor] = {}
        self._copies: dict[int, torch.UntypedStorage] = {}

    def tensor(self, purpose: str, like: Tensor) -> Tensor:
        """The tensor for this purpose of that shape and type, the same one each time."""
        key = purpose, like.shape, like.dtype
        if key not in self._kept:
            self._kept[key] = torch.empty_like(like, memory_format=torch.contiguous_format)
        return self._kept[key]

    def clear(self) -> None:
        """Keep nothing."""
        self.free, self._kept, self._copies = [], {}, {}

    def give_up(self, purpose: str) -> None:
        """Keep no tensor for this purpose."""
        self._kept = {key: one for key, one in self._kept.items() if key[0] != purpose}

    def standing_for(self, storage: torch.UntypedStorage, other: Room) -> torch.UntypedStorage:
        """What here stands for memory that the other room's replays write to."""
        pointer = storage.data_ptr()
        if pointer not in self._copies:
            kept = [
                self.tensor(key[0], one)
                for key, one in list(other._kept.items())  # which its thread may add to
                if one.data_ptr() == pointer
            ]
            like = kept[0] if kept else torch.empty(storage.nbytes(), dtype=torch.uint8)
            self._copies[pointer] = like.untyped_storage()
        return self._copies[pointer]


class Replay(NamedTuple):
    """Losses and gradients as a list of calls.

    Attributes
    ----------
    inputs : list of Tensor
        Where the arguments are to be written before a call.
    calls : list of callable
    losses, gradient : Tensor
        Where the results are, until the next call.
    """

    inputs: list[Tensor]
    calls: list[Callable[[], Any]]
    losses: Tensor
    gradient: Tensor

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Losses and gradient for what the inputs hold."""
        for call in self.calls:
            call()
        return self.losses, self.gradient


class Step(NamedTuple):
    """What became of a node, so that the same can be laid out for inputs elsewhere."""

    node: Node
    kind: str  # "input", "fixed", "view", "call", "calls" or "join"
    value: Any = None  # where its result is, unless that hangs on where the inputs are
    choice: int = 0  # among the ways to call it


class Recipe(NamedTuple):
    """How a replay was laid out.

    Attributes
    ----------
    steps : list of Step
        What became of each node, in the order of the graph.
    results : tuple of two Node
        Losses and gradient.
    room : Room
        Where the gradient and what is needed meanwhile are.
    share : float or None
        What the gradient is multiplied by, as one of several parts of a sum.
    adds : bool
        Whether it is added to what is where it belongs.
    """

    steps: list[Step]
    results: tuple[Node, Node]
    room: Room
    share: float | None = None
    adds: bool = False

    def in_other_memory(self, room: Room) -> Recipe:
        """The same, laid out alike in other memory but for what never changes."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            storage = room.standing_for(tensor.untyped_storage(), self.room)
            layout = tensor.storage_offset(), tensor.shape, tensor.stride()
            return torch.empty(0, dtype=tensor.dtype).set_(storage, *layout)

        def anew(step: Step) -> Step:
            if step.kind == "fixed":
                return step
            several = isinstance(step.value, list)
            value = [moved(one) for one in step.value] if several else moved(step.value)
            return step._replace(value=value)

        return self._replace(steps=[anew(step) for step in self.steps], room=room)

    @property
    def adds_up(self) -> bool:
        """Whether gradients of several batches can be added up where they belong.

        That is, whether it is made of pieces side by side that nothing else is worked out from.
        """
        gradient = self.results[1]
        step = next(step for step in self.steps if step.node is gradient)
        if step.kind != "join":
            return False
        views = {step.node for step in self.steps if step.kind == "view"}

        def leads_there_alone(node: Node) -> bool:
            return all(
                user is gradient or (user in views and leads_there_alone(user))
                for user in node.users
            )

        return all(
            leads_there_alone(one.node)
            for one in self.steps
            if one.kind in ("call", "calls") and _any_in(one.value, step.value)
        )

    @property
    def gradient_at(self) -> int | None:
        """The address of the gradient, where it is made of pieces."""
        step = next(step for step in self.steps if step.node is self.results[1])
        return int(step.value.data_ptr()) if step.kind == "join" else None

    def adding(self, share: float, adds: bool) -> Recipe:
        """The same for a part of a sum, all in the same memory."""
        return self._replace(share=share, adds=adds)

    @property
    def inputs(self) -> list[Tensor]:
        """Where the inputs after the first are to be written before a call."""
        of_inputs = [step.value for step in self.steps if step.kind == "input"]
        return of_inputs[1:]

    def reading(self, first: Tensor) -> Replay:
        """A replay that reads its first input from there, and shares all other memory."""
        values: dict[Node, Any] = {}
        inputs: list[Tensor] = []
        calls: list[Callable[[], Any]] = []
        joined = next(step.value for step in self.steps if step.node is self.results[1])
        for node, kind, value, choice in self.steps:
            known: Any = map_arg((node.args, dict(node.kwargs)), values.get)
            args, kwargs = known
            target: Any = node.target
            if kind == "input":
                value = first if value is None else value
                inputs.append(value)
            elif kind == "view":
                value = args[0][args[1]] if target is operator.getitem else target(*args, **kwargs)
            elif self.share is not None and kind in ("call", "calls") and _any_in(value, joined):
                calls += self._calls_that_add(target, args, kwargs, value, choice, joined)
            elif self.share is not None and kind == "join":
                calls += [
                    _call_that_adds(slot, piece, self.share, self.adds)
                    for slot, piece in _slots(value, args[0])
                    if not _in_place(slot, piece)
                ]
            elif kind == "call":
                calls.append(ways_to_call(target, args, kwargs, value)[choice])
            elif kind == "calls":
                calls.append(partial(call_and_copy, target, args, kwargs, value))
            elif kind == "join":
                calls += calls_that_join(value, args[0])
            values[node] = value
        losses, gradient = (values[node] for node in self.results)
        return Replay(inputs, calls, losses, gradient)

    def _calls_that_add(
        self, target: Any, args: Any, kwargs: Any, value: Any, choice: int, joined: Tensor
    ) -> list[Callable[[], Any]]:
        assert self.share is not None
        name = target._schema.name.split("::")[1]
        if name in _SUMS_OF_PRODUCTS:
            # What is there already is not read where nothing is added to it, be it NaN.
            add = getattr(torch, _SUMS_OF_PRODUCTS[name])
            numbers = {"beta": float(self.adds), "alpha": self.share}
            return [partial(add, value, *args, **numbers, out=value)]
        if isinstance(value, Tensor):
            piece = self.room.tensor("piece", value)
            first = ways_to_call(target, args, kwargs, piece)[choice]
            return [first, _call_that_adds(value, piece, self.share, self.adds)]
        pieces = [
            self.room.tensor(f"piece {number}", place) if _any_in(place, joined) else place
            for number, place in enumerate(value)
        ]
        calls: list[Callable[[], Any]] = [partial(call_and_copy, target, args, kwargs, pieces)]
        for place, one in zip(value, pieces, strict=True):
            if one is not place:
                calls.append(_call_that_adds(place, one, self.share, self.adds))
        return calls


def calls_that_join(joined: Tensor, pieces: Sequence[Tensor]) -> list[Callable[[], Any]]:
    """Bring to its place each piece that was not written there."""
    away = [pair for pair in _slots(joined, pieces) if not _in_place(*pair)]
    if len(away) == len(pieces):
        return [partial(torch.cat, list(pieces), -1, out=joined)]
    return [partial(slot.copy_, piece) for slot, piece in away]


def _slots(joined: Tensor, pieces: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For each piece where it belongs."""
    slots = joined.split([piece.shape[-1] for piece in pieces], dim=-1)
    return list(zip(slots, pieces, strict=True))


def _call_that_adds(slot: Tensor, piece: Tensor, share: float, adds: bool) -> Callable[[], Any]:
    if adds:
        return partial(slot.add_, piece, alpha=share)
    return partial(torch.mul, piece, share, out=slot)


def _any_in(value: Any, joined: Any) -> bool:
    """Whether a result, or one of several, is written to the memory of another."""
    if not isinstance(joined, Tensor):
        return False
    storage = joined.untyped_storage().data_ptr()
    return any(
        isinstance(one, Tensor) and one.untyped_storage().data_ptr() == storage
        for one in (value if isinstance(value, list) else [value])
    )


def _in_place(slot: Tensor, piece: Tensor) -> bool:
    """Whether the two are the same memory; strides of dimensions of size one mean nothing."""
    steps = zip(slot.shape, slot.stride(), piece.stride(), strict=True)
    return slot.data_ptr() == piece.data_ptr() and all(
        size == 1 or one == other for size, one, other in steps
    )


def ways_to_call(target: Any, args: Any, kwargs: Any, place: Tensor) -> list[Any]:
    """Calls that write the result to its place, the quickest first; the last one surely does."""
    name = target._schema.name.split("::")[1]
    ways: list[Any] = []
    if name in _COPIES:
        ways.append(partial(place.copy_, args[0]))
    if name in _IN_TORCH:
        ways.append(partial(getattr(torch, name), *args, **kwargs, out=place))
    packet = getattr(torch.ops.aten, name) if name in _IN_PLACE_GIVEN else None
    for overload in packet.overloads() if packet is not None else []:
        other = getattr(packet, overload)
        outs = [one.name for one in other._schema.arguments if one.is_out]
        names = [one.name for one in other._schema.arguments if not one.is_out]
        if len(outs) == 1 and names == [one.name for one in target._schema.arguments]:
            ways.append(partial(other, *args, **kwargs, **{outs[0]: place}))
    return [*ways, partial(_call_and_copy_one, target, args, kwargs, place)]


def _call_and_copy_one(target: Any, args: Any, kwargs: Any, place: Tensor) -> None:
    place.copy_(target(*args, **kwargs))


def call_and_copy(target: Any, args: Any, kwargs: Any, places: Sequence[Tensor | None]) -> None:
    """Call an operator of several results and copy each that is wanted to its place."""
    for place, one in zip(places, target(*args, **kwargs), strict=True):
        if place is not None:
            place.copy_(one)
