"""What hastens or hinders collision heads? Conditions trained in pairs over seeds.

    python -m benchmarks.interventions --output FOLDER

The demo's system and network, fewer steps. Finished runs are kept in the folder, so that the same
command continues. One core, 14 conditions of 4 seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import xarray as xr
from safetensors.torch import load_file

from benchmarks.record import write_result
from simulator.checkpoints import build_model, save_checkpoint
from simulator.conditions import Condition, run_conditions, train_condition
from simulator.config import preset
from simulator.contrasts import paired_contrast, steps_to_emergence
from simulator.interventions import copy_parameters, head_weights, transplant_head

SOURCE_SEED = 100  # of networks that are taken apart; not among the seeds compared
RELATED = {"gravity": 0.0, "damping": 6.0, "data_seed": 1}


def best_head(trajectory: xr.Dataset) -> tuple[int, int]:
    """Layer and head of the largest final score."""
    final = trajectory["collision_score"].isel(run=0, step=-1).values
    layer, head = np.unravel_index(final.argmax(), final.shape)
    return int(layer), int(head)


def source(config, path: Path):
    """A network trained to begin others from, and its largest head; kept beside the runs."""
    if path.exists():
        model = build_model(config)
        model.load_state_dict(load_file(path))
        return tuple(json.loads(path.with_suffix(".json").read_text())), model
    print(path.stem)
    trajectory, model = train_condition(config, SOURCE_SEED)
    head = best_head(trajectory)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(head))
    save_checkpoint(model, path)
    return head, model


def conditions(config, output: Path) -> list[Condition]:
    """What is compared; trains the two networks that some of them begin from."""
    head, formed = source(config, output / "formed.safetensors")
    _, related = source(config.replace(**RELATED), output / "related.safetensors")
    kept = head_weights(formed, head)

    def transplant(model):
        transplant_head(model, kept, head)

    def transfer(model):
        copy_parameters(model, related)

    return [
        Condition("unchanged"),
        Condition("weight decay 0.1", {"optimiser": "adamw", "weight_decay": 0.1}),
        Condition("cosine schedule", {"schedule": "cosine", "warmup_steps": 100}),
        Condition("batch 32", {"batch_size": 32}),
        Condition("dropout 0.1", dropout=0.1),
        Condition("mirrored", augmented=True),
        Condition("head transplanted", prepare=transplant),
        Condition("head transplanted and held", prepare=transplant, held=[head]),
        Condition("10% of the data", data_share=0.1),
        Condition("1% of the data", data_share=0.01),
        Condition("transfer, all data", prepare=transfer),
        Condition("transfer, 10%", prepare=transfer, data_share=0.1),
        Condition("transfer, 1%", prepare=transfer, data_share=0.01),
        Condition("no contacts", {"stiffness": 0.0}),
    ]


# What each condition is held against, where it is not "unchanged".
BASELINE = {"transfer, 10%": "10% of the data", "transfer, 1%": "1% of the data"}


def contrasts(result: xr.Dataset) -> dict[str, dict[str, dict[str, float | str | None]]]:
    """Every condition against its baseline: final loss, steps to emergence, largest final score."""
    largest = result["collision_score"].isel(step=-1).max(["layer", "head"])
    measures = {
        "final_test_loss_ratio": (result["test_loss"].isel(step=-1), True),
        # Not a ratio: a head that was transplanted is there at step 0.
        "steps_to_emergence_difference": (steps_to_emergence(result), False),
        "largest_final_score_difference": (largest, False),
    }
    found: dict[str, dict[str, dict[str, float | str | None]]] = {}
    for name, (values, ratio) in measures.items():
        found[name] = {}
        for condition in result["condition"].values[1:]:
            baseline = BASELINE.get(str(condition), "unchanged")
            pair = values.sel(condition=[baseline, condition]).drop_vars("step", errors="ignore")
            one = paired_contrast(pair, baseline, ratio=ratio).isel(condition=0)
            found[name][str(condition)] = {"against": baseline} | {
                # JSON has no NaN; it stands for what could not be told.
                str(key): round(float(value), 4) if np.isfinite(value) else None
                for key, value in one.data_vars.items()
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    config = preset("demo").replace(
        num_steps=given.steps,
        seeds=tuple(range(given.seeds)),
        evaluations_per_decade=0,
        evaluate_every=25,
        evaluation_samples=256,
        device="cpu",
    )
    begun = time.perf_counter()
    result = run_conditions(
        config, conditions(config, given.output), output=given.output, report=print
    )
    score = result["collision_score"].isel(step=-1)
    level = result["score_baseline"] + 0.5 * (1.0 - result["score_baseline"])
    heads = (score >= level).sum(["layer", "head"])
    figures = {
        "steps": given.steps,
        "seeds": given.seeds,
        "seconds_of_this_call": round(time.perf_counter() - begun),
        "heads_above_the_level_at_the_end": {
            str(name): heads.sel(condition=name).values.tolist()
            for name in result["condition"].values
        },
        "final_test_loss": {
            str(name): result["test_loss"]
            .isel(step=-1)
            .sel(condition=name)
            .values.round(5)
            .tolist()
            for name in result["condition"].values
        },
        "steps_to_emergence": {
            str(name): steps_to_emergence(result).sel(condition=name).values.tolist()
            for name in result["condition"].values
        },
        "contrasts": contrasts(result),
    }
    command = (
        f"python -m benchmarks.interventions --output FOLDER --steps {given.steps} "
        f"--seeds {given.seeds}"
    )
    print(write_result("interventions", command, figures))


if __name__ == "__main__":
    main()
