"""The numbered sections: training, laws, learning coefficients, tests of the heads.

What lives here: their sentences, figures and tables, or that something was not computed. What does
not: the plain page (`plain`), drawing (`figures`), and the sections a structure's record brings.
"""

from __future__ import annotations

import math

from emergence_stats.report import figures, wording
from emergence_stats.report.layout import Figure, Section, Table
from emergence_stats.report.records import VERDICTS, Findings, Head
from emergence_stats.report.summary import describe_law

RUNS_PER_FIGURE = 2
MOST_BARS = 16
MOST_ROWS = 40
# As many as ten seeds of three layers of eight heads have.
MOST_ONSETS = 240
TESTS_SECTION = 5


def write_sections(findings: Findings) -> list[Section]:
    """All of them in order, the structure's own last."""
    own = findings.structure.sections
    return [
        write_training(findings),
        write_comparison(findings),
        write_coefficients(findings),
        write_tests(findings),
        *(own(findings) if own is not None else ()),
    ]


def explain_basis(findings: Findings) -> str:
    """Which heads are highlighted, and why."""
    best = "shown is the highest-scoring one of each run"
    if findings.basis == "tests":
        return f"Highlighted are the heads that pass every test of section {TESTS_SECTION}."
    if findings.basis == "rise":
        score = findings.words["score"]
        return f"The tests were not made; highlighted are the heads whose {score} rose."
    if findings.assessed_runs:
        return f"No head counts as a {findings.words['head']}; {best}."
    return f"Heads were neither tested nor analysed; {best}."


def write_training(findings: Findings) -> Section:
    """Losses, scores and onsets."""
    score = findings.words["score"]
    drawn = []
    for place in range(0, len(findings.runs), RUNS_PER_FIGURE):
        runs = findings.runs[place : place + RUNS_PER_FIGURE]
        named = wording.join([str(run) for run in runs])
        rises = [
            f"{head.name} rises from {wording.number(head.first_score)} to "
            f"{wording.number(head.score.median)}, onset {wording.step_interval(head.onset)}"
            for run in runs
            for head in findings.highlighted_of(run)
        ]
        drawn.append(
            Figure(
                figures.draw_training(findings, runs, f"training{place}"),
                f"Above: loss on training data (dashed) and held-out data (solid). Below: {score} "
                "of every head, grey unless highlighted; bands are one standard error. The "
                "marks under the scores are the onsets, median and 89% interval. Steps are on a "
                "logarithmic axis that begins at 0.",
                f"Line charts of loss and head scores against optimiser step for seed {named}. "
                + "; ".join(rises),
            )
        )
    tables = [table for table in (_list_losses(findings), _list_onsets(findings)) if table.rows]
    return Section(
        "training",
        "Training: losses and head scores",
        (explain_basis(findings),),
        tuple(drawn),
        tables=tuple(tables),
    )


def _list_losses(findings: Findings) -> Table:
    rows = [
        (
            str(one.run),
            wording.step(one.last_step),
            wording.number(one.first),
            wording.number(one.last),
            wording.MISSING
            if math.isnan(one.change)
            else f"{wording.percent(one.change)} ± {100 * one.change_error:.1f}%",
        )
        for one in findings.losses
    ]
    return Table(
        "Held-out loss of each run",
        ("Seed", "Last step", "First", "Last", "Late change"),
        tuple(rows),
        numeric=frozenset(range(5)),
        note="Late change: mean of the last quarter of the steps against the quarter before it, "
        "with the standard error that the scatter within the quarters gives.",
    )


def _list_onsets(findings: Findings) -> Table:
    """When every head of every run began, if it did."""
    dated = [head for head in findings.heads if math.isfinite(head.onset_probability)]
    shown = sorted(dated[:MOST_ONSETS], key=lambda head: (head.run, head.layer, head.head))
    rows = [
        (
            *_name(head),
            wording.probability(head.onset_probability),
            wording.step_interval(head.onset),
        )
        for head in shown
    ]
    return Table(
        "Onset of every head: posterior probability that there is one, and median [89% interval]",
        ("Seed", "Head", "P(onset)", "Onset (step), if there is one"),
        tuple(rows),
        numeric=frozenset({2, 3}),
        note="Where an onset is improbable its interval is that of the prior."
        + _omit(len(dated) - len(shown)),
    )


def write_comparison(findings: Findings) -> Section:
    """The law of each highlighted head's rise."""
    name, title = "comparison", "Power law or exponential"
    if findings.comparison is None:
        return Section(name, title, missing="The comparison of laws was not computed.")
    heads = [head for head in findings.highlighted if head.verdict or head.probability]
    if not heads:
        return Section(name, title, missing="The comparison has no values for these heads.")
    shown = sorted(heads[:MOST_ROWS], key=lambda head: head.run)
    rows = [
        (
            *_name(head),
            VERDICTS.get(head.verdict or "", head.verdict or wording.MISSING),
            *(
                wording.probability(head.probability.get(family))
                for family in ("power_law", "exponential", "flat")
            ),
            wording.interval(head.order, 2),
            wording.interval(head.exponent, 2),
            wording.step_interval(head.onset),
            wording.number(head.misfit_p_value, 2),
        )
        for head in shown
    ]
    table = Table(
        "Each highlighted head: verdict, posterior probabilities, and median [89% interval]",
        (
            "Seed", "Head", "Verdict", "P(power law)", "P(expo\u00adnential)", "P(no rise)",
            "Order n", "Exponent α", "Onset (step)", "Misfit p",
        ),
        tuple(rows),
        numeric=frozenset(range(3, 10)),
        note="L1 H3 is head 3 of layer 1, counted from 0. P: posterior probability. Order and "
        "exponent hold if the rise is a power law: α = 1/(n − 2). A misfit is a "
        "curve with a small misfit p that is more than a tenth of its range away from the mean of "
        "the laws, or any that is more than a fifth away."
        f"{_list_settings(findings.comparison.attrs)}"
        + _omit(len(heads) - len(shown)),
    )  # fmt: skip
    bars = shown[:MOST_BARS]
    figure = Figure(
        figures.draw_laws(bars),
        "Left: posterior probability of each law. Right: order of the effective potential under "
        "the power law, median and 89% interval; an exponential has order 2.",
        "Bar chart of the probability of each law: "
        + "; ".join(f"{head.name}: {describe_law(head)}" for head in bars),
    )
    return Section(name, title, (explain_basis(findings),), (figure,), tables=(table,))


def _list_settings(attrs: dict[str, object]) -> str:
    """What the comparison itself records of how it was done."""
    words = {
        "noise": "noise model {}",
        "step_prior": "onset prior uniform on a {} step axis",
        "threshold": "verdict from probability {} on",
        "misfit_threshold": "alarm of a misfit below p = {}",
    }
    if attrs.get("noise") == "auto":
        attrs = attrs | {"noise": "chosen for each curve by evidence"}
    found = [text.format(attrs[name]) for name, text in words.items() if name in attrs]
    return f" Settings: {'; '.join(found)}." if found else ""


def write_coefficients(findings: Findings) -> Section:
    """The local learning coefficient before and after."""
    name, title = "coefficients", "How degenerate is the landscape: the local learning coefficient"
    if not findings.llc:
        return Section(name, title, missing="The local learning coefficient was not computed.")
    sentences = []
    for run in findings.runs:
        before, after = findings.before_and_after(run)
        if before is None or after is None:
            continue
        start, end = (
            f"{wording.with_error(one.value, one.standard_error)} at step {wording.step(one.step)}"
            for one in (before, after)
        )
        error = math.hypot(before.standard_error, after.standard_error)
        difference = wording.with_error(after.value - before.value, error)
        doubts = [
            f"step {wording.step(one.step)}: {one.verdict}"
            for one in (before, after)
            if not one.reliable
        ]
        doubt = f"; not to be relied on ({wording.join(doubts)})" if doubts else ""
        sentences.append(f"Seed {run}: from {start} to {end}, a difference of {difference}{doubt}.")
    rows = [
        (
            str(one.run),
            wording.step(one.step),
            wording.number(one.value),
            wording.number(one.standard_error, 2),
            one.verdict,
        )
        for one in findings.llc
    ]
    table = Table(
        "Local learning coefficient at each checkpoint sampled",
        ("Seed", "Step", "LLC", "Standard error", "Diagnosis"),
        tuple(rows),
        numeric=frozenset(range(4)),
        note="The standard error is the Monte Carlo error of the sampling chains.",
    )
    drawn: tuple[Figure, ...] = ()
    if any(math.isfinite(one.value) for one in findings.llc):
        drawn = (
            Figure(
                figures.draw_coefficients(findings),
                "Local learning coefficient with its standard error. Open circles: not reliable by "
                "the sampler’s own diagnostics. Grey: from the earliest to the latest end of the "
                "highlighted heads’ onset intervals.",
                f"Line chart of the local learning coefficient against step. {' '.join(sentences)}",
            ),
        )
    return Section(name, title, tuple(sentences), drawn, tables=(table,))


def write_tests(findings: Findings) -> Section:
    """Does a head do its job: the tests, and how often they are passed over seeds."""
    name, title = "tests", "Does a head do its job: the tests"
    if findings.assessment is None or not findings.assessed_runs:
        return Section(name, title, missing="The tests were not computed.")
    columns = findings.structure.quantities
    criterion = str(findings.assessment.attrs.get("criterion", "")) or "not recorded"
    done, of = len(findings.emerged_runs), len(findings.assessed_runs)
    counts = [
        f"seed {run}: {sum(head.run == run for head in findings.emerged)}"
        for run in findings.assessed_runs
    ]
    paragraphs = (
        f"Reproduction: {done} of {wording.count(of, 'seed')} "
        f"{'has' if done == 1 else 'have'} at least one {findings.words['head']}. "
        f"Heads by run: {', '.join(counts)}.",
        f"Criterion: {criterion}.",
    )
    heads = [head for head in findings.heads if head.passes is not None]
    shown = sorted(heads[:MOST_ROWS], key=lambda head: (not head.emerged, head.run))
    rows = []
    for head in shown:
        cells = []
        for column, found, passed in zip(columns, head.quantities, head.tests, strict=True):
            large = found is not None and abs(found.median) >= 10
            text = wording.interval(found, decimals=1 if large else column.decimals)
            cells.append(text if passed is None else f"{text} {'✓' if passed else '✗'}")
        rows.append((*_name(head), *cells, "yes" if head.passes else "no"))
    note = f"✓ passed, ✗ not passed. {findings.structure.note}".strip()
    table = Table(
        "Every head’s tests, at the end of training: estimate [89% interval]",
        ("Seed", "Head", *(column.heading for column in columns), "All passed"),
        tuple(rows),
        numeric=frozenset({0}),
        marked=frozenset(place for place, head in enumerate(shown) if head.emerged),
        note=note + _omit(len(heads) - len(shown)),
    )
    return Section(name, title, paragraphs, tables=(table,))


def _name(head: Head) -> tuple[str, str]:
    """Run, and layer with head, as cells of a table."""
    return str(head.run), head.label


def _omit(number: int) -> str:
    """How many rows a table had no room for, as the end of its note."""
    return f" {wording.count(number, 'further row')} left out." if number > 0 else ""
