"""`recis data`: write a workload's data, import public data, show what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(no_args_is_help=True, help="Write, import and look at column files.")


@data.command()
def write(
    workload: Annotated[str, typer.Argument(help="Its name, such as mse.")],
    size: Annotated[str | None, typer.Option(help="Default: the workload's first.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: data/WORKLOAD-SIZE.")] = None,
    format: Annotated[str, typer.Option(help="parquet, orc or arrow.")] = "parquet",
    seed: Annotated[int, typer.Option(help="Another seed, other data.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="The manifest on stdout.")] = False,
) -> None:
    """Write a workload's training and held-out files; a complete folder is left as it is."""
    from reports.choice import size_of, workload_of
    from reports.console import emit, say
    from reports.data import written

    kind = workload_of(workload)
    size = size_of(kind, size)
    folder = out or Path("data") / f"{workload}-{size}"
    manifest = written(kind, size, folder, format, seed)
    say(f"{folder}: {workload} {size}, ceiling {kind.ceiling(folder)}")
    if json:
        emit(manifest)


@data.command("import")
def bring(
    workload: Annotated[str, typer.Argument(help="A workload of public data.")],
    source: Annotated[Path, typer.Argument(help="The file or folder the data were loaded to.")],
    size: Annotated[str | None, typer.Option(help="Default: the workload's first.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: data/WORKLOAD-SIZE.")] = None,
    format: Annotated[str, typer.Option(help="parquet, orc or arrow.")] = "parquet",
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="The manifest on stdout.")] = False,
) -> None:
    """Import public data: training and held-out files that `train` takes from there."""
    from reports.choice import size_of, workload_of
    from reports.console import emit, say
    from reports.data import written
    from reports.failure import Misuse

    kind = workload_of(workload)
    size = size_of(kind, size)
    if not source.exists():
        raise Misuse(f"{source}: no such file or folder")
    folder = out or Path("data") / f"{workload}-{size}"
    manifest = written(kind, size, folder, format, seed, source)
    say(f"{folder}: {workload} {size} from {source}, rows {manifest.get('rows')}")
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
