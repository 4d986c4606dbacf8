"""The main job from end to end, small: every stage leaves its result, a second call reuses it."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from small_runs import SMALL, train_here

import emergence_stats as es
from emergence_stats.cli import main
from simulator.experiments import landscape
from simulator.experiments.demo import landscape_checkpoints
from simulator.training import runs
from simulator.training.checkpoints import checkpoint_steps

CONFIG = SMALL.replace(
    depth=1, num_steps=60, evaluations_per_decade=8, evaluate_every=0, seeds=(0, 1)
)


# The folder is made once and used by several tests: they must share a process.
pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "run"
    fields = tmp_path_factory.mktemp("fields") / "small.toml"
    values = {**vars(CONFIG), "seeds": list(CONFIG.seeds)}
    fields.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    arguments = ["demo", "--output", str(folder), "--config", str(fields)]
    with pytest.MonkeyPatch.context() as patch:
        # Few draws, in one process: what is estimated is not asked here.
        patch.setattr(landscape, "NUM_DRAWS", 24)
        patch.setattr(runs, "train_in_processes", train_here)
        patch.setattr(os, "cpu_count", lambda: 1)
        yield folder, arguments, CliRunner().invoke(main, arguments)


class TestDemo:
    def test_it_leaves_what_it_promises(self, demo):
        folder, _, result = demo
        assert result.exit_code == 0, result.output
        assert (folder / "report.html").stat().st_size > 50_000
        assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
        assert es.open_trajectory(folder).sizes["run"] == 2
        for seed in (0, 1):
            assert checkpoint_steps(folder, seed)[-1] == CONFIG.num_steps

    def test_it_ends_with_the_summary_and_the_path(self, demo):
        folder, _, result = demo
        lines = result.stdout.strip().splitlines()
        assert lines[-1] == str(folder / "report.html")
        assert len(lines[-11:-1]) == 10

    def test_again_it_reuses_every_stage(self, demo, monkeypatch):
        _, arguments, first = demo

        def refused(*_, **__):
            raise AssertionError("computed again")

        for name in ("compare", "detect_onset"):
            monkeypatch.setattr(es, name, refused)
        monkeypatch.setattr("simulator.experiments.demo.assess", refused)
        monkeypatch.setattr("simulator.experiments.landscape.estimate_checkpoint", refused)
        again = CliRunner().invoke(main, arguments)
        assert again.exit_code == 0, again.output
        assert again.stdout.strip().splitlines()[-11:] == first.stdout.strip().splitlines()[-11:]

    def test_a_damaged_stage_is_named(self, demo):
        folder, arguments, _ = demo
        path = folder / "analysis" / "comparison.nc"
        whole = path.read_bytes()
        path.write_bytes(whole[:1000])
        result = CliRunner().invoke(main, arguments)
        path.write_bytes(whole)
        assert result.exit_code == 2
        assert "comparison.nc: damaged" in result.output

    def test_analyze_prints_the_same_verdicts(self, demo):
        folder, _, _ = demo
        result = CliRunner().invoke(main, ["analyze", str(folder), "--json"])
        assert result.exit_code == 0, result.output
        rows = json.loads(result.stdout)
        with xr.open_dataset(folder / "analysis" / "comparison.nc", engine="h5netcdf") as kept:
            for row in rows:
                where = {name: row[name] for name in ("run", "layer", "head")}
                assert row["verdict"] == str(kept["verdict"].sel(where).item())

    def test_the_report_alone_says_the_same(self, demo, tmp_path):
        folder, _, first = demo
        page = tmp_path / "page.html"
        arguments = ["report", str(folder), "--lang", "ja", "--output", str(page), "--json"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        outcome = json.loads(result.stdout)
        assert outcome["summary"] == first.stdout.strip().splitlines()[-11:-1]
        assert "学習" in page.read_text(encoding="utf-8")

    def test_an_unknown_variable_is_named(self, demo):
        folder, _, _ = demo
        result = CliRunner().invoke(main, ["analyze", str(folder), "--variable", "colision_score"])
        assert result.exit_code == 2
        assert "did you mean 'collision_score'" in result.output


def test_one_estimate_from_the_command_line(demo):
    folder, _, _ = demo
    result = CliRunner().invoke(main, ["llc", str(folder), "--seed", "1", "--json"])
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    with xr.open_dataset(folder / "analysis" / "llc.nc", engine="h5netcdf") as kept:
        stored = kept["llc"].sel(run=1, step=CONFIG.num_steps).item()
    assert outcome["step"] == CONFIG.num_steps
    # One thread in both, and the same random streams.
    assert outcome["llc"] == pytest.approx(stored, rel=1e-6)
    result = CliRunner().invoke(main, ["llc", str(folder), "--seed", "1", "--step", "51"])
    assert result.exit_code == 2
    assert "the nearest of the" in result.output


def test_training_that_is_done_reports_its_losses_as_json(demo):
    folder, arguments, _ = demo
    result = CliRunner().invoke(main, ["train", *arguments[1:], "--json"])
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    stored = es.open_trajectory(folder)["test_loss"]
    for run in (0, 1):
        assert outcome["test_loss"][str(run)] == stored.sel(run=run, step=CONFIG.num_steps).item()


def test_a_sweep_from_the_command_line(demo, monkeypatch):
    folder, _, _ = demo
    monkeypatch.setattr(landscape, "NUM_DRAWS", 12)
    arguments = ["sweep", str(folder), "--seed", "1", "--every", "9", "--json"]
    arguments += ["--part", "all=*", "--part", "queries=*.quer*"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    steps = checkpoint_steps(folder, 1)[::-1][::9][::-1]
    assert [row["step"] for row in rows[::2]] == steps
    assert len(steps) >= 2
    assert {row["part"] for row in rows} == {"all", "queries"}
    assert all(isinstance(row["llc"], float) for row in rows)
    monkeypatch.setattr("emergence_stats.degeneracy.sweep.workers.estimate_llc", None)
    again = CliRunner().invoke(main, arguments)
    assert json.loads(again.stdout) == rows
    wrong = CliRunner().invoke(main, ["sweep", str(folder), "--part", "queries"])
    assert wrong.exit_code == 2
    assert "NAME=GLOB" in wrong.output


def test_the_landscape_is_sampled_before_the_rise_and_at_the_end():
    steps = np.array([0, 1, 10, 20, 50, 100, 200])
    loss = np.ones((2, 7))
    loss[1, 5:] = np.nan  # the second run stopped early
    scores = np.zeros((2, 7, 1, 2))
    scores[0, :, 0, 0] = [0.1, 0.1, 0.1, 0.12, 0.5, 0.8, 0.9]  # passes; begun at step 50
    scores[0, :, 0, 1] = [0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]  # begun at once, and does not pass
    scores[1, :, 0, 0] = [0.1, 0.1, 0.1, 0.3, 0.4, np.nan, np.nan]
    scores[1, :, 0, 1] = [0.1, 0.1, 0.1, 0.1, 0.4, np.nan, np.nan]
    coords = {"run": [3, 4], "step": steps}
    trajectory = xr.Dataset(
        {
            "test_loss": (("run", "step"), loss),
            "collision_score": (("run", "step", "layer", "head"), scores),
        },
        coords=coords,
    )
    passes = np.array([[[True, False]], [[False, False]]])
    assessment = xr.Dataset(
        {"is_collision_head": (("run", "layer", "head"), passes)}, coords={"run": [3, 4]}
    )
    assert landscape_checkpoints(trajectory, assessment) == [
        (3, 20, "before"),
        (3, 200, "after"),
        (4, 10, "before"),
        (4, 50, "after"),
    ]
