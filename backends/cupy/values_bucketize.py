"""values_bucketize: upper bound among the boundaries of each element's column."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.columns import COLUMNS
from backends.cupy.device import DEVICE
from backends.cupy.queue import THREADS, Queue, Source, blocks_for, code, width_of

# Elements of a warp: four of a lane, two at once.
SPAN = 128

SOURCE = Source(
    "values_bucketize",
    DEVICE
    + COLUMNS
    + r"""
// NaN is below no boundary, so it ends past the last one.
INLINE bool passes(float x, float boundary) { return !(x < boundary); }

// How many of up to 32 boundaries, one a lane (infinity behind them), x passes.
INLINE int passed(float x, float own, float at7, float at15, float at23, int count) {
    bool upper = passes(x, at15);
    int p = upper ? 16 : 0;
    p += passes(x, upper ? at23 : at7) ? 8 : 0;
    p += passes(x, __shfl_sync(~0u, own, p + 3)) ? 4 : 0;
    p += passes(x, __shfl_sync(~0u, own, p + 1)) ? 2 : 0;
    p += passes(x, __shfl_sync(~0u, own, p)) ? 1 : 0;
    p += passes(x, __shfl_sync(~0u, own, p)) ? 1 : 0;
    return p < count ? p : count;
}

KERNEL bucketize(const void* values_data, i64 values_code, const void* splits_data, i64 splits_code,
                 i64 columns, const void* boundaries_data, i64 boundaries_code,
                 const void* bounds_data, i64 bounds_code, i64 n, i64 aligned, i64* out) {
    using Pair = Pack<i64, 2>;
    Floats values(values_data, values_code), boundaries(boundaries_data, boundaries_code);
    Index splits(splits_data, splits_code), bounds(bounds_data, bounds_code);
    i64 begin = THIS_THREAD / 32 * 128, end = begin + 128;
    int lane = threadIdx.x % 32;
    if (begin >= n) return;
    Pack<float, 2> x[2];
    bool whole = aligned && end <= n;
    if (whole)
        for (int k = 0; k < 2; ++k) x[k] = values.load<2>(begin + 64 * k + 2 * lane);
    // The values are on their way while the column is looked for.
    i64 column = column_of_warp(splits, columns, begin), start = bounds[column];
    i64 count = bounds[column + 1] - start;
    if (whole && end <= splits[column + 1] && count <= 32) {
        float own = lane < count ? boundaries[start + lane] : __int_as_float(0x7f800000);
        float at7 = __shfl_sync(~0u, own, 7), at15 = __shfl_sync(~0u, own, 15);
        float at23 = __shfl_sync(~0u, own, 23);
        for (int k = 0; k < 2; ++k) {
            Pair p{passed(x[k].at[0], own, at7, at15, at23, int(count)),
                   passed(x[k].at[1], own, at7, at15, at23, int(count))};
            reinterpret_cast<Pair*>(out + begin)[32 * k + lane] = p;
        }
        return;
    }
    for (i64 i = begin + lane; i < end && i < n; i += 32) {
        column = walk(splits, column, i);
        start = bounds[column];
        int low = 0, high = int(bounds[column + 1] - start);
        while (low < high) {
            int middle = (low + high) >> 1;
            if (passes(values[i], boundaries[start + middle])) low = middle + 1;
            else high = middle;
        }
        out[i] = low;
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
    pair = 2 * values.element_size()
    aligned = width_of(pair, values) == pair and width_of(16, out) == 16
    with Queue(values.device) as queue:
        queue.launch(
            SOURCE, "bucketize", blocks_for(n, SPAN * THREADS // 32),
            values, code(values), splits, code(splits), len(splits) - 1,
            boundaries, code(boundaries), boundary_splits, code(boundary_splits), n,
            int(aligned), out,
        )  # fmt: skip
