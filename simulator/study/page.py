"""The study's report as a page of Markdown.

What lives here: what the template `page.md.j2` needs to write it. What does not: the answers
(`structures`, `degeneracy`, `dynamics`, `one_potential`), what they say in short (`headline`) and
the picture (`figure`).
"""

from __future__ import annotations

from pathlib import Path

from emergence_stats.checks import PROB
from simulator.study import wording
from simulator.study.headline import headline
from simulator.study.wording import Numbers

# With fewer of an arm's later estimates without complaint, the page says not to use them.
USABLE = 0.1
_ARMS = {
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
    import jinja2

    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(
        change=wording.interval_of_change,
        interval=wording.interval,
        number=wording.number,
        percent=wording.percent,
        quantiles=wording.quantiles,
    )
    template = (Path(__file__).parent / "page.md.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        a=answers, arms=_ARMS, headline=headline(answers), lags=_lags, prob=PROB, usable=USABLE
    )
    return page.strip() + "\n"


def _lags(one: Numbers) -> str:
    """By how much the coefficient's onset comes after the strongest head's, run by run."""
    lags = (
        f"seed {run}: {middle:.0f} ({wording.number(low, 0)} to {wording.number(high, 0)})"
        for run, (low, middle, high) in one["lag_steps"].items()
        if middle is not None
    )
    return "; ".join(lags) or "none"
