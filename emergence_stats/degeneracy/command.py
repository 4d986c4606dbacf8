"""The command `llc`: the learning coefficient of anyone's model, at one checkpoint or several.

What lives here: its options, what they name, and what is printed. What does not: the work (`llc`,
`sweep`), and the group of commands (`emergence_stats.cli`).
"""

from __future__ import annotations

import glob
import importlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emergence_stats.errors import InputError, StorageError, nearest

if TYPE_CHECKING:
    from torch import Tensor

_PLACE = "MODULE:NAME"


@click.command("llc")
@click.option("--model", "model_at", required=True, metavar=_PLACE, help="a function: the model")
@click.option("--data", "data_at", required=True, metavar=_PLACE, help="a function: the data")
@click.option(
    "--loss", "loss_at", metavar=_PLACE, help="loss(model, batch)  [that of model(**batch)]"
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="PATH",
    help="put into the model; repeatable, a glob, or a folder of steps  [the model as it is]",
)
@click.option("--part", "parts", multiple=True, metavar="GLOB", help="what moves; repeatable [all]")
@click.option("--max-seconds", type=float, help="for each estimate")
@click.option("--json", "as_json", is_flag=True, help="print the outcome as JSON")
def llc_command(
    model_at: str,
    data_at: str,
    loss_at: str | None,
    checkpoints: tuple[str, ...],
    parts: tuple[str, ...],
    max_seconds: float | None,
    as_json: bool,
) -> None:
    """Estimate the local learning coefficient of a PyTorch model.

    MODULE:NAME is a function without arguments, or the thing itself, in a module that is installed
    or in this folder. Several checkpoints, named step-N or checkpoint-N, make a table.
    """
    build = _named(model_at, "--model")
    made = _named(data_at, "--data")
    data = made() if callable(made) else made
    loss = None if loss_at is None else _named(loss_at, "--loss")
    options: dict[str, Any] = {"progress": not as_json and sys.stderr.isatty()}
    if max_seconds is not None:
        options["max_seconds"] = max_seconds
    paths = [found for pattern in checkpoints for found in _paths(pattern)]
    state = _state(paths[0]) if len(paths) == 1 else None
    if paths and state is None:
        source = paths[0] if len(paths) == 1 else paths
        _print_sweep(source, build, loss, data, parts, as_json, options)
        return
    from torch import nn

    from emergence_stats.degeneracy.llc import estimate_llc
    from emergence_stats.degeneracy.sweep.checkpoints import load_into

    model = build() if callable(build) and not isinstance(build, nn.Module) else build
    if state is not None:
        load_into(model, state, name=str(paths[0]))
    result = estimate_llc(model, loss, data, parts=list(parts) or None, **options)
    if as_json:
        found = ("llc", "standard_error", "diagnostics")
        click.echo(json.dumps({name: getattr(result, name) for name in found}, default=str))
    else:
        click.echo(str(result))


def _print_sweep(
    source: Any,
    build: Any,
    loss: Any,
    data: Any,
    parts: tuple[str, ...],
    as_json: bool,
    options: dict[str, Any],
) -> None:
    from emergence_stats.degeneracy.sweep.sweep import sweep_llc

    named = {" ".join(parts): list(parts)} if parts else None
    dataset = sweep_llc(source, build, loss, data, parts=named, **options)
    names = ["llc", "llc_standard_error", "verdict"]
    table = dataset[names].to_dataframe().reset_index()
    table = table[table["verdict"] != ""]
    if as_json:
        # Through pandas, which writes null where a coefficient is missing.
        click.echo(table.to_json(orient="records", double_precision=15))
    else:
        click.echo(table.to_string(index=False))


def _named(place: str, option: str) -> Any:
    """What `package.module:name` names; this folder is looked in, as `python -m` does."""
    module_name, _, name = place.partition(":")
    if not (module_name and name):
        raise InputError(f"{option}: {place!r}; give package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{option}: {error.msg}, asked for by {place!r}; run this in the folder that holds it, "
            "or install it"
        ) from error
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            raise InputError(
                f"{option}: {module_name} has no {attribute!r}{nearest(attribute, dir(found))}"
            )
        found = getattr(found, attribute)
    return found


def _paths(pattern: str) -> list[Path]:
    found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
    if not found:
        raise StorageError(f"{pattern}: no such checkpoint; check the pattern")
    return [Path(one) for one in found]


def _state(path: Path) -> dict[str, Tensor] | None:
    """The tensors of one checkpoint; None for a folder of several."""
    from emergence_stats.degeneracy.sweep.checkpoints import find_checkpoints
    from emergence_stats.degeneracy.sweep.state_files import read_state

    try:
        return read_state(path)
    except StorageError:
        if not path.is_dir():
            raise
        find_checkpoints(path)  # says what is wrong where these are none either
        return None
