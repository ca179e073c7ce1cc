// rows_reduce: group the values by row, in order (group.cuh), then sum each row's. Past the limits of
// group.cuh a library radix sort takes its place.
#include "group_large.cuh"
#include "segment.cuh"
#include "transpose.cuh"

__global__ void count_up(uint32_t* out, int64_t n) {
    int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) out[i] = uint32_t(i);
}

template <typename K> struct Layout {
    int64_t keys, from, order, starts, chunks, total;

    Layout(int64_t n, int64_t distinct, int64_t dim) {
        keys = padded(sort_scratch<K, uint32_t>(n, bits_of(distinct)));
        from = keys + padded(n * sizeof(K));
        order = from + padded(n * 4);
        starts = order + padded(n * 4);
        chunks = starts + padded((distinct + 1) * 4);
        total = chunks + Pieces::bytes(n, dim);
    }
};

struct Order {
    using Value = uint32_t;
    int32_t* out;

    __device__ Value value(uint32_t i, uint32_t) const { return i; }
    __device__ void operator()(uint32_t place, Value i) const { out[place] = int32_t(i); }
};

int64_t sum_runs(const Arg* a, void* order, void* starts, void* chunks, cudaStream_t stream) {
    Arg index{}, offsets{};
    index.data = order;
    offsets.data = starts;
    index.dtype = offsets.dtype = INT32;
    index.n0 = a[0].n0;
    offsets.n0 = a[2].i + 1;
    return run_segments(a[0], index, offsets, Arg{}, a[3], nullptr, nullptr, chunks, stream);
}

int64_t group_scratch(const Arg* a) {
    int64_t n = a[0].n0, distinct = a[2].i;
    return grouping::Work(nullptr, n, distinct, 4).bytes + padded(n * 4) + padded((distinct + 1) * 4) +
           Pieces::bytes(n, a[0].n1);
}

int64_t run_group(const Arg* a, void* scratch, cudaStream_t stream) {
    int64_t n = a[0].n0, distinct = a[2].i;
    grouping::Work work(scratch, n, distinct, 4);
    char* order = static_cast<char*>(scratch) + work.bytes;
    char* starts = order + padded(n * 4);
    WITH_INDEX(a[1], I, {
        grouping::group<grouping::Plain>(tensor<const I>(a[1]), work, reinterpret_cast<int32_t*>(starts), 0,
                                         Order{reinterpret_cast<int32_t*>(order)}, stream);
    })
    return sum_runs(a, order, starts, starts + padded((distinct + 1) * 4), stream);
}

template <typename K> int64_t run(const Arg* a, void* scratch, cudaStream_t stream) {
    int64_t n = a[0].n0, distinct = a[2].i, dim = a[0].n1;
    Layout<K> at(n, distinct, dim);
    char* base = static_cast<char*>(scratch);
    K* keys = reinterpret_cast<K*>(base + at.keys);
    auto* order = reinterpret_cast<uint32_t*>(base + at.order);
    size_t bytes = at.keys;
    if (n) {
        auto* from = reinterpret_cast<uint32_t*>(base + at.from);
        count_up<<<blocks_for(n), THREADS, 0, stream>>>(from, n);
        cub::DeviceRadixSort::SortPairs(scratch, bytes, static_cast<const K*>(a[1].data), keys, from, order, n, 0,
                                        bits_of(distinct), stream);
    }
    mark_starts<<<blocks_for(n + 1), THREADS, 0, stream>>>(keys, n, distinct,
                                                          reinterpret_cast<int32_t*>(base + at.starts));
    return sum_runs(a, order, base + at.starts, base + at.chunks, stream);
}

EXPORT int64_t rows_reduce_scratch(const Arg* a, void*, cudaStream_t) {
    int64_t n = a[0].n0, distinct = a[2].i, dim = a[0].n1;
    if (grouping::possible(n, distinct)) return group_scratch(a);
    return 256 + (a[1].dtype == INT32 ? Layout<uint32_t>(n, distinct, dim).total
                                      : Layout<uint64_t>(n, distinct, dim).total);
}

EXPORT int64_t rows_reduce(const Arg* a, void* scratch, cudaStream_t stream) {
    if (a[0].n0 >> 31) return cudaErrorInvalidValue;
    if (a[0].n1 == 0) return 0;
    if (grouping::possible(a[0].n0, a[2].i)) return run_group(a, scratch, stream);
    return a[1].dtype == INT32 ? run<uint32_t>(a, scratch, stream) : run<uint64_t>(a, scratch, stream);
}
