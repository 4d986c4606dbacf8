"""What the report says of collision heads: words, attention against distance, picture, rollout."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic_runs import (
    EMERGING,
    HEAD_DIMS,
    INTACT_LOSS,
    RUNS,
    SHAPE,
    make_assessment,
    make_findings,
    make_results,
    make_trajectory,
)

from emergence_stats.report import write_picture, write_report
from emergence_stats.report.catalogue import LANGUAGES, read_messages
from emergence_stats.report.findings import read_findings
from simulator.report.record import COLLISION_HEADS
from simulator.report.scene import MOST_WEIGHTS, read_scene
from simulator.report.sections import write_distance, write_rollout, write_scene

SCORE = "collision_score"


def make_scores():
    trajectory = make_trajectory(score=SCORE)
    distance = np.linspace(1.05, 7.0, 24)
    near = np.exp(-((distance - 1.2) ** 2))
    profile = 1 + 10 * (trajectory[SCORE] - 0.093) * xr.DataArray(near, dims="distance")
    return trajectory.assign(attention_distance_correlation=profile).assign_coords(
        distance=distance
    )


def make_tests(*, dimension=2, frames=40, particles=16):
    generator = np.random.default_rng(1)
    tests = make_assessment(score=SCORE).rename(loss_rise="ablation_loss_rise")
    colliding = {"particles": ["colliding", "free"]}
    start = generator.uniform(0.1, 0.9, (particles, dimension))
    velocity = generator.normal(0, 0.01, (particles, dimension))
    places = np.clip(start + velocity * np.arange(frames)[:, None, None], 0.06, 0.94)
    apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    weight = np.exp(-apart / 0.08)
    weight[:, np.arange(particles), np.arange(particles)] = 0.05
    time = np.arange(41)
    errors = np.stack([0.02 * time**1.3, 0.4 * time**0.6, 0.1 * time], axis=-1)
    weight /= weight.sum(-1, keepdims=True)
    frame = ("frame", "particle", "axis")
    tests = tests.assign(
        intact_loss=tests["intact_loss"].expand_dims(colliding, axis=-1),
        ablation_loss_rise=tests["ablation_loss_rise"].expand_dims(colliding, axis=-1),
        contact_rank_correlation=(HEAD_DIMS, np.full(SHAPE, 0.55)),
        rollout_error=(("run", "time", "predictor"), [errors, errors * [1.2, 1.0, 1.0]]),
        animation_position=(frame, places),
        animation_true_position=(frame, places + 0.005),
        animation_attention=(("frame", "particle", "other"), weight),
    )
    return tests.assign_coords(
        time=("time", time, {"units": "intervals"}),
        predictor=["model", "persistence", "ballistic"],
    ).assign_attrs(best_run=0, best_layer=0, best_head=1, radius=0.06, box=[1.0] * dimension)


def make_inputs(**changes):
    given = {"trajectory": make_scores(), "assessment": make_tests(), "structure": COLLISION_HEADS}
    return make_results(**(given | changes))


@pytest.fixture(scope="module")
def findings():
    return read_findings(**make_inputs())


def test_the_command_line_is_offered_them():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    offered = project["entry-points"]["emergence_stats.structures"]
    assert EntryPoint("", offered["collision_heads"], "").load() is COLLISION_HEADS


def test_every_language_has_every_word():
    for language in LANGUAGES:
        words = {f"structure.{name}" for name in COLLISION_HEADS.words[language]}
        assert words == {name for name in read_messages(language) if name.startswith("structure.")}


def test_quantities_are_found(findings):
    head = findings.emerged[0]
    score, rank, colliding, free = head.quantities
    assert (score.median, rank.median) == pytest.approx((EMERGING[0, 0, 1][0] - 0.01, 0.55))
    assert colliding.median == free.median == pytest.approx(0.62 / INTACT_LOSS)
    assert head.tests[0] is True


def test_the_whole_page(tmp_path):
    path = write_report(tmp_path / "report.html", language="ja", **make_inputs())
    html = path.read_text(encoding="utf-8")
    titles = re.findall(r"<h2 .*?</span>(.*?)</h2>", html)
    assert titles[4:7] == [
        "What the heads look at: attention against distance",
        "A head at work",
        "The network as a simulator: error of repeated prediction",
    ]
    assert "はい。学習2回のうち2回で、衝突検出の創発を確認しました。" in html
    assert "他の粒子に向ける注意の35%を近くの粒子に" in html
    assert html.count("<script") == html.count("</script>") == 2
    data = re.search(r'id="animation-data">(.*?)</script>', html, re.DOTALL)
    assert len(json.loads(data[1])["positions"]) == 40
    assert "prefers-reduced-motion" in html


def test_the_picture(tmp_path):
    path = write_picture(tmp_path / "picture.png", **make_inputs())
    assert path.read_bytes().startswith(b"\x89PNG")


class TestDistance:
    def test_says_where_each_head_looks(self, findings):
        (figure,) = write_distance(findings).figures
        profile = make_scores()["attention_distance_correlation"].isel(step=-1)
        for run, layer, head in EMERGING:
            one = profile.sel(run=run, layer=layer, head=head)
            most, at = float(one.max()), float(one["distance"][int(one.argmax("distance"))])
            where = f"seed {run}, layer {layer}, head {head}"
            said = f"{where} ends with a maximum of {most:.2f} at {at:.2f} diameters"
            assert said in figure.description
        assert "Shaded: within 1.5 diameters" in figure.caption

    def test_is_missing_where_nothing_was_recorded(self):
        trajectory = make_scores()
        name = "attention_distance_correlation"
        empty = trajectory.assign({name: trajectory[name] * np.nan})
        for given, said in ((trajectory.drop_vars(name), "not recorded"), (empty, "no values")):
            section = write_distance(read_findings(**make_inputs(trajectory=given)))
            assert said in section.missing


class TestScene:
    def test_frames_are_packed_as_they_are(self):
        tests = make_tests()
        packed = read_scene(tests).packed()
        np.testing.assert_allclose(
            np.array(packed["positions"], float), tests["animation_position"], atol=5.1e-5
        )
        weight = tests["animation_attention"].values * ~np.eye(16, dtype=bool)
        shares = np.array([packed["attention"][str(query)] for query in range(16)])
        expected = weight / weight.sum(-1, keepdims=True)
        np.testing.assert_allclose(shares.swapaxes(0, 1) / 100, expected, atol=0.0051)

    def test_a_large_scene_keeps_only_the_shown_particle(self):
        particles = int((MOST_WEIGHTS / 40) ** 0.5) + 2
        scene = read_scene(make_tests(particles=particles))
        packed = scene.packed()
        assert list(packed["attention"]) == [str(scene.query)]
        assert len(packed["positions"][0]) == particles

    def test_frames_that_are_not_numbers_become_null(self):
        tests = make_tests()
        tests["animation_position"][30:, 3] = np.nan
        packed = read_scene(tests).packed()
        assert packed["positions"][35][3] == [None, None]
        json.dumps(packed, allow_nan=False)

    def test_spheres_are_seen_along_one_axis(self):
        findings = make_findings([], assessment=make_tests(dimension=3))
        assert "Seen along one axis" in write_scene(findings).figures[0].caption

    def test_is_missing_without_frames(self):
        tests = make_tests()
        tests.attrs.pop("radius")
        for assessment in (None, tests, tests.drop_vars("animation_attention")):
            assert write_scene(make_findings([], assessment=assessment)).missing


class TestRollout:
    def test_numbers_are_the_dataset_s(self, findings):
        section = write_rollout(findings)
        rows = {row[:2]: row[2:] for row in section.tables[0].rows}
        assert list(rows)[:3] == [("0", "network"), ("0", "persistence"), ("0", "ballistic")]
        assert rows["1", "persistence"][0] == "0.400"
        assert len(rows) == 3 * len(RUNS)
        assert section.paragraphs[0] == (
            "Seed 0: the network’s error is below that of persistence throughout and that of "
            "ballistic throughout."
        )

    def test_a_network_without_finite_errors_beats_nothing(self):
        tests = make_tests()
        model = tests["predictor"] == "model"
        tests["rollout_error"] = tests["rollout_error"].where(~model)
        section = write_rollout(make_findings([], assessment=tests))
        assert "nowhere (no finite error)" in section.paragraphs[0]

    def test_is_missing_where_it_was_not_computed(self):
        assert write_rollout(make_findings([])).missing
