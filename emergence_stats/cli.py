"""The `emergence` command.

What lives here: the group that every command joins, its handling of errors, and the commands that
need no training (`analyze`, `monitor`, `report`, `validate`). What does not: `llc`
(`degeneracy.command`), and commands that train, which packages add through the entry-point group
`emergence_stats.commands`.

Exit codes: 0 done, 1 a check of `validate` failed, 2 something given cannot be used (one line on
standard error says what to do), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emergence_stats.degeneracy.command import llc_command
from emergence_stats.errors import InputError, StorageError, disk_errors

if TYPE_CHECKING:
    import xarray as xr


class Commands(click.Group):
    """A group that finds commands in installed packages and reports errors in one line."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._of_packages: dict[str, click.Command] = {}

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, turning what a user can mend into one line and exit code 2."""
        try:
            return super().invoke(ctx)
        except (InputError, StorageError) as error:
            click.echo(f"emergence: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("Stopped; the same command continues where it left off.", err=True)
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in commands and those of installed packages."""
        self._load()
        return sorted(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, from wherever it is defined."""
        if cmd_name not in self.commands:
            self._load()
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Of two commands of one name, the one whose arguments these are.

        A package may have a command for what it makes itself by the name of ours for anyone's.
        """
        name, command, rest = super().resolve_command(ctx, args)
        self._load()
        other = self._of_packages.get(name or "")
        if command is None or other is None:
            return name, command, rest
        usage = " ".join(other.collect_usage_pieces(ctx))
        command.epilog = f"Or emergence {name} {usage}: {other.get_short_help_str(100)}"
        alone = _options(command) - _options(other)
        ours = not rest or rest[0] in ctx.help_option_names or alone & {_option(o) for o in rest}
        return name, command if ours else other, rest

    def _load(self) -> None:
        for entry in importlib.metadata.entry_points(group="emergence_stats.commands"):
            for command in entry.load()():
                if self.commands.setdefault(command.name, command) is not command:
                    self._of_packages.setdefault(command.name, command)


def _options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _option(argument: str) -> str:
    return argument.partition("=")[0]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="emergence-stats")
def main() -> None:
    """Has the structure emerged, by which law, and how degenerate is the landscape there?"""


main.add_command(llc_command)


@main.command()
@click.argument("trajectory", type=click.Path(path_type=Path))
@click.option("--variable", help="score to analyse  [the one that the report is about]")
@click.option("--output", type=click.Path(path_type=Path), help="folder for the result as netCDF")
@click.option("--json", "as_json", is_flag=True, help="print the table as JSON")
def analyze(trajectory: Path, variable: str | None, output: Path | None, as_json: bool) -> None:
    """Compare power law and exponential, and date the onset, for every curve of TRAJECTORY.

    TRAJECTORY is a Zarr store that keeps the data contract, or a folder that holds one.
    """
    import emergence_stats as es

    curves = _variable(es.open_trajectory(trajectory), variable)
    comparison = es.compare(curves, progress=sys.stderr.isatty() and not as_json)
    table = comparison.summary()
    if output is not None:
        with disk_errors(output):
            output.mkdir(parents=True, exist_ok=True)
        comparison.to_netcdf(output / f"{curves.name}-comparison.nc")
    if as_json:
        rows = table.reset_index().to_dict(orient="records")
        click.echo(json.dumps(rows, default=float))
    else:
        click.echo(table.to_string())


@main.command()
@click.argument("trajectory", type=click.Path(path_type=Path))
@click.option("--variable", help="score to watch  [the one that the report is about]")
@click.option("--last-step", type=float, required=True, help="step at which training is to end")
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    default=(0.0, 1.0),
    show_default=True,
    help="the range the score is expected to take",
)
@click.option("--target", type=float, help="the score that is wanted")
@click.option("--threshold", type=float, default=0.95, show_default=True, help="for a verdict")
@click.option(
    "--follow",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help="look again that often, until the last step; print what changes",
)
@click.option("--json", "as_json", is_flag=True, help="print each table as one line of JSON")
def monitor(
    trajectory: Path,
    variable: str | None,
    last_step: float,
    value_range: tuple[float, float],
    target: float | None,
    threshold: float,
    follow: float | None,
    as_json: bool,
) -> None:
    """Say of every curve of TRAJECTORY: not yet, emerging, emerged or stalled, and since when.

    TRAJECTORY may still be written to; --follow watches it.
    """
    import time

    import emergence_stats as es

    said = None
    while True:
        # From the beginning each time, as runs that lag behind fill in steps already seen.
        watch = es.Monitor(
            last_step=last_step, value_range=value_range, target=target, threshold=threshold
        )
        curves = _variable(es.open_trajectory(trajectory), variable)
        last = -1.0
        for step in curves["step"].values:
            watch.update(float(step), curves.sel(step=step, drop=True))
            last = float(step)
        if last >= 0.0 and (table := watch.summary())["status"].tolist() != said:
            said = table["status"].tolist()
            if as_json:
                rows = json.loads(table.reset_index().to_json(orient="records"))
                click.echo(json.dumps({"step": last, "curves": rows}))
            else:
                click.echo(f"step {last:g}\n{table.to_string()}")
        if follow is None or last >= last_step:
            return
        time.sleep(follow)


def _variable(dataset: xr.Dataset, name: str | None) -> xr.DataArray:
    from emergence_stats.errors import nearest
    from emergence_stats.report import find_structure

    name = name or find_structure(dataset).score
    if name not in dataset:
        names = [str(one) for one in dataset.data_vars]
        raise InputError(f"variable: {name!r} is not stored{nearest(name, names)}")
    return dataset[name]


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="the page  [FOLDER/report.html]")
@click.option(
    "--lang",
    type=click.Choice(["en", "ja"]),
    default="en",
    show_default=True,
    help="language of the plain-language page",
)
@click.option("--json", "as_json", is_flag=True, help="print the summary as JSON")
def report(folder: Path, output: Path | None, lang: str, as_json: bool) -> None:
    """Write the report of FOLDER anew from its trajectory and analysis, and print the summary.

    What was not analysed is left out, and the page says so.
    """
    import xarray as xr

    import emergence_stats as es
    from emergence_stats.report import text_summary, write_report

    results: dict[str, Any] = {"trajectory": es.open_trajectory(folder)}
    for name in ("assessment", "comparison", "onset", "llc"):
        path = folder / "analysis" / f"{name}.nc"
        results[name] = None
        if path.exists():
            with disk_errors(path), xr.open_dataset(path, engine="h5netcdf") as stored:
                results[name] = stored.load()
    page = write_report(output or folder / "report.html", language=lang, **results)
    lines = text_summary(**results)
    if as_json:
        click.echo(json.dumps({"report": str(page), "summary": lines}, ensure_ascii=False))
    else:
        click.echo("\n".join([*lines, str(page)]))


@main.command()
@click.option("--curves", type=click.IntRange(min=50), default=300, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print the table as JSON")
def validate(curves: int, seed: int, as_json: bool) -> None:
    """Check this installation against data whose truth is known: about a minute.

    Simulated curves, whose probabilities and intervals must be calibrated, and landscapes whose
    learning coefficient is exact. Exit code 1 where a check fails.
    """
    from emergence_stats.validation import validate as check

    table = check(num_curves=curves, seed=seed)
    if as_json:
        click.echo(table.reset_index().to_json(orient="records"))
    else:
        click.echo(table.to_string(float_format=lambda value: f"{value:.4g}"))
    if not table["passed"].all():
        sys.exit(1)


if __name__ == "__main__":
    main()
