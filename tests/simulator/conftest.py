"""One uninterrupted run, trained once, to test and to compare others with."""

from __future__ import annotations

import pytest
from small_runs import SMALL

from simulator.training.folder import prepare
from simulator.training.loop import train_seed


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    prepare(SMALL, folder)
    assert train_seed(folder, 0) == 0
    return folder
