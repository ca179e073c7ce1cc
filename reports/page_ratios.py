"""How many times as fast one backend is as another, on the cases both have a time for."""

from __future__ import annotations

from collections.abc import Sequence

from reports.page_blocks import Cell, Column, Table
from reports.page_matrix import backends_of, bench_command, geometric, ops_of
from reports.page_records import Content, Shelf


def ratios(records: Sequence[Content], op: str, one: str, other: str) -> list[float]:
    """Time of `other` over time of `one` for each case of `op` that both have."""
    times = {
        (str(r["asked"]), str(r["case"])): float(r["median"])
        for r in records
        if r["op"] == op and r.get("status") == "ok" and r.get("median")
    }
    return [
        seconds / times[one, case]
        for (name, case), seconds in times.items()
        if name == other and (one, case) in times
    ]


def faster(records: Sequence[Content], op: str, one: str, other: str) -> Cell:
    """The geometric mean of `ratios`, and from how many cases."""
    found = ratios(records, op, one, other)
    if not found:
        return Cell(f"no case with {other}")
    note = f"{len(found)} case{'s' * (len(found) > 1)}, {min(found):.2f} to {max(found):.2f}"
    return Cell(f"{geometric(found):.2f} ×", geometric(found), note=note)


def table(shelf: Shelf, records: Sequence[Content], other: str = "torch") -> Table | None:
    """Every backend against `other` by op; None where nobody can be compared with it."""
    names = [n for n in backends_of(records) if n not in (other, "reference")]
    ops = [op for op in ops_of(records) if any(ratios(records, op, n, other) for n in names)]
    if not ops:
        return None
    rows = [[Cell(op), *(faster(records, op, name, other) for name in names)] for op in ops]
    means = [
        [geometric(r) for op in ops if (r := ratios(records, op, name, other))] for name in names
    ]
    last = [
        Cell(f"{geometric(m):.2f} ×", geometric(m), note=f"{len(m)} ops, least {min(m):.2f}")
        if m
        else Cell("–")
        for m in means
    ]
    rows.append([Cell("geometric mean over ops"), *last])
    columns = [Column("op"), *(Column(name, True) for name in names)]
    caption = f"Times as fast as {other}: geometric mean over the cases both have"
    command = bench_command(shelf, records)
    return Table(f"{shelf.machine.key}-against-{other}", caption, columns, rows, command)
