"""Which kind of noise does each curve have? Chosen by evidence.

What lives here: comparing kinds of noise on the same curves and keeping, for each curve, what was
found under the most probable one. What does not: what is found under one kind (`summaries`).

    p(curve | kind) = sum over families of p(family) p(curve | family, kind), kinds equally probable

First-order autoregressive noise includes independent noise as a limit, so between these two the
evidence decides whether correlations are worth believing in, not whether they can be excluded.

The most probable kind is kept rather than an average over kinds: on 200 simulated curves the two
had the same log score within 0.003 and the onset's 89% intervals held 0.885 and 0.905 of the truths
(`benchmarks.noise_choice`), and a summary that names one kind is easier to check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import numpy as np

from emergence_stats.evidence import CurveArrays
from emergence_stats.families import Family
from emergence_stats.summaries import Summaries, analyse

Array = np.ndarray

KINDS = ("independent", "ar1", "ou", "ou_log")


def analyse_by_evidence(
    curves: CurveArrays,
    families: Sequence[Family],
    *,
    prior_probability: Mapping[str, float],
    step_prior: str = "log",
    tolerance: float = 0.03,
    report: Callable[[int], None] | None = None,
) -> tuple[Summaries, Array, Array]:
    """What `summaries.analyse` finds under the most probable kind of noise.

    Returns
    -------
    Summaries
    kind : ndarray of str, shape (curve,)
    probability : ndarray, shape (curve, kind)
        In the order of `KINDS`.
    """
    found = [
        analyse(
            curves,
            families,
            prior_probability=prior_probability,
            noise=kind,
            step_prior=step_prior,
            tolerance=tolerance,
            report=report,
        )
        for kind in KINDS
    ]
    log_prior = np.log([prior_probability[family.name] for family in families])
    score = np.stack(
        [np.logaddexp.reduce(one.log_evidence + log_prior, axis=1) for one in found], axis=1
    )
    probability = np.exp(score - score.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    # Of equal kinds, as two are where steps are even, the first.
    best = np.argmax(score >= score.max(axis=1, keepdims=True) - 1e-6, axis=1)
    rows = np.arange(best.size)
    chosen = Summaries(
        **{
            f.name: np.stack([getattr(one, f.name) for one in found])[best, rows]
            for f in fields(Summaries)
        }
    )
    return chosen, np.array(KINDS)[best], probability
