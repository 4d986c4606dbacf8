"""A model, a loss and data as plain functions of flat parameter vectors.

What lives here: the losses and gradients of several chains at once, batched with `torch.func.vmap`
or in sequence. What does not: the loss of one (`vector_loss`), temperature and localisation
(`posterior`), and random numbers (`samplers`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from emergence_stats.degeneracy.batches import SampleTree
from emergence_stats.degeneracy.compiled import excess_at
from emergence_stats.degeneracy.freed import give_back
from emergence_stats.degeneracy.gradients import (
    PIECES_FROM,
    Evaluation,
    Gradients,
    how_to_evaluate,
    pieces_of,
)
from emergence_stats.degeneracy.objective import LossFunction
from emergence_stats.degeneracy.sample_losses import sample_losses_at
from emergence_stats.degeneracy.vector_loss import VectorLoss
from emergence_stats.errors import InputError

# Bytes that samples evaluated together may keep for their gradient: where the data are gone through
# in chunks of our own, and where a batch, or chains beside one another, were not asked for.
_CHUNK, _UNASKED = 2**28, 2**31
_COMPILED = (torch.float32, torch.float64)  # losses that a compiled loop can read
_USUAL_BATCH = 64
# Below so many numbers copying positions to where gradients read them is nothing, and being read in
# place costs as much as a few steps to begin with.
MEMORY_COUNTS_FROM = 2**16
_FEW = 4  # samples on which it is tried whether chains can be evaluated together


class LossLandscape:
    """What is the loss, and its gradient, at any setting of the moving parameters?

    Parameters
    ----------
    model : nn.Module
        Copied; parameters with ``requires_grad=False`` stay where they are.
    loss_fn : callable
        ``loss_fn(model, batch)`` returns the mean loss over the samples of `batch`, a scalar. It is
        copied if it is a module.
    data : Tensor, tuple of tensors, Dataset or DataLoader
        All samples over which the loss is defined.
    parts : sequence of str, or mapping of str to bool tensor, optional
        Parameter names or glob patterns, or masks; only these entries move (`parts`).
    batch_size : int, optional
        Samples in a minibatch; 64 when left out, or as many as are affordable.
    device : torch.device or str, optional
        Where to compute; by default where the model is.
    chains_stacked : bool, optional
        Whether chains are evaluated together; found out when left out.
    max_chains_at_once : int, optional
        Evaluate no more chains than this together.

    Attributes
    ----------
    centre : Tensor, shape (parameter,)
        The moving parameters at w*, single precision unless the model has double precision.
    num_samples : int
        n, the number of samples in `data`.
    initial_loss : float
        L_n(w*) over all samples.
    affordable_batch : int
        So many samples together keep two gigabytes for their gradient; at least one.
    chains_stacked : bool
        Whether chains are evaluated together with `torch.func.vmap`.
    chains_stacked_because : str
        Why, in words.
    rows_per_sample : float
        Rows of a matrix that a sample comes to in most products.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        data: Any,
        *,
        parts: Sequence[str] | Mapping[str, Tensor] | None = None,
        batch_size: int | None = None,
        device: torch.device | str | None = None,
        chains_stacked: bool | None = None,
        max_chains_at_once: int | None = None,
    ) -> None:
        self._of_one = VectorLoss(model, loss_fn, data, parts, device)
        self.names, self.centre = self._of_one.names, self._of_one.centre
        self._size = self.centre.numel()  # asked for at every evaluation
        self.device = self.centre.device
        self.samples: SampleTree = self._of_one.samples
        self.num_samples = self.samples.num_samples
        self.max_chains_at_once = None if max_chains_at_once is None else int(max_chains_at_once)
        each = self._of_one.bytes_per_sample()
        self._affordable = max(1, int(_UNASKED / each))  # also of more than there are, by chains
        self.affordable_batch = min(self.num_samples, self._affordable)
        usual = min(_USUAL_BATCH, self.affordable_batch)
        self.batch_size = min(usual if batch_size is None else int(batch_size), self.num_samples)
        elements = sum(leaf[0].numel() for leaf in self.samples.leaves)
        few = min(max(64, 2**17 // max(elements, 1)), max(1, int(_CHUNK / each)))
        self._chunk = max(self.batch_size, min(self.num_samples, few))
        self._gradients = Gradients(self._of_one.and_gradient, self.samples)
        self._beside: dict[tuple[int, int, bool], LossLandscape] = {}
        self._memory: dict[int, Gradients] = {}  # of those beside this one
        self._whole = False
        self._traceable, self.rows_per_sample = False, 1.0
        self._centre_sample_losses: Tensor | None = None
        self._of_one.check(min(self.batch_size, self.affordable_batch))
        chosen = self._choose_evaluation(chains_stacked)
        self.chains_stacked, self.chains_stacked_because = chosen[:2]
        self._traceable, self.rows_per_sample = chosen[2:]
        give_back(self._size)
        self._centre_sample_losses = sample_losses_at(
            self._loss, self.as_dict(self.centre), self.samples, self._chunks(), self.batch_size
        )
        if self._centre_sample_losses is not None:
            self.initial_loss = float(self._centre_sample_losses.double().mean())
        else:
            self.initial_loss = float(self.full_losses(self.centre[None])[0])
        if not torch.isfinite(torch.tensor(self.initial_loss)):
            raise InputError(
                f"the loss at w* over all {self.num_samples} samples is {self.initial_loss}; "
                "some sample gives a loss that is not finite: check data and checkpoint"
            )
        give_back(self.num_parameters)

    @property
    def num_parameters(self) -> int:
        """How many numbers move."""
        return int(self.centre.numel())

    def chains_at_once(self, num_chains: int) -> int:
        """How many of so many chains are evaluated together: all, as many as allowed, or one."""
        if not self.chains_stacked:
            return 1
        if self.max_chains_at_once is not None:
            return min(num_chains, self.max_chains_at_once)
        return min(num_chains, max(1, self._affordable // self.batch_size))

    def as_dict(self, position: Tensor) -> dict[str, Tensor]:
        """The same position as named parameters; leading dimensions are kept."""
        return self._of_one.as_dict(position)

    def beside(self, number: int, at_once: int, *, whole: bool = False) -> LossLandscape:
        """The same landscape with memory of its own for gradients, for use on another thread.

        Parameters
        ----------
        number : int
            Which: asked for again, it has the same memory and the traces it has made, and with
            the same arguments is the same one. Number 0 has the memory and the traces of this one,
            which therefore has to rest meanwhile.
        at_once : int
            Chains that it evaluates together, at most.
        whole : bool
            Whether batches are never gone through in parts, which take less memory and, at a
            million parameters and batch 512, a tenth more time.
        """
        key = number, at_once, whole
        if key not in self._beside:
            other = copy.copy(self)
            other.max_chains_at_once, other._whole = at_once, whole
            if number > 0:
                if number not in self._memory:
                    self._memory[number] = self._gradients.beside()
                other._gradients, other._beside, other._memory = self._memory[number], {}, {}
            self._beside[key] = other
        return self._beside[key]

    def rest(self) -> None:
        """Give up memory for gradients until they are asked for again.

        Of a landscape beside another, which has the traces to lay it out anew.
        """
        self._gradients.rest()

    def scratch(self, like: Tensor) -> Tensor:
        """A tensor of this shape and type to write to, the same one each time."""
        return self._gradients.scratch(like)

    def is_traced(self, num_chains: int, batch_size: int) -> bool:
        """Whether gradients of so many chains, each on its own batch, are operators alone by now.

        Neither the model nor the loss function is called any more.
        """
        if not self.is_mean_over_samples:
            return False  # the loss at w* is evaluated for every batch
        size = self.num_parameters
        if self.chains_stacked:
            pieces = self._pieces(num_chains, batch_size)
            shapes = (num_chains, size), (num_chains, batch_size)
            return self._gradients.on_own_batches.is_traced(*shapes, pieces)
        shape, pieces = ((size,), (batch_size,)), self._pieces(1, batch_size)
        return self._traceable and self._gradients.of_one_chain.is_traced(*shape, pieces)

    def batch_losses(self, positions: Tensor, index: Tensor) -> Tensor:
        """Mean loss of each chain on its own samples, shape (chain,).

        Parameters
        ----------
        positions : Tensor, shape (chain, parameter)
        index : Tensor, shape (chain, batch), or (batch,) for samples all chains share
        """
        groups = self._groups(positions, index)
        if len(groups) > 1:
            return torch.cat([self.batch_losses(*group) for group in groups])
        with torch.no_grad():
            if self.chains_stacked:
                batch = self.samples.take(index)
                run = vmap(self._loss, in_dims=(0, None if index.ndim == 1 else 0))
                return run(self.as_dict(positions), batch)
            return torch.stack(
                [
                    self._loss(self.as_dict(position), self.samples.take(rows))
                    for position, rows in zip(positions, _rows(index, len(positions)), strict=True)
                ]
            )

    def batch_gradients(self, positions: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (chain,) and its gradient (chain, parameter); arguments as `batch_losses`.

        Samples that all chains share are gone through in chunks.
        """
        if index.ndim == 1 and len(index) > self._chunk:
            gradient = torch.zeros_like(positions)
            return self.add_gradients(positions, index, gradient), gradient
        losses, gradient = self.passing_gradients(positions, index)
        if len(positions) > self.chains_at_once(len(positions)):  # then they are not passing
            return losses, gradient
        return losses.clone(), gradient.clone()

    def shared_gradients(self, positions: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`batch_gradients` of samples that all chains share, valid until the next evaluation."""
        if len(rows) > self._chunk:
            return self.batch_gradients(positions, rows)
        return self.passing_gradients(positions, rows)

    def passing_gradients(self, positions: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """`batch_gradients` in memory that the next evaluation may write to."""
        at_once = self.chains_at_once(positions.shape[0])
        if positions.shape[0] > at_once:
            losses, gradients = [], torch.empty_like(positions)
            indices = (
                [index] * -(-len(positions) // at_once)
                if index.ndim == 1
                else list(index.split(at_once))
            )
            groups = zip(positions.split(at_once), gradients.split(at_once), indices, strict=True)
            for group, place, rows in groups:
                loss, gradient = self.passing_gradients(group, rows)
                losses.append(loss.clone())
                place.copy_(gradient)
            return torch.cat(losses), gradients
        if self.chains_stacked:
            known = self._gradients
            run = known.on_shared_batch if index.ndim == 1 else known.on_own_batches
            count = self._pieces(positions.shape[0], index.shape[-1])
            return run(positions, index, count, at_once=self._whole)
        rows = index if index.ndim == 1 else index[0]
        if self._traceable:
            run, count = self._gradients.of_one_chain, self._pieces(1, len(rows))
            loss, gradient = run(positions[0], rows, count, at_once=self._whole)
            return loss[None], gradient[None]
        loss, gradient = self._of_one.and_gradient_by_autograd(positions[0], rows)
        return loss[None], gradient[None]

    def subtract_gradients(
        self, positions: Tensor, index: Tensor, gradients: Tensor
    ) -> Tensor | None:
        """Take those of other batches from what `passing_gradients` returned, without more memory.

        Returns the losses (chain,); None where it cannot be done, and nothing was.
        """
        if len(positions) > self.chains_at_once(len(positions)):
            return None
        pieces = self._pieces(len(positions), index.shape[-1])
        if self.chains_stacked:
            return self._gradients.on_own_batches.subtract(positions, index, pieces, gradients)
        if not self._traceable:
            return None
        run = self._gradients.of_one_chain
        loss = run.subtract(positions[0], index[0], pieces, gradients)
        return None if loss is None else loss[None]

    def add_gradients(
        self, positions: Tensor, rows: Tensor, total: Tensor, factor: Tensor | None = None
    ) -> Tensor:
        """Add the gradients of samples that all chains share to `total`, a chunk at a time.

        Each multiplied by the chain's `factor` (chain, 1), if given. Returns the losses (chain,).
        """
        mean = positions.new_zeros(len(positions))
        for chunk in rows.split(self._chunk):
            share = len(chunk) / len(rows)
            losses, piece = self.passing_gradients(positions, chunk)
            mean.add_(losses, alpha=share)
            if factor is None:
                total.add_(piece, alpha=share)
            else:
                total.addcmul_(piece, factor, value=share)
        return mean

    def evaluate_in_place(self, holder: Tensor) -> None:
        """Evaluate positions (chain, parameter) in this memory without a copy, while it exists."""
        self._gradients.evaluate_in_place(holder)

    def full_losses(self, positions: Tensor) -> Tensor:
        """L_n at each position, over all samples in chunks, shape (chain,), double precision."""
        total = torch.zeros(len(positions), dtype=torch.float64, device=self.device)
        for rows in self._chunks():
            total += self.batch_losses(positions, rows).double() * len(rows)
        return total / self.num_samples

    def full_gradients(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """L_n (chain,) and its gradient (chain, parameter), over all samples in chunks."""
        total = torch.zeros(len(positions), dtype=torch.float64, device=self.device)
        gradient = torch.zeros_like(positions)
        for rows in self._chunks():
            losses, piece = self.passing_gradients(positions, rows)
            total += losses.double() * len(rows)
            gradient.add_(piece, alpha=len(rows) / self.num_samples)
        return total / self.num_samples, gradient

    def centre_losses(self, index: Tensor) -> Tensor:
        """Mean loss at w* on the same samples, shape (chain,): the control variate.

        Read from per-sample losses computed once; evaluated anew when the loss of a batch is not
        the mean of its samples' losses.
        """
        known = self._centre_sample_losses
        if known is not None:
            return known[index].double().mean(dim=-1)
        chains = index.shape[0] if index.ndim == 2 else 1
        return self.batch_losses(self.centre.expand(chains, -1), index).double()

    def excess(self, losses: Tensor, index: Tensor) -> Tensor:
        """How much these losses, of so many chains, exceed those at w* on the same samples.

        Double precision, shape (chain,).
        """
        known = self._centre_sample_losses
        compiled = index.ndim == 2 and index.device.type == "cpu" and losses.dtype in _COMPILED
        if compiled and known is not None and known.dtype in _COMPILED:
            found = torch.empty(len(index), dtype=torch.float64)
            excess_at(losses.numpy(), known.numpy(), index.numpy(), found.numpy())
            return found
        return losses.double() - self.centre_losses(index)

    @property
    def is_mean_over_samples(self) -> bool:
        """Whether the loss of a batch is the mean of its samples' losses, each had by itself."""
        return self._centre_sample_losses is not None

    def sample_losses(self, positions: Tensor, rows: Tensor) -> Tensor:
        """Loss of each of these samples by itself, shape (chain, sample)."""
        batch = self.samples.take(rows[:, None])
        one_by_one = vmap(self._loss, in_dims=(None, 0))
        with torch.no_grad():
            return torch.stack([one_by_one(self.as_dict(one), batch) for one in positions])

    # ------------------------------------------------------------------------------ internals

    def _pieces(self, num_chains: int, rows: int) -> int:
        few = num_chains * self._size < PIECES_FROM
        if few or self._whole or self.device.type != "cpu" or not self.is_mean_over_samples:
            return 1
        return pieces_of(rows, self.rows_per_sample)

    def _groups(self, positions: Tensor, index: Tensor) -> list[tuple[Tensor, Tensor]]:
        size = self.chains_at_once(len(positions))
        if len(positions) <= size or not self.chains_stacked:
            return [(positions, index)]
        parts = positions.split(size)
        indices = [index] * len(parts) if index.ndim == 1 else index.split(size)
        return list(zip(parts, indices, strict=True))

    def _loss(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        return self._of_one.of_parameters(parameters, batch)

    def _chunks(self) -> list[Tensor]:
        return list(torch.arange(self.num_samples, device=self.device).split(self._chunk))

    def _choose_evaluation(self, wanted: bool | None) -> Evaluation:
        rows = torch.arange(min(_FEW, self.num_samples), device=self.device)
        pair, own = self.centre.expand(2, -1), rows.expand(2, -1)

        def in_sequence() -> Tensor:
            self.chains_stacked = False
            return self.batch_losses(pair, rows)

        def together() -> Tensor:
            self.chains_stacked = True
            losses, _ = self.batch_gradients(pair, own)
            # Recurrent layers have other operators, with other rules, where nothing is learned.
            self.batch_losses(pair, own)
            return losses

        number = min(self.batch_size, self.affordable_batch)
        return how_to_evaluate(
            together,
            in_sequence,
            self._of_one.of_first(number, self.as_dict(self.centre)),
            wanted=wanted,
            batches=self.batch_size / number if self.device.type == "cpu" else 0.0,
            numbers=self.num_parameters * self.batch_size,
        )


def _rows(index: Tensor, chains: int) -> Sequence[Tensor]:
    return [index] * chains if index.ndim == 1 else list(index)
