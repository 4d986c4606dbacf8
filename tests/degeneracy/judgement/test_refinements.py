"""Half a step, draws to a target error, and a loss that grows slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from known_landscapes import (
    linear_problem,
    negative_log_likelihood,
    regression,
    squared_error,
)
from torch import Tensor, nn

from emergence_stats import estimate_llc

pytestmark = pytest.mark.usefixtures("one_thread")


def test_draws_are_added_until_the_error_meets_its_target() -> None:
    model, data, _ = regression(spread=1.0)
    options = {"sampler": "sgld", "num_draws": 50, "localisation": 5.0, "progress": False}
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


def test_a_loss_that_grows_slowly_is_told() -> None:
    class Slow(nn.Module):
        """|w|^1.2, smoothed at zero."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(30, dtype=torch.float64))

        def forward(self) -> Tensor:
            return ((self.w**2 + 1e-4) ** 0.6 - 1e-4**0.6).sum()

    def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return model() * batch[0].mean()

    data = (torch.ones(100, dtype=torch.float64),)
    found = estimate_llc(Slow(), loss, data, progress=False).diagnostics
    assert found["homogeneity"] < 0.8
    assert any("more slowly than a quadratic" in reason for reason in found["reasons"])
    assert found["verdict"] == "reliable"


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
