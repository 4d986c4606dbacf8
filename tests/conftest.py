"""What every test starts from.

What lives here: torch's global random numbers, the same at the start of each test, so that none
depends on which ran before it in the same process, and one thread where a file asks for it. What
does not: answers known (`known_answers`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which contend when tests share cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
