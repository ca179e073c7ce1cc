"""ids_mod: unsigned remainder by the modulus of each element's column."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.columns import COLUMNS, TILE
from backends.cupy.device import DEVICE
from backends.cupy.queue import Queue, Source, blocks_for, code

SOURCE = Source(
    "ids_mod",
    DEVICE
    + COLUMNS
    + r"""
KERNEL mod(const i64* ids, const void* splits_data, i64 splits_code, i64 count, const i64* moduli,
           i64 n, i64* out) {
    Index splits(splits_data, splits_code);
    i64 begin = i64(blockIdx.x) * TILE, end = begin + TILE < n ? begin + TILE : n;
    Columns columns(splits, count, begin, end);
    for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        u64 m = u64(__ldg(moduli + columns.of(splits, i))), x = u64(__ldcs(ids + i));
        // 64-bit division is slow; most ids or moduli let a cheaper one do.
        u64 r = x < m                ? x
                : (m & (m - 1)) == 0 ? x & (m - 1)
                : (x | m) >> 32      ? x % m
                                     : u64(u32(x) % u32(m));
        __stcs(out + i, i64(r));
    }
}
""",
)


def ids_mod(ids: Tensor, splits: Tensor, moduli: Tensor, out: Tensor) -> None:
    n = len(ids)
    if n == 0:
        return
    with Queue(ids.device) as queue:
        queue.launch(
            SOURCE, "mod", blocks_for(n, TILE),
            ids, splits, code(splits), len(moduli), moduli, n, out,
        )  # fmt: skip
