"""A column's Arrow array as raw numbers: views of its values and of its list boundaries, no copy.

Only what has nulls, bits (bool), a dictionary or view types is copied, on the host, before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from recis_core.io.kind import is_list, needs_cast, plain_array
from recis_core.io.missing import RowError, has_null, null_free
from recis_core.io.picked import Picked, picked
from recis_core.schema import Column


@dataclass(frozen=True)
class Raw:
    """A run of rows of one column as it lies in Arrow's memory.

    `bounds`, outer to inner, each [segments + 1] int32 or int64, need not begin at 0; a string is
    a segment of bytes. A column of fixed width has none. `values`: any dtype of columns_unpack, or
    what is yet to be gathered from such an array.
    """

    rows: int
    bounds: tuple[np.ndarray, ...]
    values: np.ndarray | Picked

    def pick(self, rows: np.ndarray) -> Raw:
        """The rows of these numbers, in this order."""
        assert isinstance(self.values, np.ndarray)
        width = len(self.values) // max(self.rows, 1)
        return Raw(len(rows), *picked(self.bounds, self.values, width, rows))

    def part(self, start: int, stop: int) -> Raw:
        """Rows `start` to `stop` as views."""
        assert isinstance(self.values, np.ndarray)
        rows = stop - start
        if not self.bounds:
            width = len(self.values) // max(self.rows, 1)
            return Raw(rows, (), self.values[start * width : stop * width])
        bounds = []
        for level in self.bounds:
            own = level[start : stop + 1]
            bounds.append(own)
            first = int(level[0])
            start, stop = int(own[0]) - first, int(own[-1]) - first
        return Raw(rows, tuple(bounds), self.values[start:stop])


def column_raw(array: pa.Array, column: Column) -> Raw:
    """The rows of `array` as views of it; RowError at the first one that `column` forbids."""
    whole = array = plain_array(array)
    if has_null(array):
        array = null_free(array, column)
    if fills_empty(column) and is_list(array.type):
        bounds, _ = descend(array)
        if (np.diff(bounds[0]) == 0).any():
            array = null_free(whole, column)
    return full_raw(array, column)


def full_raw(array: pa.Array, column: Column) -> Raw:
    """`column_raw` of what has no nulls, nor anything else to be replaced."""
    bounds, leaf = descend(array)
    if column.width is not None:
        check_width(bounds, len(array), column.width)
        if column.kind != "strings":
            return Raw(len(array), (), leaf_values(leaf))
    if not bounds:
        bounds = [np.arange(len(array) + 1, dtype=np.int32)]
    if column.kind != "strings":
        return Raw(len(array), tuple(bounds), leaf_values(leaf))
    starts, octets = string_bytes(leaf)
    return Raw(len(array), (*bounds, starts), octets)


def piece_raw(array: pa.Array, column: Column) -> Raw | None:
    """All of a decoded piece as views, or None where its rows must be looked at one run at a time.

    That is where something has to be copied, or where a row is not allowed: then the batches
    before that row are to be had yet.
    """
    copied = needs_cast(array.type) or (fills_empty(column) and is_list(array.type))
    if copied or has_null(array):
        return None
    try:
        return full_raw(array, column)
    except RowError:
        return None


def fills_empty(column: Column) -> bool:
    """Whether an empty list counts as missing: where no row may be empty but may be missing."""
    return column.width is not None and column.missing == "default"


def descend(array: pa.Array) -> tuple[list[np.ndarray], pa.Array]:
    """Offsets of each level of lists, outer to inner, and the leaf array they end in."""
    bounds = []
    while is_list(array.type):
        if kinds.is_fixed_size_list(array.type):
            size = array.type.list_size
            starts = np.arange(len(array) + 1, dtype=np.int64) * size
            array = array.values.slice(array.offset * size, len(array) * size)
        else:
            starts = array.offsets.to_numpy()
            # `values` is the child of the whole parent, whatever slice of it `array` is.
            array = array.values.slice(int(starts[0]), int(starts[-1] - starts[0]))
        bounds.append(starts)
    return bounds, array


def leaf_values(leaf: pa.Array) -> np.ndarray:
    return leaf.to_numpy(zero_copy_only=True)


def string_bytes(leaf: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets [strings + 1] and the bytes from the first to the last of them."""
    if kinds.is_fixed_size_binary(leaf.type):
        width = leaf.type.byte_width
        starts = np.arange(leaf.offset, leaf.offset + len(leaf) + 1, dtype=np.int64) * width
        content = leaf.buffers()[1]
    else:
        wide = kinds.is_large_string(leaf.type) or kinds.is_large_binary(leaf.type)
        dtype = np.dtype(np.int64 if wide else np.int32)
        _, index, content = leaf.buffers()
        if not len(leaf):
            return np.zeros(1, dtype), np.zeros(0, np.uint8)
        starts = np.frombuffer(index, dtype, len(leaf) + 1, leaf.offset * dtype.itemsize)
    octets = np.frombuffer(content if content is not None else b"", np.uint8)
    return starts, octets[starts[0] : starts[-1]]


def check_width(bounds: list[np.ndarray], rows: int, width: int) -> None:
    """Raise RowError at the first row that has not exactly `width` values."""
    if not bounds and width == 1:
        return
    lengths = np.diff(bounds[0]) if bounds else np.ones(rows, np.int64)
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise RowError(int(wrong[0]), f"{lengths[wrong[0]]} values where there must be {width}")
