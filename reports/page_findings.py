"""What the records say to who has a minute: which backend, what to fix, what has no number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.page_blocks import Cell, Column, Table, seconds
from reports.page_matrix import backends_of, by_op_and_backend, geometric, ops_of
from reports.page_ratios import ratios
from reports.page_records import Content, Shelf
from reports.page_steps import named
from reports.sheet import short

FEW = 3
COLUMNS = (Column("machine"), Column("question"), Column("what the records say"))


def findings(found: Sequence[Shelf]) -> Table | None:
    """A line for each question that a machine's records answer; None if they answer none."""
    rows = [
        [Cell(shelf.machine.title), Cell(question), Cell(answer)]
        for shelf in found
        for question, answer in answers(shelf)
    ]
    return Table("findings", "What to decide by", COLUMNS, rows) if rows else None


def answers(shelf: Shelf) -> Iterator[tuple[str, str]]:
    records = [*shelf.latest("op"), *shelf.latest("anchor")]
    if said := fastest(records):
        yield "which backend", said
    for content in shelf.latest("compare"):
        if said := beside(content):
            yield "beside others, same losses", said
    for content in shelf.latest("step"):
        first = (content.get("trace") or content).get("first")
        if first:
            yield "what to fix first in a step", f"{named(content)}: {first}"
    if said := farthest(shelf.latest("op")):
        yield "which ops are farthest from their bound", said
    if said := refused(records):
        yield "what has no number", said


def fastest(records: Sequence[Content]) -> str:
    """How many ops each backend is the fastest at, of those that several were timed on."""
    names = [n for n in backends_of(records) if n != "reference"]
    wins: dict[str, list[str]] = {}
    for op in ops_of(records):
        mean = {
            (a, b): geometric(each)
            for a in names
            for b in names
            if a != b and (each := ratios(records, op, a, b))
        }
        there = {name for pair in mean for name in pair}
        best = [n for n in there if all(mean.get((n, o), 0) >= 1 for o in there if o != n)]
        if len(best) == 1:
            wins.setdefault(best[0], []).append(op)
    total = sum(map(len, wins.values()))
    if not total:
        return ""
    order = sorted(wins, key=lambda n: -len(wins[n]))
    parts = [f"{order[0]} is fastest at {len(wins[order[0]])} of {total} ops"]
    for name in order[1:]:
        few = ", ".join(wins[name][:FEW]) + (" …" if len(wins[name]) > FEW else "")
        parts.append(f"{name} at {len(wins[name])} ({few})")
    return "; ".join(parts)


def beside(content: Content) -> str:
    """The ratios of a comparison, the first contender's name once."""
    said = [
        f"{r['ratio']:.2f} times as fast as {r['name']} ({r['low']:.2f} to {r['high']:.2f})"
        for r in content.get("ratios") or ()
    ]
    if not said:
        return ""
    over = content["ratios"][0]["over"]
    return f"{named(content)}: {over} is {', '.join(said)}"


def farthest(records: Sequence[Content]) -> str:
    """The ops whose fastest backend reaches the least of their bound, by their worst case."""
    worst: dict[str, tuple[float, Content]] = {}
    for (op, _), each in by_op_and_backend(records).items():
        timed = [r for r in each if r.get("attainment") and r.get("median")]
        if not timed:
            continue
        share = geometric([r["attainment"] for r in timed])
        if op not in worst or share > worst[op][0]:
            worst[op] = share, min(timed, key=lambda r: r["attainment"])
    last = sorted(worst.items(), key=lambda item: item[1][1]["attainment"])[:FEW]
    said = []
    for op, (_, r) in last:
        least = seconds(r["attainment"] * r["median"]).text
        took = seconds(r["median"]).text
        said.append(
            f"{op} on {r['asked']}: {took} where the bound is {least} ({short(str(r['case']))})"
        )
    return "; ".join(said)


def refused(records: Sequence[Content]) -> str:
    """Cases that are wrong or failed, by op and backend."""
    bad: dict[str, int] = {}
    for r in records:
        if r.get("status") in ("wrong", "error"):
            name = f"{r['op']} on {r.get('asked')}"
            bad[name] = bad.get(name, 0) + 1
    return ", ".join(f"{name}: {count} case{'s' * (count > 1)}" for name, count in bad.items())
