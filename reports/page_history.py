"""Cases measured more than once: how their time went from the first record to the newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports import chart_bars
from reports.page_blocks import Cell, Column, Figure, Section, Table, seconds
from reports.page_matrix import bench_command, geometric
from reports.page_records import Content, Shelf
from reports.sheet import short

Case = tuple[str, str, str]


def section(shelf: Shelf) -> Section | None:
    """The history of a machine's ops; None if nothing was measured twice."""
    timed = [r for kind in ("op", "anchor") for r in shelf[kind] if r.get("median")]
    cases: dict[Case, list[Content]] = {}
    for r in timed:
        cases.setdefault((str(r["op"]), str(r["case"]), str(r["asked"])), []).append(r)
    again = {case: records for case, records in cases.items() if len(records) > 1}
    if not again:
        return None
    command, key = bench_command(shelf, timed), f"{shelf.machine.key}-history"
    caption = "Time over the first record's, geometric mean over the cases measured again"
    svg = chart_bars.history(_lines(again), f"{caption}, {shelf.machine.title}")
    figure = Figure(f"{key}-trend", caption, svg, command)
    return Section(key, "History", [figure, _table(key, again, command)], 3)


def _lines(again: Mapping[Case, Sequence[Content]]) -> dict[str, list[tuple[str, float, str]]]:
    """By backend, for the first, second … time its cases were measured: when, the mean ratio of
    their time to the first, and words."""
    days: dict[int, str] = {}
    ratios: dict[tuple[str, int], list[float]] = {}
    for (_, _, name), records in again.items():
        for k, r in enumerate(records, 1):
            day = str(r.get("taken", ""))[:10]
            days[k] = min(days.get(k, day), day)
            ratios.setdefault((name, k), []).append(r["median"] / records[0]["median"])
    lines: dict[str, list[tuple[str, float, str]]] = {}
    for (name, k), each in sorted(ratios.items()):
        when, mean = f"{k:02}: {days[k]}", geometric(each)
        said = f"{name}, measurement {when}: {mean:.3f} times the first, {len(each)} cases"
        lines.setdefault(name, []).append((when, mean, said))
    return lines


COLUMNS = (
    Column("op"),
    Column("case"),
    Column("backend"),
    Column("records", True),
    Column("first"),
    Column("time then", True),
    Column("newest"),
    Column("time now", True),
    Column("now ÷ then", True, "Below 1 is faster."),
)


def _table(key: str, again: Mapping[Case, Sequence[Content]], command: str) -> Table:
    rows = []
    for (op, case, backend), records in again.items():
        first, last = records[0], records[-1]
        ratio = last["median"] / first["median"]
        rows.append(
            [
                Cell(op),
                Cell(short(case)),
                Cell(backend),
                Cell(str(len(records)), len(records)),
                _when(first),
                seconds(first["median"]),
                _when(last),
                seconds(last["median"]),
                Cell(f"{ratio:.3f}", ratio),
            ]
        )
    return Table(f"{key}-table", "Cases measured more than once", COLUMNS, rows, command, True)


def _when(record: Content) -> Cell:
    """Date, minute and, where the record knows it, the commit."""
    versions = record.get("versions") or {}
    commit = str(record.get("commit") or versions.get("commit") or "")[:8]
    return Cell(f"{str(record.get('taken', '–'))[:16].replace('T', ' ')} {commit}".strip())
