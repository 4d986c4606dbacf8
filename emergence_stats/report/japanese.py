"""The plain-language page in Japanese.

What lives here: the Japanese sentences, one for each English one. What does not: what is said when
(the same numbers choose the sentences as in `language`).
"""

from __future__ import annotations

import math

from emergence_stats.report import wording
from emergence_stats.report.language import (
    MOST_RUNS_NAMED,
    PlainPage,
    by_bounds,
    ended_early,
    first_onsets,
    late_changes,
    law_probabilities,
    majority,
    rise_probabilities,
    strongest_forecast,
    unreliable_llc,
    verdicts,
)
from emergence_stats.report.records import Findings
from emergence_stats.report.summary import Decision


def japanese(findings: Findings, decision: Decision) -> PlainPage:
    """The page in Japanese."""
    answers = [("創発は起きたか", _emerged(findings, decision))]
    if decision.emerged != "unknown":
        answers.append(("どこまで確かか", _sure(findings)))
    if decision.emerged in ("all", "some", "rise"):
        answers.append(("いつ、どのような法則で起きたか", _when(findings)))
    answers.append(("今後どれだけの改善が見込めるか", _gain(findings, decision)))
    answers.append(("学習を続けるべきか", (_ADVICE[decision.advice],)))
    return PlainPage(
        language="ja",
        title="注意ヘッドは衝突の検出を学習するか",
        eyebrow="意思決定者向け要約",
        answer=_answer(findings, decision),
        lede=(
            "箱の中の粒子の動きを予測するニューラルネットワークを学習させました。衝突とは何かは"
            "一切教えていません。本報告の問いは、ネットワークの一部（注意ヘッド）が自ら衝突を"
            "見つけるようになったかどうかです。各学習は、乱数の種（シード）の番号で区別します。"
        ),
        facts=_facts(findings),
        answers=tuple((question, text) for question, text in answers if text),
        figure_caption=(
            "各学習で最も強いヘッドが他の粒子に向けた注意のうち、近くの粒子に向けた割合。印は（認められた場合）立ち上がりとその89%区間。"
        ),
        caution_title="留意点",
        cautions=_cautions(findings),
        joint="",
    )


def _answer(findings: Findings, decision: Decision) -> str:
    done, of = len(findings.emerged_runs), len(findings.assessed_runs)
    end = wording.step(findings.last_step)
    return {
        "all": f"はい。学習{of}回のうち{done}回で、衝突検出の創発を確認しました。",
        "some": f"一部で確認しました。学習{of}回のうち{done}回で、衝突検出が創発しました。",
        "none": (
            f"いいえ。{end}ステップまでに衝突検出の創発を確認できた学習は、{of}回のうち{done}回です。"
        ),
        "rise": "まだ結論は出せません。スコアは上昇しましたが、ヘッドの働きは検証していません。",
        "no_rise": (
            "創発の兆候はありません。スコアの上昇は見られず、ヘッドの働きも検証していません。"
        ),
        "unknown": "判断できません。ヘッドの検証もスコアの解析も行っていません。",
    }[decision.emerged]


def _facts(findings: Findings) -> tuple[tuple[str, str, str], ...]:
    facts = []
    if findings.assessed_runs:
        done, of = len(findings.emerged_runs), len(findings.assessed_runs)
        note = f"ヘッド全{len(findings.heads)}個中{len(findings.emerged)}個"
        facts.append(("衝突検出が創発した学習", f"{of}回中{done}回", note))
    onsets = [head.onset.median for head in first_onsets(findings).values() if head.onset]
    if onsets and findings.basis != "score":
        low, high = wording.step(min(onsets)), wording.step(max(onsets))
        value = low if low == high else f"{low}〜{high}"
        facts.append(("最初の立ち上がり", value, f"全{wording.step(findings.last_step)}ステップ中"))
    counts = verdicts(findings)
    if counts and findings.basis != "score":
        listed = [f"{_LAWS.get(name, name)}{number}個" for name, number in counts.most_common()]
        name = majority(counts)
        facts.append(("上昇の法則", _LAWS.get(name, name) or "混在", "、".join(listed)))
    if findings.losses:
        last = [one.last for one in findings.losses]
        first = [one.first for one in findings.losses]
        low, high = wording.number(min(last), 2), wording.number(max(last), 2)
        facts.append(
            (
                "テスト損失",
                low if low == high else f"{low}〜{high}",
                f"開始時は{wording.number(sum(first) / len(first), 2)}",
            )
        )
    return tuple(facts)


_LAWS = {
    "power_law": "べき乗則",
    "exponential": "指数則",
    "undecided": "判定保留",
    "no_emergence": "上昇なし",
    "misfit": "いずれも不適合",
}


def _emerged(findings: Findings, decision: Decision) -> tuple[str, ...]:
    total = len(findings.heads)
    if not findings.assessed_runs:
        if decision.emerged == "rise":
            return (
                f"ヘッド全{total}個のうち{len(findings.highlighted)}個で衝突スコアが上昇しました。"
                "ただし、それらが実際に衝突を検出しているか、予測に必要とされているかは検証していません。",
            )
        return ("各ヘッドの働きの検証は行っていません。",)
    passing = sum(bool(head.passes) for head in findings.heads)
    first = (
        "近くの粒子に注目すること、そのうち接触直前の粒子に注目すること、取り除くと衝突する粒子の"
        "予測が悪化すること、の3つの試験を設けました。"
        f"ヘッド全{total}個のうち、すべてに合格したのは{passing}個です。"
    )
    if findings.emerged:
        best = findings.emerged[0]
        second = (
            f"最も強いヘッドは、他の粒子に向ける注意の{_share(best.score.median)}を近くの粒子に"
            "向けています"
            f"（距離を無視するヘッドであれば{_share(best.baseline)}）。"
        )
    elif findings.highlighted:
        best = findings.highlighted[0]
        second = (
            f"最高のスコアは{wording.number(best.score.median)}です"
            f"（距離を無視するヘッドでは{wording.number(best.baseline)}）。"
        )
    else:
        return (first,)
    return first, second


def _share(value: float) -> str:
    return wording.MISSING if math.isnan(value) else f"{100 * value:.0f}%"


def _span(values: list[float]) -> str:
    """A range of probabilities as Japanese writes it."""
    return "〜".join(_bounded(value) for value in wording.probability_span(values).split(" to "))


def _bounded(text: str) -> str:
    """'>0.99' and '<0.1%' as Japanese writes them."""
    if text.startswith(">"):
        return f"{text[1:]}超"
    return f"{text[1:]}未満" if text.startswith("<") else text


def _sure(findings: Findings) -> tuple[str, ...]:
    sentences = []
    if by_bounds(findings):
        sentences.append(
            "これらのヘッドは、いずれの試験にも、89%区間の不利な側の端の値で合格しています。"
        )
    rises = rise_probabilities(findings)
    if rises and findings.basis != "score":
        sentences.append(
            f"スコアの上昇が偶然の揺らぎではない確率は、ヘッドごとに{_span(rises)}です。"
        )
    elif rises:
        sentences.append(
            f"各学習で最もスコアの高いヘッドについて、スコアが変化した確率は{_span(rises)}です。"
        )
    number = len(findings.assessed_runs or findings.runs)
    if number == 1:
        sentences.append("学習は1回のみで、別の学習でも同じ結果になるかは分かりません。")
    elif number < 10:
        sentences.append(
            f"学習は{number}回と少なく、回数は今回の結果を示すもので、発生率を示すものではありません。"
        )
    return tuple(sentences)


def _when(findings: Findings) -> tuple[str, ...]:
    sentences = []
    onsets = first_onsets(findings)
    named = [
        f"シード{run}で{wording.step_interval(head.onset)}ステップ"
        for run, head in list(onsets.items())[:MOST_RUNS_NAMED]
    ]
    if named:
        more = len(onsets) - len(named)
        tail = f"（ほか{more}回は後掲の表）" if more else ""
        sentences.append(f"最初の立ち上がりは、{'、'.join(named)}です{tail}。角括弧は89%区間です。")
    counts = verdicts(findings)
    total = sum(counts.values())
    for name, meaning in (
        ("power_law", "べき乗則（初めは速く、その後は改善が次第に遅くなりながら長く続く）"),
        ("exponential", "指数則（改善は比較的早く収束する）"),
    ):
        if counts[name]:
            probabilities = law_probabilities(findings, name)
            how = f"（確率{_span(probabilities)}）" if probabilities else ""
            sentences.append(f"ヘッド{total}個中{counts[name]}個の上昇は{meaning}に従います{how}。")
    if counts["undecided"]:
        sentences.append(
            f"{total}個中{counts['undecided']}個は、今回の測定ではべき乗則か指数則かを判別できません。"
        )
    if counts["misfit"]:
        sentences.append(
            f"{total}個中{counts['misfit']}個の上昇は、全体としてはべき乗則にも指数則にも従いません。"
        )
    if not counts:
        sentences.append("べき乗則か指数則かの判定は行っていません。")
    return tuple(sentences)


def _gain(findings: Findings, decision: Decision) -> tuple[str, ...]:
    sentences = []
    if decision.remaining is not None:
        middle, low, high = (_bounded(wording.share(value)) for value in decision.remaining)
        number = str(decision.num_forecasts)
        if decision.num_forecasts < len(findings.highlighted):
            number = f"{len(findings.highlighted)}個中{number}"
        sentences.append(
            f"ヘッドについて：曲線の当てはめ（{number}個）によれば、上昇全体のうち"
            f"残りは{middle}です（89%区間の最も広い範囲で{low}〜{high}）。"
        )
        best = strongest_forecast(findings)
        if best is not None:
            sentences.append(
                f"そのうち最も強いヘッドのスコアは現在{wording.number(best.score.median)}、"
                f"最終的な見込みは{wording.interval(best.plateau)}です。"
            )
    else:
        sentences.append("ヘッドについて：利用できる予測はありません。")
    late = late_changes(findings)
    if late:
        low, high = wording.percent(min(late)), wording.percent(max(late))
        moved = low if low == high else f"{low}〜{high}"
        sentences.append(
            f"学習の第3四半期から最終四半期にかけて、ヘッド{len(late)}個のスコアの動きは、それまでの上昇幅の{moved}です。"
        )
    changes = [
        f"シード{one.run}で{wording.percent(one.change)}"
        for one in findings.losses
        if not math.isnan(one.change)
    ]
    if changes:
        more = len(changes) - MOST_RUNS_NAMED
        rest = [f"ほか{more}回は後掲の表"] if more > 0 else []
        sentences.append(
            "予測精度について：同じ期間のテスト損失の変化は、"
            f"{'、'.join(changes[:MOST_RUNS_NAMED] + rest)}です{_LOSS[decision.loss]}。"
        )
    else:
        sentences.append("予測精度について：測定点が少なく、傾向は判断できません。")
    return tuple(sentences)


_LOSS = {
    "falling": "（低下が続いています）",
    "flat": "（ほぼ横ばいです）",
    "rising": "（再び上昇しています）",
    "mixed": "（学習ごとに傾向が異なります）",
    "unknown": "（ばらつきが大きく、傾向は判断できません）",
}

_ADVICE = {
    "stop": (
        "いいえ。衝突検出のヘッドはすでに形成されており、計算費用に見合う改善を示す測定結果はありません。"
    ),
    "stop_loss_rising": (
        "いいえ。ヘッドはすでに形成されており、テスト損失は再び上昇しています。最後のものより前の"
        "チェックポイントの方が適している可能性があります。"
    ),
    "optional": (
        "ヘッドのためには不要です。上昇の9割以上は完了しています。予測誤差をさらに下げることが費用に"
        "見合う場合に限り、続けてください。"
    ),
    "continue": "はい。曲線の当てはめによれば、ヘッドの上昇の余地が明らかに残っています。",
    "extend_and_review": (
        "期間を限って続けることを勧めます。これまでの半分の長さだけ延長し、同じ解析を行ってください。"
        "ヘッドは形成されましたが、残りの改善幅は約束できるほど正確には分かっていません。"
    ),
    "add_seeds": (
        "結果を利用する前に、学習の回数を増やしてください。衝突検出が創発した学習としなかった学習が"
        "あり、その理由は分かっていません。"
    ),
    "extend_no_head": (
        "期間を限って続け、同じ解析を行ってください。衝突検出のヘッドはまだありませんが、テスト損失は"
        "まだ変化しています。今後形成されることを示す測定結果はありません。"
    ),
    "change": (
        "このままの継続は勧めません。衝突検出のヘッドは形成されず、テスト損失の低下も止まっています。"
        "まず設定を見直してください。"
    ),
    "test_first": (
        "ヘッドの働きを検証してから判断してください。スコアの上昇だけでは、衝突を検出していることの"
        "証拠になりません。"
    ),
    "cannot_say": "今回の計算結果からは、続けるべきかどうかを判断できません。",
}


def _cautions(findings: Findings) -> tuple[str, ...]:
    found = []
    early = ended_early(findings)
    if early:
        names = "、".join(str(run) for run in early)
        found.append(f"シード{names}は途中で終了しました。最後の測定値を終了時の値としています。")
    unassessed = [run for run in findings.runs if run not in findings.assessed_runs]
    if findings.assessed_runs and unassessed:
        names = "、".join(str(run) for run in unassessed)
        found.append(f"シード{names}のヘッドは検証しておらず、回数に含めていません。")
    denied = [head for head in findings.heads if head.passes and not head.emerged]
    if denied:
        found.append(
            f"ヘッド{len(denied)}個は試験に合格しましたが、スコアの上昇が統計的に認められないため、"
            "創発には数えていません。"
        )
    misfits = verdicts(findings)["misfit"]
    if misfits:
        found.append(
            f"ヘッド{misfits}個の曲線はどちらの法則にも十分に合わないため、予測に用いていません。"
            "立ち上がりの時期も、示した区間より不確かです。"
        )
    declining = [head for head in findings.highlighted if head.peak is not None]
    if declining:
        found.append(
            f"ヘッド{len(declining)}個のスコアはピークから明らかに低下しています。予測はスコアが"
            "低下しないことを前提としています。"
        )
    if unreliable_llc(findings):
        found.append(
            "局所学習係数の推定値の一部は、推定自身の診断により信頼できないと判定されています"
            "（詳細は第5節）。"
        )
    return tuple(found)
