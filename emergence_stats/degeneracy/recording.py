"""How a graph of tensors becomes a list of calls.

What lives here: `recorded`, which runs every operator once and notes what has to be called again
and where its result goes. What does not: the calls and how they are carried out (`replay`).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from emergence_stats.degeneracy.replay import (
    Recipe,
    Room,
    Step,
    call_and_copy,
    calls_that_join,
    ways_to_call,
)

# Results that depend on the shape of their argument and not on its numbers.
_OF_SHAPE_ALONE = {"ones_like", "zeros_like", "full_like", "new_zeros", "new_ones", "new_full"}
_ALIASES_UNDECLARED = {"_unsafe_view"}
_PIECE = 2**16  # numbers compared together


class NotReplayable(Exception):
    """The graph writes to its own values, draws random numbers, or hides what shares memory."""


def recorded(module: GraphModule, inputs: Sequence[Tensor], room: Room) -> Recipe:
    """The calls that a graph of tensors comes to, having run it once on these.

    Parameters
    ----------
    module : GraphModule
        Of tensors to ``(losses, gradient)``.
    room : Room
        For the gradient and what is needed meanwhile.

    Raises
    ------
    NotReplayable
    """
    graph = module.graph
    simplify(graph)
    output = next(node for node in graph.nodes if node.op == "output")
    losses, gradient = output.args[0]
    recorder = _Recorder(graph, gradient, room)
    left = list(inputs)
    with torch.no_grad():
        for node in graph.nodes:
            if node.op == "placeholder":
                recorder.take_input(node, left.pop(0))
            elif node.op == "get_attr":
                recorder.take_constant(node, getattr(module, str(node.target)))
            elif node.op == "call_function":
                recorder.take_call(node)
            recorder.release()
    recorder.finish()
    return Recipe(recorder.steps, (losses, gradient), room)


def simplify(graph: Graph) -> None:
    """Leave out factors of one and powers of one, and make one factor of several numbers.

    The gradient of a mean begins with a tensor of ones, spread out and divided; multiplying by it
    is multiplying by a number.
    """
    aten = torch.ops.aten
    uniform: dict[Node, float] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        name, first = _name(node), node.args[0] if node.args else None
        number: Any = node.args[1] if len(node.args) > 1 else None
        plain = isinstance(number, int | float)
        if name == "ones_like":
            uniform[node] = 1.0
        elif isinstance(first, Node) and first in uniform and _is_alias(node):
            uniform[node] = uniform[first]
        elif isinstance(first, Node) and first in uniform and plain and name in ("mul", "div"):
            uniform[node] = uniform[first] * number if name == "mul" else uniform[first] / number
        elif node.target is aten.mul.Tensor:
            for factor, other in (node.args, node.args[::-1]):
                if factor in uniform and isinstance(other, Node) and _alike(other, node):
                    node.target, node.args = aten.mul.Scalar, (other, uniform[factor])
                    break
        elif node.target is aten.pow.Tensor_Scalar and number == 1 and _alike(first, node):
            node.replace_all_uses_with(first)
        if node.target is aten.mul.Scalar and node.args[0].target is aten.mul.Scalar:
            inner = node.args[0]
            if len(inner.users) == 1 and _alike(inner.args[0], node):
                node.args = (inner.args[0], inner.args[1] * node.args[1])
    graph.eliminate_dead_code()


class _Recorder:
    """Runs each node once and keeps what has to be called again."""

    def __init__(self, graph: Graph, gradient: Node, room: Room) -> None:
        self.steps: list[Step] = []
        self.values: dict[Node, Any] = {}
        self._constant: set[Node] = set()
        self._gradient, self._number = gradient, 0
        self._room, self._free = room, list(room.free)
        self._held: dict[Node, list[Tensor]] = {}
        self._root = {node: node for node in graph.nodes}
        self._dies: dict[int, list[Node]] = {}
        last: dict[Node, int] = {}
        for number, node in enumerate(graph.nodes):
            if _is_alias(node):
                self._root[node] = self._root[node.all_input_nodes[0]]
            for source in node.all_input_nodes:
                last[self._root[source]] = number
            last[self._root[node]] = number
        for node, number in last.items():
            self._dies.setdefault(number, []).append(node)
        self._places: dict[Node, tuple[int, int]] = {}
        self._joined: Tensor | None = None

    def take_input(self, node: Node, given: Tensor) -> None:
        if self.steps:
            place = self._place(node, given.contiguous())
            self._take(node, "input", place.copy_(given))
        else:  # which each replay has elsewhere
            self.values[node] = given.contiguous()
            self.steps.append(Step(node, "input"))
            self._lay_out_gradient(self.values[node])

    def take_constant(self, node: Node, value: Tensor) -> None:
        self._take(node, "fixed", value)
        self._constant.add(node)

    def _take(self, node: Node, kind: str, value: Any, choice: int = 0) -> None:
        self.values[node] = value
        self.steps.append(Step(node, kind, None if kind == "view" else value, choice))

    def take_call(self, node: Node) -> None:
        sources = node.all_input_nodes
        known: Any = map_arg((node.args, dict(node.kwargs)), self.values.__getitem__)
        args, kwargs = known
        target: Any = node.target
        if target is operator.getitem:
            if sources[0] in self._constant:
                self.take_constant(node, args[0][args[1]])
            else:
                self._take(node, "view", args[0][args[1]])
            return
        if target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
            raise NotReplayable(str(target))
        if node is self._gradient and self._joined is not None:
            for call in calls_that_join(self._joined, args[0]):
                call()
            self._take(node, "join", self._joined)
            return
        result = target(*args, **kwargs)
        if result is None:  # such as of a check
            raise NotReplayable(str(target))
        shared = _share_memory(result, [self.values[source] for source in sources])
        if shared is not _is_alias(node):
            raise NotReplayable(str(target))
        constant = all(source in self._constant for source in sources)
        if constant or _name(node) in _OF_SHAPE_ALONE:
            self.take_constant(node, result)
        elif shared:
            self._take(node, "view", result)
        elif isinstance(result, Tensor):
            place = self._place_of_source(node, result)
            if place is None:
                place = self._place(node, result)
                kept = None
            else:
                kept = place.clone()
            ways = ways_to_call(target, args, kwargs, place)
            choice = _first_that_works(ways, place, result, kept)
            self._take(node, "call", place, choice)
        else:
            self._places.pop(node, None)  # a place is for one tensor
            places = [None if one is None else self._place(node, one) for one in result]
            call_and_copy(target, args, kwargs, places)
            self._take(node, "calls", places)

    def release(self) -> None:
        """What no later node reads is free to be written to; on to the next."""
        for node in self._dies.get(self._number, []):
            self._free += self._held.pop(node, [])
        self._number += 1

    def finish(self) -> None:
        """Leave to other replays what is not needed between two of this one."""
        self._room.free = [*self._free, *(one for held in self._held.values() for one in held)]

    def _place(self, node: Node, result: Tensor) -> Tensor:
        if node in self._places and self._joined is not None and result.is_contiguous():
            start, size = self._places[node]
            piece = self._joined[..., start : start + size]
            if piece.numel() == result.numel() and piece.is_contiguous():
                return piece.view(result.shape)
        if result.numel() == 0:
            return torch.empty_like(result)
        strides = zip(result.shape, result.stride(), strict=True)
        extent = 1 + sum((size - 1) * stride for size, stride in strides)
        needed = extent * result.element_size()
        fitting = [one for one in self._free if needed <= one.numel() <= 2 * needed]
        storage = min(fitting, key=torch.Tensor.numel, default=None)
        if storage is None:
            storage = torch.empty(-(-needed // 64) * 64, dtype=torch.uint8)
        else:
            self._free = [one for one in self._free if one is not storage]
        self._held.setdefault(node, []).append(storage)
        return storage[:needed].view(result.dtype).as_strided(result.shape, result.stride())

    def _place_of_source(self, node: Node, result: Tensor) -> Tensor | None:
        """That of an argument which nothing needs any more, where an operator goes by entries."""
        target: Any = node.target
        if torch.Tag.pointwise not in target.tags or node in self._places:
            return None
        for source in node.all_input_nodes:
            root, there = self._root[source], self.values[source]
            held = self._held.get(root, [])
            names = [one for one in node.all_input_nodes if self._root[one] is root]
            if (
                root in self._dies.get(self._number, [])
                and len(held) == 1
                and names == [source]
                and isinstance(there, Tensor)
                and there.data_ptr() == held[0].data_ptr()
                and (there.shape, there.stride()) == (result.shape, result.stride())
                and there.dtype == result.dtype
            ):
                self._held[node] = self._held.pop(root)
                return there
        return None

    def _lay_out_gradient(self, like: Tensor) -> None:
        """Where the gradient is pieces side by side, let each be written to its place at once."""
        node = self._gradient
        if node.op != "call_function" or _name(node) != "cat":
            return
        pieces: Any = node.args[0]
        shapes = [_shape(piece) for piece in pieces]
        dimension = node.args[1] if len(node.args) > 1 else 0
        if dimension not in (-1, like.ndim - 1) or None in shapes:
            return
        self._joined = self._room.tensor("gradient", like)
        start = 0
        for piece, shape in zip(pieces, shapes, strict=True):
            self._places[self._root[piece]] = (start, shape[-1])
            start += shape[-1]


def _first_that_works(
    ways: Sequence[Any], place: Tensor, result: Tensor, before: Tensor | None
) -> int:
    """Which way writes this result to the place, where it then is.

    Each is tried with what was there before, where it is an argument too.
    """
    for choice, call in enumerate(ways[:-1]):
        place.zero_() if before is None else place.copy_(before)
        try:
            call()
        except (RuntimeError, TypeError):
            continue
        if _agree(place, result):
            return choice
    place.copy_(result)
    return len(ways) - 1


def _agree(place: Tensor, result: Tensor) -> bool:
    """Whether two tensors hold the same, compared piece by piece for want of memory."""
    if place.numel() <= _PIECE or place.shape[0] == 1:
        return torch.allclose(place, result, rtol=1e-5, atol=1e-30, equal_nan=True)
    rows = max(1, _PIECE * place.shape[0] // place.numel())
    return all(map(_agree, place.split(rows), result.split(rows)))


def _name(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[1] if schema is not None else ""


def _is_alias(node: Node) -> bool:
    """Whether the value is another name for memory of the first argument."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem or _name(node) in _ALIASES_UNDECLARED:
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(one.alias_info is not None for one in schema.returns)


def _share_memory(result: Any, values: Sequence[Any]) -> bool:
    def addresses(value: Any) -> set[int]:
        tensors = value if isinstance(value, list | tuple) else [value]
        found = {one.untyped_storage().data_ptr() for one in tensors if isinstance(one, Tensor)}
        return found - {0}

    known = set().union(*(addresses(value) for value in values)) if values else set()
    return bool(addresses(result) & known)


def _shape(node: Node) -> Any:
    known = node.meta.get("val", node.meta.get("tensor_meta"))
    return getattr(known, "shape", None)


def _alike(node: Any, other: Node) -> bool:
    """Whether two nodes are known to have one shape and one type."""
    if not isinstance(node, Node) or _shape(node) is None or _shape(node) != _shape(other):
        return False
    kinds = {
        getattr(one.meta.get("val", one.meta.get("tensor_meta")), "dtype", None)
        for one in (node, other)
    }
    return len(kinds) == 1
