"""The ops of one machine on the page: rooflines, heat map, every measurement, conformance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports import page_anchors
from reports.chart_roofline import Point, by_intensity, by_size
from reports.page_blocks import (
    Block,
    Cell,
    Column,
    Figure,
    Section,
    Table,
    dash,
    figure,
    heat,
    percent,
    seconds,
    status,
)
from reports.page_counters import counters_table
from reports.page_machine import flat, roofs_of
from reports.page_matrix import bench_command, conformance_table, heat_map
from reports.page_records import Content, Shelf
from reports.sheet import short


def section(shelf: Shelf) -> Section | None:
    """Everything about single ops; None without a record of one."""
    blocks: list[Block] = []
    every = shelf.latest("op")
    # Scripts that try kernels have cases of their own, without bounds: no part of the op's figure.
    tried = [r for r in every if r.get("median") and r.get("mbu") is None]
    if records := [r for r in every if r not in tried]:
        blocks += _measured(shelf, records)
    if tried:
        caption = f"Cases without bounds, of scripts that try kernels: {len(tried)}"
        key, command = f"{shelf.machine.key}-tried", bench_command(shelf, tried)
        commands = {str(r.get("command") or "") for r in tried} - {""}
        said = commands.pop() if len(commands) == 1 else command
        blocks.append(replace(ops_table(key, tried, said), caption=caption, folded=True))
    if anchors := shelf.latest("anchor"):
        blocks += page_anchors.blocks(shelf, anchors)
    if conformance := shelf.latest("conformance"):
        blocks.append(conformance_table(shelf, conformance))
    if counters := shelf.latest("counters"):
        blocks.append(counters_table(shelf, counters))
    title = "Ops against the roofs"
    return Section(f"{shelf.machine.key}-ops", title, blocks, 3) if blocks else None


def _measured(shelf: Shelf, records: list[Content]) -> list[Block]:
    key, roofs = shelf.machine.key, roofs_of(shelf)
    command = bench_command(shelf, records)
    timed = [r for r in records if r.get("median")]
    blocks: list[Block] = []
    if heated := heat_map(
        f"{key}-mbu", "MBU by op and backend: minimum bytes ÷ time ÷ copy roof; geometric mean "
        "over the cases of an op", records, lambda r: r.get("mbu"), command,
    ):  # fmt: skip
        blocks.append(heated)
    sized = [r for r in timed if r.get("minimum_bytes") and r.get("minimum_gbs")]
    limits = {n: roofs[n] / 1e9 for n in ("copy", "cache") if roofs.get(n)}
    limits |= {
        f"random rows {w} B": rate / 1e9
        for w, rate in (roofs.get("random") or {}).items()
        if str(w) in ("64", "256")
    }
    if sized and limits:
        points = [Point(r["minimum_bytes"], r["minimum_gbs"], r["asked"], words(r)) for r in sized]
        caption = "Rate over size, minimum bytes by both: every op, with the measured roofs"
        svg = by_size(points, limits, f"{caption}, {shelf.machine.title}", "minimum bytes", "GB/s")
        blocks.append(Figure(f"{key}-sizes", caption, svg, command))
    blocks += _roofline(shelf, sized, command)
    blocks.append(ops_table(f"{key}-table", records, command))
    return blocks


def _roofline(shelf: Shelf, records: list[Content], command: str) -> list[Block]:
    """The classic roofline, of ops that compute: hashing and moving have no intensity."""
    roofs, rates = roofs_of(shelf), flat(roofs_of(shelf))
    computing = [r for r in records if r.get("flops")]
    memory = {n: rates[n] / 1e9 for n in ("copy", "cache") if n in rates}
    peaks = {PEAKS[n]: v / 1e9 for n, v in rates.items() if n in PEAKS}
    if not (computing and memory and peaks and roofs):
        return []
    points = [
        Point(r["flops"] / r["minimum_bytes"], r["flops"] / r["median"] / 1e9, r["asked"], words(r))
        for r in computing
    ]
    caption = "Roofline of the ops that do arithmetic: flops over minimum bytes"
    svg = by_intensity(points, memory, peaks, f"{caption}, {shelf.machine.title}")
    return [Figure(f"{shelf.machine.key}-roofline", caption, svg, command)]


PEAKS = {"matmul": "float32 product", "tf32": "tf32 product", "bf16": "bfloat16 product"}


def words(r: Content) -> str:
    """What a point says when it is pointed at."""
    said = [f"{r['op']} on {r.get('run') or r.get('asked')}", short(str(r["case"]))]
    said.append(seconds(r["median"]).text)
    if r.get("minimum_gbs") is not None:
        said.append(f"{r['minimum_gbs']:.3g} GB/s of minimum bytes")
    if r.get("mbu") is not None:
        said.append(f"MBU {r['mbu']:.1%}")
    if r.get("attainment") is not None:
        said.append(f"attainment {r['attainment']:.0%} of the {r.get('bound_by')} bound")
    return "; ".join(said)


OPS = (
    Column("op"),
    Column("case"),
    Column("backend"),
    Column("time", True, "Median of the samples, caches swept before each."),
    Column("±", True, "Distance of the quartiles over the median."),
    Column("GB/s", True, "Minimum bytes a second: each needed byte once."),
    Column("requested", True, "Requested bytes a second, GB/s: every access, repeats included."),
    Column("RecIS rule", True, "GB/s by the bytes RecIS's own profiler counts; no MBU."),
    Column("MBU", True, "Minimum bytes ÷ time ÷ copy roof."),
    Column("flop/B", True, "Flops over minimum bytes."),
    Column("attained", True, "The largest of the bounds ÷ time."),
    Column("bound", False, "Which bound is the largest."),
    Column("rows", True, "Requested bytes a second over the random-row roof of the row width."),
    Column("status", False, "ok, or why there is no number."),
)


def ops_table(key: str, records: Sequence[Content], command: str) -> Table:
    rows = [_op_row(r) for r in records]
    caption = f"Every measurement: {len(rows)} op × case × backend"
    return Table(key, caption, OPS, rows, command, folded=len(rows) > 40)


def _op_row(r: Content) -> list[Cell]:
    median, run = r.get("median"), str(r.get("run") or "")
    asked = str(r.get("asked", ""))
    flops, least = r.get("flops"), r.get("minimum_bytes")
    recis = r.get("recis_bytes")
    return [
        Cell(str(r["op"])),
        Cell(short(str(r["case"]))),
        Cell(run if run.startswith(asked) else f"{asked}: {run}"),
        seconds(median),
        percent(r.get("spread"), 0),
        figure(r.get("minimum_gbs")),
        figure(r.get("requested_gbs")),
        figure(recis / median / 1e9) if recis and median else dash(),
        heat(r.get("mbu")),
        figure(flops / least) if flops and least else dash(),
        percent(r.get("attainment"), 0),
        Cell(str(r.get("bound_by") or "–")),
        percent(r.get("random_share"), 0),
        status(r),
    ]
