"""ids_transpose: a stable radix sort of (inverse, segment) over the bits `distinct` needs.

A weight travels in the upper half of the payload.
"""

from __future__ import annotations

import torch
from torch import Tensor

from backends.cupy.device import DEVICE
from backends.cupy.queue import Queue, Source, blocks_for, code
from backends.cupy.radix import bits_of, sort, starts_of

SOURCE = Source(
    "ids_transpose",
    DEVICE
    + r"""
// The segment of every position, a weight's bits above it. Positions are split evenly, whatever
// the segments' lengths: each block searches its first and its last, each thread in between.
KERNEL describe(const void* offsets_data, i64 offsets_code, i64 segments, i64 n,
                const void* weights, i64 weight_bytes, i64 wide, void* payload) {
    constexpr i64 TILE = 2048;
    __shared__ i64 found[2];
    Index offsets(offsets_data, offsets_code);
    i64 begin = i64(blockIdx.x) * TILE, end = begin + TILE < n ? begin + TILE : n;
    auto search = [&](i64 i, i64 low, i64 high) {
        while (high - low > 1) {
            i64 middle = (low + high) / 2;
            if (offsets[middle] <= i) low = middle;
            else high = middle;
        }
        return low;
    };
    if (threadIdx.x % 32 == 0 && threadIdx.x < 64)
        found[threadIdx.x / 32] = search(threadIdx.x ? end - 1 : begin, 0, segments);
    __syncthreads();
    for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) {
        u64 segment = u64(search(i, found[0], found[1] + 1));
        if (weight_bytes == 4) segment |= u64(static_cast<const u32*>(weights)[i]) << 32;
        if (weight_bytes == 2) segment |= u64(static_cast<const u16*>(weights)[i]) << 32;
        if (wide) static_cast<u64*>(payload)[i] = segment;
        else static_cast<u32*>(payload)[i] = u32(segment);
    }
}

KERNEL part(const u64* payload, i64 n, i64 weight_bytes, u32* segments, void* weights) {
    i64 i = THIS_THREAD;
    if (i >= n) return;
    u64 both = payload[i];
    segments[i] = u32(both);
    if (weight_bytes == 4) static_cast<u32*>(weights)[i] = u32(both >> 32);
    else static_cast<u16*>(weights)[i] = u16(both >> 32);
}
""",
)


def ids_transpose(
    inverse: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    distinct: int,
    starts: Tensor,
    segments: Tensor,
    carried: Tensor,
) -> None:
    n, count = len(inverse), len(offsets) - 1
    with Queue(inverse.device) as queue:
        if n == 0:
            queue.clear(starts)
            return
        if weights is not None and segments.dtype == torch.int64:
            raise ValueError(f"ids_transpose: weights of {count} segments, {1 << 31} or more")
        wide = weights is not None or segments.dtype == torch.int64
        (payload,) = queue.scratch(n * (8 if wide else 4))
        weight_bytes = 0 if weights is None else weights.itemsize
        queue.launch(
            SOURCE, "describe", blocks_for(n, 2048),
            offsets, code(offsets), count, n, weights, weight_bytes, int(wide), payload,
        )  # fmt: skip
        bits = bits_of(distinct)
        last = segments if weights is None else None
        payload = payload.view(torch.int64 if wide else torch.int32)
        keys, sorted_payload = sort(queue, inverse, bits, payload, into=last)
        if weights is not None:
            queue.launch(
                SOURCE, "part", blocks_for(n), sorted_payload, n, weight_bytes, segments, carried
            )
        starts_of(queue, keys, n, bits, distinct, starts)
