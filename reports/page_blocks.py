"""What a page is made of, before it is HTML or Markdown: sections of prose, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A table's cell: `sort` orders it (its text does where None), `heat` in 0..1 colours it,
    `note` is said when it is pointed at."""

    text: str
    sort: float | None = None
    heat: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A table's column; `help` explains its heading."""

    name: str
    numeric: bool = False
    help: str = ""


@dataclass(frozen=True)
class Prose:
    """A paragraph; `words` between backticks are code."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows under columns, and a note below. `command` makes the records again; `folded`: shown on
    request."""

    key: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    command: str = ""
    folded: bool = False
    foot: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing (SVG) with the table of what it shows, for those who cannot see it."""

    key: str
    caption: str
    svg: str
    command: str = ""
    table: Table | None = None


Block = Prose | Table | Figure


@dataclass(frozen=True)
class Section:
    """A titled part of the page; `part_of` names the section it stands under, if any."""

    key: str
    title: str
    blocks: Sequence[Block]
    level: int = 2


def dash() -> Cell:
    """Where there is no number."""
    return Cell("–")


def status(record: Mapping[str, Any]) -> Cell:
    """How a measurement went, and why if it has no number."""
    words = (str(record.get("status") or "–"), str(record.get("reason") or ""))
    return Cell(": ".join(filter(None, words)))


def number(value: Any, form: str, scale: float = 1.0, unit: str = "", note: str = "") -> Cell:
    """`value · scale` in the format `form`, a dash for None; sorted by its value."""
    if value is None or value != value:
        return dash()
    return Cell(f"{value * scale:{form}}{unit}", sort=float(value), note=note)


def figure(value: Any, note: str = "") -> Cell:
    """Three digits, thousands apart."""
    return number(value, ",.0f" if value is not None and abs(value) >= 1000 else ".3g", note=note)


def percent(value: Any, digits: int = 1, note: str = "") -> Cell:
    """A share as percent."""
    return number(value, f".{digits}f", 100.0, " %", note)


def heat(value: Any, note: str = "") -> Cell:
    """A share as percent, coloured by it."""
    if value is None:
        return dash()
    digits = 0 if value >= 0.0995 else 1
    return Cell(f"{value * 100:.{digits}f} %", float(value), min(max(value, 0.0), 1.0), note)


def seconds(value: Any, note: str = "") -> Cell:
    """A time in the unit that suits it."""
    if value is None:
        return dash()
    scale, unit = next((s, u) for limit, s, u in TIMES if value < limit)
    return Cell(f"{value * scale:.3g} {unit}", sort=float(value), note=note)


TIMES = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))
