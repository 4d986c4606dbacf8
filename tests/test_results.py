"""What all results promise alike: reading, storing, showing, and intervals with the same labels."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import emergence_stats as es
from emergence_stats.onset.relations import CommonOnset
from emergence_stats.results import Result
from emergence_stats.theory.agreement import Agreement, agreement

mpl.use("Agg")
STEP = np.arange(0.0, 2000.0, 80.0)


@pytest.fixture(scope="module")
def curves():
    rises = [es.relaxation(STEP, onset=t, timescale=200.0, kappa=1.0) for t in (500.0, 900.0)]
    values = np.array(rises) + 0.02 * np.random.default_rng(0).normal(size=(2, STEP.size))
    sd = {"sd": ("step", np.full(STEP.size, 0.02))}
    coords = {"step": STEP, "run": ["seed a", "seed b"], **sd}
    return xr.DataArray(values, dims=("run", "step"), coords=coords, name="score")


@pytest.fixture(scope="module")
def results(curves):
    """One result of each class, over the same two curves or all of them."""
    onset = es.detect_onset(curves, families=("exponential",), noise="independent")
    comparison = es.compare(curves, noise="independent")
    segmentation = es.segment(curves, noise="independent", max_changes=2)
    agreed = agreement(comparison, 0.3, 0.1)
    found = (comparison, onset, onset.common("run"), segmentation, agreed)
    return {type(result): result for result in found}


@pytest.fixture(params=[es.Comparison, es.Onset, CommonOnset, es.Segmentation, Agreement])
def result(request, results):
    return results[request.param]


def test_it_comes_back_from_disk_as_it_was(result, tmp_path):
    path = tmp_path / "result.nc"
    result.to_netcdf(path)
    again = type(result).from_netcdf(path)
    xr.testing.assert_identical(again.dataset, result.dataset)
    assert again.dataset.attrs["version"] == es.__version__
    # Which version made it is not forgotten when another reads it.
    older = type(result)(result.dataset.assign_attrs(version="0.0.1"))
    older.to_netcdf(path)
    assert type(result).from_netcdf(path).dataset.attrs["version"] == "0.0.1"


def test_it_is_shown_and_cannot_be_changed(result):
    table = result.summary()
    assert isinstance(table, pd.DataFrame)
    assert len(table) >= 1
    page = result._repr_html_()
    assert result.kind.capitalize() in page
    assert "<table" in page
    short = repr(result)
    assert short.startswith(f"<{type(result).__name__}")
    assert len(short) < 60
    with pytest.raises(AttributeError):
        result.dataset = result.dataset
    one = {"run": "seed b"} if "run" in result.dataset[result._by_curve].dims else {}
    assert result.plot(**one).axes


def test_its_intervals_have_the_same_labels(result):
    narrow, wide = result.interval(0.5), result.interval(0.95)
    for interval in (narrow, wide):
        assert interval.dims[-1] == "bound"
        assert list(interval["bound"].values) == ["lower", "upper"]
    bounds = [one.sel(bound=end) for one in (wide, narrow) for end in ("lower", "upper")]
    apart = narrow.diff("bound").isel(bound=0).notnull()
    assert apart.any()
    for low, high in ((bounds[0], bounds[2]), (bounds[2], bounds[3]), (bounds[3], bounds[1])):
        assert (low <= high).where(apart, True).all()
    with pytest.raises(es.InputError, match="prob: 1"):
        result.interval(1.0)


@pytest.mark.parametrize(("kind", "name"), [(es.Onset, "onset"), (CommonOnset, "median")])
def test_the_usual_interval_is_the_one_of_the_summary(results, kind, name):
    table, interval = results[kind].summary(), results[kind].interval().values.reshape(-1, 2)
    columns = ["onset_lower", "onset_upper"] if name == "onset" else ["lower", "upper"]
    # What is stored is thinned: between its points an end may be off by a share of the axis.
    expected = table[columns].to_numpy()
    np.testing.assert_allclose(interval, expected, rtol=0.0, atol=2e-3 * expected.max())


def test_of_agreement_too(results):
    found = results[Agreement]
    stored = found.dataset["difference"].isel(quantile=[0, 2])
    np.testing.assert_allclose(found.interval().values, stored, atol=1e-6)


def test_what_is_something_else_is_refused(results, tmp_path):
    path = tmp_path / "result.nc"
    results[es.Comparison].to_netcdf(path)
    with pytest.raises(es.StorageError, match="holds 'comparison', not a 'onset'"):
        es.Onset.from_netcdf(path)
    with pytest.raises(es.StorageError, match="not a 'fit'"):
        es.Fit.from_netcdf(path)
    with pytest.raises(es.StorageError, match="no such file; give the path of a saved comparison"):
        es.Comparison.from_netcdf(tmp_path / "other.nc")
    path.write_bytes(b"not a file")
    with pytest.raises(es.StorageError, match="not a readable netCDF file"):
        es.Comparison.from_netcdf(path)
    with pytest.raises(es.StorageError, match="could not be read or written"):
        results[es.Comparison].to_netcdf(tmp_path / "no" / "such" / "folder.nc")


def test_a_result_says_all_of_it():
    class Half(Result):
        kind = "half"

        def summary(self):
            return pd.DataFrame()

    with pytest.raises(TypeError, match="interval"):
        Half(xr.Dataset())
