"""Model and loss as one module that holds still.

What lives here: the copy of both that is evaluated, where and in which precision; the kernels it is
evaluated with; whether such a loss can be used; and what a sample takes in memory. What does not:
the loss as a function of a flat vector, and chains of it (`landscape`).

The caller's model is copied once and never written to, and so is a loss that is a module itself.
The copies are in evaluation mode, so dropout is off and running statistics stay as they are: a
landscape must not change under the walker.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from emergence_stats.degeneracy.parts import unwrapped
from emergence_stats.errors import InputError, first_line

LossFunction = Callable[[nn.Module, Any], Tensor]
# Relative; rounding of kernels that add in no fixed order stays below, random numbers do not.
_SAME_LOSS = 1e-5
_LOCK, _put_back, _users = threading.Lock(), ExitStack(), 0


class Objective(nn.Module):
    """Model and loss in one module, so that parameters can be swapped for the whole computation."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Any) -> Tensor:
        """The mean loss over a batch."""
        return self.loss_fn(self.model, batch)


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss that a model returns with its outputs, as those of Hugging Face do given labels."""
    if not isinstance(batch, Mapping):
        raise InputError(
            "loss_fn is None, so the model is called as model(**batch) and data must map the names "
            f"of its arguments to tensors; a batch is a {type(batch).__name__}: give a dict, or a "
            "loss_fn"
        )
    try:
        found = model(**batch)
    except TypeError as error:
        raise InputError(
            f"loss_fn is None, and the model called as model(**batch) says {first_line(error)}; "
            f"the columns of data ({', '.join(map(str, batch))}) must be its arguments"
        ) from error
    loss = found.get("loss") if isinstance(found, Mapping) else getattr(found, "loss", None)
    if not isinstance(loss, Tensor):
        raise InputError(
            f"loss_fn is None, and the model returned a {type(found).__name__} without a loss; "
            "put labels into data, or give a loss_fn"
        )
    return loss


def copied(
    model: nn.Module, loss_fn: LossFunction | None, device: torch.device | str | None
) -> Objective:
    """A copy of both that is never trained, in single precision where the model has less.

    Raises
    ------
    InputError
        If either is not what it should be, or the device cannot be used.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    model, _ = unwrapped(model)
    loss_fn = own_loss if loss_fn is None else loss_fn
    _check_signature(loss_fn)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "model: compiled by torch.jit, in which parameters cannot be replaced; give the module "
            "that was scripted or traced"
        )
    # Together: a loss that holds the model itself goes on doing so.
    both = (model, loss_fn) if isinstance(loss_fn, nn.Module) else (model,)
    try:
        copies = copy.deepcopy(both)
    except Exception as error:
        raise InputError(
            f"model: cannot be copied ({first_line(error)}). Weight or spectral norm of torch.nn."
            "utils: use torch.nn.utils.parametrizations; a stored activation: detach it; a lock, "
            "logger or open file: take it off the module"
        ) from error
    objective = Objective(copies[0], copies[1] if len(copies) == 2 else loss_fn)
    if device is not None:
        objective.to(_usable(device))
    for module in objective.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # all parameters are in one vector, and so is the gradient
    for tensor in (*objective.parameters(), *objective.buffers()):
        _check_place(tensor.device)
        tensor.data = in_single_precision(tensor.data)
    return objective.eval().requires_grad_(False)


def in_single_precision(tensor: Tensor) -> Tensor:
    """The same, in single precision where it has less.

    A chain moves by less than half precision can tell from standing still, and the loss times
    n*beta is wanted to better than one.
    """
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def _check_signature(loss_fn: Any) -> None:
    if not callable(loss_fn):
        raise InputError(f"loss_fn must be callable, got {type(loss_fn).__name__}")
    called = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    takes_two = not isinstance(loss_fn, nn.modules.loss._Loss)  # these take outputs and targets
    try:
        inspect.signature(called).bind(None, None)
    except TypeError:
        takes_two = False
    except ValueError:  # no signature to be had
        pass
    if not takes_two:
        name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
        raise InputError(
            f"loss_fn: {name} does not take the model and a batch; give a function such as "
            "`def loss_fn(model, batch): return mean_loss(model(batch[0]), batch[1])`"
        )


def _usable(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"device: PyTorch knows no {device!r} ({first_line(error)}); give 'cpu' or 'cuda'"
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device: {str(found)!r} was asked for and PyTorch sees no GPU; use 'cpu'")
    _check_place(found)
    return found


def _check_place(device: torch.device) -> None:
    if device.type == "mps":
        raise InputError(
            "device: 'mps' has no double precision, in which losses are added up; give device='cpu'"
        )
    if device.type == "meta":
        raise InputError("model: its parameters are on the meta device; load a checkpoint into it")


@contextmanager
def _settings_of_the_process() -> Iterator[None]:
    """Settings that all threads share: the first estimate changes them, the last puts them back."""
    global _users
    with _LOCK:
        if not _users:
            fused = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
            _put_back.callback(torch.backends.mha.set_fastpath_enabled, fused)
            _put_back.enter_context(sdpa_kernel(SDPBackend.MATH))
            if "torch._dynamo" in sys.modules:  # else nothing is compiled, and it loads for seconds
                _put_back.enter_context(torch.compiler.set_stance("force_eager"))
            precision = torch.get_float32_matmul_precision()
            if precision != "highest":
                torch.set_float32_matmul_precision("highest")
                _put_back.callback(torch.set_float32_matmul_precision, precision)
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if not _users:
                _put_back.close()


@contextmanager
def plain_kernels(model: nn.Module) -> Iterator[None]:
    """Kernels that can be differentiated in evaluation mode, batched, and round as they should.

    Attention's fused path, which only inference takes, would give the loss at w* by other sums than
    elsewhere; its fused kernels can be neither batched nor differentiated twice, nor can what
    `torch.compile` makes be batched. cuDNN's recurrent layers have no gradient in evaluation mode.
    Products rounded to ten bits (TF32) hide differences of neighbouring gradients.
    """
    with ExitStack() as stack:
        stack.enter_context(_settings_of_the_process())
        if torch.cuda.is_available():
            recurrent = any(isinstance(module, nn.RNNBase) for module in _modules(model))
            cudnn = torch.backends.cudnn
            stack.enter_context(
                cudnn.flags(
                    enabled=cudnn.enabled and not recurrent,
                    benchmark=cudnn.benchmark,
                    deterministic=cudnn.deterministic,
                    allow_tf32=False,
                )
            )
        yield


def _modules(model: Any) -> Iterator[nn.Module]:
    return model.modules() if isinstance(model, nn.Module) else iter(())


def with_plain_kernels[**Given, Found](estimate: Callable[Given, Found]) -> Callable[Given, Found]:
    """The same function of a model and more, under `plain_kernels`."""

    @functools.wraps(estimate)
    def run(*given: Given.args, **named: Given.kwargs) -> Found:
        model: Any = given[0] if given else named.get("model")
        with plain_kernels(model):
            return estimate(*given, **named)

    return run


def check_loss(evaluate: Callable[[], Any], leaves: Mapping[str, Tensor], num_samples: int) -> None:
    """Raise an InputError unless this loss can be used.

    Parameters
    ----------
    evaluate : callable
        The loss at w* on some samples, with a graph that leads back to the leaves.
    leaves : mapping of str to Tensor
        The parameters that move.
    num_samples : int
        How many samples these are.
    """
    try:
        with torch.enable_grad():
            loss = evaluate()
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"loss_fn(model, batch) failed on a batch of {num_samples} samples "
            f"({first_line(error)}); a batch has the structure of data, and model and data are on "
            "one device"
            + (
                ". One of data and model is in double precision: convert it with .float()"
                if "double" in str(error).lower()
                else ", in single precision where they had less"
            )
        ) from error
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
    no_gradient = InputError(
        "the loss has no gradient with respect to the moving parameters; check that "
        "loss_fn uses the model it is given, without torch.no_grad or detach, and that "
        "some of the chosen parameters enter it"
    )
    if not loss.requires_grad:
        raise no_gradient
    first = float(loss.detach())
    if not torch.isfinite(loss):
        raise InputError(f"the loss at w* is {first}; check the checkpoint and the data")
    try:
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"the loss cannot be differentiated ({first_line(error)}); if the model recomputes "
            "activations (torch.utils.checkpoint), switch that off"
        ) from error
    if all(one is None for one in gradients):
        raise no_gradient
    if not all(bool(torch.isfinite(one).all()) for one in gradients if one is not None):
        raise InputError(
            f"the gradient of the loss at w* is not finite, though the loss is {first:.6g}; a "
            "square root, a norm or a logarithm at zero has no gradient there: smooth it"
        )
    with torch.no_grad():
        again = float(evaluate())
    apart = _SAME_LOSS * max(abs(first), abs(again))
    if abs(again - first) <= apart:
        unreached = [name for name, one in zip(leaves, gradients, strict=True) if one is None]
        _check_unused(evaluate, {name: leaves[name] for name in unreached}, first, apart)
    else:
        raise InputError(
            f"the loss at w* on the same {num_samples} samples was {first:.6g} and then "
            f"{again:.6g}: it draws random numbers, and a landscape must hold still. Draw them "
            "once and give them as part of data; dropout as a torch.nn.Dropout is off anyway"
        )


@torch.no_grad()
def _check_unused(
    evaluate: Callable[[], Any], leaves: Mapping[str, Tensor], loss: float, apart: float
) -> None:
    """Refuse parameters that the loss depends on and its gradient does not reach."""
    if not leaves:
        return
    before = {name: leaf.clone() for name, leaf in leaves.items()}
    generator = torch.Generator().manual_seed(0)
    for leaf in leaves.values():
        size = float(leaf.square().mean().sqrt()) or 1.0
        leaf += 0.01 * size * torch.randn(leaf.shape, generator=generator).to(leaf)
    moved = float(evaluate())
    for name, leaf in leaves.items():
        leaf.copy_(before[name])
    if abs(moved - loss) > apart:
        raise InputError(
            f"the loss depends on {', '.join(list(leaves)[:3])}, but its gradient does not reach "
            "there: a detach, rounding, or activations recomputed with use_reentrant=True "
            "(torch.utils.checkpoint; switch it off). Freeze what is not to move, or leave it out "
            "of parts"
        )


def bytes_per_sample(
    evaluate: Callable[[], Any], num_samples: int, held: Sequence[Tensor]
) -> float:
    """What one sample's loss keeps in memory for its gradient, beside parameters; 0 if unknown.

    Parameters
    ----------
    evaluate : callable
        The loss on a few samples, with a graph.
    num_samples : int
        How many.
    held : sequence of Tensor
        What is in memory anyway.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in held}
    seen: dict[int, int] = {}

    def notice(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(notice, lambda one: one):
            evaluate()
    except Exception:  # what is wrong with it, `check_loss` says
        return 0.0
    return sum(seen.values()) / num_samples
