"""Random numbers of chains."""

from __future__ import annotations

import pytest
import torch

from emergence_stats.degeneracy.samplers import Streams

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_chains_numbers_do_not_depend_on_the_others(dtype: torch.dtype) -> None:
    few, many = Streams(3, 2), Streams(3, 5)
    for size in (7, 100, 3):
        found = few.normal(torch.empty(2, size, dtype=dtype))
        assert torch.equal(found, many.normal(torch.empty(5, size, dtype=dtype))[:2])
        assert torch.equal(few.uniform(), many.uniform()[:2])
        index, others = few.batch(50, 8), many.batch(50, 8)
        assert index is not None
        assert others is not None
        assert torch.equal(index, others[:2])


def test_chains_and_purposes_have_numbers_of_their_own() -> None:
    rows = torch.cat([Streams(1, 3, purpose=n).normal(torch.empty(3, 10_000)) for n in (0, 7)])
    assert float((torch.corrcoef(rows) - torch.eye(6)).abs().max()) < 4.5 / 10_000**0.5


def test_batches_are_drawn_with_replacement_from_all_samples() -> None:
    streams, counts = Streams(0, 1), torch.zeros(20)
    for _ in range(500):
        batch = streams.batch(20, 8)
        assert batch is not None
        counts += torch.bincount(batch[0], minlength=20)
    expected = 500 * 8 / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 43.8  # chi-square 19, 0.1%
    assert streams.batch(20, 20) is None
