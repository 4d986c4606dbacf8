"""Populations integrated from fewer points, for tests that ask little of their accuracy.

What lives here: `fewer_points`. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emergence_stats.population import importance


@contextmanager
def fewer_points() -> Iterator[None]:
    """Half of the points: probabilities of the hypotheses change by a hundredth at most."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("NUM_ADAPT", 192), ("MAX_ROUNDS", 5), ("NUM_POINTS", 768)):
            patch.setattr(importance, name, value)
        yield
