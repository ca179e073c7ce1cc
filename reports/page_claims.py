"""What RecIS published about its kernels, apart from everything measured here."""

from __future__ import annotations

from collections.abc import Sequence

from reports.page_blocks import Block, Cell, Column, Prose, Section, Table, number
from reports.page_matrix import backends_of
from reports.page_ratios import faster
from reports.page_records import Content, Shelf

# Operator as published: the op here nearest to it, RecIS's share and PyTorch's, percent.
PUBLISHED = (
    ("ids partition", "ids_partition", 55.1, 34.6),
    ("gather", "rows_gather", 47.5, 15.0),
    ("scatter", "rows_scatter", 58.0, 20.75),
    ("reduce (easy)", "segment_sum", 13.75, 2.75),
)
UNKNOWN = (
    "Published by RecIS as shares of memory bandwidth. **Not established**: the hardware, shapes, "
    "distribution of ids and dtype; which bytes were counted (its public profiler counts what its "
    "own implementation moves, several times the minimum for some ops) and which peak they were "
    "divided by; what the PyTorch side called; what “reduce (easy)” is (set beside `segment_sum` "
    "as the nearest). None of these shares can therefore stand beside an MBU of this page. What "
    "can be compared is time: the columns on the right divide `torch`'s time by a backend's on "
    "the same cases, in records of this page."
)


def section(shelves: Sequence[Shelf]) -> Section:
    """The published shares, and our time ratios to torch on the same op for every machine."""
    pairs = [(shelf, other) for shelf in shelves for other in _others(shelf)]
    columns = [
        Column("published operator"),
        Column("RecIS share", True, "As published, by an unknown rule."),
        Column("PyTorch share", True, "As published, by an unknown rule."),
        Column("our op"),
        *(
            Column(f"{name} ÷ torch, {shelf.machine.title}", True,
                   "Times as fast as torch, geometric mean over the cases both have.")
            for shelf, name in pairs
        ),
    ]  # fmt: skip
    rows = [
        [
            Cell(title), number(ours, "g", unit=" %"), number(torch, "g", unit=" %"), Cell(op),
            *(_ratio(shelf, op, name) for shelf, name in pairs),
        ]
        for title, op, ours, torch in PUBLISHED
    ]  # fmt: skip
    table = Table("published-shares", "RecIS's published shares, and our times", columns, rows)
    blocks: list[Block] = [Prose(UNKNOWN), table]
    return Section("published", "What RecIS published", blocks)


def _records(shelf: Shelf) -> list[Content]:
    return [*shelf.latest("op"), *shelf.latest("anchor")]


def _others(shelf: Shelf) -> list[str]:
    named = {op for _, op, _, _ in PUBLISHED}
    timed = [r for r in _records(shelf) if r.get("median") and r["op"] in named]
    return [name for name in backends_of(timed) if name not in ("torch", "reference")]


def _ratio(shelf: Shelf, op: str, name: str) -> Cell:
    records = [r for r in _records(shelf) if r["op"] == op]
    return faster(records, op, name, "torch")
