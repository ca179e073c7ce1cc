"""Where an Arrow IPC file keeps what it holds: its record batches, and each one's buffers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from recis_core.io.flatbuffer import Table, number
from recis_core.io.kind import is_list

MAGIC = b"ARROW1"
CONTINUED = 0xFFFFFFFF
BLOCK = np.dtype([("at", "<i8"), ("head", "<i4"), ("", "<i4"), ("body", "<i8")])
NODE = np.dtype([("rows", "<i8"), ("nulls", "<i8")])
SPAN = np.dtype([("at", "<i8"), ("size", "<i8")])


@dataclass(frozen=True)
class Body:
    """A record batch: its rows, and its description, by which the file's bytes from `at` on are
    its buffers. `raw`: they lie there as this machine would hold them, not compressed.

    Arrays and buffers as the format numbers them: columns in order, a column before its children.
    """

    rows: int
    raw: bool
    batch: Table
    at: int

    def nulls(self) -> np.ndarray:
        """How many every array has."""
        return self.batch.records(1, NODE)["nulls"]

    def buffers(self) -> np.ndarray:
        """The byte of the file at which every buffer begins."""
        return self.batch.records(2, SPAN)["at"] + self.at


def bodies(data: Any) -> list[Body]:
    """Every record batch of a file, given as its bytes; ArrowInvalid if it cannot be followed."""
    try:
        end = len(data) - len(MAGIC) - 4
        footer = Table.root(data, end - number(data, "<i", end))
        schema = footer.table(1)
        little = schema is not None and not schema.scalar(0, "<h")
        return [body(data, block, little) for block in footer.records(3, BLOCK).tolist()]
    except (struct.error, ValueError) as error:
        raise pa.ArrowInvalid(f"its index of record batches is damaged: {error}") from error


def body(data: Any, block: tuple[int, ...], little: bool) -> Body:
    """The record batch that a block of the footer points to."""
    at, head, _, _ = block
    prefix = 8 if number(data, "<I", at) == CONTINUED else 4
    batch = Table.root(data, at + prefix).table(2)
    if batch is None:
        raise ValueError(f"no record batch at byte {at}")
    return Body(batch.scalar(0, "<q"), little and batch.table(3) is None, batch, at + head)


def parts(kind: pa.DataType) -> tuple[int, int] | None:
    """How many arrays and buffers a column of this type takes, or None where that varies."""
    plain = kinds.is_primitive(kind) or kinds.is_decimal(kind) or kinds.is_dictionary(kind)
    if plain or kinds.is_fixed_size_binary(kind):
        return 1, 2
    if kind in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        return 1, 3
    if not is_list(kind):
        return None
    child = parts(kind.value_type)
    own = 1 if kinds.is_fixed_size_list(kind) else 2
    return child and (1 + child[0], own + child[1])


def begins(schema: pa.Schema) -> list[tuple[int, int]]:
    """The first array and the first buffer of every column, and last their totals; empty where a
    column's type does not tell how many it takes."""
    found = [(0, 0)]
    for field in schema:
        own = parts(field.type)
        if own is None:
            return []
        found.append((found[-1][0] + own[0], found[-1][1] + own[1]))
    return found
