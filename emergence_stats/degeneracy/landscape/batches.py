"""Data in whatever form the caller has it, as one tree of tensors indexed by sample.

What lives here: reading tensors, a `Dataset` or a `DataLoader` into memory or, where it is too
large, as needed; picking samples out of it, and checking that there is something to pick. What does
not: losses and random numbers.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as tree
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from emergence_stats.degeneracy.landscape.objective import in_single_precision
from emergence_stats.errors import InputError, first_line

# Bytes of a data set that are held. A number of its own, not a share of this machine's memory:
# where a sweep is taken up on another machine, its data are told apart in the same way.
_MOST_HELD = 2**32
_FINGERPRINT = 256  # samples by which a data set that is not held is told from others


class SampleTree(NamedTuple):
    """Every sample of the data set, held in memory.

    Attributes
    ----------
    leaves : list of Tensor, each of shape (sample, ...)
        The tensors of a batch, in tree order.
    spec : TreeSpec
        How the leaves are nested in a batch (tuple, dict, a bare tensor).
    num_samples : int
        The common first dimension, n.
    """

    leaves: list[Tensor]
    spec: Any
    num_samples: int

    def take(self, index: Tensor | slice) -> Any:
        """Which batch do these samples make? Leaves keep the shape of `index` in front."""
        return tree.tree_unflatten([leaf[index] for leaf in self.leaves], self.spec)

    def to(self, device: torch.device) -> SampleTree:
        """Hold the same samples on another device, in single precision where they have less."""
        return self._replace(leaves=[in_single_precision(leaf.to(device)) for leaf in self.leaves])

    @property
    def numbers_in_one(self) -> int:
        """How many numbers a sample is."""
        return sum(leaf[0].numel() for leaf in self.leaves)

    def to_send(self) -> Any:
        """What another process is given as its data."""
        return self.take(slice(None))

    def marks(self) -> list[Tensor]:
        """What is the same of two data sets only if they are."""
        return self.leaves


class SamplesAsNeeded:
    """The same of a data set too large to hold: samples are read when they are asked for.

    Parameters
    ----------
    dataset : map-style Dataset
    collate : callable
        Makes a batch of items.
    device : torch.device, optional
        Where batches are put.

    Attributes
    ----------
    num_samples : int
    """

    def __init__(
        self, dataset: Any, collate: Callable[[list[Any]], Any], device: torch.device | None = None
    ) -> None:
        self._dataset, self._collate, self._device = dataset, collate, device
        self.num_samples = len(dataset)

    def take(self, index: Tensor | slice) -> Any:
        """Which batch do these samples make? Leaves have the shape of `index` in front."""
        rows = torch.arange(self.num_samples)[index.cpu() if isinstance(index, Tensor) else index]
        leaves, spec = self._read(rows.flatten().tolist())
        shaped = [
            in_single_precision(leaf.to(self._device)).reshape(*rows.shape, *leaf.shape[1:])
            for leaf in leaves
        ]
        return tree.tree_unflatten(shaped, spec)

    def to(self, device: torch.device) -> SamplesAsNeeded:
        """Batches on another device."""
        return SamplesAsNeeded(self._dataset, self._collate, device)

    @property
    def numbers_in_one(self) -> int:
        """How many numbers a sample is."""
        return sum(leaf.numel() for leaf in self._read([0])[0])

    @property
    def nbytes(self) -> int:
        """What all of them would take in memory, if all are as the first."""
        return self.num_samples * sum(leaf.nbytes for leaf in self._read([0])[0])

    def to_send(self) -> Any:
        """What another process is given as its data."""
        return self

    def marks(self) -> list[Tensor]:
        """Their number, and samples at even distances."""
        number = min(self.num_samples, _FINGERPRINT)
        rows = torch.linspace(0, self.num_samples - 1, number).long().tolist()
        return [torch.tensor(self.num_samples), *self._read(rows)[0]]

    def _read(self, rows: list[int]) -> tuple[list[Tensor], Any]:
        together = getattr(self._dataset, "__getitems__", None)
        items = together(rows) if together else [self._dataset[row] for row in rows]
        try:
            batch = self._collate(items)
        except RuntimeError as error:
            raise _not_collated(error) from error
        batch = dict(batch) if isinstance(batch, UserDict) else batch
        _refuse_others(tree.tree_leaves(batch))
        samples = _checked(batch)
        if samples.num_samples != len(rows):
            raise InputError(
                f"data: of {len(rows)} items its collate_fn made {samples.num_samples} samples"
            )
        return samples.leaves, samples.spec


def _not_collated(error: Exception) -> InputError:
    return InputError(
        f"data cannot be collated ({first_line(error)}); pad every sample to the same shape, or "
        "give the DataLoader a collate_fn that does"
    )


def _refuse_others(leaves: list[Any]) -> None:
    odd = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]
    if odd:
        raise InputError(
            f"data yields a {type(odd[0]).__name__} ({str(odd[0])[:30]!r}) in its batches, where "
            "all must be tensors; leave that column out, or give a DataLoader with a collate_fn"
        )


def read_samples(data: Any) -> SampleTree | SamplesAsNeeded:
    """Which samples does `data` hold?

    Parameters
    ----------
    data : Tensor, tuple or dict of tensors, Dataset or DataLoader
        Also a data set of Hugging Face's `datasets`, with its format set to torch.
        Tensors share their first dimension, the sample. A `Dataset` is collated as a `DataLoader`
        would; a `DataLoader` over an indexable data set is read through that data set once, in
        order, so that shuffling and `drop_last` do not change what n is. Where its sampler chooses
        some of them, each once, the data are those.

    Raises
    ------
    InputError
        If the data are empty, hold something other than tensors, differ in length, or are drawn by
        a sampler that takes some more often than others.
    """
    if isinstance(data, SamplesAsNeeded):
        return data
    if isinstance(data, DataLoader):
        return _from_loader(data)
    if type(data) is TensorDataset:  # held already
        return _checked(list(data.tensors))
    if isinstance(data, Dataset) or hasattr(data, "__getitems__"):
        return _from_loader(DataLoader(data, batch_size=256))
    if isinstance(data, UserDict):  # such as what tokenizers return
        data = dict(data)
    if isinstance(data, Iterable) and not isinstance(data, (Tensor, tuple, list, dict)):
        raise InputError(
            f"data is a {type(data).__name__}; give a tuple of tensors, a Dataset or a DataLoader"
        )
    if isinstance(data, list):
        data = tuple(data)
    return _checked(data)


def _chosen(loader: DataLoader[Any]) -> list[int] | None:
    """The samples that a loader's sampler chooses, in order; None for all."""
    sampler: Any = loader.sampler
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        sampler = loader.batch_sampler
        chosen = [int(index) for batch in sampler for index in batch]
    elif type(sampler) in (SequentialSampler, RandomSampler):
        return None
    else:
        chosen = [int(index) for index in sampler]
    if len(set(chosen)) < len(chosen):
        raise InputError(
            f"data: the loader's {type(sampler).__name__} draws some samples more often than "
            "others, and the loss is a mean over all; give the data set itself, and put weights "
            "into the loss"
        )
    return sorted(chosen)


def _from_loader(loader: DataLoader[Any]) -> SampleTree | SamplesAsNeeded:
    dataset: Any = loader.dataset
    indexable = not isinstance(dataset, IterableDataset) and isinstance(dataset, Sized)
    if indexable:
        if len(dataset) == 0:
            raise InputError("data is empty: the data set has length 0; give at least one sample")
        if loader.batch_size is None and loader.batch_sampler is None:  # its items are batches
            indexable = False
            loader = DataLoader(
                dataset, batch_size=None, collate_fn=loader.collate_fn,
                num_workers=loader.num_workers,
            )  # fmt: skip
        else:
            chosen = _chosen(loader)
            dataset = dataset if chosen is None else Subset(dataset, chosen)
            collate = loader.collate_fn or default_collate
            as_needed = SamplesAsNeeded(dataset, collate)
            if as_needed.nbytes > _MOST_HELD:
                return as_needed
            loader = DataLoader(
                dataset,
                batch_size=loader.batch_size or 256,
                collate_fn=collate,
                num_workers=loader.num_workers,
            )
    try:
        batches = list(loader)
    except RuntimeError as error:
        raise _not_collated(error) from error
    if not batches:
        raise InputError("data is empty: the DataLoader yielded no batch")
    batches = [dict(batch) if isinstance(batch, UserDict) else batch for batch in batches]
    flattened = [tree.tree_flatten(batch) for batch in batches]
    spec = flattened[0][1]
    _refuse_others(flattened[0][0])
    if any(other != spec for _, other in flattened):
        raise InputError("data yields batches of differing structure; make every batch alike")
    columns = list(zip(*(leaves for leaves, _ in flattened), strict=True))
    for column in columns:
        shapes = {tuple(part.shape[1:]) for part in column if isinstance(part, Tensor)}
        if len(shapes) > 1:
            raise InputError(
                f"data has samples of changing length: batches of sample shapes "
                f"{sorted(shapes)[:3]}; pad every sample to the same shape"
            )
    leaves = [
        torch.cat(column) if isinstance(column[0], Tensor) else column[0] for column in columns
    ]
    samples = _checked(tree.tree_unflatten(leaves, spec))
    if indexable and samples.num_samples != len(dataset):
        raise InputError(
            f"data has changing length: the data set says {len(dataset)} samples "
            f"and yielded {samples.num_samples}"
        )
    return samples


def _checked(data: Any) -> SampleTree:
    leaves, spec = tree.tree_flatten(data)
    if not leaves:
        raise InputError("data is empty: it holds no tensor; give a tuple of tensors")
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise InputError(
                f"data holds a {type(leaf).__name__} where a tensor was expected; convert every "
                "entry to a tensor whose first dimension is the sample"
            )
        if leaf.ndim == 0:
            raise InputError("data holds a scalar tensor; the first dimension must be the sample")
    lengths = [int(leaf.shape[0]) for leaf in leaves]
    if len(set(lengths)) > 1:
        raise InputError(
            f"data tensors have differing lengths {lengths}; the first dimension of each must be "
            "the same samples"
        )
    if lengths[0] == 0:
        raise InputError("data is empty: its first dimension is 0; give at least one sample")
    return SampleTree([leaf.detach() for leaf in leaves], spec, lengths[0])
