"""What a result shows, saves and repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from known_landscapes import linear_problem, negative_log_likelihood, regression, squared_error

import emergence_stats as es
from emergence_stats import LLC, LLCByTemperature, estimate_llc, llc_by_temperature
from emergence_stats.errors import StorageError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_result_shows_saves_and_repeats(tmp_path: Path) -> None:
    model, data, _ = linear_problem(num_samples=400)
    result = es.estimate_llc(model, squared_error, data, num_draws=60, progress=False)
    again = estimate_llc(model, squared_error, data, num_draws=60, progress=False)
    other = estimate_llc(model, squared_error, data, num_draws=60, seed=1, progress=False)
    assert again.dataset.identical(result.dataset)
    assert other.llc != result.llc
    path = tmp_path / "llc.nc"
    result.to_netcdf(path)
    loaded = LLC.from_netcdf(path)
    assert loaded.dataset.identical(result.dataset)
    pd.testing.assert_frame_equal(loaded.summary(), result.summary())
    assert str(loaded) == str(result)
    assert result.dataset["loss"].dims == ("chain", "draw")
    kept = result.dataset["llc_trace"].where(result.dataset["kept"], drop=True)
    assert float(kept.mean()) == pytest.approx(result.llc)
    assert result.diagnostics["verdict"] in str(result)
    assert "<table" in result._repr_html_()
    (row,) = result.summary().to_dict("records")
    assert row["llc"] == result.llc
    assert row["verdict"] == result.judgement
    assert [row["llc_lower"], row["llc_upper"]] == result.interval().values.tolist()
    assert result.interval()["bound"].values.tolist() == ["lower", "upper"]
    low, high = result.interval(0.5)
    wide_low, wide_high = result.interval(0.99)
    assert wide_low < low < result.llc < high < wide_high
    result.plot().savefig(tmp_path / "llc.png")
    with pytest.raises(StorageError, match="no such file"):
        LLC.from_netcdf(tmp_path / "absent.nc")
    with pytest.raises(StorageError, match="could not be read or written"):
        result.to_netcdf(tmp_path / "no" / "such" / "llc.nc")


def test_the_result_by_temperature_shows_and_saves(tmp_path: Path) -> None:
    model, data, _ = regression(spread=1.0)
    # Held firmly, so that no step has to be shortened: how good the draws are is not asked.
    options: dict[str, Any] = {
        "num_draws": 40, "num_burnin": 10, "localisation": 100.0, "progress": False
    }  # fmt: skip
    result = es.llc_by_temperature(model, negative_log_likelihood, data, **options)
    path = tmp_path / "slope.nc"
    result.to_netcdf(path)
    loaded = LLCByTemperature.from_netcdf(path)
    assert isinstance(loaded, LLCByTemperature)
    pd.testing.assert_frame_equal(loaded.summary(), result.summary())
    assert str(loaded) == str(result)
    assert result.summary()["wbic"].tolist() == [result.wbic]
    assert "WBIC" in str(result)
    result.plot().savefig(tmp_path / "slope.png")
    again = llc_by_temperature(model, negative_log_likelihood, data, **options)
    assert again.dataset.identical(result.dataset)
