"""The self-check finds what is wrong, and nothing where all is right."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

import emergence_stats.comparison.comparison
import emergence_stats.degeneracy.llc
import emergence_stats.validation
from emergence_stats.errors import InputError
from emergence_stats.validation import validate

# The comparisons are made once, by one worker.
pytestmark = pytest.mark.xdist_group("validation")


@pytest.fixture(scope="module")
def compared():
    """The self-check's table, and all that `compare` says on the way: once for all of these."""
    right, found = emergence_stats.comparison.comparison.compare, []

    def kept(*arguments, **options):
        found.append(right(*arguments, **options))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emergence_stats.comparison.comparison, "compare", kept)
        table = validate(num_curves=80, landscapes=False)
    return table, [one.dataset for one in found]


@pytest.fixture
def spoil(compared, monkeypatch):
    """Has the same self-check find what `compare` said of the same curves, changed."""

    def spoil(change=lambda dataset: dataset):
        answers = iter(compared[1])

        def wrong(*_, **__):
            return SimpleNamespace(dataset=change(next(answers).copy()))

        monkeypatch.setattr(emergence_stats.comparison.comparison, "compare", wrong)

    return spoil


def test_the_same_answers_give_the_same_table(compared, spoil):
    spoil()
    table = validate(num_curves=80, landscapes=False)
    pd.testing.assert_frame_equal(table, compared[0])
    assert table["passed"].all()


def test_overconfident_probabilities_are_caught(spoil):
    def change(dataset):
        p = dataset["probability"]
        # Ten times the odds of nothing emerging.
        tilted = p * (1.0 + 9.0 * (p["family"] == "flat"))
        return dataset.assign(probability=tilted / tilted.sum("family"))

    spoil(change)
    table = validate(num_curves=80, landscapes=False)
    assert not table["passed"].filter(like="'flat'").any()
    assert table["passed"].filter(like="exact").all()


def test_intervals_that_are_too_narrow_are_caught(spoil):
    def change(dataset):
        middle = dataset["onset"].isel(quantile=1)
        return dataset.assign(onset=middle + 0.3 * (dataset["onset"] - middle))

    spoil(change)
    table = validate(num_curves=80, landscapes=False)
    assert not table["passed"].filter(like="hold the onset").any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_curves": 10}, "num_curves: 10"), ({"seed": -1}, "seed: -1")],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        validate(landscapes=False, **options)


def test_a_wrong_coefficient_is_caught(spoil, monkeypatch):
    """The estimates themselves are tested elsewhere; here, what is made of them."""
    spoil()
    found = SimpleNamespace(llc=5.6, standard_error=0.1)
    monkeypatch.setattr(emergence_stats.degeneracy.llc, "estimate_llc", lambda *_, **__: found)
    table = validate(num_curves=80)
    assert table["passed"].filter(like="regression of 11").all()  # 5.5
    assert not table["passed"].filter(like="learning coefficient of a linear network").any()  # 6.5
