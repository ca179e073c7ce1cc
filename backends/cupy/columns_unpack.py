"""columns_unpack: a row of blocks a piece, all pieces in one launch."""

from __future__ import annotations

from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import THREADS, Queue, Source, code

# Blocks in all, about: sixteen a multiprocessor of a large chip.
BLOCKS = 2112
MOST_ACROSS_Y = 65535

SOURCE = Source(
    "columns_unpack",
    DEVICE
    + r"""
struct Piece { i64 start, count, source, target, to, base; };

INLINE float half_of(u16 bits) { return widen(Half{bits}); }

template <typename S> INLINE S read(const u8* from, i64 i) {
    return reinterpret_cast<const S*>(from)[i];
}

INLINE i64 integer(const u8* from, i64 source, i64 i) {
    switch (int(source)) {
    case 0: return read<signed char>(from, i);
    case 1: return from[i];
    case 2: return read<short>(from, i);
    case 3: return read<u16>(from, i);
    case 4: return read<int>(from, i);
    case 5: return read<u32>(from, i);
    default: return read<i64>(from, i);
    }
}

INLINE float real(const u8* from, i64 source, i64 i) {
    switch (int(source)) {
    case 7: return float(read<u64>(from, i));
    case 8: return half_of(read<u16>(from, i));
    case 9: return read<float>(from, i);
    case 10: return float(read<double>(from, i));
    default: return float(integer(from, source, i));
    }
}

KERNEL unpack(const u8* buffer, const Piece* pieces, i64 count, i64* ids, float* values, u8* octets,
              void* bounds, i64 bounds_code) {
    for (i64 which = blockIdx.y; which < count; which += gridDim.y) {
        Piece p = pieces[which];
        const u8* from = buffer + p.start;
        i64 shift = p.target == 3 && p.count ? p.base - integer(from, p.source, 0) : 0;
        for (i64 i = THIS_THREAD; i < p.count; i += ALL_THREADS) {
            if (p.target == 0) __stcs(ids + p.to + i, integer(from, p.source, i));
            else if (p.target == 1) __stcs(values + p.to + i, real(from, p.source, i));
            else if (p.target == 2) octets[p.to + i] = from[i];
            else put(bounds, bounds_code, p.to + i, integer(from, p.source, i) + shift);
        }
    }
}
""",
)


def columns_unpack(
    buffer: Tensor,
    pieces: Tensor,
    ids: int,
    values: int,
    octets: int,
    bounds: int,
    ids_out: Tensor,
    values_out: Tensor,
    bytes_out: Tensor,
    bounds_out: Tensor,
) -> None:
    if buffer.data_ptr() % 16:
        # Pieces are read as wider words; memory of its own from torch is aligned.
        buffer = buffer.clone()
    count = len(pieces)
    with Queue(buffer.device) as queue:
        for out in (ids_out, values_out, bytes_out, bounds_out):
            queue.clear(out)
        if count == 0:
            return
        fitting = len(buffer) // count // (4 * THREADS) + 1
        across = min(1 + BLOCKS // count, fitting)
        queue.launch(
            SOURCE, "unpack", (across, min(count, MOST_ACROSS_Y)),
            buffer, pieces, count, ids_out, values_out, bytes_out, bounds_out, code(bounds_out),
        )  # fmt: skip
