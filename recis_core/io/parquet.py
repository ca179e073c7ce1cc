"""Parquet files by row group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetSource:
    """A Parquet file; its row groups are decoded by Arrow's thread pool, a column a task."""

    unit = "row group"
    weight = 4

    def __init__(self, path: Path) -> None:
        self.path = path
        # Read ahead into memory, a row group is there only after one thread has copied all of it.
        self._file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
        self.schema: pa.Schema = self._file.schema_arrow
        metadata = self._file.metadata
        self.pieces = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))

    def read(self, piece: int, columns: Sequence[str]) -> pa.Table:
        # Parquet selects by path, so the column "a" would bring a column "a.b" along.
        return self._file.read_row_group(piece, columns=list(columns)).select(list(columns))
