"""The forms in which data come."""

from __future__ import annotations

import pytest
import torch
from known_landscapes import linear_problem, squared_error
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from emergence_stats import estimate_llc
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
        (TensorDataset(torch.zeros(0, 6)), "length 0"),
        (DataLoader(Uneven(), batch_size=1), "changing length"),
        (DataLoader(Uneven(), batch_size=2), "cannot be collated"),
        ((torch.zeros(2, 6), torch.zeros(2, 1)), "too few for beta"),
    ]


@pytest.mark.parametrize(("data", "message"), _bad_data())
def test_bad_data_are_named(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate_llc(nn.Linear(6, 1, bias=False), squared_error, data, progress=False)
