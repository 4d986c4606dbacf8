"""The slope of the mean loss over several temperatures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from known_landscapes import NUMBER, negative_log_likelihood, regression
from torch import Tensor, nn

from emergence_stats import llc_by_temperature
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("sampler", "away"), [("mala", 0.0), ("mala", 0.4), ("psgld", 0.4)])
def test_the_slope_is_the_coefficient_at_a_minimum_and_away_from_one(
    sampler: str, away: float
) -> None:
    model, data, eigenvalues = regression(spread=4.0)
    with torch.no_grad():
        model.weight += away
    localisation = 20.0
    result = llc_by_temperature(
        model, negative_log_likelihood, data, sampler=sampler, num_draws=500, num_burnin=100,
        batch_size=256, localisation=localisation, progress=False,
    )  # fmt: skip
    held = NUMBER / math.log(NUMBER) * eigenvalues
    truth = 0.5 * (held / (held + localisation)).sum()
    assert result.standard_error < 0.12 * truth, "not mixing"
    assert abs(result.llc - truth) < 4.0 * result.standard_error, "biased"
    assert result.diagnostics["verdict"] == "reliable", result.diagnostics["reasons"]
    if away:
        # At one temperature the same chains report the depth of the minimum instead.
        excess = result.dataset["loss"][0].mean() - result.diagnostics["initial_loss"]
        assert float(excess) * NUMBER / math.log(NUMBER) < -5.0 * truth


def test_wbic_and_singular_fluctuation_are_those_of_a_regular_model() -> None:
    model, data, _ = regression(spread=1.0)
    result = llc_by_temperature(
        model, negative_log_likelihood, data, inverse_temperatures=[1.0, 0.8], sampler="mala",
        num_draws=1000, num_burnin=200, localisation=1e-3, progress=False,
    )  # fmt: skip
    lowest = float(negative_log_likelihood(model, data).detach())
    # n L(w_hat) + lambda log n, exactly for a quadratic loss.
    wbic = NUMBER * lowest + 3.0 * math.log(NUMBER)
    assert abs(result.wbic - wbic) < 4.0 * math.log(NUMBER) * result.standard_error + 1.0
    # beta/2 sum_i Var = 1/2 tr(J H^-1), the noise being of unit variance: d/2, to the O(n^-1/2) of
    # the sampled squares; the variance over some 100 looks at each chain is known to a tenth.
    assert 0.75 * 3.0 < result.singular_fluctuation < 1.25 * 3.0


def test_a_bent_line_is_told_from_a_straight_one() -> None:
    class Quartic(nn.Module):
        """w^4 at high temperature, w^2 at low."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(16, dtype=torch.float64))

        def forward(self) -> Tensor:
            return (0.5 * self.w**2 + 30.0 * self.w**4).sum()

    def loss(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return model() * batch[0].mean()

    data = (torch.ones(1000, dtype=torch.float64),)
    result = llc_by_temperature(
        Quartic(), loss, data, inverse_temperatures=[2.0, 0.2, 0.02], sampler="mala",
        num_draws=500, num_burnin=100, localisation=1e-3, progress=False,
    )  # fmt: skip
    # The local slope falls from d/2 towards d/4, as the exponents of the loss say.
    slopes = np.diff(result.dataset["mean_loss"]) / np.diff(result.dataset["temperature"])
    assert 4.0 < slopes[1] < slopes[0] < 8.0
    assert result.diagnostics["verdict"] == "not a straight line"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inverse_temperatures": [0.1]}, "at least two different values"),
        ({"inverse_temperatures": [0.1, 0.1]}, "at least two different values"),
        ({"inverse_temperatures": 0.1}, "must be a list of at least two"),
        ({"inverse_temperatures": [0.1, -1.0]}, "above zero, got -1.0"),
        ({"localisation": "scan"}, 'must be a number, "wide" or "near"'),
        ({"localisation": "near", "sampler": "sgld"}, "goes with neither sampler nor step_size"),
        ({"num_draws": 3}, "num_draws"),
    ],
)
def test_bad_temperatures_are_named(options: dict[str, object], message: str) -> None:
    model, data, _ = regression(spread=1.0)
    with pytest.raises(InputError, match=message):
        llc_by_temperature(model, negative_log_likelihood, data, progress=False, **options)  # type: ignore[arg-type]
