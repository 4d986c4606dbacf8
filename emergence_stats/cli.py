"""The `emergence` command.

What lives here: the group that every command joins, its handling of errors, and the commands that
need a trajectory only (`analyze`, `report`). What does not: commands that train, which packages add
through the entry-point group `emergence_stats.commands`.

Exit codes: 0 done, 2 something given cannot be used (one line on standard error says what to do),
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import click

from emergence_stats.errors import InputError, StorageError


class Commands(click.Group):
    """A group that finds commands in installed packages and reports errors in one line."""

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

    def _load(self) -> None:
        for entry in importlib.metadata.entry_points(group="emergence_stats.commands"):
            for command in entry.load()():
                self.commands.setdefault(command.name, command)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="emergence-stats")
def main() -> None:
    """Has the structure emerged, by which law, and how degenerate is the landscape there?"""


@main.command()
@click.argument("trajectory", type=click.Path(path_type=Path))
@click.option("--variable", default="collision_score", show_default=True, help="score to analyse")
@click.option("--output", type=click.Path(path_type=Path), help="folder for the result as netCDF")
@click.option("--json", "as_json", is_flag=True, help="print the table as JSON")
def analyze(trajectory: Path, variable: str, output: Path | None, as_json: bool) -> None:
    """Compare power law and exponential, and date the onset, for every curve of TRAJECTORY.

    TRAJECTORY is a Zarr store that keeps the data contract, or a folder that holds one.
    """
    import emergence_stats as es
    from emergence_stats.errors import nearest

    dataset = es.open_trajectory(trajectory)
    if variable not in dataset:
        names = [str(name) for name in dataset.data_vars]
        raise InputError(f"variable: {variable!r} is not stored{nearest(variable, names)}")
    comparison = es.compare(dataset[variable], progress=sys.stderr.isatty() and not as_json)
    table = comparison.summary()
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        comparison.to_netcdf(output / f"{variable}-comparison.nc")
    if as_json:
        rows = table.reset_index().to_dict(orient="records")
        click.echo(json.dumps(rows, default=float))
    else:
        click.echo(table.to_string())


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
    from emergence_stats.errors import disk_errors
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


if __name__ == "__main__":
    main()
