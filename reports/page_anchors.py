"""The cases in which public GPU kernels were measured: shares by requested bytes, no MBU."""

from __future__ import annotations

from collections.abc import Sequence

from reports.chart_roofline import Point, by_size
from reports.page_blocks import (
    Block,
    Cell,
    Column,
    Figure,
    Prose,
    Table,
    heat,
    number,
    percent,
    seconds,
    status,
)
from reports.page_machine import roofs_of
from reports.page_matrix import backends_of, heat_map
from reports.page_records import Content, Shelf

SAID = "Cases of the public anchors, share of the copy roof by requested bytes"
ABOUT = (
    "The cases below are those in which public GPU kernels were measured. Their share divides "
    "*requested* bytes (rows as often as they are asked for), so it is not an MBU, and can be "
    "compared only with shares of the same table."
)
COLUMNS = (
    Column("op"),
    Column("case"),
    Column("backend"),
    Column("time", True),
    Column("±", True, "Distance of the quartiles over the median."),
    Column("requested GB/s", True, "Requested bytes, index at the width moved."),
    Column("of copy roof", True, "Requested bytes ÷ time ÷ copy roof: no MBU."),
    Column("from a clean L2", True, "The same where the flush leaves nothing to write back."),
    Column("G pairs/s", True, "Of the id map: pairs of the call over its time."),
    Column("goal", True, "What was asked of the CUDA backend before it was written."),
    Column("goal met"),
    Column("status"),
)


def blocks(shelf: Shelf, records: list[Content]) -> list[Block]:
    """Heat map, rate over size, and every case with its goal."""
    key = shelf.machine.key
    command = f"python3 -m reports.gpu_run FOLDER {' '.join(backends_of(records))}"
    found: list[Block] = [Prose(ABOUT)]
    caption = f"{SAID}: geometric mean by op"
    if heated := heat_map(f"{key}-anchor-heat", caption, records, share, command):
        found.append(heated)
    timed = [r for r in records if r.get("median") and r.get("requested_gbs")]
    copy = roofs_of(shelf).get("copy")
    if timed and copy:
        points = [
            Point(r["requested_bytes"], r["requested_gbs"], str(r["asked"]), words(r))
            for r in timed
        ]
        caption = "Rate over size of the anchors' cases, requested bytes by both"
        label = f"{caption}, {shelf.machine.title}"
        svg = by_size(points, {"copy": copy / 1e9}, label, "requested bytes", "GB/s")
        found.append(Figure(f"{key}-anchor-sizes", caption, svg, command))
    rows = [row(r) for r in records]
    return [*found, Table(f"{key}-anchors", SAID, COLUMNS, rows, command, len(rows) > 40)]


def share(r: Content) -> float | None:
    return (r.get("roofs") or {}).get("share_of_copy")


def words(r: Content) -> str:
    """What a point says when it is pointed at."""
    return (
        f"{r['op']} on {r['asked']}; {r['case']}; {seconds(r['median']).text}; "
        f"{r['requested_gbs']:,.0f} GB/s of requested bytes, {share(r) or 0:.1%} of copy"
    )


def row(r: Content) -> Sequence[Cell]:
    # The goals are the CUDA backend's.
    roofs = r.get("roofs") or {}
    pairs, reached = roofs.get("pairs"), share(r)
    goal, unit, got = roofs.get("goal_percent"), " %", reached and reached * 100
    if pairs:
        goal, unit, got = roofs.get("goal_pairs", 0) / 1e9, " G/s", pairs / 1e9
    if r.get("asked") != "cuda":
        goal = None
    met = "–"
    if goal is not None and got is not None:
        met = "met" if got >= goal else "missed"
    return [
        Cell(str(r["op"])),
        Cell(str(r["case"])),
        Cell(str(r.get("run") or r["asked"])),
        seconds(r.get("median")),
        percent(r.get("spread"), 0),
        number(r.get("requested_gbs"), ",.0f"),
        heat(reached),
        heat(roofs.get("clean_share_of_copy")),
        number(pairs and pairs / 1e9, ".1f"),
        number(goal, ".0f", unit=unit),
        Cell(met),
        status(r),
    ]
