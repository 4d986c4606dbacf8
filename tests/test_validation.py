"""The self-check finds what is wrong, and nothing where all is right."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import emergence_stats.comparison.comparison
import emergence_stats.degeneracy.llc
import emergence_stats.validation
from emergence_stats.errors import InputError
from emergence_stats.validation import validate


def test_overconfident_probabilities_are_caught(monkeypatch):
    right = emergence_stats.comparison.comparison.compare

    def wrong(*arguments, **options):
        result = right(*arguments, **options)
        p = result.dataset["probability"]
        # Ten times the odds of nothing emerging.
        tilted = p * (1.0 + 9.0 * (p["family"] == "flat"))
        result.dataset["probability"] = tilted / tilted.sum("family")
        return result

    monkeypatch.setattr(emergence_stats.comparison.comparison, "compare", wrong)
    table = validate(num_curves=80, landscapes=False)
    assert not table["passed"].filter(like="'flat'").any()
    assert table["passed"].filter(like="exact").all()


def test_intervals_that_are_too_narrow_are_caught(monkeypatch):
    right = emergence_stats.comparison.comparison.compare

    def wrong(*arguments, **options):
        result = right(*arguments, **options)
        onset = result.dataset["onset"]
        middle = onset.isel(quantile=1)
        result.dataset["onset"] = middle + 0.3 * (onset - middle)
        return result

    monkeypatch.setattr(emergence_stats.comparison.comparison, "compare", wrong)
    table = validate(num_curves=60, landscapes=False)
    assert not table["passed"].filter(like="hold the onset").any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_curves": 10}, "num_curves: 10"), ({"seed": -1}, "seed: -1")],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        validate(landscapes=False, **options)


def test_a_wrong_coefficient_is_caught(monkeypatch):
    """The estimates themselves are tested elsewhere; here, what is made of them."""
    found = SimpleNamespace(llc=5.6, standard_error=0.1)
    monkeypatch.setattr(emergence_stats.degeneracy.llc, "estimate_llc", lambda *_, **__: found)
    table = validate(num_curves=60)
    assert table["passed"].filter(like="regression of 11").all()  # 5.5
    assert not table["passed"].filter(like="learning coefficient of a linear network").any()  # 6.5
