"""Predictions as a Parquet file, written batch by batch aside and renamed last."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor


class PredictionFile:
    """Columns row (int64, from 0), then those announced: groups int64, all others float32."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.writer = writer
        self.rows = 0

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Append the rows of a batch: every announced column, each [rows]."""
        given = {name: pa.array(column.cpu().numpy()) for name, column in columns.items()}
        rows = len(next(iter(given.values())))
        row = pa.array(range(self.rows, self.rows + rows), pa.int64())
        self.writer.write_table(pa.table({"row": row, **given}, schema=self.writer.schema))
        self.rows += rows


@contextmanager
def prediction_file(path: Path, names: Sequence[str]) -> Iterator[PredictionFile]:
    """A file to add predictions to; it gets its name only if all goes well, else nothing is left.

    OSError if it cannot be written, naming `path`.
    """
    kinds = [(name, pa.int64() if name == "group" else pa.float32()) for name in names]
    schema = pa.schema([("row", pa.int64()), *kinds])
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(aside, schema) as writer:
            yield PredictionFile(writer)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            what = f"cannot write predictions: {error.strerror or error}"
            raise OSError(error.errno, what, str(path)) from error
        raise
