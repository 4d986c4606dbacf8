"""Functions of tensors whose operators are traced once they are called often with the same shapes.

What lives here: `TracedWhenRepeated`. What does not: the losses and gradients that are traced
(`landscape`), and what becomes of a trace on the processor (`replay`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as tree

from emergence_stats.degeneracy.batches import SampleTree
from emergence_stats.degeneracy.compiled import pick_rows
from emergence_stats.degeneracy.freed import give_back
from emergence_stats.degeneracy.recording import recorded
from emergence_stats.degeneracy.replay import Recipe, Replay, Room

# Operators that stand for several, each of which can be told where to write.
_PLAINER: Any = get_decompositions([torch.ops.aten.mse_loss, torch.ops.aten.mse_loss_backward])
_TRACE_AFTER = 8  # calls with the same shapes; a trace costs as much as tens of calls
# From so many numbers on, of all chains together, calls are long beside a trace, and until it is
# made each takes several times its memory.
_LARGE, _TRACE_LARGE_AFTER = 2**18, 1

Run = Callable[[Tensor, Any], tuple[Tensor, Tensor]]


class TracedWhenRepeated:
    """The same function of positions and a batch, at a fraction of the cost for small models.

    `torch.func` arrives at a gradient by way of many Python calls; the operators that remain are
    the same each time, and are called as they are from the ninth call with the same shapes on (for
    many numbers from the second). Give only functions whose operators do not depend on the numbers;
    what `vmap` accepts is such.

    Parameters
    ----------
    run : callable
        ``run(positions, batch)``, the batch a tree of tensors.
    samples : SampleTree
        What batches are taken from.
    room : Room
        Shared with other functions, of which one is called at a time.
    twin : TracedWhenRepeated, optional
        Of the same function and samples: its lists of operators are taken over, in memory of their
        own, for shapes it has traced.
    """

    def __init__(
        self,
        run: Run,
        samples: SampleTree,
        room: Room,
        twin: TracedWhenRepeated | None = None,
    ) -> None:
        self._run, self._samples, self._room, self._twin = run, samples, room, twin
        self._calls: dict[Any, int] = {}
        self._traces: dict[Any, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {}
        self._residents: set[int] = set()

    @property
    def num_traces(self) -> int:
        """For how many shapes a trace stands in."""
        return sum(trace != self._as_it_is for trace in self._traces.values())

    def is_traced(
        self, position_shape: tuple[int, ...], index_shape: tuple[int, ...], pieces: int = 1
    ) -> bool:
        """Whether calls with these shapes have become a list of operators."""
        *rest, rows = index_shape
        key = (torch.Size(position_shape), torch.Size((*rest, rows // pieces)))
        trace = self._traces.get(key)
        if pieces > 1 and not (isinstance(trace, _OnSamples) and trace.adds_up):
            return self.is_traced(position_shape, index_shape)
        return isinstance(trace, _OnSamples)

    def reside(self, holder: Tensor) -> None:
        """Evaluate positions in this memory where they are, for as long as the tensor exists.

        The list of operators then reads from there, and not from a copy.
        """
        pointer = holder.data_ptr()
        if pointer in self._residents:
            return
        self._residents.add(pointer)
        self._room.give_up("position")
        weakref.finalize(holder, self._forget, pointer)
        for trace in self._traces.values():
            if isinstance(trace, _OnSamples | _InPieces):
                trace.give_up_copy()

    def rest(self) -> None:
        """Give up the lists of operators; what the twin has traced is taken over again."""
        self._traces.clear()
        self._calls.clear()

    def _forget(self, pointer: int) -> None:
        self._residents.discard(pointer)
        for trace in list(self._traces.values()):
            if isinstance(trace, _OnSamples | _InPieces):
                trace.forget(pointer)

    def __call__(
        self, positions: Tensor, index: Tensor, pieces: int = 1, *, at_once: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What `run` returns for the samples of this index; valid until the next call.

        Parameters
        ----------
        positions : Tensor, shape (parameter,) or (chain, parameter)
        index : Tensor, shape (sample,) or (chain, sample)
        pieces : int
            Parts of the batch, equally large, that may be gone through one after another, with
            memory for what one of them needs; give more than one only where the result is a mean
            over samples.
        at_once : bool
            Whether many calls with these shapes follow, so that they are traced at the first.
        """
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self(positions, index, pieces, at_once=at_once)
        if pieces > 1:
            return self._in_pieces(positions, index, pieces)
        key: Any = (positions.shape, index.shape)
        trace = self._traces.get(key) or self._known(key)
        if trace is not None:
            return trace(positions, index)
        self._calls[key] = self._calls.get(key, 0) + 1
        large = positions.numel() >= _LARGE
        few = _TRACE_LARGE_AFTER if large else _TRACE_AFTER
        if self._calls[key] <= few and not at_once:
            return self._as_it_is(positions, index)
        self._traces[key] = self._traced(positions, index)
        return self._traces[key](positions, index)

    def _known(self, key: Any) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """What was traced for these shapes, here or by the twin."""
        if key not in self._traces and self._twin is not None:
            theirs = self._twin._traces.get(key)
            if isinstance(theirs, _OnSamples):
                self._traces[key] = theirs.in_other_memory(self._residents, self._room)
        return self._traces.get(key)

    def _in_pieces(self, positions: Tensor, index: Tensor, pieces: int) -> tuple[Tensor, Tensor]:
        key = (positions.shape, index.shape, pieces)
        trace = self._traces.get(key)
        if trace is not None:
            return trace(positions, index)
        parts = index.chunk(pieces, dim=-1)
        known = self._known((positions.shape, parts[0].shape))
        if isinstance(known, _OnSamples) and known.adds_up:
            self._traces[key] = _InPieces(known, pieces)
            return self._traces[key](positions, index)
        if known is not None:
            return self(positions, index)
        losses, gradient = (one.clone() for one in self(positions, parts[0]))
        for part in parts[1:]:
            for total, one in zip((losses, gradient), self(positions, part), strict=True):
                total.add_(one)
        return losses.div_(pieces), gradient.div_(pieces)

    def subtract(
        self, positions: Tensor, index: Tensor, pieces: int, gradient: Tensor
    ) -> Tensor | None:
        """Take the gradient here from the one that the last call returned, where that lies.

        Returns the losses; None where it cannot be done and nothing was.
        """
        key = (positions.shape, index.shape, pieces, "subtracted")
        trace = self._traces.get(key)
        if trace is None:
            *rest, rows = index.shape
            known = self._known((positions.shape, torch.Size((*rest, rows // pieces))))
            if not isinstance(known, _OnSamples) or not known.adds_up:
                return None
            trace = self._traces[key] = _InPieces(known, pieces, subtracted=True)
        # Until the last call was one of this list, its gradient is elsewhere.
        if not isinstance(trace, _InPieces) or not trace.writes_to(gradient):
            return None
        with torch.no_grad():
            return trace(positions, index)[0]

    def _as_it_is(self, positions: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        return self._run(positions, self._samples.take(index))

    def _traced(self, positions: Tensor, index: Tensor) -> Callable[..., tuple[Tensor, Tensor]]:
        run, spec = self._run, self._samples.spec

        def plain(positions: Tensor, *leaves: Tensor) -> tuple[Tensor, Tensor]:
            return run(positions, tree.tree_unflatten(leaves, spec))

        leaves = [leaf[index] for leaf in self._samples.leaves]
        try:
            # On stand-ins, so that no intermediate is held while the trace is made.
            trace = make_fx(
                plain,
                decomposition_table=_PLAINER,
                tracing_mode="fake",
                _allow_non_fake_inputs=True,
            )
            graph = trace(positions, *leaves)
        except Exception:  # whatever cannot be traced runs as it did
            return self._as_it_is
        _without_idle_views(graph.graph)
        graph.graph.eliminate_dead_code()
        if positions.device.type == "cpu":
            try:
                recipe = recorded(graph, [positions, *leaves], self._room)
                del leaves
                give_back(positions.numel())
                return _OnSamples(recipe, self._samples, self._residents)
            except Exception:  # `NotReplayable`, or an operator of a kind not met before
                pass
        graph.recompile()
        return lambda positions, index: graph(
            positions, *(leaf[index] for leaf in self._samples.leaves)
        )


# Rows so short that calling PyTorch takes longer than picking them.
_SHORT = 64
_PICKED = (torch.float32, torch.float64, torch.int64)


class _OnSamples:
    """Replays whose inputs are a position and samples: one for each place that positions are in.

    They share all other memory. What lies elsewhere is copied to a place of its own.
    """

    def __init__(self, recipe: Recipe, samples: SampleTree, residents: set[int]) -> None:
        self._recipe, self._samples, self._residents = recipe, samples, residents
        self._in_place: dict[int, Replay] = {}
        self._elsewhere: Replay | None = None
        self._long: list[tuple[Tensor, Tensor]] = []
        self._short: list[tuple[Any, Any]] = []  # as arrays, flat but for the sample
        for leaf, place in zip(samples.leaves, recipe.inputs, strict=True):
            size = leaf[0].numel()
            if not size:
                continue
            if leaf.dtype in _PICKED and leaf.is_contiguous() and size <= _SHORT:
                table, room = (one.detach().view(-1, size).numpy() for one in (leaf, place))
                self._short.append((table, room))
            else:
                self._long.append((leaf, place.view(-1, *leaf.shape[1:])))

    @property
    def adds_up(self) -> bool:
        """Whether gradients of several batches can be added up where they belong."""
        return self._recipe.adds_up

    def writes_to(self, gradient: Tensor) -> bool:
        """Whether that is where the gradient is put together."""
        return self._recipe.gradient_at == gradient.data_ptr()

    def adding(self, share: float, adds: bool) -> _OnSamples:
        """The same for a part of a sum, in the same memory."""
        return _OnSamples(self._recipe.adding(share, adds), self._samples, self._residents)

    def in_other_memory(self, residents: set[int], room: Room) -> _OnSamples:
        """The same, to be called while this one is."""
        return _OnSamples(self._recipe.in_other_memory(room), self._samples, residents)

    def forget(self, pointer: int) -> None:
        """Positions are no longer there."""
        self._in_place.pop(pointer, None)

    def give_up_copy(self) -> None:
        """Lay out the place that positions are copied to only when it is needed again."""
        self._elsewhere = None

    def _replay(self, positions: Tensor) -> Replay:
        if positions.is_contiguous():  # a row of one chain, spread out, has the pointer too
            pointer = positions.data_ptr()
            replay = self._in_place.get(pointer)
            if replay is not None:
                return replay
            if pointer in self._residents:
                self._in_place[pointer] = self._recipe.reading(_same_memory(positions))
                return self._in_place[pointer]
        if self._elsewhere is None:
            place = self._recipe.room.tensor("position", positions)
            self._elsewhere = self._recipe.reading(place)
        return self._elsewhere

    def __call__(self, positions: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        replay = self._replay(positions)
        rows = index.reshape(-1)
        for leaf, place in self._long:
            torch.index_select(leaf, 0, rows, out=place)
        if self._short:
            index_array = rows.numpy()
            for table, room in self._short:
                pick_rows(table, index_array, room)
        if replay is self._elsewhere:
            replay.inputs[0].copy_(positions)
        return replay()


class _InPieces:
    """Replays on the parts of a batch, one after another, whose results are added up.

    Or all subtracted from the gradient that is there.
    """

    def __init__(self, of_part: _OnSamples, pieces: int, *, subtracted: bool = False) -> None:
        share = -1.0 / pieces if subtracted else 1.0 / pieces
        self._first, self._rest = (of_part.adding(share, adds) for adds in (subtracted, True))
        self._pieces = pieces

    def writes_to(self, gradient: Tensor) -> bool:
        """Whether that is where the gradient is added up."""
        return self._first.writes_to(gradient)

    def forget(self, pointer: int) -> None:
        """Positions are no longer there."""
        for one in (self._first, self._rest):
            one.forget(pointer)

    def give_up_copy(self) -> None:
        """Lay out the place that positions are copied to only when it is needed again."""
        for one in (self._first, self._rest):
            one.give_up_copy()

    def __call__(self, positions: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        first, *rest = index.chunk(self._pieces, dim=-1)
        losses, gradient = self._first(positions, first)
        losses = losses.clone()
        for part in rest:
            losses.add_(self._rest(positions, part)[0])
        return losses.div_(self._pieces), gradient


def _same_memory(tensor: Tensor) -> Tensor:
    """Another tensor of this memory, which does not keep the first one alive."""
    return torch.empty(0, dtype=tensor.dtype).set_(
        tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()
    )


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
