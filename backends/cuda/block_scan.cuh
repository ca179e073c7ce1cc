// Sums and maxima over the threads of a block.
#pragma once
#include <cstdint>

// Sum of `own` over the threads before this one, and over all BLOCK of them.
template <int BLOCK> __device__ uint32_t block_scan(uint32_t own, uint32_t* total) {
    __shared__ uint32_t sums[BLOCK / 32];
    uint32_t at = own;
    for (int step = 1; step < 32; step *= 2) {
        uint32_t left = __shfl_up_sync(~0u, at, step);
        if (threadIdx.x % 32 >= unsigned(step)) at += left;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 31) sums[threadIdx.x / 32] = at;
    __syncthreads();
    uint32_t before = 0;
    *total = 0;
    for (int w = 0; w < BLOCK / 32; ++w) {
        if (w < int(threadIdx.x / 32)) before += sums[w];
        *total += sums[w];
    }
    return before + at - own;
}

// Maximum of `own` over the threads before this one; 0 where there is none.
template <int BLOCK> __device__ uint32_t block_maximum(uint32_t own) {
    __shared__ uint32_t of_warp[BLOCK / 32];
    uint32_t most = own;
    for (int step = 1; step < 32; step *= 2) {
        uint32_t left = __shfl_up_sync(~0u, most, step);
        if (threadIdx.x % 32 >= unsigned(step)) most = max(most, left);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 31) of_warp[threadIdx.x / 32] = most;
    uint32_t before = __shfl_up_sync(~0u, most, 1);
    if (threadIdx.x % 32 == 0) before = 0;
    __syncthreads();
    for (int w = 0; w < int(threadIdx.x / 32); ++w) before = max(before, of_warp[w]);
    return before;
}
