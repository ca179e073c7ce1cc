"""rows_scatter: one slot of many rows, a vector of up to 16 bytes a thread."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import CODE, Queue, Source, blocks_for, code, lanes_of, width_of
from recis_core.blocks import Blocks

SOURCE = Source(
    "rows_scatter",
    DEVICE
    + r"""
template <typename V>
INLINE void scatter(Rows blocks, i64 offset, Index rows, i64 n, i64 lanes, i64 shift,
                    const V* values) {
    for (i64 t = THIS_THREAD; t < n * lanes; t += ALL_THREADS) {
        i64 i = quotient(t, lanes, shift), row = rows[i];
        if (row >= 0)
            reinterpret_cast<V*>(blocks[row] + offset)[t - i * lanes] = __ldcs(values + t);
    }
}

#define SCATTER(NAME, V)                                                                          \
    KERNEL NAME(const u64* pointers, i64 stride, i64 log2_rows, i64 offset, const void* rows,     \
                i64 rows_code, i64 n, i64 lanes, i64 shift, const V* values) {                    \
        scatter<V>({pointers, stride, log2_rows}, offset, {rows, rows_code}, n, lanes, shift,     \
                   values);                                                                       \
    }
SCATTER(scatter_16, uint4)
SCATTER(scatter_8, uint2)
SCATTER(scatter_4, unsigned)
SCATTER(scatter_2, unsigned short)

// Values of another dtype than the slot's.
KERNEL convert(const u64* pointers, i64 stride, i64 log2_rows, i64 offset, i64 slot_code,
               const void* rows, i64 rows_code, i64 n, i64 dim, i64 shift, const void* values,
               i64 values_code) {
    Rows blocks{pointers, stride, log2_rows};
    Index index(rows, rows_code);
    Floats from(values, values_code);
    for (i64 t = THIS_THREAD; t < n * dim; t += ALL_THREADS) {
        i64 i = quotient(t, dim, shift), row = index[i];
        if (row >= 0)
            Floats(blocks[row] + offset, slot_code).store<1>(t - i * dim, from.load<1>(t));
    }
}
""",
)


def rows_scatter(blocks: Blocks, slot: str, rows: Tensor, values: Tensor) -> None:
    n, placed = len(rows), blocks.slots[slot]
    if n == 0 or placed.nbytes == 0:
        return
    width = width_of(placed.nbytes, values)
    lanes = placed.nbytes // width
    where = (blocks.pointers, blocks.stride, blocks.log2_rows, placed.offset)
    with Queue(rows.device) as queue:
        if values.dtype == placed.dtype:
            queue.launch(
                SOURCE, f"scatter_{width}", blocks_for(n * lanes),
                *where, rows, code(rows), n, lanes, lanes_of(lanes), values,
            )  # fmt: skip
            return
        dim = placed.dim
        queue.launch(
            SOURCE, "convert", blocks_for(n * dim), *where, CODE[placed.dtype],
            rows, code(rows), n, dim, lanes_of(dim), values, code(values),
        )  # fmt: skip
