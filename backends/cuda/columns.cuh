// Which column an element lies in: columns are runs of a packed array, bounded by `splits`.
#pragma once
#include "arg.cuh"

// The column f with splits[f] <= i < splits[f + 1].
__device__ inline int64_t column_of(const Index& splits, int64_t columns, int64_t i) {
    int64_t low = 0, high = columns;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (splits[middle] <= i) low = middle;
        else high = middle;
    }
    return low;
}

// A block takes TILE consecutive elements: it finds the column of its first one by search, and each
// thread walks on from there, so that a search is paid once a block.
constexpr int64_t TILE = 2048;

__device__ inline int64_t walk(const Index& splits, int64_t column, int64_t i) {
    while (splits[column + 1] <= i) ++column;
    return column;
}

// The same for all lanes of a warp: 33 times fewer candidates a load, and no barrier.
__device__ inline int64_t column_of_warp(const Index& splits, int64_t columns, int64_t i) {
    int64_t low = 0, high = columns;
    while (high - low > 1) {
        int64_t step = (high - low + 32) / 33, probe = low + step * (threadIdx.x % 32 + 1);
        unsigned below = __ballot_sync(~0u, probe < high && splits[probe] <= i);
        low += step * __popc(below);
        if (high > low + step) high = low + step;
    }
    return low;
}
