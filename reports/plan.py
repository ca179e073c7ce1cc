"""A planned run for people, and the refusal of one that no memory here can hold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from recis_core.optim import Rule
from recis_core.roofs import GB
from reports.failure import Failure, Misuse
from workloads import Workload
from workloads.plan import Plan, TablePlan, plan_of

if TYPE_CHECKING:
    from reports.run import Run

MOST = 5  # tables named one by one


def has_plan(workload: Workload) -> bool:
    return hasattr(workload, "demands")


def planned(workload: Any, size: str, rule: Rule, batch: int, rows: int | None = None) -> Plan:
    """The plan of a workload that knows its columns' distributions; Misuse for any other.

    `rows`: rows to train on, if not all there are.
    """
    if not has_plan(workload):
        raise Misuse(f"{workload.name} cannot be planned: nobody knows its ids' distribution")
    there = workload.train_rows(size)
    # Of a model that cannot be run without data the workload counts itself.
    costs = getattr(workload, "dense_costs", lambda size, batch: None)(size, batch)
    with torch.device("meta"):
        model = workload.model(size)
    return plan_of(
        model,
        workload.demands(size),
        rule,
        batch=batch,
        train_rows=there if rows is None else min(rows, there),
        dense=costs,
    )


def memory_of(device: str) -> int:
    """Bytes free on a GPU, or all that the machine has."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_memory(run: Run, device: str) -> None:
    """Failure naming the largest table, its rows and bytes, if the run needs more than there is."""
    kind = run.kind()
    if not has_plan(kind):
        return
    rows = None if run.steps is None else run.steps * run.batch_size * run.accumulation
    plan = planned(kind, run.size, run.row_rule(), run.batch_size, rows)
    there = memory_of(device)
    if plan.peak <= there:
        return
    big = plan.largest
    raise Failure(
        f"{run.workload} {run.size} would need {plan.peak / GB:.3g} GB, {device} has "
        f"{there / GB:.3g} GB; its largest table {big.name!r}: {big.rows:,} rows of {big.stride} "
        f"bytes, {big.nbytes / GB:.3g} GB; recis plan {run.workload} --size {run.size} shows all, "
        "--no-plan trains nevertheless"
    )


def plan_tables(name: str, plan: Plan) -> list[Table]:
    """Tables by dim with the largest ones, then work, traffic and memory."""
    return [_rows(name, plan), _costs(plan)]


def _rows(name: str, plan: Plan) -> Table:
    table = Table(
        title=f"{name}: tables after {plan.train_rows:,} rows, a step of {plan.batch:,}",
        caption="Expected values. A row holds its weight and the optimizer's slots.",
    )
    table.add_column("tables", no_wrap=True)
    for column in ("rows", "bytes a row", "GB", "ids a step", "distinct a step"):
        table.add_column(column, justify="right", no_wrap=True)
    for dim in sorted({t.dim for t in plan.tables}):
        own = [t for t in plan.tables if t.dim == dim]
        table.add_row(f"{len(own)} of dim {dim}", *_cells(own))
    table.add_section()
    table.add_row(f"{len(plan.tables)} in all", *_cells(plan.tables))
    table.add_section()
    for one in sorted(plan.tables, key=lambda t: -t.nbytes)[:MOST]:
        table.add_row(f"{one.name} of dim {one.dim}", *_cells([one]))
    return table


def _cells(own: list[TablePlan] | tuple[TablePlan, ...]) -> tuple[str, ...]:
    strides = {t.stride for t in own}
    return (
        f"{sum(t.rows for t in own):,}",
        f"{strides.pop()}" if len(strides) == 1 else "",
        f"{sum(t.nbytes for t in own) / GB:.3f}",
        f"{sum(t.ids for t in own):,.0f}",
        f"{sum(t.touched for t in own):,.0f}",
    )


def _costs(plan: Plan) -> Table:
    table = Table(show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("how much", justify="right", no_wrap=True)
    step = plan.step
    table.add_row("dense parameters", f"{plan.parameters:,}")
    table.add_row("GFLOP a step, forward and backward", f"{plan.flops / 1e9:,.1f}")
    table.add_section()
    for name in ("ids", "offsets", "slots", "leaves"):
        table.add_row(f"MB a step: {name}", f"{getattr(step, name) / 1e6:,.1f}")
    table.add_row("MB a step: minimum traffic", f"{step.total / 1e6:,.1f}")
    table.add_section()
    for name, size in plan.memory.items():
        table.add_row(f"GB: {name}", f"{size / GB:.3f}")
    table.add_row("GB: memory needed", f"{plan.peak / GB:.3f}")
    return table
