// Buckets too large for one block (group.cuh): pieces of them, of consecutive tiles, are counted side by
// side, and once the counts are summed each piece knows where its values go. Both kernels end at once
// where there is no such bucket.
#pragma once
#include "group.cuh"

namespace grouping {
// Of a large bucket whose pieces are all counted: values of a key in the pieces before, and starts.
__device__ inline void sum_pieces(const Work& work, const Large& large, int32_t* starts) {
    constexpr int OWN_KEYS = KEYS / BLOCK, AHEAD = 8;
    static_assert(OWN_KEYS == 4, "a thread takes its keys' counts as one vector");
    auto* rows = reinterpret_cast<uint4*>(work.counts + int64_t(large.first) * KEYS) + threadIdx.x;
    uint32_t sum[OWN_KEYS] = {}, total;
    for (int p0 = 0; p0 < large.pieces; p0 += AHEAD) {
        uint4 own[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; ++j)
            if (p0 + j < large.pieces) own[j] = __ldcg(rows + int64_t(p0 + j) * BLOCK);
#pragma unroll
        for (int j = 0; j < AHEAD; ++j) {
            if (p0 + j >= large.pieces) break;
            __stcg(rows + int64_t(p0 + j) * BLOCK, make_uint4(sum[0], sum[1], sum[2], sum[3]));
            sum[0] += own[j].x, sum[1] += own[j].y, sum[2] += own[j].z, sum[3] += own[j].w;
        }
    }
    uint32_t at = large.base + block_scan<BLOCK>(sum[0] + sum[1] + sum[2] + sum[3], &total);
#pragma unroll
    for (int k = 0; k < OWN_KEYS; ++k) {
        int key = threadIdx.x * OWN_KEYS + k;
        int64_t whole = (int64_t(large.bucket) << work.bits) + key;
        if (key < work.keys() && whole < work.distinct) starts[whole] = int32_t(at);
        at += sum[k];
    }
}

template <typename E> __global__ void __launch_bounds__(BLOCK) count_large(Work work, int32_t* starts) {
    __shared__ uint32_t counts[KEYS];
    __shared__ bool last;
    wait_for_previous();
    let_next_start();
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int piece = blockIdx.x; piece < work.taken[0]; piece += gridDim.x) {
        Large& large = work.large[work.owners[piece].x];
        int from = work.owners[piece].y, to = work.end_of(large, piece);
        for (int k = threadIdx.x; k < KEYS; k += BLOCK) counts[k] = 0;
        __syncthreads();
        for (int tile = from + warp; tile < to; tile += WARPS) {
            uint32_t start = __ldg(work.run(tile, large.bucket)), end = __ldg(work.run(tile, large.bucket) + 1);
#pragma unroll 4
            for (uint32_t k = start + lane; k < end; k += 32)
                atomicAdd(counts + (packed(__ldg(work.of<E>() + int64_t(tile) * SPAN + k)) & (KEYS - 1)), 1u);
        }
        __syncthreads();
        for (int k = threadIdx.x; k < KEYS; k += BLOCK) __stcg(work.counts + int64_t(piece) * KEYS + k, counts[k]);
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) last = atomicAdd(&large.done, 1) == large.pieces - 1;
        __syncthreads();
        if (!last) continue;
        __threadfence();
        sum_pieces(work, large, starts);
    }
}

// `out` as in `sort_buckets`.
template <typename E, typename Out>
__global__ void __launch_bounds__(BLOCK, 4) place_large(Work work, const int32_t* starts, Out out) {
    extern __shared__ uint32_t shared[];
    auto& memory = *reinterpret_cast<typename Chunk<E, Out>::Memory*>(shared);
    wait_for_previous();
    for (int piece = blockIdx.x; piece < work.taken[0]; piece += gridDim.x) {
        const Large& large = work.large[work.owners[piece].x];
        int low = work.owners[piece].y, high = work.end_of(large, piece);
        // As many threads a tile as there are: runs of hot keys are long.
        int side = 1, each = (high - low + BLOCK - 1) / BLOCK;
        while (side < 32 && (high - low) * side * 2 <= BLOCK) side *= 2;
        int from = min(low + int(threadIdx.x) / side * each, high), to = min(from + each, high);
        uint32_t mine = 0, count;
        for (int tile = from; tile < to; ++tile)
            mine += uint32_t(__ldg(work.run(tile, large.bucket) + 1)) - __ldg(work.run(tile, large.bucket));
        bool second = threadIdx.x & (side - 1);
        uint32_t first = block_scan<BLOCK>(second ? 0 : mine, &count) - (second ? mine : 0);
        for (int k = threadIdx.x; k < work.keys(); k += BLOCK) {
            int64_t whole = (int64_t(large.bucket) << work.bits) + k;
            bool there = whole < work.distinct;
            memory.cursors[k] = there ? starts[whole] + work.counts[int64_t(piece) * KEYS + k] : 0;
        }
        for (uint32_t begin = 0; begin < count; begin += CAP) {
            Chunk<E, Out> chunk;
            chunk.rank(work, out, memory, large.bucket, from, to, first, begin, count, side);
            chunk.each(memory, out);
            __syncthreads();
            for (int k = threadIdx.x; k < work.keys(); k += BLOCK) memory.cursors[k] += memory.counts[k];
        }
    }
}

// starts [distinct + 1]; `tags` as in `sort_tiles`, `out` as in `sort_buckets`.
template <typename E, typename K, typename Tags, typename Out>
void group(const K* keys, const Work& work, int32_t* starts, Tags tags, Out out, cudaStream_t stream) {
    bool masked = work.buckets <= MASKED_BUCKETS;
    int tile_bytes = Layout<E>(work.buckets, masked).bytes;
    int bucket_bytes = sizeof(typename Chunk<E, Out>::Memory);
    auto tiles = masked ? sort_tiles<E, true, K, Tags> : sort_tiles<E, false, K, Tags>;
    cudaFuncSetAttribute(tiles, cudaFuncAttributeMaxDynamicSharedMemorySize, tile_bytes);
    cudaFuncSetAttribute(sort_buckets<E, Out>, cudaFuncAttributeMaxDynamicSharedMemorySize, bucket_bytes);
    tiles<<<unsigned(work.tiles), BLOCK, tile_bytes, stream>>>(keys, work, tags);
    launch_after(sort_buckets<E, Out>, unsigned(work.buckets), BLOCK, bucket_bytes, stream, work, starts, out);
    if (work.pieces == 0) return;
    unsigned grid = unsigned(work.pieces < 528 ? work.pieces : 528);  // four blocks an SM of an H100
    cudaFuncSetAttribute(place_large<E, Out>, cudaFuncAttributeMaxDynamicSharedMemorySize, bucket_bytes);
    launch_after(count_large<E>, grid, BLOCK, 0, stream, work, starts);
    launch_after(place_large<E, Out>, grid, BLOCK, bucket_bytes, stream, work, starts, out);
}
}  // namespace grouping
