"""The loss of one chain as a function of a flat vector.

What lives here: `VectorLoss`, which puts a vector into the copy of the model and takes the loss of
a batch. What does not: its gradient (`executor`), the copies of model and loss (`objective`), where
parameters are in the vector (`layout`), and many chains (`landscape`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from emergence_stats.degeneracy.landscape.batches import read_samples
from emergence_stats.degeneracy.landscape.layout import Layout
from emergence_stats.degeneracy.landscape.objective import (
    LossFunction,
    bytes_per_sample,
    check_loss,
    copied,
)
from emergence_stats.degeneracy.parts import moving_parameters

_FEW = 4  # samples from which it is told what one takes in memory


class VectorLoss:
    """What is the loss of a batch where the moving parameters are this vector?

    Parameters
    ----------
    model, loss_fn, data, parts, device
        As `LossLandscape`.

    Attributes
    ----------
    module : Objective
        The copies of model and loss.
    samples : SampleTree or SamplesAsNeeded
        In single precision where floating point has less.
    centre : Tensor, shape (parameter,)
        The moving parameters of the model that was given.
    names : tuple of str
        Of the parameters that move.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction | None,
        data: Any,
        parts: Sequence[str] | Mapping[str, Tensor] | None,
        device: torch.device | str | None,
    ) -> None:
        self.module = copied(model, loss_fn, device)
        moving = moving_parameters(model, parts)
        self._layout = Layout(dict(self.module.model.named_parameters()), moving)
        self.names, self.centre = self._layout.names, self._layout.centre
        self._let_copy_be_the_centre()
        self.samples = read_samples(data).to(self.centre.device)

    def as_dict(self, position: Tensor) -> dict[str, Tensor]:
        """The same position as named parameters; leading dimensions are kept."""
        return self._layout.as_dict(position)

    def of_parameters(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """The loss with these in the place of the model's own."""
        named = {f"model.{name}": value for name, value in parameters.items()}
        return functional_call(self.module, named, (batch,))

    def of_vector(self, position: Tensor, batch: Any) -> Tensor:
        """The loss there."""
        return self.of_parameters(self.as_dict(position), batch)

    def leaves(self, position: Tensor) -> dict[str, Tensor]:
        """The position as named parameters of which gradients are asked."""
        named = self.as_dict(position)
        return {name: value.detach().requires_grad_() for name, value in named.items()}

    def of_first(self, number: int, parameters: dict[str, Tensor]) -> Callable[[], Tensor]:
        """The loss of the first so many samples, when it is called."""
        count = min(number, self.samples.num_samples)
        rows = torch.arange(count, device=self.centre.device)
        return lambda: self.of_parameters(parameters, self.samples.take(rows))

    def bytes_per_sample(self) -> float:
        """What a sample keeps for its gradient, at least one."""
        leaves, number = self.leaves(self.centre), min(_FEW, self.samples.num_samples)
        held = [*leaves.values(), *self.module.parameters(), *self.module.buffers()]
        return max(bytes_per_sample(self.of_first(number, leaves), number, held), 1.0)

    def check(self, number: int) -> None:
        """Raise `InputError` unless the loss of so many samples can be used (`check_loss`)."""
        leaves = self.leaves(self.centre)
        check_loss(self.of_first(number, leaves), leaves, number)

    def _let_copy_be_the_centre(self) -> None:
        # What moves is given anew at each evaluation, so the copy need not hold it a second time.
        parameters = dict(self.module.model.named_parameters())
        place = self.centre.untyped_storage().data_ptr()
        for name, value in self.as_dict(self.centre).items():
            if value.untyped_storage().data_ptr() == place:
                parameters[name].data = value
