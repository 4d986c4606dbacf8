"""The command line: what is found is printed and stored, and what cannot be used is one line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

import emergence_stats as es
import emergence_stats.validation
from emergence_stats.cli import main


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    step = np.arange(0.0, 1500.0, 50.0)
    rise = es.relaxation(step, onset=400.0, timescale=150.0, kappa=0.0)
    noise = 0.02 * np.random.default_rng(0).normal(size=(2, step.size))
    scores = xr.DataArray(rise + noise, dims=("run", "step"), coords={"step": step, "run": [0, 1]})
    path = tmp_path_factory.mktemp("store") / "trajectory.zarr"
    xr.Dataset({"score": scores}).to_zarr(path, zarr_format=3, consolidated=False)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_analyze_prints_and_stores_what_compare_finds(store, tmp_path):
    done = run("analyze", store, "--variable", "score", "--json", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    stored = es.Comparison.from_netcdf(tmp_path / "score-comparison.nc")
    assert [row["verdict"] for row in rows] == list(stored.dataset["verdict"].values)
    assert [row["onset"] for row in rows] == pytest.approx(list(stored.summary()["onset"]))
    table = run("analyze", store, "--variable", "score").stdout
    assert "verdict" in table
    assert str(rows[0]["verdict"]) in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variable", "skore"], "variable: 'skore' is not stored; did you mean 'score'?"),
        (["--variable", "score", "--output", "/dev/null/there"], "/dev/null/there: could not be"),
    ],
)
def test_what_cannot_be_used_is_one_line(store, arguments, message):
    done = run("analyze", store, *arguments)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_store_that_is_not_there(tmp_path):
    done = run("analyze", tmp_path / "nothing.zarr", "--variable", "score")
    assert done.exit_code == 2
    assert done.stderr.startswith("emergence: ")
    assert "nothing.zarr" in done.stderr


@pytest.mark.parametrize("passed", [True, False])
def test_validate_says_whether_all_passed(monkeypatch, passed):
    table = pd.DataFrame(
        {"check": ["a"], "expected": [1.0], "found": [2.0], "allowed": [0.1], "passed": [passed]}
    ).set_index("check")
    monkeypatch.setattr(emergence_stats.validation, "validate", lambda **_: table)
    result = run("validate", "--json")
    assert result.exit_code == (0 if passed else 1)
    assert json.loads(result.stdout)[0]["found"] == 2.0
