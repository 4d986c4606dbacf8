"""One page that stands alone, whose numbers are the datasets', whole or in part."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import tomllib
from html.parser import HTMLParser

import matplotlib as mpl
import pytest
import xarray as xr
from markupsafe import Markup
from synthetic_runs import (
    CONFIGURATION,
    EMERGING,
    HEAD_DIMS,
    INTACT_LOSS,
    STRUCTURE,
    make_assessment,
    make_comparison,
    make_llc,
    make_onset,
    make_results,
    make_trajectory,
)

from emergence_stats.errors import StorageError
from emergence_stats.report import write_picture, write_report
from emergence_stats.report.catalogue import Catalogue
from emergence_stats.report.figures import draw_headline
from emergence_stats.report.findings import read_findings
from emergence_stats.report.layout import Section

SECTIONS = ("plain", "training", "comparison", "coefficients", "tests", "own", "method")
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "circle", "stop"}


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.references = [], [], [], []
        self.tables, self.text, self.tags = [], {}, set()
        self.sections, self.missing, self.descriptions = [], [], 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.links += [attrs[name] for name in ("src", "href", "xlink:href") if name in attrs]
        self.references += attrs.get("aria-labelledby", "").split()
        self.references += re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, attrs.values())))
        self.tags.add(tag)
        if tag == "section":
            self.sections.append(attrs["id"])
        if tag == "table":
            self.tables.append({"caption": "", "rows": [], "section": self.sections[-1]})
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append("")
        if attrs.get("role") == "img":
            assert len(attrs["aria-label"]) > 20
            self.descriptions += 1
        if attrs.get("class") == "missing":
            self.missing.append(self.sections[-1])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open or "script" in self.open:
            return
        if self.sections:
            section = self.sections[-1]
            self.text[section] = f"{self.text.get(section, '')} {data}"
        if "caption" in self.open:
            self.tables[-1]["caption"] += data
        elif "td" in self.open or "th" in self.open:
            row = self.tables[-1]["rows"][-1]
            row[-1] += data

    def find_rows(self, section):
        """Of the section's last table."""
        table = [table for table in self.tables if table["section"] == section][-1]
        return [[flatten(cell) for cell in row] for row in table["rows"][1:]]


def flatten(text):
    return " ".join(text.replace("\xa0", " ").split())


def write_own_sections(findings):
    return [Section("own", f"Of {len(findings.heads)} heads", html=Markup("<hr>"))]


def make_inputs(**changes):
    structure = dataclasses.replace(STRUCTURE, sections=write_own_sections)
    return make_results(**({"structure": structure} | changes))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page, what it was made from, that before it was written, and matplotlib's settings."""
    inputs = make_inputs()
    before = {name: inputs[name].copy(deep=True) for name in inputs if name != "structure"}
    settings = dict(mpl.rcParams)
    path = write_report(tmp_path_factory.mktemp("report") / "new" / "report.html", **inputs)
    return path.read_text(encoding="utf-8"), inputs, before, settings


@pytest.fixture(scope="module")
def page(written):
    return Page(written[0])


class TestOneFile:
    def test_has_every_section_in_order_and_parses_strictly(self, page):
        assert tuple(page.sections) == SECTIONS
        assert page.missing == []
        assert flatten(page.text["own"]) == "6 Of 8 heads"
        for name in ("Copying score How much is copied.", "Someone (2024). Copying.", "--again"):
            assert name in flatten(page.text["method"])

    def test_loads_nothing(self, written, page):
        assert all(link.startswith("#") for link in page.links)
        assert not re.search(r"https?://|@import|url\((?!#)", written[0])
        assert not page.tags & {"script", "img", "link"}

    def test_names_are_unique_and_every_reference_has_its_target(self, page):
        assert len(page.ids) == len(set(page.ids))
        inside = [link[1:] for link in page.links] + page.references
        assert len(inside) > 20
        assert set(inside) <= set(page.ids)

    def test_describes_every_drawing_and_captions_every_table(self, page):
        assert page.descriptions == 4  # plain page, training, laws, coefficients
        assert len(page.tables) == 5
        assert all(table["caption"] for table in page.tables)

    def test_the_same_findings_give_the_same_drawing(self, written):
        findings = read_findings(**written[1])
        words = Catalogue("en", findings.structure)
        assert draw_headline(findings, words) == draw_headline(findings, words)
        assert str(draw_headline(findings, words)) in written[0]

    def test_leaves_datasets_and_matplotlib_alone(self, written):
        _, inputs, before, settings = written
        assert dict(mpl.rcParams) == settings
        for name, dataset in before.items():
            xr.testing.assert_identical(inputs[name], dataset)


class TestNumbersAreTheDatasets:
    def test_table_of_laws(self, page):
        comparison = make_comparison()
        for row, key in zip(page.find_rows("comparison"), sorted(EMERGING), strict=True):
            one = comparison.sel(dict(zip(HEAD_DIMS, key, strict=True)))
            assert row[:2] == [str(key[0]), f"L{key[1]} H{key[2]}"]
            assert row[2] == str(one["verdict"].item()).replace("_", " ")
            power = float(one["probability"].sel(family="power_law"))
            assert row[3] == (">0.99" if power > 0.99 else f"{power:.2f}")
            low, middle, high = one["order"].values
            assert row[6] == f"{middle:.1f} [{low:.1f}, {high:.1f}]"
            low, middle, high = one["onset"].values
            assert row[8] == f"{middle:.0f} [{low:.0f}, {high:.0f}]"

    def test_table_of_onsets_lists_every_head(self, page):
        onset = make_onset(make_comparison())
        rows = {tuple(row[:2]): row[2:] for row in page.find_rows("training")}
        assert len(rows) == onset["probability"].size
        for key in EMERGING:
            chance, when = rows[str(key[0]), f"L{key[1]} H{key[2]}"]
            one = onset.sel(dict(zip(HEAD_DIMS, key, strict=True)))
            assert chance == ">0.99"
            assert when.startswith(f"{float(one['median']):.0f} [")

    def test_table_of_tests(self, page):
        assessment = make_assessment()
        rows = page.find_rows("tests")
        assert len(rows) == 8
        for row in rows:
            layer, head = map(int, re.fullmatch(r"L(\d) H(\d)", row[1]).groups())
            one = assessment.sel(run=int(row[0]), layer=layer, head=head)
            passes = bool(one["passes"].all())
            score, rise = (
                [float(one[f"{name}{end}"]) for end in ("", "_lower", "_upper")]
                for name in ("copying_score", "loss_rise")
            )
            mark = "✓" if passes else "✗"
            assert row[2] == f"{score[0]:.3f} [{score[1]:.3f}, {score[2]:.3f}] {mark}"
            middle, low, high = (f"{one / INTACT_LOSS:.2f}".replace("-", "−") for one in rise)
            assert row[3] == f"{middle} [{low}, {high}] {mark}"
            assert row[4:] == ["–", "yes" if passes else "no"]
        text = flatten(page.text["tests"])
        assert "2 of 2 seeds have" in text
        assert "Criterion: score at least 0.2." in text

    def test_learning_coefficients(self, page):
        assert (
            f"Seed 0: from 41.5 ± 1.3 at step 200 to 80.2 ± 1.3 at step 3,000, a difference of "
            f"{80.2 - 41.5:.1f} ± {1.26 * 2**0.5:.1f}." in flatten(page.text["coefficients"])
        )
        expected = ["0", "2,000", "77.3", "1.3", "chains disagree"]
        assert expected in page.find_rows("coefficients")
        assert len(page.find_rows("coefficients")) == make_llc()["llc"].count()

    def test_losses(self, page):
        loss = make_trajectory()["test_loss"].sel(run=0)
        late = loss.sel(step=slice(2251, None)).mean() / loss.sel(step=slice(1501, 2250)).mean()
        row = page.tables[0]["rows"][1]
        assert row[:2] == ["0", "3,000"]
        assert row[3] == f"{float(loss[-1]):.4f}"
        assert row[4].startswith(f"−{100 * (1 - float(late)):.0f}%")

    def test_configuration_can_be_read_back(self, written):
        block = re.search(r'<pre class="configuration"><code>(.*?)</code>', written[0], re.DOTALL)
        assert tomllib.loads(html.unescape(block[1])) == CONFIGURATION


class TestParts:
    def test_every_missing_input_is_said_to_be_missing(self, tmp_path):
        trajectory = make_trajectory().drop_attrs(deep=False)
        path = write_report(tmp_path / "report.html", trajectory=trajectory, language="ja")
        page = Page(path.read_text(encoding="utf-8"))
        assert page.missing == ["comparison", "coefficients", "tests", "method"]
        assert "判断できません" in page.text["plain"]

    def test_five_runs_of_which_some_have_no_numbers(self, tmp_path):
        inputs = make_inputs()
        for name in ("trajectory", "assessment", "comparison", "onset", "llc"):
            parts = [inputs[name].isel(run=[index % 2]) for index in range(5)]
            joined = xr.concat(
                parts, "run", data_vars="minimal", coords="minimal", compat="override",
                join="override",
            )  # fmt: skip
            joined = joined.assign_coords(run=range(5))
            floats = [key for key, value in joined.items() if value.dtype.kind == "f"]
            inputs[name] = joined.assign(
                {key: joined[key].where(joined["run"] != 1) for key in floats}
            )
        inputs["trajectory"] = inputs["trajectory"].isel(step=slice(5, None))
        inputs["trajectory"].attrs["stopped"] = json.dumps({"1": "the loss became NaN"})
        page = Page(write_report(tmp_path / "report.html", **inputs).read_text(encoding="utf-8"))
        assert "Seed 1 ended early" in flatten(page.text["plain"])
        assert page.descriptions == 6  # three drawings of two runs each instead of one
        rows = page.find_rows("coefficients")
        assert {row[0] for row in rows if row[2] != "–"} == {"0", "2", "3", "4"}

    def test_foreign_text_is_escaped_everywhere(self, tmp_path):
        evil = "</script><script>alert('x')</script><img src=x onerror=alert(1)>$\\bad{"
        inputs = make_inputs()
        inputs["trajectory"].attrs.update(
            configuration=json.dumps({evil: evil, "contact_range": evil}), version=evil,
            time_axis=evil, stopped=json.dumps({"0": evil}),
        )  # fmt: skip
        inputs["trajectory"]["test_loss"].attrs["units"] = evil
        inputs["assessment"].attrs["criterion"] = evil
        inputs["comparison"].attrs["noise"] = evil
        for name, variable in (("comparison", "verdict"), ("llc", "llc_verdict")):
            long = xr.full_like(inputs[name][variable], evil, dtype="U100")
            inputs[name] = inputs[name].assign({variable: long})
        path = write_report(tmp_path / "report.html", title=evil, **inputs)
        page = Page(path.read_text(encoding="utf-8"))
        assert tuple(page.sections) == SECTIONS
        assert not page.tags & {"script", "img"}
        assert evil in page.text["plain"]

    def test_a_report_that_cannot_be_written_leaves_the_old_one(self, tmp_path):
        path = tmp_path / "report.html"
        path.mkdir()
        with pytest.raises(StorageError, match=r"report\.html"):
            write_report(path, trajectory=make_trajectory(), structure=STRUCTURE)
        assert path.is_dir()


def test_the_picture_has_what_the_record_draws(tmp_path):
    asked = []

    def draw(axes, assessment):
        asked.append(assessment)
        return "A head at work"

    inputs = make_inputs(structure=dataclasses.replace(STRUCTURE, picture=draw))
    path = write_picture(tmp_path / "new" / "picture.png", **inputs)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert asked == [inputs["assessment"]]
