"""values_bucketize: upper bound among the boundaries of each element's column."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.columns import COLUMNS, TILE
from backends.cupy.device import DEVICE
from backends.cupy.queue import Queue, Source, blocks_for, code

SOURCE = Source(
    "values_bucketize",
    DEVICE
    + COLUMNS
    + r"""
KERNEL bucketize(const void* values_data, i64 values_code, const void* splits_data, i64 splits_code,
                 i64 count, const void* boundaries_data, i64 boundaries_code,
                 const void* bounds_data, i64 bounds_code, i64 n, i64* out) {
    Floats values(values_data, values_code), boundaries(boundaries_data, boundaries_code);
    Index splits(splits_data, splits_code), bounds(bounds_data, bounds_code);
    i64 begin = i64(blockIdx.x) * TILE, end = begin + TILE < n ? begin + TILE : n;
    Columns columns(splits, count, begin, end);
    for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float x = values[i];
        i64 column = columns.of(splits, i), start = bounds[column];
        // NaN is below no boundary, so it ends past the last one.
        int low = 0, high = int(bounds[column + 1] - start);
        while (low < high) {
            int middle = (low + high) >> 1;
            if (x < boundaries[start + middle]) high = middle;
            else low = middle + 1;
        }
        __stcs(out + i, i64(low));
    }
}
""",
)


def values_bucketize(
    values: Tensor, splits: Tensor, boundaries: Tensor, boundary_splits: Tensor, out: Tensor
) -> None:
    n = len(values)
    if n == 0:
        return
    with Queue(values.device) as queue:
        queue.launch(
            SOURCE, "bucketize", blocks_for(n, TILE),
            values, code(values), splits, code(splits), len(splits) - 1,
            boundaries, code(boundaries), boundary_splits, code(boundary_splits), n, out,
        )  # fmt: skip
