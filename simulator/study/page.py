"""The study's report as a page of Markdown.

What lives here: words and tables around the answers, and the headline. What does not: the answers
(`structures`, `degeneracy`, `dynamics`, `one_potential`) and the picture (`figure`).

The words follow the numbers: each claim is called supported, contradicted or undecided by the
probability of what it says, at 0.9 and 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simulator.study.intervals import PROB, verdict

Numbers = dict[str, Any]
# With fewer of an arm's later estimates without complaint, the page says not to use them.
USABLE = 0.1
_ARM_TEXT = {
    "adam": "Adam, constant learning rate",
    "sgd": "SGD with momentum 0.9",
    "cosine": "Adam, cosine schedule",
    "no_contacts": "control: particles pass through each other",
    "shuffled": "control: labels shuffled between samples",
}


def study_page(answers: Numbers) -> str:
    """The whole report."""
    plan = answers["plan"]
    training = plan["training"]
    parts = [
        "# Do the three claims hold? The study's report",
        "",
        (
            "Hitchcock et al. (arXiv 2504.11830) train a transformer-like network on particles in "
            "a box and report that attention heads become collision detectors, that their "
            "emergence goes with degenerate loss-landscape geometry, and that it follows a power "
            "law rather than an exponential. This is what a small transformer of ours says: "
            f"{len(training['seeds'])} seeds an arm, {training['num_steps']} steps, "
            f"{training['num_particles']} particles. Intervals are {PROB:.0%}; "
            '"supported" means a probability of at least 0.9, "contradicted" at most 0.1.'
        ),
        "",
        "![The study](study.png)",
        "",
        "## In short",
        "",
        *[f"- {line}" for line in headline(answers)],
        "",
        *_structures(answers),
        *_degeneracy(answers),
        *_dynamics(answers),
        *_one_potential(answers),
        *_cost(answers),
    ]
    return "\n".join(parts) + "\n"


def headline(answers: Numbers) -> list[str]:
    """One sentence a claim, as the command prints them and the README quotes them."""
    adam = next(iter(answers["structures"].values()))
    control = answers["structures"].get("no_contacts")
    runs, mean = adam["runs"], adam["heads_a_run"]
    first = (
        f"(a) Structures: {verdict(_number(adam.get('probability_more_than_control')))}. "
        f"{runs['successes']} of {runs['number']} runs grow collision heads, "
        f"{interval(mean, digits=1)} of {adam['heads_in_all'] // runs['number']} a run"
    )
    if control:
        first += (
            f"; without contacts {control['runs']['successes']} of {control['runs']['number']} "
            f"({control['heads']} of {control['heads_in_all']} heads)"
        )
    lines = [first + "."]
    if "adam" in answers["degeneracy"]:
        one = answers["degeneracy"]["adam"]
        beyond = one["change_beyond_shuffled"]
        lines.append(
            f"(b) Degeneracy: that the learning coefficient rises as heads emerge is "
            f"{verdict(_number(beyond['probability_positive']))}: "
            f"{_rise_words(one['change'], beyond)}, with "
            f"{_percent(one['reliable_late'])} of the later half of the estimates without "
            f"complaint; it begins {_lag_words(one['lag_log10'])}" + _refined_words(one["refined"])
        )
    lines.append(_dynamics_headline(answers["dynamics"].get("adam", {})))
    lines.append(_potential_headline(answers["one_potential"].get("adam", {})))
    return lines


def _refined_words(refined: Numbers) -> str:
    if not refined.get("pairs"):
        return "."
    difference = refined["last_difference"]
    return (
        f". The refined coefficient of collision heads exceeds that of control heads by "
        f"{interval(difference)} ({verdict(_number(difference['probability_positive']))})."
    )


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


def _rise_words(change: Numbers, beyond: Numbers) -> str:
    if change["mean"] is None:
        return "by how much could not be told"
    less = "" if beyond["mean"] is None else f", {interval(beyond)} beyond runs on shuffled labels"
    return f"by {interval(change)}{less}"


def _lag_words(lag: Numbers) -> str:
    if lag["mean"] is None or lag["lower"] is None:
        return "at a step that could not be told"
    low, middle, high = (10 ** lag[name] for name in ("lower", "mean", "upper"))
    return f"at {middle:.2f} times ({low:.2f} to {high:.2f}) the step of the first head's onset"


def _dynamics_headline(found: Numbers) -> str:
    steps = found.get("steps", {})
    words = []
    for window, text in (("whole", "over the whole curve"), ("late", "from half of the rise on")):
        one = steps.get(window, {})
        if not one.get("heads"):
            continue
        law = one["law"]
        part = (
            f"{text} the mean probability of a power law is {law['power_law']:.2f}, of an "
            f"exponential {law['exponential']:.2f}, of neither {one['neither']:.2f}"
        )
        population = one.get("population", {})
        if "probability" in population:
            p = 1.0 - population["probability"]["exponential"]
            part += (
                f" (between the two alone, for the heads as a population: power law "
                f"{p:.2f}, order {_quantiles(population['order'])})"
            )
        words.append(part)
    return f"(c) Dynamics: {'; '.join(words)}." if words else "(c) Dynamics: no heads to ask."


def _potential_headline(found: Numbers) -> str:
    if "missing" in found or not found:
        return f"(d) One potential: not asked ({found.get('missing', 'no heads')})."
    network = found["network"]
    if "missing" in network:
        return f"(d) One potential: not asked ({network['missing']})."
    return (
        f"(d) One potential: the orders imply a coefficient of "
        f"{_quantiles(found['implied'])}, the network's changes by {network['change']:.1f} "
        f"(standard error {network['standard_error']:.1f}): {_in_words(network['verdict'])}."
    )


def _in_words(agreement: str) -> str:
    return {
        "agree": "they agree",
        "disagree": "they disagree, so a single coordinate in one potential is not the picture",
        "undecided": "too coarse to tell",
    }[agreement]


def _structures(answers: Numbers) -> list[str]:
    rows = []
    for arm, one in answers["structures"].items():
        runs = one["runs"]
        rows.append(
            (
                _ARM_TEXT[arm],
                f"{runs['successes']} of {runs['number']}",
                f"{runs['lower']:.2f} to {runs['upper']:.2f}",
                f"{one['heads']} of {one['heads_in_all']}",
                interval(one["heads_a_run"], digits=1),
                number(one.get("probability_more_than_control"), 3),
            )
        )
    stopped = [
        f"{arm}, seed {seed}: {reason}"
        for arm, each in answers.get("stopped", {}).items()
        for seed, reason in each.items()
    ]
    return [
        "## (a) Structures",
        "",
        (
            "A collision head passes three tests on held-out data: its score, the rank "
            "correlation of its attention with contact, and what its removal costs on colliding "
            "particles. Where particles pass through each other none may appear."
        ),
        "",
        *table(
            ("arm", "runs with one", "interval of the share", "heads", "heads a run",
             "P(share above the control's)"),
            rows,
        ),
        *([f"Stopped early: {'; '.join(stopped)}.", ""] if stopped else []),
    ]  # fmt: skip


def _degeneracy(answers: Numbers) -> list[str]:
    lines = ["## (b) Degeneracy", ""]
    rows = []
    for arm, one in answers["degeneracy"].items():
        for text, name, digits in (
            ("change of the coefficient, first onset to end", "change", 2),
            ("the same steps on shuffled labels", "change_shuffled", 2),
            ("difference of the two", "change_beyond_shuffled", 2),
            ("share of its whole change within the first head's rise", "share_in_rise", 2),
            ("the same, less the rise's share of log step", "share_beyond_time", 2),
            ("log10 of onset, coefficient over first head", "lag_log10", 3),
        ):
            rows.append(
                (arm, text, interval(one[name], digits=digits), str(one[name]["number"]),
                 number(one[name]["probability_positive"], 3))
            )  # fmt: skip
        refined = one["refined"]
        if refined.get("pairs"):
            for text, name in (
                ("refined coefficient at the end, collision heads", "last_collision"),
                ("the same, control heads", "last_control"),
                ("difference", "last_difference"),
                ("change since the first checkpoint, collision less control", "change_difference"),
            ):
                rows.append(
                    (arm, text, interval(refined[name]), str(refined[name]["number"]),
                     number(refined[name]["probability_positive"], 3))
                )  # fmt: skip
    lines += [
        (
            f"Local learning coefficients are of the training loss, localised at "
            f"gamma = {answers['plan']['localisation']:g} everywhere so that they can be compared "
            f"({answers['plan']['chains']} chains of {answers['plan']['draws']} draws at each of "
            f"{len(answers['plan']['inverse_temperatures'])} temperatures). A network in training "
            "is not at a minimum, so each is the slope of the mean loss over temperatures, which "
            "needs none; no estimate is left out, and the share "
            "of estimates without complaint is given below. Means are over runs."
        ),
        "",
        *table(("arm", "what", "mean", "runs", "P(above 0)"), rows),
    ]
    for arm, one in answers["degeneracy"].items():
        lags = "; ".join(
            f"seed {run}: {number(lag[1], 0)} ({number(lag[0], 0)} to {number(lag[2], 0)})"
            for run, lag in one["lag_steps"].items()
            if lag[1] is not None
        )
        lines += [
            (
                f"{arm}: {_percent(one['reliable'])} of the estimates are without complaint, "
                f"{_percent(one['reliable_late'])} of those in the later half of the checkpoints. "
                "Lag of the coefficient's onset behind the first head's, in steps: "
                f"{lags or 'none'}."
                + (
                    " So few are without complaint that the figures of this arm should not be used."
                    if (one["reliable_late"] or 0.0) < USABLE
                    else ""
                )
            ),
            "",
        ]
    rows = []
    for arm, one in answers["curvature"].items():
        for name in ("trace", "largest_eigenvalue", "effective_rank", "null_dimension"):
            rows.append(
                (arm, name.replace("_", " "), *(interval(one[name][k]) for k in
                                                ("first", "last", "difference")))
            )  # fmt: skip
    steps = [one["steps"] for one in answers["curvature"].values()]
    if rows:
        lines += [
            f"The Hessian at the first and the last of the steps {steps[0]}:",
            "",
            *table(("arm", "of the Hessian", "first", "last", "difference"), rows),
        ]
    return lines


def _dynamics(answers: Numbers) -> list[str]:
    rows, averaged = [], []
    for arm, found in answers["dynamics"].items():
        for axis, text in (("steps", "steps"), ("gradient_flow_time", "gradient-flow time")):
            for window, one in found.get(axis, {}).items():
                if not one.get("heads"):
                    continue
                law, population = one["law"], one.get("population", {})
                hypotheses = population.get("probability", {})
                rows.append(
                    (
                        arm, text, window, str(one["heads"]), number(law["power_law"], 2),
                        number(law["exponential"], 2), number(one["neither"], 2),
                        str(one["alarms"]), number(hypotheses.get("exponential"), 3),
                        number(hypotheses.get("common_exponent"), 3),
                        number(hypotheses.get("varying_exponent"), 3),
                        _quantiles(population["order"]) if "order" in population else "",
                    )
                )  # fmt: skip
        for name, mean in found.get("averaged", {}).items():
            averaged.append(
                (arm, name, mean["verdict"],
                 ", ".join(f"{law.replace('_', ' ')} {p:.2f}" for law, p in mean["law"].items()))
            )  # fmt: skip
    return [
        "## (c) Dynamics",
        "",
        (
            "Each head by itself: the mean over heads of the probability of a power law, an "
            "exponential, and neither (a stretched exponential or a logistic), and how many "
            "curves look like neither of the first two (alarms). Then the heads as a population, "
            "between the power law and the exponential alone: none, one or many exponents, and "
            'the order n of the potential (2 is the exponential). "late" is each curve from half '
            "of its rise on."
        ),
        "",
        *table(
            ("arm", "axis", "window", "heads", "power law", "exponential", "neither", "alarms",
             "all exponential", "one exponent", "many exponents", "order n"),
            rows,
        ),
        "How the order changes with the optimiser, the schedule and the axis:",
        "",
        *table(
            ("orders compared", "difference", "P(above 0)"),
            [
                (name, _quantiles(one), number(one["probability_positive"], 3))
                for name, one in answers["order_contrasts"].items()
            ],
        ),
        "The mean curve over all heads of an arm, taken at its word, would have said:",
        "",
        *table(("arm", "between", "verdict", "probabilities"), averaged),
    ]  # fmt: skip


def _one_potential(answers: Numbers) -> list[str]:
    rows = []
    notes = []
    for arm, one in answers["one_potential"].items():
        if "missing" in one:
            notes.append(f"{arm}: not asked ({one['missing']}).")
            continue
        for name in ("network", "collision_head"):
            each = one[name]
            if "missing" in each:
                continue
            rows.append(
                (arm, name.replace("_", " "), _quantiles(one["implied"]),
                 f"{each['change']:.2f} +- {each['standard_error']:.2f}",
                 number(each["probability_within"], 3), each["verdict"])
            )  # fmt: skip
        rank = one["rank_correlation"]
        notes.append(
            f"{arm}: rank correlation over heads of 1/n with the refined change: "
            + (
                rank["missing"]
                if "missing" in rank
                else f"{_quantiles(rank)} ({rank['heads']} heads)"
            )
            + "."
        )
    return [
        "## (d) One potential",
        "",
        (
            "A single coordinate in a potential of order n relaxes with that order and adds 1/n "
            "to the learning coefficient. The test asks whether 1/n, from the late part of the "
            "rises, is within 0.1 of the change measured between the first onset and the end; it "
            "fails where the change is larger, as it must be where many coordinates settle."
        ),
        "",
        *table(("arm", "whose coefficient", "1/n", "change", "P(within 0.1)", "verdict"), rows),
        *[line for note in notes for line in (note, "")],
    ]


def _cost(answers: Numbers) -> list[str]:
    counted = answers["operations"]
    whole = counted["training_operations"]
    return [
        "## What it took",
        "",
        (
            f"{answers['seconds'] / 60:.0f} minutes on the clock and "
            f"{answers['processor_seconds'] / 60:.0f} of processor time, of the calls that "
            f"finished each stage; emergence-stats {answers['version']}."
        ),
        "",
        (
            f"What a GPU would make of it, counted and not measured: a training step is "
            f"{counted['step_operations'] / 1e9:.2f} billion floating-point operations of matrix "
            f"products in {counted['step_launches']} launches of operators, all training "
            f"{whole / 1e12:.0f} trillion. At 10^13 operations a second those products take "
            f"{whole / 1e13:.0f} seconds, and at 10 microseconds a launch the launches "
            f"{counted['training_launches'] * 1e-5:.0f}: taking one run at a time a "
            "GPU would wait for its launches, and it would gain by as many runs, or chains, as are "
            "taken together."
        ),
    ]


def table(head: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """A Markdown table and an empty line; nothing where there are no rows."""
    if not rows:
        return ["Nothing to show.", ""]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, tuple("---" for _ in head), *rows)]
    return [*lines, ""]


def interval(found: Numbers, *, digits: int = 2) -> str:
    """Mean with its interval."""
    if found["mean"] is None:
        return "none"
    if found["lower"] is None:
        return f"{found['mean']:.{digits}f}"
    low, high = (f"{found[name]:.{digits}f}" for name in ("lower", "upper"))
    return f"{found['mean']:.{digits}f} ({low} to {high})"


def _quantiles(found: Numbers) -> str:
    return f"{found['median']:.2f} ({found['lower']:.2f} to {found['upper']:.2f})"


def number(value: float | None, digits: int) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
