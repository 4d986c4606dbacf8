"""The penalised search agrees with the exact sum, where both can be had."""

from __future__ import annotations

import numpy as np
import pytest

import emergence_stats as es
from emergence_stats.curves.simulation import autoregressive


def test_penalised_search_agrees_with_the_sum():
    level = np.repeat([0.0, 1.0, 0.3, 0.9], 60)
    noise = autoregressive(np.random.default_rng(3).normal(size=(1, 240)), 0.6)[0]
    curve = es.curve(level + 0.1 * noise, np.arange(1.0, 241.0))
    exact = es.segment(curve, step_prior="linear")
    quick = es.segment(curve, step_prior="linear", method="pelt")
    assert int(exact.number) == int(quick.number) == 3
    assert quick.changes.values == pytest.approx(exact.changes.values, abs=1.0)
    assert quick.dataset["noise_correlation"] == pytest.approx(0.6, abs=0.2)
    assert "probability_of_number" in quick.summary()
