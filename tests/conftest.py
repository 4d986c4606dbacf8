"""What every test starts from.

What lives here: torch's global random numbers, the same at the start of each test, so that none
depends on which ran before it in the same process. What does not: answers known (`known_answers`).
"""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
