"""Losses and gradients from lists of operators, for shapes that come again and again.

What lives here: `GraphExecutor`. What does not: the plain executor that it agrees with (`plain`).

`torch.func` arrives at a gradient by way of many Python calls; the operators that remain are the
same each time, and calling them as they are takes two thirds to four fifths of the time on small
transformers (`benchmarks/results/executor.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as tree

from emergence_stats.degeneracy.executor.plain import OfOne, PlainExecutor
from emergence_stats.errors import first_line

_TRACE_AFTER = 8  # calls with the same shapes; a trace costs as much as tens of calls
_AGREEMENT = 1e-3  # relative to the largest entry

Graph = Callable[..., tuple[Tensor, Tensor]]


class GraphExecutor(PlainExecutor):
    """The plain executor, whose operators are listed once they are called often.

    Give only functions whose operators do not depend on the numbers; what `vmap` accepts is such. A
    list that cannot be had, or that gives other numbers where it is first used, is done without,
    and counted in `fallbacks`.
    """

    def __init__(self, of_one: OfOne, *, stacked: bool) -> None:
        super().__init__(of_one, stacked=stacked)
        self._calls: dict[Any, int] = {}
        self._graphs: dict[Any, Graph | None] = {}

    def _evaluate(self, run: OfOne, positions: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        leaves, spec = tree.tree_flatten(batch)
        key = (run, positions.shape, *(leaf.shape for leaf in leaves))
        if key not in self._graphs:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] <= _TRACE_AFTER:
                return run(positions, batch)
            self._graphs[key] = self._traced(run, spec, positions, leaves)
        graph = self._graphs[key]
        return run(positions, batch) if graph is None else graph(positions, *leaves)

    def _traced(
        self, run: OfOne, spec: Any, positions: Tensor, leaves: list[Tensor]
    ) -> Graph | None:
        def flat(positions: Tensor, *leaves: Tensor) -> tuple[Tensor, Tensor]:
            return run(positions, tree.tree_unflatten(leaves, spec))

        try:
            # On stand-ins, so that no intermediate is held while the graph is made.
            trace = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)
            graph = trace(positions, *leaves)
            graph.graph.eliminate_dead_code()
            graph.recompile()
            if _agree(graph(positions, *leaves), flat(positions, *leaves)):
                return graph
            reason = "its operators alone give other numbers"
        except Exception as error:  # whatever cannot be traced runs as it did
            reason = first_line(error)
        self.fallbacks[reason] = self.fallbacks.get(reason, 0) + 1
        return None


def _agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    return all(
        torch.allclose(
            one, other, rtol=_AGREEMENT, atol=_AGREEMENT * float(other.abs().max()), equal_nan=True
        )
        for one, other in zip(found, expected, strict=True)
    )
