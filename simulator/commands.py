"""The commands this package adds: `train`, `demo`, `llc`, `sweep` and `reproduce`.

What lives here: options and what is printed. What does not: the work (`training.runs`,
`experiments`, `study`).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import click

from simulator.training.config import PRESETS, TrainingConfig, from_mapping, preset, read_toml


def commands() -> list[click.Command]:
    """What the entry point hands over."""
    return [train_command, demo_command, llc_command, sweep_command, reproduce_command]


def _output_option(*, text: str = "folder for all results", **more: Any) -> Callable[..., Any]:
    return click.option("--output", type=click.Path(path_type=Path), help=text, **more)


_json_option = click.option("--json", "as_json", is_flag=True, help="print the outcome as JSON")
_config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="TOML file of fields to change"
)


def _field_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each field of the configuration."""
    hints = get_type_hints(TrainingConfig)
    for item in reversed(dataclasses.fields(TrainingConfig)):
        kind = hints[item.name]
        many = kind not in (int, float, str, bool)
        default = " ".join(map(str, item.default)) if many else item.default
        function = click.option(
            f"--{item.name.replace('_', '-')}",
            item.name,
            type=str if many else kind,
            default=None,
            metavar="N,N,..." if many else None,
            help=f"{item.metadata['help']}  [{default}]",
        )(function)
    return function


def _configuration(name: str, config: Path | None, fields: dict[str, Any]) -> TrainingConfig:
    """Preset, then TOML file, then command line, each over the one before."""
    chosen = preset(name)
    if config is not None:
        chosen = from_mapping(read_toml(config), base=chosen)
    given = {name: value for name, value in fields.items() if value is not None}
    if "seeds" in given:
        try:
            given["seeds"] = tuple(int(one) for one in given["seeds"].split(","))
        except ValueError:
            raise click.BadParameter(
                f"{given['seeds']!r}; give whole numbers such as 0,1,2", param_hint="--seeds"
            ) from None
    return from_mapping(given, base=chosen)


@click.command("train")
@_output_option(required=True)
@click.option(
    "--preset",
    "preset_name",
    default="demo",
    show_default=True,
    help=f"where to start from: {', '.join(PRESETS)}",
)
@_config_option
@_json_option
@_field_options
def train_command(
    output: Path, preset_name: str, config: Path | None, as_json: bool, **fields: Any
) -> None:
    """Train the particle transformer; the same command continues a run that was stopped."""
    chosen = _configuration(preset_name, config, fields)
    from simulator.training.runs import train

    dataset = train(chosen, output, progress=not as_json and sys.stderr.isatty())
    stopped = json.loads(dataset.attrs["stopped"])
    if as_json:
        losses = {run: dataset["test_loss"].sel(run=run).dropna("step") for run in chosen.seeds}
        click.echo(
            json.dumps(
                {
                    "trajectory": str(output / "trajectory.zarr"),
                    "last_step": int(dataset["step"].values[-1]),
                    "test_loss": {str(run): float(loss[-1]) for run, loss in losses.items()},
                    "stopped": stopped,
                }
            )
        )
    else:
        for reason in stopped.values():
            click.echo(f"Stopped early: {reason}", err=True)
        click.echo(f"{output / 'trajectory.zarr'}")


@click.command("demo")
@_output_option(default=Path("runs/demo"), show_default=True)
@click.option(
    "--lang",
    type=click.Choice(["en", "ja"]),
    default="en",
    show_default=True,
    help="language of the report's plain-language page",
)
@_config_option
@_field_options
def demo_command(output: Path, lang: str, config: Path | None, **fields: Any) -> None:
    """Simulate, train two seeds, analyse them, and write a report."""
    chosen = _configuration("demo", config, fields)
    from simulator.experiments.demo import run_demo

    for line in run_demo(chosen, output, language=lang, progress=True):
        click.echo(line)


@click.command("llc")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="which run")
@click.option("--step", type=int, help="which checkpoint  [the last]")
@_json_option
def llc_command(folder: Path, seed: int, step: int | None, as_json: bool) -> None:
    """Estimate the local learning coefficient around one checkpoint of FOLDER."""
    from simulator.experiments.landscape import estimate_checkpoint
    from simulator.training.checkpoints import checkpoint_steps, load_checkpoint

    if step is None:
        load_checkpoint(folder, seed)  # says what is wrong when there is none
        step = checkpoint_steps(folder, seed)[-1]
    result = estimate_checkpoint(folder, seed, step)
    if as_json:
        outcome = {
            "seed": seed,
            "step": step,
            "llc": result.llc,
            "standard_error": result.standard_error,
            "diagnostics": result.diagnostics,
        }
        click.echo(json.dumps(outcome, default=str))
    else:
        click.echo(str(result))


@click.command("sweep")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", "seeds", type=int, multiple=True, help="which run; repeatable  [all]")
@click.option("--every", type=int, default=1, show_default=True, help="every Nth checkpoint")
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="NAME=GLOB",
    help="parameters that move together; repeatable  [all]",
)
@click.option("--workers", type=int, default=1, show_default=True, help="processes")
@_json_option
def sweep_command(
    folder: Path,
    seeds: tuple[int, ...],
    every: int,
    parts: tuple[str, ...],
    workers: int,
    as_json: bool,
) -> None:
    """Estimate the local learning coefficient along the training of FOLDER.

    Estimates are kept in FOLDER/analysis/llc-sweep.zarr as they come; the same command goes on
    where it was stopped.
    """
    named: dict[str, str] = {}
    for part in parts:
        name, equals, pattern = part.partition("=")
        if not (name and equals and pattern):
            raise click.BadParameter(f"{part!r}; give NAME=GLOB", param_hint="--part")
        named[name] = pattern
    from simulator.experiments.landscape import sweep

    dataset = sweep(
        folder,
        seeds=seeds or None,
        every=every,
        parts=named or None,
        workers=workers,
        progress=not as_json and sys.stderr.isatty(),
    )
    names = ["llc", "llc_standard_error", "verdict"]
    table = dataset[names].to_dataframe().reset_index()
    table = table[table["verdict"] != ""][["run", "step", "part", *names]]
    if as_json:
        # Through pandas, which writes null where a coefficient is missing.
        click.echo(table.to_json(orient="records", double_precision=15))
    else:
        click.echo(table.to_string(index=False))


@click.command("reproduce")
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(["standard", "short"]),
    default="standard",
    show_default=True,
    help="how much is trained and measured",
)
@_output_option(text="folder for all results  [runs/study-PRESET]")
@click.option("--workers", type=click.IntRange(min=1), help="processes  [one for each core]")
@_json_option
def reproduce_command(
    preset_name: str, output: Path | None, workers: int | None, as_json: bool
) -> None:
    """Do the three claims about emergence hold here? Train, measure, and report.

    Collision heads against a control without contacts, their learning coefficients against
    shuffled labels, their laws under two optimisers, and whether one potential fits. The same
    command goes on where it was stopped.
    """
    from simulator.study import reproduce, study
    from simulator.study.headline import headline

    folder = output or Path("runs") / f"study-{preset_name}"
    answers = reproduce(
        study(preset_name), folder, workers=workers, progress=not as_json and sys.stderr.isatty()
    )
    if as_json:
        click.echo(json.dumps(answers))
        return
    for line in headline(answers):
        click.echo(line)
    click.echo(str(folder / "study.md"))
