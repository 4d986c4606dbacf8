"""Functions of tensors whose operators are traced once they are called often with the same shapes.

What lives here: `TracedWhenRepeated`. What does not: the losses and gradients that are traced
(`landscape`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as tree

_TRACE_AFTER = 8  # calls with the same shapes; a trace costs as much as tens of calls


class TracedWhenRepeated:
    """The same function, at half the cost for small models.

    `torch.func` arrives at a gradient by way of many Python calls; the operators that remain are
    the same each time, and are called as they are from the ninth call with the same shapes on.
    Give only functions whose operators do not depend on the numbers; what `vmap` accepts is such.

    Parameters
    ----------
    run : callable
        ``run(positions, batch)``, the batch a tree of tensors.
    """

    def __init__(self, run: Callable[[Tensor, Any], tuple[Tensor, Tensor]]) -> None:
        self._run = run
        self._calls: dict[Any, int] = {}
        self._graphs: dict[Any, Callable[[Tensor, Any], tuple[Tensor, Tensor]]] = {}

    @property
    def num_traces(self) -> int:
        """For how many shapes a trace stands in."""
        return sum(graph is not self._run for graph in self._graphs.values())

    def __call__(self, positions: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """What `run` returns."""
        key = (positions.shape, tuple(leaf.shape for leaf in tree.tree_leaves(batch)))
        with torch.no_grad():
            if key not in self._graphs:
                self._calls[key] = self._calls.get(key, 0) + 1
                if self._calls[key] <= _TRACE_AFTER:
                    return self._run(positions, batch)
                self._graphs[key] = self._traced(positions, batch)
            return self._graphs[key](positions, batch)

    def _traced(self, positions: Tensor, batch: Any) -> Callable[..., tuple[Tensor, Tensor]]:
        run = self._run

        def plain(positions: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
            return run(positions, batch)  # a bound method would count its object as an argument

        try:
            graph = make_fx(plain)(positions, batch)
        except Exception:  # whatever cannot be traced runs as it did
            return self._run
        _without_idle_views(graph.graph)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return graph


_VIEWS = (
    torch.ops.aten.expand.default,
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
)


def _without_idle_views(graph: Graph) -> None:
    """Leave out views to the shape a tensor has, and transpositions undone: half of what vmap adds.

    Each is another name of the same memory, so even a write in place means the same without it.
    """
    for node in list(graph.nodes):
        source = node.args[0] if node.args else None
        if node.op != "call_function" or not isinstance(source, Node):
            continue
        if node.target in _VIEWS and _shape(node) is not None and _shape(node) == _shape(source):
            node.replace_all_uses_with(source)
        elif (
            node.target is torch.ops.aten.transpose.int
            and source.target is torch.ops.aten.transpose.int
            and node.args[1:] == source.args[1:]
        ):
            node.replace_all_uses_with(source.args[0])


def _shape(node: Node) -> Any:
    known = node.meta.get("val", node.meta.get("tensor_meta"))
    return getattr(known, "shape", None)
