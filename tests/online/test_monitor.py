"""The word a curve is given: for rises that reach their target, fall short, or never begin."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import emergence_stats as es
from emergence_stats.cli import main
from emergence_stats.data.trajectory import append_trajectory

STEP = np.arange(50.0, 4_050.0, 50.0)


def watched(monitor, curves):
    told = [
        monitor.update(float(step), curves.isel(step=k, drop=True)) for k, step in enumerate(STEP)
    ]
    return xr.concat([t["status"] for t in told], "step").transpose(..., "step")


def three_curves():
    """One reaches 0.6, one stops at 0.35, one stays at 0.1."""
    rise = es.relaxation(STEP, onset=1_000.0, timescale=250.0, kappa=0.0)
    clean = 0.1 + np.array([0.5, 0.25, 0.0])[:, None] * rise
    noise = 0.015 * np.random.default_rng(1).normal(size=clean.shape)
    return xr.DataArray(
        clean + noise, dims=("head", "step"), coords={"step": STEP, "head": ["a", "b", "c"]}
    )


def test_each_curve_gets_its_word():
    monitor = es.Monitor(last_step=4_000.0, value_range=(0.0, 1.0), target=0.5, noise="independent")
    status = watched(monitor, three_curves())
    assert list(status.isel(step=-1).values) == ["emerged", "stalled", "not yet"]
    assert (status.isel(step=np.flatnonzero(STEP < 1_000.0)) == "not yet").all()
    assert (status.sel(head="a") == "emerging").any()
    # It emerges when its score passes the target: 1000 + 250 log(5) steps = 1400.
    first = STEP[np.argmax(status.sel(head="a").values == "emerged")]
    assert 1_350.0 <= first <= 1_800.0
    table = monitor.summary()
    assert list(table["status"]) == ["emerged", "stalled", "not yet"]
    assert "Monitor" in monitor._repr_html_()


def test_a_loss_that_is_to_fall():
    curves = 1.0 - three_curves()
    monitor = es.Monitor(
        last_step=4_000.0, value_range=(0.0, 1.0), target=0.5, baseline=0.9, noise="independent"
    )
    assert list(watched(monitor, curves).isel(step=-1).values) == ["emerged", "stalled", "not yet"]


def test_without_a_target_having_begun_is_all():
    monitor = es.Monitor(last_step=4_000.0, value_range=(0.0, 1.0), noise="independent")
    assert list(watched(monitor, three_curves()).isel(step=-1)) == ["emerged", "emerged", "not yet"]


def test_it_forecasts_and_goes_on_where_it_was_stored(tmp_path):
    curves = three_curves()
    monitor = es.Monitor(last_step=4_000.0, value_range=(0.0, 1.0), target=0.5)
    for k in range(30):
        monitor.update(STEP[k], curves.isel(step=k, drop=True))
    monitor.to_netcdf(tmp_path / "run.nc")
    again = es.Monitor.from_netcdf(tmp_path / "run.nc")
    one = monitor.update(STEP[30], curves.isel(step=30, drop=True))
    other = again.update(STEP[30], curves.isel(step=30, drop=True))
    xr.testing.assert_identical(one, other)
    np.testing.assert_array_equal(monitor.scores, curves.isel(step=slice(0, 31)))
    done = monitor.forecast(noise="independent", families=("exponential",)).sel(head="a")
    # 1000 + 250 log(100), seen from 1550; the plateau is 0.6.
    assert float(done["time_to_99_percent"].sel(quantile=0.5)) == pytest.approx(2_151.0, rel=0.2)
    assert float(done["plateau"].sel(quantile=0.5)) == pytest.approx(0.6, abs=0.06)
    # It passed the target at 1000 + 250 log(5).
    low, middle, high = done["target_reached"].values
    assert low < 1_402.0 < high
    assert middle == pytest.approx(1_402.0, abs=50.0)
    low, _, high = done["time_to_99_percent"].values
    assert high - low > 200.0


def test_bad_input_is_named():
    with pytest.raises(es.InputError, match="target: 2"):
        es.Monitor(last_step=10, value_range=(0, 1), target=2.0)
    with pytest.raises(es.InputError, match="baseline"):
        es.Monitor(last_step=10, value_range=(0, 1), target=0.0)
    with pytest.raises(es.InputError, match="target: nan"):
        es.Monitor(last_step=10, value_range=(0, 1), target=float("nan"))
    monitor = es.Monitor(last_step=10, value_range=(0, 1))
    with pytest.raises(es.InputError, match="nothing is seen"):
        monitor.summary()
    with pytest.raises(es.InputError, match="nothing is seen"):
        monitor.forecast()
    monitor.update(1, 0.1)
    with pytest.raises(es.InputError, match="step: 1"):
        monitor.update(1, 0.1)
    assert monitor.scores.sizes["step"] == 1


def test_the_command_watches_a_store(tmp_path):
    curves = three_curves().rename("score")
    append_trajectory(tmp_path / "trajectory.zarr", curves.to_dataset())
    how = ["monitor", str(tmp_path), "--variable", "score", "--last-step", "4000", "--json"]
    done = CliRunner().invoke(main, [*how, "--target", "0.5", "--follow", "0.01"])
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.output.splitlines()]
    watch = es.Monitor(last_step=4_000.0, value_range=(0.0, 1.0), target=0.5)
    status = watched(watch, three_curves()).isel(step=-1)
    assert told[-1]["step"] == 4_000.0
    assert [row["status"] for row in told[-1]["curves"]] == list(status.values)
    wrong = CliRunner().invoke(main, [*how[:3], "scor", *how[4:]])
    assert wrong.exit_code == 2
    assert "did you mean" in wrong.output
