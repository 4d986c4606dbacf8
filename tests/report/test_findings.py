"""Numbers are taken out of the datasets as they are; what is missing is None or not a number."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import (
    EMERGING,
    HEAD_DIMS,
    INTACT_LOSS,
    SCORE,
    SHAPE,
    make_comparison,
    make_onset,
    make_results,
    make_trajectory,
)

from emergence_stats.errors import InputError
from emergence_stats.report import find_structure, text_summary
from emergence_stats.report.decision import decide
from emergence_stats.report.findings import read_findings
from emergence_stats.report.plain import write_plain_page

RESULTS = make_results()


class TestStructure:
    def test_an_installed_package_brings_its_own(self, monkeypatch):
        class Entry:
            def load(self):
                return RESULTS["structure"]

        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Entry()])
        assert find_structure(RESULTS["trajectory"]) is RESULTS["structure"]
        other = RESULTS["trajectory"].rename({SCORE: "other", f"{SCORE}_sd": "other_sd"})
        assert find_structure(other).words == {}

    def test_a_stranger_is_named_by_its_score(self):
        trajectory = make_trajectory().assign(gain=RESULTS["trajectory"][SCORE].drop_attrs())
        structure = find_structure(trajectory[["gain", *trajectory]])
        assert structure.score == SCORE  # the one with a baseline
        lines = text_summary(**(RESULTS | {"structure": None}))
        assert lines[0].startswith("Yes: the structure has emerged, in 2 of 2 training runs.")

    def test_trajectory_without_scores(self):
        with pytest.raises(InputError, match="no variable has the dimensions run, step"):
            text_summary(trajectory=make_trajectory().isel(run=0))

    def test_another_score_than_the_structure_s(self):
        with pytest.raises(InputError, match=f"no variable '{SCORE}'"):
            text_summary(**(RESULTS | {"trajectory": make_trajectory(score="other")}))
        one_run = RESULTS["trajectory"].isel(run=0)
        with pytest.raises(InputError, match="without run; add"):
            text_summary(**(RESULTS | {"trajectory": one_run}))


class TestHeads:
    def test_emerged_ones_come_first_then_by_score(self):
        findings = read_findings(**RESULTS)
        assert {(one.run, one.layer, one.head) for one in findings.emerged} == set(EMERGING)
        assert findings.heads[:4] == findings.emerged == findings.highlighted
        scores = [head.score.median for head in findings.emerged]
        assert scores == sorted(scores, reverse=True)

    def test_quantities_are_those_of_the_assessment(self):
        head = read_findings(**RESULTS).heads[0]
        rise = RESULTS["assessment"].sel(run=head.run, layer=head.layer, head=head.head)
        ends = [float(rise[f"loss_rise{end}"]) / INTACT_LOSS for end in ("", "_lower", "_upper")]
        assert head.quantities[1] == pytest.approx(ends)
        assert (head.tests, head.quantities[2]) == ((True, True, None), None)
        assert head.by_bounds

    def test_without_the_whole_there_is_no_multiple(self):
        assessment = RESULTS["assessment"].drop_vars("intact_loss")
        head = read_findings(**(RESULTS | {"assessment": assessment})).heads[0]
        assert head.quantities[1] is None
        assert not head.by_bounds

    def test_onset_is_read_from_its_cumulative_where_bounds_are_missing(self):
        step = np.linspace(0.0, 3000.0, 301)
        onset = make_onset(make_comparison())[["probability", "median"]]
        dims = (*HEAD_DIMS, "point")
        onset = onset.assign(
            onset_step=(dims, np.broadcast_to(step, (*SHAPE, 301))),
            cumulative=(dims, np.broadcast_to(step / 3000, (*SHAPE, 301))),
        )
        head = read_findings(**(RESULTS | {"onset": onset})).heads[0]
        assert head.onset == pytest.approx((640.0, 0.055 * 3000, 0.945 * 3000))

    def test_a_decline_after_the_peak_is_noticed(self):
        trajectory = RESULTS["trajectory"]
        late = (trajectory["step"] - 2000).clip(0) / 1000
        score = trajectory[SCORE]
        declined = trajectory.assign({SCORE: score - 0.15 * late * (score.isel(step=-1) > 0.2)})
        found = read_findings(**(RESULTS | {"trajectory": declined})).heads
        assert {(h.run, h.layer, h.head) for h in found if h.declined} == set(EMERGING)
        assert not any(head.declined for head in read_findings(**RESULTS).heads)

    def test_a_falling_score_is_no_rise(self):
        falling = RESULTS["comparison"].assign(direction=(HEAD_DIMS, np.full(SHAPE, "falling")))
        assert not read_findings(**(RESULTS | {"comparison": falling})).emerged


def test_checkpoints_before_and_after():
    before, after = read_findings(**RESULTS).before_and_after(0)
    assert (before.step, before.value, after.step, after.value) == (200, 41.5, 3000, 80.2)


def test_damaged_attributes_are_missing():
    trajectory = make_trajectory()
    trajectory.attrs.update(configuration="{not json", stopped="[1]")
    trajectory[SCORE].attrs["baseline"] = "unknown"
    findings = read_findings(trajectory=trajectory)
    assert (findings.configuration, findings.stopped) == ({}, {})
    assert np.isnan(findings.baseline)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_part_may_be_unknown(data):
    results = dict(RESULTS)
    for name in ("assessment", "comparison", "onset", "llc"):
        if data.draw(st.booleans(), label=f"{name} missing"):
            results[name] = None
            continue
        dataset = results[name].copy()
        for variable in list(dataset.data_vars):
            fate = data.draw(st.sampled_from(["keep", "keep", "drop", "nan", "word"]))
            array = dataset[variable]
            if fate == "drop":
                dataset = dataset.drop_vars(variable)
            elif fate == "nan" and array.dtype.kind == "f":
                dataset[variable] = array * np.nan
            elif fate == "word" and array.dtype.kind == "U":
                words = ["misfit", "no_emergence", "undecided", "something else", ""]
                word = data.draw(st.sampled_from(words))
                dataset[variable] = xr.full_like(array, word, dtype="U16")
        results[name] = dataset
    if data.draw(st.booleans(), label="unfinished"):
        trajectory = results["trajectory"]
        scores = trajectory[SCORE].where(trajectory["step"] < 900)
        results["trajectory"] = trajectory.assign({SCORE: scores})
    lines = text_summary(**results)
    assert len(lines) == 10
    findings = read_findings(**results)
    said = [*lines]
    for language in ("en", "ja"):
        page = write_plain_page(findings, decide(findings), language)
        said += [page.headline, json.dumps([page.facts, page.answers, page.cautions])]
    assert not re.search(r"\bnan\b|None", " ".join(said))
