"""The losses of several chains, and their gradients, over batches or all samples.

What lives here: `LossLandscape`. What does not: the loss of one chain (`vector_loss`), how
gradients are computed (`executor`), temperature and localisation (`posterior`), and random numbers
(`samplers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from emergence_stats.degeneracy.executor import (
    Evaluation,
    Executor,
    choose_evaluation,
    count_operations,
)
from emergence_stats.degeneracy.landscape.objective import LossFunction
from emergence_stats.degeneracy.landscape.sample_losses import sample_losses_at
from emergence_stats.degeneracy.landscape.vector_loss import VectorLoss
from emergence_stats.errors import InputError

# Bytes that samples evaluated together may keep for their gradient: where the data are gone through
# in chunks of our own, and where a batch, or chains beside one another, were not asked for.
_CHUNK, _UNASKED = 2**28, 2**31
_USUAL_BATCH = 64
_FEW = 4  # samples on which it is tried whether chains can be evaluated together


class LossLandscape:
    """What is the loss, and its gradient, at any setting of the moving parameters?

    Parameters
    ----------
    model : nn.Module
        Copied; parameters with ``requires_grad=False`` stay where they are.
    loss_fn : callable
        ``loss_fn(model, batch)`` returns the mean loss over the samples of `batch`, a scalar. It is
        copied if it is a module. None takes the loss that ``model(**batch)`` returns.
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
        L_n(w*): over all samples, or, where the loss of a batch is not the mean of its samples'
        losses, the mean loss of batches drawn at random.
    affordable_batch : int
        So many samples together keep two gigabytes for their gradient; at least one.
    chains_stacked : bool
        Whether chains are evaluated together with `torch.func.vmap`.
    chains_stacked_because : str
        Why they are or are not.
    operations_per_sample : float
        Floating-point operations of a forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction | None,
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
        self.device = self.centre.device
        self.samples = self._of_one.samples
        self.num_samples = self.samples.num_samples
        self.max_chains_at_once = None if max_chains_at_once is None else int(max_chains_at_once)
        each = self._of_one.bytes_per_sample()
        self._affordable = max(1, int(_UNASKED / each))  # also of more than there are, by chains
        self.affordable_batch = min(self.num_samples, self._affordable)
        usual = min(_USUAL_BATCH, self.affordable_batch)
        self.batch_size = min(usual if batch_size is None else int(batch_size), self.num_samples)
        elements = self.samples.numbers_in_one
        few = min(max(64, 2**17 // max(elements, 1)), max(1, int(_CHUNK / each)))
        self._chunk = max(self.batch_size, min(self.num_samples, few))
        self._of_one.check(min(self.batch_size, self.affordable_batch))
        evaluation = self._choose_evaluation(chains_stacked)
        self.chains_stacked, self.chains_stacked_because = evaluation
        self._executor = Executor(self._of_one.of_vector, stacked=self.chains_stacked)
        self.operations_per_sample = self._count_operations()
        rows = torch.arange(self.num_samples, device=self.device)
        self._chunks = rows.split(self._chunk)
        self._centre_sample_losses = sample_losses_at(
            self.loss_at, self.as_dict(self.centre), self.samples, self._chunks, self.batch_size
        )
        if self._centre_sample_losses is None:
            # Of what minibatches are unbiased for: in the order of the data, in which neighbours
            # may be of one length, other weights would fall to the samples.
            generator = torch.Generator().manual_seed(0)
            rows = torch.randperm(self.num_samples, generator=generator).to(self.device)
            self._chunks = rows.tensor_split(-(-self.num_samples // self.batch_size))
        if self._centre_sample_losses is not None:
            self.initial_loss = float(self._centre_sample_losses.double().mean())
        else:
            self.initial_loss = float(self.full_losses(self.centre[None])[0])
        if not torch.isfinite(torch.tensor(self.initial_loss)):
            raise InputError(
                f"the loss at w* over all {self.num_samples} samples is {self.initial_loss}; "
                "some sample gives a loss that is not finite: check data and checkpoint"
            )

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

    def batch_losses(self, positions: Tensor, index: Tensor) -> Tensor:
        """Mean loss of each chain on its own samples, shape (chain,).

        Parameters
        ----------
        positions : Tensor, shape (chain, parameter)
        index : Tensor, shape (chain, batch), or (batch,) for samples all chains share
        """
        shared = index.ndim == 1
        losses = []
        with torch.no_grad():
            for group, rows in self._groups(positions, index):
                parameters, batch = self.as_dict(group), self.samples.take(rows)
                if self.chains_stacked:
                    run = vmap(self.loss_at, in_dims=(0, None if shared else 0))
                    losses.append(run(parameters, batch))
                else:  # of one chain
                    one = self.samples.take(rows if shared else rows[0])
                    losses.append(self.loss_at(self.as_dict(group[0]), one)[None])
        return torch.cat(losses)

    def batch_gradients(self, positions: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (chain,) and its gradient (chain, parameter); arguments as `batch_losses`.

        Samples that all chains share are gone through in chunks.
        """
        shared = index.ndim == 1
        if shared and len(index) > self._chunk:
            losses, gradients = positions.new_zeros(len(positions)), torch.zeros_like(positions)
            for rows in index.split(self._chunk):
                loss, gradient = self.batch_gradients(positions, rows)
                losses.add_(loss, alpha=len(rows) / len(index))
                gradients.add_(gradient, alpha=len(rows) / len(index))
            return losses, gradients
        # In sequence, the executor goes through the chains itself.
        groups = self._groups(positions, index) if self.chains_stacked else [(positions, index)]
        run = self._executor.losses_and_gradients
        found = [run(group, self.samples.take(rows), shared=shared) for group, rows in groups]
        if len(found) == 1:
            return found[0]
        return torch.cat([loss for loss, _ in found]), torch.cat([one for _, one in found])

    def full_losses(self, positions: Tensor) -> Tensor:
        """L_n at each position, over all samples in chunks, shape (chain,), double precision."""
        total = torch.zeros(len(positions), dtype=torch.float64, device=self.device)
        for rows in self.chunks():
            total += self.batch_losses(positions, rows).double() * len(rows)
        return total / self.num_samples

    def full_gradients(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """L_n (chain,) and its gradient (chain, parameter), over all samples in chunks."""
        total = torch.zeros(len(positions), dtype=torch.float64, device=self.device)
        gradient = torch.zeros_like(positions)
        for rows in self.chunks():
            losses, piece = self.batch_gradients(positions, rows)
            total += losses.double() * len(rows)
            gradient.add_(piece, alpha=len(rows) / self.num_samples)
        return total / self.num_samples, gradient

    def excess(self, losses: Tensor, index: Tensor) -> Tensor:
        """How much these losses, of so many chains, exceed those at w* on the same samples.

        Double precision, shape (chain,). The loss at w*, a control variate, is read from per-sample
        losses computed once; it is evaluated anew when the loss of a batch is not the mean of its
        samples' losses.
        """
        known = self._centre_sample_losses
        if known is not None:
            return losses.double() - known[index].double().mean(dim=-1)
        at_centre = self.batch_losses(self.centre.expand(len(losses), -1), index)
        return losses.double() - at_centre.double()

    @property
    def is_mean_over_samples(self) -> bool:
        """Whether the loss of a batch is the mean of its samples' losses, each had by itself."""
        return self._centre_sample_losses is not None

    def sample_losses(self, positions: Tensor, rows: Tensor) -> Tensor:
        """Loss of each of these samples by itself, shape (chain, sample)."""
        batch = self.samples.take(rows[:, None])
        one_by_one = vmap(self.loss_at, in_dims=(None, 0))
        with torch.no_grad():
            return torch.stack([one_by_one(self.as_dict(one), batch) for one in positions])

    def loss_at(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """The loss of a batch with these in the place of the model's own parameters."""
        return self._of_one.of_parameters(parameters, batch)

    def chunks(self) -> list[Tensor]:
        """All samples, as many at a time as are evaluated together.

        Batches drawn at random where the loss of a batch is not a mean over its samples.
        """
        return list(self._chunks)

    # ------------------------------------------------------------------------------ internals

    def _count_operations(self) -> float:
        """Of a forward pass of one sample; of operators that no one counts, two a parameter."""
        few = min(_FEW, self.num_samples)
        counted = count_operations(self._of_one.of_first(few, self.as_dict(self.centre))) / few
        return max(counted, 2.0 * self.num_parameters)

    def _groups(self, positions: Tensor, index: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Chains that are evaluated together, and their samples."""
        size = self.chains_at_once(len(positions))
        if len(positions) <= size:
            return [(positions, index)]
        parts = positions.split(size)
        indices = [index] * len(parts) if index.ndim == 1 else index.split(size)
        return list(zip(parts, indices, strict=True))

    def _choose_evaluation(self, wanted: bool | None) -> Evaluation:
        rows = torch.arange(min(_FEW, self.num_samples), device=self.device)
        pair, own = self.centre.expand(2, -1), rows.expand(2, -1)

        def in_sequence() -> Tensor:
            self.chains_stacked = False
            return self.batch_losses(pair, rows)

        def together() -> Tensor:
            self.chains_stacked = True
            self._executor = Executor(self._of_one.of_vector, stacked=True)
            losses, _ = self.batch_gradients(pair, own)
            # Recurrent layers have other operators, with other rules, where nothing is learned.
            self.batch_losses(pair, own)
            return losses

        number = min(self.batch_size, self.affordable_batch)
        return choose_evaluation(
            together,
            in_sequence,
            self._of_one.of_first(number, self.as_dict(self.centre)),
            wanted=wanted,
            batches=self.batch_size / number if self.device.type == "cpu" else 0.0,
        )
