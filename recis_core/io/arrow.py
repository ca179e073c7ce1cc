"""Arrow IPC files (Feather version 2) by record batch, memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from recis_core.io.extents import Extents, Opened, Plan, extents_of
from recis_core.io.ipc import bodies


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
        self._bodies = bodies(self._opened.data)
        self.pieces = tuple(body.rows for body in self._bodies)
        self._chosen: tuple[tuple[str, ...], pa.ipc.RecordBatchFileReader] = ((), self._file)

    def read(self, piece: int, columns: Sequence[str]) -> pa.Table:
        # Arrow copies the columns it was told to choose, so it is told only if they are compressed.
        whole = self._bodies[piece].raw
        file = self._file if whole else self._select(tuple(columns))
        batch = file.get_batch(piece)
        if len(columns) < len(self.schema):
            batch = batch.select(list(columns))
        batch.validate(full=True)
        return pa.Table.from_batches([batch])

    def extents(self, piece: int, plan: Plan) -> Extents | None:
        return extents_of(self._opened, plan, self._bodies[piece])

    def _select(self, columns: tuple[str, ...]) -> pa.ipc.RecordBatchFileReader:
        """A reader of the file that leaves out, and need not decompress, other columns."""
        if self._chosen[0] != columns:
            chosen = sorted(self.schema.get_field_index(c) for c in columns)
            options = pa.ipc.IpcReadOptions(included_fields=chosen)
            self._chosen = (columns, pa.ipc.open_file(self._map, options=options))
        return self._chosen[1]
