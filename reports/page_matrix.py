"""Op × backend: the order of both, heat maps of a share, conformance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from recis_core.kernels import every_op
from reports.page_blocks import Cell, Column, Table, heat
from reports.page_records import Content, Shelf

# Backends in the order people look for them.
ORDER = ("cuda", "triton", "cupy", "numba", "torch", "reference")


def backends_of(records: Sequence[Content]) -> list[str]:
    names = {str(r.get("asked", "")) for r in records}
    known = {name: k for k, name in enumerate(ORDER)}
    return sorted(names, key=lambda n: (known.get(n, len(ORDER)), n))


def ops_of(records: Sequence[Content]) -> list[str]:
    """In the order of a step, as `Kernels` lists them; unknown ones last."""
    known = {op.name: k for k, op in enumerate(every_op())}
    found = dict.fromkeys(str(r["op"]) for r in records)
    return sorted(found, key=lambda name: known.get(name, len(known)))


def bench_command(shelf: Shelf, records: Sequence[Content]) -> str:
    """What measures all of `records` again; each of them may know a narrower command."""
    names = ",".join(backends_of(records))
    threads = f" --threads {shelf.machine.threads}" if shelf.machine.threads else ""
    said = f"recis roofline --again --backend {names} --device {shelf.machine.kind}{threads}"
    narrow = ops_of(records) if len(ops_of(records)) <= 3 else []
    return said + "".join(f" --op {op}" for op in narrow)


def heat_map(
    key: str,
    caption: str,
    records: Sequence[Content],
    value: Callable[[Content], float | None],
    command: str,
) -> Table | None:
    """Op × backend: the geometric mean of `value` over cases; else its status."""
    names, found = backends_of(records), by_op_and_backend(records)
    if all(value(r) is None for r in records):
        return None
    rows = [
        [Cell(op), *(_heated(found.get((op, name), []), value) for name in names)]
        for op in ops_of(records)
    ]
    columns = [Column("op"), *(Column(name, True) for name in names)]
    texts = "".join(cell.text for row in rows for cell in row)
    feet = (("‡", "‡ composed of smaller ops"), ("†", "† not every case has a number"))
    foot = "; ".join(said for sign, said in feet if sign in texts)
    return Table(key, caption, columns, rows, command, foot=foot)


def by_op_and_backend(records: Sequence[Content]) -> dict[tuple[str, str], list[Content]]:
    found: dict[tuple[str, str], list[Content]] = {}
    for r in records:
        found.setdefault((str(r["op"]), str(r.get("asked", ""))), []).append(r)
    return found


def geometric(values: Sequence[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _heated(records: Sequence[Content], value: Callable[[Content], float | None]) -> Cell:
    if not records:
        return Cell("not measured")
    values = [v for r in records if (v := value(r))]
    if not values:
        return Cell(str(records[0].get("status")))
    note = f"{len(values)} of {len(records)} cases, {min(values):.1%} to {max(values):.1%}"
    cell = heat(geometric(values), note)
    composed = any("composed" in str(r.get("run")) for r in records)
    signs = "‡" * composed + "†" * (len(values) < len(records))
    return Cell(cell.text + signs, cell.sort, cell.heat, cell.note)


def conformance_table(shelf: Shelf, records: Sequence[Content]) -> Table:
    """Op × backend: how many checks agreed with the reference."""
    names = backends_of(records)
    by = {(str(r["op"]), str(r.get("asked"))): r for r in records}
    rows = []
    for op in ops_of(records):
        cells = [Cell(op)]
        for name in names:
            r = by.get((op, name))
            said = "not checked" if r is None else str(r["case"]).removeprefix("conformance, ")
            wrong = r is not None and r.get("status") != "ok"
            note = str((r or {}).get("reason") or "")
            cells.append(Cell(f"{r['status']}: {said}" if wrong and r else said, note=note))
        rows.append(cells)
    command = f"python3 -m reports.gpu_run FOLDER {' '.join(names)}"
    if shelf.machine.kind == "cpu":
        command = f"recis check {names[0]}"
    columns = [Column("op"), *(Column(n) for n in names)]
    caption = "Conformance: checks that agree with the NumPy reference"
    return Table(f"{shelf.machine.key}-conformance", caption, columns, rows, command, folded=True)
