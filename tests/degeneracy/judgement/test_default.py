"""What `estimate_llc` chooses by itself, against exact coefficients, and what it must not touch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from known_landscapes import (
    DATA,
    SCALE,
    Crossing,
    linear,
    network,
    quadrature,
    summed_squared_error,
    weighted,
)

import emergence_stats as es
from benchmarks.accuracy import llc_networks
from emergence_stats.degeneracy.judgement import default
from emergence_stats.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


# Half the rank of the product map's Jacobian at w*, where the minima are smooth (benchmarks).
CASES = {
    "regular, 10": (lambda: linear(10, 1, 2000), 5.0, {}),
    "regular, 200": (lambda: linear(20, 10, 8000), 100.0, {}),
    "two layers": (lambda: network(6, 4, 6), 0.5 * (6 * 4 + 6 * 4 - 4 * 4), {"heat": 5e4}),
    # Layers of rank 4 and 2: 4 * 6 + 2 * (6 - 4) directions change the product.
    "lower rank": (
        lambda: network(6, 4, 6, ranks={1: 2}),
        0.5 * (2 * 6 + 6 * 4 - 2 * 4),
        {"heat": 5e4},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_default_finds_the_coefficient_where_the_former_did_not(name: str) -> None:
    build, truth, known = CASES[name]
    model, data = build()
    options: dict[str, Any] = {"progress": False}
    if "heat" in known:
        options["inverse_temperature"] = known["heat"] / len(data[0])
    result = es.estimate_llc(model, summed_squared_error, data, **options)
    assert result.standard_error < 0.05 * truth
    assert abs(result.llc - truth) < max(0.05 * truth, 3.0 * result.standard_error)
    found = result.diagnostics
    assert found["sampler"] == "baoab"
    assert {"sampler", "batch_size", "localisation", "num_draws"} <= set(found["chosen"])
    assert "llc_at_stronger_localisation" in found


@pytest.mark.slow  # that a scan tells of a more singular point: test_refinements
def test_a_scan_begins_where_chains_stay_by_the_checkpoint() -> None:
    """At a smooth point of rank-deficient layers, near a more singular one that counts 55.

    Extrapolated from the weakest chains, whose loss grows like the power 1.93 of the distance, it
    was 56.6 with a standard error of 0.7.
    """
    deficient = llc_networks.draw("1k", 3)
    assert deficient.local == 61.0
    result = es.estimate_llc(
        deficient.model, llc_networks.loss, llc_networks.data(deficient, 20_000), seed=3,
        inverse_temperature=1e6 / math.log(1e6) / 20_000, progress=False,
    )  # fmt: skip
    assert result.standard_error < 2.0
    assert abs(result.llc - 61.0) < 3.0 * result.standard_error
    found = result.diagnostics
    assert "with a more singular point nearby" in found["chosen"]["localisation"]
    assert found["homogeneity"] > 0.98
    firmest, *_, weakest = np.sort(result.dataset["localisation"])[::-1]
    assert firmest == pytest.approx(8.0 * weakest)
    assert weakest == pytest.approx(found["localisation"])


@pytest.mark.slow
def test_a_crossing_that_no_extrapolation_reaches_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(default, "MOST_BY_DEFAULT", 2)  # its target is out of reach
    result = es.estimate_llc(Crossing(3, 3), weighted, DATA, num_chains=24, progress=False)
    found = result.diagnostics
    truth = quadrature(3, 3, SCALE, found["localisation"])
    assert result.standard_error < 0.1 * truth
    assert abs(result.llc - truth) < 4.0 * result.standard_error
    assert found["verdict"] == "depends on localisation"
    assert found["llc_extrapolated"] > result.llc


def test_what_is_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = linear(4, 1, 400)

    def run(**options: Any) -> Any:
        return es.estimate_llc(model, summed_squared_error, data, progress=False, **options)

    named = {"sampler": "sgld", "num_draws": 300, "batch_size": 64}
    for given in ({"localisation": 3.0}, {"step_size": 1e-4}, {"localisation": "scan"}):
        assert run(**given).dataset.identical(run(**given, **named).dataset)
    draws = run(num_draws=40)
    assert draws.diagnostics["num_draws"] == 40
    assert run(batch_size=32, num_draws=40).diagnostics["batch_size"] == 32
    # From few draws on, so that the target decides how many.
    monkeypatch.setattr("emergence_stats.degeneracy.llc.FIRST_DRAWS", 50)
    met = run(target_standard_error=0.2)
    assert met.standard_error <= 0.2
    assert met.diagnostics["num_draws"] > 50
    assert "0.2" in met.diagnostics["chosen"]["num_draws"]
    assert run(num_draws=40).dataset.identical(draws.dataset)
    with pytest.raises(InputError, match="num_draws"):
        run(num_draws=2)
