"""The study's report as a page of Markdown.

What lives here: words and tables around the answers. What does not: the answers (`structures`,
`degeneracy`, `dynamics`, `one_potential`), what they say in short (`headline`) and the picture
(`figure`).
"""

from __future__ import annotations

from emergence_stats.checks import PROB
from simulator.study.headline import headline
from simulator.study.wording import (
    Numbers,
    interval,
    interval_of_change,
    number,
    percent,
    quantiles,
    table,
)

# With fewer of an arm's later estimates without complaint, the page says not to use them.
USABLE = 0.1
_ARM_TEXT = {
    "adam": "Adam, constant learning rate",
    "sgd": "SGD with momentum 0.9",
    "cosine": "Adam, cosine schedule",
    "no_contacts": "control: particles pass through each other",
    "shuffled": "control: labels shuffled between samples",
    "no_contacts_sgd": "control: particles pass through each other, SGD",
    "shuffled_sgd": "control: labels shuffled between samples, SGD",
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


def _same_onset(one: Numbers) -> str:
    """In how many runs the two onsets are rather one, in a sentence."""
    factors = [value for value in one["log_bayes_factor_same"] if value is not None]
    if not factors:
        return ""
    same = sum(value > 0.0 for value in factors)
    return f" One onset for both is more probable than two in {same} of {len(factors)} runs."


def _pairs_words(refined: Numbers) -> str:
    if not refined.get("pairs"):
        return ""
    return f" {refined['pairs']} collision heads have a control that is compared with them."


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
            "particles. Where particles pass through each other none may appear; arms are compared "
            "with such runs where these were trained alike."
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
            ("change of the coefficient, from the strongest head's onset to the end", "change", 2),
            ("the same steps on shuffled labels", "change_shuffled", 2),
            ("difference of the two", "change_beyond_shuffled", 2),
            ("share of its whole change within that head's rise", "share_in_rise", 2),
            ("the same, less the rise's share of log step", "share_beyond_time", 2),
            ("log10 of onset, coefficient over strongest head", "lag_log10", 3),
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
                f"{arm}: {percent(one['reliable'])} of the estimates are without complaint, "
                f"{percent(one['reliable_late'])} of those in the later half of the checkpoints. "
                "Lag of the coefficient's onset behind the strongest head's, in steps: "
                f"{lags or 'none'}.{_same_onset(one)}{_pairs_words(one['refined'])}"
                + (
                    " So few are without complaint that the figures of this arm should not be used."
                    if (one["reliable_late"] or 0.0) < USABLE
                    else ""
                )
            ),
            "",
        ]
    return [*lines, *_curvature(answers["curvature"])]


def _curvature(arms: Numbers) -> list[str]:
    names = ("trace", "largest_eigenvalue", "effective_rank", "null_dimension")
    rows = [
        (
            arm, name.replace("_", " "),
            *(number(each["mean"], 1) for each in one[name]["by_step"]),
            interval(one[name]["difference"], digits=1),
        )
        for arm, one in arms.items()
        for name in names
    ]  # fmt: skip
    if not rows:
        return []
    steps = next(iter(arms.values()))["steps"]
    return [
        "The Hessian along training, means over runs, and the last less the first:",
        "",
        *table(("arm", "of the Hessian", *(f"step {step}" for step in steps), "change"), rows),
    ]


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
                        quantiles(population["order"]) if "order" in population else "",
                    )
                )  # fmt: skip
        for window, choices in found.get("averaged", {}).items():
            for name, mean in choices.items():
                low, middle, high = mean["order"]
                laws = (f"{law.replace('_', ' ')} {p:.2f}" for law, p in mean["law"].items())
                order = quantiles({"lower": low, "median": middle, "upper": high})
                averaged.append((arm, window, name, mean["verdict"], ", ".join(laws), order))
    return [
        "## (c) Dynamics",
        "",
        (
            "Each head by itself: the mean over heads of the probability of a power law, an "
            "exponential, and neither (a stretched exponential or a logistic), and how many "
            "curves look like neither of the first two (alarms). Then the heads as a population, "
            "between the power law and the exponential alone: none, one or many exponents, and "
            'the order n of the potential (2 is the exponential). "late" is each curve from half '
            "of its rise on; there the order's interval is as wide as runs differ (jackknife), for "
            "heads of one run are alike. Where more than a quarter of the curves are alarms, the "
            "population's verdict is between two laws that most of them do not follow, and its "
            "order means little."
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
            ("orders compared", "difference", "P(above 0)", "curves fit"),
            [
                (
                    name,
                    quantiles(one),
                    number(one["probability_positive"], 3),
                    "yes" if one["curves_fit"] else "no",
                )
                for name, one in answers["order_contrasts"].items()
            ],
        ),
        "The mean curve over all heads of an arm, taken at its word, would have said:",
        "",
        *table(
            ("arm", "window", "between", "verdict", "probabilities", "order n if a power law"),
            averaged,
        ),
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
                (arm, name.replace("_", " "), quantiles(one["implied"]), interval_of_change(each),
                 number(each["probability_within"], 3), each["verdict"])
            )  # fmt: skip
        rank = one["rank_correlation"]
        notes.append(
            f"{arm}: rank correlation over heads of 1/n with the refined change: "
            + (
                rank["missing"]
                if "missing" in rank
                else f"{quantiles(rank)} ({rank['heads']} heads)"
            )
            + "."
        )
    return [
        "## (d) One potential",
        "",
        (
            "A single coordinate in a potential of order n relaxes with that order and adds 1/n "
            "to the learning coefficient. The test asks whether 1/n, from the late part of the "
            "rises, is within 0.1 of the measured change: of the network's coefficient from the "
            "strongest head's onset to the end, of a head's from the first to the last of its "
            "checkpoints. It fails where the change is larger, as it must be where many "
            "coordinates settle. A smaller change decides nothing: in these localised coefficients "
            f"a direction counts half where the loss curves by {answers['half_counted_at']:.1f}, "
            "and a flatter one less. The score is taken to be linear in the coordinate; of one "
            "that goes as its p-th power the implied coefficient would be 1 / (2 + p (n - 2)), "
            "which is at most 1/2 as well."
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
