// Stable grouping of n values by a small key: radix sort over as many bits as the keys need.
#pragma once
#include "arg.cuh"
#include <cub/device/device_radix_sort.cuh>

inline int bits_of(int64_t distinct) {
    int bits = 1;
    while (bits < 62 && (int64_t(1) << bits) < distinct) ++bits;
    return bits;
}

inline int64_t padded(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// starts[u] = first position whose sorted key is >= u, for u in [0, distinct]: each position writes
// the starts of the keys between its left neighbour's and its own.
template <typename K, typename S>
__global__ void mark_starts(const K* sorted, int64_t n, int64_t distinct, S* starts) {
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i <= n;
         i += int64_t(gridDim.x) * blockDim.x) {
        int64_t from = i == 0 ? 0 : int64_t(sorted[i - 1]) + 1;
        int64_t to = i == n ? distinct : int64_t(sorted[i]);
        for (int64_t u = from; u <= to; ++u) starts[u] = S(i);
    }
}

template <typename K, typename V> int64_t sort_scratch(int64_t n, int bits) {
    size_t bytes = 0;
    cub::DeviceRadixSort::SortPairs(nullptr, bytes, static_cast<const K*>(nullptr), static_cast<K*>(nullptr),
                                    static_cast<const V*>(nullptr), static_cast<V*>(nullptr), n, 0, bits);
    return int64_t(bytes);
}
