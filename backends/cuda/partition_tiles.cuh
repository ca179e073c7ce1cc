// First step of ids_partition: a tile drops most of its duplicates and orders the rest by bucket.
#pragma once
#include "partition.cuh"

template <int SPAN, bool ONE>
__global__ void __launch_bounds__(SPAN / tile_each(SPAN), 1024 * tile_each(SPAN) / SPAN)
    collapse(Pairs p, Shape shape, Work work) {
    constexpr int EACH = tile_each(SPAN), BLOCK = SPAN / EACH;
    extern __shared__ uint32_t shared[];
    uint32_t *cells = shared, *runs = shared + SPAN;  // [SPAN], [buckets]
    __shared__ int64_t first;
    let_next_start();
    int buckets = shape.buckets(), size = int(p.n - int64_t(blockIdx.x) * SPAN < SPAN ? p.n % SPAN : SPAN);
    int64_t begin = int64_t(blockIdx.x) * SPAN;
    // What the next kernel counts in starts at zero.
    for (int w = blockIdx.x * BLOCK + threadIdx.x; w < shape.world; w += gridDim.x * BLOCK) work.counted[w] = 0;
    if (blockIdx.x == 0 && threadIdx.x < 2) work.used[threadIdx.x] = 0;
    if (!ONE && threadIdx.x == 0) first = column_of(p.splits, p.columns, begin);
    for (int c = threadIdx.x; c < SPAN; c += BLOCK) cells[c] = EMPTY;
    for (int b = threadIdx.x; b < buckets; b += BLOCK) runs[b] = 0;
    __syncthreads();
    int64_t column = ONE ? 0 : first, salt = __ldg(p.salts);
    // While probing: SPEAKS, or the position of a value with the same tag. Then, for speakers,
    // SPEAKS | bucket << 13 | rank in the run.
    uint32_t state[EACH];
    auto load = [&](int k0, int64_t* ids) {
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            if (local < size) ids[k] = __ldg(p.ids + begin + local);
        }
    };
    auto table_of = [&](int local) {
        if (ONE) return 0;
        column = walk(p.splits, column, begin + local);
        int32_t table = int32_t(p.tables[column]);
        salt = __ldg(p.salts + table);
        return table;
    };
#pragma unroll
    for (int k0 = 0; k0 < EACH; k0 += BATCH) {
        int64_t ids[BATCH];
        load(k0, ids);
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            if (local >= size) continue;
            table_of(local);
            uint64_t hashed = pair_hash(salt, ids[k]);
            unsigned at = unsigned(hashed >> 44) & (SPAN - 1);
            uint32_t tag = uint32_t(hashed) << 13;
            state[k0 + k] = SPEAKS;
            // A pair that finds no cell in PROBES speaks for itself: dropping duplicates here only
            // spares work later.
            for (int probe = 0; probe < PROBES; ++probe) {
                uint32_t found = *(volatile uint32_t*)(cells + at);
                if (found == EMPTY) {
                    found = atomicCAS(cells + at, EMPTY, tag | local);
                    if (found == EMPTY) break;
                }
                if ((found ^ tag) >> 13 == 0) {
                    state[k0 + k] = found & 8191;
                    break;
                }
                at = (at + 1) & (SPAN - 1);
            }
        }
    }
    __syncthreads();
    // Ids are compared now, many at once: a comparison inside the loop above would keep its warp
    // waiting for memory each time. A value whose tag misled it speaks for itself.
    if (!ONE) column = first;
#pragma unroll
    for (int k0 = 0; k0 < EACH; k0 += BATCH) {
        int64_t ids[BATCH], others[BATCH];
        load(k0, ids);
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            others[k] = ids[k];
            if (local < size && !(state[k0 + k] & SPEAKS)) others[k] = __ldg(p.ids + begin + state[k0 + k]);
        }
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            if (local >= size) continue;
            int32_t table = table_of(local);
            bool same = others[k] == ids[k];
            if (!ONE && same && !(state[k0 + k] & SPEAKS)) {
                int64_t i = begin + state[k0 + k];
                bool near = i >= p.splits[column] && i < p.splits[column + 1];
                same = near || int32_t(p.tables[column_of(p.splits, p.columns, i)]) == table;
            }
            if (same && !(state[k0 + k] & SPEAKS)) continue;
            int bucket = shape.bucket(pair_hash(salt, ids[k]));
            state[k0 + k] = SPEAKS | uint32_t(bucket) << 13 | atomicAdd(runs + bucket, 1u);
        }
    }
    __syncthreads();
    // Lengths of the runs to their starts; a thread has consecutive buckets.
    int each = (buckets + BLOCK - 1) / BLOCK, low = threadIdx.x * each;
    uint32_t own = 0, total;
    for (int b = low; b < low + each && b < buckets; ++b) own += runs[b];
    uint32_t at = block_scan<BLOCK>(own, &total);
    for (int b = low; b < low + each && b < buckets; ++b) {
        uint32_t length = runs[b];
        runs[b] = at;
        at += length;
    }
    auto* place_of = reinterpret_cast<uint16_t*>(cells);  // by position; the cells are done with
    __syncthreads();
    uint16_t* offsets = work.offsets + int64_t(blockIdx.x) * (buckets + 1);
    for (int b = threadIdx.x; b <= buckets; b += BLOCK) offsets[b] = uint16_t(b < buckets ? runs[b] : total);
    if (!ONE) column = first;
#pragma unroll
    for (int k0 = 0; k0 < EACH; k0 += BATCH) {
        int64_t ids[BATCH];
        load(k0, ids);
#pragma unroll
        for (int k = 0; k < BATCH; ++k) {
            int local = threadIdx.x + (k0 + k) * BLOCK;
            uint32_t own = state[k0 + k];
            if (local >= size || !(own & SPEAKS)) continue;
            uint32_t place = runs[(own & ~SPEAKS) >> 13] + (own & 8191);
            place_of[local] = uint16_t(place);
            work.elements[begin + place] = ids[k];
            if (!ONE) work.tables[begin + place] = table_of(local);
        }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        int local = threadIdx.x + k * BLOCK;
        if (local < size)
            work.places[begin + local] = place_of[state[k] & SPEAKS ? uint32_t(local) : state[k]];
    }
}
