"""Records as a table for people, and how two backends compare."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rich.table import Table

from recis_core.roofs import GB, Roofs
from roofline.record import Record


def sheet(records: Sequence[Record]) -> Table:
    """A line for each record; a dash where there is no number."""
    table = Table(
        caption="GB/s: minimum bytes, and requested ones. rows: requested over the random-row roof "
        "of the op's row width. reached: the largest bound over the time."
    )
    table.add_column("op", no_wrap=True)
    table.add_column("case", overflow="fold")
    table.add_column("backend", no_wrap=True)
    for name in ("ms", "±", "GB/s", "req.", "MBU", "rows", "reached"):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for r in records:
        if last and r.op != last:
            table.add_section()
        last = r.op
        table.add_row(r.op, short(r.case), r.run if r.run == r.asked else f"{r.asked}: {r.run}",
                      *numbers(r))  # fmt: skip
    return table


def short(case: str) -> str:
    return re.sub(r"-(?=[a-z]\w*=)", " ", case)


def numbers(r: Record) -> tuple[str, ...]:
    if r.median is None or r.mbu is None or r.minimum_gbs is None:
        return (r.status, *[""] * 6)
    return (
        f"{r.median * 1e3:.3f}",
        f"{r.spread or 0:.0%}",
        f"{r.minimum_gbs:.2f}",
        f"{r.requested_gbs or 0:.2f}",
        f"{r.mbu:.1%}",
        "-" if r.random_share is None else f"{r.random_share:.0%}",
        f"{r.attainment or 0:.0%}",
    )


def reasons(records: Sequence[Record]) -> list[str]:
    """A line for each record without a time, saying why."""
    return [
        f"{r.status}: {r.op} of {r.run} [{r.case}]: {r.reason}" for r in records if r.status != "ok"
    ]


def roofs_line(roofs: Roofs) -> str:
    """The measured roofs on one line."""
    rows = ", ".join(f"{w} B {rate / GB:.1f}" for w, rate in roofs.random.items())
    caches = ", ".join(f"{level} {size / 2**20:g} MiB" for level, size in roofs.caches.items())
    return (
        f"{roofs.device}, {roofs.cores} cores, {roofs.threads} threads, {caches}; measured GB/s: "
        f"copy {roofs.copy / GB:.1f}, read {roofs.read / GB:.1f}, write {roofs.write / GB:.1f}, "
        f"update {roofs.update / GB:.1f}, cache {roofs.cache / GB:.0f}; random rows {rows} "
        f"(of {roofs.working_set / 2**30:.2f} GiB); matmul {roofs.matmul / GB:.0f} Gflop/s"
        f"{'; quick' if roofs.quick else ''}"
    )


def ratios(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """For the first backend against each other one: the geometric mean of times, over ops the
    geometric mean of their cases', and the op where it does worst."""
    said = []
    for other in names[1:]:
        by_op = ratio_by_op(records, names[0], other)
        if by_op:
            mean = math.exp(sum(map(math.log, by_op.values())) / len(by_op))
            worst = min(by_op, key=lambda op: by_op[op])
            said.append(
                f"{names[0]} is {mean:.2f} times as fast as {other} in the geometric mean over "
                f"{len(by_op)} ops; least at {worst}: {by_op[worst]:.2f}"
            )
    return said


def ratio_by_op(records: Sequence[Record], one: str, other: str) -> dict[str, float]:
    """Time of `other` over time of `one` for each op, geometric mean over the cases both have."""
    times = {(r.asked, r.op, r.case): r.median for r in records if r.status == "ok" and r.median}
    logs: dict[str, list[float]] = {}
    for (asked, op, case), seconds in times.items():
        if asked == one and (other, op, case) in times:
            logs.setdefault(op, []).append(math.log(times[other, op, case] / seconds))
    return {op: math.exp(sum(each) / len(each)) for op, each in logs.items()}
