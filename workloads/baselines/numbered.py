"""A workload's first batches with ids replaced by row numbers, as a fixed table needs them.

Plain tables have no id map, so what a user of one does offline is done here, untimed: the ids of
each column are numbered in ascending order, and the files written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet


@dataclass(frozen=True)
class Numbered:
    """`folder`/train holds the batches; ids: of each column of ids, ascending, [rows in use]."""

    folder: Path
    ids: Mapping[str, np.ndarray]


def numbered(source: Path, target: Path, columns: list[str], batch: int, steps: int) -> Numbered:
    """Write the first `steps` batches of `source`/train to `target`/train, one file."""
    table = pa.Table.from_batches(list(first_batches(source / "train", batch, steps)))
    ids: dict[str, np.ndarray] = {}
    for name in columns:
        at = table.schema.get_field_index(name)
        column = table.column(at).combine_chunks()
        flat = column if pa.types.is_integer(column.type) else column.flatten()
        ids[name], numbers = np.unique(flat.to_numpy(zero_copy_only=False), return_inverse=True)
        new: pa.Array = pa.array(numbers.astype(np.int64))
        if flat is not column:
            offsets = column.offsets.to_numpy()
            starts = pa.array((offsets - offsets[0]).astype(np.int32))
            new = pa.ListArray.from_arrays(starts, new)
        table = table.set_column(at, name, new)
    (target / "train").mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, target / "train" / "part-000.parquet", row_group_size=1 << 16)
    return Numbered(target, ids)


def first_batches(folder: Path, size: int, count: int) -> Iterator[pa.RecordBatch]:
    """The first `count` batches of exactly `size` rows in the order of the files; ValueError if
    there are fewer."""
    found, held = 0, []
    rows = 0
    for path in sorted(folder.glob("*.parquet")):
        for piece in parquet.ParquetFile(path).iter_batches(size):
            held.append(piece)
            rows += piece.num_rows
            if rows < size:
                continue
            whole = pa.Table.from_batches(held).combine_chunks()
            for at in range(0, rows - size + 1, size):
                yield whole.slice(at, size).combine_chunks().to_batches()[0]
                found += 1
                if found == count:
                    return
            rest = rows % size
            held = whole.slice(rows - rest).combine_chunks().to_batches() if rest else []
            rows = rest
    raise ValueError(f"{folder} has {found} whole batches of {size} rows, not {count} in Parquet")
