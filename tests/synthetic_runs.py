"""Trained runs made up for tests of the report: curves with known onsets, posteriors written down.

What lives here: the datasets a report is made from, by the shape of the real ones, and findings put
together by hand. What does not: what is expected of them.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import xarray as xr

from emergence_stats.curves.shapes import relaxation
from emergence_stats.report import Quantity, Structure
from emergence_stats.report.findings import read_findings
from emergence_stats.report.records import LossTrend

SCORE = "copying_score"
BASELINE = 0.093
INTACT_LOSS = 0.5
RUNS, LAYERS, HEADS = [0, 1], [0, 1], [0, 1]
HEAD_DIMS = ("run", "layer", "head")
SHAPE = (len(RUNS), len(LAYERS), len(HEADS))
# (run, layer, head): plateau, onset, timescale, kappa, P(power law), verdict
EMERGING = {
    (0, 0, 1): (0.36, 640.0, 150.0, 1.5, 0.97, "power_law"),
    (0, 1, 0): (0.27, 812.0, 200.0, 2.0, 0.71, "undecided"),
    (1, 0, 0): (0.33, 905.0, 120.0, 0.0, 0.03, "exponential"),
    (1, 1, 1): (0.29, 700.0, 260.0, 1.0, 0.993, "power_law"),
}
CONFIGURATION = {"width": 64, "contact_range": 1.5, "seeds": [0, 1], "optimiser": "adam"}
STRUCTURE = Structure(
    score=SCORE,
    quantities=(
        Quantity("1. Copying score", SCORE, "score", "least_score", decimals=3),
        Quantity("2. Loss rise", "loss_rise", "ablation", "least_rise", over="intact_loss"),
        Quantity("Temperature", "temperature"),
    ),
    note="Loss rises are multiples of the intact loss.",
    definitions=(("Copying score", "How much is copied."),),
    references=("Someone (2024). Copying.",),
    command="emergence demo --again",
)


def make_trajectory(*, score=SCORE, emerging=EMERGING, seed=0):
    generator = np.random.default_rng(seed)
    step = np.unique([0, *np.rint(np.geomspace(1, 3000, 25)), *range(100, 3001, 100)])
    shape = (len(RUNS), step.size, len(LAYERS), len(HEADS))
    scores = np.full(shape, BASELINE)
    for (run, layer, head), (plateau, onset, timescale, kappa, *_) in emerging.items():
        scores[run, :, layer, head] = relaxation(
            step, onset=onset, timescale=timescale, kappa=kappa, baseline=BASELINE,
            amplitude=plateau - BASELINE,
        )  # fmt: skip
    fall = relaxation(step, onset=10, timescale=150, kappa=0.5, baseline=0.12, amplitude=-0.1)
    loss = fall * np.exp(generator.normal(0, 0.01, (len(RUNS), step.size)))
    dims = ("run", "step", "layer", "head")
    return xr.Dataset(
        {
            score: (dims, scores + generator.normal(0, 0.004, shape), {"baseline": BASELINE}),
            f"{score}_sd": (dims, np.full(shape, 0.004)),
            "train_loss": (dims[:2], 0.97 * loss),
            "test_loss": (dims[:2], loss, {"units": "variance of the training set"}),
        },
        coords={"run": RUNS, "step": step.astype(int), "layer": LAYERS, "head": HEADS},
        attrs={"configuration": json.dumps(CONFIGURATION), "version": "0.1.0"},
    )


def make_assessment(*, score=SCORE, passing=tuple(EMERGING), seed=1):
    generator = np.random.default_rng(seed)
    scores = generator.normal(BASELINE, 0.004, SHAPE)
    rise = np.abs(generator.normal(0.02, 0.01, SHAPE))
    passes = np.zeros((*SHAPE, 2), dtype=bool)
    for key in passing:
        scores[key], rise[key], passes[key] = EMERGING[key][0] - 0.01, 0.62, True
    variables = {
        "passes": ((*HEAD_DIMS, "test"), passes),
        "intact_loss": ("run", np.full(len(RUNS), INTACT_LOSS)),
    }
    for name, values, half in ((score, scores, 0.006), ("loss_rise", rise, 0.05)):
        for end, shift in (("", 0.0), ("_lower", -half), ("_upper", half)):
            variables[f"{name}{end}"] = (HEAD_DIMS, values + shift)
    return xr.Dataset(
        variables,
        coords={"run": RUNS, "layer": LAYERS, "head": HEADS, "test": ["score", "ablation"]},
        attrs={"criterion": "score at least 0.2", "least_score": 0.2, "least_rise": 0.5},
    )


def make_comparison(*, emerging=EMERGING, fraction=(0.9, 0.94, 0.97)):
    probability = np.tile([0.98, 0.01, 0.01], (*SHAPE, 1))
    verdict = np.full(SHAPE, "no_emergence", dtype=object)
    names = ("onset", "plateau", "fraction_complete", "order", "exponent")
    posterior = {name: np.full((*SHAPE, 3), np.nan) for name in names}
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
            "verdict": (HEAD_DIMS, verdict.astype(str)),
            "misfit_p_value": (HEAD_DIMS, np.full(SHAPE, 0.4)),
            **{name: ((*HEAD_DIMS, "quantile"), values) for name, values in posterior.items()},
        },
        coords={
            "run": RUNS, "layer": LAYERS, "head": HEADS,
            "family": ["flat", "exponential", "power_law"], "quantile": [0.055, 0.5, 0.945],
        },
    )  # fmt: skip


def make_onset(comparison):
    found = {"probability": 1 - comparison["probability"].sel(family="flat", drop=True)}
    for place, name in enumerate(("lower", "median", "upper")):
        found[name] = comparison["onset"].isel(quantile=place, drop=True)
    return xr.Dataset(found)


def make_llc():
    nan = np.nan
    value = np.array([[41.5, nan, 77.31, 80.2], [nan, 38.0, 70.0, 75.45]])
    verdict = [["reliable", "", "chains disagree", "reliable"], ["", *["reliable"] * 3]]
    dims = ("run", "step")
    return xr.Dataset(
        {
            "llc": (dims, value),
            "llc_standard_error": (dims, np.where(np.isnan(value), nan, 1.26)),
            "llc_verdict": (dims, verdict),
        },
        coords={"run": RUNS, "step": [200, 400, 2000, 3000]},
    )


def make_results(**changes):
    """Everything a report can be made from; what is given by name in place of that."""
    comparison = make_comparison()
    results = {
        "trajectory": make_trajectory(),
        "assessment": make_assessment(),
        "comparison": comparison,
        "onset": make_onset(comparison),
        "llc": make_llc(),
        "structure": STRUCTURE,
    }
    return results | changes


def make_results_without_heads():
    """Nothing rises and nothing passes."""
    comparison = make_comparison(emerging={})
    return make_results(
        trajectory=make_trajectory(emerging={}),
        assessment=make_assessment(passing=()),
        comparison=comparison,
        onset=make_onset(comparison),
    )


def make_head(run=0, **changes):
    """One that passes, with a forecast of 3 to 10% still to come."""
    return replace(read_findings(**RESULTS).heads[0], run=run, **({"late_change": 0.01} | changes))


def make_findings(heads, *, change=0.0, **changes):
    """Of two runs whose heads these are; heads were tested where one of them says so."""
    tested = tuple(sorted({head.run for head in heads if head.passes is not None}))
    chosen = any(head.emerged if tested else head.rise_found for head in heads)
    given = {
        "heads": tuple(heads),
        "assessed_runs": tested,
        "basis": ("tests" if tested else "rise") if chosen else "score",
        "losses": tuple(LossTrend(run, 0.12, 0.02, 3000, change, 0.01) for run in RUNS),
    }
    return replace(read_findings(**RESULTS), **(given | changes))


RESULTS = make_results()
