// auc_grouped: sort by (group, score), count negatives below each positive and half of those equal.
//
// Twice every contribution is an integer, so sums are exact and their order does not matter.
#include "columns.cuh"
#include "transpose.cuh"
#include <cub/device/device_scan.cuh>

// Ascending order of floats as unsigned numbers; -0 counts as 0.
__device__ uint32_t ordered(float x) {
    uint32_t bits = __float_as_uint(x == 0 ? 0.f : x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__global__ void keys_of(Floats labels, Floats scores, Index offsets, int64_t groups, int64_t n, uint64_t* keys,
                        uint8_t* negative) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    uint64_t group = uint64_t(column_of(offsets, groups, i));
    keys[i] = group << 32 | ordered(scores[i]);
    negative[i] = labels[i] > 0.5f ? 0 : 1;
}

__device__ int64_t bound(const uint64_t* keys, int64_t low, int64_t high, uint64_t key, bool upper) {
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (keys[middle] < key || (upper && keys[middle] == key)) low = middle + 1;
        else high = middle;
    }
    return low;
}

// below[i] = negatives before position i in the sorted order.
__global__ void contribute(const uint64_t* keys, const uint8_t* negative, const int64_t* below, Index offsets,
                           int64_t n, unsigned long long* twice) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n || negative[i]) return;
    int64_t group = int64_t(keys[i] >> 32), begin = offsets[group], end = offsets[group + 1];
    int64_t low = bound(keys, begin, i, keys[i], false), high = bound(keys, i, end, keys[i], true);
    auto before = [&](int64_t at) { return at < n ? below[at] : below[n - 1] + negative[n - 1]; };
    unsigned long long value = (before(low) - before(begin)) * 2 + (before(high) - before(low));
    if (value) atomicAdd(twice + group, value);
}

__global__ void divide(const uint8_t* negative, const int64_t* below, Index offsets, int64_t groups, int64_t n,
                       const unsigned long long* twice, double* auc, int64_t* positives) {
    int64_t g = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (g >= groups) return;
    int64_t begin = offsets[g], end = offsets[g + 1];
    auto before = [&](int64_t at) {
        return n == 0 ? int64_t(0) : at < n ? below[at] : below[n - 1] + negative[n - 1];
    };
    int64_t lost = before(end) - before(begin), won = end - begin - lost;
    positives[g] = won;
    auc[g] = won && lost ? double(twice[g]) / 2 / (double(won) * double(lost)) : nan("");
}

struct Layout {
    int64_t sort, scan, keys, sorted, negative, moved, below, twice, total;

    Layout(int64_t n, int64_t groups) {
        size_t bytes = 0;
        cub::DeviceScan::ExclusiveSum(nullptr, bytes, static_cast<uint8_t*>(nullptr),
                                      static_cast<int64_t*>(nullptr), n);
        sort = 0;
        scan = padded(sort_scratch<uint64_t, uint8_t>(n, 64));
        keys = scan + padded(bytes);
        sorted = keys + padded(n * 8);
        negative = sorted + padded(n * 8);
        moved = negative + padded(n);
        below = moved + padded(n);
        twice = below + padded(n * 8);
        total = twice + padded(groups * 8) + 256;
    }
};

EXPORT int64_t auc_grouped_scratch(const Arg* a, void*, cudaStream_t) {
    return Layout(a[0].n0, a[2].n0 - 1).total;
}

EXPORT int64_t auc_grouped(const Arg* a, void* scratch, cudaStream_t stream) {
    int64_t n = a[0].n0, groups = a[2].n0 - 1;
    if (groups == 0) return 0;
    Layout at(n, groups);
    char* base = static_cast<char*>(scratch);
    auto* keys = reinterpret_cast<uint64_t*>(base + at.keys);
    auto* sorted = reinterpret_cast<uint64_t*>(base + at.sorted);
    auto* negative = reinterpret_cast<uint8_t*>(base + at.negative);
    auto* moved = reinterpret_cast<uint8_t*>(base + at.moved);
    auto* below = reinterpret_cast<int64_t*>(base + at.below);
    auto* twice = reinterpret_cast<unsigned long long*>(base + at.twice);
    Index offsets(a[2]);
    cudaMemsetAsync(twice, 0, groups * 8, stream);
    if (n) {
        keys_of<<<blocks_for(n), THREADS, 0, stream>>>(Floats(a[0]), Floats(a[1]), offsets, groups, n, keys,
                                                      negative);
        size_t bytes = at.scan, more = at.keys - at.scan;
        cub::DeviceRadixSort::SortPairs(base, bytes, keys, sorted, negative, moved, n, 0,
                                        32 + (groups > 1 ? bits_of(groups) : 0), stream);
        cub::DeviceScan::ExclusiveSum(base + at.scan, more, moved, below, n, stream);
        contribute<<<blocks_for(n), THREADS, 0, stream>>>(sorted, moved, below, offsets, n, twice);
    }
    divide<<<blocks_for(groups), THREADS, 0, stream>>>(moved, below, offsets, groups, n, twice,
                                                      tensor<double>(a[3]), tensor<int64_t>(a[4]));
    return cudaGetLastError();
}
