"""`recis check`: does a backend do what the declarations say?"""

from __future__ import annotations

from typing import Annotated

import typer


def check(
    backend: Annotated[str, typer.Argument(help='A backend, "a+b" in that order, or "auto".')],
    op: Annotated[list[str] | None, typer.Option(help="Only this op; may be repeated.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="A JSON line per check.")] = False,
) -> int:
    """Run the conformance kit: every op, case and variant against the reference; 1 if any fails."""
    from dataclasses import asdict

    from backends.conformance import examine
    from reports.choice import kernels_of, ops_of
    from reports.console import console, emit, progress

    ops = ops_of(op or ())
    kernels = kernels_of(backend, device, checked=True)
    verdicts = []
    with progress() as bar:
        task = bar.add_task("check", total=len(ops))
        for one in ops:
            bar.update(task, description=one.name)
            for verdict in examine(kernels, (one.name,)):
                verdicts.append(verdict)
                if json:
                    emit(asdict(verdict))
            bar.advance(task)
    bad = [v for v in verdicts if v.status != "ok"]
    console().print(table_of(verdicts, kernels.origins))
    for verdict in bad:
        where = f"{verdict.op} [{verdict.case}] [{verdict.variant}]"
        console().print(
            f"{verdict.status}: {where}: {verdict.detail}", soft_wrap=True, markup=False
        )
    console().print(f"{kernels}: {len(verdicts) - len(bad)} of {len(verdicts)} checks passed")
    return 1 if bad else 0


def table_of(verdicts, origins):
    """Passed and failed checks of each op."""
    from rich.table import Table

    table = Table("op", "backend", "passed", "wrong", "error")
    for op in dict.fromkeys(v.op for v in verdicts):
        states = [v.status for v in verdicts if v.op == op]
        counts = (str(states.count(s) or "") for s in ("ok", "wrong", "error"))
        table.add_row(op, origins[op], *counts)
    return table
