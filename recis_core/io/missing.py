"""Missing values: what a null becomes, by the policy of its column.

"error": any null is a fault. "empty": a null row is an empty list, a null inside a row a fault.
"default": a null row, and of a column of fixed width also an empty list, becomes `width` (else one)
defaults; a null inside a row becomes a default, a null inner list a list of one. The default of
strings is the empty string.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from recis_core.io.kind import is_list
from recis_core.schema import Column


class RowError(Exception):
    """Row `row` of an array (from 0) is not allowed, and why; becomes a ColumnError outside."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row, self.why = row, why


def has_null(array: pa.Array) -> bool:
    """Whether a null is anywhere in the slice that `array` is; counts bits, copies nothing."""
    while not array.null_count:
        kind = array.type
        if kinds.is_fixed_size_list(kind):
            size = kind.list_size
            array = array.values.slice(array.offset * size, len(array) * size)
        elif kinds.is_list(kind) or kinds.is_large_list(kind):
            starts = array.offsets
            first, last = starts[0].as_py(), starts[-1].as_py()
            array = array.values.slice(first, last - first)
        else:
            return False
    return True


def null_free(array: pa.Array, column: Column) -> pa.Array:
    """`array` with its nulls replaced by the column's policy; RowError where it allows none."""
    if column.missing == "default":
        return defaulted(array, column, column.width)
    if column.missing == "error":
        row = next(i for i, value in enumerate(array.to_pylist()) if holds_null(value))
        raise RowError(row, f"a null where none is allowed: {array[row].as_py()}")
    lengths, child = compact(array)
    if has_null(child):
        rows = enumerate(array.to_pylist())
        row = next(i for i, value in rows if value is not None and holds_null(value))
        raise RowError(row, f"a null inside a list: {array[row].as_py()}")
    return pa.LargeListArray.from_arrays(offsets(lengths), child)


def holds_null(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(holds_null, value))
    return value is None


def compact(array: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Lengths of lists (0 for null ones) and the values of those that are not null, end to end.

    Of plain values: lengths 0 or 1 and the values that are there.
    """
    if not is_list(array.type):
        return np.asarray(array.is_valid()).astype(np.int64), array.drop_null()
    lengths = pc.fill_null(pc.list_value_length(array), 0)  # pyright: ignore
    return np.asarray(lengths).astype(np.int64), array.flatten()


def defaulted(array: pa.Array, column: Column, width: int | None) -> pa.Array:
    """`array` with the column's default wherever something is missing."""
    if not is_list(array.type):
        return filled(array, column)
    lengths, child = compact(array)
    child = defaulted(child, column, None)
    missing = np.asarray(array.is_null())
    if width is not None:
        missing = missing | (lengths == 0)
    lengths = np.where(missing, width or 1, lengths)
    if missing.any():
        one = defaulted(pa.nulls(1, array.type.value_type), column, None)
        where = np.full(int(lengths.sum()), len(child))
        where[np.repeat(~missing, lengths)] = np.arange(len(child))
        child = pa.concat_arrays([child, one]).take(pa.array(where))
    return pa.LargeListArray.from_arrays(offsets(lengths), child)


def filled(leaf: pa.Array, column: Column) -> pa.Array:
    """Plain values in a type that holds the default exactly as columns_unpack would give it."""
    if column.kind == "strings":
        fixed = kinds.is_fixed_size_binary(leaf.type)
        leaf = leaf.cast(pa.binary()) if fixed else leaf
        text = kinds.is_string(leaf.type) or kinds.is_large_string(leaf.type)
        return leaf.fill_null("" if text else b"")
    if column.kind == "values":
        return leaf.cast(pa.float32(), safe=False).fill_null(
            pa.scalar(column.default, pa.float32())
        )
    leaf = leaf.view(pa.int64()) if leaf.type == pa.uint64() else leaf.cast(pa.int64())
    return leaf.fill_null(pa.scalar(int(column.default), pa.int64()))


def offsets(lengths: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
