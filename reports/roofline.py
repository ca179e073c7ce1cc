"""A roofline run of ops: what is finished is kept, what is missing is measured, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from recis_core.kernels import Kernels
from recis_core.roofs import GB, Roofs
from recis_core.spec import Case, Op
from reports.benchmark import Plan, measured
from reports.records import append, mend, read_any
from reports.sheet import short
from roofline.kinds import Counters, RoofsRecord
from roofline.measure import Setting
from roofline.record import Record
from roofline.stamp import source_digest

# What is not measured again: a number, or a verdict that the same code would get again.
FINISHED = ("ok", "wrong")
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """What a kept record must have been made with to count: device, threads, torch."""

    device: str
    threads: int
    torch: str

    @classmethod
    def of(cls, device: str) -> Place:
        if torch.device(device).type == "cuda":
            name = torch.cuda.get_device_name(torch.device(device))
        else:
            from roofline.processor import describe

            name = describe().name
        return cls(name, torch.get_num_threads(), torch.__version__)

    def has(self, record: Any) -> bool:
        made = (record.device["name"], record.threads, record.versions.get("torch"))
        return made == (self.device, self.threads, self.torch)

    @property
    def file(self) -> Path:
        """Where records of this device go when the user does not say."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-")
        return Path("runs") / f"roofline-{slug}.jsonl"


def key_of(kernels: Kernels, op: Op[..., Any], case: Case) -> Key:
    run = kernels.origins[op.name]
    return op.name, op.version, case.name, kernels.name, run, source_digest(run)


@dataclass(frozen=True)
class Kept:
    """What a file already holds of a place: finished records by what they are of, and the roofs."""

    records: dict[Key, Record]
    roofs: Roofs | None

    @classmethod
    def of(cls, path: Path, place: Place) -> Kept:
        if not path.exists():
            return cls({}, None)
        mend(path)
        records: dict[Key, Record] = {}
        roofs = None
        for r in read_any(path):
            if isinstance(r, RoofsRecord) and place.has(r):
                roofs = Roofs.from_dict(r.roofs)
            elif isinstance(r, Record) and place.has(r) and r.status in FINISHED:
                records[r.op, r.op_version, r.case, r.asked, r.run, r.source] = r
        return cls(records, roofs)


def completed(
    contenders: Sequence[Kernels], plan: Plan, setting: Setting, path: Path, kept: Kept
) -> Iterator[tuple[Record, bool]]:
    """Every record of the plan, and whether it was kept; new ones are in the file when given."""
    for op, case in plan:
        todo = []
        for kernels in contenders:
            found = kept.records.get(key_of(kernels, op, case))
            if found is None:
                todo.append(kernels)
            else:
                yield found, True
        for record in measured(todo, [(op, case)], setting) if todo else ():
            append(path, [record])
            yield record, False


def roofs_table(record: RoofsRecord) -> Table:
    """Measured roofs, and beside them what the data sheet says."""
    roofs, sheet = Roofs.from_dict(record.roofs), record.sheet or {}
    said = f"{sheet['name']}, {sheet['source']}" if sheet else "this device is not in the table"
    table = Table(
        "roof",
        title=f"{roofs.device}, {roofs.cores} cores, {roofs.threads} threads",
        caption=f"data sheet: {said}; random rows are of {size_of(roofs.working_set)}",
    )
    table.add_column("measured", justify="right")
    table.add_column("data sheet", justify="right")
    memory, link = sheet.get("memory"), sheet.get("link")
    for name in ("copy", "read", "write", "update"):
        table.add_row(f"{name}, GB/s", rate(getattr(roofs, name)), rate(memory))
    table.add_row("cache (L2), GB/s", rate(roofs.cache), "-")
    for width, value in roofs.random.items():
        table.add_row(f"random rows of {width} B read, GB/s", rate(value), "-")
    for size, rates in roofs.random_sets.items():
        for width, value in rates.items():
            table.add_row(f"  of {size_of(size)}, {width} B, GB/s", rate(value), "-")
    for width, value in roofs.scatter.items():
        table.add_row(f"random rows of {width} B written, GB/s", rate(value), "-")
    for name, value in roofs.atomics.items():
        table.add_row(f"atomic additions, {name}, 10^9/s", rate(value), "-")
    for name, value in (("float32", roofs.matmul), ("tf32", roofs.tf32), ("bf16", roofs.bf16)):
        beside = sheet.get("matmul" if name == "float32" else name)
        table.add_row(f"matrix product, {name}, Gflop/s", rate(value), rate(beside))
    table.add_row("host to device, pinned, GB/s", rate(roofs.to_device), rate(link))
    table.add_row("device to host, pinned, GB/s", rate(roofs.to_host), rate(link))
    return table


def size_of(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 1 << 30 else f"{nbytes / 2**20:g} MiB"


def rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / GB:,.0f}" if value >= 100 * GB else f"{value / GB:.2f}"


def roofline_table(records: Sequence[Record]) -> Table:
    """A line for each record: time, the three rules' rates, the bounds, MBU and attainment."""
    table = Table(
        caption="GB/s by three rules: minimum (each needed byte once), requested (every access), "
        "recis-style (RecIS's own count, - where it has no formula). bound: the least time, by "
        "what. MBU = minimum bytes / time / copy roof. reached: bound / time."
    )
    table.add_column("op", no_wrap=True)
    table.add_column("case", overflow="fold")
    table.add_column("backend", no_wrap=True)
    for name in ("µs", "±", "min", "req.", "recis", "flop/B", "bound µs", "by", "MBU", "reached"):
        table.add_column(name, justify="right", no_wrap=True)
    for at, r in enumerate(records):
        if at and r.op != records[at - 1].op:
            table.add_section()
        table.add_row(r.op, short(r.case), r.run if r.run == r.asked else f"{r.asked}: {r.run}",
                      *figures(r))  # fmt: skip
    return table


def figures(r: Record) -> tuple[str, ...]:
    if r.median is None or r.bounds is None:
        return (r.status, *[""] * 9)
    least = max(r.bounds.values())
    recis = "-" if r.recis_bytes is None else f"{r.recis_bytes / r.median / GB:.1f}"
    return (
        f"{r.median * 1e6:,.1f}",
        f"{r.spread or 0:.0%}",
        f"{r.minimum_gbs or 0:.1f}",
        f"{r.requested_gbs or 0:.1f}",
        recis,
        f"{r.intensity or 0:.2f}",
        f"{least * 1e6:,.1f}",
        r.bound_by or "",
        f"{r.mbu or 0:.1%}",
        f"{r.attainment or 0:.0%}",
    )


def counters_table(records: Sequence[Counters]) -> Table:
    """DRAM bytes counted by the GPU beside the declared minimum."""
    table = Table(caption="waste: DRAM bytes counted / minimum bytes. Below 1: part stayed in L2.")
    for name in ("op", "case", "backend"):
        table.add_column(name, overflow="fold")
    for name in ("kernels", "read MB", "written MB", "minimum MB", "waste"):
        table.add_column(name, justify="right", no_wrap=True)
    for r in records:
        if r.status != "ok" or r.minimum_bytes is None:
            table.add_row(r.op, short(r.case), r.run, r.status, "", "", "", "")
            continue
        sizes = (r.read_bytes or 0, r.written_bytes or 0, r.minimum_bytes)
        table.add_row(r.op, short(r.case), r.run, str(r.kernels),
                      *(f"{size / 1e6:.2f}" for size in sizes), f"{r.waste or 0:.2f}")  # fmt: skip
    return table
