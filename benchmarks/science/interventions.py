"""What hastens or hinders collision heads? Conditions trained in pairs over seeds.

    python -m benchmarks.science.interventions --output FOLDER

63,000 training steps on one core: 19 conditions of 5 seeds, and two more networks a seed from which
heads and parameters are taken; finished runs are kept in the folder. Expected: batch 32 some 85
steps later, transfer at once, without contacts no head. Writes `results/interventions.json` and
`docs/interventions.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from safetensors.torch import load_file

from benchmarks.record import write_result
from simulator.experiments.condition import Condition
from simulator.experiments.conditions import run_conditions, train_condition
from simulator.experiments.contrasts import LEVEL, paired_contrast, steps_to_emergence
from simulator.experiments.interventions import Head, copy_parameters, head_weights, transplant_head
from simulator.network.model import ParticleTransformer
from simulator.training.checkpoints import build_model, save_checkpoint
from simulator.training.config import TrainingConfig, preset

DOCS = Path(__file__).parents[2] / "docs"
FIRST_SOURCE = 100  # Networks that others begin from have seeds of their own, one for each compared
RELATED = {"gravity": 0.0, "damping": 6.0, "data_seed": 1}
FROZEN_FROM = 350  # by when every seed of an earlier four had its first head

# What a condition is held against, where it is not "unchanged" alone.
AGAINST = {
    "smallest head frozen": ("unchanged",),
    "formed head frozen": ("unchanged", "smallest head frozen"),
    "head transplanted": ("unchanged", "control head transplanted"),
    "transfer, 10%": ("10% of the data",),
    "transfer, 1%": ("1% of the data",),
}
MEASURES = {
    "steps_to_emergence": "first head, steps later",
    "heads_above_the_level": "heads more at the end",
    "largest_final_score": "largest score at the end, higher by",
    "final_test_loss": "held-out loss at the end, times",
}


def source(config: TrainingConfig, seed: int, path: Path) -> tuple[list[Head], ParticleTransformer]:
    """A network trained to begin others from, and its heads by final score, the largest first."""
    if not path.exists():
        print(path.stem)
        trajectory, model = train_condition(config, seed)
        final = trajectory["collision_score"].isel(run=0, step=-1).values
        order = np.argsort(-final, axis=None)
        heads = [tuple(map(int, np.unravel_index(k, final.shape))) for k in order]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(heads))
        save_checkpoint(model, path)
    model = build_model(config)
    model.load_state_dict(load_file(path))
    return [tuple(head) for head in json.loads(path.with_suffix(".json").read_text())], model


def conditions(config: TrainingConfig, output: Path) -> list[Condition]:
    """What is compared; trains the networks that some of them begin from."""
    transplants, controls, transfers, places = {}, {}, {}, {}
    for seed in config.seeds:
        heads, formed = source(config, FIRST_SOURCE + seed, output / f"formed-{seed}.safetensors")
        _, related = source(
            config.replace(**RELATED), FIRST_SOURCE + seed, output / f"related-{seed}.safetensors"
        )
        places[seed] = heads[:1]
        for kept, head in ((transplants, heads[0]), (controls, heads[-1])):
            weights = head_weights(formed, head)
            kept[seed] = lambda model, weights=weights, head=head: transplant_head(
                model, weights, head
            )
        transfers[seed] = lambda model, related=related: copy_parameters(model, related)
    return [
        Condition("unchanged"),
        Condition("weight decay 0.1", {"optimiser": "adamw", "weight_decay": 0.1}),
        Condition("warm-up of 100 steps", {"warmup_steps": 100}),
        Condition("cosine schedule", {"schedule": "cosine"}),
        Condition("batch 32", {"batch_size": 32}),
        Condition("batch 256", {"batch_size": 256}),
        Condition("dropout 0.1", dropout=0.1),
        Condition("mirrored", augmented=True),
        Condition("smallest head frozen", held="smallest", held_from=FROZEN_FROM),
        Condition("formed head frozen", held="largest", held_from=FROZEN_FROM),
        Condition("head transplanted", prepare=transplants),
        Condition("head transplanted and held", prepare=transplants, held=places),
        Condition("control head transplanted", prepare=controls),
        Condition("10% of the data", data_share=0.1),
        Condition("1% of the data", data_share=0.01),
        Condition("transfer, all data", prepare=transfers),
        Condition("transfer, 10%", prepare=transfers, data_share=0.1),
        Condition("transfer, 1%", prepare=transfers, data_share=0.01),
        Condition("no contacts", {"stiffness": 0.0}),
    ]


def contrast(result: xr.Dataset, condition: str, baseline: str) -> dict[str, Any]:
    """One condition against another, by measure; heads that either of them holds do not count."""
    pair = result.sel(condition=[baseline, condition])
    counts = ~pair["held"].any("condition")
    score = pair["collision_score"].where(counts)
    last = score.isel(step=-1, drop=True)
    level = pair["score_baseline"] + LEVEL * (1.0 - pair["score_baseline"])
    values = {
        # Not a ratio: a head that was transplanted is there at step 0.
        "steps_to_emergence": steps_to_emergence(pair.assign(collision_score=score)),
        "heads_above_the_level": (last >= level).sum(["layer", "head"]).astype(float),
        "largest_final_score": last.max(["layer", "head"]),
    }
    if "no contacts" not in (condition, baseline):  # Other physics, so that losses do not compare
        values["final_test_loss"] = pair["test_loss"].isel(step=-1, drop=True)
    found = {}
    for name, one in values.items():
        effect = paired_contrast(one, baseline, ratio=name == "final_test_loss").isel(condition=0)
        # JSON has no NaN; it stands for what could not be told.
        found[name] = {
            str(key): round(float(value), 4) if np.isfinite(value) else None
            for key, value in effect.data_vars.items()
        }
    return {"condition": condition, "against": baseline, **found}


def contrasts(result: xr.Dataset) -> list[dict[str, Any]]:
    """Every condition against each of its baselines."""
    return [
        contrast(result, str(condition), baseline)
        for condition in result["condition"].values[1:]
        for baseline in AGAINST.get(str(condition), ("unchanged",))
    ]


def page(figures: dict[str, Any]) -> str:
    """The contrasts as a page of the docs."""

    def shown(value: float, digits: int) -> str:
        # Adding zero makes a rounded -0 plain.
        return f"{round(value, digits) + 0.0:.{digits}f}"

    def cell(one: dict[str, Any] | None, digits: int) -> str:
        if one is None or one["effect"] is None:
            return ""
        text = shown(one["effect"], digits)
        if one["lower"] is not None:
            text += f" ({shown(one['lower'], digits)} to {shown(one['upper'], digits)})"
        bounds = round(one["num_censored"])
        return text + (f", {bounds} bound{'s' if bounds > 1 else ''}" if bounds else "")

    plain = figures["steps_to_emergence"]["unchanged"]
    lines = [
        "# What hastens or hinders collision heads",
        "",
        f"`{figures['command']}`: the demo's box and network, {figures['seeds']} seeds of "
        f"{figures['steps']} steps under each condition, with the same initial network and the "
        "same order of the data, so that conditions are compared seed by seed: mean difference (or "
        "ratio) with its 89% interval by Student's t. Scores are taken every 25 steps; a head "
        "counts from half of the way between a head that ignores distance and 1. Unchanged, the "
        f"first one does so at steps {', '.join(f'{step:.0f}' for step in plain)}. A run in which "
        "none does counts with its last step, as a bound. Heads that are held fixed in one of the "
        "two count in neither. Where all five differences are equal there is no interval.",
        "",
        f"| condition | against | {' | '.join(MEASURES.values())} |",
        "| --- | --- |" + " --- |" * len(MEASURES),
    ]
    digits = {"steps_to_emergence": 0, "heads_above_the_level": 1}
    for one in figures["contrasts"]:
        cells = [cell(one.get(name), digits.get(name, 2)) for name in MEASURES]
        lines.append(f"| {one['condition']} | {one['against']} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Frozen heads are the run's own with the largest (smallest) score at step {FROZEN_FROM}, "
        "kept as they then were while the rest trains on. Transplanted heads come from a network "
        "of another seed, one for each, trained as the unchanged ones are: its head with the "
        "largest final score, or as control with the smallest, into the same place of a fresh "
        "network. Transfer begins from all parameters of a network trained without gravity and "
        "with stronger damping. Without contacts particles pass through each other: it is another "
        "task, whose losses do not compare.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    if given.steps <= FROZEN_FROM:
        parser.error(f"--steps: heads are frozen at {FROZEN_FROM}, give more than that")
    config = preset("demo").replace(
        num_steps=given.steps,
        seeds=tuple(range(given.seeds)),
        evaluations_per_decade=0,
        evaluate_every=25,
        evaluation_samples=256,
        device="cpu",
    )
    result = run_conditions(
        config, conditions(config, given.output), output=given.output, report=print
    )
    score = result["collision_score"].isel(step=-1)
    level = result["score_baseline"] + LEVEL * (1.0 - result["score_baseline"])
    by_condition = {
        "heads_above_the_level_at_the_end": (score >= level).sum(["layer", "head"]),
        "final_test_loss": result["test_loss"].isel(step=-1).round(5),
        "steps_to_emergence": steps_to_emergence(result),
    }
    figures: dict[str, Any] = {
        "steps": given.steps,
        "seeds": given.seeds,
        **{
            name: {
                str(one): values.sel(condition=one).values.tolist()
                for one in result["condition"].values
            }
            for name, values in by_condition.items()
        },
        "contrasts": contrasts(result),
    }
    command = (
        f"python -m benchmarks.science.interventions --output FOLDER --steps {given.steps} "
        f"--seeds {given.seeds}"
    )
    print(write_result("interventions", command, figures))
    (DOCS / "interventions.md").write_text(page({"command": command, **figures}), encoding="utf-8")


if __name__ == "__main__":
    main()
