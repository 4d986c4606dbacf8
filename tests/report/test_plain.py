"""The plain page says what was found, in both languages from the same choice of messages."""

from __future__ import annotations

import dataclasses
import re

import jinja2
import jinja2.meta
import pytest
from synthetic_runs import STRUCTURE, make_findings, make_head, make_results

from emergence_stats.errors import InputError
from emergence_stats.report.catalogue import FILTERS, LANGUAGES, Catalogue, read_messages
from emergence_stats.report.decision import decide
from emergence_stats.report.findings import read_findings
from emergence_stats.report.plain import write_plain_page
from emergence_stats.report.records import LearningCoefficient, LossTrend
from emergence_stats.report.wording import Interval

UNKNOWN = {"passes": None, "verdict": None, "onset_probability": float("nan"), "onset": None}
UNTESTED = {"passes": None}
FAILED = {"passes": False, "verdict": "no_emergence", "onset_probability": 0.1}
DONE = {"fraction_complete": Interval(0.98, 0.96, 0.9999)}
WIDE = {"fraction_complete": Interval(0.94, 0.85, 0.97)}
MORE = {"fraction_complete": Interval(0.5, 0.4, 0.6)}
NO_LAW = {"verdict": None, "probability": {}, "fraction_complete": None}
EXPONENTIAL = {"verdict": "exponential", "probability": {"exponential": 0.7}}


def make_page(language, first, second=None, **changes):
    second = first if second is None else second
    findings = make_findings([make_head(0, **first), make_head(1, **second)], **changes)
    return write_plain_page(findings, decide(findings), language)


def read_text(page):
    sentences = [text for answer in page.answers.values() for text in answer.sentences]
    facts = [text for fact in page.facts for text in fact]
    return "\n".join([page.headline, *facts, *sentences, *page.cautions])


def find_placeholders(text):
    environment = jinja2.Environment()
    environment.filters |= FILTERS
    return jinja2.meta.find_undeclared_variables(environment.parse(text))


class TestCatalogues:
    def test_have_the_same_messages_with_the_same_placeholders(self):
        first, *others = ({n: find_placeholders(t) for n, t in read_messages(language).items()}
                          for language in LANGUAGES)  # fmt: skip
        assert len(first) > 80
        assert all(other == first for other in others)

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_message_is_said_of_some_findings(self, language, monkeypatch):
        said = set()
        say = Catalogue.say

        def listen(self, name, **values):
            said.add(name)
            return say(self, name, **values)

        monkeypatch.setattr(Catalogue, "say", listen)
        four = [LossTrend(run, 1.0, 0.02 + run, 3000 - run, -0.1 * run, 0.01) for run in range(4)]
        doubtful = (LearningCoefficient(0, 200, 41.5, 1.3, "chains disagree"),)
        for first, second, changes in (
            (DONE, {**EXPONENTIAL, "onset_probability": 0.7}, {"losses": four, "llc": doubtful}),
            ({"late_change": 0.2, **WIDE}, {"verdict": "undecided", "late_change": -0.1}, {}),
            ({"declined": True}, {"verdict": "misfit"}, {"change": 0.2}),
            (MORE, None, {}),
            (DONE, None, {"change": -0.2}),
            ({}, FAILED, {"stopped": {"1": "a reason"}}),
            ({}, {"verdict": "no_emergence"}, {}),
            ({}, UNTESTED, {}),
            (FAILED, None, {}),
            (FAILED, None, {"change": -0.2}),
            (FAILED, None, {"losses": ()}),
            (UNTESTED, {**UNTESTED, **NO_LAW}, {}),
            ({**UNTESTED, **NO_LAW}, None, {"losses": (LossTrend(1, 1, 1, 9, 0.3, 0.5),)}),
            ({**UNTESTED, "verdict": "no_emergence"}, None, {}),
            (UNKNOWN, None, {}),
        ):
            text = read_text(make_page(language, first, second, **changes))
            assert not re.search(r"\bnan\b|None|\{\{", text)
        many = [make_head(run) for run in range(5)]
        findings = make_findings(many, runs=range(5), losses=four)
        write_plain_page(findings, decide(findings), language)
        elsewhere = {
            name for name in read_messages(language)
            if name.startswith("page.") or name == "number.joint"
        }  # fmt: skip
        structure = {f"structure.{name}" for name in Catalogue(language, STRUCTURE).words}
        assert said >= set(read_messages(language)) - elsewhere - structure

    def test_a_structure_brings_its_own_words(self):
        words = {"en": {"ability": "copying"}}
        page = make_page("en", {}, structure=dataclasses.replace(STRUCTURE, words=words))
        assert page.headline == "Yes: copying has emerged, in 2 of 2 training runs."

    def test_unknown_language(self):
        with pytest.raises(InputError, match="language: 'jp' is not available"):
            make_page("jp", {})


@pytest.fixture(scope="module")
def findings():
    return read_findings(**make_results())


def test_answers_in_english(findings):
    text = read_text(write_plain_page(findings, decide(findings), "en"))
    for part in (
        "Yes: the structure has emerged, in 2 of 2 training runs.",
        "Every test is passed by 4 of 8 heads.",
        "at step 640 [609, 687] in seed 0 and at step 700 [669, 747] in seed 1",
        "The rise of 2 of 4 heads follows a power law",
        "(probability 0.97 to >0.99)",
        "The rise of 1 of 4 heads follows an exponential",
        "For 1 of 4 heads the measurements cannot tell",
        "leave 6% of the rise still to come (between 3.0% and 10%",
        "not reliable, by their own diagnostics (chains disagree; section 4)",
    ):
        assert part in text


def test_answers_in_japanese(findings):
    text = read_text(write_plain_page(findings, decide(findings), "ja"))
    for part in (
        "はい。学習2回のうち2回で、構造の創発を確認しました。",
        "ヘッド全8個のうち、すべてに合格したのは4個です。",
        "シード0で640 [609, 687]ステップ",
        "ヘッド4個中2個の上昇はべき乗則",
        "（確率0.97〜0.99超）",
        "残りは6%です",
    ):
        assert part in text
    assert len(re.findall("[\u3040-\u30ff]", text)) > 300
    # Half-width brackets beside Japanese would look like a machine's work.
    assert not re.search("[\u3040-\u9fff][(:]|[):][\u3040-\u9fff]", text)


def test_cautions_name_what_they_are_about():
    page = make_page("en", {"verdict": "misfit"}, {**UNTESTED, "declined": True},
                     stopped={"0": "a reason"})  # fmt: skip
    text = "\n".join(page.cautions)
    assert "Seed 0 ended early" in text
    assert "The heads of seed 1 were not tested" in text
    assert "For 1 head neither law" in text


@pytest.mark.parametrize(
    ("language", "counted", "single"),
    [("en", "1 of 1 training run.", "a single run"), ("ja", "1回のうち1回", "1回のみ")],
)
def test_a_single_run_is_called_so(language, counted, single):
    page = make_page(language, {}, UNTESTED, runs=(0,))
    assert counted in page.headline
    assert single in read_text(page)
