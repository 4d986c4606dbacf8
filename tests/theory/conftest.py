"""What tests of the theory share."""

from __future__ import annotations

import pytest

import emergence_stats as es
from tests.theory.curves import heads


@pytest.fixture(scope="session")
def compared():
    """Three heads whose kappa is 0, 0.3 and 2."""
    return es.compare(heads([0.0, 0.3, 2.0]))
