"""Arrow IPC files (Feather version 2) by record batch, memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.types as kinds


class ArrowSource:
    """An Arrow IPC file; uncompressed columns are views of the mapped file.

    The format has no checksums, so what is read is validated before it is used.
    """

    unit = "record batch"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = pa.memory_map(str(path))
        self._file = pa.ipc.open_file(self._map)
        self.schema: pa.Schema = self._file.schema
        self.pieces = self._batch_rows()
        self._chosen: tuple[tuple[str, ...], pa.ipc.RecordBatchFileReader] = ((), self._file)

    def read(self, piece: int, columns: Sequence[str]) -> pa.Table:
        batch = self._select(tuple(columns)).get_batch(piece).select(list(columns))
        batch.validate(full=True)
        return pa.Table.from_batches([batch])

    def _select(self, columns: tuple[str, ...]) -> pa.ipc.RecordBatchFileReader:
        """A reader of the file that leaves out, and need not decompress, other columns."""
        if self._chosen[0] != columns:
            chosen = sorted(self.schema.get_field_index(c) for c in columns)
            options = pa.ipc.IpcReadOptions(included_fields=chosen)
            self._chosen = (columns, pa.ipc.open_file(self._map, options=options))
        return self._chosen[1]

    def _batch_rows(self) -> tuple[int, ...]:
        """Rows of each record batch, read together with the column that costs least."""
        plain = [i for i, f in enumerate(self.schema) if kinds.is_primitive(f.type)]
        options = pa.ipc.IpcReadOptions(included_fields=(plain or [0])[:1])
        reader = pa.ipc.open_file(self._map, options=options)
        return tuple(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
