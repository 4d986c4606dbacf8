"""Localisation extrapolated away, half a step, draws to a target error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from known_landscapes import (
    NUMBER,
    linear_problem,
    negative_log_likelihood,
    regression,
    squared_error,
)
from torch import Tensor, nn

import emergence_stats as es
from benchmarks.accuracy import llc_networks
from emergence_stats import estimate_llc

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_scan_removes_the_bias_of_localisation() -> None:
    model, data, eigenvalues = regression(spread=6.0, width=12)
    result = estimate_llc(
        model, negative_log_likelihood, data, sampler="sghmc", localisation="scan",
        num_draws=700, batch_size=NUMBER, progress=False,
    )  # fmt: skip
    curve = result.dataset["llc_by_localisation"]
    held = NUMBER / math.log(NUMBER) * eigenvalues[:, None]
    truth = 0.5 * (held / (held + curve["localisation"].to_numpy())).sum(axis=0)
    errors = result.dataset["standard_error_by_localisation"].to_numpy()
    assert (np.abs(curve.to_numpy() - truth) < 4.0 * errors).all()
    assert truth[0] < 5.9  # the weakest localisation has a bias to remove
    assert abs(result.llc - 6.0) < 4.0 * result.standard_error
    assert result.standard_error < 0.4
    assert result.diagnostics["bias_of_localisation"] < 0.0
    assert "extrapolated to zero" in str(result)
    assert result.diagnostics["verdict"] == "reliable"
    assert len(result.plot().axes) == 3
    # With SGLD flat directions ask for a firmer hold, from which the way to none is long.
    slow = estimate_llc(
        model, negative_log_likelihood, data, sampler="sgld", localisation="scan",
        num_draws=300, batch_size=NUMBER, progress=False,
    )  # fmt: skip
    assert slow.dataset["llc_by_localisation"][0] < 0.9 * slow.llc
    assert any(one.startswith("depends on localisation") for one in slow.diagnostics["reasons"])
    assert slow.diagnostics["verdict"] != "reliable"


def test_draws_are_added_until_the_error_meets_its_target() -> None:
    model, data, _ = regression(spread=1.0)
    options = {"num_draws": 50, "localisation": 5.0, "progress": False}
    met = estimate_llc(model, negative_log_likelihood, data, target_standard_error=0.3, **options)  # type: ignore[arg-type]
    assert met.standard_error <= 0.3
    assert 50 < met.diagnostics["num_draws"] < 800
    missed = estimate_llc(
        model, negative_log_likelihood, data, target_standard_error=0.001, **options
    )  # type: ignore[arg-type]
    assert missed.diagnostics["num_draws"] == 800
    assert missed.diagnostics["verdict"] == "too few draws"
    # Chains run on are the chains of one long run.
    whole = estimate_llc(
        model, negative_log_likelihood, data, localisation=5.0, num_draws=150, progress=False,
        step_size=met.diagnostics["step_size"],
    )  # fmt: skip
    first = met.dataset["llc_trace"][:, :150].to_numpy()
    np.testing.assert_array_equal(first, whole.dataset["llc_trace"].to_numpy()[:, : first.shape[1]])


def test_half_a_step_shows_what_the_correction_leaves() -> None:
    class Steep(nn.Module):
        """w^4: nowhere quadratic, and the correction for the step is wrong."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(64, dtype=torch.float64))

        def forward(self) -> Tensor:
            return (self.w**4).sum()

    def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return model() * batch[0].mean()

    data = (torch.ones(100, dtype=torch.float64),)
    options = {"localisation": 1e-3, "check_step": True, "num_burnin": 100, "progress": False}
    large = estimate_llc(Steep(), loss, data, step_size=0.02, num_draws=400, **options)  # type: ignore[arg-type]
    found = large.diagnostics
    truth = 64 / 4
    # The measured bias has the sign and the size of the true one.
    assert abs(large.llc - truth) > 5.0 * large.standard_error
    assert found["step_bias"] * (large.llc - truth) > 0.0
    assert abs(found["step_bias"]) > 2.0 * found["step_bias_standard_error"]
    corrected = large.llc - found["step_bias"]
    assert abs(corrected - truth) < abs(large.llc - truth)
    model, regular, _ = regression(spread=1.0)
    small = estimate_llc(model, negative_log_likelihood, regular, num_draws=200, **options)  # type: ignore[arg-type]
    known = small.diagnostics
    assert abs(known["step_bias"]) < 4.0 * known["step_bias_standard_error"]


@pytest.mark.slow
def test_a_scan_that_is_asked_for_tells_of_a_more_singular_point_nearby() -> None:
    """It begins where it was told to: here where the loss grows like the power 1.92."""
    deficient = llc_networks.draw("10k", 1)
    result = es.estimate_llc(
        deficient.model, llc_networks.loss, llc_networks.data(deficient, 20_000), seed=1,
        sampler="sghmc", localisation="scan", num_draws=600, batch_size=512, progress=False,
        inverse_temperature=1e6 / math.log(1e6) / 20_000,
    )  # fmt: skip
    found = result.diagnostics
    assert result.llc < deficient.local - 10.0 * result.standard_error
    assert found["homogeneity"] < 0.99 - 3.0 * found["homogeneity_standard_error"]
    assert found["verdict"] == "depends on localisation"
    assert any("more singular point nearby" in reason for reason in found["reasons"])


def test_a_step_too_large_is_reported_with_the_largest_that_worked() -> None:
    model, data, eigenvalues = linear_problem()
    result = estimate_llc(model, squared_error, data, step_size=10.0, num_draws=400, progress=False)
    found = result.diagnostics
    assert found["verdict"] == "step too large"
    assert math.isnan(result.llc)
    assert all(math.isnan(end) for end in result.interval())
    worked = found["largest_step_size_that_worked"]
    limit = 4.0 / (found["num_samples"] * found["inverse_temperature"] * eigenvalues[-1])
    assert worked < 10.0
    assert worked > 0.2 * limit
    assert f"{worked:.3g}" in str(result)
