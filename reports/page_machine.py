"""One machine on the page: what it is, its measured roofs, and what its runs were made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.page_blocks import Block, Cell, Column, Prose, Section, Table, dash, number
from reports.page_records import Content, Shelf

GB = 1e9
# What a roof is called, and the power of ten and unit it is shown in.
ROOFS = {
    "copy": ("copy (read + written)", GB, "GB/s"),
    "read": ("read", GB, "GB/s"),
    "write": ("write", GB, "GB/s"),
    "update": ("update in place (read + written)", GB, "GB/s"),
    "cache": ("cache", GB, "GB/s"),
    "matmul": ("matrix product, float32", GB, "Gflop/s"),
    "tf32": ("matrix product, tf32", GB, "Gflop/s"),
    "bf16": ("matrix product, bfloat16", GB, "Gflop/s"),
    "to_device": ("host to device, pinned", GB, "GB/s"),
    "to_host": ("device to host, pinned", GB, "GB/s"),
}
# Which figure of a data sheet stands beside a roof, where it has another name.
BESIDE = {
    **dict.fromkeys(("copy", "read", "write", "update"), "memory"),
    **dict.fromkeys(("to_device", "to_host"), "link"),
}


def roofs_of(shelf: Shelf) -> dict[str, Any]:
    """The newest roofs of a machine with the most entries: its own record's, or another's."""
    own = [content.get("roofs", content) for content in shelf["roofs"]]
    kinds = ("step", "compare", "op", "anchor")
    carried = [content.get("roofs") or {} for kind in kinds for content in shelf[kind][-1:]]
    found = own[-1:] or [max(carried, key=len, default={})]
    return {k: v for k, v in found[0].items() if k not in ("share_of_copy", "goal_percent")}


def sheet_of(shelf: Shelf) -> Mapping[str, Any]:
    """The data sheet's figures beside the newest roofs that have them."""
    sheets = [content.get("sheet") for content in shelf["roofs"]]
    return next((sheet for sheet in reversed(sheets) if sheet), {})


def flat(roofs: Mapping[str, Any]) -> dict[str, float]:
    """Every rate of `roofs` by a name of one level: "random 256", "matmul bfloat16"."""
    found: dict[str, float] = {}
    for name, value in roofs.items():
        if isinstance(value, Mapping) and name != "caches":
            inner = flat(value)
            found |= {f"{name} {key}": rate for key, rate in inner.items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[str(name)] = float(value)
    return found


NOT_RATES = ("cores", "threads", "memory", "working_set", "quick")


def rates(roofs: Mapping[str, Any]) -> dict[str, float]:
    """The entries of `flat` that are rates."""
    return {k: v for k, v in flat(roofs).items() if k not in NOT_RATES}


def named(name: str) -> tuple[str, float, str]:
    """How a roof is written: its name, what it is divided by, its unit."""
    if name in ROOFS:
        return ROOFS[name]
    first, _, rest = name.partition(" ")
    if first == "random":
        return f"random rows of {rest} bytes, read", GB, "GB/s"
    if first == "random_sets":
        size, _, width = rest.partition(" ")
        return f"random rows of {width} bytes among {_size(float(size))}, read", GB, "GB/s"
    if first == "scatter":
        return f"random rows of {rest} bytes, written", GB, "GB/s"
    if first == "atomics":
        return f"atomic additions, {rest}", GB, "10^9/s"
    return name.replace("_", " "), GB, "GB/s"


def roofs_table(shelf: Shelf) -> Table | None:
    measured, sheet = rates(roofs_of(shelf)), flat(sheet_of(shelf))
    if not measured:
        return None
    rows = []
    # What has a data sheet's figure first: streams, products, links; then rows and atomics.
    order = [*(n for n in ROOFS if n in measured), *(n for n in measured if n not in ROOFS)]
    for name in order:
        rate = measured[name]
        title, scale, unit = named(name)
        if unit == "Gflop/s" and rate >= 1e13:
            scale, unit = 1e12, "Tflop/s"
        said = sheet.get(BESIDE.get(name, name))
        rows.append(
            [
                Cell(title),
                number(rate / scale, ",.1f" if rate < 1000 * scale else ",.0f"),
                Cell(unit),
                number(said and said / scale, ",.0f"),
                Cell(f"{rate / said:.0%}", rate / said) if said else dash(),
            ]
        )
    source = ", ".join(str(sheet_of(shelf).get(k, "")) for k in ("name", "source")).strip(", ")
    columns = (
        Column("roof"),
        Column("measured", True),
        Column("unit"),
        Column("data sheet", True, "What the maker states."),
        Column("reached", True, "Measured over data sheet."),
    )
    command = (
        _command(shelf["roofs"]) or f"recis roofline --device {shelf.machine.kind} --roofs --again"
    )
    foot = f"Data sheet: {source}." if source else "This device's data sheet is not known here."
    return Table(f"{shelf.machine.key}-roofs", "Roofs", columns, rows, command, foot=foot)


def _command(records: list[Content]) -> str:
    return next((c["command"] for c in reversed(records) if c.get("command")), "")


def section(shelf: Shelf) -> Section:
    """The machine's own section: a line about it, its roofs, its software."""
    roofs = roofs_of(shelf)
    blocks: list[Block] = [Prose(line) for line in about(shelf, roofs)]
    if table := roofs_table(shelf):
        blocks.append(table)
    if software := software_table(shelf):
        blocks.append(software)
    return Section(shelf.machine.key, shelf.machine.title, blocks)


def about(shelf: Shelf, roofs: Mapping[str, Any]) -> list[str]:
    """What the machine is, and what was recorded on it when."""
    said = []
    if roofs.get("memory"):
        said.append(f"{roofs['memory'] / 2**30:.0f} GiB of memory")
    if caches := roofs.get("caches"):
        said.append("caches " + ", ".join(f"{k} {_size(v)}" for k, v in caches.items()))
    if roofs.get("working_set"):
        said.append(f"random rows drawn from {_size(roofs['working_set'])}")
    count = sum(map(len, shelf.kinds.values()))
    dates = sorted(
        str(c["taken"])[:10] for kind in shelf.kinds.values() for c in kind if c.get("taken")
    )
    when = f", {dates[0]}" if dates else ""
    if dates and dates[0] != dates[-1]:
        when += f" to {dates[-1]}"
    return [
        *(["; ".join(said) + "."] if said else []),
        f"{count} records{when}, from " + ", ".join(f"`{s}`" for s in shelf.sources),
    ]


def _size(count: float) -> str:
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count} B"


def software_table(shelf: Shelf) -> Table | None:
    """Each combination of versions that records were taken with."""
    seen: dict[tuple[tuple[str, str], ...], int] = {}
    for records in shelf.kinds.values():
        for content in records:
            device = content.get("device")
            host = device.get("host", "") if isinstance(device, Mapping) else ""
            host = {"host": host} if host and host != shelf.machine.name else {}
            versions = {**(content.get("versions") or {}), **host}
            if versions:
                key = tuple(sorted((k, str(v)) for k, v in versions.items()))
                seen[key] = seen.get(key, 0) + 1
    if not seen:
        return None
    names = sorted({name for key in seen for name, _ in key})
    rows = [[*(Cell(dict(key).get(n, "–")) for n in names), Cell(str(count), count)]
            for key, count in seen.items()]  # fmt: skip
    columns = [*(Column(n) for n in names), Column("records", True)]
    return Table(f"{shelf.machine.key}-software", "Versions", columns, rows, folded=True)
