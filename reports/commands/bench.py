"""`recis bench`: time, GB/s and MBU per op, backend and case."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    backend: Annotated[
        str, typer.Option(help='Backends to compare, by commas; "a+b" is one, in that order.')
    ] = "numba,torch",
    op: Annotated[list[str] | None, typer.Option(help="Only this op; may be repeated.")] = None,
    case: Annotated[str | None, typer.Option(help="Only cases whose name holds this.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    budget: Annotated[float, typer.Option(help="Seconds of samples per measurement.")] = 1.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure the roofs again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A record per line on stdout.")] = False,
    out: Annotated[Path | None, typer.Option(help="Append the records to this file.")] = None,
) -> int:
    """Time ops against the measured roofs; what disagrees with the reference gets no time."""
    from recis_core.allocator import keep_freed_memory
    from reports.benchmark import Plan, measured, plan_of
    from reports.choice import kernels_of, ops_of, set_threads
    from reports.console import console, progress
    from reports.records import append, line
    from reports.sheet import ratios, reasons, roofs_line, sheet
    from roofline.device import measure_roofs
    from roofline.measure import Setting
    from roofline.timer import Timer

    keep_freed_memory()
    count = set_threads(threads)
    contenders = [kernels_of(name, device) for name in backend.split(",")]
    plan: Plan = plan_of(ops_of(op or ()), case)
    say = console()
    roofs = measure_roofs(device, count, fresh=fresh)
    say.print(roofs_line(roofs), soft_wrap=True)
    setting = Setting(roofs, Timer.of(device), budget)
    records = []
    with progress() as bar:
        task = bar.add_task("bench", total=len(plan) * len(contenders))
        for record in measured(contenders, plan, setting):
            bar.update(task, advance=1, description=record.op)
            records.append(record)
            if json:
                print(line(record), flush=True)
            if out:
                append(out, [record])
    say.print(sheet(records))
    for text in (*reasons(records), *ratios(records, [k.name for k in contenders])):
        say.print(text, soft_wrap=True, markup=False)
    return 1 if any(r.status in ("wrong", "error") for r in records) else 0
