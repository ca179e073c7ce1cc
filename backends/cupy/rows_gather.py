"""rows_gather: one slot of many rows, a vector of up to 16 bytes a thread."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import Queue, Source, blocks_for, code, lanes_of, width_of
from recis_core.blocks import Blocks

SOURCE = Source(
    "rows_gather",
    DEVICE
    + r"""
template <typename V>
INLINE void gather(Rows blocks, i64 offset, Index rows, i64 n, i64 lanes, i64 shift, V* out) {
    for (i64 t = THIS_THREAD; t < n * lanes; t += ALL_THREADS) {
        i64 i = quotient(t, lanes, shift), row = rows[i];
        V value{};
        if (row >= 0)
            value = __ldcs(reinterpret_cast<const V*>(blocks[row] + offset) + (t - i * lanes));
        __stcs(out + t, value);
    }
}

#define GATHER(NAME, V)                                                                           \
    KERNEL NAME(const u64* pointers, i64 stride, i64 log2_rows, i64 offset, const void* rows,     \
                i64 rows_code, i64 n, i64 lanes, i64 shift, V* out) {                             \
        gather<V>({pointers, stride, log2_rows}, offset, {rows, rows_code}, n, lanes, shift, out); \
    }
GATHER(gather_16, uint4)
GATHER(gather_8, uint2)
GATHER(gather_4, unsigned)
GATHER(gather_2, unsigned short)
""",
)


def rows_gather(blocks: Blocks, slot: str, rows: Tensor, out: Tensor) -> None:
    n, placed = len(rows), blocks.slots[slot]
    if n == 0 or placed.nbytes == 0:
        return
    width = width_of(placed.nbytes, out)
    lanes = placed.nbytes // width
    with Queue(rows.device) as queue:
        queue.launch(
            SOURCE, f"gather_{width}", blocks_for(n * lanes),
            blocks.pointers, blocks.stride, blocks.log2_rows, placed.offset,
            rows, code(rows), n, lanes, lanes_of(lanes), out,
        )  # fmt: skip
