"""What training did: losses and scores, distances, laws and learning coefficients.

What lives here: these sections' sentences, figures and tables, or that something was not computed.
What does not: the sections about what the heads do (`performance`), the plain page (`language`),
how the run was made (`method`) and drawing (`figures`, `panels`).
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from emergence_stats.report import figures, panels, wording
from emergence_stats.report.layout import MOST_ROWS, Figure, Section, Table, name_of, omitted
from emergence_stats.report.records import Findings, Head
from emergence_stats.report.summary import law

MOST_PROFILES = 6
# As many as ten seeds of three layers of eight heads have.
MOST_ONSETS = 240
RUNS_PER_FIGURE = 2


def basis_sentence(findings: Findings) -> str:
    """Which heads are highlighted, and why."""
    if findings.basis == "tests":
        return "Highlighted are the heads that pass all three tests of section 6."
    if findings.basis == "rise":
        return (
            "The three tests were not made; highlighted are the heads whose collision score rose."
        )
    if findings.assessed_runs:
        return (
            "No head counts as a collision detector; shown is the highest-scoring one of each run."
        )
    return "Heads were neither tested nor analysed; shown is the highest-scoring one of each run."


def training(trajectory: xr.Dataset, findings: Findings) -> Section:
    """Losses and scores against step."""
    drawn = []
    for place in range(0, len(findings.runs), RUNS_PER_FIGURE):
        runs = findings.runs[place : place + RUNS_PER_FIGURE]
        named = wording.joined([str(run) for run in runs])
        drawn.append(
            Figure(
                figures.training_curves(trajectory, findings, runs, f"training{place}"),
                "Above: loss on training data (dashed) and held-out data (solid). Below: collision "
                "score of every head, grey unless highlighted; bands are one standard error. The "
                "marks under the scores are the onsets, median and 89% interval. Steps are on a "
                "logarithmic axis that begins at 0.",
                f"Line charts of loss and head scores against optimiser step for seed {named}. "
                + "; ".join(
                    f"seed {head.run} layer {head.layer} head {head.head} rises from "
                    f"{wording.number(head.first_score)} to {wording.number(head.score.median)}, "
                    f"onset {wording.step_interval(head.onset)}"
                    for head in findings.highlighted
                    if head.run in runs
                ),
            )
        )
    rows = tuple(
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
    )
    table = Table(
        "Held-out loss of each run",
        ("Seed", "Last step", "First", "Last", "Late change"),
        rows,
        numeric=frozenset(range(5)),
        note="Late change: mean of the last quarter of the steps against the quarter before it, "
        "with the standard error that the scatter within the quarters gives.",
    )
    tables = ((table,) if rows else ()) + _onsets(findings)
    return Section(
        "training",
        "Training: losses and head scores",
        (basis_sentence(findings),),
        tuple(drawn),
        tables,
    )


def _onsets(findings: Findings) -> tuple[Table, ...]:
    """When every head of every run began, if it did."""
    dated = [head for head in findings.heads if math.isfinite(head.onset_probability)]
    if not dated:
        return ()
    shown = sorted(dated[:MOST_ONSETS], key=lambda head: (head.run, head.layer, head.head))
    rows = tuple(
        (
            *name_of(head),
            wording.probability(head.onset_probability),
            wording.step_interval(head.onset),
        )
        for head in shown
    )
    table = Table(
        "Onset of every head: posterior probability that there is one, and median [89% interval]",
        ("Seed", "Head", "P(onset)", "Onset (step), if there is one"),
        rows,
        numeric=frozenset({2, 3}),
        note="Where an onset is improbable its interval is that of the prior."
        + omitted(len(dated) - len(shown)),
    )
    return (table,)


def distance(trajectory: xr.Dataset, findings: Findings) -> Section:
    """Attention against distance before and after."""
    title = "What the heads look at: attention against distance"
    if "attention_distance_correlation" not in trajectory:
        return Section(
            "distance", title, missing="The attention-distance correlation was not recorded."
        )
    heads = [head for head in _best_of_each_run(findings) if panels.profile_ends(trajectory, head)][
        :MOST_PROFILES
    ]
    if not heads:
        return Section(
            "distance", title, missing="The attention-distance correlation has no values."
        )
    contact = _contact_range(findings)
    range_text = (
        f" Shaded: within {contact:g} diameters, the range of the collision score."
        if math.isfinite(contact)
        else ""
    )
    peaks = []
    for head in heads:
        _, places, values, _ = panels.profile_ends(trajectory, head)[-1]
        if np.isfinite(values).any():
            top = int(np.nanargmax(values))
            peaks.append(
                f"seed {head.run} layer {head.layer} head {head.head} ends with a maximum of "
                f"{wording.number(values[top])} at {wording.number(places[top])} diameters"
            )
    figure = Figure(
        panels.distance_profiles(trajectory, findings, heads, contact),
        "Attention-distance correlation g(r): mean attention to particles at a distance, over the "
        "mean attention to any other particle; 1 for a head that ignores distance. First measured "
        f"step (dashed) and last (solid); bands are one standard error.{range_text}",
        f"Line charts of attention against distance: {'; '.join(peaks)}.",
    )
    return Section("distance", title, (), (figure,))


def _best_of_each_run(findings: Findings) -> list[Head]:
    """Highlighted heads in turns: each run's best, then each run's second best, and so on."""
    by_run: dict[int, list[Head]] = {}
    for head in findings.highlighted:
        by_run.setdefault(head.run, []).append(head)
    rank = {id(head): place for heads in by_run.values() for place, head in enumerate(heads)}
    chosen = sorted(findings.highlighted, key=lambda head: (rank[id(head)], head.run))
    return sorted(chosen[:MOST_PROFILES], key=lambda head: (head.run, rank[id(head)]))


def _contact_range(findings: Findings) -> float:
    try:
        return float(findings.configuration.get("contact_range", math.nan))
    except (TypeError, ValueError):
        return math.nan


def comparison(given: xr.Dataset | None, findings: Findings) -> Section:
    """The law of each highlighted head's rise."""
    title = "Power law or exponential"
    if given is None:
        return Section("comparison", title, missing="The comparison of laws was not computed.")
    heads = [head for head in findings.highlighted if head.verdict or head.probability]
    if not heads:
        return Section("comparison", title, missing="The comparison has no values for these heads.")
    shown = sorted(heads[:MOST_ROWS], key=lambda head: head.run)
    rows = tuple(
        (
            *name_of(head),
            _VERDICTS.get(head.verdict or "", head.verdict or wording.MISSING),
            *(
                wording.probability(head.probability.get(name))
                for name in ("power_law", "exponential", "flat")
            ),
            wording.interval(head.order, 2),
            wording.interval(head.exponent, 2),
            wording.step_interval(head.onset),
            wording.number(head.misfit_p_value, 2),
        )
        for head in shown
    )
    table = Table(
        "Each highlighted head: verdict, posterior probabilities, and median [89% interval]",
        (
            "Seed", "Head", "Verdict", "P(power law)", "P(expo\u00adnential)", "P(no rise)",
            "Order n", "Exponent α", "Onset (step)", "Misfit p",
        ),
        rows,
        numeric=frozenset(range(3, 10)),
        note="L1 H3 is head 3 of layer 1, counted from 0. P: posterior probability. Order and "
        "exponent hold if the rise is a power law: α = 1/(n − 2). A small misfit p says that no "
        f"curve of this kind describes the data.{_settings(given)}"
        + omitted(len(heads) - len(shown)),
    )  # fmt: skip
    figure = Figure(
        panels.laws(shown[:16]),
        "Left: posterior probability of each law. Right: order of the effective potential under "
        "the power law, median and 89% interval; an exponential has order 2.",
        "Bar chart of the probability of each law: "
        + "; ".join(
            f"seed {head.run} layer {head.layer} head {head.head} {law(head)}"
            for head in shown[:16]
        ),
    )
    return Section("comparison", title, (basis_sentence(findings),), (figure,), (table,))


def _settings(given: xr.Dataset) -> str:
    """What the comparison itself records of how it was done."""
    words = {
        "noise": "noise model {}",
        "step_prior": "onset prior uniform on a {} step axis",
        "threshold": "verdict from probability {} on",
        "misfit_threshold": "misfit below p = {}",
    }
    attrs = dict(given.attrs)
    if attrs.get("noise") == "auto":
        attrs["noise"] = "chosen for each curve by evidence"
    found = [text.format(attrs[name]) for name, text in words.items() if name in attrs]
    return f" Settings: {'; '.join(found)}." if found else ""


_VERDICTS = {
    "power_law": "power law",
    "exponential": "exponential",
    "undecided": "undecided",
    "no_emergence": "no rise",
    "misfit": "misfit",
}


def coefficients(trajectory: xr.Dataset, given: xr.Dataset | None, findings: Findings) -> Section:
    """The local learning coefficient before and after."""
    title = "How degenerate is the landscape: the local learning coefficient"
    if given is None or not findings.llc:
        return Section(
            "coefficients", title, missing="The local learning coefficient was not computed."
        )
    sentences = []
    for run in findings.runs:
        before, after = findings.before_and_after(run)
        if before is None or after is None:
            continue
        difference = after.value - before.value
        error = math.hypot(before.standard_error, after.standard_error)
        sentence = (
            f"Seed {run}: from {wording.with_error(before.value, before.standard_error)} at step "
            f"{wording.step(before.step)} to "
            f"{wording.with_error(after.value, after.standard_error)} at step "
            f"{wording.step(after.step)}, a difference of {wording.with_error(difference, error)}"
        )
        doubtful = [one for one in (before, after) if not one.reliable]
        if doubtful:
            which = wording.joined(
                [f"step {wording.step(one.step)}: {one.verdict}" for one in doubtful]
            )
            sentence += f"; not to be relied on ({which})"
        sentences.append(f"{sentence}.")
    rows = tuple(
        (
            str(one.run),
            wording.step(one.step),
            wording.number(one.value),
            wording.number(one.standard_error, 2),
            one.verdict,
        )
        for one in findings.llc
    )
    table = Table(
        "Local learning coefficient at each checkpoint sampled",
        ("Seed", "Step", "LLC", "Standard error", "Diagnosis"),
        rows,
        numeric=frozenset(range(4)),
        note="The standard error is the Monte Carlo error of the sampling chains.",
    )
    drawn: tuple[Figure, ...] = ()
    if any(math.isfinite(one.value) for one in findings.llc):
        drawn = (
            Figure(
                panels.learning_coefficients(trajectory, findings),
                "Local learning coefficient with its standard error. Open circles: not reliable by "
                "the sampler’s own diagnostics. Grey: from the earliest to the latest end of the "
                "highlighted heads’ onset intervals.",
                f"Line chart of the local learning coefficient against step. {' '.join(sentences)}",
            ),
        )
    return Section("coefficients", title, tuple(sentences), drawn, (table,))
