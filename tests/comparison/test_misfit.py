"""How far a curve is from the mean of its model, whatever the noise is taken for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import emergence_stats as es
from emergence_stats.comparison import misfit

STEP = np.arange(10.0, 1210.0, 10.0)
HEADS = Path(__file__).parents[2] / "benchmarks" / "results" / "demo_heads.csv"


def rise(seed=0, noise=0.005):
    clean = 1.0 / (1.0 + np.exp((500.0 - STEP) / 60.0))
    return clean + noise * np.random.default_rng(seed).normal(size=STEP.size)


@pytest.mark.parametrize("scale", [1.0, -300.0])
def test_residuals_are_in_ranges_of_the_curve(scale):
    found = es.compare(es.curve(scale * rise(noise=0.02), STEP)).dataset
    # Of 120 points, the rise being a little less than their range.
    assert float(found["residual_share"]) == pytest.approx(0.02, abs=4 * 0.02 / np.sqrt(240))
    assert 0.01 < float(found["largest_departure"]) < 0.05


def test_a_second_rise_is_a_misfit_only_where_it_is_large():
    """Both raise the alarm; a tenth of the range is what parts them."""
    for height, verdict in ((0.05, "not misfit"), (0.5, "misfit")):
        second = np.where(STEP > 900.0, height, 0.0)
        found = es.compare(es.curve(rise() + second, STEP), noise="independent").dataset
        assert float(found["misfit_p_value"]) < 0.05
        assert (found["verdict"].item() == "misfit") == (verdict == "misfit")


def test_a_constant_curve_has_no_residuals():
    found = es.compare(es.curve(np.full(STEP.size, 3.0), STEP)).dataset
    assert float(found["residual_share"]) == float(found["largest_departure"]) == 0.0


def test_a_rise_is_not_explained_as_noise():
    """A trained head that rises in two stages, which noise that wanders would explain."""
    rows = pd.read_csv(HEADS).set_index("curve").loc["seed 0 layer 1 head 1"]
    found = es.compare(es.curve(rows["score"].to_numpy(), rows["step"].to_numpy())).dataset
    assert float(found["misfit_p_value"]) > 0.05
    assert float(found["largest_departure"]) > 0.2
    assert found["verdict"].item() == "misfit"
    # Neither far nor alarmed; alarmed and far enough; far, whatever the alarm; scattered as much.
    p_value = np.array([1.0, 0.01, 1.0, 1.0, 0.01])
    departure = np.array([0.15, 0.15, 0.25, 0.25, 0.05])
    scatter = np.array([0.01, 0.01, 0.01, 0.1, 0.01])
    residual = np.column_stack([departure, departure, scatter])
    said = misfit.is_misfit(p_value, residual, np.ones(5), 0.05)
    assert said.tolist() == [False, True, True, False, False]
    # Of a curve in which nothing emerges the range is the noise's own.
    assert not misfit.is_misfit(p_value[2:3], residual[2:3], np.zeros(1), 0.05).any()
