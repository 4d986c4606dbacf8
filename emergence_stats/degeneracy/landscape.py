"""A model, a loss and data as plain functions of a flat parameter vector.

What lives here: which parameters move, how they are laid out in one vector, and the losses and
gradients of several chains at once, batched with `torch.func.vmap` or in sequence. What does not:
temperature and localisation (`posterior`), and random numbers (`samplers`).

The caller's model is copied once and never written to. The copy is in evaluation mode, so dropout
is off and running statistics stay as they are: a landscape must not change under the walker.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils.flop_counter import FlopCounterMode

from emergence_stats.degeneracy.batches import SampleTree, read_samples
from emergence_stats.errors import InputError, nearest

# Above this many floating-point operations in one chain's forward pass, a CPU is no longer held up
# by the cost of launching operators and stacked weights only cost memory traffic (measured on a
# 150k-parameter transformer: equal at 1.5e8, sequence 20% faster at 6e8).
_STACKING_PAYS_BELOW = 1e8


class _LossModule(nn.Module):
    """Model and loss in one module, so that parameters can be swapped for the whole computation."""

    def __init__(self, model: nn.Module, loss_fn: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Any) -> Tensor:
        return self.loss_fn(self.model, batch)


class LossLandscape:
    """What is the loss, and its gradient, at any setting of the moving parameters?

    Parameters
    ----------
    model : nn.Module
        Copied; parameters with ``requires_grad=False`` stay where they are.
    loss_fn : callable
        ``loss_fn(model, batch)`` returns the mean loss over the samples of `batch`, a scalar.
    data : Tensor, tuple of tensors, Dataset or DataLoader
        All samples over which the loss is defined.
    parts : sequence of str, optional
        Parameter names or glob patterns; only these parameters move.
    batch_size : int
        Samples in a minibatch; used to choose how chains are evaluated.
    device : torch.device or str, optional
        Where to compute; by default where the model is.

    Attributes
    ----------
    centre : Tensor, shape (parameter,)
        The moving parameters at w*, single precision unless the model has double precision.
    num_samples : int
        n, the number of samples in `data`.
    initial_loss : float
        L_n(w*) over all samples.
    chains_stacked : bool
        Whether chains are evaluated together with `torch.func.vmap`.
    chains_stacked_because : str
        Why, in words.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[nn.Module, Any], Tensor],
        data: Any,
        *,
        parts: Sequence[str] | None = None,
        batch_size: int = 64,
        device: torch.device | str | None = None,
        chains_stacked: bool | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if not callable(loss_fn):
            raise InputError(f"loss_fn must be callable, got {type(loss_fn).__name__}")
        names = _moving_names(model, parts)
        self._module = _LossModule(copy.deepcopy(model), loss_fn).eval()
        if device is not None:
            self._module.to(device)
        self._module.requires_grad_(False)
        parameters = dict(self._module.model.named_parameters())
        self.names = names
        self._shapes = [parameters[name].shape for name in names]
        self._dtypes = [parameters[name].dtype for name in names]
        self._sizes = [parameters[name].numel() for name in names]
        precision = torch.float64 if torch.float64 in self._dtypes else torch.float32
        self.centre = torch.cat([parameters[name].reshape(-1).to(precision) for name in names])
        self.device = self.centre.device
        self.samples: SampleTree = read_samples(data).to(self.device)
        self.num_samples = self.samples.num_samples
        self.batch_size = min(batch_size, self.num_samples)
        elements = sum(leaf[0].numel() for leaf in self.samples.leaves)
        self._chunk = max(
            self.batch_size, min(self.num_samples, max(64, 2**17 // max(elements, 1)))
        )
        self._check_loss()
        self.chains_stacked, self.chains_stacked_because = self._choose_evaluation(chains_stacked)
        self._centre_sample_losses = self._sample_losses_at_centre()
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

    def as_dict(self, position: Tensor) -> dict[str, Tensor]:
        """The same position as named parameters; leading dimensions are kept."""
        pieces = position.split(self._sizes, dim=-1)
        return {
            name: piece.reshape((*position.shape[:-1], *shape)).to(dtype)
            for name, piece, shape, dtype in zip(
                self.names, pieces, self._shapes, self._dtypes, strict=True
            )
        }

    def batch_losses(self, positions: Tensor, index: Tensor) -> Tensor:
        """Mean loss of each chain on its own samples, shape (chain,).

        Parameters
        ----------
        positions : Tensor, shape (chain, parameter)
        index : Tensor, shape (chain, batch), or (batch,) for samples all chains share
        """
        shared = index.ndim == 1
        with torch.no_grad():
            if self.chains_stacked:
                batch = self.samples.take(index)
                run = vmap(self._loss, in_dims=(0, None if shared else 0))
                return run(self.as_dict(positions), batch)
            return torch.stack(
                [
                    self._loss(self.as_dict(position), self.samples.take(rows))
                    for position, rows in zip(positions, _rows(index, len(positions)), strict=True)
                ]
            )

    def batch_gradients(self, positions: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (chain,) and its gradient (chain, parameter); arguments as `batch_losses`."""
        if self.chains_stacked:
            batch = self.samples.take(index)
            run = vmap(grad_and_value(self._loss), in_dims=(0, None if index.ndim == 1 else 0))
            gradients, losses = run(self.as_dict(positions), batch)
            flat = [gradients[name].reshape(len(positions), -1) for name in self.names]
            return losses, torch.cat([piece.to(positions.dtype) for piece in flat], dim=1)
        losses_list = []
        rows_of_gradient = torch.empty_like(positions)
        for chain, rows in enumerate(_rows(index, len(positions))):
            loss, pieces = self._loss_and_pieces(positions[chain], rows)
            losses_list.append(loss)
            torch.cat([piece.reshape(-1) for piece in pieces], out=rows_of_gradient[chain])
        return torch.stack(losses_list), rows_of_gradient

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
            losses, piece = self.batch_gradients(positions, rows)
            total += losses.double() * len(rows)
            gradient.add_(piece, alpha=len(rows) / self.num_samples)
        return total / self.num_samples, gradient

    def centre_losses(self, index: Tensor) -> Tensor:
        """Mean loss at w* on the same samples, shape (chain,): the control variate.

        Read from per-sample losses computed once; evaluated anew when the loss of a batch is not
        the mean of its samples' losses.
        """
        if self._centre_sample_losses is not None:
            return self._centre_sample_losses[index].double().mean(dim=-1)
        chains = index.shape[0] if index.ndim == 2 else 1
        return self.batch_losses(self.centre.expand(chains, -1), index).double()

    # ------------------------------------------------------------------------------ internals

    def _loss(self, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        named = {f"model.{name}": value for name, value in parameters.items()}
        return functional_call(self._module, named, (batch,))

    def _loss_and_pieces(self, position: Tensor, rows: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaves = {
            name: value.detach().requires_grad_() for name, value in self.as_dict(position).items()
        }
        with torch.enable_grad():
            loss = self._loss(leaves, self.samples.take(rows))
            pieces = torch.autograd.grad(
                loss, list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        return loss.detach(), pieces

    def _chunks(self) -> list[Tensor]:
        return list(torch.arange(self.num_samples, device=self.device).split(self._chunk))

    def _check_loss(self) -> None:
        rows = torch.arange(self.batch_size, device=self.device)
        leaves = {
            name: value.detach().requires_grad_()
            for name, value in self.as_dict(self.centre).items()
        }
        with torch.enable_grad():
            loss = self._loss(leaves, self.samples.take(rows))
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            got = (
                f"a tensor of shape {tuple(loss.shape)}"
                if isinstance(loss, Tensor)
                else f"a {type(loss).__name__}"
            )
            raise InputError(
                f"loss_fn must return a scalar tensor, the mean loss over the batch; it returned "
                f"{got}: take its mean"
            )
        if not loss.requires_grad:
            raise InputError(
                "the loss has no gradient with respect to the moving parameters; check that "
                "loss_fn uses the model it is given, without torch.no_grad or detach, and that "
                "some of the chosen parameters enter it"
            )
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss at w* is {float(loss.detach())}; check the checkpoint and the data"
            )

    def _choose_evaluation(self, wanted: bool | None) -> tuple[bool, str]:
        if wanted is False:
            return False, "in sequence, as asked"
        rows = torch.arange(min(4, self.num_samples), device=self.device)
        pair = self.centre.expand(2, -1)
        self.chains_stacked = False
        reference = self.batch_losses(pair, rows)
        self.chains_stacked = True
        # torch.func refuses what it cannot batch with many kinds of error (in-place writes, data-
        # dependent control flow, random numbers), and each of them means the same thing here.
        try:
            stacked, _ = self.batch_gradients(pair, rows.expand(2, -1))
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            return False, f"in sequence: torch.func.vmap cannot batch this model ({reason})"
        if not torch.allclose(stacked, reference, rtol=1e-3, atol=1e-6):
            return False, "in sequence: batched evaluation gave another loss"
        if wanted is None and self.device.type == "cpu":
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                first = torch.arange(self.batch_size, device=self.device)
                self._loss(self.as_dict(self.centre), self.samples.take(first))
            operations = counter.get_total_flops()
            if operations > _STACKING_PAYS_BELOW:
                return False, (
                    f"in sequence: {operations:.1e} operations a forward pass keep this CPU busy"
                )
        return True, "together with torch.func.vmap"

    def _sample_losses_at_centre(self) -> Tensor | None:
        parameters = self.as_dict(self.centre)
        pieces: list[Tensor] = []
        try:
            with torch.no_grad():
                one_by_one = vmap(self._loss, in_dims=(None, 0))
                for rows in self._chunks():
                    pieces.append(one_by_one(parameters, self.samples.take(rows[:, None])))
                    if len(pieces) == 1:
                        together = self._loss(parameters, self.samples.take(rows)).double()
                        separate = pieces[0].double().mean()
                        # Equal up to rounding, or the loss is not a mean over samples.
                        scale = max(float(pieces[0].double().abs().mean()), 1e-12)
                        if not float((together - separate).abs()) <= 1e-4 * scale:
                            return None
        except Exception:  # as above: whatever vmap refuses is evaluated batch by batch instead
            return None
        return torch.cat(pieces)


def _rows(index: Tensor, chains: int) -> Sequence[Tensor]:
    return [index] * chains if index.ndim == 1 else list(index)


def _moving_names(model: nn.Module, parts: Sequence[str] | None) -> list[str]:
    """Which parameters move, in the model's own order, each once however often it is tied."""
    unique = dict(model.named_parameters())
    if not unique:
        raise InputError("model has no parameters; there is nothing to sample")
    by_identity = {id(parameter): name for name, parameter in unique.items()}
    aliases = {
        name: by_identity[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    complex_names = [name for name, parameter in unique.items() if parameter.is_complex()]
    if complex_names:
        raise InputError(f"parameter {complex_names[0]!r} is complex; only real parameters move")
    if parts is None:
        chosen = set(unique)
    else:
        if isinstance(parts, str):
            raise InputError(
                f"parts must be a list of names, got the string {parts!r}: [{parts!r}]"
            )
        chosen = set()
        for pattern in parts:
            if not isinstance(pattern, str):
                raise InputError(f"parts holds {pattern!r}; give parameter names or glob patterns")
            matches = [name for name in aliases if fnmatch.fnmatchcase(name, pattern)]
            if not matches:
                raise InputError(
                    f"parts: no parameter matches {pattern!r}{nearest(pattern, aliases)}"
                )
            chosen.update(aliases[name] for name in matches)
        if not chosen:
            raise InputError("parts is empty; name at least one parameter, or give None for all")
    moving = [name for name in unique if name in chosen and unique[name].requires_grad]
    if not moving:
        raise InputError(
            f"every chosen parameter is frozen (requires_grad=False): {sorted(chosen)[:3]}; "
            "unfreeze those that should move"
        )
    if not all(bool(torch.isfinite(unique[name]).all()) for name in moving):
        bad = next(name for name in moving if not bool(torch.isfinite(unique[name]).all()))
        raise InputError(f"parameter {bad!r} holds NaN or infinity at w*; check the checkpoint")
    return moving
