"""The study in four sentences, one a claim.

What lives here: `headline`, as the command prints it and the report begins. What does not: the
tables behind it (`page`) and the answers themselves (`structures`, `degeneracy`, `dynamics`,
`one_potential`).

The words follow the numbers: each claim is called supported, contradicted or undecided by the
probability of what it says, at 0.9 and 0.1.
"""

from __future__ import annotations

from simulator.study.dynamics import misfits_are_many
from simulator.study.intervals import verdict
from simulator.study.wording import (
    Numbers,
    interval,
    interval_of_change,
    or_nan,
    percent,
    quantiles,
)


def headline(answers: Numbers) -> list[str]:
    """One sentence a claim, as the command prints them and the report begins."""
    adam = next(iter(answers["structures"].values()))
    runs, mean = adam["runs"], adam["heads_a_run"]
    control = answers["structures"].get(adam.get("control"))
    # There none may appear: any that does takes the claim's support away.
    call = verdict(or_nan(adam.get("probability_more_than_control")))
    call = "undecided" if adam.get("heads_in_control") and call == "supported" else call
    first = (
        f"(a) Structures: {call}. "
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
            f"{verdict(or_nan(beyond['probability_positive']))}: "
            f"{_rise_words(one['change'], beyond)}, with "
            f"{percent(one['reliable_late'])} of the later half of the estimates without "
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
        f"{interval(difference)} ({verdict(or_nan(difference['probability_positive']))})."
    )


def _rise_words(change: Numbers, beyond: Numbers) -> str:
    if change["mean"] is None:
        return "by how much could not be told"
    less = "" if beyond["mean"] is None else f", {interval(beyond)} beyond runs on shuffled labels"
    return f"by {interval(change)}{less}"


def _lag_words(lag: Numbers) -> str:
    if lag["mean"] is None or lag["lower"] is None:
        return "at a step that could not be told"
    low, middle, high = (10 ** lag[name] for name in ("lower", "mean", "upper"))
    return f"at {middle:.2f} times ({low:.2f} to {high:.2f}) the step of the strongest head's onset"


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
                f" (between the two alone, for the heads as a population, power law "
                f"{p:.2f}, order {quantiles(population['order'])}"
            )
            if misfits_are_many(one):
                part += f", though {one['alarms']} of {one['heads']} curves look like neither"
            part += ")"
        words.append(f"{part}: {verdict(law['power_law'])}")
    if not words:
        return "(c) Dynamics: no heads to ask."
    return (
        "(c) Dynamics: that the heads' scores follow a power law, by its mean probability among "
        f"four laws: {'; '.join(words)}."
    )


def _potential_headline(found: Numbers) -> str:
    if "missing" in found or not found:
        return f"(d) One potential: not asked ({found.get('missing', 'no heads')})."
    network = found["network"]
    if "missing" in network:
        return f"(d) One potential: not asked ({network['missing']})."
    return (
        f"(d) One potential: the orders imply a coefficient of "
        f"{quantiles(found['implied'])}, the network's changes by {interval_of_change(network)}: "
        f"{_in_words(network['verdict'])}."
    )


def _in_words(agreement: str) -> str:
    return {
        "agree": "they agree",
        "disagree": "they disagree, so a single coordinate in one potential is not the picture",
        "undecided": "too coarse to tell",
    }[agreement]
