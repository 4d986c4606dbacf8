"""The self-check finds what is wrong, and nothing where all is right."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import emergence_stats as es
import emergence_stats.comparison.comparison
import emergence_stats.degeneracy.llc
import emergence_stats.validation
from emergence_stats.cli import main
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
    table = validate(num_curves=120, landscapes=False)
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


@pytest.mark.parametrize("passed", [True, False])
def test_command_says_whether_all_passed(monkeypatch, passed):
    table = pd.DataFrame(
        {"check": ["a"], "expected": [1.0], "found": [2.0], "allowed": [0.1], "passed": [passed]}
    ).set_index("check")
    monkeypatch.setattr(emergence_stats.validation, "validate", lambda **_: table)
    result = CliRunner().invoke(main, ["validate", "--json"])
    assert result.exit_code == (0 if passed else 1)
    assert json.loads(result.stdout)[0]["found"] == 2.0


def test_a_pilot_on_its_way_out_is_shortened():
    """From weights of zero a pilot can run off so far that the curvature there is infinite."""
    generator = torch.Generator().manual_seed(2)
    torch.randn(2000, 10, generator=generator)
    inputs = torch.randn(2000, 5, generator=generator)
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Linear(3, 5, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)

    def loss(model, batch):
        return (model(batch[0]) - batch[1]).square().sum(-1).mean()

    data = (inputs, torch.zeros(2000, 5))
    result = es.estimate_llc(model, loss, data, seed=2, num_draws=60, progress=False)
    assert result.diagnostics["step_size"] > 0.0
    assert np.isfinite(result.llc)
