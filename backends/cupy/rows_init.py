"""rows_init: lanes side by side draw a row's weights, then fill its other slots."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.hashes import hashes
from backends.cupy.queue import CODE, Queue, Source, blocks_for, code
from recis_core.blocks import Blocks, Slot
from recis_core.ops.rows_init import KINDS

# Other slots that one launch fills.
FILLS = 3

SOURCE = Source(
    "rows_init",
    DEVICE
    + hashes()
    + r"""
constexpr int REDRAWS = 8;

INLINE double unit(u64 word) { return double(word >> 40) * 0x1p-24; }

INLINE double gaussian(u64 word) {
    double v = double((word >> 16) & 0xFFFFFF) * 0x1p-24;
    return sqrt(-2 * log(unit(word) + 0x1p-24)) * cospi(2 * v);
}

INLINE float drawn(u64 base, i64 column, i64 kind, double a, double b, double span) {
    u64 step = u64(1 + column) * GOLDEN, redraw = (u64(1) << 32) * GOLDEN;
    if (kind == 0) return float(a);
    // The product of two 24-bit numbers is exact, so a fused multiply-add changes nothing.
    if (kind == 1) return float(a + span * unit(mix64(base + step)));
    double z = gaussian(mix64(base + step));
    if (kind == 3) {
        for (int r = 1; r < REDRAWS && fabs(z) > 2; ++r)
            z = gaussian(mix64(base + step + r * redraw));
        if (fabs(z) > 2) z = 0;
    }
    return float(a + b * z);
}

INLINE void fill(char* base, i64 lane, i64 lanes, i64 offset, i64 dim, i64 dtype, double value) {
    Floats slot(base + offset, dtype);
    for (i64 d = lane; d < dim; d += lanes) slot.store<1>(d, Pack<float, 1>{{float(value)}});
}

// kind -1: the weight is left alone.
KERNEL init(const u64* pointers, i64 stride, i64 log2_rows, const void* rows, i64 rows_code,
            const u8* fresh, const void* tables, i64 tables_code, const i64* ids, const i64* salts,
            i64 n, i64 log2_lanes, u64 seed, i64 kind, double a, double b, double span, i64 offset,
            i64 dim, i64 dtype, i64 o0, i64 n0, i64 d0, double f0, i64 o1, i64 n1, i64 d1,
            double f1, i64 o2, i64 n2, i64 d2, double f2) {
    i64 lanes = i64(1) << log2_lanes;
    i64 i = THIS_THREAD >> log2_lanes, lane = threadIdx.x & (lanes - 1);
    if (i >= n || !fresh[i]) return;
    i64 row = Index(rows, rows_code)[i];
    if (row < 0) return;
    char* base = Rows{pointers, stride, log2_rows}[row];
    if (kind >= 0) {
        u64 word = 0;
        if (kind > 0)
            word = mix64(pair_hash(salts[Index(tables, tables_code)[i]], ids[i]) ^ mix64(seed));
        Floats weight(base + offset, dtype);
        for (i64 d = lane; d < dim; d += lanes)
            weight.store<1>(d, Pack<float, 1>{{drawn(word, d, kind, a, b, span)}});
    }
    fill(base, lane, lanes, o0, n0, d0, f0);
    fill(base, lane, lanes, o1, n1, d1, f1);
    fill(base, lane, lanes, o2, n2, d2, f2);
}
""",
)


def described(slot: Slot) -> tuple[int, int, int, float]:
    return slot.offset, slot.dim, CODE[slot.dtype], float(slot.fill)


def rows_init(
    blocks: Blocks,
    rows: Tensor,
    fresh: Tensor,
    tables: Tensor,
    ids: Tensor,
    salts: Tensor,
    seed: int,
    kind: str,
    a: float,
    b: float,
) -> None:
    n = len(rows)
    if n == 0:
        return
    weight = blocks.slots["weight"]
    others = [described(slot) for slot in blocks.slots.values() if slot is not weight]
    others += [(0, 0, 0, 0.0)] * (-len(others) % FILLS if others else FILLS)
    log2_lanes = min(5, (max(weight.dim, 1) - 1).bit_length())
    # a, b and the difference of the rounded ends are rounded to float32, as declared.
    numbers = (float(np.float32(a)), float(np.float32(b)), span_of(a, b))
    seed = (seed + (1 << 63)) % (1 << 64) - (1 << 63)
    with Queue(rows.device) as queue:
        for at in range(0, len(others), FILLS):
            chosen = KINDS.index(kind) if at == 0 else -1
            queue.launch(
                SOURCE, "init", blocks_for(n << log2_lanes),
                blocks.pointers, blocks.stride, blocks.log2_rows, rows, code(rows), fresh,
                tables, code(tables), ids, salts, n, log2_lanes, seed, chosen, *numbers,
                *described(weight)[:3],
                *(word for slot in others[at : at + FILLS] for word in slot),
            )  # fmt: skip


def span_of(a: float, b: float) -> float:
    return float(np.float32(float(np.float32(b)) - float(np.float32(a))))
