"""Trainings whose steps differ in size, and the largest batches that fit, on the page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from reports.page_blocks import Block, Cell, Column, Prose, Section, Table, number, percent, seconds
from reports.page_records import Content, Shelf


def section(shelf: Shelf) -> Section | None:
    """The trainings of a machine; None without a record of one."""
    blocks: list[Block] = []
    if trainings := shelf.latest("training"):
        blocks += [Prose(reached(content)) for content in trainings]
        blocks.append(speeds(f"{shelf.machine.key}-trainings", trainings))
    for content in shelf.latest("largest"):
        blocks += [Prose(batches(content))]
    key = f"{shelf.machine.key}-long"
    return Section(key, "Training over long sequences", blocks, 3) if blocks else None


def reached(content: Mapping[str, Any]) -> str:
    """The losses at the end beside the least possible."""
    known = content["known"]
    said = ", ".join(
        f"{name} {value:.3f}" + (f" (least possible {known[name]:.3f})" if name in known else "")
        for name, value in content["reached"].items()
    )
    gap = "" if content.get("gap") is None else f"; together {content['gap']:+.1%} above the least"
    over = f"after {content['steps']} steps, mean of the last {content['window']}"
    auc = (content.get("metrics") or {}).get("auc")
    held = "" if auc is None else f"; held-out AUC {auc:.4f} (ceiling {content['ceiling']:.4f})"
    return f"{content['workload']} {content['size']}, {over}: {said}{gap}{held}."


def speeds(key: str, trainings: list[Content]) -> Table:
    """Time, events and FLOPs a second, memory."""
    rows = []
    for c in trainings:
        spent = c["seconds"][c["warm"] :]
        each = statistics.fmean(c["flops"][c["warm"] :])
        rows.append(
            [
                Cell(f"{c['workload']} {c['size']}"), Cell(str(c["backend"])),
                Cell(str(c["precision"]) + (", compiled" if c.get("compiled") else "")),
                number(c["batch"], ",.0f"), seconds(statistics.fmean(spent)),
                seconds(statistics.median(spent)), number(c["tokens_per_s"], ",.0f"),
                number(each, ",.1f", 1e-12), number(c["flops_per_s"], ",.1f", 1e-12),
                percent(c["mfu"].get("sheet")), percent(c["mfu"].get("product")),
                number(c.get("peak_bytes"), ",.1f", 1e-9),
            ]
        )  # fmt: skip
    columns = (
        Column("workload"), Column("backend"), Column("precision"), Column("users", True),
        Column("mean step", True), Column("median", True), Column("events/s", True),
        Column("TFLOP a step", True, "From the lengths, backward as two forwards."),
        Column("TFLOP/s", True), Column("of sheet", True, "Of the data sheet's rate."),
        Column("of product", True, "Of a matrix product's rate in the same process."),
        Column("peak GB", True, "Most that torch had allocated."),
    )  # fmt: skip
    command = str(trainings[0].get("command") or "")
    return Table(key, "Steps after the first ones, which compile and plan", columns, rows, command)


def batches(content: Mapping[str, Any]) -> str:
    """The largest batches in a sentence."""
    found: Mapping[str, int] = content["largest"]
    said = ", ".join(f"{name} {users:,} users" for name, users in found.items())
    ratio = ""
    if found.get("plain") and found.get("engine"):
        ratio = f", {found['engine'] / found['plain']:.1f} times as many"
    what = f"{content['workload']} {content['size']}, {content['precision']}"
    return f"Largest batch that trains two steps, {what}: {said}{ratio}. {content['command']}"
