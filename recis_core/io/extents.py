"""Columns that lie in an Arrow file as they are to be staged: where their rows' bytes are.

What is known of all columns of a piece is kept in arrays over the columns asked for, so that a
batch of hundreds of columns costs a handful of NumPy calls and not some calls a column.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from recis_core.ops.columns_unpack import SOURCES
from recis_core.schema import Column

NOWHERE = 0  # a file begins with other bytes than a column's


class Opened:
    """A file open for reading by position; closed when nobody holds it. `data`: all its bytes,
    mapped."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path, self.data = path, data
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)

    @cached_property
    def octets(self) -> np.ndarray:
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def words(self) -> dict[int, np.ndarray]:
        """The bytes as numbers of 1, 2, 4 and 8 bytes."""
        whole = len(self.data)
        return {n: np.frombuffer(self.data, f"<i{n}", whole // n) for n in (1, 2, 4, 8)}


@dataclass(frozen=True)
class Chosen:
    """Some of the columns asked for: their `numbers`, what `Placed` says of them in every batch,
    and which of them are lists; and the `others`."""

    numbers: np.ndarray
    names: list[str]
    targets: list[str]
    widths: list[int | None]
    is_ids: np.ndarray
    lists: np.ndarray
    others: list[Column]

    @staticmethod
    def of(columns: Sequence[Column], able: np.ndarray) -> Chosen:
        numbers = np.flatnonzero(able)
        own = [columns[at] for at in numbers.tolist()]
        return Chosen(
            numbers,
            [column.name for column in own],
            [column.kind for column in own],
            [column.width for column in own],
            np.array([column.kind == "ids" for column in own], bool),
            np.flatnonzero([column.width is None for column in own]),
            [columns[at] for at in np.flatnonzero(~able).tolist()],
        )


@dataclass(frozen=True)
class Plan:
    """Of files of one schema, arrays over the columns asked for; what is not `able` holds zeros.

    nulls [n, 2], values, bounds: numbers of buffers, as Arrow gives those of all columns; item,
    step: bytes of a value and of a bound, `step` 0 where a row has a fixed `width`; source,
    bound_source: positions in SOURCES.
    """

    able: np.ndarray
    nulls: np.ndarray
    values: np.ndarray
    bounds: np.ndarray
    item: np.ndarray
    step: np.ndarray
    width: np.ndarray
    source: np.ndarray
    bound_source: np.ndarray
    buffers: int  # of all columns
    columns: tuple[Column, ...]
    known: dict[bytes, Chosen] = field(default_factory=dict)

    def choose(self, able: np.ndarray) -> Chosen:
        """The columns of this mask, looked at once."""
        key = able.tobytes()
        if key not in self.known:
            self.known[key] = Chosen.of(self.columns, able)
        return self.known[key]


@dataclass(frozen=True)
class Extents:
    """Where a record batch has the columns of `plan` that are `able`, those without nulls: for
    each the byte of the file at which its values begin, and its bounds."""

    file: Opened
    plan: Plan
    able: np.ndarray
    values: np.ndarray
    bounds: np.ndarray

    def cut(self, chosen: np.ndarray, start: int, stop: int) -> Cut:
        """Rows `start` to `stop` of the columns `chosen`, numbers of able ones."""
        plan = self.plan
        width, item, step = plan.width[chosen], plan.item[chosen], plan.step[chosen]
        first, last = start * width, stop * width
        lists = np.flatnonzero(step)
        at = self.bounds[chosen[lists]]
        for size in np.unique(step[lists]).tolist():
            own = step[lists] == size
            words = self.file.words[size]
            place = at[own] // size
            first[lists[own]], last[lists[own]] = words[place + start], words[place + stop]
        return Cut(
            self.file,
            stop - start,
            self.values[chosen] + first * item,
            last - first,
            plan.source[chosen],
            at + start * step[lists],
            plan.bound_source[chosen[lists]],
        )

    def pick(self, chosen: np.ndarray, rows: np.ndarray) -> Cut:
        """The rows of these numbers, in this order, of the columns `chosen`."""
        from recis_core.io.loops import lengths  # slow to import, and only some shuffle

        plan, step = self.plan, self.plan.step[chosen]
        count = np.full(len(chosen), len(rows))
        for size in np.unique(step[step > 0]).tolist():
            own = np.flatnonzero(step == size)
            found = np.zeros(len(own), np.int64)
            lengths(self.file.words[size], self.bounds[chosen[own]] // size, rows, found)
            count[own] = found
        lists = chosen[step > 0]
        source, bound_source = plan.source[chosen], plan.bound_source[lists]
        values, bounds = self.values[chosen], self.bounds[lists]
        return Cut(self.file, len(rows), values, count, source, bounds, bound_source, rows)


class Cut(NamedTuple):
    """Rows of chosen columns: byte of `file` at which each one's values begin, how many and of what
    type; the same of the bounds of those that are lists. With `order`, the rows of these numbers
    of columns that begin there."""

    file: Opened
    rows: int
    values: np.ndarray
    count: np.ndarray
    source: np.ndarray
    bounds: np.ndarray
    bound_source: np.ndarray
    order: np.ndarray | None = None


def plan_of(schema: pa.Schema, columns: Sequence[Column]) -> Plan:
    """Which of `columns` record batches of this schema hold as they are to be staged, and how."""
    # A struct of all columns has a buffer of its own before theirs.
    counts = [1, *(len(pa.nulls(0, kind).buffers()) for kind in schema.types)]
    begins = np.cumsum(counts).tolist()
    rows = [place(schema, begins, column) for column in columns]
    table = np.array([row or (0,) * 9 for row in rows], np.int64).reshape(-1, 9).T
    able = np.array([row is not None for row in rows], bool)
    values, bounds, item, step, width, source, bound_source = table[2:]
    return Plan(
        able,
        table[:2].T,
        values,
        bounds,
        item,
        step,
        width,
        source,
        bound_source,
        begins[-1],
        tuple(columns),
    )


def place(schema: pa.Schema, begins: Sequence[int], column: Column) -> tuple[int, ...] | None:
    """A column's row of the plan: numbers where each value has its bytes in the file and, unless
    the width is fixed, each row its bounds. `begins`: each column's first buffer."""
    index = schema.get_field_index(column.name)
    kind, first = schema.field(index).type, begins[index]
    if column.kind == "strings" or column.depth != 1:
        return None
    if column.width is None and (kinds.is_list(kind) or kinds.is_large_list(kind)):
        step = 8 if kinds.is_large_list(kind) else 4
        leaf, child, width = kind.value_type, first + 2, 0
    elif column.width == 1:
        leaf, child, width, step = kind, first, 1, 0
    else:
        return None
    name = str(leaf) if kinds.is_integer(leaf) else FLOATS.get(leaf)
    if name is None:
        return None
    item = np.dtype(name).itemsize
    bound = SOURCES.index("int64" if step == 8 else "int32")
    return first, child, child + 1, first + 1, item, step, width, SOURCES.index(name), bound


FLOATS = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}


def extents_of(file: Opened, plan: Plan, table: pa.Table) -> Extents | None:
    """Where the columns of a record batch lie in `file`; None where they do not as they are."""
    batches = table.to_batches()
    found = positions(file, batches[0].to_struct_array()) if len(batches) == 1 else None
    if found is None or len(found) != plan.buffers:
        return None
    values, bounds = found[plan.values], found[plan.bounds]
    # Where there are no nulls, Arrow has no buffer that says which.
    able = plan.able & (found[plan.nulls] == NOWHERE).all(1)
    able &= (bounds % np.maximum(plan.step, 1)) == 0  # as numbers of a mapped file
    able &= (values % np.maximum(plan.item, 1)) == 0
    return Extents(file, plan, able, values, bounds) if able.any() else None


def positions(file: Opened, array: pa.Array) -> np.ndarray | None:
    """The byte of `file` at which every buffer of `array` begins, NOWHERE for those without bytes;
    None if one lies elsewhere in memory, decompressed or copied."""
    addresses = [buffer.address if buffer else 0 for buffer in array.buffers()]
    found = np.array(addresses, np.int64)
    at = found - file.octets.ctypes.data
    within = (at >= 0) & (at < len(file.data))
    if not (within | (found == 0)).all():
        return None
    return np.where(within, at, NOWHERE)
