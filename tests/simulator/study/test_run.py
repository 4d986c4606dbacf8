"""The whole study, small: stopped, resumed, reported."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from small_runs import SMALL, train_here

import simulator.study.plan
from emergence_stats.cli import main
from emergence_stats.errors import InputError, StorageError
from simulator.study import measurements, reproduce, study
from simulator.study.headline import headline
from simulator.study.page import study_page
from simulator.training import runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The command on a small plan of one arm, stopped once on the way."""
    folder = tmp_path_factory.mktemp("study") / "run"
    plan = study("short").replace(
        training=SMALL.replace(
            depth=1,
            train_systems=32,
            test_systems=8,
            batch_size=16,
            num_steps=40,
            evaluate_every=10,
            seeds=(0, 1),
        ),
        arms=("adam",),
        sweep_checkpoints=2,
        sweep_from=1,
        heads_from=10,
        curvature_samples=16,
        curvature_seeds=1,
        draws=16,
    )
    arguments = ["reproduce", "--preset", "short", "--output", str(folder), "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(simulator.study.plan.STUDIES, "short", plan)
        patch.setattr(runs, "train_in_processes", train_here)

        def stop(*_, **__):
            raise StorageError("the disk is full")

        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(measurements, "measure_curvature", stop)
            stopped = CliRunner().invoke(main, arguments)
        before = (folder / "measurements" / "network-adam.nc").stat().st_mtime_ns
        finished = CliRunner().invoke(main, [*arguments, "--json"])
        yield folder, plan, arguments, stopped, before, finished


@pytest.mark.xdist_group("study")
class TestWhole:
    def test_it_goes_on_where_it_was_stopped(self, whole):
        folder, _, _, stopped, before, finished = whole
        assert stopped.exit_code != 0
        assert "the disk is full" in stopped.output
        assert finished.exit_code == 0, finished.output
        assert (folder / "measurements" / "network-adam.nc").stat().st_mtime_ns == before

    def test_it_leaves_what_it_promises(self, whole):
        folder, plan, _, _, _, finished = whole
        answers = json.loads(finished.stdout)
        assert answers == json.loads((folder / "study.json").read_text())
        assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")
        assert set(answers["structures"]) == set(plan.arms)
        assert answers["cost"]["training"]["seconds"] > 0.0
        llc = xr.open_dataset(folder / "measurements" / "network-adam.nc", engine="h5netcdf")
        assert llc["llc"].dims == ("run", "step")
        assert np.isfinite(llc["llc"]).all()
        page = (folder / "study.md").read_text()
        assert page == study_page(answers)
        for title in ("(a) Structures", "(b) Degeneracy", "(c) Dynamics", "(d) One potential"):
            assert f"## {title}" in page

    def test_the_words_follow_the_numbers(self, whole):
        answers = json.loads((whole[0] / "study.json").read_text())
        answers["structures"]["adam"]["probability_more_than_control"] = 0.97
        assert headline(answers)[0].startswith("(a) Structures: supported")
        answers["structures"]["adam"]["probability_more_than_control"] = 0.03
        assert headline(answers)[0].startswith("(a) Structures: contradicted")
        answers["degeneracy"]["adam"]["change"]["mean"] = None
        assert "by how much could not be told, with" in headline(answers)[1]

    def test_another_plan_is_refused(self, whole):
        folder, plan, arguments, *_ = whole
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(simulator.study.plan.STUDIES, "short", plan.replace(draws=17))
            result = CliRunner().invoke(main, arguments)
        assert result.exit_code != 0
        assert "another draws" in result.output
        assert (folder / "study.json").exists()


def test_an_output_that_is_no_study_is_refused_and_left_as_it_is(tmp_path):
    given = tmp_path / "notes.txt"
    given.write_text("mine")
    with pytest.raises(InputError, match=r"output: .*notes\.txt is a file"):
        reproduce(study("short"), given)
    assert given.read_text() == "mine"
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "plan.json").write_text("{")
    with pytest.raises(StorageError, match=r"plan\.json: damaged"):
        reproduce(study("short"), folder)
    assert [path.name for path in folder.iterdir()] == ["plan.json"]
