"""ids_mod: unsigned remainder by the modulus of each element's column."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.columns import COLUMNS
from backends.cupy.device import DEVICE
from backends.cupy.queue import THREADS, Queue, Source, blocks_for, code, width_of

# Elements of a warp: four of a lane, two at once.
SPAN = 128

SOURCE = Source(
    "ids_mod",
    DEVICE
    + COLUMNS
    + r"""
// Remainders by one modulus without division: the high word of x times the reciprocal is the
// quotient or one less.
struct Modulus {
    u64 m, reciprocal;
    INLINE explicit Modulus(u64 m) : m(m), reciprocal(~0ull / m) {}
    INLINE u64 rest(u64 x) const {
        u64 r = x - __umul64hi(x, reciprocal) * m;
        return r >= m ? r - m : r;
    }
};

KERNEL mod(const u64* ids, const void* splits_data, i64 splits_code, i64 columns, const i64* moduli,
           i64 n, i64 aligned, u64* out) {
    using Pair = Pack<u64, 2>;
    Index splits(splits_data, splits_code);
    i64 begin = THIS_THREAD / 32 * 128, end = begin + 128;
    int lane = threadIdx.x % 32;
    if (begin >= n) return;
    Pair x[2];
    bool whole = aligned && end <= n;
    const Pair* from = reinterpret_cast<const Pair*>(ids + begin);
    if (whole)
        for (int k = 0; k < 2; ++k) x[k] = from[32 * k + lane];
    // The ids are on their way while the column is looked for.
    i64 column = column_of_warp(splits, columns, begin);
    if (whole && end <= splits[column + 1]) {
        Modulus modulus(u64(__ldg(moduli + column)));
        for (int k = 0; k < 2; ++k) {
            Pair r{modulus.rest(x[k].at[0]), modulus.rest(x[k].at[1])};
            reinterpret_cast<Pair*>(out + begin)[32 * k + lane] = r;
        }
        return;
    }
    for (i64 i = begin + lane; i < end && i < n; i += 32) {
        column = walk(splits, column, i);
        u64 m = u64(__ldg(moduli + column)), id = ids[i];
        // 64-bit division is slow; most ids or moduli let a cheaper one do.
        out[i] = id < m              ? id
                 : (m & (m - 1)) == 0 ? id & (m - 1)
                 : (id | m) >> 32     ? id % m
                                      : u64(u32(id) % u32(m));
    }
}
""",
)


def ids_mod(ids: Tensor, splits: Tensor, moduli: Tensor, out: Tensor) -> None:
    n = len(ids)
    if n == 0:
        return
    aligned = width_of(16, ids, out) == 16
    with Queue(ids.device) as queue:
        queue.launch(
            SOURCE, "mod", blocks_for(n, SPAN * THREADS // 32),
            ids, splits, code(splits), len(moduli), moduli, n, int(aligned), out,
        )  # fmt: skip
