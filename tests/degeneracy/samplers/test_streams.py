"""Random numbers of chains."""

from __future__ import annotations

import pytest
import torch

from emergence_stats.degeneracy.samplers import Streams

pytestmark = pytest.mark.usefixtures("one_thread")


def test_streams_give_batches_independent_of_the_position() -> None:
    # Batches are drawn with replacement at every step: the next one knows nothing of the last.
    streams = Streams(0, 1)
    counts = torch.zeros(20)
    for _ in range(500):
        batch = streams.batch(20, 8)
        assert batch is not None
        counts += torch.bincount(batch[0], minlength=20)
    expected = 500 * 8 / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 43.8  # chi-square 19, 0.1%
