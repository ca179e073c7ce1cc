"""What a GPU's counters say was moved, beside the declared minimum."""

from __future__ import annotations

from collections.abc import Sequence

from reports.page_blocks import Cell, Column, Table, number, status
from reports.page_records import Content, Shelf
from reports.sheet import short


def counters_table(shelf: Shelf, records: Sequence[Content]) -> Table:
    """What hardware counters say was moved, beside the declared minimum."""
    rows = []
    for r in records:
        moved = (r.get("read_bytes") or 0) + (r.get("written_bytes") or 0)
        rows.append(
            [
                Cell(str(r["op"])), Cell(short(str(r["case"]))),
                Cell(str(r.get("run") or r["asked"])),
                number(r.get("minimum_bytes"), ",.2f", 1e-6), number(moved or None, ",.2f", 1e-6),
                number(r.get("waste"), ".2f"), number(r.get("kernels"), ",.0f"),
                status(r),
            ]
        )  # fmt: skip
    columns = (
        Column("op"), Column("case"), Column("backend"), Column("minimum MB", True),
        Column("counted MB", True, "Read and written in DRAM, by the GPU's counters."),
        Column("waste", True, "Counted over minimum bytes."), Column("kernels", True),
        Column("status"),
    )  # fmt: skip
    command = next((str(r["command"]) for r in reversed(records) if r.get("command")), "")
    return Table(f"{shelf.machine.key}-counters", "DRAM traffic by hardware counters", columns,
                 rows, command, folded=len(rows) > 40)  # fmt: skip
