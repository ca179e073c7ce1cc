"""`recis data`: write a workload's data, import public data, show what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(no_args_is_help=True, help="Write, import and look at column files.")


@data.command()
def write(
    workload: Annotated[str, typer.Argument(help="Its name, such as mse.")],
    size: Annotated[str, typer.Option(help="One of the workload's sizes.")] = "tiny",
    out: Annotated[Path | None, typer.Option(help="Default: data/WORKLOAD-SIZE.")] = None,
    format: Annotated[str, typer.Option(help="parquet, orc or arrow.")] = "parquet",
    seed: Annotated[int, typer.Option(help="Another seed, other data.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="The manifest on stdout.")] = False,
) -> None:
    """Write a workload's training and held-out files; a complete folder is left as it is."""
    from reports.choice import workload_of
    from reports.console import emit, say
    from reports.data import written

    kind = workload_of(workload, size)
    folder = out or Path("data") / f"{workload}-{size}"
    manifest = written(kind, size, folder, format, seed)
    say(f"{folder}: {workload} {size}, ceiling {kind.ceiling(folder)}")
    if json:
        emit(manifest)


@data.command()
def show(
    path: Annotated[Path, typer.Argument(help="A Parquet, ORC or Arrow file, or a folder.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show the files, rows and columns with their types."""
    from rich.table import Table

    from reports.console import console, emit, say
    from reports.data import schema_of

    found = schema_of(path)
    if json:
        emit(found)
        return
    say(
        f"{path}: {found['rows']:,} rows in {found['pieces']} pieces of {len(found['files'])} files"
    )
    table = Table("column", "type")
    for name, kind in found["columns"].items():
        table.add_row(name, kind)
    console().print(table)
