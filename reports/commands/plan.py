"""`recis plan`: what a training run will take, before any of it is done."""

from __future__ import annotations

from typing import Annotated

import typer


def plan(
    workload: Annotated[str, typer.Argument(help="Its name, such as mse.")],
    size: Annotated[str | None, typer.Option(help="Default: the workload's first.")] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="Instead of --size: lma with users of such a length.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    rule: Annotated[str | None, typer.Option(help="Optimizer of the embedding rows.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many steps.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The plan as JSON on stdout.")] = False,
) -> None:
    """Print parameters, table rows, bytes and FLOPs of a step, and the memory needed.

    `recis train` makes the same plan and refuses before its first step what does not fit.
    """
    from reports.choice import size_of, size_of_length, workload_of
    from reports.commands.train import begun
    from reports.console import console, emit
    from reports.plan import plan_tables, planned

    kind = workload_of(workload)
    size = size_of(kind, size) if length is None else size_of_length(kind, length)
    given = {"batch_size": batch_size, "rule": rule}
    run = begun(kind, size, {name: value for name, value in given.items() if value is not None})
    rows = None if steps is None else steps * run.batch_size
    made = planned(kind, size, run.row_rule(), run.batch_size, rows)
    for table in plan_tables(f"{workload} {size}", made):
        console().print(table)
    if json:
        emit({"workload": workload, "size": size, "rule": run.rule, **made.as_dict()})
