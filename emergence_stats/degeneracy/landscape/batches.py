"""Data in whatever form the caller has it, as one tree of tensors indexed by sample.

What lives here: reading tensors, a `Dataset` or a `DataLoader` into memory, picking samples out of
it, and checking that there is something to pick. What does not: losses and random numbers.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Sized
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
    default_collate,
)

from emergence_stats.errors import InputError


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
        """Hold the same samples on another device."""
        return self._replace(leaves=[leaf.to(device) for leaf in self.leaves])


def read_samples(data: Any) -> SampleTree:
    """Which samples does `data` hold?

    Parameters
    ----------
    data : Tensor, tuple or dict of tensors, Dataset or DataLoader
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
    if isinstance(data, DataLoader):
        return _from_loader(data)
    if isinstance(data, Dataset):
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


def _from_loader(loader: DataLoader[Any]) -> SampleTree:
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
            loader = DataLoader(
                dataset,
                batch_size=loader.batch_size or 256,
                collate_fn=loader.collate_fn or default_collate,
                num_workers=loader.num_workers,
            )
    try:
        batches = list(loader)
    except RuntimeError as error:
        raise InputError(
            f"data cannot be collated ({str(error).splitlines()[0]}); pad every sample to the same "
            "shape, or give the DataLoader a collate_fn that does"
        ) from error
    if not batches:
        raise InputError("data is empty: the DataLoader yielded no batch")
    batches = [dict(batch) if isinstance(batch, UserDict) else batch for batch in batches]
    flattened = [tree.tree_flatten(batch) for batch in batches]
    spec = flattened[0][1]
    odd = [leaf for leaf in flattened[0][0] if not isinstance(leaf, Tensor)]
    if odd:
        raise InputError(
            f"data yields a {type(odd[0]).__name__} ({str(odd[0])[:30]!r}) in its batches, where "
            "all must be tensors; leave that column out, or give a DataLoader with a collate_fn"
        )
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
