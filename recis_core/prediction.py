"""Predictions as a Parquet file, written batch by batch aside and renamed last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor


class PredictionFile:
    """Columns row (int64, from 0), label and group where the data has them, score (float32)."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.writer = writer
        self.rows = 0

    def add(self, scores: Tensor, labels: Tensor | None, groups: Tensor | None) -> None:
        """Append the rows of a batch: each [rows]; None where `columns` did not announce it."""
        given = {"label": labels, "group": groups, "score": scores.float()}
        columns = {n: pa.array(c.cpu().numpy()) for n, c in given.items() if c is not None}
        row = pa.array(range(self.rows, self.rows + len(scores)), pa.int64())
        self.writer.write_table(pa.table({"row": row, **columns}, schema=self.writer.schema))
        self.rows += len(scores)


TYPES = {"row": pa.int64(), "label": pa.float32(), "group": pa.int64(), "score": pa.float32()}


@contextmanager
def prediction_file(path: Path, *, label: bool, group: bool) -> Iterator[PredictionFile]:
    """A file to add predictions to; it gets its name only if all goes well, else nothing is left.

    OSError if it cannot be written, naming `path`.
    """
    absent = {name for name, there in (("label", label), ("group", group)) if not there}
    schema = pa.schema([(n, t) for n, t in TYPES.items() if n not in absent])
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
