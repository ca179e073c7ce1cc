"""The report: sections made of records alone, the same for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reports import (
    page_claims,
    page_findings,
    page_history,
    page_machine,
    page_matrix,
    page_ops,
    page_ratios,
    page_steps,
    page_training,
)
from reports.page_blocks import Block, Cell, Column, Prose, Section, Table, number, percent
from reports.page_records import Shelf, shelves

TITLE = "RecIS suite: how close to the machine"
READING = (
    "Everything here is made from records, files of measurements; nothing is typed in. A dash is "
    "a number nobody measured; a case whose result disagreed with the reference has a status and "
    "no time.",
    "**MBU** (model bandwidth utilisation) is the *minimum* bytes an op must move (each needed "
    "byte once), divided by its time and by the copy bandwidth measured on the same machine in "
    "the same run. **Attainment** is the largest of the bounds (memory, cache, arithmetic) "
    "divided by the time.",
    "Bytes have three rules, always named: **minimum**; **requested** (every access, repeats "
    "included: what caches must serve); **RecIS rule** (what RecIS's own profiler counts, a dash "
    "where it has no formula). Shares by different rules are never compared. GB is 10^9 bytes.",
)


@dataclass(frozen=True)
class Page:
    """A report before it is written: `count` records from `machines` machines."""

    title: str
    sections: Sequence[Section]
    count: int
    machines: int


def page_of(paths: Iterable[Path]) -> Page:
    """The report on every record among `paths`, files or folders; RecordError for a broken one."""
    found = shelves(paths)
    count = sum(len(records) for shelf in found for records in shelf.kinds.values())
    first = page_findings.findings(found)
    blocks: list[Block] = [*([first] if first else []), glance(found), *map(Prose, READING)]
    sections = [Section("glance", "At a glance", blocks)]
    for shelf in found:
        sections += machine(shelf)
    sections.append(page_claims.section(found))
    return Page(TITLE, sections, count, len(found))


def machine(shelf: Shelf) -> list[Section]:
    """Every section of one machine that has something to show."""
    ops = page_ops.section(shelf)
    against = page_ratios.table(shelf, shelf.latest("op") + shelf.latest("anchor"))
    if ops and against:
        ops = Section(ops.key, ops.title, [*ops.blocks[:1], against, *ops.blocks[1:]], ops.level)
    every = (
        page_machine.section(shelf),
        page_steps.section(shelf),
        page_steps.comparisons(shelf),
        page_training.section(shelf),
        ops,
        page_history.section(shelf),
        strangers(shelf),
    )
    return [section for section in every if section is not None]


def strangers(shelf: Shelf) -> Section | None:
    """Records of a kind this page does not know: said, not dropped."""
    others = shelf["other"]
    if not others:
        return None
    sources = ", ".join(f"`{s}`" for s in sorted({str(c["source"]) for c in others}))
    what = f"{len(others)} record{'s' * (len(others) > 1)}"
    said: Block = Prose(f"{what} of a kind this page does not show, in {sources}.")
    return Section(f"{shelf.machine.key}-other", "Other records", [said], 3)


GLANCE = (
    Column("machine"),
    Column("copy, GB/s", True, "The measured roof: bytes read and written a second."),
    Column("backend"),
    Column("cases", True, "With a time."),
    Column("without time", True, "Wrong, failed or skipped; reasons stand in the tables below."),
    Column("mean MBU", True, "Geometric mean over the ops, of their cases' geometric mean."),
    Column("vs torch", True, "Times as fast as torch: geometric mean over ops, same cases."),
    Column("ops conform", True, "Every check agrees with the NumPy reference."),
)


def glance(found: Sequence[Shelf]) -> Table:
    """A row for each machine and backend."""
    rows = [row for shelf in found for row in _glances(shelf)]
    command = "recis report " + " ".join(s for shelf in found for s in shelf.sources)
    return Table("glance-table", "Machines and backends", GLANCE, rows, command)


def _glances(shelf: Shelf) -> list[list[Cell]]:
    measured = shelf.latest("op")
    records = [*measured, *shelf.latest("anchor")]
    conformance = shelf.latest("conformance")
    copy = page_machine.roofs_of(shelf).get("copy")
    rows = []
    for name in page_matrix.backends_of([*records, *conformance]):
        mine = [r for r in records if r.get("asked") == name]
        timed = [r for r in mine if r.get("median")]
        shares: dict[str, list[float]] = {}
        for r in measured:
            if r.get("asked") == name and r.get("mbu"):
                shares.setdefault(str(r["op"]), []).append(r["mbu"])
        means = [page_matrix.geometric(each) for each in shares.values()]
        against = [
            page_matrix.geometric(found)
            for op in page_matrix.ops_of(mine)
            if name != "torch" and (found := page_ratios.ratios(records, op, name, "torch"))
        ]
        checked = [r for r in conformance if r.get("asked") == name]
        right = sum(r.get("status") == "ok" for r in checked)
        rows.append(
            [
                Cell(shelf.machine.title),
                number(copy, ",.0f", 1e-9),
                Cell(name),
                Cell(str(len(timed)), len(timed)),
                Cell(str(len(mine) - len(timed)), len(mine) - len(timed)),
                percent(page_matrix.geometric(means) if means else None),
                number(page_matrix.geometric(against) if against else None, ".2f", unit=" ×"),
                Cell(f"{right} of {len(checked)}", right) if checked else Cell("–"),
            ]
        )
    return rows or [[Cell(shelf.machine.title), number(copy, ",.0f", 1e-9), *[Cell("–")] * 6]]
