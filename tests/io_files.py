"""Column files to test with, and batches as plain Python lists to compare them by."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

from recis_core.data import Batch, Ragged

SUFFIXES = (".parquet", ".orc", ".arrow")


def write(table: pa.Table, path: Path, piece: int = 10, codec: str | None = None) -> Path:
    """Write `table` in the format of the suffix, `piece` rows to a row group, stripe or batch."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=piece, compression=codec or "snappy")
    elif path.suffix == ".orc":
        # A stripe of one byte is full after each batch.
        orc.write_table(
            table, path, stripe_size=1, batch_size=piece, compression=codec or "uncompressed"
        )
    else:
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with pa.ipc.new_file(path, table.schema, options=options) as out:
            out.write_table(table, max_chunksize=piece)
    return path


def lists(column: Any) -> list[Any]:
    """A batch's column as a list of rows; strings come as bytes."""
    if not isinstance(column, Ragged):
        return column.tolist()
    if not isinstance(column.values, Ragged) and column.values.dtype.itemsize == 1:
        octets = column.values.numpy().tobytes()
        return [octets[a:b] for a, b in pairs(column)]
    inner = lists(column.values)
    assert len(inner) == column.offsets[-1]
    return [inner[a:b] for a, b in pairs(column)]


def pairs(column: Ragged) -> Iterable[tuple[int, int]]:
    ends = column.offsets.tolist()
    assert ends[0] == 0
    return pairwise(ends)


def gathered(batches: Iterable[Batch], name: str) -> list[Any]:
    """A column of all batches, end to end."""
    return [row for batch in batches for row in lists(batch.columns[name])]


def sample(rows: int, seed: int = 0) -> pa.Table:
    """A number column 0, 1, ... and one column of each kind the reader makes."""
    rng = np.random.default_rng(seed)

    def some(make: Any, most: int = 4) -> list[Any]:
        return [[make() for _ in range(rng.integers(0, most))] for _ in range(rows)]

    def word() -> str:
        return "".join(rng.choice(list("aβc d"), rng.integers(0, 6)))

    def number() -> int:
        return int(rng.integers(-(1 << 63), (1 << 63) - 1))

    tags = some(number)
    nested = [[some_row[:k] for k in range(len(some_row))] for some_row in tags]
    return pa.table(
        {
            "number": pa.array(range(rows), pa.int64()),
            "tags": pa.array(tags, pa.list_(pa.int64())),
            "nested": pa.array(nested, pa.list_(pa.list_(pa.int64()))),
            "weights": pa.array(some(rng.standard_normal), pa.list_(pa.float32())),
            "price": pa.array(rng.standard_normal(rows), pa.float64()),
            "vector": pa.array(
                rng.standard_normal((rows, 3)).astype(np.float32).tolist(), pa.list_(pa.float32())
            ),
            "words": pa.array(some(word), pa.list_(pa.string())),
            "name": pa.array([word() for _ in range(rows)], pa.string()),
            "flag": pa.array(rng.random(rows) < 0.5, pa.bool_()),
        }
    )
