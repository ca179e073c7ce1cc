"""auc_grouped: sort by (group, score, label); each positive counts the negatives before it.

Twice every contribution is an integer, so sums are exact and their order does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from backends.cupy.columns import COLUMNS, TILE
from backends.cupy.device import DEVICE
from backends.cupy.queue import Queue, Source, blocks_for, code
from backends.cupy.radix import SCAN, bits_of, macros_of, sort
from backends.cupy.radix import SOURCE as RADIX

SOURCE = Source(
    "auc_grouped",
    DEVICE
    + COLUMNS
    + r"""
// Ascending order of floats as unsigned numbers; -0 is 0.
INLINE u32 ordered(float x) {
    u32 bits = __float_as_uint(x == 0 ? 0.f : x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

KERNEL make_keys(const void* labels_data, i64 labels_code, const void* scores_data, i64 scores_code,
                 const void* offsets_data, i64 offsets_code, i64 groups, i64 n, u64* keys) {
    Floats labels(labels_data, labels_code), scores(scores_data, scores_code);
    Index offsets(offsets_data, offsets_code);
    i64 begin = i64(blockIdx.x) * TILE, end = begin + TILE < n ? begin + TILE : n;
    Columns columns(offsets, groups, begin, end);
    for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x)
        keys[i] = u64(columns.of(offsets, i)) << 33 | u64(ordered(scores[i])) << 1 |
                  u64(labels[i] > 0.5f);
}

INLINE int negative(u64 key) { return int(~key & 1); }

// Negatives of every tile.
KERNEL count_negatives(const u64* keys, i64 n, u32* counts) {
    __shared__ u32 found;
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    i64 begin = i64(blockIdx.x) * TILE, end = begin + TILE < n ? begin + TILE : n;
    u32 own = 0;
    for (i64 i = begin + threadIdx.x; i < end; i += blockDim.x) own += negative(keys[i]);
    for (int step = 16; step; step /= 2) own += __shfl_xor_sync(~0u, own, step);
    if (threadIdx.x % 32 == 0) atomicAdd(&found, own);
    __syncthreads();
    if (threadIdx.x == 0) counts[blockIdx.x] = found;
}

// below[i], i up to n: negatives before position i. `tiles`: those before each tile.
KERNEL lay_below(const u64* keys, i64 n, const u32* tiles, i64* below) {
    __shared__ u32 warps[8];
    i64 begin = i64(blockIdx.x) * TILE, carried = tiles[blockIdx.x];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (i64 i = begin + threadIdx.x; i - threadIdx.x < begin + TILE; i += blockDim.x) {
        bool one = i < n && negative(keys[i]);
        unsigned found = __ballot_sync(~0u, one);
        __syncthreads();
        if (lane == 0) warps[warp] = __popc(found);
        __syncthreads();
        i64 before = carried;
        for (int w = 0; w < 8; ++w) {
            if (w < warp) before += warps[w];
            carried += warps[w];
        }
        if (i <= n) below[i] = before + __popc(found & ((1u << lane) - 1));
    }
}

KERNEL contribute(const u64* keys, const i64* below, const void* offsets_data, i64 offsets_code,
                  i64 n, u64* twice) {
    __shared__ u64 warps[8];
    Index offsets(offsets_data, offsets_code);
    i64 i = THIS_THREAD, block = i - threadIdx.x;
    i64 last = block + blockDim.x < n ? block + blockDim.x : n;
    u64 value = 0;
    i64 group = i < n ? i64(keys[i] >> 33) : 0;
    if (i < n && !negative(keys[i])) {
        i64 begin = offsets[group], low = i;
        u64 score = keys[i] >> 1;
        if (i > begin && keys[i - 1] >> 1 == score) {
            i64 from = begin, to = i;
            while (from < to) {
                i64 middle = (from + to) / 2;
                if (keys[middle] >> 1 < score) from = middle + 1;
                else to = middle;
            }
            low = from;
        }
        // All negatives up to here, of which those of the same score count half.
        value = u64(2 * (below[i] - below[begin]) - (below[i] - below[low]));
    }
    // One addition a block where it lies in one group, so that a large group is no bottleneck.
    if (keys[block] >> 33 != keys[last - 1] >> 33) {
        if (value) atomicAdd(twice + group, value);
        return;
    }
    for (int step = 16; step; step /= 2) value += __shfl_xor_sync(~0u, value, step);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x) return;
    for (int w = 1; w < 8; ++w) value += warps[w];
    if (value) atomicAdd(twice + group, value);
}

KERNEL divide(const i64* below, const void* offsets_data, i64 offsets_code, i64 groups,
              const u64* twice, double* auc, i64* positives) {
    Index offsets(offsets_data, offsets_code);
    for (i64 g = THIS_THREAD; g < groups; g += ALL_THREADS) {
        i64 begin = offsets[g], end = offsets[g + 1];
        i64 lost = end > begin ? below[end] - below[begin] : 0, won = end - begin - lost;
        positives[g] = won;
        auc[g] = won && lost ? double(twice[g]) / 2 / (double(won) * double(lost))
                             : __longlong_as_double(0x7FF8000000000000ll);
    }
}
""",
)


def auc_grouped(
    labels: Tensor, scores: Tensor, offsets: Tensor, auc: Tensor, positives: Tensor
) -> None:
    n, groups = len(labels), len(offsets) - 1
    if groups == 0:
        return
    # A block past the last element too, which has the sum of all.
    tiles = n // TILE + 1
    bounds = (offsets, code(offsets))
    with Queue(labels.device) as queue:
        keys, below, twice, counts, total = queue.scratch(
            8 * n, 8 * (n + 1), 8 * groups, 4 * tiles, 8
        )
        queue.clear(twice)
        if n:
            queue.launch(
                SOURCE, "make_keys", blocks_for(n, TILE),
                labels, code(labels), scores, code(scores), *bounds, groups, n, keys,
            )  # fmt: skip
            bits = 33 + (bits_of(groups) if groups > 1 else 0)
            keys, _ = sort(queue, keys.view(torch.int64), bits, None)
            queue.launch(SOURCE, "count_negatives", tiles, keys, n, counts)
            macros = macros_of(8, 8, 0)
            queue.launch(RADIX, "add_up", 1, counts, tiles, total, block=SCAN, **macros)
            queue.launch(SOURCE, "lay_below", tiles, keys, n, counts, below)
            queue.launch(SOURCE, "contribute", blocks_for(n), keys, below, *bounds, n, twice)
        queue.launch(
            SOURCE, "divide", blocks_for(groups), below, *bounds, groups, twice, auc, positives
        )
