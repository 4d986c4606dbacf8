"""What is found against an estimate, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from known_landscapes import (
    DATA,
    SCALE,
    Crossing,
    linear,
    negative_log_likelihood,
    quadrature,
    regression,
    summed_squared_error,
    weighted,
)
from torch import Tensor, nn

import emergence_stats as es
from emergence_stats import estimate_llc
from emergence_stats.degeneracy.judgement.estimator import summarise
from emergence_stats.degeneracy.judgement.verdicts import Verdict, judge, verdict_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_verdicts_in_words() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(4, 400))

    def verdict(trace: np.ndarray, **options: Any) -> Verdict:
        options = {"stationary": True, "step_correction": 0.0, **options}
        return verdict_of(judge(summarise(trace), **options))

    assert verdict(noise + 10.0) == "reliable"
    assert verdict(noise - 10.0) == "not at a minimum"
    assert verdict(noise + 10.0 - np.arange(400) / 40.0) == "not at a minimum"
    assert verdict(noise + 10.0 + np.arange(400) / 40.0) == "still drifting"
    assert verdict(noise + 10.0 + 3.0 * np.arange(4)[:, None]) == "chains disagree"
    assert verdict(noise + 10.0, step_correction=8.0) == "step too large"
    assert verdict(noise + np.nan) == "step too large"
    assert verdict(noise[:1, :15] + 10.0) == "too few draws"
    # A correction that would do where the loss is quadratic.
    assert verdict(noise + 10.0, step_correction=2.0, homogeneity=1.2, departure=0.2) == "reliable"
    assert verdict(noise + 10.0, step_correction=2.0, homogeneity=1.5) == "step too large"
    assert verdict(noise + 10.0, step_correction=2.0, departure=0.5) == "step too large"
    assert verdict(noise + 10.0, step_correction=1.0, departure=0.5) == "reliable"
    for mean, expected in ((6.0, "reliable"), (5.4, "not in equilibrium")):
        virial = summarise(noise + mean)
        assert verdict(noise + 10.0, virial=virial, num_parameters=6) == expected


@pytest.mark.parametrize(
    ("sampler", "localisation", "step_size", "verdict"),
    [("mala", 0.1, 100.0, "chains disagree"), ("sgld", 1.0, 0.0078, "step too large")],
)
def test_an_estimate_far_off_in_its_own_errors_is_not_reliable(
    sampler: str, localisation: float, step_size: float, verdict: str
) -> None:
    result = es.estimate_llc(
        Crossing(3, 0), weighted, DATA, sampler=sampler, num_chains=16, num_draws=1500,
        localisation=localisation, step_size=step_size, batch_size=200, progress=False,
    )  # fmt: skip
    assert abs(result.llc - quadrature(3, 0, SCALE, localisation)) > 3.0 * result.standard_error
    assert result.diagnostics["verdict"] == verdict


@pytest.mark.parametrize("batch_size", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_departure_from_a_quadratic_is_seen_where_it_cancels_in_the_mean(batch_size: int) -> None:
    def found(
        model: nn.Module, loss: Any, data: tuple[Tensor, ...], step_size: float | None = None
    ) -> dict[str, Any]:
        options = {"sampler": "sghmc", "num_chains": 32, "num_draws": 400, "localisation": 20.0}
        return es.estimate_llc(
            model, loss, data, batch_size=batch_size, step_size=step_size, progress=False, **options
        ).diagnostics

    slanted = Crossing(1, 1, (0.4, 0.0))
    curved = found(slanted, weighted, DATA, step_size=0.0145)
    assert abs(curved["homogeneity"] - 1.0) < 0.25
    assert curved["departure_from_quadratic"] > 0.5
    assert curved["verdict"] == "step too large"
    assert "departs from a quadratic" in curved["reasons"][0]
    # (w - w*) . grad L is four times L at every draw.
    steep = found(Crossing(2, 0), weighted, DATA)
    assert steep["homogeneity"] == pytest.approx(2.0, rel=1e-6)
    model, data = linear(10, 1, 1000)
    straight = found(model, summed_squared_error, data)
    assert straight["homogeneity"] == pytest.approx(1.0, abs=0.1)
    assert straight["departure_from_quadratic"] < 0.1


def test_minibatch_noise_that_dominates_is_named() -> None:
    model, data, _ = regression(spread=1.0)
    result = estimate_llc(
        model, negative_log_likelihood, data, batch_size=1, num_draws=200, step_size=1e-6,
        localisation=1e5, progress=False,
    )  # fmt: skip
    assert result.diagnostics["minibatch_noise_share_of_variance"] > 0.5
    assert "minibatch noise dominates" in str(result)
