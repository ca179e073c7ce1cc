"""Arrow IPC files (Feather version 2) by record batch, memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.types as kinds

from recis_core.io.extents import Extents, Opened, Plan, extents_of, positions

STREAM = 8  # bytes of a file before the messages that its index points to


class ArrowSource:
    """An Arrow IPC file; uncompressed columns are views of the mapped file.

    The format has no checksums, so what is read is validated before it is used.
    """

    unit = "record batch"
    weight = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = pa.memory_map(str(path))
        self._file = pa.ipc.open_file(self._map)
        self.schema: pa.Schema = self._file.schema
        self._opened = Opened(path, self._map.read_buffer())
        found = messages(self._opened.data, self._file.num_record_batches)
        nothing = pa.schema([])  # of no column, a batch is its number of rows
        self.pieces = tuple(pa.ipc.read_record_batch(one, nothing).num_rows for one in found)
        self._first = next((m for m, rows in zip(found, self.pieces, strict=True) if rows), None)
        self._chosen: tuple[tuple[str, ...], pa.ipc.RecordBatchFileReader] = ((), self._file)

    def read(self, piece: int, columns: Sequence[str]) -> pa.Table:
        if len(columns) == len(self.schema):
            batch = self._file.get_batch(piece)
        else:
            # Arrow copies what it was told to choose, so it is told only where that saves more.
            file = self._file if self._is_raw else self._select(tuple(columns))
            batch = file.get_batch(piece).select(list(columns))
        batch.validate(full=True)
        return pa.Table.from_batches([batch])

    def extents(self, table: pa.Table, plan: Plan) -> Extents | None:
        """Where in the file the columns of `table` lie, which `read` gave."""
        return extents_of(self._opened, plan, table)

    @cached_property
    def _is_raw(self) -> bool:
        """Whether record batches are not compressed, by the first one's first column alone."""
        if self._first is None:
            return True
        field = self.schema.field(0)
        if kinds.is_dictionary(field.type):
            field = field.with_type(field.type.index_type)
        try:
            column = pa.ipc.read_record_batch(self._first, pa.schema([field])).column(0)
        except pa.ArrowKeyError:  # a dictionary inside lists, which the message has not
            return False
        return positions(self._opened, column) is not None

    def _select(self, columns: tuple[str, ...]) -> pa.ipc.RecordBatchFileReader:
        """A reader of the file that leaves out, and need not decompress, other columns."""
        if self._chosen[0] != columns:
            chosen = sorted(self.schema.get_field_index(c) for c in columns)
            options = pa.ipc.IpcReadOptions(included_fields=chosen)
            self._chosen = (columns, pa.ipc.open_file(self._map, options=options))
        return self._chosen[1]


def messages(data: pa.Buffer, count: int) -> list[pa.ipc.Message]:
    """The record batches of a file as they lie in it, not looked into."""
    reader = pa.ipc.MessageReader.open_stream(pa.BufferReader(data.slice(STREAM)))
    found = list(islice((m for m in reader if m.type == "record batch"), count))
    if len(found) < count:
        raise pa.ArrowInvalid(f"{len(found)} of the {count} record batches of its index")
    return found
