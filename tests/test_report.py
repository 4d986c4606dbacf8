"""The report says what the datasets say, in two languages, whole or in part, and nothing else.

The datasets are simulated: relaxation curves with noise and known onsets, posteriors written down.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from emergence_stats.curves.shapes import relaxation
from emergence_stats.errors import InputError, StorageError
from emergence_stats.report import text_summary, write_report
from emergence_stats.report.animation import MOST_WEIGHTS, read_scene
from emergence_stats.report.findings import read_findings
from emergence_stats.report.language import plain_page
from emergence_stats.report.summary import ADVICE, decide

BASELINE = 0.093
INTACT_LOSS = 0.5
QUANTILES = [0.055, 0.5, 0.945]
FAMILIES = ["flat", "exponential", "power_law"]
RUNS, LAYERS, HEADS = [0, 1], [0, 1, 2], [0, 1, 2, 3]
# (run, layer, head): plateau, onset, timescale, kappa, P(power law), verdict
EMERGING = {
    (0, 1, 3): (0.36, 640.0, 150.0, 1.5, 0.97, "power_law"),
    (0, 2, 0): (0.27, 812.0, 200.0, 2.0, 0.71, "undecided"),
    (1, 1, 2): (0.33, 905.0, 120.0, 0.0, 0.03, "exponential"),
    (1, 2, 1): (0.29, 700.0, 260.0, 1.0, 0.993, "power_law"),
}
CONFIGURATION = {
    "num_particles": 16,
    "radius": 0.06,
    "contact_range": 1.5,
    "seeds": [0, 1],
    "optimiser": "adam",
    "learning_rate": 0.001,
}
HEAD_DIMS = ("run", "layer", "head")


def evaluation_steps():
    logarithmic = {round(10 ** (k / 12)) for k in range(42)}
    return np.array(sorted({0, *logarithmic, *range(0, 3001, 50)} - {3162}))


def make_trajectory(*, emerging=EMERGING, loss_end=0.02, seed=0):
    generator = np.random.default_rng(seed)
    step = evaluation_steps().astype(float)
    shape = (len(RUNS), step.size, len(LAYERS), len(HEADS))
    score = np.full(shape, BASELINE)
    distance = np.linspace(1.05, 7.0, 24)
    profile = np.ones((*shape, distance.size))
    for (run, layer, head), (plateau, onset, timescale, kappa, *_) in emerging.items():
        curve = relaxation(
            step, onset=onset, timescale=timescale, kappa=kappa, baseline=BASELINE,
            amplitude=plateau - BASELINE,
        )  # fmt: skip
        score[run, :, layer, head] = curve
        rise = (curve - BASELINE) / BASELINE
        profile[run, :, layer, head] += rise[:, None] * np.exp(-((distance - 1.2) ** 2))
    sd = 0.004
    score = score + generator.normal(0, sd, shape)
    fall = relaxation(
        step, onset=10, timescale=150, kappa=0.5, baseline=0.12, amplitude=loss_end - 0.12
    )
    loss = fall * np.exp(generator.normal(0, 0.01, (2, step.size)))
    run_step = ("run", "step")
    return xr.Dataset(
        {
            "collision_score": (("run", "step", "layer", "head"), score, {"baseline": BASELINE}),
            "collision_score_sd": (("run", "step", "layer", "head"), np.full(shape, sd)),
            "attention_distance_correlation": (
                ("run", "step", "layer", "head", "distance"),
                profile,
            ),
            "train_loss": (run_step, 0.97 * loss),
            "test_loss": (run_step, loss, {"units": "variance of the training set"}),
            "learning_rate": (run_step, np.full(loss.shape, 1e-3)),
        },
        coords={
            "run": RUNS, "step": step.astype(int), "layer": LAYERS, "head": HEADS,
            "distance": distance,
        },
        attrs={
            "configuration": json.dumps(CONFIGURATION),
            "version": "0.1.0",
            "time_axis": "optimiser steps made before the measurement",
        },
    )  # fmt: skip


def make_assessment(*, passing=tuple(EMERGING), seed=1, dimension=2, frames=40, particles=16):
    generator = np.random.default_rng(seed)
    shape = (len(RUNS), len(LAYERS), len(HEADS))
    score = generator.normal(BASELINE, 0.004, shape)
    rank = generator.normal(0.05, 0.02, shape)
    rise = np.abs(generator.normal(0.02, 0.01, (*shape, 2)))
    passes = np.zeros((*shape, 3), dtype=bool)
    for key in passing:
        score[key] = EMERGING[key][0] - 0.01
        rank[key] = 0.55
        rise[key] = 0.62, 0.11
        passes[key] = True
    variables = {
        "passes": ((*HEAD_DIMS, "test"), passes),
        "is_collision_head": (HEAD_DIMS, passes.all(-1)),
        "intact_loss": (("run", "particles"), np.full((len(RUNS), 2), INTACT_LOSS)),
    }
    for name, dims, values, half in (
        ("collision_score", HEAD_DIMS, score, 0.006),
        ("contact_rank_correlation", HEAD_DIMS, rank, 0.03),
        ("ablation_loss_rise", (*HEAD_DIMS, "particles"), rise, 0.05),
    ):
        variables |= {
            name: (dims, values),
            f"{name}_lower": (dims, values - half),
            f"{name}_upper": (dims, values + half),
        }
    time = np.arange(41)
    model = 0.02 * time**1.3
    errors = np.stack([model, 0.4 * time**0.6, 0.1 * time], axis=-1)
    variables["rollout_error"] = (
        ("run", "time", "predictor"),
        np.stack([errors, errors * [1.2, 1.0, 1.0]]),
    )
    start = generator.uniform(0.1, 0.9, (particles, dimension))
    velocity = generator.normal(0, 0.01, (particles, dimension))
    places = np.clip(start + velocity * np.arange(frames)[:, None, None], 0.06, 0.94)
    apart = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    weight = np.exp(-apart / 0.08)
    weight[:, np.arange(particles), np.arange(particles)] = 0.05
    variables["animation_position"] = (("frame", "particle", "axis"), places)
    variables["animation_true_position"] = (("frame", "particle", "axis"), places + 0.005)
    variables["animation_attention"] = (
        ("frame", "particle", "other"),
        weight / weight.sum(-1, keepdims=True),
    )
    return xr.Dataset(
        variables,
        coords={
            "run": RUNS, "layer": LAYERS, "head": HEADS, "particles": ["colliding", "free"],
            "test": ["score", "rank_correlation", "ablation"],
            "time": ("time", time, {"units": "intervals"}),
            "predictor": ["model", "persistence", "ballistic"],
        },
        attrs={
            "criterion": "collision score at least 0.2; rank correlation at least 0.3; and so on",
            "least_score": 0.2, "rank_correlation": 0.3, "loss_rise": 0.5, "probability": 0.89,
            "best_run": 0, "best_layer": 1, "best_head": 3, "radius": 0.06,
            "box": [1.0] * dimension, "interval": 0.1,
        },
    )  # fmt: skip


def make_comparison(*, emerging=EMERGING, fraction=(0.9, 0.94, 0.97)):
    shape = (len(RUNS), len(LAYERS), len(HEADS))
    probability = np.tile([0.98, 0.01, 0.01], (*shape, 1))
    verdict = np.full(shape, "no_emergence", dtype=object)
    posterior = {
        name: np.full((*shape, 3), np.nan)
        for name in ("onset", "plateau", "fraction_complete", "order", "exponent")
    }
    misfit = np.full(shape, 0.4)
    for key, (plateau, onset, _, kappa, power, word) in emerging.items():
        probability[key] = 1e-6, 1 - power - 1e-6, power
        verdict[key] = word
        posterior["onset"][key] = onset - 31, onset, onset + 47
        posterior["plateau"][key] = plateau - 0.01, plateau, plateau + 0.05
        posterior["fraction_complete"][key] = fraction
        posterior["order"][key] = 2.01 + 0.5 * kappa, 2.1 + kappa, 2.6 + 2 * kappa
        posterior["exponent"][key] = 1 / (posterior["order"][key][::-1] - 2)
    return xr.Dataset(
        {
            "probability": ((*HEAD_DIMS, "family"), probability),
            "log_bayes_factor": (HEAD_DIMS, np.log(probability[..., 2] / probability[..., 1])),
            "verdict": (HEAD_DIMS, verdict.astype(str)),
            "misfit_p_value": (HEAD_DIMS, misfit),
            **{name: ((*HEAD_DIMS, "quantile"), values) for name, values in posterior.items()},
        },
        coords={
            "run": RUNS, "layer": LAYERS, "head": HEADS, "family": FAMILIES,
            "quantile": QUANTILES,
        },
    )  # fmt: skip


def make_onset(comparison):
    return xr.Dataset(
        {
            "probability": 1 - comparison["probability"].sel(family="flat", drop=True),
            **{
                name: comparison["onset"].isel(quantile=index, drop=True)
                for index, name in enumerate(("lower", "median", "upper"))
            },
        }
    )


def make_llc():
    steps = [200, 400, 2000, 3000]
    nan = np.nan
    value = np.array([[41.5, nan, 77.31, 80.2], [nan, 38.0, 70.0, 75.45]])
    verdict = np.array(
        [["reliable", "", "chains disagree", "reliable"], ["", "reliable", "reliable", "reliable"]]
    )
    dims = ("run", "step")
    return xr.Dataset(
        {
            "llc": (dims, value),
            "llc_standard_error": (dims, np.where(np.isnan(value), nan, 1.26)),
            "llc_verdict": (dims, verdict),
        },
        coords={"run": RUNS, "step": steps},
    )


def everything(**changes):
    comparison = make_comparison()
    results = {
        "trajectory": make_trajectory(),
        "assessment": make_assessment(),
        "comparison": comparison,
        "onset": make_onset(comparison),
        "llc": make_llc(),
    }
    return results | changes


INPUTS = ("assessment", "comparison", "onset", "llc")
SECTIONS = (
    "plain", "training", "distance", "comparison", "coefficients", "tests", "picture", "rollout",
    "method",
)  # fmt: skip
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect", "circle", "stop"}


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.references = [], [], [], []
        self.tables, self.text, self.data = [], {}, {}
        self.sections, self.missing, self.descriptions = [], [], 0
        self.feed(html)
        self.close()
        assert self.open == []
        for table in self.tables:
            table["rows"] = [[flat(cell) for cell in row] for row in table["rows"]]

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.links += [attrs[name] for name in ("src", "href", "xlink:href") if name in attrs]
        self.references += attrs.get("aria-labelledby", "").split()
        self.references += re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, attrs.values())))
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
            self.open.append((tag, attrs))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tags = [tag for tag, _ in self.open]
        if tags[-1:] == ["script"]:
            self.data[self.open[-1][1].get("id", "code")] = data
            return
        if "style" in tags:
            return
        if self.sections:
            section = self.sections[-1]
            self.text[section] = self.text.get(section, "") + data
        if "caption" in tags:
            self.tables[-1]["caption"] += data
        elif "td" in tags or "th" in tags:
            row = self.tables[-1]["rows"][-1]
            row[-1] += data


def rendered(folder, **inputs):
    path = write_report(folder / "report.html", **inputs)
    return path.read_text(encoding="utf-8")


def flat(text):
    return " ".join(text.replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def english_html(tmp_path_factory):
    return rendered(tmp_path_factory.mktemp("english"), **everything())


@pytest.fixture(scope="module")
def english_page(english_html):
    return Page(english_html)


@pytest.fixture(scope="module")
def japanese_page(tmp_path_factory):
    html = rendered(tmp_path_factory.mktemp("japanese"), language="ja", **everything())
    return Page(html)


class TestOneFile:
    def test_has_every_section_in_order_and_parses_strictly(self, english_page):
        assert tuple(english_page.sections) == SECTIONS
        assert english_page.missing == []

    def test_loads_nothing(self, english_html, english_page):
        assert all(link.startswith("#") for link in english_page.links)
        assert "http://" not in english_html
        assert "https://" not in english_html
        assert "@import" not in english_html
        assert not re.search(r"url\((?!#)", english_html)

    def test_names_are_unique_and_every_reference_has_its_target(self, english_page):
        assert len(english_page.ids) == len(set(english_page.ids))
        inside = [link[1:] for link in english_page.links] + english_page.references
        assert len(inside) > 20
        assert set(inside) <= set(english_page.ids)

    def test_is_small(self, english_html):
        assert len(english_html.encode()) < 3_000_000

    def test_describes_every_drawing_and_captions_every_table(self, english_page):
        # plain page, training, distance, law, coefficients, still, animation, rollout
        assert english_page.descriptions == 8
        assert len(english_page.tables) == 6
        assert all(table["caption"] for table in english_page.tables)

    def test_prints_and_respects_reduced_motion(self, english_html):
        assert "@media print" in english_html
        assert "prefers-reduced-motion" in english_html
        assert "prefers-color-scheme: dark" in english_html

    def test_the_same_datasets_give_the_same_file(self, english_html, tmp_path):
        assert rendered(tmp_path, **everything()) == english_html

    def test_leaves_datasets_and_matplotlib_alone(self, tmp_path):
        inputs = everything()
        before = {name: dataset.copy(deep=True) for name, dataset in inputs.items()}
        settings_before = dict(mpl.rcParams)
        write_report(tmp_path / "report.html", **inputs)
        assert dict(mpl.rcParams) == settings_before
        for name, dataset in inputs.items():
            xr.testing.assert_identical(dataset, before[name])


class TestNumbersAreTheDatasets:
    def test_table_of_laws(self, english_page):
        (table,) = [one for one in english_page.tables if one["section"] == "comparison"]
        comparison = make_comparison()
        rows = table["rows"][1:]
        assert len(rows) == len(EMERGING)
        for row, key in zip(rows, sorted(EMERGING), strict=True):
            one = comparison.sel(run=key[0], layer=key[1], head=key[2])
            assert row[:2] == [str(key[0]), f"L{key[1]} H{key[2]}"]
            assert row[2] == str(one["verdict"].item()).replace("_", " ")
            power = float(one["probability"].sel(family="power_law"))
            assert row[3] == (">0.99" if power > 0.99 else f"{power:.2f}")
            low, middle, high = one["order"].values
            assert row[6] == f"{middle:.1f} [{low:.1f}, {high:.1f}]"
            low, middle, high = one["onset"].values
            assert row[8] == f"{middle:.0f} [{low:.0f}, {high:.0f}]"

    def test_table_of_onsets_lists_every_head(self, english_page):
        (table,) = [one for one in english_page.tables if "Onset of every head" in one["caption"]]
        comparison = make_comparison()
        onset = make_onset(comparison)
        rows = {tuple(row[:2]): row[2:] for row in table["rows"][1:]}
        assert len(rows) == onset["probability"].size
        for key in EMERGING:
            row = rows[str(key[0]), f"L{key[1]} H{key[2]}"]
            where = dict(zip(("run", "layer", "head"), key, strict=True))
            chance = float(onset["probability"].sel(where))
            assert row[0] == (">0.99" if chance > 0.99 else f"{chance:.2f}")
            assert row[1].startswith(f"{float(onset['median'].sel(where)):.0f} [")

    def test_table_of_tests(self, english_page):
        (table,) = [one for one in english_page.tables if one["section"] == "tests"]
        assessment = make_assessment()
        rows = table["rows"][1:]
        assert len(rows) == 24
        for row in rows:
            layer, head = map(int, re.fullmatch(r"L(\d) H(\d)", row[1]).groups())
            one = assessment.sel(run=int(row[0]), layer=layer, head=head)
            passes = bool(one["is_collision_head"])
            score = [float(one[f"collision_score{end}"]) for end in ("", "_lower", "_upper")]
            mark = "✓" if passes else "✗"
            assert row[2] == f"{score[0]:.3f} [{score[1]:.3f}, {score[2]:.3f}] {mark}"
            rise = [
                float(one[f"ablation_loss_rise{end}"].sel(particles="colliding")) / INTACT_LOSS
                for end in ("", "_lower", "_upper")
            ]
            low, high = (f"{value:.2f}".replace("-", "−") for value in rise[1:])
            assert row[4] == f"{rise[0]:.2f} [{low}, {high}] {mark}"
            assert row[6] == ("yes" if passes else "no")
        assert "2 of 2 seeds have" in flat(english_page.text["tests"])

    def test_learning_coefficients(self, english_page):
        text = flat(english_page.text["coefficients"])
        difference, error = 80.2 - 41.5, 1.26 * 2**0.5
        assert (
            f"Seed 0: from 41.5 ± 1.3 at step 200 to 80.2 ± 1.3 at step 3,000, a difference of "
            f"{difference:.1f} ± {error:.1f}." in text
        )
        assert ["0", "2,000", "77.3", "1.3", "chains disagree"] in [
            row for table in english_page.tables for row in table["rows"]
        ]

    def test_rollout(self, english_page):
        rows = [row for table in english_page.tables for row in table["rows"]]
        assert next(row[:3] for row in rows if row[:2] == ["0", "persistence"]) == [
            "0",
            "persistence",
            "0.400",
        ]

    def test_losses(self, english_page):
        loss = make_trajectory()["test_loss"].sel(run=0)
        late = loss.sel(step=slice(2251, None)).mean() / loss.sel(step=slice(1501, 2250)).mean()
        rows = [row for table in english_page.tables for row in table["rows"]]
        row = next(row for row in rows if row[:2] == ["0", "3,000"] and "%" in row[-1])
        assert row[3] == f"{float(loss[-1]):.4f}"
        assert row[4].startswith(f"−{100 * (1 - float(late)):.0f}%")

    def test_animation_holds_the_frames(self, english_page):
        data = json.loads(english_page.data["animation-data"])
        assessment = make_assessment()
        np.testing.assert_allclose(
            np.array(data["positions"], float), assessment["animation_position"], atol=5.1e-5
        )
        weight = assessment["animation_attention"].values * ~np.eye(16, dtype=bool)
        np.testing.assert_allclose(
            np.array([data["attention"][str(query)] for query in range(16)]).swapaxes(0, 1) / 100,
            weight / weight.sum(-1, keepdims=True),
            atol=0.0051,
        )

    def test_configuration_can_be_read_back(self, english_html):
        import html
        import tomllib

        block = re.search(r'<pre class="configuration"><code>(.*?)</code>', english_html, re.DOTALL)
        assert tomllib.loads(html.unescape(block[1])) == CONFIGURATION


class TestPlainPage:
    def test_answers_in_english(self, english_page):
        text = flat(english_page.text["plain"])
        assert "Yes: collision detection has emerged, in 2 of 2 training runs." in text
        assert "Of 24 heads, 4 pass the tests of all three." in text
        assert "at step 640 [609, 687] in seed 0 and at step 700 [669, 747] in seed 1" in text
        assert "The rise of 2 of 4 heads follows a power law" in text
        assert "(probability 0.97 to >0.99)" in text
        assert "The rise of 1 of 4 heads follows an exponential" in text
        assert "For 1 of 4 heads the measurements cannot tell" in text
        assert "leave 6% of the rise still to come (between 3.0% and 10%" in text
        assert "not reliable, by their own diagnostics (chains disagree)" in text

    def test_answers_in_japanese(self, japanese_page):
        text = flat(japanese_page.text["plain"])
        assert "はい。学習2回のうち2回で、衝突検出の創発を確認しました。" in text
        assert "ヘッド全24個のうち、すべてに合格したのは4個です。" in text
        assert "シード0で640 [609, 687]ステップ" in text
        assert "ヘッド4個中2個の上昇はべき乗則" in text
        assert "残りは6%です" in text
        kana = re.findall("[\u3040-\u30ff]", text)
        assert len(kana) > 400
        assert "training" not in text
        # Half-width brackets beside Japanese would look like a machine's work.
        assert not re.search("[\u3040-\u9fff][(:]|[):][\u3040-\u9fff]", text)

    def test_only_the_plain_page_changes_with_the_language(self, english_page, japanese_page):
        for name in SECTIONS[1:]:
            assert english_page.text[name] == japanese_page.text[name]

    @pytest.mark.parametrize("language", ["en", "ja"])
    def test_a_single_run_is_called_so(self, language):
        one = {name: dataset.isel(run=[0]) for name, dataset in everything().items()}
        findings = read_findings(**one)
        page = plain_page(findings, decide(findings), language)
        words = {"en": ("1 of 1 training run", "a single run"), "ja": ("1回のうち1回", "1回のみ")}
        assert words[language][0] in page.answer
        assert words[language][1] in str(page.answers)


def without_heads(**changes):
    """Nothing rises and nothing passes."""
    comparison = make_comparison(emerging={})
    return everything(
        trajectory=make_trajectory(emerging={}, **changes),
        assessment=make_assessment(passing=()),
        comparison=comparison,
        onset=make_onset(comparison),
    )


def decision_of(inputs):
    return decide(read_findings(**inputs))


class TestDecision:
    def test_stops_when_heads_are_done_and_the_loss_is_flat(self):
        decision = decision_of(everything(comparison=make_comparison(fraction=(0.96, 0.98, 0.99))))
        assert (decision.emerged, decision.gain, decision.loss) == ("all", "small", "flat")
        assert decision.advice == "stop"

    def test_goes_on_when_every_bound_leaves_a_gain(self):
        decision = decision_of(everything(comparison=make_comparison(fraction=(0.4, 0.5, 0.6))))
        assert (decision.gain, decision.advice) == ("clear", "continue")
        assert decision.remaining == pytest.approx((0.5, 0.4, 0.6))

    def test_a_wide_forecast_is_reviewed(self):
        decision = decision_of(everything(comparison=make_comparison(fraction=(0.5, 0.9, 0.99))))
        assert (decision.gain, decision.advice) == ("unclear", "extend_and_review")

    def test_done_heads_with_a_falling_loss_leave_the_choice(self):
        inputs = everything(comparison=make_comparison(fraction=(0.96, 0.98, 0.99)))
        trajectory = inputs["trajectory"]
        falling = 0.1 * np.exp(-trajectory["step"] / 1500) * xr.ones_like(trajectory["test_loss"])
        inputs["trajectory"] = trajectory.assign(test_loss=falling)
        decision = decision_of(inputs)
        assert (decision.loss, decision.advice) == ("falling", "optional")

    def test_a_rising_loss_stops(self):
        inputs = everything()
        trajectory = inputs["trajectory"]
        rising = (1 + trajectory["step"] / 2000) * xr.ones_like(trajectory["test_loss"])
        inputs["trajectory"] = trajectory.assign(test_loss=rising)
        assert decision_of(inputs).advice == "stop_loss_rising"

    def test_half_of_the_runs_ask_for_more_seeds(self):
        passing = [key for key in EMERGING if key[0] == 0]
        inputs = everything(assessment=make_assessment(passing=passing))
        decision = decision_of(inputs)
        assert (decision.emerged, decision.advice) == ("some", "add_seeds")
        assert "1 of 2 runs" in text_summary(**inputs)[0]

    def test_no_heads_and_a_flat_loss_ask_for_a_change(self):
        decision = decision_of(without_heads())
        assert (decision.emerged, decision.gain, decision.advice) == ("none", "unknown", "change")

    def test_a_misfit_gives_no_forecast(self):
        misfits = {key: (*values[:5], "misfit") for key, values in EMERGING.items()}
        inputs = everything(comparison=make_comparison(emerging=misfits))
        decision = decision_of(inputs)
        assert (decision.remaining, decision.gain) == (None, "unknown")
        assert "no usable forecast" in "".join(text_summary(**inputs))
        findings = read_findings(**inputs)
        assert "For 4 heads neither law" in str(plain_page(findings, decision, "en").cautions)

    def test_heads_that_pass_without_a_rise_are_not_counted(self):
        comparison = make_comparison(emerging={})
        inputs = everything(comparison=comparison, onset=make_onset(comparison))
        assert decision_of(inputs).emerged == "none"
        assert (
            "4 of 24 heads pass all three tests, 4 of them without a rise"
            in (text_summary(**inputs)[0])
        )

    def test_a_falling_score_is_no_rise(self):
        inputs = everything()
        dims = HEAD_DIMS
        direction = xr.DataArray(np.full((2, 3, 4), "falling"), dims=dims)
        inputs["comparison"] = inputs["comparison"].assign(direction=direction)
        assert decision_of(inputs).emerged == "none"

    def test_an_untested_rise_is_not_called_emergence(self):
        decision = decision_of(everything(assessment=None))
        assert (decision.emerged, decision.advice) == ("rise", "test_first")

    def test_nothing_computed_allows_no_statement(self):
        decision = decision_of({"trajectory": make_trajectory()})
        assert (decision.emerged, decision.advice) == ("unknown", "cannot_say")

    def test_a_decline_after_the_peak_is_noticed(self):
        trajectory = make_trajectory()
        late = (trajectory["step"] - 2000).clip(0) / 1000
        score = trajectory["collision_score"]
        declined = score - 0.15 * late * (score.isel(step=-1) > 0.2)
        inputs = everything(trajectory=trajectory.assign(collision_score=declined))
        found = {
            (head.run, head.layer, head.head)
            for head in read_findings(**inputs).heads
            if head.peak is not None
        }
        assert found == set(EMERGING)
        assert all(head.peak is None for head in read_findings(**everything()).heads)


class TestSummary:
    def test_says_which_heads_when_and_by_which_law(self):
        lines = text_summary(**everything())
        assert len(lines) == 10
        assert all(line.isascii() for line in lines)
        assert "2 of 2 runs (4 of 24 heads pass all three tests)" in lines[0]
        assert "seed 0, layer 1, head 3: score 0.350, onset 640 [609, 687]" in lines[1]
        assert "power law (probability 0.97)" in lines[1]
        assert any("law undecided (power law 0.71, exponential 0.29)" in line for line in lines)
        assert any("seed 1 38.0 +/- 1.3 (step 400) to 75.5 +/- 1.3" in line for line in lines)
        assert lines[-1].startswith("Advice: ")

    @pytest.mark.parametrize("missing", [*[(name,) for name in INPUTS], INPUTS])
    def test_has_ten_lines_whatever_is_missing(self, missing):
        lines = text_summary(**everything(**dict.fromkeys(missing)))
        assert len(lines) == 10
        assert not re.search(r"\bnan\b|None", " ".join(lines))

    def test_without_heads_names_the_highest_score_as_what_it_is(self):
        lines = text_summary(**without_heads())
        assert lines[0].startswith("NOT EMERGED: collision-detection heads in 0 of 2 runs")
        assert lines[1].startswith("Highest score, not a detector: seed")
        assert len(lines) == 10

    def test_many_heads_are_counted(self):
        emerging = {
            (run, layer, head): (0.3, 700.0, 150.0, 1.0, 0.95, "power_law")
            for run in RUNS for layer in LAYERS for head in HEADS
        }  # fmt: skip
        comparison = make_comparison(emerging=emerging)
        assessment = make_assessment()
        assessment["is_collision_head"][:] = True
        assessment["collision_score"][:] = 0.29
        lines = text_summary(
            **everything(
                trajectory=make_trajectory(emerging=emerging), comparison=comparison,
                onset=make_onset(comparison), assessment=assessment,
            )
        )  # fmt: skip
        assert len(lines) == 10
        assert "and 20 more heads, see the report" in lines

    def test_onset_is_read_from_its_cumulative_where_bounds_are_missing(self):
        step = np.linspace(0.0, 3000.0, 301)
        given = make_onset(make_comparison())[["probability", "median"]]
        given = given.assign(
            onset_step=((*HEAD_DIMS, "point"), np.broadcast_to(step, (2, 3, 4, 301))),
            cumulative=((*HEAD_DIMS, "point"), np.broadcast_to(step / 3000, (2, 3, 4, 301))),
        )
        head = read_findings(**everything(onset=given)).heads[0]
        assert head.onset == pytest.approx((640.0, 0.055 * 3000, 0.945 * 3000))

    @settings(deadline=None, max_examples=40)
    @given(data=st.data())
    def test_any_part_may_be_unknown(self, data):
        inputs = everything()
        for name in INPUTS:
            if data.draw(st.booleans(), label=f"{name} missing"):
                inputs[name] = None
                continue
            dataset = inputs[name].copy()
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
            inputs[name] = dataset
        if data.draw(st.booleans(), label="unfinished"):
            scores = inputs["trajectory"]["collision_score"]
            inputs["trajectory"]["collision_score"] = scores.where(scores["step"] < 900)
        lines = text_summary(**inputs)
        assert len(lines) == 10
        assert lines[-1].removeprefix("Advice: ") in ADVICE.values()
        findings = read_findings(**inputs)
        for language in ("en", "ja"):
            page = plain_page(findings, decide(findings), language)
            said = f"{page.answer}{page.facts}{page.answers}{page.cautions}"
            assert not re.search(r"\bnan\b|None", " ".join([said, *lines]))


class TestParts:
    def test_every_missing_input_is_said_to_be_missing(self, tmp_path):
        page = Page(rendered(tmp_path, trajectory=make_trajectory()))
        assert tuple(page.sections) == SECTIONS
        assert page.missing == ["comparison", "coefficients", "tests", "picture", "rollout"]
        assert "Not known" in flat(page.text["plain"])
        assert "animation-data" not in page.data

    def test_unfinished_and_stopped_runs(self, tmp_path):
        inputs = everything()
        trajectory = inputs["trajectory"]
        alive = (trajectory["run"] == 0) | (trajectory["step"] <= 500)
        varying = [name for name in trajectory if "step" in trajectory[name].dims]
        trajectory = trajectory.assign({name: trajectory[name].where(alive) for name in varying})
        trajectory.attrs["stopped"] = json.dumps({"1": "the loss became NaN at step 501"})
        inputs["trajectory"] = trajectory
        page = Page(rendered(tmp_path, **inputs))
        assert "Seed 1 ended early" in flat(page.text["plain"])
        rows = [row for table in page.tables for row in table["rows"]]
        assert any(row[:2] == ["1", "500"] for row in rows)

    def test_a_run_without_any_number(self, tmp_path):
        inputs = everything()
        inputs = {
            name: dataset.where(dataset["run"] == 0) if name != "assessment" else dataset
            for name, dataset in inputs.items()
        }
        inputs["comparison"]["verdict"] = make_comparison()["verdict"]
        inputs["assessment"] = inputs["assessment"].sel(run=[0])
        page = Page(rendered(tmp_path, **inputs))
        assert "in 1 of 1 training run." in flat(page.text["plain"])
        assert "The heads of seed 1 were not tested" in flat(page.text["plain"])

    def test_all_nan(self, tmp_path):
        inputs = everything()
        for name in inputs:
            floats = [key for key, value in inputs[name].items() if value.dtype.kind == "f"]
            inputs[name] = inputs[name].assign({key: inputs[name][key] * np.nan for key in floats})
        inputs["assessment"]["is_collision_head"][:] = False
        inputs["comparison"]["verdict"][:] = "undecided"
        page = Page(rendered(tmp_path, **inputs))
        assert tuple(page.sections) == SECTIONS
        assert "No: by step 3,000" in flat(page.text["plain"])

    def test_five_runs_linear_steps_and_spheres(self, tmp_path):
        inputs = everything(assessment=make_assessment(dimension=3))
        for name in inputs:
            parts = [inputs[name].isel(run=[index % 2]) for index in range(5)]
            joined = xr.concat(
                parts,
                "run",
                data_vars="minimal",
                coords="minimal",
                compat="override",
                join="override",
            )
            inputs[name] = joined.assign_coords(run=range(5))
        inputs["trajectory"] = inputs["trajectory"].isel(step=slice(5, None))
        page = Page(rendered(tmp_path, **inputs))
        assert "in 5 of 5 training runs" in flat(page.text["plain"])
        assert "Seen along one axis" in flat(page.text["picture"])
        # three drawings of two runs each instead of one
        assert page.descriptions == 10

    def test_a_large_scene_keeps_only_the_shown_particle(self):
        particles = int((MOST_WEIGHTS / 40) ** 0.5) + 2
        scene = read_scene(make_assessment(particles=particles))
        packed = scene.packed()
        assert list(packed["attention"]) == [str(scene.query)]
        assert len(packed["positions"][0]) == particles

    def test_frames_that_are_not_numbers_become_null(self):
        assessment = make_assessment()
        assessment["animation_position"][30:, 3] = np.nan
        packed = read_scene(assessment).packed()
        assert packed["positions"][35][3] == [None, None]
        json.dumps(packed, allow_nan=False)


class TestForeignText:
    EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>$\\bad{"

    def test_is_escaped_everywhere(self, tmp_path):
        inputs = everything()
        inputs["trajectory"].attrs.update(
            configuration=json.dumps({self.EVIL: self.EVIL, "contact_range": self.EVIL}),
            version=self.EVIL,
            time_axis=self.EVIL,
            stopped=json.dumps({"0": self.EVIL}),
        )
        inputs["trajectory"]["test_loss"].attrs["units"] = self.EVIL
        inputs["assessment"].attrs["criterion"] = self.EVIL
        inputs["comparison"].attrs["noise"] = self.EVIL
        long = xr.full_like(inputs["comparison"]["verdict"], self.EVIL, dtype="U100")
        inputs["comparison"]["verdict"] = long
        inputs["llc"]["llc_verdict"] = xr.full_like(
            inputs["llc"]["llc_verdict"], self.EVIL, dtype="U100"
        )
        html = rendered(tmp_path, title=self.EVIL, **inputs)
        assert "<script>alert" not in html
        assert "<img" not in html
        page = Page(html)
        assert tuple(page.sections) == SECTIONS
        assert set(page.data) == {"animation-data", "code"}
        assert self.EVIL in page.text["plain"]

    def test_damaged_attributes_are_called_not_recorded(self, tmp_path):
        trajectory = make_trajectory()
        trajectory.attrs.clear()
        trajectory.attrs["configuration"] = "{not json"
        trajectory["collision_score"].attrs["baseline"] = "unknown"
        page = Page(rendered(tmp_path, trajectory=trajectory))
        assert "configuration was not recorded" in flat(page.text["method"])


class TestBadInput:
    def test_unknown_language(self, tmp_path):
        with pytest.raises(InputError, match="language: 'jp' is not available"):
            write_report(tmp_path / "report.html", language="jp", **everything())

    def test_trajectory_without_scores(self):
        with pytest.raises(InputError, match="no variable 'collision_score'"):
            text_summary(trajectory=make_trajectory().drop_vars("collision_score"))

    def test_trajectory_without_runs(self):
        with pytest.raises(InputError, match="without run; add"):
            text_summary(trajectory=make_trajectory().isel(run=0))

    def test_a_report_that_cannot_be_written_leaves_the_old_one(self, tmp_path):
        inputs = {"trajectory": make_trajectory()}
        path = tmp_path / "report.html"
        path.mkdir()
        with pytest.raises(StorageError, match=r"report\.html"):
            write_report(path, **inputs)
        assert path.is_dir()
        assert write_report(tmp_path / "new" / "report.html", **inputs).exists()
