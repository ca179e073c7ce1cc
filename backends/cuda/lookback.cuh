// What the blocks before this one counted, without another pass: decoupled look-back (Merrill and
// Garland, Single-pass Parallel Prefix Scan with Decoupled Look-back, 2016).
#pragma once
#include <cstdint>

// One word a block: two flag bits above the value, so that both arrive together. 0: nothing yet.
using Progress = unsigned long long;
constexpr Progress OWN = 1ull << 62, WHOLE = 2ull << 62, VALUE = OWN - 1;

// Sum of `own` over blocks before `block`; the same in every thread. Blocks start in the order of
// their number, `progress` was zeroed by an earlier kernel, and every block of the grid calls this once.
// All threads look at once, a block each: blocks that end together would wait for one another, 32 at
// a time, if a warp looked alone.
__device__ inline uint32_t look_back(Progress* progress, int block, uint32_t own) {
    __shared__ unsigned nearest;  // how many blocks back somebody knows everything before
    __shared__ uint32_t sum;
    if (threadIdx.x == 0) {
        *(volatile Progress*)(progress + block) = (block == 0 ? WHOLE : OWN) | own;
        nearest = ~0u;
        sum = 0;
    }
    __syncthreads();
    for (int back = int(threadIdx.x);; back += int(blockDim.x)) {
        Progress seen = WHOLE;
        if (back < block)
            do seen = *(volatile Progress*)(progress + block - 1 - back);
            while (seen == 0);
        if (seen & WHOLE) atomicMin(&nearest, unsigned(back));
        __syncthreads();
        unsigned until = nearest;
        uint32_t part = unsigned(back) <= until ? uint32_t(seen & VALUE) : 0;
        part = __reduce_add_sync(~0u, part);
        if (threadIdx.x % 32 == 0 && part) atomicAdd(&sum, part);
        __syncthreads();
        if (until != ~0u) break;
    }
    if (threadIdx.x == 0 && block) *(volatile Progress*)(progress + block) = WHOLE | (uint64_t(sum) + own);
    return sum;
}
