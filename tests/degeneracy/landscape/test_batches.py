"""The forms in which data come."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from known_landscapes import linear_problem, squared_error
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from emergence_stats import estimate_llc, sweep_llc
from emergence_stats.degeneracy.landscape import batches
from emergence_stats.degeneracy.landscape.batches import SamplesAsNeeded, read_samples
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data[0])

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": self.data[0][i], "y": self.data[1][i]}


def test_tensors_datasets_and_loaders_give_the_same_answer() -> None:
    model, data, _ = linear_problem(num_samples=300)

    def by_name(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return squared_error(model, (batch["x"], batch["y"]))

    options = {"num_draws": 20, "progress": False}
    reference = estimate_llc(model, squared_error, data, **options)
    pairs = TensorDataset(*data)
    shuffled = DataLoader(pairs, batch_size=32, shuffle=True, drop_last=True)
    assert estimate_llc(model, squared_error, pairs, **options).llc == reference.llc
    assert estimate_llc(model, squared_error, shuffled, **options).llc == reference.llc
    assert estimate_llc(model, by_name, Rows(data), **options).llc == reference.llc


class Uneven(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self):  # type: ignore[no-untyped-def]
        for length in (3, 4):
            yield torch.zeros(length), torch.zeros(1)


def _bad_data() -> list[tuple[object, str]]:
    return [
        ((torch.zeros(0, 6), torch.zeros(0, 1)), "empty"),
        ((torch.zeros(5, 6), torch.zeros(4, 1)), r"differing lengths \[5, 4\]"),
        ((), "empty"),
        ((torch.zeros(5, 6), "labels"), "holds a str"),
        ((torch.tensor(1.0),), "scalar tensor"),
        (TensorDataset(torch.zeros(0, 6)), "first dimension is 0"),
        (DataLoader(TensorDataset(torch.zeros(0, 6))), "length 0"),
        (DataLoader(Uneven(), batch_size=1), "changing length"),
        (DataLoader(Uneven(), batch_size=2), "cannot be collated"),
        ((torch.zeros(2, 6), torch.zeros(2, 1)), "too few for beta"),
    ]


@pytest.mark.parametrize(("data", "message"), _bad_data())
def test_bad_data_are_named(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate_llc(nn.Linear(6, 1, bias=False), squared_error, data, progress=False)


class Counted(Rows):
    """Counts what is read, and how often all at once."""

    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        super().__init__(data)
        self.most = 0

    def __getitems__(self, rows: list[int]) -> list[dict[str, Tensor]]:
        self.most = max(self.most, len(rows))
        return [self[row] for row in rows]


def test_data_too_large_to_hold_are_read_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = linear_problem(num_samples=5_000, width=60)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return squared_error(model, (batch["x"], batch["y"]))

    options: dict[str, Any] = {"num_draws": 20, "num_chains": 2, "progress": False}
    held = estimate_llc(model, loss, Rows(data), **options).llc
    sweep_options = {**options, "localisation": 1.0, "seed": 3}
    states = {1: model.state_dict()}
    swept = sweep_llc(states, model, loss, Rows(data), **sweep_options)
    monkeypatch.setattr(batches, "_MOST_HELD", 1_000)
    rows = Counted(data)
    assert isinstance(read_samples(rows), SamplesAsNeeded)
    assert estimate_llc(model, loss, rows, **options).llc == held
    assert 0 < rows.most < 5_000
    loader = DataLoader(Rows(data), batch_size=32, shuffle=True)
    assert estimate_llc(model, loss, loader, **options).llc == held
    again = sweep_llc(states, model, loss, Rows(data), **sweep_options)
    assert float(again["llc"][0, 0]) == float(swept["llc"][0, 0])
    # Half precision is read as such and evaluated in single, as where it is held.
    half = (data[0].half(), data[1])
    assert read_samples(Rows(half)).to(torch.device("cpu")).take(slice(2))["x"].dtype == torch.float
    few = SubsetRandomSampler(range(1_000))
    assert read_samples(DataLoader(Rows(data), sampler=few)).num_samples == 1_000


def test_data_read_as_needed_must_hold_still(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noisy(Rows):
        def __getitem__(self, i: int) -> dict[str, Tensor]:
            return {"x": self.data[0][i] + torch.randn(6), "y": self.data[1][i]}

    model, data, _ = linear_problem(num_samples=300)
    monkeypatch.setattr(batches, "_MOST_HELD", 1_000)
    with pytest.raises(InputError, match="draws random numbers"):
        estimate_llc(
            model, lambda m, b: squared_error(m, (b["x"], b["y"])), Noisy(data), progress=False
        )


def test_what_only_looks_like_a_data_set_is_read() -> None:
    """As the data sets of Hugging Face, which are no subclass of torch's."""

    class Columns:
        def __init__(self, inner: Counted) -> None:
            self.inner = inner

        def __len__(self) -> int:
            return len(self.inner)

        def __getitem__(self, row: int) -> dict[str, Tensor]:
            return self.inner[row]

        def __getitems__(self, rows: list[int]) -> list[dict[str, Tensor]]:
            return self.inner.__getitems__(rows)

    _, data, _ = linear_problem(num_samples=300)
    assert torch.equal(read_samples(Columns(Counted(data))).take(slice(None))["x"], data[0])
