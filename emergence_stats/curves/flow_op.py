"""`flow_share` for PyTensor variables: an operation with a gradient, on the kernels of `flow`.

What lives here: that operation. What does not: the mathematics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import (
    numba_njit,
    register_funcify_default_op_cache_key,
)

from emergence_stats.curves.flow import share_and_slopes


class _Flow(Op):
    """s, ds/du, ds/da and ds/dkappa, shape (4, point), at a vector u and numbers a and kappa.

    Only s has a gradient, which is the other rows, so that both come from one evaluation.
    """

    __props__ = ()

    def make_node(self, u: Any, takeoff: Any, kappa: Any) -> Apply:
        inputs = [pt.as_tensor_variable(x, dtype="float64") for x in (u, takeoff, kappa)]
        return Apply(self, inputs, [pt.matrix(dtype="float64")])

    def perform(self, node: Apply, inputs: list[Any], outputs: list[list[Any]]) -> None:
        u, takeoff, kappa = inputs
        out = np.empty((4, u.size))
        share_and_slopes(np.ascontiguousarray(u), float(takeoff), float(kappa), out)
        outputs[0][0] = out

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        by_u, by_takeoff, by_kappa = (cotangents[0][0] * self(*inputs)[row] for row in (1, 2, 3))
        return [by_u, by_takeoff.sum(), by_kappa.sum()]


@register_funcify_default_op_cache_key(_Flow)
def _compile_flow(op: Op, node: Apply, **options: Any) -> Any:
    @numba_njit
    def flow(u: Any, takeoff: Any, kappa: Any) -> Any:
        out = np.empty((4, u.size))
        share_and_slopes(np.ascontiguousarray(u), takeoff.item(), kappa.item(), out)
        return out

    return flow


def flow_share_of_tensors(u: Any, takeoff: Any, kappa: Any) -> Any:
    """`flow.flow_share` of a vector u and numbers a and kappa, some of them PyTensor variables."""
    return _Flow()(u, takeoff, kappa)[0]
