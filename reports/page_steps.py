"""Training steps on the page: from the bound to the measured step, and contenders side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reports import chart_bars
from reports.chart_bars import Bar
from reports.page_blocks import (
    Block,
    Cell,
    Column,
    Figure,
    Prose,
    Section,
    Table,
    dash,
    heat,
    number,
    percent,
    seconds,
    status,
)
from reports.page_records import Content, Shelf, slug


def section(shelf: Shelf) -> Section | None:
    """The steps of a machine; None without a record of one."""
    blocks: list[Block] = []
    for content in shelf.latest("step"):
        blocks += step(shelf, content)
    key = f"{shelf.machine.key}-steps"
    return Section(key, "Where the time of a training step goes", blocks, 3) if blocks else None


def step(shelf: Shelf, content: Content) -> list[Block]:
    """One traced step: what to fix first, its waterfall, its stages, its ops."""
    trace: Mapping[str, Any] = content.get("trace") or content
    if not trace.get("seconds"):
        return []
    title, command = named(content), str(content.get("command") or "")
    key = f"{shelf.machine.key}-{slug(title)}"
    blocks: list[Block] = [Prose(summary(title, trace))]
    bars = bars_of(trace, content.get("roofs") or {})
    if bars:
        caption = f"{title}: from the bound to the measured step"
        figure = chart_bars.waterfall(bars, caption)
        rows = [[Cell(b.name), number(b.seconds, b.form, 1e3)] for b in bars]
        table = Table(f"{key}-bars", caption, (Column("part"), Column("ms", True)), rows)
        blocks.append(Figure(f"{key}-waterfall", caption, figure, command, table))
    if stages := trace.get("stages"):
        blocks.append(shares(f"{key}-stages", f"{title}: stages", "stage", stages, command))
    if ops := trace.get("ops"):
        blocks.append(shares(f"{key}-ops", f"{title}: ops", "op", ops, command, folded=True))
    return blocks


def named(content: Mapping[str, Any]) -> str:
    """A step's or a comparison's title."""
    words = [content.get(k) for k in ("workload", "size")]
    if any(words):
        backend = content.get("backend")
        said = " ".join(str(w) for w in words if w)
        return f"{said} on {backend}" if backend else said
    if run := content.get("run"):
        return f"run {Path(str(run)).name}"
    return Path(str(content.get("source", "step"))).stem.replace("_", " ")


def summary(title: str, trace: Mapping[str, Any]) -> str:
    """A step in a sentence, and what to fix first."""
    dense, sparse = trace.get("dense") or {}, trace.get("sparse") or {}
    facts = [
        f"{trace['seconds'] * 1e3:.2f} ms a step over {trace.get('steps', '?')} steps",
        f"{trace['rows_per_s']:,.0f} rows/s" if trace.get("rows_per_s") else "",
        f"step MBU {trace['mbu']:.2%}" if trace.get("mbu") is not None else "",
        f"sparse part {sparse['seconds'] * 1e3:.2f} ms" if sparse.get("seconds") else "",
        f"its MBU {sparse['mbu']:.2%}" if sparse.get("mbu") is not None else "",
        f"dense part {dense['seconds'] * 1e3:.2f} ms" if dense.get("seconds") else "",
        f"MFU {dense['mfu']:.1%}" if dense.get("mfu") is not None else "",
        f"{trace['exposed'] * 1e3:.2f} ms waiting for data" if trace.get("exposed") else "",
        f"{trace['idle'] * 1e3:.2f} ms idle" if trace.get("idle") else "",
    ]
    said = f"{title}: {', '.join(filter(None, facts))}."
    return f"{said} Fix first: {trace['first']}" if trace.get("first") else said


def bars_of(trace: Mapping[str, Any], roofs: Mapping[str, Any]) -> list[Bar]:
    """The waterfall a record brings, else one computed from its ops and the copy roof."""
    total = float(trace["seconds"])
    if given := trace.get("waterfall"):
        parts = [(str(p["name"]), float(p["seconds"])) for p in given]
        # A record may close with the sum itself.
        if len(parts) > 1 and abs(parts[-1][1] - total) <= 1e-6 * total:
            parts = parts[:-1]
        kinds = ["bound", *("least" if "at its roof" in name else "op" for name, _ in parts[1:])]
        bars = [_bar(name, s, kind) for (name, s), kind in zip(parts, kinds, strict=True)]
        return [*bars, _bar("measured", total, "total")]
    copy, ops = roofs.get("copy"), trace.get("ops")
    if not (copy and ops and trace.get("bytes")):
        return []
    least = trace["bytes"] / copy
    between = sum(op["bytes"] for op in ops) / copy - least
    bars = [
        _bar("bound: bytes ÷ copy", least, "bound"),
        _bar("bytes between ops", between, "traffic"),
    ]
    late = [(str(op["op"]), op["seconds"] - op["bytes"] / copy) for op in ops]
    late.sort(key=lambda each: -each[1])
    bars += [_bar(name, excess, "op") for name, excess in late[:9]]
    if rest := late[9:]:
        bars.append(_bar(f"{len(rest)} other ops", sum(s for _, s in rest), "op"))
    bars.append(_bar("dense, reading, other", trace.get("other") or 0.0, "other"))
    return [*bars, _bar("measured", total, "total")]


def _bar(name: str, duration: float, kind: str) -> Bar:
    bar = Bar(name, duration, kind, "")
    return replace(bar, said=f"{name}: {format(duration * 1e3, bar.form)} ms")


@dataclass(frozen=True)
class Part:
    """A column about the parts of a step: its key in a record and how it is shown."""

    key: str
    name: str
    cell: Callable[[Any], Cell]
    help: str = ""


PARTS = (
    Part("backend", "backend", lambda v: Cell(str(v))),
    Part("calls", "calls", lambda v: number(v, ".0f")),
    Part("seconds", "time", seconds),
    Part("share", "share", percent, "Of the step's time."),
    Part("between", "between", seconds, "Of it, what the engine does before and after the ops."),
    Part("bytes", "MB", lambda v: number(v, ",.2f", 1e-6), "Minimum bytes."),
    Part("gbs", "GB/s", lambda v: number(v, ".3g")),
    Part("mbu", "MBU", heat, "Minimum bytes ÷ time ÷ copy roof."),
    Part("flops", "Gflop", lambda v: number(v, ",.2f", 1e-9)),
    Part("mfu", "MFU", percent, "Flops ÷ time ÷ the matrix roof."),
)


def shares(
    key: str,
    caption: str,
    what: str,
    parts: Sequence[Mapping[str, Any]],
    command: str,
    folded: bool = False,
) -> Table:
    """Stages or ops of a step with time, bytes, MBU and, where known, flops and MFU."""
    known = [c for c in PARTS if any(p.get(c.key) for p in parts)]
    rows = [
        [
            Cell(str(p.get(what) or p.get("name") or "–")),
            *(c.cell(p.get(c.key)) if p.get(c.key) else dash() for c in known),
        ]
        for p in parts
    ]
    columns = [Column(what), *(Column(c.name, c.key != "backend", c.help) for c in known)]
    return Table(key, caption, columns, rows, command, folded)


def comparisons(shelf: Shelf) -> Section | None:
    """Contenders that took turns; None without a record of them."""
    blocks: list[Block] = []
    for content in shelf.latest("compare"):
        blocks += comparison(shelf, content)
    key = f"{shelf.machine.key}-comparisons"
    return Section(key, "Contenders in turns", blocks, 3) if blocks else None


def comparison(shelf: Shelf, content: Content) -> list[Block]:
    """Every round's time a step, medians and ratios, and whether the losses agreed."""
    contenders = content.get("contenders") or ()
    title = named(content)
    key = f"{shelf.machine.key}-{slug(title)}"
    command = str(content.get("command") or "")
    times = {str(c["name"]): c["seconds"] for c in contenders if c.get("seconds")}
    blocks: list[Block] = [Prose(_agreement(title, content))]
    table = _contenders(key, title, contenders, content.get("ratios") or (), command)
    if times:
        caption = f"{title}: time a step, every round"
        svg = chart_bars.rounds(times, caption)
        blocks.append(Figure(f"{key}-rounds", caption, svg, command))
    blocks.append(table)
    if staged := stages_table(key, title, contenders, command):
        blocks.append(staged)
    return blocks


def _agreement(title: str, content: Mapping[str, Any]) -> str:
    agreed = content.get("agreed")
    facts = [f"{content[k]} {said}" for k, said in (("batch", "rows a step"), ("rounds", "rounds"),
             ("turn", "steps a turn"), ("warm", "warm-up steps")) if content.get(k)]  # fmt: skip
    facts.append(f"seed {content['seed']}" if content.get("seed") is not None else "")
    losses = {True: "The losses agreed.", False: "The losses did NOT all agree.",
              None: "The record does not say whether losses were compared."}[agreed]  # fmt: skip
    said = ", ".join(filter(None, facts))
    return f"{title}{': ' + said if said else ''}. {losses}"


def _contenders(
    key: str,
    title: str,
    contenders: Sequence[Mapping[str, Any]],
    ratios: Sequence[Mapping[str, Any]],
    command: str,
) -> Table:
    rows = []
    for c in contenders:
        times = c.get("seconds") or ()
        said = [_ratio(r) for r in ratios if r.get("name") == c["name"]]
        rows.append(
            [
                Cell(str(c["name"])), Cell(str(c.get("what") or "–")),
                seconds(statistics.median(times) if times else None),
                number(c.get("rows_per_s"), ",.0f"),
                Cell("; ".join(said) or "–"),
                status(c),
            ]
        )  # fmt: skip
    columns = (
        Column("contender"), Column("what"), Column("median step", True), Column("rows/s", True),
        Column("time of it over another's", False, "With its confidence interval, where recorded."),
        Column("status"),
    )  # fmt: skip
    return Table(f"{key}-contenders", f"{title}: contenders", columns, rows, command)


def _ratio(r: Mapping[str, Any]) -> str:
    said = f"{r['ratio']:.3f} × {r.get('over', '')}".strip()
    if r.get("low") is not None and r.get("high") is not None:
        said += f" ({r.get('level', 0.95):.0%}: {r['low']:.3f} to {r['high']:.3f})"
    return said


def stages_table(
    key: str, title: str, contenders: Sequence[Mapping[str, Any]], command: str
) -> Table | None:
    """Time of each stage by contender, where the record has it."""
    by: dict[str, dict[str, float]] = {}
    for c in contenders:
        stages = c.get("stages") or ()
        if isinstance(stages, Mapping):
            stages = [{"stage": k, "seconds": v} for k, v in stages.items()]
        for s in stages:
            if s.get("seconds") is not None:
                by.setdefault(str(s.get("stage") or s.get("name")), {})[str(c["name"])] = s[
                    "seconds"
                ]
    if not by:
        return None
    names = list(dict.fromkeys(name for times in by.values() for name in times))
    rows = [[Cell(stage), *(seconds(times.get(n)) for n in names)] for stage, times in by.items()]
    columns = [Column("stage"), *(Column(n, True) for n in names)]
    return Table(f"{key}-by-stage", f"{title}: time by stage", columns, rows, command)
